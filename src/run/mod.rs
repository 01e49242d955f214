//! The backup of a repository.

use std::path::PathBuf;

use crate::config::Repository;
use crate::event::Context;
use crate::manifest::Manifest;

/// What is to be backed up, and for whom.
#[derive(Debug, Clone)]
pub struct Request {
    /// The repository, as configured.
    pub repository: Repository,
    /// Where the durable records live.
    pub state_dir: PathBuf,
    /// The `daykeep` program, started as the guard that outlives this process.
    pub guard: PathBuf,
    /// Who asked: `schedule`, `catch-up`, or a user.
    pub started_by: String,
}

/// How a run that did not fail ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A day was sealed.
    Sealed {
        /// The job's number.
        job: u64,
        /// What the day says of itself.
        manifest: Box<Manifest>,
        /// Days removed by the keep rules.
        pruned: Vec<String>,
    },
    /// The scheduler was busy: it was released and nothing was kept.
    Skipped {
        /// The job's number.
        job: u64,
        /// Why, one sentence.
        reason: String,
    },
}

/// A run failed. No day was lost.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another run of this repository is going on.
    #[error("another run has the vault of {repository}: {holder}")]
    Locked {
        /// The repository.
        repository: String,
        /// Who, and since when.
        holder: String,
    },
    /// It was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
}

/// Backs a repository up: from the lock to the sealed day.
///
/// # Errors
/// Any step failed. The repository has been released (or its guard is doing it), no half day is listed, and no kept day
/// was touched.
#[expect(clippy::unused_async, reason = "the flow is being built")]
pub async fn backup(_request: &Request, _context: &Context) -> Result<Outcome, Error> {
    Err(Error::Cancelled)
}
