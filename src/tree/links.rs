//! Names that are one inode in the source become one inode in the day.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex};

use crate::fs::dir::Stat;
use crate::manifest::FileRecord;
use crate::tree::site::lock;

type Inode = ((u32, u32), u64);

/// The inodes with several names of which not all have been met.
#[derive(Default)]
pub(crate) struct Groups {
    map: Mutex<HashMap<Inode, Group>>,
    changed: Condvar,
}

struct Group {
    /// The record of the name that is in the day; None while a thread is bringing it.
    first: Option<FileRecord>,
    /// Names still to come, as far as the link count tells.
    left: u32,
}

/// What a thread is to do with a name of an inode that has several.
pub(crate) enum Claim<'a> {
    /// Bring it, then say so.
    First(Turn<'a>),
    /// Link it to this one.
    Link(Box<FileRecord>),
}

/// The right to bring the first name. Dropped unused, the next thread gets it.
pub(crate) struct Turn<'a> {
    groups: &'a Groups,
    inode: Inode,
    done: bool,
}

impl Groups {
    /// Who brings this inode; waits while another thread is at it.
    pub(crate) fn claim(&self, stat: &Stat) -> Claim<'_> {
        let inode = (stat.dev, stat.ino);
        let mut map = lock(&self.map);
        loop {
            match map.get_mut(&inode) {
                None => {
                    map.insert(inode, Group { first: None, left: stat.nlink.saturating_sub(1) });
                    return Claim::First(Turn { groups: self, inode, done: false });
                }
                Some(Group { first: Some(record), left }) => {
                    let record = Box::new(record.clone());
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        map.remove(&inode);
                    }
                    return Claim::Link(record);
                }
                Some(Group { first: None, .. }) => {
                    map = self.changed.wait(map).unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
        }
    }

    /// Forgets all: the next pass meets every name of an inode that changed.
    pub(crate) fn clear(&self) {
        lock(&self.map).clear();
    }
}

impl Turn<'_> {
    /// The first name is in the day.
    pub(crate) fn done(mut self, record: &FileRecord) {
        if let Some(group) = lock(&self.groups.map).get_mut(&self.inode) {
            group.first = Some(record.clone());
        }
        self.done = true;
        self.groups.changed.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.done {
            lock(&self.groups.map).remove(&self.inode);
            self.groups.changed.notify_all();
        }
    }
}

/// The number that the names of an inode share in the records: the inode's own, or for one on another file system than the root a digest
/// of device and inode with the highest bit set.
pub(crate) fn number(stat: &Stat, root: &Stat) -> u64 {
    if stat.dev == root.dev {
        return stat.ino & !(1 << 63);
    }
    let inode = format!("{}:{}:{}", stat.dev.0, stat.dev.1, stat.ino);
    let digest = blake3::Hasher::new().update(inode.as_bytes()).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(first) | 1 << 63
}
