//! Why a drill could not be made. What it finds wrong with a day is no error.

use std::path::PathBuf;

use bytesize::ByteSize;

use crate::postgres::ScratchError;
use crate::{database, fs, journal, postgres, tree, vault, verify};

/// A drill could not be made: nothing was learnt of the day.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was cancelled.
    #[error("the drill was cancelled; its scratch directory was removed")]
    Cancelled,
    /// A thread of daykeep died: a defect in daykeep.
    #[error("a thread of daykeep panicked; the log has its message")]
    Panicked,
    /// There is too little room.
    #[error(
        "{} has {} free; a drill of the day {day} needs about {} for its databases and {} for its trees", directory.display(),
        ByteSize(*free), ByteSize(*databases), ByteSize(*trees)
    )]
    Space {
        /// The scratch directory.
        directory: PathBuf,
        /// The day.
        day: String,
        /// Bytes that are free.
        free: u64,
        /// Bytes for the server.
        databases: u64,
        /// Bytes for the trees; 0 when they are not copied, or share their blocks with the day.
        trees: u64,
    },
    /// There are too few inodes.
    #[error("{} has {free} free inodes; the trees of the day {day} need {needed}", directory.display())]
    Inodes {
        /// The scratch directory.
        directory: PathBuf,
        /// The day.
        day: String,
        /// Inodes that are free.
        free: u64,
        /// Names in the trees.
        needed: u64,
    },
    /// The scratch directory is full before the drill is through.
    #[error("{} is full, and the drill is not through: {cause}", directory.display())]
    Full {
        /// The scratch directory.
        directory: PathBuf,
        /// What failed.
        cause: String,
    },
    /// The day was drilled, and then the scratch directory could not be removed.
    #[error("the drill is through, but its scratch directory cannot be removed: {0}")]
    NotRemoved(#[source] ScratchError),
    /// The scratch server or directory.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The databases cannot be restored here.
    #[error(transparent)]
    Load(database::restore::RestoreError),
    /// The databases cannot be compared.
    #[error(transparent)]
    Compare(#[from] database::CompareError),
    /// The databases.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The program that lists archives.
    #[error(transparent)]
    Archive(#[from] database::ArchiveError),
    /// PostgreSQL's programs.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// The trees.
    #[error(transparent)]
    Trees(tree::restore::Error),
    /// The day cannot be verified.
    #[error(transparent)]
    Verify(verify::Error),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// The job's journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// A file.
    #[error("{0}: {cause}", cause = .0.source)]
    File(#[from] fs::Error),
}

impl Error {
    /// Every part has its own word for a cancelled job; a drill has one.
    pub(super) fn settled(self) -> Self {
        let cancelled = match &self {
            Self::Scratch(ScratchError::Cancelled)
            | Self::Load(database::restore::RestoreError::Cancelled)
            | Self::Database(database::Error::Cancelled)
            | Self::Trees(tree::restore::Error::Cancelled)
            | Self::Verify(verify::Error::Cancelled) => true,
            Self::Compare(error) => error.is_cancelled(),
            _ => false,
        };
        if cancelled { Self::Cancelled } else { self }
    }
}
