//! Names of the day that are one inode become one inode again.
//!
//! Memory follows the number of inodes with several names, as the backup's does.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::tree::site::lock;

/// Where an inode has a name already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Among what is being made.
    Made(Vec<u8>),
    /// In the live tree, whose file is the day's.
    Live(Vec<u8>),
}

/// The inodes by their number in the records; None while a thread is making one.
#[derive(Debug, Default)]
pub(crate) struct Links {
    map: Mutex<HashMap<u64, Option<Origin>>>,
    changed: Condvar,
}

/// What is to be done with a name of an inode that has several.
pub(crate) enum Claim<'a> {
    /// Make it, then say so.
    First(Turn<'a>),
    /// Link it to this one.
    Link(Origin),
}

/// The right to make the first name. Dropped unused, the next thread gets it.
pub(crate) struct Turn<'a> {
    links: &'a Links,
    group: u64,
    /// The inode that takes no more names: this one begins another.
    full: Option<Origin>,
    done: bool,
}

impl Links {
    /// These are in the live tree already.
    pub(crate) fn live(leaders: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Self {
        let map = leaders.into_iter().map(|(group, path)| (group, Some(Origin::Live(path)))).collect();
        Self { map: Mutex::new(map), changed: Condvar::new() }
    }

    /// Who makes this inode; waits while another thread is at it. Names are handed out in order, so that whoever is waited for is at work.
    /// `full` is what an earlier claim gave and no name could be linked to: who finds it still there begins another inode.
    pub(crate) fn claim(&self, group: u64, full: Option<Origin>) -> Claim<'_> {
        let mut map = lock(&self.map);
        loop {
            match map.get(&group) {
                Some(Some(origin)) if Some(origin) != full.as_ref() => return Claim::Link(origin.clone()),
                None | Some(Some(_)) => {
                    map.insert(group, None);
                    return Claim::First(Turn { links: self, group, full, done: false });
                }
                Some(None) => map = self.changed.wait(map).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Turn<'_> {
    /// The first name is made.
    pub(crate) fn done(mut self, path: Vec<u8>) {
        lock(&self.links.map).insert(self.group, Some(Origin::Made(path)));
        self.done = true;
        self.links.changed.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.done {
            let mut map = lock(&self.links.map);
            match self.full.take() {
                Some(full) => drop(map.insert(self.group, Some(full))),
                None => drop(map.remove(&self.group)),
            }
            drop(map);
            self.links.changed.notify_all();
        }
    }
}
