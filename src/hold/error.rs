//! What can go wrong between the pause and the release.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::rescue::BACKOFF;
use crate::{fs, postgres, process};

/// The repository could not be held, or could not be released.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Work still went on when `drain` had passed and `on_busy` is `skip`.
    #[error("{repository} was still busy after {}s: {}{after}", drain.as_secs(), what.join("; "))]
    Busy {
        /// The repository.
        repository: String,
        /// How long was waited.
        drain: Duration,
        /// What was still going on.
        what: Vec<String>,
        /// What becomes of the repository now.
        after: String,
    },
    /// Work still went on although it was killed.
    #[error("{repository} is still busy although its agents were killed: {}", what.join("; "))]
    StillBusy {
        /// The repository.
        repository: String,
        /// What is still going on.
        what: Vec<String>,
    },
    /// A paused job would keep the scheduler from ever stopping.
    #[error(
        "job {} is paused while it runs, so the scheduler would never stop: restart it (send `restart {}` to the \
         scheduler's port) or kill it, then try again",
        jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        jobs.first().copied().unwrap_or_default()
    )]
    PausedJobs {
        /// Their `jq_pk`.
        jobs: Vec<i64>,
    },
    /// What is to be paused cannot be asked.
    #[error("cannot reach {what}, so it cannot be told whether it runs: {source}")]
    Unreachable {
        /// What: an address or a URL.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// What answered is not what was expected.
    #[error("{what} gave an answer that daykeep does not understand: {answer}")]
    Answer {
        /// Who answered.
        what: String,
        /// The answer, or its beginning.
        answer: String,
    },
    /// What was paused runs again, and it was not daykeep that started it.
    #[error("{what} was started while {repository} was held: the hold proves nothing")]
    StartedMeanwhile {
        /// The repository.
        repository: String,
        /// What.
        what: String,
    },
    /// The repository moved inside the hold.
    #[error("{repository} did not stay idle during the hold: {}", what.join("; "))]
    NotIdle {
        /// The repository.
        repository: String,
        /// What moved.
        what: Vec<String>,
    },
    /// The adapter proves idleness by asking the database, and none is configured.
    #[error("hold.{adapter} proves idleness by asking the database: add [repository.{repository}.database]")]
    NoServer {
        /// The adapter.
        adapter: &'static str,
        /// The repository.
        repository: String,
    },
    /// An earlier hold was never released.
    #[error(
        "an earlier hold of {repository} (run {run}, {since}) is not released yet: run `daykeep release {repository}`"
    )]
    Unreleased {
        /// The repository.
        repository: String,
        /// Its run.
        run: u64,
        /// Since when.
        since: Timestamp,
    },
    /// The directory of the record was replaced, and another run holds the repository from the new one.
    #[error("job {run} holds {repository} now, and is waited for")]
    HeldAnew {
        /// The repository.
        repository: String,
        /// The other job.
        run: u64,
    },
    /// A restore that is half way keeps it held.
    #[error("{repository} stays held since {since}: {reason}")]
    Kept {
        /// The repository.
        repository: String,
        /// Since when.
        since: Timestamp,
        /// What it waits for, and how that is ended.
        reason: String,
    },
    /// A living process holds it.
    #[error("{repository} is held by job {run} (process {pid}), which lives")]
    InUse {
        /// The repository.
        repository: String,
        /// Its job.
        run: u64,
        /// Its process.
        pid: i32,
    },
    /// The configuration has changed while a restore kept the repository held.
    #[error(
        "{repository} was paused by hold.{was}, and the configuration says hold.{now}: set it back for as long as the restore is not finished, or run `daykeep release {repository} --force`, which starts the repository as it is"
    )]
    OtherAdapter {
        /// The repository.
        repository: String,
        /// The adapter of the record.
        was: String,
        /// That of the configuration.
        now: &'static str,
    },
    /// A backup's hold cannot outlive its run.
    #[error("only the hold of a restore can outlive it")]
    NotForKeeps,
    /// Somebody is pausing or releasing at this moment.
    #[error("somebody else is pausing or releasing the repository right now (lock {})", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The hold ended before its run was done with it: the freeze is void.
    #[error(
        "the repository was released by {by} at {at}, before the run had finished its freeze: the freeze is void"
    )]
    ReleasedByGuard {
        /// Who: `the guard` with its reason, or a command.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Somebody else has begun to release it: the freeze is void.
    #[error(
        "somebody else began to release the repository at {at}, before the run had finished its freeze: the freeze is void"
    )]
    BeingReleased {
        /// Since when.
        at: Timestamp,
    },
    /// What somebody else has begun goes wrong.
    #[error("its guard or `daykeep release` began to release it at {at}, and fails: {error}")]
    BegunByOthers {
        /// When.
        at: Timestamp,
        /// What the last try said.
        error: String,
    },
    /// It could not be released: what was paused still is.
    #[error("{repository} is STILL PAUSED: {release}; {}", who_tries(repository, *guard, release))]
    StillPaused {
        /// The repository.
        repository: String,
        /// The process id of the guard that goes on trying; None: there is none, and none could be started.
        guard: Option<i32>,
        /// Why.
        release: Box<Error>,
    },
    /// It is released, and its record cannot be taken away or tell that.
    #[error("it is released, but its record stays, and whoever meets that releases once more: {source}")]
    RecordStays {
        /// Why.
        source: Box<Error>,
    },
    /// The guard did not come up.
    #[error("the guard {} did not become ready: nothing was paused", program.display())]
    GuardNotReady {
        /// The program that was started.
        program: PathBuf,
    },
    /// The guard died before the pause.
    #[error("the guard died before the pause, so nothing was paused: {source}")]
    GuardDied {
        /// What the system said.
        source: process::Error,
    },
    /// What was told to stop has not stopped yet, so it cannot be started.
    #[error("waiting until {what}, then the repository is started")]
    StillStopping {
        /// What must end first.
        what: String,
    },
    /// It was started and does not answer.
    #[error("{what} does not answer {}s after it was started", limit.as_secs())]
    DoesNotAnswer {
        /// What.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Both the hold and the release after it failed.
    #[error("{first}; {}", release.after_another())]
    AndRelease {
        /// What went wrong first.
        first: Box<Error>,
        /// What went wrong with the release.
        release: Box<Error>,
    },
    /// A record is not what this program writes.
    #[error("{} is not a hold record that this daykeep understands: {reason}", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A credential is not there.
    #[error(
        "the credential {name} is not available: run as the service that loads it, or set CREDENTIALS_DIRECTORY"
    )]
    Credential {
        /// Its name.
        name: String,
    },
    /// A request failed.
    #[error("{method} {url} failed: {reason}")]
    Http {
        /// The method.
        method: &'static str,
        /// The URL.
        url: String,
        /// What went wrong, without headers.
        reason: String,
        /// Nothing listens there.
        absent: bool,
    },
    /// A command failed.
    #[error("{doing}: {source}")]
    Command {
        /// What it was run for.
        doing: &'static str,
        /// How it failed.
        source: process::Error,
    },
    /// Processes cannot be signalled.
    #[error("cannot kill the agents' process group {group}: {source}")]
    Signal {
        /// The group.
        group: i32,
        /// What the system said.
        source: nix::Error,
    },
    /// The database cannot be asked.
    #[error("cannot ask the database whether the repository is idle: {source}")]
    Database {
        /// Why.
        source: Box<postgres::Error>,
    },
    /// The database keeps silent.
    #[error(
        "{what}, gave no answer within {}s: see in pg_stat_activity and pg_locks who has it locked",
        limit.as_secs()
    )]
    DatabaseSilent {
        /// Which, and what it was asked.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The run was cancelled.
    #[error("the run was cancelled while the repository was being paused")]
    Cancelled,
    /// Files.
    #[error("{0}: {cause}", cause = .0.source)]
    File(#[from] fs::Error),
    /// Processes.
    #[error(transparent)]
    Process(#[from] process::Error),
}

/// Who goes on trying, how often, and what a person can do meanwhile.
fn who_tries(repository: &str, guard: Option<i32>, release: &Error) -> String {
    let Some(pid) = guard else {
        return format!(
            "NOBODY goes on trying, for no guard could be started: run `daykeep release {repository}`"
        );
    };
    let how = if matches!(release, Error::StillStopping { .. }) {
        "does that as soon as it can be done".to_owned()
    } else {
        format!("goes on trying, {}", tries())
    };
    format!(
        "its guard (process {pid}) {how}; `daykeep status {repository}` shows whether it was released, \
         `daykeep release {repository}` tries at once"
    )
}

/// How often a guard tries.
#[must_use]
pub fn tries() -> String {
    let (first, last) = BACKOFF;
    format!("after {}s, then ever more rarely, every {}s in the end", first.as_secs(), last.as_secs())
}

impl Error {
    /// The sentence, as it goes on after that of a failure before it.
    #[must_use]
    pub fn after_another(&self) -> String {
        match self {
            Self::StillPaused { .. } | Self::ReleasedByGuard { .. } | Self::BeingReleased { .. } => {
                format!("and {self}")
            }
            _ => format!("and then the repository could not be released: {self}"),
        }
    }

    /// Whether a proof asked for a database that is not there at all.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Database { source } if source.is_absence())
    }
}
