//! The guard: a small process that outlives its run and releases in its place.
//!
//! It has a session of its own, so that what ends the run's terminal or process group does not end it, and it ignores the
//! signals by which a service is asked to stop: the end of its pipe tells it all that it needs to know. It says `ready`
//! once, then listens ([`Word`]): `pausing` and `idle` start its clocks.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe;

use super::Error;
use super::lock::{Lock, Witness};
use super::record::{HoldRecord, Phase};
use super::rescue::{Reason, Rescue};
use super::word::Word;
use crate::clock::{Clock as _, SystemClock};
use crate::process::{self, Companion, Program};

/// How long a guard may take to become ready.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How long a guard may take to go when it is not needed any more.
const DISMISS_LIMIT: Duration = Duration::from_secs(5);
/// How long a guard without a run waits for another one: longer than that one ever sleeps between two tries.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(70);

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

    /// Which process it is, if it lives.
    pub(super) fn identity(&self) -> Option<process::Identity> {
        process::Identity::of(self.0.id()?).ok()?
    }

    pub(super) async fn tell(&mut self, word: &Word) -> Result<(), process::Error> {
        self.0.tell(&word.line()).await
    }

    /// The hold is over.
    pub(super) async fn dismiss(mut self) {
        // One that is gone already need not be told.
        let _ = self.tell(&Word::Over).await;
        self.0.dismiss(DISMISS_LIMIT).await;
    }

    /// The run is done with the hold and leaves its release to the guard; gives its process id. One that is killed before it is through
    /// gets a successor: in a daemon that lives on, nobody else would come before the next run.
    pub(super) fn leave(mut self, record: &HoldRecord, path: &Path) -> Option<i32> {
        // Where no runtime is left nothing can be started or waited for, and to try would panic.
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        if !self.0.is_running() {
            // Without one, the next start or `daykeep release` does it: the record is there.
            return start_detached(record, path).ok().flatten();
        }
        let pid = self.identity().map(|guard| guard.pid);
        // It may be dying at this moment.
        let (record, path) = (record.clone(), path.to_owned());
        runtime.spawn(async move {
            if !self.0.has_succeeded().await && is_left(&record, &path) {
                let _ = start_detached(&record, &path);
            }
        });
        pid
    }
}

/// Whether nobody has released a hold or begun another one since.
fn is_left(record: &HoldRecord, path: &Path) -> bool {
    let left = HoldRecord::read(path).ok().flatten();
    left.is_some_and(|left| left.token == record.token && left.is_pending())
}

/// Starts a guard for a hold whose run has ended: it releases at once, and goes on trying. Gives its process id.
///
/// # Errors
/// It cannot be started.
pub(super) fn start_detached(record: &HoldRecord, path: &Path) -> Result<Option<i32>, process::Error> {
    let started = Program::new([record.guard.as_os_str(), "guard".as_ref(), path.as_os_str()])
        .env(GUARDED, Some(record.token.clone().into()))
        .start_detached()?;
    Ok(started.and_then(|pid| pid.try_into().ok()))
}

/// The main function of `daykeep guard RECORD`: returns when there is nothing left to release.
///
/// # Errors
/// The record cannot be read. A release that fails is tried again for as long as it takes.
pub async fn guard(record: &Path) -> Result<(), Error> {
    // A group's leader (a guard started by hand from a shell) cannot have its own session, and needs none.
    let _ = nix::unistd::setsid();
    ignore_signals();
    let witness = Witness::of(record);
    let Some(mut seen) = HoldRecord::read(record)? else { return Ok(()) };
    let Some(mut lines) = run_pipe() else { return without_a_run(record, witness, seen).await };
    // A run that is gone already does not need the answer.
    let _ = writeln!(std::io::stdout(), "ready").and_then(|()| std::io::stdout().flush());
    if let Some(reason) = watch(&mut seen, &mut lines, &SystemClock::new()).await {
        Rescue::new(record, witness, seen, reason).until_done().await;
    }
    Ok(())
}

/// A failed try of somebody else starts such a guard where it knows of none: one of them is enough. Who waits outlives the longest sleep of who is
/// there, whose hold may be an older one.
async fn without_a_run(record: &Path, witness: Witness, seen: HoldRecord) -> Result<(), Error> {
    if !is_abandoned(&seen)? {
        return Ok(());
    }
    let _only_one = match Lock::take(&record.with_file_name("guard"), SUCCESSOR_PATIENCE).await {
        Err(Error::Locked { .. }) => return Ok(()),
        // A full disk must not keep anybody from releasing.
        other => other.ok(),
    };
    Rescue::new(record, witness, seen, Reason::RunEnded).until_done().await;
    Ok(())
}

/// Whether a guard without a run is to release this hold: it was started for it, or nobody uses it.
fn is_abandoned(seen: &HoldRecord) -> Result<bool, Error> {
    match std::env::var_os(GUARDED) {
        Some(token) => Ok(*token == *seen.token),
        None => Ok(!seen.is_in_use()?),
    }
}

/// Waits for the run's end, or for a limit to pass, and notes what it is told meanwhile. None: nothing is left to release.
async fn watch(
    memory: &mut HoldRecord,
    lines: &mut Lines<BufReader<pipe::Receiver>>,
    clock: &SystemClock,
) -> Option<Reason> {
    let mut limit: Option<(tokio::time::Instant, String)> = None;
    loop {
        let word = match &limit {
            None => next_word(lines).await,
            Some((until, why)) => match tokio::time::timeout_at(*until, next_word(lines)).await {
                Ok(word) => word,
                Err(_) => return Some(Reason::Limit(why.clone())),
            },
        };
        let now = tokio::time::Instant::now();
        match word {
            None => return Some(Reason::RunEnded),
            Some(Word::Over) => return None,
            Some(Word::Keep(reason)) => memory.keep = Some(reason),
            Some(Word::Releasing) => {
                memory.keep = None;
                memory.phase = Phase::Releasing { releasing_since: clock.now() };
            }
            Some(Word::Pausing) => {
                memory.phase = Phase::Pausing;
                let seconds = memory.pausing_limit.as_secs();
                let why = format!("the guard, when the repository had not become idle within {seconds}s");
                limit = now.checked_add(memory.pausing_limit).map(|until| (until, why));
            }
            Some(Word::Idle) => {
                memory.phase = Phase::Paused { idle_at: clock.now() };
                limit = memory.max.and_then(|max| {
                    let why = format!("the guard, when hold.max ({}s) had passed", max.as_secs_f64());
                    now.checked_add(max).map(|until| (until, why))
                });
            }
        }
    }
}

/// None: the run has ended, or dropped the hold.
async fn next_word(lines: &mut Lines<BufReader<pipe::Receiver>>) -> Option<Word> {
    loop {
        match lines.next_line().await {
            Ok(Some(line)) => {
                if let Some(word) = Word::of(&line) {
                    return Some(word);
                }
            }
            Ok(None) | Err(_) => return None,
        }
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
