//! The days of the vaults, as they were when somebody last looked: a vault may be a slow or hanging mount, and no question
//! about how things stand may wait for it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::api::told::{self, Proofs};
use crate::api::wire;
use crate::clock::SharedClock;
use crate::manifest::Manifest;
use crate::vault::{Error, Vault};

/// So old a listing may be that is shown without looking again.
const FRESH: Duration = Duration::from_secs(10);

/// What was seen in a vault.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// The days, newest first.
    pub days: Vec<wire::Day>,
    /// What is no good day.
    pub quarantined: Vec<wire::Quarantined>,
    /// What they were put to.
    pub proofs: Proofs,
    /// What the newest day says of rows without files.
    pub files_missing: u64,
    /// Why nothing could be seen.
    pub error: Option<String>,
}

/// A look.
#[derive(Debug, Clone)]
struct Seen {
    /// When; None once something has changed since.
    at: Option<Duration>,
    listing: Arc<Listing>,
}

/// One vault's place on the shelf.
#[derive(Debug)]
struct Place {
    seen: watch::Sender<Option<Seen>>,
    /// Held by the one who looks.
    looking: Arc<tokio::sync::Mutex<()>>,
}

/// All that was seen, by repository.
#[derive(Debug)]
pub struct Shelf {
    clock: SharedClock,
    places: Mutex<HashMap<String, Arc<Place>>>,
}

impl Shelf {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, places: Mutex::default() }
    }

    /// The days of a repository: as seen within the last seconds, or looked at now. When that takes longer than `patience`,
    /// what was seen before, or None; the look goes on and whoever asks next has it.
    pub async fn listing(&self, vault: &Path, repository: &str, patience: Duration) -> Option<Arc<Listing>> {
        let place = self.place(repository);
        let mut seen = place.seen.subscribe();
        if let Some(Seen { at: Some(at), listing }) = &*seen.borrow_and_update()
            && self.clock.monotonic().saturating_sub(*at) <= FRESH
        {
            return Some(Arc::clone(listing));
        }
        if let Ok(looking) = Arc::clone(&place.looking).try_lock_owned() {
            let (place, clock) = (Arc::clone(&place), Arc::clone(&self.clock));
            let (vault, repository) = (vault.to_owned(), repository.to_owned());
            tokio::task::spawn_blocking(move || {
                let listing = look(&vault, &repository, clock.now());
                let at = Some(clock.monotonic());
                place.seen.send_replace(Some(Seen { at, listing: Arc::new(listing) }));
                drop(looking);
            });
        }
        // The sender lives in `place`: changed() cannot fail. Late is as good as an older look.
        let _ = tokio::time::timeout(patience, seen.changed()).await;
        seen.borrow().as_ref().map(|seen| Arc::clone(&seen.listing))
    }

    /// Something changed in the vault: the next one who asks looks again.
    pub fn forget(&self, repository: &str) {
        self.place(repository).seen.send_if_modified(|seen| {
            if let Some(seen) = seen {
                seen.at = None;
            }
            false
        });
    }

    fn place(&self, repository: &str) -> Arc<Place> {
        let mut places = self.lock();
        let place = places
            .entry(repository.to_owned())
            .or_insert_with(|| Arc::new(Place { seen: watch::channel(None).0, looking: Arc::default() }));
        Arc::clone(place)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(vault: &Path, repository: &str, now: Timestamp) -> Listing {
    let opened = Vault::open(vault, repository);
    let (vault, days) = match opened.and_then(|vault| vault.days(now).map(|days| (vault, days))) {
        Ok(found) => found,
        // Before the first run there is no vault, and nothing is wrong.
        Err(Error::NoVault { .. }) if vault.is_dir() => return Listing::default(),
        Err(error) => return Listing { error: Some(error.to_string()), ..Listing::default() },
    };
    Listing {
        proofs: told::proofs(&vault, &days),
        days: days.good.iter().rev().map(|day| wire::Day::from(day.manifest())).collect(),
        quarantined: days
            .quarantined
            .iter()
            .map(|day| wire::Quarantined { name: day.name.clone(), reason: day.reason.clone() })
            .collect(),
        files_missing: days
            .good
            .last()
            .map_or(0, |day| day.manifest().checks.iter().map(|check| check.missing).sum()),
        error: None,
    }
}

/// One day's manifest, by its full name; None when there is no such day.
///
/// # Errors
/// The vault cannot be read.
pub fn manifest(
    vault: &Path,
    repository: &str,
    day: &str,
    now: Timestamp,
) -> Result<Option<Manifest>, Error> {
    let days = Vault::open(vault, repository)?.days(now)?;
    Ok(days.good.iter().find(|found| found.name() == day).map(|found| found.manifest().clone()))
}
