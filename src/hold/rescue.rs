//! What a guard does when its run has ended, or takes too long: it releases, and tries until that is done.
//!
//! # The crash argument of a release without a record
//!
//! The record rules for as long as it can be read, under its lock: it tells whether the hold is still this one's, whether somebody else
//! has released it, and whether it is kept. Its directory may be removed by hand while it stands, moved away, unmounted, made anew by
//! somebody who found it missing, or its disk may fail. Then nothing but the guard knows how the repository is released, since
//! its run is dead or about to fail, and nobody else ever will: it releases from memory. That is the record as it was last read, and what the
//! run has told since.
//!
//! *Lost or over?* A record that is not there means elsewhere that the hold was released. So the guard has the lock's file open from its
//! beginning: the name of the lock is never removed alone, and when it leads to another file or to none, the record was lost with its directory. A
//! directory that is being removed loses its names one by one, and is looked at again a moment later. A run that has released its
//! hold says so before it closes its pipe, and none of this is asked.
//!
//! *Two at once.* Who began before the directory went has the lock of the place as it was: the guard takes that, too. Who begins
//! in a place made anew has another lock and finds no record of this hold: it cannot release it. Where the lock cannot be taken at all the
//! guard goes on without: another one may release at the same moment, which each adapter bears, as it bears a release that is done twice.
//!
//! *Another hold.* A record with another token, in the same directory, means that this hold is over: it is left alone. In a place that was made anew it
//! is one that has begun since, and found stopped what this one had paused: to release under it would void a backup and could
//! damage a restore. The guard waits until it is over, and releases then. (A backup that found all stopped has no record; what is released
//! under it is seen by its last proof, and it fails.)
//!
//! *Kept.* While a restore replaces what is there, to start the scheduler does damage, and to leave it stopped does none that a person
//! cannot mend. So a guard without a record must know by itself whether the hold is kept: the run tells it right after `keep` is on the
//! disk and before anything is replaced, so that a guard that was not told may release. Killed between the two, with the record in
//! reach: it stays held, as the record says; without the record: it is released, and nothing was replaced. A run that is through says `releasing` before it
//! releases. From memory a kept hold is never released: the guard says what a person has to start, and goes.
//!
//! *Read-only.* A record that can be read and not be written is released as it says, once: that it cannot be taken away is
//! told, and does not begin the release anew. Whoever comes next releases it again, which does no harm.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;
use super::leftover::{perform, settle};
use super::lock::{Lock, Witness};
use super::record::{HoldRecord, Phase};
use crate::clock::{Clock as _, SystemClock};
use crate::{fs, process};

/// How long somebody else who is releasing, or a run that hangs with the lock, is waited for beyond what its step may take.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// The waits between releases that fail: from this, doubling, to that.
pub(super) const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The wait for what has been told to stop.
const STOPPING_POLL: Duration = Duration::from_millis(500);
/// How long a directory that is being removed may still have the lock's name when the record's is gone.
const REMOVAL: Duration = Duration::from_millis(500);

/// Why the guard releases.
#[derive(Debug, Clone)]
pub(super) enum Reason {
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

/// The release of one hold by its guard.
pub(super) struct Rescue {
    path: PathBuf,
    witness: Witness,
    /// The newest that is known of the hold.
    memory: HoldRecord,
    reason: Reason,
    clock: SystemClock,
    /// The repository is released; what is left is its record.
    performed: bool,
}

/// What stands where the record was.
enum Found {
    /// The hold's record.
    Ours(HoldRecord),
    /// The hold was released by somebody else.
    Over,
    /// The record cannot be read any more, for this reason.
    Lost(String),
    /// Another hold's record, in a place that was made anew.
    Anew(HoldRecord),
}

impl Rescue {
    pub(super) fn new(record: &Path, witness: Witness, seen: HoldRecord, reason: Reason) -> Self {
        let clock = SystemClock::new();
        Self { path: record.to_owned(), witness, memory: seen, reason, clock, performed: false }
    }

    /// Tries until the repository is released, or has been by somebody else, or is kept.
    pub(super) async fn until_done(mut self) {
        let mut backoff = BACKOFF.0;
        let mut told = String::new();
        while let Err(error) = self.try_once().await {
            if let Error::StillStopping { what } = error {
                if what != told {
                    self.say(&format!("waiting until {what}"));
                    told = what;
                }
                tokio::time::sleep(STOPPING_POLL).await;
            } else {
                let failed = if self.performed { "its run cannot be told" } else { "cannot be released" };
                self.say(&format!("{failed}, trying again in {}s: {error}", backoff.as_secs()));
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF.1);
            }
        }
    }

    async fn try_once(&mut self) -> Result<(), Error> {
        let (lock, found) = match self.lock().await {
            Ok(lock) => (Some(lock), self.look().await?),
            Err(Error::File(error)) => (None, Found::Lost(Error::File(error).to_string())),
            Err(error) => return Err(error),
        };
        match found {
            Found::Over => Ok(()),
            Found::Lost(_) if self.performed => Ok(()),
            Found::Ours(record) => self.release(record).await,
            Found::Lost(why) => self.release_from_memory(&why, lock).await,
            Found::Anew(HoldRecord { repository, run, .. }) => Err(Error::HeldAnew { repository, run }),
        }
    }

    /// Takes the lock of the place as it is.
    async fn lock(&self) -> Result<Lock, Error> {
        match Lock::take(&self.path, self.lock_patience()).await {
            Err(locked @ Error::Locked { .. }) => {
                self.end(Lock::owner(&self.path)?, locked)?;
                Lock::take(&self.path, LOCK_PATIENCE).await
            }
            other => other,
        }
    }

    /// Takes the lock of the place as it was.
    async fn lock_of_old(&self) -> Result<Option<Lock>, Error> {
        match self.witness.lock(self.lock_patience()).await {
            Err(locked @ Error::Locked { .. }) => {
                self.end(self.witness.owner(), locked)?;
                self.witness.lock(LOCK_PATIENCE).await
            }
            other => other,
        }
    }

    fn lock_patience(&self) -> Duration {
        self.memory.release.limit() + LOCK_PATIENCE
    }

    /// Ends who hangs with the lock. One that cannot be told is waited for.
    fn end(&self, owner: Option<process::Identity>, locked: Error) -> Result<(), Error> {
        let own = process::Identity::own()?;
        let Some(owner) = owner.filter(|owner| *owner != own) else { return Err(locked) };
        self.say(&format!("process {} hangs with the hold's lock: killing it", owner.pid));
        Ok(process::kill(&owner)?)
    }

    /// Looks at the record, with the lock held.
    async fn look(&self) -> Result<Found, Error> {
        let found = match HoldRecord::read(&self.path) {
            Ok(found) => found,
            Err(error @ Error::File(_)) => return Ok(Found::Lost(error.to_string())),
            Err(error) => return Err(error),
        };
        match found {
            Some(record) if record.token == self.memory.token => return Ok(Found::Ours(record)),
            Some(record) if self.witness.is_in_place() || !record.is_pending() => {}
            Some(record) => return Ok(Found::Anew(record)),
            None if self.witness.is_in_place() => tokio::time::sleep(REMOVAL).await,
            None => {}
        }
        if self.witness.is_in_place() {
            return Ok(Found::Over);
        }
        let directory = fs::parent_of(&self.path).display();
        Ok(Found::Lost(format!("its record is gone with the directory that {directory} was")))
    }

    async fn release(&mut self, mut record: HoldRecord) -> Result<(), Error> {
        if let Some(reason) = &record.keep {
            self.say(&format!("stays held: {reason}"));
            return Ok(());
        }
        if !record.is_pending() {
            return Ok(());
        }
        let now = self.clock.now();
        let run_waits = matches!(self.reason, Reason::Limit(_)) && record.is_in_use()?;
        if !self.performed {
            if matches!(self.memory.phase, Phase::Releasing { .. }) {
                // Begun, and could not be written down.
                record.phase = self.memory.phase.clone();
            }
            self.note_itself(&mut record);
            let done = perform(Some(&self.path), &mut record, now).await;
            self.memory = record.clone();
            done?;
            self.performed = true;
            self.say(&format!("released by {}", self.reason.text()));
        }
        match settle(&self.path, &mut record, run_waits.then_some((self.reason.text(), now))) {
            Err(error) if !run_waits => {
                self.say(&format!("the record stays, and whoever meets it releases once more: {error}"));
                Ok(())
            }
            settled => settled,
        }
    }

    /// So that nobody who fails to release starts another guard, and a person learns which process goes on trying.
    fn note_itself(&self, record: &mut HoldRecord) {
        let own = process::Identity::own().ok();
        if own.is_some() && record.guarded_by != own {
            record.guarded_by = own;
            // A full disk must not keep the repository held: then one guard more than is needed may come.
            let _ = record.write(&self.path);
        }
    }

    async fn release_from_memory(&mut self, why: &str, lock: Option<Lock>) -> Result<(), Error> {
        if let Some(reason) = &self.memory.keep {
            let start = self.memory.release.subject().unwrap_or_else(|| "what was stopped".to_owned());
            self.say(&format!("stays held: {reason}"));
            self.say(&format!(
                "{why}: nothing but this line knows of the hold; when all is whole, start {start} by hand"
            ));
            return Ok(());
        }
        // Who has it releases at this moment. It may be the one that is held already.
        let _old = match lock {
            Some(lock) if self.witness.is_locked_by(&lock) => Some(lock),
            _ => self.lock_of_old().await?,
        };
        let nothing_paused = self.memory.phase == Phase::Intent;
        perform(None, &mut self.memory, self.clock.now()).await?;
        if !nothing_paused {
            self.say(&format!("released from memory by {}: {why}", self.reason.text()));
        }
        Ok(())
    }

    /// One line for whoever looks after this machine: its run, and who started that, may be gone.
    fn say(&self, text: &str) {
        let HoldRecord { repository, run, .. } = &self.memory;
        process::log_line(&format!("daykeep guard: {repository} (run {run}): {text}"));
    }
}
