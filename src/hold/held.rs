//! The hold as a run has it, from proven idle to the release.

use std::time::Duration;

use super::Error;
use super::adapter::{Adapter, Proof};
use super::ours::Ours;
use super::plan::ReleasePlan;
use crate::clock::Clock;
use crate::event::{Context, Event};
use crate::manifest::{HoldEvidence, Released, Still};

/// The repository is paused and was proven idle. Dropping it leaves the release to the guard.
pub struct Held {
    pub(super) repository: String,
    pub(super) adapter: Box<dyn Adapter>,
    pub(super) evidence: HoldEvidence,
    /// None: idleness was not proven yet.
    pub(super) idle_since: Option<Duration>,
    pub(super) paused_since: Duration,
    pub(super) max: Option<Duration>,
    pub(super) context: Context,
    /// It runs, and has to be paused.
    pub(super) pauses: bool,
    /// It does not run when this hold is over: it was found stopped.
    pub(super) stays_stopped: bool,
    /// How it would be started although it was found stopped.
    pub(super) start: ReleasePlan,
    /// None: nothing has to be released.
    pub(super) ours: Option<Ours>,
}

/// The repository has been released.
#[derive(Debug, Clone)]
pub struct ReleasedHold {
    evidence: HoldEvidence,
    runs: bool,
}

impl ReleasedHold {
    /// The hold as it went, from the pause to the release.
    #[must_use]
    pub fn evidence(&self) -> &HoldEvidence {
        &self.evidence
    }

    /// Whether the repository runs now, as far as the hold can tell; false when it was found stopped, or was to stay so.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.runs
    }
}

impl Still for Held {}
impl Released for ReleasedHold {}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("evidence", &self.evidence).finish_non_exhaustive()
    }
}

impl Held {
    /// The hold so far.
    #[must_use]
    pub fn evidence(&self) -> &HoldEvidence {
        &self.evidence
    }

    /// `hold.max`; for a restore, which has none, [`Duration::MAX`].
    #[must_use]
    pub fn max(&self) -> Duration {
        self.max.unwrap_or(Duration::MAX)
    }

    /// Whether somebody else had stopped the repository before the hold, or it is gone: the release does not start it.
    #[must_use]
    pub fn was_stopped(&self) -> bool {
        self.stays_stopped
    }

    /// How much of `hold.max` is left; for a restore, which has none, [`Duration::MAX`].
    #[must_use]
    pub fn remaining(&self, clock: &dyn Clock) -> Duration {
        let Some(max) = self.max else { return Duration::MAX };
        max.saturating_sub(clock.monotonic().saturating_sub(self.idle_since.unwrap_or(self.paused_since)))
    }

    /// Returns when `hold.max` has passed; for a restore, never.
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

    /// From now on the repository stays held even if this run ends, however it ends, until a run takes it over ([`resume`](super::resume)) and releases
    /// it, or a person does it by force. `reason` says what waits, and by which commands it is ended. It is on the disk when this returns.
    ///
    /// # Errors
    /// It cannot be written down, or somebody has released the repository; or this hold is not a restore's.
    pub async fn keep(&mut self, reason: &str) -> Result<(), Error> {
        match &mut self.ours {
            Some(ours) if self.max.is_none() => ours.keep(reason).await,
            _ => Err(Error::NotForKeeps),
        }
    }

    /// Releases the repository, and starts what was found stopped at the beginning, too. Tells [`Event::Released`].
    ///
    /// # Errors
    /// As [`Held::release`].
    pub async fn release_and_start(mut self) -> Result<ReleasedHold, Error> {
        let start = std::mem::replace(&mut self.start, ReleasePlan::Nothing);
        if let Some(ours) = self.ours.as_mut().filter(|ours| ours.record.release == ReleasePlan::Nothing) {
            // With the phase, before it is performed.
            ours.record.release = start;
        }
        self.stays_stopped &=
            self.ours.as_ref().is_none_or(|ours| ours.record.release == ReleasePlan::Nothing);
        self.release().await
    }

    /// Ends the hold and starts nothing, although it ran before: what is there now is what was there when it stood still, so it is to stand
    /// still again. Frozen units are stopped. Tells [`Event::Released`].
    ///
    /// # Errors
    /// As [`Held::release`].
    pub async fn release_to_stopped(mut self) -> Result<ReleasedHold, Error> {
        if let Some(ours) = &mut self.ours {
            // With the phase, before it is performed: who completes it starts nothing either.
            ours.record.release = ours.record.release.clone().stopping();
            ours.is_unlike_guard = true;
        }
        self.stays_stopped = true;
        self.release().await
    }

    /// Releases the repository. Tells [`Event::Released`].
    ///
    /// # Errors
    /// [`Error::ReleasedByGuard`]: somebody else has done it before, so the freeze is void. [`Error::StillPaused`]: it could not be
    /// released; the record is kept, and the guard goes on trying. Any other: the record cannot be read or taken away, and the guard releases
    /// (once more).
    pub async fn release(mut self) -> Result<ReleasedHold, Error> {
        if let Some(mut ours) = self.ours.take() {
            ours.release(&self.context).await?;
            ours.dismiss_guard().await;
        }
        self.tell_released();
        let now = self.context.clock.monotonic();
        self.evidence.released_at = Some(self.context.clock.now());
        self.evidence.held_seconds = self.held_until(now);
        Ok(ReleasedHold { evidence: self.evidence.clone(), runs: !self.stays_stopped })
    }

    /// Seconds for which it stood still.
    fn held_until(&self, now: Duration) -> f64 {
        self.idle_since.map_or(0.0, |since| now.saturating_sub(since).as_secs_f64())
    }

    pub(super) fn tell_released(&self) {
        let now = self.context.clock.monotonic();
        self.context.observer.observe(&Event::Released {
            held_seconds: self.held_until(now),
            paused_seconds: now.saturating_sub(self.paused_since).as_secs_f64(),
            runs: !self.stays_stopped,
        });
    }
}
