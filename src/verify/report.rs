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

/// One thing that is wrong with a day: a file, with all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Damage {
    /// The part of the day that is hurt.
    pub part: Part,
    /// The file: relative to the day, or for the seal record to the repository's directory in the vault.
    pub file: PathBytes,
    /// In what way; of several, the gravest.
    pub fault: Fault,
    /// In what other ways.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Fault>,
    /// What is wrong, one sentence.
    pub problem: String,
    /// What it means for a restore, one sentence.
    pub means: String,
    /// What the name should be, for what lies in a tree.
    #[serde(skip)]
    pub record: Option<Box<FileRecord>>,
}

/// So many things that are wrong with one file are told.
const TOLD_OF_ONE: usize = 8;

impl Damage {
    /// Both, of one file: what is graver leads. Whoever has lost the content need not be told what a wrong attribute means.
    pub(super) fn and(self, other: Self) -> Self {
        let (mut graver, lesser) =
            if other.fault.rank() < self.fault.rank() { (other, self) } else { (self, other) };
        let told = graver.also.len() + 1;
        if told < TOLD_OF_ONE {
            graver.problem = format!("{}; {}", graver.problem, lesser.problem);
            if !graver.fault.is_loss() && graver.means != lesser.means {
                graver.means = format!("{}; {}", graver.means, lesser.means);
            }
        } else if told == TOLD_OF_ONE {
            graver.problem.push_str("; and more");
        }
        graver.also.push(lesser.fault);
        graver.also.extend(lesser.also);
        graver.record = graver.record.or(lesser.record);
        graver
    }

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

impl Fault {
    /// The smaller the graver.
    fn rank(&self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::Kind => 1,
            Self::Unreadable => 2,
            Self::Content => 3,
            Self::Links => 4,
            Self::Attributes { .. } => 5,
            Self::Foreign => 6,
            Self::Numbers => 7,
        }
    }

    /// What was in it is lost.
    pub(super) fn is_loss(&self) -> bool {
        self.rank() <= 3
    }
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

#[cfg(test)]
mod tests {
    use super::{Damage, Fault, Part};
    use crate::manifest::PathBytes;

    fn damage(fault: Fault, problem: &str, means: &str) -> Damage {
        let (part, file) = (Part::Tree { name: "t".into() }, PathBytes(b"trees/t/a".to_vec()));
        let (problem, means) = (problem.to_owned(), means.to_owned());
        Damage { part, file, fault, also: Vec::new(), problem, means, record: None }
    }

    #[test]
    fn the_graver_leads_and_says_what_it_means() {
        let time = damage(Fault::Attributes { what: vec!["mtime"] }, "its mtime is off", "as it is");
        let content = damage(Fault::Content, "its content is off", "it is lost");
        for both in [time.clone().and(content.clone()), content.clone().and(time.clone())] {
            assert_eq!((&both.fault, both.also.len()), (&Fault::Content, 1));
            assert_eq!(both.problem, "its content is off; its mtime is off");
            assert_eq!(both.means, "it is lost");
        }
        let links = damage(Fault::Links, "its links are off", "two files");
        assert_eq!(time.and(links).means, "two files; as it is");
        let number = |n: u32| damage(Fault::Numbers, &format!("number {n} is off"), "means");
        let many = (1..20).map(number).reduce(Damage::and).unwrap();
        assert!(many.problem.ends_with("; number 8 is off; and more"), "{}", many.problem);
        assert_eq!((many.also.len(), many.means.as_str()), (18, "means"));
    }
}
