//! Whether the scratch directory has room for a day.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::drill::{Error, Trees};
use crate::fs;
use crate::vault::Day;

/// Rows with their indexes take about so many bytes for each of their text.
const BYTES_A_ROW_BYTE: u64 = 2;
/// And what pg_dump compressed, for each of the archive.
const BYTES_AN_ARCHIVE_BYTE: u64 = 4;
/// A database without anything in it.
const EMPTY_DATABASE: u64 = 9 << 20;
/// A server without anything in it, with its WAL.
const EMPTY_SERVER: u64 = 96 << 20;
/// Where a copy of a file on the same file system shares its blocks: some space for the names.
const SHARING: [&str; 3] = ["btrfs", "xfs", "bcachefs"];
const BYTES_A_SHARED_FILE: u64 = 1024;

/// Refuses a drill that would fill the disk.
///
/// # Errors
/// There is too little room; the error has the figures.
pub fn enough(day: &Day, scratch: &Path, trees: Trees) -> Result<(), Error> {
    let volume = fs::volume(scratch)?;
    let databases = for_databases(day);
    let manifest = day.manifest();
    let shares = SHARING.contains(&volume.kind.as_str())
        && fs::look_at(scratch)?.dev() == fs::look_at(day.path())?.dev();
    let for_trees = match trees {
        Trees::Hash | Trees::Skip => 0,
        Trees::Copy if shares => manifest.trees.values().map(|tree| tree.entries * BYTES_A_SHARED_FILE).sum(),
        Trees::Copy => manifest.trees.values().map(|tree| tree.bytes).sum(),
    };
    let name = || (scratch.to_owned(), day.name().to_owned());
    if volume.free_bytes < databases.saturating_add(for_trees) {
        let (directory, day) = name();
        return Err(Error::Space { directory, day, free: volume.free_bytes, databases, trees: for_trees });
    }
    let entries = manifest.trees.values().map(|tree| tree.entries).sum();
    if trees == Trees::Copy && volume.total_inodes > 0 && volume.free_inodes < entries {
        let (directory, day) = name();
        return Err(Error::Inodes { directory, day, free: volume.free_inodes, needed: entries });
    }
    Ok(())
}

fn for_databases(day: &Day) -> u64 {
    let Some(record) = &day.manifest().database else { return 0 };
    let mut needed = EMPTY_SERVER;
    for entry in &record.databases {
        let archive = day.database().join(&entry.directory).join("rest.dump");
        // A missing one is damage, which is found and told later.
        let rest = fs::look_at(&archive).map_or(0, |seen| seen.len());
        needed += entry.row_bytes * BYTES_A_ROW_BYTE + rest * BYTES_AN_ARCHIVE_BYTE + EMPTY_DATABASE;
    }
    needed
}

/// Whether a failure came of a disk that is full.
pub fn is_full(scratch: &Path, told: &str) -> bool {
    /// What PostgreSQL and the system say, in any language that daykeep asks them to speak.
    const WORDS: [&str; 2] = ["No space left on device", "Disk quota exceeded"];
    /// A disk with less than this cannot be worked on.
    const LITTLE: u64 = 1 << 20;
    WORDS.iter().any(|words| told.contains(words))
        || fs::volume(scratch).is_ok_and(|volume| volume.free_bytes < LITTLE)
}
