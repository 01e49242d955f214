//! The file system that a path is on: what it has left, what it can do.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Timespec, Timestamps, statfs, statvfs, syncfs, utimensat};

use crate::fs::{Error, OnPath as _, create_new, hard_link, remove_file};

/// How full a file system is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Bytes that daykeep may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Inodes that daykeep may still use.
    pub free_inodes: u64,
    /// Inodes in all; 0 for a file system that makes them as it goes (btrfs).
    pub total_inodes: u64,
    /// Its type: `ext4`, or the magic number in hex when it is not a known one.
    pub kind: String,
}

/// Looks at the file system that holds `path`.
///
/// # Errors
/// It cannot be looked at.
pub fn volume(path: &Path) -> Result<Volume, Error> {
    let space = statvfs(path).on("look at the file system of", path)?;
    let kind = statfs(path).on("look at the file system of", path)?.f_type;
    Ok(Volume {
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        free_inodes: space.f_favail,
        total_inodes: space.f_files,
        kind: kind_of(u64::try_from(kind).unwrap_or_default()),
    })
}

/// Magic numbers from linux/magic.h and statfs(2).
fn kind_of(magic: u64) -> String {
    match magic & 0xffff_ffff {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 => "cifs",
        0x6573_5546 => "fuse",
        0x794c_7630 => "overlay",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0x4d44 => "vfat",
        0x2011_bab0 => "exfat",
        0xca45_1a4e => "bcachefs",
        other => return format!("0x{other:x}"),
    }
    .to_owned()
}

/// Whether names in a directory may be made and removed, as far as rights and the mount tell.
#[must_use]
pub fn may_write(directory: &Path) -> bool {
    let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(CWD, directory, wanted, AtFlags::EACCESS).is_ok()
}

/// Flushes everything that was written to the file system that `opened` (at `path`) is on.
///
/// # Errors
/// Something that was written since it was opened did not reach the disk.
pub fn sync_volume(opened: &File, path: &Path) -> Result<(), Error> {
    syncfs(opened).on("flush the file system of", path)
}

/// What a file system keeps of a file, tried on a real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// A file can have two names.
    pub hard_links: bool,
    /// Modification times keep their nanoseconds.
    pub nanosecond_times: bool,
    /// Extended attributes.
    pub xattrs: bool,
}

/// Tries them with a file of the given name, which is removed again.
///
/// # Errors
/// The file cannot be created: the directory cannot be written.
pub fn try_abilities(directory: &Path, name: &str) -> Result<Abilities, Error> {
    let (file, second) = (directory.join(name), directory.join(format!("{name}-link")));
    remove_file(&file)?;
    remove_file(&second)?;
    create_new(&file)?;
    let hard_links = hard_link(&file, &second).is_ok();
    let xattrs = xattr::set(&file, "user.daykeep", b"probe").is_ok();
    let nanosecond_times = keeps_nanoseconds(&file);
    remove_file(&second)?;
    remove_file(&file)?;
    Ok(Abilities { hard_links, nanosecond_times, xattrs })
}

fn keeps_nanoseconds(file: &Path) -> bool {
    let odd = Timespec { tv_sec: 1_000_000_001, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: odd, last_modification: odd };
    utimensat(CWD, file, &times, AtFlags::empty()).is_ok()
        && std::fs::symlink_metadata(file).is_ok_and(|seen| seen.mtime_nsec() == odd.tv_nsec)
}
