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
    /// The first name of the inode in the day that takes no more names: this one begins another.
    full: Option<Box<FileRecord>>,
    done: bool,
}

impl Groups {
    /// Who brings this inode; waits while another thread is at it. `full` is what an earlier claim gave and no name could be linked to:
    /// who finds it still the first begins another inode.
    pub(crate) fn claim(&self, stat: &Stat, full: Option<Box<FileRecord>>) -> Claim<'_> {
        let inode = (stat.dev, stat.ino);
        let mut map = lock(&self.map);
        loop {
            match map.get_mut(&inode) {
                None => {
                    map.insert(inode, Group { first: None, left: stat.nlink.saturating_sub(1) });
                    return Claim::First(Turn { groups: self, inode, full, done: false });
                }
                Some(Group { first, .. })
                    if first.is_some()
                        && first.as_ref().map(|it| &it.path) == full.as_ref().map(|it| &it.path) =>
                {
                    *first = None;
                    return Claim::First(Turn { groups: self, inode, full, done: false });
                }
                Some(Group { first: Some(record), left }) => {
                    let record = Box::new(record.clone());
                    // A name that comes again has been counted.
                    *left = left.saturating_sub(u32::from(full.is_none()));
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
    /// Whether the inode has names in the day already, and there are too many of them for one more.
    pub(crate) fn begins_another(&self) -> bool {
        self.full.is_some()
    }

    /// The number of the group that this name is the first of. No two inodes in the day may have the same: an inode that was begun because
    /// another is full has the number of its first name.
    pub(crate) fn number(&self, stat: &Stat, root: &Stat, path: &[u8]) -> u64 {
        match &self.full {
            None => number(stat, root),
            Some(_) => digest(&[stat_text(stat).as_bytes(), b" ", path].concat()),
        }
    }

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
            let mut map = lock(&self.groups.map);
            match (self.full.take(), map.get_mut(&self.inode)) {
                // Whoever comes next meets the full one again, and not an inode without a first name.
                (Some(full), Some(group)) => group.first = Some(*full),
                _ => drop(map.remove(&self.inode)),
            }
            drop(map);
            self.groups.changed.notify_all();
        }
    }
}

/// The number that the names of an inode share in the records: the inode's own, or for one on another file system than the root a digest
/// of device and inode with the highest bit set.
fn number(stat: &Stat, root: &Stat) -> u64 {
    if stat.dev == root.dev { stat.ino & !(1 << 63) } else { digest(stat_text(stat).as_bytes()) }
}

fn stat_text(stat: &Stat) -> String {
    format!("{}:{}:{}", stat.dev.0, stat.dev.1, stat.ino)
}

fn digest(bytes: &[u8]) -> u64 {
    let digest = blake3::hash(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(first) | 1 << 63
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Claim, Groups};
    use crate::fs::dir::{Dir, Stat};
    use crate::tree::judge;

    fn one_of(names: u32) -> (tempfile::TempDir, Stat) {
        let dir = tempfile::tempdir().unwrap();
        let stat = Dir::open(dir.path()).unwrap().stat_self().unwrap();
        (dir, Stat { nlink: names, ..stat })
    }

    #[test]
    fn who_finds_an_inode_full_begins_another_and_all_that_follow_are_linked_to_that() {
        let (_dir, stat) = one_of(6);
        let groups = Groups::default();
        let record = |path: &[u8]| judge::record("t", path, &stat, &BTreeMap::new());
        let linked_to = |claim: Claim<'_>| match claim {
            Claim::Link(first) => first,
            Claim::First(_) => panic!("nobody has it"),
        };
        let Claim::First(turn) = groups.claim(&stat, None) else { panic!("somebody has it") };
        assert!(!turn.begins_another());
        let number = turn.number(&stat, &stat, b"1");
        turn.done(&record(b"1"));
        let full = linked_to(groups.claim(&stat, None));
        assert_eq!(full.path.0, b"1");
        let also_full = linked_to(groups.claim(&stat, None));

        let Claim::First(turn) = groups.claim(&stat, Some(full.clone())) else { panic!("it is full") };
        assert!(turn.begins_another());
        // It changed while it was brought: the next one finds out for himself.
        drop(turn);
        assert_eq!(linked_to(groups.claim(&stat, None)).path.0, b"1");

        let Claim::First(turn) = groups.claim(&stat, Some(full)) else { panic!("it is full") };
        assert_ne!(turn.number(&stat, &stat, b"2"), number, "two inodes are two groups");
        turn.done(&record(b"2"));
        assert_eq!(linked_to(groups.claim(&stat, Some(also_full))).path.0, b"2");
        // Five were met: the last is no first one.
        assert_eq!(linked_to(groups.claim(&stat, None)).path.0, b"2");
    }
}
