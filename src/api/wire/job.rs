//! Jobs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Phase, Unit};

/// One job: a run of a repository, or what else is written into the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// What it does: `backup`, `prune`, `restore`, `settle` (a restore is taken back or confirmed), `verify`, `drill`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For which repository.
    pub repository: String,
    /// How it stands.
    pub state: JobState,
    /// The phase that it is in, or in which it ended.
    pub phase: Option<Phase>,
    /// The newest sentence for people.
    pub message: Option<String>,
    /// How far the phase is.
    pub current: u64,
    /// How far it will go, as far as is known.
    pub total: Option<u64>,
    /// What `current` and `total` count.
    pub unit: Option<Unit>,
    /// Why it failed or was skipped, one sentence, with all that is behind it.
    pub error: Option<String>,
    /// The chain of causes alone, one a line; of a verify or drill that found damage, all that it found.
    pub detail: Option<String>,
    /// Who started it: `schedule`, `catch-up`, `retry`, or a user.
    pub started_by: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Seconds from begin to end, or until now.
    pub elapsed_seconds: f64,
    /// Does the repository stand still for it right now?
    pub held: bool,
    /// Seconds for which the repository stood still, once it was released.
    pub held_seconds: Option<f64>,
    /// Seconds for which its scheduler was paused, once it was released.
    pub paused_seconds: Option<f64>,
    /// The day that it sealed.
    pub day: Option<String>,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Going on.
    Running,
    /// Ended well.
    Succeeded,
    /// The repository was busy; nothing was kept, and nothing is wrong.
    Skipped,
    /// Ended badly, or was going on when daykeep died.
    Failed,
    /// Somebody asked it to stop.
    Cancelled,
}

impl JobState {
    /// The word for people and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// GET /v1/jobs, newest first
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Jobs {
    /// [`SCHEMA`](super::SCHEMA)
    pub schema: u32,
    /// The jobs.
    pub jobs: Vec<Job>,
}

/// GET /v1/jobs/{id}; the answer to a start and to a cancel
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneJob {
    /// [`SCHEMA`](super::SCHEMA)
    pub schema: u32,
    /// The job.
    pub job: Job,
}
