//! What a name or an open file is.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, StatxAttributes, StatxFlags};

use crate::fs::{Error, OnPath as _};

/// What kind of thing a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl Kind {
    pub(super) fn of(file_type: FileType) -> Option<Self> {
        Some(match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => return None,
        })
    }
}

/// What `statx` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Change of the inode.
    pub ctime: (i64, u32),
    /// Inode.
    pub ino: u64,
    /// Device that it is on: major, minor.
    pub dev: (u32, u32),
    /// Names that the inode has.
    pub nlink: u32,
    /// Device that it stands for: major, minor.
    pub rdev: (u32, u32),
    /// Something is mounted here.
    pub mount_root: bool,
    /// Immutable or append-only (chattr(1)): it can be neither moved nor removed.
    pub fixed: bool,
}

impl Stat {
    /// The same inode.
    #[must_use]
    pub fn is_same_inode(&self, other: &Self) -> bool {
        self.ino == other.ino && self.dev == other.dev
    }
}

/// What an open file is.
///
/// # Errors
/// The file system fails.
pub fn stat_file(file: &File, path: &Path) -> Result<Stat, Error> {
    stat_at(file, b"", AtFlags::EMPTY_PATH).on("look at", path)
}

pub(in crate::fs) fn stat_at(fd: impl AsFd, name: &[u8], flags: AtFlags) -> io::Result<Stat> {
    let raw = rustix::fs::statx(fd, name, flags, StatxFlags::BASIC_STATS)?;
    let file_type = FileType::from_raw_mode(raw.stx_mode.into());
    let kind = Kind::of(file_type).ok_or(io::ErrorKind::Unsupported)?;
    Ok(Stat {
        kind,
        size: raw.stx_size,
        mode: u32::from(raw.stx_mode) & 0o7777,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        mtime: (raw.stx_mtime.tv_sec, raw.stx_mtime.tv_nsec),
        ctime: (raw.stx_ctime.tv_sec, raw.stx_ctime.tv_nsec),
        ino: raw.stx_ino,
        dev: (raw.stx_dev_major, raw.stx_dev_minor),
        nlink: raw.stx_nlink,
        rdev: (raw.stx_rdev_major, raw.stx_rdev_minor),
        mount_root: raw.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        fixed: raw.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND),
    })
}
