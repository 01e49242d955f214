//! A tree of a day put back.
//!
//! [`elsewhere`] puts it where nothing is.

mod build;
mod elsewhere;
mod links;
mod records;
mod tell;

use std::path::PathBuf;

use crate::fs;
use crate::manifest::RecordsError;
use crate::tree;

pub use elsewhere::{Elsewhere, elsewhere};

/// What the names of directories begin with in which a restore keeps what it stages and what it moves aside. They are no part of any tree:
/// backups pass them by, and so do restores.
pub const PREFIX: &str = ".daykeep-restore-";

/// A tree in a day.
#[derive(Debug, Clone)]
pub struct Source {
    /// `<day>/trees/<tree>`.
    pub tree_dir: PathBuf,
    /// `<day>/files.jsonl.zst`.
    pub records: PathBuf,
    /// Its name.
    pub tree: String,
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Built {
    /// Names of every kind, the root among them; without those that are recorded only.
    pub entries: u64,
    /// Regular files; each name counts.
    pub files: u64,
    /// The sum of their sizes.
    pub bytes: u64,
}

/// A tree could not be put back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The job is cancelled.
    #[error("the restore of the tree was stopped because the job was cancelled")]
    Cancelled,
    /// Something could not be read or written.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// The records could not be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// A record names what no tree has.
    #[error("{}: the record of {} cannot be trusted: {problem}", records.display(), path.display())]
    BadRecord {
        /// The records.
        records: PathBuf,
        /// What the record names.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The records say nothing of the tree.
    #[error("{} has no records of the tree {tree}", records.display())]
    NoTree {
        /// The tree.
        tree: String,
        /// The records.
        records: PathBuf,
    },
    /// A file of the day is not what its record says.
    #[error("{} in the day is damaged: {problem}; nothing was changed (`daykeep verify` tells all that is damaged)", path.display())]
    Damaged {
        /// The file, in the day.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The path that was asked for is not in the day.
    #[error("the tree {tree} of this day has no {}", path.display())]
    NotInDay {
        /// The tree.
        tree: String,
        /// The path in it.
        path: PathBuf,
    },
    /// There is something where nothing should be.
    #[error("{} is not empty: a tree is put beside what is there only into an empty or missing directory", path.display())]
    NotEmpty {
        /// The place.
        path: PathBuf,
    },
}

impl From<tree::pool::Stopped> for Error {
    fn from(_: tree::pool::Stopped) -> Self {
        Self::Cancelled
    }
}
