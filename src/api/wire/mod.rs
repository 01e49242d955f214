//! What goes over the socket, as both ends know it. Fields are only ever added within one [`SCHEMA`]; a reader
//! passes over what it does not know.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Event, Phase, Unit};
use crate::manifest::Manifest;

/// The version of everything here, in every answer.
pub const SCHEMA: u32 = 1;

/// GET /v1/status
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`]
    pub schema: u32,
    /// Seconds since the freeze point of the newest day of the repository that is worst off; None when one has no day
    /// at all (or none is configured).
    pub newest_day_age_seconds: Option<u64>,
    /// The same of the newest day that is proven: a drill has restored it, and no verify has found damage since.
    #[serde(default)]
    pub newest_proven_age_seconds: Option<u64>,
    /// Is any repository held right now, or waiting to be released?
    pub held: bool,
    /// The repositories by name.
    pub repositories: Vec<RepositoryStatus>,
    /// The configuration in force.
    pub config: ConfigStatus,
    /// The daemon itself.
    pub daemon: DaemonStatus,
    /// The daemon's time.
    pub now: Timestamp,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file.
    pub path: String,
    /// When it was read.
    pub loaded: Timestamp,
    /// Why the last reload was refused: the configuration before it is still in force.
    pub error: Option<String>,
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// daykeep's version.
    pub version: String,
    /// Process number.
    pub pid: u32,
    /// Since when it runs.
    pub started: Timestamp,
    /// True from the signal to stop on: nothing more is begun.
    pub stopping: bool,
}

/// One repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepositoryStatus {
    /// Its name.
    pub name: String,
    /// Its newest day.
    pub newest_day: Option<DayName>,
    /// Seconds since the freeze point of the newest day.
    pub newest_day_age_seconds: Option<u64>,
    /// Its newest day that is proven.
    #[serde(default)]
    pub newest_proven_day: Option<ProvenDay>,
    /// Seconds since the freeze point of the newest day that is proven.
    #[serde(default)]
    pub newest_proven_age_seconds: Option<u64>,
    /// The newest verify of any of its days.
    #[serde(default)]
    pub last_verify: Option<Proved>,
    /// The newest drill of any of its days.
    #[serde(default)]
    pub last_drill: Option<Proved>,
    /// Is it held, or waiting to be released after a crash?
    pub held: bool,
    /// The hold that a restore that is half way has left in force.
    #[serde(default)]
    pub kept_hold: Option<KeptHold>,
    /// A restore that is not finished, or not confirmed.
    #[serde(default)]
    pub pending_restore: Option<PendingRestore>,
    /// Why it is not known whether a restore waits, and what to do about it.
    #[serde(default)]
    pub restore_error: Option<String>,
    /// The newest run, whatever became of it.
    pub last_attempt: Option<Job>,
    /// The newest run that sealed a day.
    pub last_success: Option<Job>,
    /// The run that is going on.
    pub running: Option<Job>,
    /// Restores, verifies and drills that are going on.
    #[serde(default)]
    pub other_jobs: Vec<Job>,
    /// When the next run begins.
    pub next_run: Option<NextRun>,
    /// When a day is verified next by itself.
    #[serde(default)]
    pub next_verify: Option<NextRun>,
    /// When a day is drilled next by itself.
    #[serde(default)]
    pub next_drill: Option<NextRun>,
    /// The schedule, if it has one.
    pub schedule: Option<Schedule>,
    /// Why the vault's days cannot be listed.
    pub vault_error: Option<String>,
}

/// A day in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayName {
    /// Its name.
    pub name: String,
    /// The instant that it shows.
    pub freeze_point: Timestamp,
}

/// A day that a drill has proven to restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProvenDay {
    /// Its name.
    pub name: String,
    /// The instant that it shows.
    pub freeze_point: Timestamp,
    /// When the drill ended.
    pub drilled: Timestamp,
    /// Seconds that the drill took: in about that time an admin has the day back.
    pub restore_seconds: f64,
}

/// The outcome of a verify or a drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proved {
    /// The day.
    pub day: String,
    /// When it ended.
    pub at: Timestamp,
    /// The day is what it was when it was sealed.
    pub ok: bool,
    /// Seconds for the databases.
    pub database_seconds: f64,
    /// Seconds for the trees.
    pub trees_seconds: f64,
    /// Seconds from beginning to end.
    pub total_seconds: f64,
    /// How many damages were found.
    pub damages: u64,
    /// The first of them, or why the drill failed.
    pub first: Option<String>,
    /// Of a drill that failed: damage was repaired since, and nobody knows whether the day restores before it is drilled again.
    #[serde(default)]
    pub repaired_since: bool,
}

/// A hold that outlives its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHold {
    /// The job that held.
    pub job: u64,
    /// Since when.
    pub since: Timestamp,
    /// What waits, and the commands that end it.
    pub reason: String,
}

/// A restore that waits to be finished, confirmed or taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRestore {
    /// The job that began it.
    pub job: u64,
    /// The day.
    pub day: String,
    /// How far it is: `loading`, `staged`, `switching`, `checking`, `done`, `undoing`, `confirming`.
    pub phase: String,
    /// It came to its end: the repository runs on the day, and only what was there before waits.
    pub over: bool,
    /// When it began.
    pub started: Timestamp,
    /// What waits, and the commands that end it.
    pub text: String,
}

/// When the next run begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextRun {
    /// The instant.
    pub at: Timestamp,
    /// The same in the schedule's zone, with its offset: `2026-11-22T01:00:00+01:00`.
    pub local: String,
    /// Why then.
    pub why: NextRunReason,
}

/// Why the next run is when it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextRunReason {
    /// The schedule says so.
    Schedule,
    /// The last one was skipped, and this is the next try.
    Retry,
}

/// `schedule`, `timezone`, `catch_up` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The pattern.
    pub cron: String,
    /// Its zone.
    pub timezone: String,
    /// Is one run made up for those that were missed?
    pub catch_up: bool,
}

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
    /// Why it failed or was skipped, one sentence.
    pub error: Option<String>,
    /// What is behind `error`: the chain of causes, one a line.
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
    /// [`SCHEMA`]
    pub schema: u32,
    /// The jobs.
    pub jobs: Vec<Job>,
}

/// GET /v1/jobs/{id}; the answer to a start and to a cancel
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneJob {
    /// [`SCHEMA`]
    pub schema: u32,
    /// The job.
    pub job: Job,
}

/// GET /v1/repositories
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repositories {
    /// [`SCHEMA`]
    pub schema: u32,
    /// The repositories by name.
    pub repositories: Vec<Repository>,
}

/// A repository as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// The directory of its vault.
    pub vault: String,
    /// The adapter that holds it: `fossology`, `systemd`, `command`, `http`, `none`.
    pub hold: String,
    /// Has it a database server?
    pub database: bool,
    /// The names of its trees.
    pub trees: Vec<String>,
    /// The schedule, if it has one.
    pub schedule: Option<Schedule>,
}

/// GET /v1/repositories/{name}/days, newest first
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Days {
    /// [`SCHEMA`]
    pub schema: u32,
    /// The repository.
    pub repository: String,
    /// Its days.
    pub days: Vec<Day>,
    /// What stands among the days and is not a good one.
    #[serde(default)]
    pub quarantined: Vec<Quarantined>,
}

/// A directory among the days that is not a good day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its name.
    pub name: String,
    /// Why, one sentence.
    pub reason: String,
}

/// A day in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Day {
    /// Its name.
    pub name: String,
    /// Counts up by one with every day.
    pub sequence: u64,
    /// The instant that it shows.
    pub freeze_point: Timestamp,
    /// When it was sealed.
    pub sealed: Timestamp,
    /// Does it begin a chain?
    pub base: bool,
    /// The base of its chain.
    pub base_day: String,
    /// Regular files in its trees.
    pub files: u64,
    /// Bytes of its trees and of its database files.
    pub bytes: u64,
    /// Bytes that it needed anew.
    pub new_bytes: u64,
    /// Seconds for which the repository stood still for it.
    pub held_seconds: f64,
}

impl From<&Manifest> for Day {
    fn from(manifest: &Manifest) -> Self {
        let trees = manifest.trees.values();
        let (stored, new) =
            manifest.database.as_ref().map_or((0, 0), |database| (database.stored_bytes, database.new_bytes));
        Self {
            name: manifest.day.clone(),
            sequence: manifest.sequence,
            freeze_point: manifest.freeze_point,
            sealed: manifest.sealed,
            base: manifest.base,
            base_day: manifest.base_day.clone(),
            files: trees.clone().map(|tree| tree.files).sum(),
            bytes: trees.clone().map(|tree| tree.bytes).sum::<u64>() + stored,
            new_bytes: trees.map(|tree| tree.copied_bytes).sum::<u64>() + new,
            held_seconds: manifest.hold.held_seconds,
        }
    }
}

/// GET /v1/repositories/{name}/days/{day}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneDay {
    /// [`SCHEMA`]
    pub schema: u32,
    /// What the day says of itself.
    pub manifest: Manifest,
}

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
