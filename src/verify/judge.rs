//! Whether a name of a day is what its record says: decided without touching anything.

use std::collections::BTreeMap;

use crate::fs::dir::{Kind, Stat};
use crate::manifest::{FileKind, FileRecord, hex_encode};

/// Under which rights the day was made: what its maker could not set is not damage, and the records have it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maker {
    /// The user that the day belongs to.
    pub uid: u32,
    /// The vault's file system has extended attributes.
    pub xattrs: bool,
}

impl Maker {
    fn is_root(self) -> bool {
        self.uid == 0
    }

    /// A name whose owner the maker could not set is the maker's own.
    pub fn could_not_give_away(self, record: &FileRecord, stat: &Stat) -> bool {
        !self.is_root() && stat.uid == self.uid && (record.uid, record.gid) != (stat.uid, stat.gid)
    }

    /// Extended attributes that only root may set were left out.
    fn could_set(self, name: &str) -> bool {
        self.xattrs && (self.is_root() || is_ours(name))
    }
}

/// What nobody but an admin or daykeep puts on a file; a security module may label any file by itself.
fn is_ours(name: &str) -> bool {
    name.starts_with("user.") || name.starts_with("system.posix_acl_")
}

/// Names the attributes in which a name differs from its record; its kind and size are the same.
pub(super) fn differences(record: &FileRecord, stat: &Stat, maker: Maker) -> Vec<&'static str> {
    let mut found = Vec::new();
    let lacking = maker.could_not_give_away(record, stat);
    let rights = if lacking { 0o777 } else { 0o7777 };
    if record.kind != FileKind::Symlink && (record.mode ^ stat.mode) & rights != 0 {
        found.push("mode");
    }
    if (record.uid, record.gid) != (stat.uid, stat.gid) && !lacking {
        found.push("owner");
    }
    if !same_time(record.mtime, stat.mtime) {
        found.push("mtime");
    }
    if record.device.is_some_and(|device| device != stat.rdev) {
        found.push("device");
    }
    found
}

/// A file system whose times have whole seconds only keeps no more.
fn same_time(recorded: (i64, u32), is: (i64, u32)) -> bool {
    recorded.0 == is.0 && (recorded.1 == is.1 || is.1 == 0)
}

/// Whether the extended attributes are those of the record, as far as the day's maker could set them.
pub(super) fn same_xattrs(record: &FileRecord, is: &BTreeMap<String, Vec<u8>>, maker: Maker) -> bool {
    let lacks = |name: &String, value: &String| match is.get(name) {
        Some(is) => hex_encode(is) != *value,
        None => maker.could_set(name),
    };
    let lacks = record.xattrs.iter().any(|(name, value)| lacks(name, value));
    let has_more = is.keys().any(|name| is_ours(name) && !record.xattrs.contains_key(name));
    !lacks && !has_more
}

pub(super) fn kind(kind: Kind) -> FileKind {
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

/// The word for people.
pub(super) fn word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symbolic link",
        FileKind::Fifo => "named pipe",
        FileKind::Socket => "socket",
        FileKind::CharDevice | FileKind::BlockDevice => "device",
    }
}

#[cfg(test)]
mod tests {
    use super::{Maker, differences, same_xattrs};
    use crate::fs::dir::{Kind, Stat};
    use crate::manifest::{FileKind, FileRecord, PathBytes};

    fn record() -> FileRecord {
        FileRecord {
            tree: "t".into(),
            path: PathBytes(b"a".to_vec()),
            kind: FileKind::File,
            size: 3,
            mode: 0o4755,
            uid: 33,
            gid: 44,
            mtime: (5, 6),
            ctime: (7, 8),
            ino: 9,
            blake3: None,
            target: None,
            link_group: None,
            device: None,
            xattrs: [("user.a".to_owned(), "01".to_owned()), ("trusted.b".to_owned(), "02".to_owned())]
                .into(),
        }
    }

    fn stat() -> Stat {
        Stat {
            kind: Kind::File,
            size: 3,
            mode: 0o4755,
            uid: 33,
            gid: 44,
            mtime: (5, 6),
            ctime: (0, 0),
            ino: 1,
            dev: (1, 2),
            nlink: 1,
            rdev: (0, 0),
            mount_root: false,
            fixed: false,
        }
    }

    const ROOT: Maker = Maker { uid: 0, xattrs: true };
    const OTHER: Maker = Maker { uid: 1000, xattrs: true };

    #[test]
    fn every_recorded_attribute_counts() {
        assert_eq!(differences(&record(), &stat(), ROOT), [""; 0]);
        assert_eq!(differences(&record(), &Stat { mode: 0o755, ..stat() }, ROOT), ["mode"]);
        assert_eq!(differences(&record(), &Stat { gid: 0, ..stat() }, ROOT), ["owner"]);
        assert_eq!(differences(&record(), &Stat { mtime: (5, 7), ..stat() }, ROOT), ["mtime"]);
        assert_eq!(differences(&record(), &Stat { mtime: (5, 0), ..stat() }, ROOT), [""; 0]);
        let device = FileRecord { device: Some((1, 3)), ..record() };
        assert_eq!(differences(&device, &stat(), ROOT), ["device"]);
    }

    #[test]
    fn what_the_maker_could_not_set_is_no_damage() {
        let own = Stat { uid: 1000, gid: 1000, mode: 0o755, ..stat() };
        assert_eq!(differences(&record(), &own, OTHER), [""; 0]);
        assert_eq!(differences(&record(), &Stat { mode: 0o700, ..own }, OTHER), ["mode"]);
        assert_eq!(differences(&record(), &Stat { uid: 5, ..own }, OTHER), ["mode", "owner"]);
        assert_eq!(differences(&record(), &own, ROOT), ["mode", "owner"]);
    }

    #[test]
    fn extended_attributes_are_held_against_the_record() {
        let is = |pairs: &[(&str, u8)]| {
            pairs.iter().map(|(name, byte)| ((*name).to_owned(), vec![*byte])).collect()
        };
        let same = |pairs: &[(&str, u8)], maker| same_xattrs(&record(), &is(pairs), maker);
        assert!(same(&[("user.a", 1), ("trusted.b", 2), ("security.selinux", 9)], ROOT));
        assert!(!same(&[("user.a", 1)], ROOT) && same(&[("user.a", 1)], OTHER));
        assert!(!same(&[("trusted.b", 2)], OTHER), "its own attributes anybody can set");
        assert!(!same(&[("user.a", 2), ("trusted.b", 2)], OTHER));
        assert!(!same(&[("user.a", 1), ("trusted.b", 2), ("user.c", 0)], ROOT));
        assert!(same(&[], Maker { xattrs: false, ..ROOT }), "the vault's file system has none");
    }
}
