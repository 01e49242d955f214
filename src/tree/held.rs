//! Files that are open and copied after the release.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fs::dir::Stat;
use crate::tree::site::descriptors;

/// More than this many would take memory that grows with the tree.
const MOST: u64 = 32 * 1024;

/// How many files this process holds open: descriptors are the process's, whatever number of trees and repositories share them.
static HELD: AtomicU64 = AtomicU64::new(0);

/// A file of a tree whose names are content, as it was at the freeze point. The open file keeps it, whatever happens to its name.
#[derive(Debug)]
pub(crate) struct Held {
    pub file: File,
    pub stat: Stat,
    pub _slot: Slot,
}

/// The right to hold one more file open, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot(());

impl Slot {
    /// None: half of the descriptors that the process may have are taken; the other half is for all else.
    pub(crate) fn take() -> Option<Self> {
        let most = MOST.min(descriptors() / 2);
        let taken = HELD.fetch_add(1, Ordering::Relaxed);
        // Made before the look, so that too many are given back.
        let slot = Self(());
        (taken < most).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::Relaxed);
    }
}
