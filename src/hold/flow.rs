//! From the pause to the release, as a run sees it.

use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::adapter::{Adapter, Before, Proof, adapter_of};
use super::guard::{Guard, start_detached};
use super::leftover::perform;
use super::live::Live;
use super::plan::ReleasePlan;
use super::record::{HoldRecord, Lock, Phase, path_of};
use super::{Error, Request};
use crate::clock::Clock;
use crate::config::OnBusy;
use crate::event::{Context, Event, Notices as _};
use crate::manifest::{HoldEvidence, Released, Still};
use crate::{fs, process};

/// How long a lock that another one has is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How often idleness is looked for, at first and at most.
const PROVE_EVERY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long killed agents may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(15);

/// The repository is paused and was proven idle. Dropping it leaves the release to the guard.
pub struct Held {
    repository: String,
    adapter: Box<dyn Adapter>,
    evidence: HoldEvidence,
    idle_since: Duration,
    paused_since: Duration,
    max: Duration,
    context: Context,
    ours: Option<Ours>,
}

/// What only a hold that pauses has.
struct Ours {
    guard: Guard,
    record: HoldRecord,
    path: PathBuf,
    _live: Live,
    /// The record is gone.
    over: bool,
}

/// The repository has been released.
#[derive(Debug, Clone)]
pub struct ReleasedHold {
    evidence: HoldEvidence,
}

impl ReleasedHold {
    /// The hold as it went, from the pause to the release.
    #[must_use]
    pub fn evidence(&self) -> &HoldEvidence {
        &self.evidence
    }
}

impl Still for Held {}
impl Released for ReleasedHold {}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("evidence", &self.evidence).finish_non_exhaustive()
    }
}

/// Pauses the repository and proves that it is idle, or leaves it as it was.
///
/// Tells [`Event::Held`] when it is.
///
/// # Errors
/// [`Error::Busy`] when work still goes on after `drain` and `on_busy` is `skip`: the run is to be marked skipped. Any other
/// error fails the run. Whatever was paused has been released, or its guard does it as soon as it can be done, which
/// the error says.
pub async fn pause(request: Request<'_>, context: &Context) -> Result<Held, Error> {
    let path = path_of(request.state_dir, request.repository);
    fs::create_dir_durable(fs::parent_of(&path))?;
    let lock = Lock::take(&path, LOCK_PATIENCE).await?;
    if let Some(left) = HoldRecord::read(&path)? {
        if left.is_pending() {
            return Err(Error::Unreleased { repository: left.repository, run: left.run, since: left.since });
        }
        fs::remove_file_durable(&path)?;
    }
    let token = token(request.run)?;
    let mut adapter = adapter_of(&request, &token)?;
    let before = cancellable(context, adapter.look()).await?;
    let paused_since = context.clock.monotonic();
    let evidence = HoldEvidence {
        adapter: adapter.name().to_owned(),
        paused_by_us: false,
        paused_at: context.clock.now(),
        idle_at: context.clock.now(),
        released_at: None,
        held_seconds: 0.0,
        proofs: Vec::new(),
    };
    let mut held = Held {
        repository: request.repository.to_owned(),
        adapter,
        evidence,
        idle_since: paused_since,
        paused_since,
        max: request.hold.max,
        context: context.clone(),
        ours: None,
    };
    match before {
        Before::Stopped(why) => held.evidence.proofs.push(format!("{why}; nothing was paused")),
        Before::Running(ReleasePlan::Nothing) => {}
        Before::Running(plan) => {
            let record = record_of(&request, &held, token, plan)?;
            held.ours = Some(Ours::begin(record, path, &request).await?);
        }
    }
    held.stop(lock, &request).await
}

impl Ours {
    /// Record and guard, before anything is paused.
    async fn begin(record: HoldRecord, path: PathBuf, request: &Request<'_>) -> Result<Self, Error> {
        let live = Live::new(&record.token);
        record.write(&path)?;
        match Guard::start(request.guard, &path).await {
            Ok(guard) => Ok(Self { guard, record, path, _live: live, over: false }),
            Err(error) => {
                fs::remove_file_durable(&path)?;
                Err(error)
            }
        }
    }

    /// Step 4. When it fails nothing was paused, and nothing is to be released: FOSSology's release would stop what runs.
    async fn announce_pause(&mut self) -> Result<(), Error> {
        self.record.phase = Phase::Pausing;
        let announced = match self.record.write(&self.path) {
            Ok(()) => self.guard.tell("pausing").await.map_err(|source| Error::GuardDied { source }),
            Err(error) => Err(error),
        };
        if announced.is_err() {
            self.record.phase = Phase::Intent;
        }
        announced
    }

    /// Another guard, in the place of one that was killed.
    async fn replace_guard(&mut self, request: &Request<'_>) -> Result<(), Error> {
        let mut guard = Guard::start(request.guard, &self.path).await?;
        guard.tell("idle").await.map_err(|source| Error::GuardDied { source })?;
        self.guard = guard;
        Ok(())
    }

    /// What the record says now, if it is still this hold's and nobody else has released it.
    fn still_ours(&self) -> Result<(), Error> {
        match HoldRecord::read(&self.path)? {
            Some(record) if record.token == self.record.token => match record.phase {
                Phase::Released { by, at } => Err(Error::ReleasedByGuard { by, at }),
                Phase::Releasing { releasing_since: since } => {
                    Err(Error::ReleasedByGuard { by: "somebody else".to_owned(), at: since })
                }
                _ => Ok(()),
            },
            _ => Err(Error::ReleasedByGuard { by: "somebody else".to_owned(), at: self.record.since }),
        }
    }
}

impl Held {
    /// Steps 4 to 6 of the crash argument.
    async fn stop(mut self, lock: Lock, request: &Request<'_>) -> Result<Self, Error> {
        let paused = self.ask_for_pause().await;
        drop(lock);
        let outcome = match paused {
            Ok(()) => self.drain(request).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                self.context.observer.observe(&Event::Held);
                Ok(self)
            }
            Err(error) => Err(self.undo(error).await),
        }
    }

    async fn ask_for_pause(&mut self) -> Result<(), Error> {
        if let Some(ours) = &mut self.ours {
            ours.announce_pause().await?;
            self.evidence.paused_by_us = true;
            self.evidence.paused_at = self.context.clock.now();
            self.paused_since = self.context.clock.monotonic();
            self.adapter.pause().await?;
        }
        Ok(())
    }

    /// Waits until idleness is proven, kills what is busy for too long if that is wanted, and notes it.
    async fn drain(&mut self, request: &Request<'_>) -> Result<(), Error> {
        let proofs = match self.prove_within(request.hold.drain).await? {
            Proof::Idle(proofs) => proofs,
            Proof::Busy(what) => match request.hold.on_busy {
                OnBusy::Skip => {
                    return Err(Error::Busy {
                        repository: request.repository.to_owned(),
                        drain: request.hold.drain,
                        what,
                        after: String::new(),
                    });
                }
                OnBusy::Kill => self.kill(request, &what).await?,
            },
        };
        self.evidence.proofs.extend(proofs);
        self.note_idle(request).await
    }

    async fn kill(&mut self, request: &Request<'_>, what: &[String]) -> Result<Vec<String>, Error> {
        let sentence = format!("killed after {}s: {}", request.hold.drain.as_secs(), what.join("; "));
        self.context.observer.warn(format!("{}: {sentence}", request.repository));
        self.evidence.proofs.push(sentence);
        self.kill_what_is_held().await?;
        match self.prove_within(KILL_PATIENCE).await? {
            Proof::Idle(proofs) => Ok(proofs),
            Proof::Busy(what) => Err(Error::StillBusy { repository: request.repository.to_owned(), what }),
        }
    }

    /// With the lock: nobody may release meanwhile, for what was released must not be killed.
    async fn kill_what_is_held(&mut self) -> Result<(), Error> {
        let _lock = match &self.ours {
            Some(ours) => {
                let lock = Lock::take(&ours.path, LOCK_PATIENCE).await?;
                ours.still_ours()?;
                Some(lock)
            }
            None => None,
        };
        self.adapter.kill().await
    }

    async fn prove_within(&mut self, limit: Duration) -> Result<Proof, Error> {
        let context = self.context.clone();
        let until = tokio::time::Instant::now() + limit;
        let mut pause = PROVE_EVERY.0;
        loop {
            if let Some(ours) = &self.ours {
                ours.still_ours()?;
            }
            let proof = cancellable(&context, self.adapter.prove()).await?;
            if matches!(proof, Proof::Idle(_)) || tokio::time::Instant::now() >= until {
                return Ok(proof);
            }
            let wait = async {
                tokio::time::sleep_until(until.min(tokio::time::Instant::now() + pause)).await;
                Ok(())
            };
            cancellable(&context, wait).await?;
            pause = (pause * 2).min(PROVE_EVERY.1);
        }
    }

    /// Step 6: the record says that the repository is idle, and the guard counts `hold.max` from now.
    async fn note_idle(&mut self, request: &Request<'_>) -> Result<(), Error> {
        self.idle_since = self.context.clock.monotonic();
        self.evidence.idle_at = self.context.clock.now();
        let Some(ours) = &mut self.ours else { return Ok(()) };
        let _lock = Lock::take(&ours.path, LOCK_PATIENCE).await?;
        ours.still_ours()?;
        ours.record.phase = Phase::Paused { idle_at: self.evidence.idle_at };
        ours.record.deadline = later(self.evidence.idle_at, self.max);
        ours.record.write(&ours.path)?;
        if ours.guard.tell("idle").await.is_err() && ours.replace_guard(request).await.is_err() {
            let sentence = "the guard of the hold is gone: if this run is killed now, only `daykeep release` or the next start \
                            releases the repository";
            self.context.observer.warn(sentence);
        }
        Ok(())
    }

    /// The hold failed: what was paused is released, by the guard if it takes long.
    async fn undo(mut self, first: Error) -> Error {
        let Some(mut ours) = self.ours.take() else { return first };
        let after = match ours.release(&self.context).await {
            Ok(()) => {
                ours.guard.dismiss().await;
                self.tell_released();
                return first;
            }
            Err(waiting @ Error::StillStopping { .. }) => waiting,
            Err(gone @ Error::ReleasedByGuard { .. }) if matches!(first, Error::ReleasedByGuard { .. }) => {
                return gone;
            }
            Err(release) => {
                return Error::AndRelease { first: Box::new(first), release: Box::new(release) };
            }
        };
        // Dropping `ours` ends the guard's pipe: it completes the release as soon as that is possible.
        match first {
            Error::Busy { repository, drain, what, .. } => {
                Error::Busy { repository, drain, what, after: format!("; its guard is {after}") }
            }
            first => Error::AndRelease { first: Box::new(first), release: Box::new(after) },
        }
    }

    fn tell_released(&self) {
        let now = self.context.clock.monotonic();
        self.context.observer.observe(&Event::Released {
            held_seconds: now.saturating_sub(self.idle_since).as_secs_f64(),
            paused_seconds: now.saturating_sub(self.paused_since).as_secs_f64(),
        });
    }

    /// The hold so far.
    #[must_use]
    pub fn evidence(&self) -> &HoldEvidence {
        &self.evidence
    }

    /// How much of `hold.max` is left.
    #[must_use]
    pub fn remaining(&self, clock: &dyn Clock) -> Duration {
        self.max.saturating_sub(clock.monotonic().saturating_sub(self.idle_since))
    }

    /// Returns when `hold.max` has passed.
    pub async fn expired(&self) {
        loop {
            let left = self.remaining(self.context.clock.as_ref());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(Duration::from_secs(1))).await;
        }
    }

    /// Proves once more, at the end of the freeze, that the repository stands still.
    ///
    /// # Errors
    /// It moved, or somebody has released it: the freeze is void.
    pub async fn still_idle(&mut self) -> Result<(), Error> {
        if let Some(ours) = &self.ours {
            ours.still_ours()?;
        }
        match self.adapter.prove().await? {
            Proof::Idle(proofs) => {
                let again = proofs.into_iter().map(|proof| format!("at the end of the freeze: {proof}"));
                self.evidence.proofs.extend(again);
                Ok(())
            }
            Proof::Busy(what) => Err(Error::NotIdle { repository: self.repository.clone(), what }),
        }
    }

    /// Releases the repository. Tells [`Event::Released`].
    ///
    /// # Errors
    /// [`Error::ReleasedByGuard`]: somebody else has done it before, so the freeze is void. Any other: it could not be released; the
    /// record is kept, and the guard keeps trying.
    pub async fn release(mut self) -> Result<ReleasedHold, Error> {
        if let Some(mut ours) = self.ours.take() {
            ours.release(&self.context).await?;
            ours.guard.dismiss().await;
        }
        self.tell_released();
        let now = self.context.clock.monotonic();
        self.evidence.released_at = Some(self.context.clock.now());
        self.evidence.held_seconds = now.saturating_sub(self.idle_since).as_secs_f64();
        Ok(ReleasedHold { evidence: self.evidence.clone() })
    }
}

impl Ours {
    /// Step 8. The guard sees the record's end, or its pipe's, and goes.
    async fn release(&mut self, context: &Context) -> Result<(), Error> {
        let _lock = Lock::take(&self.path, self.record.release.limit() + LOCK_PATIENCE).await?;
        if let Err(gone) = self.still_ours() {
            // The record of a release by somebody else has told what it was kept for.
            self.forget_released()?;
            return Err(gone);
        }
        perform(&self.path, &mut self.record, context.clock.now()).await?;
        self.over = true;
        Ok(())
    }

    fn forget_released(&self) -> Result<(), Error> {
        match HoldRecord::read(&self.path)? {
            Some(record) if record.token == self.record.token && !record.is_pending() => {
                Ok(fs::remove_file_durable(&self.path)?)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Ours {
    /// The guard releases now, from the end of its pipe. One that was killed gets a successor: in a daemon that lives on, nobody else would
    /// come before the next run.
    fn drop(&mut self) {
        // Where no runtime is left nothing can be started, and to try would panic.
        let may_start = tokio::runtime::Handle::try_current().is_ok();
        if !self.over && may_start && !self.guard.is_running() {
            // Without one, the next start or `daykeep release` does it: the record is there.
            let _ = start_detached(&self.record, &self.path);
        }
    }
}

fn record_of(
    request: &Request<'_>,
    held: &Held,
    token: String,
    release: ReleasePlan,
) -> Result<HoldRecord, Error> {
    let pausing_limit = request.hold.drain + KILL_PATIENCE + held.adapter.pause_limit() * 2 + LOCK_PATIENCE;
    let since = held.evidence.paused_at;
    Ok(HoldRecord {
        format: HoldRecord::format(),
        repository: request.repository.to_owned(),
        run: request.run,
        token,
        adapter: held.adapter.name().to_owned(),
        phase: Phase::Intent,
        since,
        holder: process::Identity::own()?,
        guard: request.guard.to_owned(),
        pausing_limit,
        max: request.hold.max,
        deadline: later(since, pausing_limit + request.hold.max),
        release,
        attempts: 0,
        last_error: None,
    })
}

/// Unlike that of any other hold: which process, on which boot, and a number of its own.
fn token(run: u64) -> Result<String, Error> {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let own = process::Identity::own()?;
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Ok(format!("{}-{}-{}-{run}-{count}", own.boot, own.pid, own.started))
}

fn later(from: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| from.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

async fn cancellable<T>(
    context: &Context,
    work: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(Error::Cancelled),
        done = work => done,
    }
}
