//! Releases by whoever comes first: the guard, `ExecStopPost=`, the next start, `daykeep release`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::Error;
use super::guard::start_detached;
use super::lock::Lock;
use super::plan::Attempt;
use super::record::{HoldRecord, Phase, path_of, paths_in};
use crate::event::Context;
use crate::fs;

/// How long somebody else who is releasing is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// How long a guard that is trying to release is waited for by whoever gives up: its tries have pauses between them.
const GIVE_UP_PATIENCE: Duration = Duration::from_secs(30);

/// A hold that was found, and what became of it.
#[derive(Debug)]
pub struct Leftover {
    /// What its record said.
    pub record: HoldRecord,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a hold that was found.
#[derive(Debug)]
pub enum Outcome {
    /// It was released.
    Released,
    /// Its run lives and may be using it; it was left alone.
    InUse,
    /// A restore is half way: it was left alone.
    Kept {
        /// What waits, and how that is ended.
        reason: String,
    },
    /// It cannot be released yet, or somebody else is releasing it.
    Waiting {
        /// What is waited for.
        error: Error,
        /// The process id of the guard that does it then; None: whoever has the lock does it, or no guard could be started.
        guard: Option<i32>,
    },
    /// The release failed; the record is kept.
    Failed {
        /// Why.
        error: Error,
        /// The process id of the guard that goes on trying; None: there is none, and none could be started.
        guard: Option<i32>,
    },
}

/// Performs the releases that records ask for: of one repository, or of all. Nothing to do is an empty list.
///
/// With `force` a hold is released even though its run lives, or a restore keeps it; the run learns that its freeze is void.
///
/// # Errors
/// A record cannot be read; the others have been released all the same. A release that fails is in its [`Outcome`].
pub async fn release_leftovers(
    state_dir: &Path,
    repository: Option<&str>,
    force: bool,
    context: &Context,
) -> Result<Vec<Leftover>, Error> {
    let mut leftovers = Vec::new();
    let mut first = None;
    for path in wanted(state_dir, repository)? {
        match release_one(&path, force, context).await {
            Ok(found) => leftovers.extend(found),
            // One record that cannot be read must not keep the other repositories held.
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    first.map_or(Ok(leftovers), Err)
}

/// The holds of all repositories that are not released, for a status.
///
/// # Errors
/// A record cannot be read.
pub fn pending(state_dir: &Path) -> Result<Vec<HoldRecord>, Error> {
    let mut records = Vec::new();
    for path in paths_in(state_dir)? {
        records.extend(HoldRecord::read(&path)?.filter(HoldRecord::is_pending));
    }
    Ok(records)
}

/// Takes the record of a hold away without releasing it: for one that can never be released, because what it would start is gone. What it
/// holds stays paused. None: nothing is held.
///
/// # Errors
/// [`Error::InUse`]: its run lives. [`Error::Locked`]: somebody is releasing it at this moment.
pub async fn give_up(state_dir: &Path, repository: &str) -> Result<Option<HoldRecord>, Error> {
    let path = path_of(state_dir, repository);
    if !fs::exists(&path)? {
        return Ok(None);
    }
    let _lock = Lock::take(&path, GIVE_UP_PATIENCE).await?;
    let Some(record) = HoldRecord::read(&path)? else { return Ok(None) };
    if record.is_in_use()? {
        return Err(Error::InUse { repository: record.repository, run: record.run, pid: record.holder.pid });
    }
    fs::remove_file_durable(&path)?;
    Ok(record.is_pending().then_some(record))
}

fn wanted(state_dir: &Path, repository: Option<&str>) -> Result<Vec<PathBuf>, Error> {
    match repository {
        Some(name) => {
            let path = path_of(state_dir, name);
            Ok(if fs::exists(&path)? { vec![path] } else { Vec::new() })
        }
        None => paths_in(state_dir),
    }
}

async fn release_one(path: &Path, force: bool, context: &Context) -> Result<Option<Leftover>, Error> {
    let Some(seen) = HoldRecord::read(path)? else { return Ok(None) };
    if !force && seen.is_in_use()? {
        return Ok(Some(Leftover { record: seen, outcome: Outcome::InUse }));
    }
    let lock = match Lock::take(path, LOCK_PATIENCE).await {
        Ok(lock) => lock,
        Err(busy @ Error::Locked { .. }) => {
            return Ok(Some(Leftover {
                record: seen,
                outcome: Outcome::Waiting { error: busy, guard: None },
            }));
        }
        Err(error) => return Err(error),
    };
    // Another one may have been quicker.
    let Some(mut record) = HoldRecord::read(path)? else { return Ok(None) };
    if let Some(reason) = record.keep.clone().filter(|_| !force) {
        return Ok(Some(Leftover { record, outcome: Outcome::Kept { reason } }));
    }
    if !record.is_pending() {
        if !record.holder.is_alive()? {
            fs::remove_file_durable(path)?;
        }
        return Ok(None);
    }
    // The guard of a run that lives waits for its words, and does nothing for what was forced on it.
    let in_use = record.is_in_use()?;
    let guard = record.living_guard().filter(|_| !in_use);
    let told = in_use.then_some(("`daykeep release` or a start of daykeep", context.clock.now()));
    let done = match perform(Some(path), &mut record, context.clock.now()).await {
        Ok(()) => {
            settle(path, &mut record, told).map_err(|error| Error::RecordStays { source: Box::new(error) })
        }
        Err(error) => Err(error),
    };
    drop(lock);
    let outcome = match done {
        Ok(()) => Outcome::Released,
        Err(error) => {
            // One that goes on trying is enough. Without any the next start tries again: the record is there.
            let guard = guard.or_else(|| start_detached(&record, path).ok().flatten());
            match error {
                error @ Error::StillStopping { .. } => Outcome::Waiting { error, guard },
                error => Outcome::Failed { error, guard },
            }
        }
    };
    Ok(Some(Leftover { record, outcome }))
}

/// Settles what has been released: the record goes, or tells a run that lives by whom and when it was released.
pub(super) fn settle(
    path: &Path,
    record: &mut HoldRecord,
    told: Option<(&str, Timestamp)>,
) -> Result<(), Error> {
    if let Some((by, at)) = told {
        record.phase = Phase::Released { by: by.to_owned(), at };
        if record.write(path).is_ok() {
            return Ok(());
        }
        // A full disk: the run finds no record, which tells it the same.
    }
    Ok(fs::remove_file_durable(path)?)
}

/// Performs the release of a record, with the lock held, and notes in it how far it is; without a path in memory alone.
pub(super) async fn perform(
    path: Option<&Path>,
    record: &mut HoldRecord,
    now: Timestamp,
) -> Result<(), Error> {
    // A full disk must not keep the repository held: without this the release is only begun once more after a crash.
    let note = |record: &HoldRecord| drop(path.map(|path| record.write(path)));
    // Nothing is paused before the record says `pausing`.
    if record.phase == Phase::Intent {
        return Ok(());
    }
    let in_doubt = record.phase == Phase::Pausing;
    let begun = match record.phase {
        Phase::Releasing { releasing_since } => Some(releasing_since),
        _ => None,
    };
    if begun.is_none() {
        record.phase = Phase::Releasing { releasing_since: now };
        record.keep = None;
        note(record);
    }
    let releasing_for = begun.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
    let attempt = Attempt {
        token: &record.token,
        resumed: begun.is_some(),
        in_doubt,
        // A clock that was set back only makes it wait longer.
        releasing_for: releasing_for.unwrap_or_default(),
    };
    let done = record.release.perform(attempt).await;
    if let Err(error) = &done {
        let text = Some(error.to_string());
        let waits = matches!(error, Error::StillStopping { .. });
        // To wait is not to fail, and is looked at twice a second: it is written down when there is something new to tell.
        if !waits || record.last_error != text {
            record.attempts = record.attempts.saturating_add(u32::from(!waits));
            record.last_error = text;
            note(record);
        }
    }
    done
}
