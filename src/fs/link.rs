//! Names: symbolic links that move at once, hard links, and renames that never replace.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::fs::{Error, OnPath as _, parent_of, remove_file, sync_dir};

/// Makes `path` a symbolic link to `target` at once: a reader sees the old link or the new one, never none. The caller
/// flushes the directory.
///
/// # Errors
/// Linking or renaming failed; what was at `path` is still there.
pub fn symlink_at_once(target: &Path, path: &Path) -> Result<(), Error> {
    let mut aside = OsString::from(".");
    aside.push(path.file_name().unwrap_or_default());
    aside.push(".new");
    let aside = path.with_file_name(aside);
    remove_file(&aside)?;
    symlink(target, &aside).on("create the symbolic link", &aside)?;
    #[expect(clippy::disallowed_methods, reason = "this is the door to the file system")]
    std::fs::rename(&aside, path).on("rename", &aside)
}

/// Where a symbolic link points; None when `path` is not there or is something else.
///
/// # Errors
/// It cannot be looked at.
pub fn link_target(path: &Path) -> Result<Option<PathBuf>, Error> {
    match std::fs::read_link(path) {
        Ok(target) => Ok(Some(target)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
            Ok(None)
        }
        Err(error) => Err(error).on("read the symbolic link", path),
    }
}

/// Gives a file one more name.
///
/// # Errors
/// The file system refuses.
pub fn hard_link(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::hard_link(from, to).on("create the hard link", to)
}

/// Renames a directory to a name that must not be taken, and flushes the directory that holds both names.
///
/// # Errors
/// The name is taken (`AlreadyExists` or `DirectoryNotEmpty`), or renaming or flushing failed.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), Error> {
    let renamed = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system has the flag. A plain rename of a directory replaces nothing but an empty directory.
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::rename(from, to),
        other => other,
    };
    renamed.on("rename", from)?;
    sync_dir(parent_of(to))
}

/// Sets permission bits; symbolic links are followed.
///
/// # Errors
/// The file is not ours.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).on("set the mode of", path)
}

/// Gives what is at `path` to a user and a group; a symbolic link is not followed.
///
/// # Errors
/// It is not there, or there is no right to.
pub fn give_to(path: &Path, uid: u32, gid: u32) -> Result<(), Error> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).on("change the owner of", path)
}

/// What `path` is; a symbolic link is not followed.
///
/// # Errors
/// It is not there or cannot be looked at.
pub fn look_at(path: &Path) -> Result<std::fs::Metadata, Error> {
    std::fs::symlink_metadata(path).on("look at", path)
}
