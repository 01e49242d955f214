//! What a hold that may have to be released has: its record, its guard, and the right to both.

use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::guard::Guard;
use super::leftover::{perform, settle};
use super::live::Live;
use super::lock::Lock;
use super::record::{HoldRecord, Phase};
use super::word::Word;
use super::{Error, Request};
use crate::event::Context;
use crate::{fs, process};

/// How long a lock that another one has is waited for.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A record on the disk and the guard that waits beside it. Dropping it leaves the release to the guard.
pub(super) struct Ours {
    /// None: it is done with.
    guard: Option<Guard>,
    pub(super) record: HoldRecord,
    pub(super) path: PathBuf,
    _live: Live,
    /// The record's release is another than the guard has read.
    pub(super) is_unlike_guard: bool,
    /// The record is gone, or left to the guard.
    over: bool,
}

impl Ours {
    /// Record and guard, before anything is paused.
    pub(super) async fn begin(
        record: HoldRecord,
        path: PathBuf,
        request: &Request<'_>,
    ) -> Result<Self, Error> {
        let live = Live::new(&record.token);
        record.write(&path)?;
        match Guard::start(request.guard, &path).await {
            Ok(guard) => {
                // Goes to the disk with the next step.
                let record = HoldRecord { guarded_by: guard.identity(), ..record };
                let guard = Some(guard);
                Ok(Self { guard, record, path, _live: live, is_unlike_guard: false, over: false })
            }
            Err(error) => {
                // One that was taken over is still paused.
                if record.keep.is_none() {
                    fs::remove_file_durable(&path)?;
                }
                Err(error)
            }
        }
    }

    /// Step 4. When it fails nothing was paused, and nothing is to be released: FOSSology's release would stop what runs.
    pub(super) async fn announce_pause(&mut self) -> Result<(), Error> {
        self.record.phase = Phase::Pausing;
        let announced = match self.record.write(&self.path) {
            Ok(()) => self.tell(&Word::Pausing).await,
            Err(error) => Err(error),
        };
        if announced.is_err() {
            self.record.phase = Phase::Intent;
        }
        announced
    }

    /// Step 6: the record says that the repository is idle. False: there is no guard any more.
    pub(super) async fn note_idle(&mut self, idle_at: Timestamp) -> Result<bool, Error> {
        let _lock = Lock::take(&self.path, LOCK_PATIENCE).await?;
        self.still_ours()?;
        self.record.phase = Phase::Paused { idle_at };
        self.record.deadline = self.record.max.map(|max| later(idle_at, max));
        self.record.write(&self.path)?;
        Ok(self.tell(&Word::Idle).await.is_ok() || self.replace_guard().await.is_ok())
    }

    /// Another guard, in the place of one that was killed.
    async fn replace_guard(&mut self) -> Result<(), Error> {
        let mut guard = Guard::start(&self.record.guard, &self.path).await?;
        guard.tell(&Word::Idle).await.map_err(|source| Error::GuardDied { source })?;
        self.record.guarded_by = guard.identity();
        // Without it a release by hand that fails starts one more guard: no harm.
        let _ = self.record.write(&self.path);
        self.guard = Some(guard);
        Ok(())
    }

    async fn tell(&mut self, word: &Word) -> Result<(), Error> {
        match &mut self.guard {
            Some(guard) => guard.tell(word).await.map_err(|source| Error::GuardDied { source }),
            None => Ok(()),
        }
    }

    /// From now on the hold outlives its run. The guard reads it in the record before it does anything, and is told for the case that it
    /// cannot: after the record, for until this returns nothing has been replaced.
    pub(super) async fn keep(&mut self, reason: &str) -> Result<(), Error> {
        let _lock = Lock::take(&self.path, LOCK_PATIENCE).await?;
        self.still_ours()?;
        let before = self.record.keep.replace(reason.to_owned());
        if let Err(error) = self.record.write(&self.path) {
            self.record.keep = before;
            return Err(error);
        }
        if self.tell(&Word::Keep(reason.to_owned())).await.is_err() {
            // Where there is no guard at all, nobody releases what is kept.
            let _ = self.replace_guard().await;
        }
        Ok(())
    }

    /// What the record says now, if it is still this hold's and nobody else has released it.
    pub(super) fn still_ours(&self) -> Result<(), Error> {
        match HoldRecord::read(&self.path)? {
            Some(record) if record.token == self.record.token => match record.phase {
                Phase::Released { by, at } => Err(Error::ReleasedByGuard { by, at }),
                Phase::Releasing { releasing_since: at } => Err(Error::BeingReleased { at }),
                _ => Ok(()),
            },
            _ => Err(Error::ReleasedByGuard { by: "somebody else".to_owned(), at: self.record.since }),
        }
    }

    /// Step 8. The guard sees the record's end, or its pipe's, and goes.
    pub(super) async fn release(&mut self, context: &Context) -> Result<(), Error> {
        let _lock = Lock::take(&self.path, self.record.release.limit() + LOCK_PATIENCE).await?;
        match self.still_ours() {
            Ok(()) => {}
            // With the lock in our hands nobody is at it: whoever began has failed so far.
            Err(Error::BeingReleased { at }) => return Err(self.release_of_others_fails(at)),
            Err(gone) => {
                // The record of a release by somebody else has told what it was kept for.
                self.forget_released()?;
                return Err(gone);
            }
        }
        // What was kept is whole again: that is to be known to who has to complete this without the record. A guard that knows another
        // release than the record's must not complete that.
        if !self.is_unlike_guard {
            let _ = self.tell(&Word::Releasing).await;
        }
        if let Err(error) = perform(Some(&self.path), &mut self.record, context.clock.now()).await {
            return Err(self.still_paused(error));
        }
        settle(&self.path, &mut self.record, None)?;
        self.over = true;
        Ok(())
    }

    fn release_of_others_fails(&mut self, at: Timestamp) -> Error {
        let record = HoldRecord::read(&self.path).ok().flatten();
        let why = record.and_then(|record| record.last_error);
        let error = why.unwrap_or_else(|| "nobody knows why: it broke off".to_owned());
        self.still_paused(Error::BegunByOthers { at, error })
    }

    /// The run is done with the hold and cannot release it: from here on its guard answers for that.
    fn still_paused(&mut self, release: Error) -> Error {
        let of_record = || HoldRecord::read(&self.path).ok().flatten()?.living_guard();
        let others = of_record().filter(|pid| Some(*pid) != self.record.living_guard());
        let own = self.guard.take().and_then(|guard| guard.leave(&self.record, &self.path));
        // From here on there is nothing to be left to anybody.
        self.over = true;
        let repository = self.record.repository.clone();
        Error::StillPaused { repository, guard: others.or(own), release: Box::new(release) }
    }

    /// The hold is over, and its guard is not needed any more.
    pub(super) async fn dismiss_guard(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.dismiss().await;
        }
    }

    /// A kept hold whose run ends in a process that lives on is free to be taken over by any other.
    fn leave(&mut self) {
        let Some(_lock) = Lock::try_take(&self.path) else { return };
        if self.still_ours().is_ok() {
            self.record.left = true;
            // If it cannot be written, the hold is free when the process ends.
            let _ = self.record.write(&self.path);
        }
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
    /// The guard releases now, from the end of its pipe, unless the hold is kept.
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if self.record.keep.is_some() {
            self.leave();
        } else if let Some(guard) = self.guard.take() {
            let _ = guard.leave(&self.record, &self.path);
        }
    }
}

/// Unlike that of any other hold: which process, on which boot, and a number of its own.
pub(super) fn token(run: u64) -> Result<String, Error> {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let own = process::Identity::own()?;
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Ok(format!("{}-{}-{}-{run}-{count}", own.boot, own.pid, own.started))
}

pub(super) fn later(from: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| from.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}
