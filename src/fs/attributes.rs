//! Owner, mode, times and extended attributes (ACLs are extended attributes: `system.posix_acl_*`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use xattr::FileExt as _;

use crate::fs::dir::{Dir, Kind};
use crate::fs::{Error, OnPath as _};

/// What a name carries besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What could not be set because this process or the file system may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lacking {
    /// The owner or group.
    pub owner: bool,
    /// An extended attribute.
    pub xattr: bool,
}

/// The extended attributes of a name (of a symbolic link itself); `name` empty: of the directory.
///
/// # Errors
/// They cannot be read, or one's name is not text.
pub fn read_xattrs(dir: &Dir, name: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let shown = dir.path_of(name);
    let mut found = BTreeMap::new();
    for key in list(dir, name).on("list the extended attributes of", &shown)? {
        let key = key.into_string().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        let key = key.on("read the name of an extended attribute of", &shown)?;
        // An attribute that went away since it was listed is simply gone.
        if let Some(value) = get(dir, name, &key).on("read an extended attribute of", &shown)? {
            found.insert(key, value);
        }
    }
    Ok(found)
}

/// Whether the file system of a directory has extended attributes at all.
///
/// # Errors
/// It cannot be asked.
pub fn has_xattrs(dir: &Dir) -> Result<bool, Error> {
    match get(dir, b"", "user.daykeep") {
        Ok(_) => Ok(true),
        Err(error) if is_unsupported(&error) => Ok(false),
        Err(error) => Err(error).on("read an extended attribute of", dir.path()),
    }
}

/// The extended attributes of an open file, whatever its name is now.
///
/// # Errors
/// As [`read_xattrs`].
pub fn read_open_xattrs(file: &File, shown: &Path) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut found = BTreeMap::new();
    // Most files have none, which one call tells.
    if rustix::fs::flistxattr_query(file) == Ok(0) {
        return Ok(found);
    }
    let keys = match file.list_xattr() {
        Err(error) if is_unsupported(&error) => return Ok(found),
        other => other.on("list the extended attributes of", shown)?,
    };
    for key in keys {
        let key = key.into_string().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        let key = key.on("read the name of an extended attribute of", shown)?;
        if let Some(value) = file.get_xattr(&key).on("read an extended attribute of", shown)? {
            found.insert(key, value);
        }
    }
    Ok(found)
}

// The directory itself is reached through its link in /proc, which must be followed; a name in it must not be.
fn list(dir: &Dir, name: &[u8]) -> io::Result<Vec<OsString>> {
    if name.is_empty() && rustix::fs::flistxattr_query(dir) == Ok(0) {
        return Ok(Vec::new());
    }
    let path = dir.proc_path(name);
    let listed = if name.is_empty() { xattr::list_deref(path) } else { xattr::list(path) };
    match listed {
        Ok(keys) => Ok(keys.collect()),
        Err(error) if is_unsupported(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn get(dir: &Dir, name: &[u8], key: &str) -> io::Result<Option<Vec<u8>>> {
    let path = dir.proc_path(name);
    if name.is_empty() { xattr::get_deref(path, key) } else { xattr::get(path, key) }
}

fn set(dir: &Dir, name: &[u8], key: &str, value: &[u8]) -> io::Result<()> {
    let path = dir.proc_path(name);
    if name.is_empty() { xattr::set_deref(path, key, value) } else { xattr::set(path, key, value) }
}

fn remove(dir: &Dir, name: &[u8], key: &str) -> io::Result<()> {
    let path = dir.proc_path(name);
    if name.is_empty() { xattr::remove_deref(path, key) } else { xattr::remove(path, key) }
}

/// Gives a name (`name` empty: the directory itself) its attributes, times last; in a directory in which nobody else may write, since a name
/// may be a link at the next moment ([`Inode`](crate::fs::Inode) for others). What rights or the file system do not allow is told,
/// not an error: the records hold it all the same.
///
/// # Errors
/// Anything else that fails: a full disk, an I/O error.
pub fn apply(dir: &Dir, name: &[u8], kind: Kind, wanted: &Attributes) -> Result<Lacking, Error> {
    let shown = dir.path_of(name);
    let mut lacking =
        Lacking { owner: !own(dir, name, wanted).on("set the owner of", &shown)?, xattr: false };
    // After the owner, whose change takes setuid and setgid away.
    if kind != Kind::Symlink {
        let mode = Mode::from_raw_mode(wanted.mode);
        let changed = if name.is_empty() {
            rustix::fs::fchmod(dir, mode)
        } else {
            rustix::fs::chmodat(dir, name, mode, AtFlags::empty())
        };
        changed.on("set the mode of", &shown)?;
    }
    lacking.xattr = !match_xattrs(dir, name, wanted).on("set an extended attribute of", &shown)?;
    times(dir, name, wanted.mtime).on("set the times of", &shown)?;
    Ok(lacking)
}

/// Gives what was made just now, and is still open, its attributes, times last: nothing it has on its own is to be taken away.
///
/// # Errors
/// As [`apply`].
pub fn give(made: impl AsFd, shown: &Path, wanted: &Attributes) -> Result<Lacking, Error> {
    let mut lacking = Lacking::default();
    let (uid, gid) = (Some(Uid::from_raw(wanted.uid)), Some(Gid::from_raw(wanted.gid)));
    match rustix::fs::fchown(&made, uid, gid) {
        Ok(()) => {}
        Err(Errno::PERM | Errno::INVAL) => lacking.owner = true,
        Err(error) => return Err(error).on("set the owner of", shown),
    }
    // After the owner, whose change takes setuid and setgid away.
    rustix::fs::fchmod(&made, Mode::from_raw_mode(wanted.mode)).on("set the mode of", shown)?;
    for (key, value) in &wanted.xattrs {
        match rustix::fs::fsetxattr(&made, key.as_str(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::ACCESS) => lacking.xattr = true,
            Err(error) => return Err(error).on("set an extended attribute of", shown),
        }
    }
    rustix::fs::futimens(&made, &to_modify(wanted.mtime)).on("set the times of", shown)?;
    Ok(lacking)
}

/// As [`apply`], for a file that was made just now under this name and is still open.
///
/// # Errors
/// As [`apply`].
pub fn apply_made(made: &File, dir: &Dir, name: &[u8], wanted: &Attributes) -> Result<Lacking, Error> {
    // Most directories give nothing on to what is made in them.
    if rustix::fs::flistxattr_query(made) == Ok(0) {
        give(made, &dir.path_of(name), wanted)
    } else {
        apply(dir, name, Kind::File, wanted)
    }
}

/// Whether the file system that a directory is on keeps extended attributes of this name's kind.
#[must_use]
pub fn are_kept(dir: &Dir, key: &str) -> bool {
    let asked = rustix::fs::fgetxattr_query(dir, key);
    !matches!(asked, Err(Errno::OPNOTSUPP | Errno::NOSYS))
}

/// Takes an extended attribute away; nothing happens if it is not there.
///
/// # Errors
/// It may not be taken away.
pub fn remove_xattr(dir: &Dir, name: &[u8], key: &str) -> Result<(), Error> {
    match remove(dir, name, key) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NODATA) || is_unsupported(&error) => Ok(()),
        other => other.on("remove an extended attribute of", &dir.path_of(name)),
    }
}

/// Sets permission bits of a directory.
///
/// # Errors
/// It is not ours.
pub fn set_own_mode(dir: &Dir, mode: u32) -> Result<(), Error> {
    rustix::fs::fchmod(dir, Mode::from_raw_mode(mode)).on("set the mode of", dir.path())
}

/// Sets the modification time of a name (of a symbolic link itself); `name` empty: of the directory.
///
/// # Errors
/// It may not be set.
pub fn set_mtime(dir: &Dir, name: &[u8], mtime: (i64, u32)) -> Result<(), Error> {
    times(dir, name, mtime).on("set the times of", &dir.path_of(name))
}

fn own(dir: &Dir, name: &[u8], wanted: &Attributes) -> io::Result<bool> {
    let (uid, gid) = (Some(Uid::from_raw(wanted.uid)), Some(Gid::from_raw(wanted.gid)));
    let changed = if name.is_empty() {
        rustix::fs::fchown(dir, uid, gid)
    } else {
        rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
    };
    match changed {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn match_xattrs(dir: &Dir, name: &[u8], wanted: &Attributes) -> io::Result<bool> {
    let mut whole = true;
    for key in list(dir, name)? {
        // What the directory above or a security module gave on its own: an inherited ACL opens the file to others.
        let ours = key.as_bytes().starts_with(b"system.posix_acl_") || key.as_bytes().starts_with(b"user.");
        if let Some(key) = key.to_str().filter(|key| ours && !wanted.xattrs.contains_key(*key)) {
            remove(dir, name, key)?;
        }
    }
    for (key, value) in &wanted.xattrs {
        match set(dir, name, key, value) {
            Ok(()) => {}
            Err(error) if is_unsupported(&error) || is_forbidden(&error) => whole = false,
            Err(error) => return Err(error),
        }
    }
    Ok(whole)
}

fn times(dir: &Dir, name: &[u8], mtime: (i64, u32)) -> rustix::io::Result<()> {
    let times = to_modify(mtime);
    if name.is_empty() {
        rustix::fs::futimens(dir, &times)
    } else {
        rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }
}

pub(super) fn to_modify(mtime: (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() },
    }
}

pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::NOSYS))
}

pub(super) fn is_forbidden(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::PERM | Errno::ACCESS))
}
