//! What the threads of a verify share: the damages that they find, and how far they are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::report::{Damage, KEPT, Part, Report, Sample};
use super::{Choice, Error};
use crate::event::{Context, Event, Phase, Unit};
use crate::manifest::PathBytes;
use crate::vault::ProofSeconds;

/// Threads that read content.
const THREADS: usize = 2;
/// Pieces of work that may wait for a thread.
const WAITING: usize = 64;
/// Bytes between two words about progress.
const STEP: u64 = 8 * 1024 * 1024;

/// The findings of one verify.
pub(super) struct Gather {
    pub context: Context,
    pub choice: Choice,
    /// The sizes of the database's files do not add up: all of them are read, whatever the sample.
    pub all_rows: AtomicBool,
    /// By part and file: what is wrong with one file is one damage, whoever finds it.
    damages: Mutex<BTreeMap<(Part, PathBytes), Damage>>,
    found: AtomicU64,
    notes: Mutex<Vec<String>>,
    files: AtomicU64,
    bytes: AtomicU64,
    expected: AtomicU64,
}

impl Gather {
    pub fn new(choice: &Choice, context: &Context) -> Self {
        Self {
            context: context.clone(),
            choice: choice.clone(),
            all_rows: AtomicBool::new(false),
            damages: Mutex::default(),
            found: AtomicU64::new(0),
            notes: Mutex::default(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            expected: AtomicU64::new(0),
        }
    }

    /// One more damage, or more of one.
    pub fn add(&self, damage: Damage) {
        let mut damages = locked(&self.damages);
        let has_room = damages.len() < KEPT;
        match damages.entry((damage.part.clone(), damage.file.clone())) {
            Entry::Occupied(mut place) => {
                let both = place.get().clone().and(damage);
                place.insert(both);
                return;
            }
            Entry::Vacant(place) if has_room => {
                place.insert(damage);
            }
            Entry::Vacant(_) => {}
        }
        self.found.fetch_add(1, Ordering::Relaxed);
    }

    /// Something that is no damage.
    pub fn note(&self, text: impl Into<String>) {
        locked(&self.notes).push(text.into());
    }

    pub fn check(&self) -> Result<(), Error> {
        if self.context.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Whether the content of this is among what is to be read.
    pub fn is_chosen(&self, name: &[u8]) -> bool {
        let all = self.all_rows.load(Ordering::Relaxed) && name.starts_with(b"database/");
        all || self.choice.sample.is_none_or(|sample| sample.takes(name))
    }

    /// So many bytes are to come.
    pub fn expect(&self, bytes: u64) {
        let bytes = match self.choice.sample {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a forecast"
            )]
            Some(sample) => (bytes as f64 * sample.percent / 100.0) as u64,
            None => bytes,
        };
        self.expected.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One more file is read to its end.
    pub fn read_whole(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// So many bytes were read; an error when the run is to stop.
    pub fn read(&self, bytes: u64) -> io::Result<()> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / STEP != (before + bytes) / STEP {
            self.tell(before + bytes);
        }
        if self.context.cancel.is_cancelled() { Err(io::Error::other("cancelled")) } else { Ok(()) }
    }

    fn tell(&self, current: u64) {
        let total = Some(self.expected.load(Ordering::Relaxed).max(current));
        let (phase, unit) = (Phase::Verify, Unit::Bytes);
        self.context.observer.observe(&Event::Progress { phase, unit, current, total });
    }

    /// What was found, damages in the order of the day.
    pub fn report(&self, day: &str, seconds: ProofSeconds) -> Report {
        let bytes = self.bytes.load(Ordering::Relaxed);
        self.tell(bytes);
        let damages = std::mem::take(&mut *locked(&self.damages));
        Report {
            day: day.to_owned(),
            files: self.files.load(Ordering::Relaxed),
            bytes,
            sampled: self.choice.sample,
            damages: damages.into_values().collect(),
            total: self.found.load(Ordering::Relaxed),
            notes: std::mem::take(&mut *locked(&self.notes)),
            seconds,
        }
    }
}

impl Sample {
    /// The same name and seed always give the same answer.
    fn takes(&self, name: &[u8]) -> bool {
        #[expect(
            clippy::cast_precision_loss,
            reason = "the upper half of the digest has a double's precision"
        )]
        let share = (xxh3_64_with_seed(name, self.seed) >> 32) as f64 / f64::from(u32::MAX);
        share * 100.0 < self.percent
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `body`, which hands out pieces of work that some threads do.
pub(super) fn in_parallel<T: Send>(
    gather: &Gather,
    work: impl Fn(T) + Sync,
    body: impl FnOnce(&mut dyn FnMut(T) -> Result<(), Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    let (sender, receiver) = sync_channel::<T>(WAITING);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let task = locked(&receiver).recv();
                    let Ok(task) = task else { return };
                    // What is left when the run was cancelled is only taken out of the way.
                    if gather.check().is_ok() {
                        work(task);
                    }
                }
            });
        }
        // Taken along, so that the threads end with it.
        let sender = sender;
        let done = body(&mut |task| {
            gather.check()?;
            // Refused only when every thread has panicked, which the scope tells.
            sender.send(task).map_err(|_| Error::Cancelled)
        });
        drop(sender);
        done
    })?;
    gather.check()
}

#[cfg(test)]
mod tests {
    use crate::verify::Sample;

    #[test]
    fn a_sample_is_about_as_large_as_asked_for_and_always_the_same() {
        for percent in [1.0, 5.0, 50.0, 100.0] {
            let sample = Sample { percent, seed: 7 };
            let taken = |seed| {
                let sample = Sample { seed, ..sample };
                (0..20_000_u32).filter(|n| sample.takes(&n.to_le_bytes())).count()
            };
            let share = f64::from(u32::try_from(taken(7)).unwrap()) / 200.0;
            assert!((share - percent).abs() < 1.5, "{share} of {percent}");
            assert_eq!(taken(7), taken(7));
        }
        let (one, other) = (Sample { percent: 50.0, seed: 1 }, Sample { percent: 50.0, seed: 2 });
        assert!((0..100_u32).any(|n| one.takes(&n.to_le_bytes()) != other.takes(&n.to_le_bytes())));
    }
}
