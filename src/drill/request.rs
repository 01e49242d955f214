//! What is to be drilled.

use std::path::{Path, PathBuf};

use crate::config::{DrillTrees, Repository};
use crate::vault::{self, Vault};

/// A day to be drilled, and where. There is no server in it: a drill knows none but the one that it makes.
#[derive(Debug, Clone)]
pub struct Request {
    /// The days.
    pub vault: Vault,
    /// Which of them: `latest`, `day1`, a date, or a full name.
    pub day: String,
    /// Where the scratch directory is made.
    pub directory: PathBuf,
    /// What is done with the trees.
    pub trees: Trees,
    /// Where the configuration says that PostgreSQL's programs are.
    pub bin_dir: Option<PathBuf>,
    /// Connections that load and compare rows.
    pub jobs: usize,
    /// Threads that restore trees.
    pub tree_jobs: usize,
    /// Leave what was restored where it is, without a server, for somebody to look at.
    pub keep: bool,
    /// The journal that the drill is written into; None: into none.
    pub journal: Option<Journaled>,
}

/// Whose journal.
#[derive(Debug, Clone)]
pub struct Journaled {
    /// Where the durable records live.
    pub state_dir: PathBuf,
    /// Who asked: `schedule`, or a user.
    pub started_by: String,
}

/// What a drill does with the trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trees {
    /// Restores them into the scratch directory.
    Copy,
    /// Reads every file where it is, and holds it against its digest.
    Hash,
    /// Leaves them alone, but for the files that rows ask for. Such a drill proves no day that has trees.
    Skip,
}

impl From<DrillTrees> for Trees {
    fn from(configured: DrillTrees) -> Self {
        match configured {
            DrillTrees::Copy => Self::Copy,
            DrillTrees::Hash => Self::Hash,
        }
    }
}

impl Request {
    /// A drill of a configured repository.
    ///
    /// # Errors
    /// The repository has no vault yet.
    pub fn of(
        repository: &Repository,
        state_dir: &Path,
        day: &str,
        started_by: &str,
    ) -> Result<Self, vault::Error> {
        let default = || state_dir.join(&repository.name).join("drill");
        let database = repository.database.as_ref();
        Ok(Self {
            vault: Vault::open(&repository.vault, &repository.name)?,
            day: day.to_owned(),
            directory: repository.drill.directory.clone().unwrap_or_else(default),
            trees: repository.drill.trees.into(),
            bin_dir: database.and_then(|database| database.bin_dir.clone()),
            jobs: database.map_or(DEFAULT_JOBS, |database| database.jobs),
            tree_jobs: repository.limits.tree_jobs,
            keep: false,
            journal: Some(Journaled { state_dir: state_dir.to_owned(), started_by: started_by.to_owned() }),
        })
    }

    /// A drill of a vault alone, without any configuration.
    #[must_use]
    pub fn of_vault(vault: Vault, day: &str, directory: PathBuf, bin_dir: Option<PathBuf>) -> Self {
        Self {
            vault,
            day: day.to_owned(),
            directory,
            trees: Trees::Copy,
            bin_dir,
            jobs: DEFAULT_JOBS,
            tree_jobs: DEFAULT_JOBS,
            keep: false,
            journal: None,
        }
    }
}

/// As the configuration's defaults.
const DEFAULT_JOBS: usize = 2;
