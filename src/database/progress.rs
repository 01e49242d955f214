//! How far the dump is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::{Event, Phase, SharedObserver, Unit};

/// Bytes between two events.
const STEP: u64 = 4 * 1024 * 1024;

/// Counts the bytes of all sessions and tells the observer now and then.
#[derive(Clone)]
pub struct Progress {
    observer: SharedObserver,
    total: Arc<AtomicU64>,
    current: Arc<AtomicU64>,
}

impl Progress {
    /// Nothing is done yet; `total` is a forecast.
    pub fn new(observer: SharedObserver, total: u64) -> Self {
        let total = Arc::new(AtomicU64::new(total));
        let progress = Self { observer, total, current: Arc::default() };
        progress.tell(0);
        progress
    }

    /// So many bytes more were read.
    pub fn add(&self, bytes: u64) {
        let before = self.current.fetch_add(bytes, Ordering::Relaxed);
        if before / STEP != (before + bytes) / STEP {
            self.tell(before + bytes);
        }
    }

    /// A part of the forecast is known better now.
    pub fn refine(&self, was: u64, is: u64) {
        self.total.fetch_add(is.wrapping_sub(was), Ordering::Relaxed);
    }

    /// Everything was read.
    pub fn finish(&self) {
        self.tell(self.current.load(Ordering::Relaxed));
    }

    fn tell(&self, current: u64) {
        let total = Some(self.total.load(Ordering::Relaxed).max(current));
        self.observer.observe(&Event::Progress { phase: Phase::Dump, unit: Unit::Bytes, current, total });
    }
}
