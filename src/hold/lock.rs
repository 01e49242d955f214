//! The lock beside a record: who has it may pause or release. It goes with the process, and names it meanwhile.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::Error;
use crate::{fs, process};

/// How often a taken lock is tried again.
const LOCK_POLL: Duration = Duration::from_millis(50);
/// No name of a process is longer.
const LONGEST_NAME: usize = 4096;

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: Flock<File>,
}

impl Lock {
    /// Takes the lock, waiting no longer than `patience`.
    pub(super) async fn take(record: &Path, patience: Duration) -> Result<Self, Error> {
        let path = path_beside(record);
        Self::of(open(&path)?, path, patience).await
    }

    async fn of(mut file: File, path: PathBuf, patience: Duration) -> Result<Self, Error> {
        let mut waited = Duration::ZERO;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => {
                    name_owner(&file);
                    return Ok(Self { file });
                }
                Err((_, nix::Error::EWOULDBLOCK)) if waited >= patience => {
                    return Err(Error::Locked { path });
                }
                Err((back, nix::Error::EWOULDBLOCK | nix::Error::EINTR)) => file = back,
                Err((_, errno)) => {
                    return Err(fs::Error { action: "lock", path, source: errno.into() }.into());
                }
            }
            tokio::time::sleep(LOCK_POLL).await;
            waited += LOCK_POLL;
        }
    }

    /// Takes the lock if it is free at this moment.
    pub(super) fn try_take(record: &Path) -> Option<Self> {
        let file = open(&path_beside(record)).ok()?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
        name_owner(&file);
        Some(Self { file })
    }

    /// Who took the lock last; None when that cannot be told.
    pub(super) fn owner(record: &Path) -> Result<Option<process::Identity>, Error> {
        match fs::open_append(&path_beside(record)) {
            Ok(file) => Ok(named_in(&file)),
            // Who takes it now cannot leave a name: the one in it is of somebody before.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The lock's file as it was at one moment, kept open: it tells whether its place is still the same one, and can be locked wherever that
/// has gone.
#[derive(Debug)]
pub(super) struct Witness {
    file: Option<File>,
    path: PathBuf,
}

impl Witness {
    /// Of the lock as it is now. One that cannot be opened tells nothing. It is opened for reading: nobody is kept from making the disk
    /// read-only.
    pub(super) fn of(record: &Path) -> Self {
        let path = path_beside(record);
        Self { file: fs::open(&path).ok(), path }
    }

    /// Whether the lock's name still leads to it. Nobody ever removes a lock alone, so else the directory was removed, moved away or
    /// unmounted, and may have been made anew.
    pub(super) fn is_in_place(&self) -> bool {
        self.file.as_ref().is_none_or(|file| fs::names(&self.path, file).unwrap_or(false))
    }

    /// Whether a lock is that of the place as it was.
    pub(super) fn is_locked_by(&self, lock: &Lock) -> bool {
        let of = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
        self.file.as_ref().and_then(of).is_some_and(|seen| of(&lock.file) == Some(seen))
    }

    /// Takes the lock of the place as it was; None when it cannot be locked at all.
    pub(super) async fn lock(&self, patience: Duration) -> Result<Option<Lock>, Error> {
        let Some(file) = self.file.as_ref().and_then(|file| file.try_clone().ok()) else { return Ok(None) };
        match Lock::of(file, self.path.clone(), patience).await {
            Ok(lock) => Ok(Some(lock)),
            Err(Error::File(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Who took that lock last.
    pub(super) fn owner(&self) -> Option<process::Identity> {
        self.file.as_ref().and_then(named_in)
    }
}

fn path_beside(record: &Path) -> PathBuf {
    record.with_extension("lock")
}

fn open(path: &Path) -> Result<File, fs::Error> {
    match fs::open_append(path) {
        // A disk that has become read-only must not keep anybody from releasing, and to lock a file needs no right to write to it.
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => fs::open(path),
        opened => opened,
    }
}

/// A full disk must not keep anybody from releasing: then a guard only cannot tell who hangs with the lock.
fn name_owner(mut file: &File) {
    if let Ok(own) = process::Identity::own()
        && let Ok(text) = serde_json::to_vec(&own)
        && file.set_len(0).is_ok()
    {
        let _ = file.write_all(&text);
    }
}

fn named_in(file: &File) -> Option<process::Identity> {
    let mut bytes = [0; LONGEST_NAME];
    let length = file.read_at(&mut bytes, 0).ok()?;
    serde_json::from_slice(bytes.get(..length)?).ok()
}
