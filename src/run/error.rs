//! Why a run failed.

use std::path::PathBuf;
use std::time::Duration;

use crate::journal::End;
use crate::vault::Overlap;
use crate::{crosscheck, database, fs, hold, journal, manifest, postgres, reunpack, tree, vault};

/// A run failed. No day was lost.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another run of this repository is going on.
    #[error("another run has the vault of {repository}: {source}")]
    Locked {
        /// The repository.
        repository: String,
        /// Who, and since when.
        source: vault::Error,
    },
    /// A restore is half way.
    #[error("{pending}")]
    HalfRestored {
        /// Which, and how it is ended.
        pending: Box<journal::PendingRestore>,
    },
    /// It was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
    /// A thread of daykeep died: a defect in daykeep.
    #[error("a thread of daykeep panicked; the log has its message")]
    Panicked,
    /// The hold took longer than the configuration allows.
    #[error(
        "the freeze point was not reached within hold.max ({}s){}",
        max.as_secs_f64(),
        if *released { "; the repository was released" } else { "" }
    )]
    HoldTooLong {
        /// What was allowed.
        max: Duration,
        /// The repository has been released since, by the run or its guard.
        released: bool,
    },
    /// The freeze failed, and the release too.
    #[error("{error}; {}", release.after_another())]
    NotReleased {
        /// The first failure.
        error: Box<Error>,
        /// The second; the guard goes on trying.
        release: Box<hold::Error>,
    },
    /// The vault is too full for another day.
    #[error("the vault {} has {free} free; {}, and limits.min_free keeps {reserve}", vault.display(), needs(expected.as_ref()))]
    Space {
        /// The vault.
        vault: PathBuf,
        /// What is free.
        free: bytesize::ByteSize,
        /// What days like it need; None: nobody knows.
        expected: Option<bytesize::ByteSize>,
        /// What must stay free.
        reserve: bytesize::ByteSize,
    },
    /// The vault has too few inodes for another day.
    #[error("the vault {} has {free} free inodes; {}, and {reserve} must stay free", vault.display(), needs(expected.as_ref()))]
    Inodes {
        /// The vault.
        vault: PathBuf,
        /// What is free.
        free: u64,
        /// What days like it need; None: nobody knows.
        expected: Option<u64>,
        /// What must stay free.
        reserve: u64,
    },
    /// The vault became too full while trees were copied ahead.
    #[error(
        "the vault {} has {free} left while the trees are copied, and its limits keep {reserve}: nothing was held, and what is copied \
         waits for the next run",
        vault.display()
    )]
    Filled {
        /// The vault.
        vault: PathBuf,
        /// What is free.
        free: String,
        /// What must stay free.
        reserve: String,
    },
    /// The vault and a tree are not apart.
    #[error("tree {tree}: {source}")]
    Overlap {
        /// The tree's name.
        tree: String,
        /// How.
        source: Overlap,
    },
    /// A row without its file, or a check that cannot be made.
    #[error(transparent)]
    CrossCheck(#[from] crosscheck::Error),
    /// FOSSology's queue.
    #[error(transparent)]
    Reunpack(#[from] reunpack::Error),
    /// The hold.
    #[error(transparent)]
    Hold(#[from] hold::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The connection to the server.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// A tree.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// The job's journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The records of the files.
    #[error(transparent)]
    Records(#[from] manifest::RecordsError),
    /// A file.
    #[error(transparent)]
    File(#[from] fs::Error),
}

fn needs(expected: Option<&impl std::fmt::Display>) -> String {
    expected.map_or_else(
        || "what the next day needs is not known".to_owned(),
        |expected| format!("the next day is expected to need {expected}"),
    )
}

impl Error {
    /// What the job's journal says of it.
    pub(super) fn end(&self) -> End {
        match self {
            Self::Hold(busy @ hold::Error::Busy { .. }) => End::Skipped { reason: busy.to_string() },
            Self::Cancelled => End::Cancelled,
            _ => End::failed(self),
        }
    }

    /// Every part has its own word for a cancelled run; a run has one.
    #[must_use]
    pub(super) fn settled(self) -> Self {
        match self {
            Self::Hold(hold::Error::Cancelled)
            | Self::Vault(vault::Error::Cancelled)
            | Self::Database(database::Error::Cancelled)
            | Self::Tree(tree::Error::Cancelled)
            | Self::CrossCheck(
                crosscheck::Error::Cancelled | crosscheck::Error::Database(database::Error::Cancelled),
            )
            | Self::Reunpack(
                reunpack::Error::Cancelled | reunpack::Error::Database(database::Error::Cancelled),
            ) => Self::Cancelled,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Error;
    use crate::journal::End;
    use crate::{fs, hold, process};

    #[test]
    fn a_cause_is_told_once() {
        let missing = || std::io::Error::from_raw_os_error(nix::libc::ENOENT);
        let source = process::Error::Start { program: "pg_dump".to_owned(), source: missing() };
        let text = "cannot pause: cannot start pg_dump: No such file or directory (os error 2)";
        let error = Error::from(hold::Error::Command { doing: "cannot pause", source });
        assert_eq!(error.end(), End::Failed { error: text.to_owned(), detail: String::new() });
        let file = fs::Error { action: "open", path: "/x".into(), source: missing() };
        let error = Error::from(hold::Error::File(file));
        let text = "cannot open /x: No such file or directory (os error 2)";
        assert_eq!(error.end(), End::Failed { error: text.to_owned(), detail: String::new() });
    }
}
