//! The vault: the directory that holds the days of a repository.
//!
//! ```text
//! <vault>/<repository>/
//!   .lock                  who changes the vault; a flock
//!   current, day1, ...     symbolic links to the newest day and the ones before it
//!   days/<name>/           whole days
//!   days/.building/        the day that is being made
//!   days/.building.json    what it is built from
//!   days/.removing-<name>/ days that are being removed
//!   days/.repair/          files that take the place of damaged ones, while they are made
//!   strays/                what a repair found in a day that was no part of it
//!   seals/<name>.json      what a day was when it was sealed
//!   proofs/<name>.json     what its verifies and drills found
//! ```
//!
//! # Crash argument
//!
//! A day is listed only under its final name. It gets that name by one rename, after everything in it was flushed, its
//! manifest last. So for a process that is killed, or a machine that loses power:
//!
//! | killed | what the next run sees |
//! | --- | --- |
//! | while building | `.building`: not a day. The trees in it are picked up; the rest is made anew |
//! | after the digests, before the manifest | the same |
//! | after the manifest, before the rename | the same; the manifest is removed before anything else in it changes |
//! | after the seal record, before the rename | the same; the record has no day, and the next day of that name writes over it |
//! | after the rename, before the flush of `days/` | either `.building` as above or the whole day: all below it was flushed before |
//! | after the rename, before the links moved | the whole day; the links are moved by whoever locks the vault next |
//! | while removing | `.removing-<name>`: not a day, never looked into again; the next run removes the rest, its seal record and proofs first |
//!
//! A repair makes what it puts into a day in `.repair`, whole and flushed, and gives it its name by a rename: killed at any
//! moment, each name of a day is the damaged file or the whole one. The next repair removes what is left in `.repair`.
//!
//! `.building.json` is durable before `.building` is created, so a building directory whose origin is unknown cannot be
//! younger than its description; one that does not fit what the next run wants to build is removed like a day.

mod day;
mod days;
mod diff;
mod digest;
mod error;
mod guide;
mod links;
mod lock;
mod pin;
mod place;
mod probe;
mod proofs;
mod prune;
mod seals;
mod writer;

use std::path::{Path, PathBuf};

pub use day::{AHEAD, Day, name_of};
pub use days::{Candidate, Days, Quarantined};
pub use diff::{Difference, diff};
pub use error::Error;
pub use lock::Locked;
pub use pin::Pin;
pub use place::{Overlap, overlap, real_place};
pub use probe::Probe;
pub use proofs::{Proof, ProofKind, ProofSeconds, Standing, proven, repaired_since_drill};
pub use writer::{DayWriter, Used};

use crate::fs;

/// The days of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    path: PathBuf,
    repository: String,
}

impl Vault {
    /// Opens what is there, for reading.
    ///
    /// # Errors
    /// `root` is not there, there is no vault of the repository below it, or it may not be looked into.
    pub fn open(root: &Path, repository: &str) -> Result<Self, Error> {
        let vault = Self::at(root, repository);
        if !fs::exists(root)? {
            return Err(Error::NoRoot { root: root.to_owned() });
        }
        if fs::exists(&vault.days_path())? { Ok(vault) } else { Err(Error::NoVault { path: vault.path }) }
    }

    /// Opens it, creating it if needed. `root` itself must be there: a missing one is a disk that is not mounted, and
    /// the days must not fill the disk below it.
    ///
    /// # Errors
    /// `root` is missing or read-only, or the directories cannot be created.
    pub fn create(root: &Path, repository: &str) -> Result<Self, Error> {
        if !root.is_dir() {
            return Err(Error::NoRoot { root: root.to_owned() });
        }
        let vault = Self::at(root, repository);
        for directory in [vault.path.clone(), vault.days_path()] {
            if !directory.is_dir() {
                fs::create_dir_durable(&directory).map_err(|error| Error::of_write(&vault.path, error))?;
                fs::set_mode(&directory, 0o750)?;
            }
        }
        Ok(vault)
    }

    fn at(root: &Path, repository: &str) -> Self {
        Self::around(root.join(repository), repository)
    }

    fn around(path: PathBuf, repository: &str) -> Self {
        Self { path, repository: repository.to_owned() }
    }

    /// `<vault>/<repository>`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `<vault>/<repository>/days`.
    #[must_use]
    pub fn days_path(&self) -> PathBuf {
        self.path.join("days")
    }

    /// The repository's name.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }
}
