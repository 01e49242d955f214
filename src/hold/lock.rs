//! The lock beside a record: who has it may pause or release. It goes with the process, and names it meanwhile.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::Error;
use crate::{fs, process};

/// How often a taken lock is tried again.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Flock<std::fs::File>,
}

impl Lock {
    /// Takes the lock, waiting no longer than `patience`.
    pub(super) async fn take(record: &Path, patience: Duration) -> Result<Self, Error> {
        let path = record.with_extension("lock");
        let mut file = fs::open_append(&path)?;
        let mut waited = Duration::ZERO;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => {
                    name_owner(&file);
                    return Ok(Self { _file: file });
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
        let file = fs::open_append(&record.with_extension("lock")).ok()?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
        name_owner(&file);
        Some(Self { _file: file })
    }

    /// Who took the lock last.
    pub(super) fn owner(record: &Path) -> Result<Option<process::Identity>, Error> {
        let Some(bytes) = fs::read_if_exists(&record.with_extension("lock"))? else { return Ok(None) };
        Ok(serde_json::from_slice(&bytes).ok())
    }
}

/// A full disk must not keep anybody from releasing: then a guard only cannot tell who hangs with the lock.
fn name_owner(mut file: &std::fs::File) {
    if let Ok(own) = process::Identity::own()
        && let Ok(text) = serde_json::to_vec(&own)
        && file.set_len(0).is_ok()
    {
        let _ = file.write_all(&text);
    }
}
