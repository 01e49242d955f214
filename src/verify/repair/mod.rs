//! Repairing a day: what was sealed is put back where it was, from a whole copy.
//!
//! A sealed day never changes. A repair keeps that: nothing is put into a day that does not have the digest that the day
//! itself has of it, with the attributes of its record, so that afterwards the day is again what was sealed. Whatever else is
//! wrong is told and left alone.
//!
//! Nothing is written through a name of a day: its inode may be other days' as well. A new inode is made aside, whole and
//! flushed, and takes the damaged one's place by a rename, in every day that shares the damaged inode. Killed at any
//! moment, each name is the old or the new one; the same repair again goes on with what is still damaged.

mod mend;
mod search;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Error;
use super::report::{Damage, Fault, Report};
use crate::event::Context;
use crate::fs::dir::{Dir, Kind, stat_file};
use crate::fs::{self, OnPath as _};
use crate::manifest::{FileRecord, PathBytes};
use crate::vault::{Day, Vault};

pub use mend::mend;

/// Whether a damage can be repaired.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prospect {
    /// The damage.
    pub damage: Damage,
    /// How; None: there is no whole copy.
    pub remedy: Option<Remedy>,
    /// Other days that share the damaged inode, and so have the same damage. A remedy mends them too.
    pub shared_with: Vec<String>,
    /// All names that the mended inode gets.
    #[serde(skip)]
    names: Vec<Place>,
}

/// What puts the sealed state back.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Remedy {
    /// A whole copy in this day or another.
    Day {
        /// The day.
        day: String,
        /// The copy.
        path: PathBuf,
    },
    /// The live tree still has the content.
    Live {
        /// The root of the tree.
        #[serde(skip)]
        root: PathBuf,
        /// The file.
        path: PathBuf,
    },
    /// The record says all there is to say: a directory, a link, a pipe.
    Record,
    /// It follows from the rest of the day.
    Written {
        /// Its content.
        #[serde(skip)]
        content: Vec<u8>,
    },
    /// It is moved out of the day.
    Aside,
}

/// A name in a day.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The day's directory.
    day: PathBuf,
    /// Relative to it.
    file: PathBytes,
}

impl Prospect {
    /// How it would be repaired, for people; why not, if it cannot be.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Some(remedy) = &self.remedy else {
            return match self.damage.fault {
                Fault::Numbers => "it cannot be repaired: no file is to blame".to_owned(),
                _ => "it cannot be repaired: there is no whole copy".to_owned(),
            };
        };
        let how = match remedy {
            Remedy::Day { day, path } => {
                format!("it can be repaired from the day {day} ({})", path.display())
            }
            Remedy::Live { path, .. } => {
                format!("it can be repaired from the live tree ({})", path.display())
            }
            Remedy::Record => "it can be made again from its record".to_owned(),
            Remedy::Written { .. } => "it can be written again from the rest of the day".to_owned(),
            Remedy::Aside => "it can be moved out of the day, to the strays of the vault".to_owned(),
        };
        if self.shared_with.is_empty() {
            return how;
        }
        format!(
            "{how}; the damage is the same in {}, which would be repaired too",
            self.shared_with.join(", ")
        )
    }
}

/// What can be done about the damages of a report. `live` are the roots of the live trees, by name. Every copy that is offered
/// was read and has the digest.
///
/// # Errors
/// The days cannot be listed, or the run was cancelled.
pub fn prospects(
    vault: &Vault,
    day: &Day,
    report: &Report,
    live: &BTreeMap<String, PathBuf>,
    context: &Context,
) -> Result<Vec<Prospect>, Error> {
    let others = vault.days(context.clock.now())?.good;
    let mut search = search::Search::new(day, &others, live, context);
    search.read_records(&report.damages)?;
    let mut prospects: Vec<Prospect> = Vec::new();
    for damage in &report.damages {
        if context.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        // One repair of a file mends all that is wrong with it.
        if !prospects.iter().any(|before| before.damage.file == damage.file && before.remedy.is_some()) {
            prospects.push(search.prospect(damage));
        }
    }
    Ok(prospects)
}

/// Opens a regular file of a live tree without leaving the tree, whatever its owner does meanwhile.
fn open_live(root: &Path, path: &Path) -> Result<File, fs::Error> {
    let within = path.strip_prefix(root).unwrap_or(path).as_os_str().as_bytes();
    let (dir, name) = Dir::open_trusted(root)?.parent_beneath(within)?;
    let file = dir.open_file(&name)?;
    if stat_file(&file, path)?.kind == Kind::File {
        return Ok(file);
    }
    Err(io::Error::from(io::ErrorKind::InvalidInput)).on("read", path)
}

/// The digest that a damaged file of the day should have.
fn wanted(day: &Day, damage: &Damage) -> Option<String> {
    match &damage.record {
        Some(record) => record.blake3.clone(),
        None => day.manifest().digests.get(damage.file.as_path().to_str()?).cloned(),
    }
}

/// Whether two days recorded the same thing: what one of them should have, the other should have too.
fn same(one: &FileRecord, other: &FileRecord) -> bool {
    let FileRecord { kind, size, mode, uid, gid, mtime, blake3, target, device, xattrs, .. } = one;
    (kind, size, mode, uid, gid, mtime)
        == (&other.kind, &other.size, &other.mode, &other.uid, &other.gid, &other.mtime)
        && (blake3, target, device, xattrs) == (&other.blake3, &other.target, &other.device, &other.xattrs)
}
