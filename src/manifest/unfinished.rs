//! FOSSology's jobs that were unfinished at the freeze point.

use serde::{Deserialize, Serialize};

/// What `jobqueue` had without an end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfinishedJobs {
    /// How many.
    pub count: u64,
    /// The first of them, by `jq_pk`; a queue can be longer than a page.
    pub jobs: Vec<UnfinishedJob>,
}

/// One row of `jobqueue`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfinishedJob {
    /// `jobqueue.jq_pk`.
    pub jq_pk: i64,
    /// `job.job_pk`.
    pub job_pk: i64,
    /// The agent: `ununpack`, `nomos`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// Its arguments, without passwords.
    pub args: Option<String>,
    /// The upload that it works on, if it works on one.
    pub upload: Option<i64>,
    /// How far it was.
    pub state: JobState,
    /// What the job is called.
    pub name: Option<String>,
}

/// How far an unfinished job was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Not begun.
    Waiting,
    /// Begun: what a scheduler that crashed has left so, since nothing ran at the freeze point.
    Running,
    /// Put off by somebody.
    Paused,
}
