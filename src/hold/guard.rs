//! The guard: a small process that outlives its run and releases in its place.
//!
//! It has a session of its own, so that what ends the run's terminal or process group does not end it, and it ignores the
//! signals by which a service is asked to stop: the end of its pipe tells it all that it needs to know. It says `ready`
//! once, then listens: `pausing` and `idle` start its clocks.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe;

use super::Error;
use super::leftover::{perform, release_for};
use super::lock::Lock;
use super::record::HoldRecord;
use crate::clock::{Clock as _, SystemClock};
use crate::process::{self, Companion, Program};

/// How long a guard may take to become ready.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How long a guard may take to go when it is not needed any more.
const DISMISS_LIMIT: Duration = Duration::from_secs(5);
/// How long somebody else who is releasing, or a run that hangs with the lock, is waited for beyond what its step may take.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// The waits between releases that fail: from this, doubling, to that.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The wait for what has been told to stop.
const STOPPING_POLL: Duration = Duration::from_millis(500);

/// Tells a guard without a run which hold it was started for: by then another one may stand at the same place.
const GUARDED: &str = "DAYKEEP_GUARDED_HOLD";

/// The run's end of the guard.
#[derive(Debug)]
pub(super) struct Guard(Companion);

impl Guard {
    /// Starts `program guard RECORD` and waits until it is ready.
    pub(super) async fn start(program: &Path, record: &Path) -> Result<Self, Error> {
        let not_ready = || Error::GuardNotReady { program: program.to_owned() };
        let mut companion = Program::new([program.as_os_str(), "guard".as_ref(), record.as_os_str()])
            .start_companion()
            .map_err(|source| Error::Command {
                doing: "cannot start the guard, so nothing was paused",
                source,
            })?;
        match tokio::time::timeout(READY_LIMIT, companion.line()).await {
            Ok(Ok(Some(line))) if line == "ready" => Ok(Self(companion)),
            _ => Err(not_ready()),
        }
    }

    pub(super) async fn tell(&mut self, word: &str) -> Result<(), process::Error> {
        self.0.tell(word).await
    }

    /// The hold is over.
    pub(super) async fn dismiss(&mut self) {
        self.0.dismiss(DISMISS_LIMIT).await;
    }

    /// Whether it still runs.
    pub(super) fn is_running(&mut self) -> bool {
        self.0.is_running()
    }
}

/// Starts a guard for a hold whose run has ended: it releases at once, and goes on trying.
///
/// # Errors
/// It cannot be started.
pub(super) fn start_detached(record: &HoldRecord, path: &Path) -> Result<(), process::Error> {
    Program::new([record.guard.as_os_str(), "guard".as_ref(), path.as_os_str()])
        .env(GUARDED, Some(record.token.clone().into()))
        .start_detached()
}

/// What a run's pipe tells its guard.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Pausing,
    Idle,
    End,
}

/// The main function of `daykeep guard RECORD`: returns when there is nothing left to release.
///
/// # Errors
/// The record cannot be read. A release that fails is tried again for as long as it takes.
pub async fn guard(record: &Path) -> Result<(), Error> {
    // A group's leader (a guard started by hand from a shell) cannot have its own session, and needs none.
    let _ = nix::unistd::setsid();
    ignore_signals();
    let Some(seen) = HoldRecord::read(record)? else { return Ok(()) };
    let Some(mut lines) = run_pipe() else { return without_a_run(record, &seen).await };
    // A run that is gone already does not need the answer.
    let _ = writeln!(std::io::stdout(), "ready").and_then(|()| std::io::stdout().flush());
    let reason = watch(&seen, &mut lines).await;
    release_until_done(record, &seen, &reason).await
}

/// Every failed try of somebody else starts such a guard: one of them is enough. Who waits outlives the longest sleep of who is
/// there, whose hold may be an older one.
async fn without_a_run(record: &Path, seen: &HoldRecord) -> Result<(), Error> {
    if !is_abandoned(seen)? {
        return Ok(());
    }
    let _only_one = match Lock::take(&record.with_file_name("guard"), BACKOFF.1 + LOCK_PATIENCE).await {
        Err(Error::Locked { .. }) => return Ok(()),
        // A full disk must not keep anybody from releasing.
        other => other.ok(),
    };
    release_until_done(record, seen, &Reason::RunEnded).await
}

/// Whether a guard without a run is to release this hold: it was started for it, or nobody uses it.
fn is_abandoned(seen: &HoldRecord) -> Result<bool, Error> {
    match std::env::var_os(GUARDED) {
        Some(token) => Ok(*token == *seen.token),
        None => Ok(!seen.is_in_use()?),
    }
}

/// Why the guard releases.
#[derive(Debug, Clone)]
enum Reason {
    /// The run has ended or dropped the hold: nobody is left who must learn of the release.
    RunEnded,
    /// A limit has passed, as the sentence tells, and the run may go on some day.
    Limit(String),
}

impl Reason {
    fn text(&self) -> &str {
        match self {
            Self::RunEnded => "the guard, when the run had ended",
            Self::Limit(text) => text,
        }
    }
}

/// Waits for the run's end, or for a limit to pass; tells which.
async fn watch(record: &HoldRecord, lines: &mut Lines<BufReader<pipe::Receiver>>) -> Reason {
    let mut limit: Option<(tokio::time::Instant, String)> = None;
    loop {
        let word = match &limit {
            None => next_word(lines).await,
            Some((until, why)) => match tokio::time::timeout_at(*until, next_word(lines)).await {
                Ok(word) => word,
                Err(_) => return Reason::Limit(why.clone()),
            },
        };
        let now = tokio::time::Instant::now();
        limit = match word {
            Word::End => return Reason::RunEnded,
            Word::Pausing => {
                let seconds = record.pausing_limit.as_secs();
                let why = format!("the guard, when the repository had not become idle within {seconds}s");
                now.checked_add(record.pausing_limit).map(|until| (until, why))
            }
            Word::Idle => record.max.and_then(|max| {
                let why = format!("the guard, when hold.max ({}s) had passed", max.as_secs_f64());
                now.checked_add(max).map(|until| (until, why))
            }),
        };
    }
}

async fn next_word(lines: &mut Lines<BufReader<pipe::Receiver>>) -> Word {
    loop {
        match lines.next_line().await {
            Ok(Some(line)) if line == "pausing" => return Word::Pausing,
            Ok(Some(line)) if line == "idle" => return Word::Idle,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Word::End,
        }
    }
}

/// Tries until the record is gone, released, or another hold's.
async fn release_until_done(path: &Path, seen: &HoldRecord, reason: &Reason) -> Result<(), Error> {
    let clock = SystemClock::new();
    let mut backoff = BACKOFF.0;
    let mut told = String::new();
    loop {
        match try_release(path, seen, reason, &clock).await {
            Ok(Done::NothingLeft) => return Ok(()),
            Ok(Done::Released) => {
                say(seen, &format!("released by {}", reason.text()));
                return Ok(());
            }
            Err(Error::StillStopping { what }) => {
                if what != told {
                    say(seen, &format!("waiting until {what}"));
                    told = what;
                }
                tokio::time::sleep(STOPPING_POLL).await;
            }
            Err(error) => {
                say(seen, &format!("cannot be released, trying again in {}s: {error}", backoff.as_secs()));
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF.1);
            }
        }
    }
}

enum Done {
    Released,
    NothingLeft,
}

async fn try_release(
    path: &Path,
    seen: &HoldRecord,
    reason: &Reason,
    clock: &SystemClock,
) -> Result<Done, Error> {
    let _lock = match Lock::take(path, seen.release.limit() + LOCK_PATIENCE).await {
        Err(locked @ Error::Locked { .. }) => match Lock::owner(path)? {
            Some(owner) if owner != process::Identity::own()? => {
                say(seen, &format!("process {} hangs with the hold's lock: killing it", owner.pid));
                process::kill(&owner)?;
                Lock::take(path, LOCK_PATIENCE).await?
            }
            _ => return Err(locked),
        },
        other => other?,
    };
    match HoldRecord::read(path)? {
        Some(HoldRecord { token, keep: Some(reason), .. }) if token == seen.token => {
            say(seen, &format!("stays held: {reason}"));
            Ok(Done::NothingLeft)
        }
        Some(mut record) if record.token == seen.token && record.is_pending() => {
            match reason {
                Reason::RunEnded => perform(path, &mut record, clock.now()).await?,
                Reason::Limit(by) => release_for(path, &mut record, by, clock.now()).await?,
            }
            Ok(Done::Released)
        }
        _ => Ok(Done::NothingLeft),
    }
}

/// The pipe from the run, if stdin is one.
fn run_pipe() -> Option<Lines<BufReader<pipe::Receiver>>> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    let receiver = pipe::Receiver::from_owned_fd(stdin).ok()?;
    Some(BufReader::new(receiver).lines())
}

fn ignore_signals() {
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        // A signal that cannot be caught ends the guard as it would have without this.
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
}

/// One line on stderr, which is the journal under systemd; nobody may be reading any more.
fn say(record: &HoldRecord, text: &str) {
    let _ = writeln!(std::io::stderr(), "daykeep guard: {} (run {}): {text}", record.repository, record.run);
}
