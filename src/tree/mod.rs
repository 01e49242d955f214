//! File trees: the incremental copy into the new day.
//!
//! [`warm`] builds the tree of the new day while the repository runs: what did not change is a hard link to the day before, the rest is
//! copied. [`Warm::catch_up`] brings over what changed meanwhile, still running. [`Warm::fence`], inside the hold, brings over the
//! last changes; its cost follows what changed where the kernel tells (fanotify), and the number of names where it does not. After the
//! release [`Fenced::finish`] copies what was only held open, gives the directories their attributes and writes the records.
//!
//! Crash safety: until the day is sealed everything here is in a day that is not listed. Killed at any moment, the next run finds a
//! tree without records and takes nothing in it on trust: a name is kept only if it is the previous day's inode and may be linked, or if
//! its digest is that of the source; the rest is removed or replaced. `docs/trees.md` has the whole of it.

mod ahead;
mod apply;
mod bring;
mod compare;
mod fence;
mod filter;
mod finish;
mod held;
mod judge;
mod linking;
mod links;
mod lookup;
mod overlay;
mod pool;
mod queue;
mod reading;
pub mod restore;
mod site;
mod special;
mod sync;
mod told;
mod walk;
mod warm;
mod watch;

use std::path::PathBuf;

use crate::config;
use crate::fs;
use crate::manifest::RecordsError;

pub use fence::Fenced;
pub use lookup::DayTree;
pub use warm::{Pending, Warm, warm};

/// One tree to be brought into the day that is being built.
#[derive(Debug, Clone)]
pub struct Job {
    /// The tree.
    pub tree: config::Tree,
    /// `<day being built>/trees/<name>`.
    pub target: PathBuf,
    /// The day before, if there is one.
    pub previous: Option<Previous>,
    /// Share no inode with the day before.
    pub new_base: bool,
    /// Threads.
    pub jobs: usize,
    /// Bytes a second that may be read while the repository runs.
    pub copy_rate: Option<u64>,
    /// Copy at niceness 19 while the repository runs.
    pub idle: bool,
}

/// Where the tree of the day before is.
#[derive(Debug, Clone)]
pub struct Previous {
    /// `<day>/trees/<name>`.
    pub tree_dir: PathBuf,
    /// `<day>/files.jsonl.zst`.
    pub records: PathBuf,
}

/// A tree could not be brought into the day.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run is cancelled.
    #[error("the copy of the tree was stopped because the run was cancelled")]
    Cancelled,
    /// Something could not be read or written.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// The records could not be read or written.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// A file does not hold still.
    #[error("{} changes while it is copied, although the repository is held: something else writes to the tree", path.display())]
    Unsettled {
        /// The file.
        path: PathBuf,
    },
    /// A file whose name is its content got another content.
    #[error(
        "{} changed its size after the repository was released, although content_named says that a name has one content; \
         set content_named = false for this tree",
        path.display()
    )]
    Renewed {
        /// The file.
        path: PathBuf,
    },
    /// A record is not what this program writes.
    #[error("the record of {} in the day being built is damaged", path.display())]
    BadRecord {
        /// The file.
        path: PathBuf,
    },
}

impl From<pool::Stopped> for Error {
    fn from(_: pool::Stopped) -> Self {
        Self::Cancelled
    }
}

impl Error {
    /// The path, or a directory on the way to it, is not there (any more).
    fn is_gone(&self) -> bool {
        matches!(self, Self::File(error) if fs::dir::is_gone(error) || site::is_link(error))
    }
}
