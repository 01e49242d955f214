//! What a verify says.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::manifest::{FileRecord, PathBytes};
use crate::vault::{Day, ProofSeconds};

/// What came of holding a day against its digests and records.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The day.
    pub day: String,
    /// Files whose content was read, and the bytes of them.
    pub files: u64,
    /// See `files`.
    pub bytes: u64,
    /// How much of the content was read; None: all of it.
    pub sampled: Option<Sample>,
    /// What is wrong, in the order of the day; only the first [`KEPT`] of them.
    pub damages: Vec<Damage>,
    /// How many there are in all.
    pub total: u64,
    /// What an admin should know and is no damage.
    pub notes: Vec<String>,
    /// How long it took.
    pub seconds: ProofSeconds,
}

/// So many damages are described one by one.
pub const KEPT: usize = 1000;

impl Report {
    /// Nothing is wrong with what was looked at.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.total == 0
    }
}

/// A random part of the content.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// How much of it, from 0 (no content but the lists') to 100.
    pub percent: f64,
    /// Which: the same seed chooses the same files of a day.
    pub seed: u64,
}

/// One thing that is wrong with a day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Damage {
    /// The part of the day that is hurt.
    pub part: Part,
    /// The file: relative to the day, or for the seal record to the repository's directory in the vault.
    pub file: PathBytes,
    /// In what way.
    pub fault: Fault,
    /// What is wrong, one sentence.
    pub problem: String,
    /// What it means for a restore, one sentence.
    pub means: String,
    /// What the name should be, for what lies in a tree.
    #[serde(skip)]
    pub record: Option<Box<FileRecord>>,
}

impl Damage {
    /// Where the file is.
    #[must_use]
    pub fn path(&self, day: &Day) -> PathBuf {
        match self.part {
            Part::Seal => day.vault().path().join(self.file.as_path()),
            _ => day.path().join(self.file.as_path()),
        }
    }
}

/// A part of a day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Part {
    /// `manifest.json` and `manifest.blake3`.
    Manifest,
    /// The seal record, outside the day.
    Seal,
    /// `restore.sh` and `RESTORE.md`.
    Guide,
    /// The records of the files, `files.jsonl.zst`.
    Records,
    /// Roles and tablespaces.
    Globals,
    /// One database.
    Database {
        /// Its name.
        name: String,
    },
    /// One tree.
    Tree {
        /// Its name.
        name: String,
    },
    /// Anything else in the day's directory.
    Day,
}

/// In what way something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It is there, and nothing of the day knows it.
    Foreign,
    /// Its content is not what was sealed.
    Content,
    /// It is something else: a directory where a file was.
    Kind,
    /// These are not as recorded: `mode`, `owner`, `mtime`, `target`, `device`, `xattrs`.
    Attributes {
        /// Which.
        what: Vec<&'static str>,
    },
    /// Names that were one inode are not, or the other way round.
    Links,
    /// What it says does not agree with the rest.
    Numbers,
    /// It cannot be read.
    Unreadable,
}

/// A path as a damage names it.
pub(super) fn relative(path: &Path) -> PathBytes {
    PathBytes::from(path)
}

/// The path of a name of a tree, relative to the day.
pub(super) fn in_tree(tree: &str, path: &[u8]) -> PathBytes {
    let mut bytes = format!("trees/{tree}").into_bytes();
    if !path.is_empty() {
        bytes.push(b'/');
        bytes.extend_from_slice(path);
    }
    PathBytes(bytes)
}

/// A path for people: what is not text, or would move a cursor, is escaped.
#[must_use]
pub fn shown(path: &PathBytes) -> String {
    let mut text = String::with_capacity(path.0.len());
    for chunk in path.0.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}
