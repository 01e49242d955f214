//! How far the dump is.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::{Event, Phase, SharedObserver, Unit};

/// Bytes between two events.
const STEP: u64 = 4 * 1024 * 1024;

/// Counts the bytes of all sessions and tells the observer now and then.
#[derive(Clone)]
pub struct Progress {
    observer: SharedObserver,
    total: Option<u64>,
    current: std::sync::Arc<AtomicU64>,
}

impl Progress {
    /// Nothing is done yet; `total` is a forecast.
    pub fn new(observer: SharedObserver, total: Option<u64>) -> Self {
        let progress = Self { observer, total, current: std::sync::Arc::default() };
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

    /// Everything was read.
    pub fn finish(&self) {
        self.tell(self.current.load(Ordering::Relaxed));
    }

    fn tell(&self, current: u64) {
        let total = self.total.map(|total| total.max(current));
        self.observer.observe(&Event::Progress { phase: Phase::Dump, unit: Unit::Bytes, current, total });
    }
}
