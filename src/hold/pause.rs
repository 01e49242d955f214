//! From the look to proven idle: how a run comes to hold a repository.

use std::path::PathBuf;
use std::time::Duration;

use super::adapter::{Before, Proof, adapter_of};
use super::held::Held;
use super::lock::Lock;
use super::ours::{LOCK_PATIENCE, Ours, later, token};
use super::plan::ReleasePlan;
use super::record::{HoldRecord, Phase, path_of};
use super::{Error, Purpose, Request};
use crate::config::OnBusy;
use crate::event::{Context, Event, Notices as _};
use crate::manifest::HoldEvidence;
use crate::{fs, process};

/// How often idleness is looked for, at first and at most.
const PROVE_EVERY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long killed agents may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(15);

/// Pauses the repository and proves that it is idle, or leaves it as it was.
///
/// Tells [`Event::Held`] when it is. What was found stopped is not paused, and [`Held::release`] does not start it.
///
/// # Errors
/// [`Error::Busy`] when work still goes on after `drain` and `on_busy` is `skip`: the run is to be marked skipped.
/// [`Error::Kept`] when a restore is half way. Any other error fails the run. Whatever was paused has been released, or its guard does it
/// as soon as it can be done, which the error says.
pub async fn pause(request: Request<'_>, context: &Context) -> Result<Held, Error> {
    let (path, lock) = enter(&request).await?;
    match HoldRecord::read(&path)? {
        Some(left) if left.is_pending() => return Err(unreleased(left)),
        Some(_) => fs::remove_file_durable(&path)?,
        None => {}
    }
    begin(request, path, lock, None, context).await
}

/// Takes over what a restore that was killed has kept held: its release becomes this run's, idleness is proven again, and it stays kept
/// ([`Held::keep`]). What somebody has started meanwhile is paused again. If nothing is kept (somebody released it by force), the
/// repository is paused anew, and is not kept.
///
/// # Errors
/// [`Error::InUse`] when its run lives, [`Error::OtherAdapter`] when the configuration has another adapter now, and all
/// that [`pause`] fails with. A hold that was kept is kept after an error, too.
pub async fn resume(request: Request<'_>, context: &Context) -> Result<Held, Error> {
    let (path, lock) = enter(&request).await?;
    let older = match HoldRecord::read(&path)? {
        Some(left) if left.is_in_use()? => {
            return Err(Error::InUse { repository: left.repository, run: left.run, pid: left.holder.pid });
        }
        Some(left) if left.is_pending() && left.keep.is_some() => Some(left),
        Some(left) if left.is_pending() => return Err(unreleased(left)),
        Some(_) => {
            fs::remove_file_durable(&path)?;
            None
        }
        None => None,
    };
    begin(request, path, lock, older, context).await
}

async fn enter(request: &Request<'_>) -> Result<(PathBuf, Lock), Error> {
    let path = path_of(request.state_dir, request.repository);
    fs::create_dir_durable(fs::parent_of(&path))?;
    let lock = Lock::take(&path, LOCK_PATIENCE).await?;
    Ok((path, lock))
}

fn unreleased(left: HoldRecord) -> Error {
    let HoldRecord { repository, run, since, keep, .. } = left;
    match keep {
        Some(reason) => Error::Kept { repository, since, reason },
        None => Error::Unreleased { repository, run, since },
    }
}

/// Steps 1 to 6 of the crash argument, with the lock held.
async fn begin(
    request: Request<'_>,
    path: PathBuf,
    lock: Lock,
    older: Option<HoldRecord>,
    context: &Context,
) -> Result<Held, Error> {
    let token = token(request.run)?;
    let mut adapter = adapter_of(&request, &token)?;
    if let Some(older) = older.as_ref().filter(|older| older.adapter != adapter.name()) {
        let (repository, was) = (older.repository.clone(), older.adapter.clone());
        return Err(Error::OtherAdapter { repository, was, now: adapter.name() });
    }
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
        idle_since: None,
        paused_since,
        max: request.purpose.is_limited().then_some(request.hold.max),
        context: context.clone(),
        pauses: false,
        stays_stopped: false,
        start: ReleasePlan::Nothing,
        ours: None,
    };
    let plan = held.meet(before, older.as_ref());
    if plan != ReleasePlan::Nothing || request.purpose == Purpose::Restore {
        let record = held.record(&request, token, plan, older)?;
        held.ours = Some(Ours::begin(record, path, &request).await?);
    }
    held.stop(lock, &request).await
}

impl Held {
    /// Notes what was found, and tells how it is to be released.
    fn meet(&mut self, before: Before, older: Option<&HoldRecord>) -> ReleasePlan {
        let left = older.map_or(ReleasePlan::Nothing, |older| older.release.clone());
        let since = older.map(|older| format!("paused since {} for job {}", older.since, older.run));
        match (before, since) {
            (Before::Stopped { why, start }, since) => {
                let taken = since.filter(|_| left != ReleasePlan::Nothing);
                self.evidence.paused_by_us = taken.is_some();
                self.stays_stopped = taken.is_none();
                let paused = taken.unwrap_or_else(|| "nothing was paused".to_owned());
                self.evidence.proofs.push(format!("{why}; {paused}"));
                self.start = start;
                left
            }
            (Before::Running(ReleasePlan::Nothing), _) => left,
            (Before::Running(plan), since) => {
                if since.is_some() {
                    let sentence = "it was started while the restore was half way, and is paused again";
                    self.context.observer.warn(format!("{}: {sentence}", self.repository));
                    self.evidence.proofs.push(sentence.to_owned());
                }
                self.pauses = true;
                plan.after(left)
            }
            (Before::Presumed(plan), since) => {
                // It stays paused by the first pause; a second one makes sure, and is no reason to alarm anybody.
                self.evidence.proofs.extend(since.map(|since| format!("{since}, and paused once more")));
                self.pauses = true;
                plan.after(left)
            }
        }
    }

    fn record(
        &self,
        request: &Request<'_>,
        token: String,
        release: ReleasePlan,
        older: Option<HoldRecord>,
    ) -> Result<HoldRecord, Error> {
        let pausing_limit =
            request.hold.drain + KILL_PATIENCE + self.adapter.pause_limit() * 2 + LOCK_PATIENCE;
        let now = self.evidence.paused_at;
        let (phase, since, keep) = match older {
            Some(older) => (older.phase, older.since, older.keep),
            None => (Phase::Intent, now, None),
        };
        Ok(HoldRecord {
            format: HoldRecord::format(),
            repository: request.repository.to_owned(),
            run: request.run,
            token,
            adapter: self.adapter.name().to_owned(),
            phase,
            since,
            holder: process::Identity::own()?,
            guard: request.guard.to_owned(),
            guarded_by: None,
            pausing_limit,
            max: self.max,
            deadline: self.max.map(|max| later(now, pausing_limit + max)),
            keep,
            left: false,
            release,
            attempts: 0,
            last_error: None,
        })
    }

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
        }
        if self.pauses {
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
        self.note_idle().await
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
    async fn note_idle(&mut self) -> Result<(), Error> {
        self.idle_since = Some(self.context.clock.monotonic());
        self.evidence.idle_at = self.context.clock.now();
        let Some(ours) = &mut self.ours else { return Ok(()) };
        if !ours.note_idle(self.evidence.idle_at).await? {
            let sentence = "the guard of the hold is gone: if this run is killed now, only `daykeep release` or the next start \
                            releases the repository";
            self.context.observer.warn(sentence);
        }
        Ok(())
    }

    /// The hold failed: what was paused is released, by the guard if it takes long, unless it is kept.
    async fn undo(mut self, first: Error) -> Error {
        let Some(mut ours) = self.ours.take() else { return first };
        if ours.record.keep.is_some() {
            return kept_after(first);
        }
        let release = match ours.release(&self.context).await {
            Ok(()) => {
                ours.dismiss_guard().await;
                self.tell_released();
                return first;
            }
            Err(error) => error,
        };
        let is_gone =
            |error: &Error| matches!(error, Error::ReleasedByGuard { .. } | Error::BeingReleased { .. });
        match (first, release) {
            (first, gone) if is_gone(&first) && is_gone(&gone) => gone,
            (Error::Busy { repository, drain, what, .. }, Error::StillPaused { release, .. })
                if matches!(*release, Error::StillStopping { .. }) =>
            {
                Error::Busy { repository, drain, what, after: format!("; its guard is {release}") }
            }
            (first, release) => Error::AndRelease { first: Box::new(first), release: Box::new(release) },
        }
    }
}

/// What goes wrong with a hold that is kept leaves it as it is.
fn kept_after(first: Error) -> Error {
    match first {
        Error::Busy { repository, drain, what, .. } => {
            Error::Busy { repository, drain, what, after: "; it stays held".to_owned() }
        }
        first => first,
    }
}

pub(super) async fn cancellable<T>(
    context: &Context,
    work: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(Error::Cancelled),
        done = work => done,
    }
}
