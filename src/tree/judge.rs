//! What a name's record is, and whether a name is still what its record says: decided without touching anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::fs::attributes::Attributes;
use crate::fs::dir::{Kind, Stat};
use crate::manifest::{FileKind, FileRecord, PathBytes};

/// How a name relates to the record of the day before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing can have changed: link.
    Same,
    /// Content is the same, for the name says so; extended attributes must be compared.
    SameContent,
    /// Size and times are the same but the inode was touched: compare content and extended attributes.
    Compare,
    /// It is another: copy.
    Differs,
}

/// Judges a regular file.
pub(crate) fn file(record: &FileRecord, stat: &Stat, content_named: bool) -> Judgement {
    let same_inode = record.ino == stat.ino;
    let alike = record.kind == FileKind::File
        && stat.kind == Kind::File
        && record.size == stat.size
        && same_owner_and_mode(record, stat)
        && record.blake3.is_some()
        // The previous day's file has other names: only the inode that had them may have them again.
        && (record.link_group.is_none() || same_inode);
    if !alike {
        Judgement::Differs
    } else if same_inode && record.ctime == stat.ctime && record.mtime == stat.mtime {
        Judgement::Same
    } else if content_named {
        Judgement::SameContent
    } else if record.mtime == stat.mtime {
        Judgement::Compare
    } else {
        Judgement::Differs
    }
}

pub(crate) fn same_owner_and_mode(record: &FileRecord, stat: &Stat) -> bool {
    record.mode == stat.mode && record.uid == stat.uid && record.gid == stat.gid
}

/// Whether a name of the day being built needs no second look, for its record is from this run. None: its extended attributes tell.
pub(crate) fn is_as_recorded(record: &FileRecord, stat: &Stat, content_named: bool) -> Option<bool> {
    let by_name = content_named && stat.kind == Kind::File;
    let same_size = stat.kind != Kind::File || record.size == stat.size;
    // Within one step of the clock a second name leaves no trace in the times.
    let same_group = match record.link_group {
        Some(_) => record.ino == stat.ino && stat.nlink > 1,
        None => stat.kind == Kind::Directory || stat.nlink == 1,
    };
    if record.kind != kind(stat.kind) || !same_owner_and_mode(record, stat) || !same_size || !same_group {
        return Some(false);
    }
    // A file of a tree whose names are content keeps its older time in the records.
    let untouched = record.ino == stat.ino && record.ctime == stat.ctime;
    if by_name && !untouched {
        return None;
    }
    Some(untouched && (by_name || record.mtime == stat.mtime))
}

/// The record of a name.
pub(crate) fn record(tree: &str, path: &[u8], stat: &Stat, xattrs: &BTreeMap<String, Vec<u8>>) -> FileRecord {
    let is_device = matches!(stat.kind, Kind::CharDevice | Kind::BlockDevice);
    FileRecord {
        tree: tree.to_owned(),
        path: PathBytes(path.to_vec()),
        kind: kind(stat.kind),
        size: if stat.kind == Kind::File { stat.size } else { 0 },
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mtime,
        ctime: stat.ctime,
        ino: stat.ino,
        blake3: None,
        target: None,
        link_group: None,
        device: is_device.then_some(stat.rdev),
        xattrs: xattrs.iter().map(|(name, value)| (name.clone(), hex(value))).collect(),
    }
}

/// Whether the extended attributes are those of the record.
pub(crate) fn same_xattrs(record: &FileRecord, xattrs: &BTreeMap<String, Vec<u8>>) -> bool {
    record.xattrs.len() == xattrs.len()
        && xattrs.iter().all(|(name, value)| record.xattrs.get(name) == Some(&hex(value)))
}

/// What the name in the day is to carry.
pub(crate) fn attributes(stat: &Stat, xattrs: BTreeMap<String, Vec<u8>>) -> Attributes {
    Attributes { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs }
}

/// The same, from a record; None when an attribute's value is no hex.
pub(crate) fn recorded_attributes(record: &FileRecord) -> Option<Attributes> {
    let FileRecord { mode, uid, gid, mtime, .. } = *record;
    let xattrs: Option<BTreeMap<_, _>> =
        record.xattrs.iter().map(|(name, value)| Some((name.clone(), unhex(value)?))).collect();
    Some(Attributes { mode, uid, gid, mtime, xattrs: xattrs? })
}

pub(crate) fn kind(kind: Kind) -> FileKind {
    match kind {
        Kind::File => FileKind::File,
        Kind::Directory => FileKind::Directory,
        Kind::Symlink => FileKind::Symlink,
        Kind::Fifo => FileKind::Fifo,
        Kind::Socket => FileKind::Socket,
        Kind::CharDevice => FileKind::CharDevice,
        Kind::BlockDevice => FileKind::BlockDevice,
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
