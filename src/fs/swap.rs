//! Names that change places: what is replaced is never lost, not even for a moment.

use rustix::fs::{AtFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::fs::dir::Dir;
use crate::fs::{Error, OnPath as _};

/// What two names stand for changes places at once (`RENAME_EXCHANGE`, renameat2(2)), whatever kinds they are. False: the file system
/// cannot do it, and nothing has happened.
///
/// # Errors
/// One of them is not there, may not be moved (immutable, a mount point), or they are on two file systems.
pub fn exchange(from: &Dir, name: &[u8], to: &Dir, new: &[u8]) -> Result<bool, Error> {
    match renameat_with(from, name, to, new, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        // EINVAL is also said when one is a directory that holds the other, which is never asked for here.
        Err(Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error).on("move", &to.path_of(new)),
    }
}

/// Moves a name to one that must not be taken.
///
/// # Errors
/// It is taken (`AlreadyExists`), `name` is not there or may not be moved, or they are on two file systems.
pub fn move_new(from: &Dir, name: &[u8], to: &Dir, new: &[u8]) -> Result<(), Error> {
    let moved = match renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        // Not every file system has the flag. Between look and rename somebody could take the name; nothing else is to be had there.
        Err(Errno::INVAL | Errno::NOSYS) if to.stat_if_exists(new)?.is_none() => {
            rustix::fs::renameat(from, name, to, new)
        }
        Err(Errno::INVAL | Errno::NOSYS) => Err(Errno::EXIST),
        other => other,
    };
    moved.on("move", &to.path_of(new))
}

/// Removes an empty directory; nothing happens if it is not there.
///
/// # Errors
/// It is not empty, no directory, or may not be removed.
pub fn remove_empty_dir(dir: &Dir, name: &[u8]) -> Result<(), Error> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error).on("remove the directory", &dir.path_of(name)),
    }
}

/// Flushes everything that was written to the file system that the directory is on (syncfs(2)).
///
/// # Errors
/// Something did not reach the disk.
pub fn sync_volume_of(dir: &Dir) -> Result<(), Error> {
    rustix::fs::syncfs(dir).on("flush the file system of", dir.path())
}
