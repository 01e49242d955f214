//! Which holds of this process are in use: a daemon outlives its runs, so that its being alive says nothing about one of
//! them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Marks a hold as in use until it is dropped.
#[derive(Debug)]
pub(super) struct Live(String);

impl Live {
    pub(super) fn new(token: &str) -> Self {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).insert(token.to_owned());
        Self(token.to_owned())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

pub(super) fn is_live(token: &str) -> bool {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner).contains(token)
}
