//! How a repository's days are drilled, as configured.

use std::path::PathBuf;

use crate::config::Schedule;

/// `[repository.NAME.drill]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    /// When the newest day is drilled; None: only by hand.
    pub schedule: Option<Schedule>,
    /// Where scratch servers and trees are made; None: `<state_dir>/<repository>/drill`.
    pub directory: Option<PathBuf>,
    /// What is done with the trees.
    pub trees: DrillTrees,
}

/// What a drill does with the trees of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrillTrees {
    /// Restore them into the scratch directory.
    Copy,
    /// Read every file where it is, and hold it against its digest.
    Hash,
}

impl DrillTrees {
    /// The word in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Hash => "hash",
        }
    }
}
