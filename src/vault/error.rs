//! What can go wrong with a vault.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::{fs, manifest};

/// The vault cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no vault of this repository.
    #[error("there is no vault at {}: is the disk mounted, and has a run been made?", path.display())]
    NoVault {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The directory that is to hold the vaults is not there.
    #[error("the vault's directory {} is not there: mount the disk or create it", root.display())]
    NoRoot {
        /// The directory.
        root: PathBuf,
    },
    /// The file system refuses to be written.
    #[error(
        "the vault {} is read-only here: mount it read-write; under systemd, name it in the unit's ReadWritePaths= \
         (`systemctl edit daykeep`)",
        path.display()
    )]
    ReadOnly {
        /// The vault.
        path: PathBuf,
        /// What was refused.
        source: fs::Error,
    },
    /// Another process has the lock.
    #[error("the vault {} is locked by {holder}{}", path.display(), ago(since.as_ref()))]
    Locked {
        /// The vault.
        path: PathBuf,
        /// Who.
        holder: String,
        /// Since when.
        since: Option<Timestamp>,
    },
    /// No good day is called that.
    #[error("there is no day {wanted} in {}{}", path.display(), nearest(near))]
    NoSuchDay {
        /// The vault.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// Names of days that may have been meant.
        near: Vec<String>,
    },
    /// The day is there, but is not a good one.
    #[error("the day {name} is not used: {reason}")]
    Quarantined {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// All names of the freeze point's second are taken.
    #[error("cannot name the day: {} and the names after it are taken", path.display())]
    NameTaken {
        /// The first of them.
        path: PathBuf,
    },
    /// The day under construction is not what it should be.
    #[error("cannot seal {}: {problem}", path.display())]
    Unsealable {
        /// The building directory.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The manifest could not be put into words.
    #[error("cannot write the manifest {}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A record beside the days is not what daykeep writes.
    #[error("{} is damaged: {problem}", path.display())]
    DamagedRecord {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The day is about to be gone.
    #[error("the day {name} is being removed by the keep rules")]
    BeingRemoved {
        /// Its name.
        name: String,
    },
    /// Stopped on request; what was left over is removed by the next run.
    #[error("the removal of days was cancelled; the next run finishes it")]
    Cancelled,
    /// A list of a day.
    #[error(transparent)]
    Records(#[from] manifest::RecordsError),
    /// A file.
    #[error(transparent)]
    File(#[from] fs::Error),
}

impl Error {
    /// True when somebody cancelled it.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// True when there is no room, neither for bytes nor for names.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::File(error) if error.is_full())
    }

    /// What a failed write says of the vault.
    pub(super) fn of_write(vault: &Path, error: fs::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path: vault.to_owned(), source: error }
            }
            _ => Self::File(error),
        }
    }
}

fn ago(since: Option<&Timestamp>) -> String {
    since.map_or_else(String::new, |since| format!(" since {since:.0}"))
}

fn nearest(near: &[String]) -> String {
    match near {
        [] => String::new(),
        [one] => format!("; the nearest is {one}"),
        more => format!("; the nearest are {}", more.join(", ")),
    }
}
