//! How everything stands.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Job, Schedule};

/// GET /v1/status
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`](super::SCHEMA)
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
    /// Is it being paused, held, or waiting to be released after a crash?
    pub held: bool,
    /// The hold that is recorded; null also for one that found its scheduler stopped and paused nothing.
    #[serde(default)]
    pub hold: Option<Hold>,
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

/// A hold as its record tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The job that holds or held.
    pub job: u64,
    /// Since when.
    pub since: Timestamp,
    /// `pausing` (until it is proven idle), `paused` or `releasing`.
    pub phase: String,
    /// How often a release has failed.
    pub attempts: u32,
    /// What the last failed release said, or what is waited for.
    pub error: Option<String>,
    /// The process id of its guard, if that lives: it goes on trying.
    pub guard: Option<i32>,
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
