//! The records of the day being built: a list on disk from the warm pass, and what changed since, in memory.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::path::Path;

use crate::fs;
use crate::manifest::{FileRecord, RecordReader, RecordsError};
use crate::tree::Error;
use crate::tree::held::Held;

/// What the day now has at a path.
#[derive(Debug)]
pub(crate) enum Now {
    /// Nothing.
    Gone,
    /// This.
    In(Box<FileRecord>),
    /// This, once it is copied.
    Open(Box<Held>),
}

/// One change.
#[derive(Debug)]
struct Change {
    now: Now,
    /// What the list has below this path is not there any more.
    hides: bool,
}

/// The changes by path.
#[derive(Debug, Default)]
pub(crate) struct Overlay(BTreeMap<Key, Change>);

/// A path in the order of the walk: `/` sorts before every byte that a name can have.
pub(crate) type Key = Vec<u8>;

pub(crate) fn key(path: &[u8]) -> Key {
    path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

pub(crate) fn path(key: &[u8]) -> Vec<u8> {
    key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect()
}

/// The order of two paths in the walk, which is that of their keys.
fn in_order(a: &[u8], b: &[u8]) -> Ordering {
    let differ = a.iter().zip(b).position(|(a, b)| a != b);
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    differ.map_or_else(|| a.len().cmp(&b.len()), |at| rank(a[at]).cmp(&rank(b[at])))
}

/// Whether `key` is `above` or below it.
pub(crate) fn is_within(key: &[u8], above: &[u8]) -> bool {
    above.is_empty() || key.strip_prefix(above).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}

impl Overlay {
    /// A directory stays, with this record.
    pub(crate) fn put(&mut self, record: FileRecord) {
        let key = key(&record.path.0);
        let hides = self.0.get(&key).is_some_and(|change| change.hides);
        self.0.insert(key, Change { now: Now::In(Box::new(record)), hides });
    }

    /// What was at `path` and below is replaced.
    pub(crate) fn replace(&mut self, path: &[u8], now: Now) {
        let key = key(path);
        let below: Vec<Key> = self
            .0
            .range(key.clone()..)
            .map(|(key, _)| key)
            .take_while(|below| is_within(below, &key))
            .cloned()
            .collect();
        for key in below {
            self.0.remove(&key);
        }
        self.0.insert(key, Change { now, hides: true });
    }

    /// What waits to be copied, in order.
    pub(crate) fn open_paths(&self) -> Vec<Vec<u8>> {
        let is_open = |change: &Change| matches!(change.now, Now::Open(_));
        self.0.iter().filter(|(_, change)| is_open(change)).map(|(key, _)| path(key)).collect()
    }

    /// Takes the open file at `path` out, leaving nothing there until it is [put](Self::put).
    pub(crate) fn take_open(&mut self, path: &[u8]) -> Option<Box<Held>> {
        let change = self.0.get_mut(&key(path))?;
        match std::mem::replace(&mut change.now, Now::Gone) {
            Now::Open(held) => Some(held),
            other => {
                change.now = other;
                None
            }
        }
    }

    /// The records among the changes.
    pub(crate) fn records(&self) -> impl Iterator<Item = &FileRecord> {
        self.0.values().filter_map(|change| match &change.now {
            Now::In(record) => Some(&**record),
            Now::Gone | Now::Open(_) => None,
        })
    }

    /// Whether the list's record of `path` is not in force any more.
    pub(crate) fn has(&self, path: &[u8]) -> bool {
        let key = key(path);
        let above = key.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| &key[..at]);
        let hidden = |above: &[u8]| self.0.get(above).is_some_and(|change| change.hides);
        self.0.contains_key(&key) || above.into_iter().any(hidden) || hidden(b"")
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The records in force, in order.
    pub(crate) fn over<'a>(&'a self, list: &Path) -> Result<Merged<'a>, Error> {
        let list: Option<List> =
            if fs::exists(list)? { Some(RecordReader::open(list)?.peekable()) } else { None };
        Ok(Merged { list, changes: self.0.iter().peekable(), hidden: None })
    }
}

type List = Peekable<RecordReader>;

/// The records in force: those of the list that no change replaces, and the changes.
pub(crate) struct Merged<'a> {
    list: Option<List>,
    changes: Peekable<std::collections::btree_map::Iter<'a, Key, Change>>,
    hidden: Option<&'a Key>,
}

impl Iterator for Merged<'_> {
    type Item = Result<FileRecord, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let listed = match self.list.as_mut().and_then(Peekable::peek) {
                Some(Ok(record)) => Some(key(&record.path.0)),
                Some(Err(_)) => return self.list.as_mut().and_then(Iterator::next),
                None => None,
            };
            let changed = self.changes.peek().map(|(key, _)| *key);
            match (listed, changed) {
                (None, None) => return None,
                (Some(listed), changed) if changed.is_none_or(|changed| listed < *changed) => {
                    let record = self.list.as_mut().and_then(Iterator::next);
                    if !self.hidden.is_some_and(|hidden| is_within(&listed, hidden)) {
                        return record;
                    }
                }
                (listed, _) => {
                    let (changed, change) = self.changes.next()?;
                    if listed.as_ref() == Some(changed) {
                        self.list.as_mut().and_then(Iterator::next);
                    }
                    let hides = change.hides && !self.hidden.is_some_and(|hidden| is_within(changed, hidden));
                    self.hidden = if hides { Some(changed) } else { self.hidden };
                    if let Now::In(record) = &change.now {
                        return Some(Ok((**record).clone()));
                    }
                }
            }
        }
    }
}

/// Records in order, met by a walk in the same order. They are boxed: what goes through many hands is not copied by each.
pub(crate) struct Cursor<I> {
    records: I,
    next: Option<Result<Box<FileRecord>, RecordsError>>,
    tree: String,
}

impl<I: Iterator<Item = Result<FileRecord, RecordsError>>> Cursor<I> {
    pub(crate) fn new(mut records: I, tree: &str) -> Self {
        let next = records.next().map(|record| record.map(Box::new));
        Self { records, next, tree: tree.to_owned() }
    }

    fn take(&mut self) -> Option<Result<Box<FileRecord>, RecordsError>> {
        let next = self.records.next().map(|record| record.map(Box::new));
        std::mem::replace(&mut self.next, next)
    }

    /// The record of `path`; those before it go to `passed`.
    pub(crate) fn seek(
        &mut self,
        path: &[u8],
        passed: &mut dyn FnMut(&FileRecord),
    ) -> Result<Option<Box<FileRecord>>, RecordsError> {
        loop {
            let order = match &self.next {
                None => return Ok(None),
                Some(Err(_)) => return self.take().transpose(),
                Some(Ok(record)) => {
                    record.tree.as_str().cmp(&self.tree).then_with(|| in_order(&record.path.0, path))
                }
            };
            match order {
                Ordering::Greater => return Ok(None),
                Ordering::Equal => return self.take().transpose(),
                Ordering::Less => {
                    if let Some(record) = self.take().transpose()?.filter(|it| it.tree == self.tree) {
                        passed(&record);
                    }
                }
            }
        }
    }

    /// What no walk has met.
    pub(crate) fn rest(mut self, passed: &mut dyn FnMut(&FileRecord)) -> Result<(), RecordsError> {
        while let Some(record) = self.take().transpose()? {
            if record.tree == self.tree {
                passed(&record);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Now, Overlay, in_order, key};
    use crate::fs::dir::{Kind, Stat};
    use crate::manifest::{FileRecord, RecordWriter};
    use crate::tree::judge;

    fn record(path: &str, size: u64) -> FileRecord {
        let stat = Stat {
            kind: Kind::File,
            size,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            ctime: (0, 0),
            ino: 1,
            dev: (0, 0),
            nlink: 1,
            rdev: (0, 0),
            mount_root: false,
            fixed: false,
        };
        judge::record("files", path.as_bytes(), &stat, &std::collections::BTreeMap::new())
    }

    #[test]
    fn changes_replace_hide_and_add_in_the_order_of_the_walk() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("records");
        let mut writer = RecordWriter::create(&list).unwrap();
        for path in ["", "a", "a/x", "a/x/deep", "a.b", "b", "c"] {
            writer.write(&record(path, 1)).unwrap();
        }
        writer.finish().unwrap();
        let mut overlay = Overlay::default();
        overlay.replace(b"a/x", Now::In(Box::new(record("a/x", 2))));
        overlay.replace(b"a/x/deep", Now::Gone);
        overlay.put(record("a", 3));
        overlay.replace(b"b", Now::Gone);
        overlay.put(record("a/x/new", 4));
        overlay.replace(b"d", Now::In(Box::new(record("d", 5))));
        let merged: Vec<_> = overlay
            .over(&list)
            .unwrap()
            .map(Result::unwrap)
            .map(|record| (String::from_utf8(record.path.0).unwrap(), record.size))
            .collect();
        let expected = [("", 1), ("a", 3), ("a/x", 2), ("a/x/new", 4), ("a.b", 1), ("c", 1), ("d", 5)];
        assert_eq!(merged, expected.map(|(path, size)| (path.to_owned(), size)));
        overlay.replace(b"a", Now::Gone);
        assert_eq!(overlay.over(&list).unwrap().count(), 4);
    }

    #[test]
    fn paths_are_in_the_order_of_their_keys() {
        let paths: [&[u8]; 9] = [b"", b"a", b"a/x", b"a/x/y", b"a.b", b"a\x01", b"a0", b"ab", b"b"];
        for (a, b) in paths.iter().flat_map(|a| paths.iter().map(move |b| (a, b))) {
            assert_eq!(in_order(a, b), key(a).cmp(&key(b)), "{a:?} {b:?}");
        }
    }
}
