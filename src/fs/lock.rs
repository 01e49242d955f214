//! Locks that die with their process (`flock`), whatever way it dies.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::fs::{Error, OnPath as _};

/// Locks an open file against every other open of it; false when somebody else has it. Lasts until the file is closed.
///
/// # Errors
/// The file system cannot lock.
pub fn try_lock(file: &File, path: &Path) -> Result<bool, Error> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(error) if io::Error::from(error).kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error).on("lock", path),
    }
}

/// Opens a lock file (created with mode 0640 if it is not there) and locks it; None when somebody else has it.
///
/// # Errors
/// It cannot be opened or locked.
pub fn lock_file(path: &Path) -> Result<Option<File>, Error> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(path)
            .on("open", path)?;
        if !try_lock(&file, path)? {
            return Ok(None);
        }
        if names(path, &file)? {
            return Ok(Some(file));
        }
        // Somebody removed the file between open and lock: what was locked is not what others will open.
    }
}

fn names(path: &Path, file: &File) -> Result<bool, Error> {
    let locked = file.metadata().on("look at", path)?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (locked.dev(), locked.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).on("look at", path),
    }
}
