//! Locks that die with their process (`flock`), whatever way it dies.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::fs::{Error, OnPath as _};

/// How long it is until [`lock_file_within`] looks again.
const AGAIN: Duration = Duration::from_millis(10);

/// Locks an open file against every other open of it; false when somebody else has it. Lasts until the file is closed.
///
/// # Errors
/// The file system cannot lock.
pub fn try_lock(file: &File, path: &Path) -> Result<bool, Error> {
    lock_with(file, path, FlockOperation::NonBlockingLockExclusive)
}

/// Like [`try_lock`], but for readers, who do not exclude each other.
///
/// # Errors
/// The file system cannot lock.
pub fn try_lock_shared(file: &File, path: &Path) -> Result<bool, Error> {
    lock_with(file, path, FlockOperation::NonBlockingLockShared)
}

/// Like [`try_lock`], but waits. Only for what others hold for moments.
///
/// # Errors
/// The file system cannot lock.
pub fn lock(file: &File, path: &Path) -> Result<(), Error> {
    lock_with(file, path, FlockOperation::LockExclusive).map(|_| ())
}

fn lock_with(file: &File, path: &Path, operation: FlockOperation) -> Result<bool, Error> {
    loop {
        match flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).on("lock", path),
        }
    }
}

/// Opens a lock file (created with mode 0640 if it is not there) and locks it; None when somebody else has it.
///
/// # Errors
/// It cannot be opened or locked.
pub fn lock_file(path: &Path) -> Result<Option<File>, Error> {
    loop {
        let file = open_lock(path)?;
        if !try_lock(&file, path)? {
            return Ok(None);
        }
        if names(path, &file)? {
            return Ok(Some(file));
        }
        // Somebody removed the file between open and lock: what was locked is not what others will open.
    }
}

/// Like [`lock_file`], but looks again for about so long. A process that was killed while it started another has locks until that one runs its
/// own program: the child has its descriptors, and only `execve` closes them.
///
/// # Errors
/// It cannot be opened or locked.
pub fn lock_file_within(path: &Path, patience: Duration) -> Result<Option<File>, Error> {
    let mut waited = Duration::ZERO;
    loop {
        let locked = lock_file(path)?;
        if locked.is_some() || waited >= patience {
            return Ok(locked);
        }
        std::thread::sleep(AGAIN);
        waited += AGAIN;
    }
}

/// Like [`lock_file`], but waits. Only for what others hold for moments.
///
/// # Errors
/// It cannot be opened or locked.
pub fn wait_for_lock(path: &Path) -> Result<File, Error> {
    loop {
        let file = open_lock(path)?;
        lock(&file, path)?;
        if names(path, &file)? {
            return Ok(file);
        }
    }
}

fn open_lock(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o640).open(path).on("open", path)
}

/// Whether a name still leads to an open file: it was neither removed nor given to another one.
///
/// # Errors
/// It cannot be looked at.
pub fn names(path: &Path, file: &File) -> Result<bool, Error> {
    let locked = file.metadata().on("look at", path)?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (locked.dev(), locked.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).on("look at", path),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{lock_file, lock_file_within};

    #[test]
    fn a_lock_that_is_held_for_a_moment_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock_file(&path).unwrap().expect("nobody has it");
        assert!(lock_file(&path).unwrap().is_none());
        assert!(lock_file_within(&path, Duration::from_millis(30)).unwrap().is_none(), "it is not let go");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lock_file_within(&path, Duration::from_secs(60)).unwrap());
            std::thread::sleep(Duration::from_millis(50));
            drop(held);
            assert!(waits.join().unwrap().is_some());
        });
    }
}
