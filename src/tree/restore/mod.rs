//! A tree of a day put back: onto nothing ([`elsewhere`]), or by difference onto what is there.
//!
//! [`plan`] holds the records against the live tree and writes down what is to be done. [`Plan::stage`] makes beside the tree all that it lacks.
//! [`Plan::execute`] moves that into place and what it replaces aside; [`Plan::back`] moves it back again, until
//! [`Plan::drop_aside`] removes it. [`Plan::discard`] forgets a plan whose tree is as it was. Each can be done again after it was killed.
//!
//! Nothing is reached by a full path: every step goes from an open directory to one name in it, without following links. A tampered day
//! cannot lead out of the target (`records.rs`), nor can a symbolic link in the live tree. The crash arguments stand at the heads of `build.rs`,
//! `stage.rs`, `switch.rs` and `settle.rs`.

mod build;
mod compare;
mod elsewhere;
mod ground;
mod lines;
mod links;
mod look;
mod making;
mod measure;
mod plan;
mod planner;
mod records;
mod settle;
mod slots;
mod stage;
mod state;
mod survey;
mod switch;
mod tell;
mod yard;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fs;
use crate::manifest::RecordsError;
use crate::tree;

pub use compare::{Difference, Differences, compare};
pub use elsewhere::{Elsewhere, Ready, Size, elsewhere, prepare, size, sweep};
pub use plan::{Checks, Plan, RootIs, Summary, Totals, Wish, look, plan};
pub use state::State;

/// What the names of directories begin with in which a restore keeps what it stages and what it moves aside. They are no part of any tree:
/// backups pass them by, and so do restores.
pub const PREFIX: &str = ".daykeep-restore-";

/// A tree in a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The directory for what is staged and moved aside is somebody else's.
    #[error("{} was made by somebody else, who could change what is put there: remove it", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// A directory is needed where something else is.
    #[error("{} is no directory: move it away, or restore the directory that it is in", path.display())]
    NoDirectory {
        /// What is there.
        path: PathBuf,
    },
    /// The root of the machine's file system is no tree.
    #[error("the root of the file system cannot be restored as a tree")]
    WholeMachine,
    /// A directory that is to make room holds what stays.
    #[error(
        "{} is a directory where the day has something else, and it holds excluded names or a mount point: move it away first",
        path.display()
    )]
    InTheWay {
        /// The directory.
        path: PathBuf,
    },
    /// The plan's files are not what was written.
    #[error("the plan in {} cannot be used: {problem}", path.display())]
    BadPlan {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another restore of the tree has begun to change it.
    #[error("a restore of {} is not finished: go on with it, take it back or confirm it first", root.display())]
    Unfinished {
        /// The live tree.
        root: PathBuf,
    },
    /// The plan has not come so far, or has gone too far.
    #[error("the restore of {} is {state} and cannot be {wanted} now", root.display())]
    WrongState {
        /// The live tree.
        root: PathBuf,
        /// How far it has come.
        state: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// What is to be moved into place is not there.
    #[error("what is to become {} is not staged any more: somebody removed it; take the restore back", path.display())]
    NotStaged {
        /// The name in the tree.
        path: PathBuf,
    },
    /// Somebody else changes the tree.
    #[error("{} was changed by somebody else since the restore was planned; take the restore back and begin again", path.display())]
    Changed {
        /// The name.
        path: PathBuf,
    },
}

impl From<tree::pool::Stopped> for Error {
    fn from(_: tree::pool::Stopped) -> Self {
        Self::Cancelled
    }
}
