//! The records of one tree of a day, trusted with nothing: what a record names is beneath the tree, in the order of the walk, in a
//! directory that has a record of its own.
//!
//! That order is what keeps a tampered day inside the target: `..`, absolute paths, and names below what is no directory all lack a
//! directory's record before them.

use std::path::{Path, PathBuf};

use crate::fs::attributes::Attributes;
use crate::fs::dir::split_last;
use crate::manifest::{FileKind, FileRecord, PathBytes, RecordReader};
use crate::tree::judge;
use crate::tree::restore::Error;

/// The longest name that a file system takes, and the longest link target (`NAME_MAX`, `PATH_MAX`).
const LONGEST_NAME: usize = 255;
const LONGEST_TARGET: usize = 4095;

/// The records of a tree, in the order of the walk, each looked over. After an error it ends.
#[derive(Debug)]
pub(crate) struct Records {
    reader: RecordReader,
    file: PathBuf,
    tree: String,
    /// The directories above the last record, and that record itself if it is one.
    open: Vec<Level>,
    begun: bool,
    /// Only this path, what is below it and the directories above it.
    scope: Option<Vec<u8>>,
    /// The scope has a record.
    found: bool,
    ended: bool,
}

#[derive(Debug)]
struct Level {
    path: Vec<u8>,
    /// The last name in it.
    last: Vec<u8>,
}

impl Records {
    /// Opens the records of `tree`; with a `scope`, of this path in it, with the directories that lead there. A scope that has no record is
    /// an error at the end.
    pub(crate) fn open(file: &Path, tree: &str, scope: Option<&[u8]>) -> Result<Self, Error> {
        Ok(Self {
            reader: RecordReader::open(file)?,
            file: file.to_owned(),
            tree: tree.to_owned(),
            open: Vec::new(),
            begun: false,
            found: scope.is_none_or(<[u8]>::is_empty),
            scope: scope.filter(|scope| !scope.is_empty()).map(<[u8]>::to_vec),
            ended: false,
        })
    }

    fn read(&mut self) -> Result<Option<FileRecord>, Error> {
        loop {
            let Some(record) = self.reader.next().transpose()? else {
                if self.begun && self.found {
                    return Ok(None);
                }
                if self.begun {
                    return Err(self.not_in_day());
                }
                return Err(Error::NoTree { tree: self.tree.clone(), records: self.file.clone() });
            };
            if record.tree != self.tree {
                continue;
            }
            self.look_over(&record).map_err(|problem| Error::BadRecord {
                records: self.file.clone(),
                path: record.path.as_path().to_owned(),
                problem,
            })?;
            self.begun = true;
            self.found = self.found || self.scope.as_ref() == Some(&record.path.0);
            if self.scope.as_ref().is_none_or(|scope| is_in_scope(&record.path.0, scope)) {
                return Ok(Some(record));
            }
        }
    }

    fn not_in_day(&self) -> Error {
        let path = PathBytes(self.scope.clone().unwrap_or_default()).as_path().to_owned();
        Error::NotInDay { tree: self.tree.clone(), path }
    }

    fn look_over(&mut self, record: &FileRecord) -> Result<(), &'static str> {
        let path = &record.path.0;
        if path.is_empty() {
            if self.begun || record.kind != FileKind::Directory {
                return Err("the root of a tree is a directory, and comes first");
            }
        } else {
            let (parent, name) = split_last(path);
            if name.is_empty() || name == b"." || name == b".." || name.contains(&0) {
                return Err("that is no name of a file");
            }
            if name.len() > LONGEST_NAME {
                return Err("the name is longer than a file system takes");
            }
            while self.open.pop_if(|level| level.path != parent).is_some() {}
            let level =
                self.open.last_mut().ok_or("no record before it makes the directory that it is in")?;
            if !level.last.is_empty() && level.last.as_slice() >= name {
                return Err("it is out of order");
            }
            level.last = name.to_vec();
        }
        if record.kind == FileKind::Directory {
            self.open.push(Level { path: path.clone(), last: Vec::new() });
        }
        is_whole(record)
    }
}

/// Whether a record says all that is needed to make what it records.
fn is_whole(record: &FileRecord) -> Result<(), &'static str> {
    if record.mode > 0o7777 || record.mtime.1 >= 1_000_000_000 {
        return Err("its mode or time is none");
    }
    match record.kind {
        FileKind::File if !record.blake3.as_deref().is_some_and(is_digest) => {
            Err("a file has a BLAKE3 digest")
        }
        FileKind::Symlink => match &record.target {
            Some(target) if (1..=LONGEST_TARGET).contains(&target.0.len()) && !target.0.contains(&0) => {
                Ok(())
            }
            _ => Err("a symbolic link has a target"),
        },
        FileKind::CharDevice | FileKind::BlockDevice if record.device.is_none() => {
            Err("a device has a number")
        }
        _ => Ok(()),
    }
}

fn is_digest(hex: &str) -> bool {
    hex.len() == 2 * blake3::OUT_LEN && hex.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// The digest of a regular file.
pub(crate) fn digest_of(record: &FileRecord) -> Option<blake3::Hash> {
    blake3::Hash::from_hex(record.blake3.as_ref()?).ok()
}

/// What a name is to carry.
pub(crate) fn attributes_of(record: &FileRecord) -> Result<Attributes, Error> {
    judge::recorded_attributes(record).ok_or_else(|| Error::BadRecord {
        records: PathBuf::new(),
        path: record.path.as_path().to_owned(),
        problem: "an extended attribute's value is no hex",
    })
}

/// Whether `path` is `above` or something below it.
pub(crate) fn is_beneath(path: &[u8], above: &[u8]) -> bool {
    above.is_empty()
        || path.strip_prefix(above).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
}

/// Whether `path` is `scope`, below it or above it.
fn is_in_scope(path: &[u8], scope: &[u8]) -> bool {
    is_beneath(path, scope) || is_beneath(scope, path)
}

/// Whether `path` leads to `scope` and is not itself wanted.
pub(crate) fn is_above(path: &[u8], scope: Option<&[u8]>) -> bool {
    scope.is_some_and(|scope| path != scope && is_beneath(scope, path))
}

impl Iterator for Records {
    type Item = Result<FileRecord, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = self.read();
        self.ended = !matches!(record, Ok(Some(_)));
        record.transpose()
    }
}
