//! How far a restore is, and what it could not do.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::event::{Context, Event, Notices as _, Phase, Unit};
use crate::fs::attributes::Lacking;
use crate::tree::restore::Error;
use crate::tree::site::lock;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Counts, and tells the observer now and then.
pub(crate) struct Tell {
    tree: String,
    phase: Phase,
    context: Context,
    total: Option<u64>,
    files: AtomicU64,
    bytes: AtomicU64,
    next: Mutex<Duration>,
    lacking_owner: AtomicU64,
    lacking_xattr: AtomicU64,
    lacking_device: AtomicU64,
}

impl Tell {
    pub(crate) fn new(tree: &str, phase: Phase, total: Option<u64>, context: &Context) -> Self {
        Self {
            tree: tree.to_owned(),
            phase,
            context: context.clone(),
            total,
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            next: Mutex::default(),
            lacking_owner: AtomicU64::new(0),
            lacking_xattr: AtomicU64::new(0),
            lacking_device: AtomicU64::new(0),
        }
    }

    /// Fails when the run is cancelled.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.context.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// So many names are dealt with.
    pub(crate) fn files(&self, files: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        let now = self.context.clock.monotonic();
        let mut next = lock(&self.next);
        if now >= *next {
            *next = now + TELL_EVERY;
            drop(next);
            self.now();
        }
    }

    /// So many bytes were read.
    pub(crate) fn bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn lacks(&self, lacking: Lacking) {
        if lacking.owner {
            self.lacking_owner.fetch_add(1, Ordering::Relaxed);
        }
        if lacking.xattr {
            self.lacking_xattr.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn lacks_device(&self) {
        self.lacking_device.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) {
        let (files, bytes) = (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let (phase, total) = (self.phase, self.total);
        let observer = &self.context.observer;
        observer.observe(&Event::Progress { phase, unit: Unit::Files, current: files, total });
        if bytes > 0 {
            observer.observe(&Event::Progress { phase, unit: Unit::Bytes, current: bytes, total: None });
        }
    }

    /// The end: tells the last figures, and what rights or the file system did not allow.
    pub(crate) fn finish(&self) {
        self.now();
        let told = [
            (&self.lacking_owner, "have another owner, because this process may not give files away"),
            (&self.lacking_xattr, "lack extended attributes, because the file system does not take them"),
            (&self.lacking_device, "are devices that this process may not make"),
        ];
        for (count, what) in told {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                self.context.observer.warn(format!("tree {}: {count} restored names {what}", self.tree));
            }
        }
    }
}
