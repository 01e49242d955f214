//! What goes over the socket, as both ends know it. Fields are only ever added within one [`SCHEMA`]; a reader
//! passes over what it does not know.

mod day;
mod job;
mod repository;
mod status;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use day::{Day, Days, OneDay, Quarantined};
pub use job::{Job, JobState, Jobs, OneJob};
pub use repository::{Repositories, Repository, Schedule};
pub use status::{
    ConfigStatus, DaemonStatus, DayName, Hold, KeptHold, NextRun, NextRunReason, PendingRestore, Proved,
    ProvenDay, RepositoryStatus, Status,
};

use crate::event::Event;

/// The version of everything here, in every answer.
pub const SCHEMA: u32 = 1;

/// One `data:` line of GET /v1/events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Live {
    /// A job as it stands: for each running one when the stream begins, and whenever one begins or ends.
    Job {
        /// The job.
        job: Box<Job>,
    },
    /// Something happened in a job.
    Event {
        /// The job.
        id: u64,
        /// Its repository.
        repository: String,
        /// When.
        at: Timestamp,
        /// What.
        happened: Event,
    },
    /// The reader was too slow: so many lines are left out.
    Missed {
        /// How many.
        count: u64,
    },
    /// The configuration was read again (or refused, with the reason).
    Config {
        /// Why it was refused.
        error: Option<String>,
    },
    /// The daemon stops; this is the last line.
    End {
        /// Why.
        reason: String,
    },
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// [`SCHEMA`]
    pub schema: u32,
    /// What is wrong.
    pub error: Fault,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A word for programs: `not_found`, `no_such_repository`, `no_such_day`, `no_such_job`, `already_running`,
    /// `forbidden`, `method_not_allowed`, `bad_request`, `too_large`, `stopping`, `vault`, `journal`, `run`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}
