//! The lock of a vault. It is a `flock`: it dies with its process, so no lock is ever stale and there is nothing to break.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fs::{self, OnPath as _};
use crate::vault::{Error, Vault};

/// A vault that only this process may change, until this and what came from it is dropped.
#[derive(Debug, Clone)]
pub struct Locked {
    vault: Vault,
    /// Open as long as the lock is to last.
    _lock: Arc<File>,
}

impl Deref for Locked {
    type Target = Vault;

    fn deref(&self) -> &Vault {
        &self.vault
    }
}

/// What stands in the lock file, for the one who finds it locked.
#[derive(Serialize, Deserialize)]
struct Holder {
    holder: String,
    since: Timestamp,
}

/// What can be left undone on a full disk.
fn unless_full(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(error) if error.is_full() => Ok(()),
        done => done,
    }
}

impl Vault {
    /// Locks the vault for `holder` (`daykeep run, pid 12, job 7`), and sets `current` and the `dayN` right if a killed run
    /// left them behind the days. A full disk keeps nobody from locking it, for whoever makes room must: then what the lock says of its
    /// holder is missing, and the links stay as they are.
    ///
    /// # Errors
    /// [`Error::Locked`] names the process that has it, [`Error::ReadOnly`] tells what to do about a read-only mount.
    pub fn lock(&self, holder: &str, now: Timestamp) -> Result<Locked, Error> {
        let path = self.path().join(".lock");
        let opened = fs::lock_file(&path).map_err(|error| Error::of_write(self.path(), error))?;
        let Some(mut file) = opened else {
            return Err(self.held());
        };
        let text = serde_json::to_vec(&Holder { holder: holder.to_owned(), since: now })
            .map_err(|source| Error::Manifest { path: path.clone(), source })?;
        let told = file.set_len(0).and_then(|()| file.write_all(&text)).on("write", &path);
        unless_full(told.map_err(Error::File))?;
        let locked = Locked { vault: self.clone(), _lock: Arc::new(file) };
        unless_full(locked.mend_links(now))?;
        Ok(locked)
    }

    fn held(&self) -> Error {
        let path = self.path().to_owned();
        match self.read_holder() {
            Some(Holder { holder, since }) => Error::Locked { path, holder, since: Some(since) },
            None => Error::Locked { path, holder: "another process".to_owned(), since: None },
        }
    }

    fn read_holder(&self) -> Option<Holder> {
        let mut file = fs::open(&self.path().join(".lock")).ok()?;
        let mut text = String::new();
        file.rewind().ok()?;
        file.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}
