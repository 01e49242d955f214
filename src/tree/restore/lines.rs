//! The plan on disk: one line for each thing that is to be done, in the order of the walk, a directory behind what is in it.
//!
//! `plan.jsonl.zst` holds the lines. What is to be done with a name of an inode that has several depends on its other names, so its line
//! is [settled](Leaders) when it is read: by `leaders.jsonl.zst`, which names for each such inode the file of the live tree that is it
//! already, if there is one. `wanted.jsonl.zst` holds the records of all that may have to be made, so that nobody looks for them among those of
//! the whole day.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::fs::attributes::Attributes;
use crate::fs::{self, OnPath as _};
use crate::manifest::{FileKind, FileRecord, JsonLines, PathBytes, RecordReader, RecordWriter};
use crate::tree::judge;
use crate::tree::restore::Error;
use crate::tree::restore::look::Attributed;

const PLAN: &str = "plan.jsonl.zst";
const LEADERS: &str = "leaders.jsonl.zst";
const WANTED: &str = "wanted.jsonl.zst";

/// Mode, owner, time and extended attributes, as the records write them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attrs {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
}

impl Attrs {
    pub(crate) fn recorded(record: &FileRecord) -> Self {
        let FileRecord { mode, uid, gid, mtime, .. } = *record;
        Self { mode, uid, gid, mtime, xattrs: record.xattrs.clone() }
    }

    pub(crate) fn live(live: &Attributed) -> Self {
        let stat = &live.stat;
        let xattrs = live.xattrs.iter().map(|(name, value)| (name.clone(), judge::hex(value))).collect();
        Self { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs }
    }

    /// The extended attributes' names.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.xattrs.keys().map(String::as_str)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.xattrs.contains_key(key)
    }

    /// None when a value is no hex.
    pub(crate) fn values(&self) -> Option<Attributes> {
        let Self { mode, uid, gid, mtime, .. } = *self;
        let xattrs: Option<BTreeMap<_, _>> =
            self.xattrs.iter().map(|(name, value)| Some((name.clone(), judge::unhex(value)?))).collect();
        Some(Attributes { mode, uid, gid, mtime, xattrs: xattrs? })
    }
}

/// A directory's mode and modification time, which a move may change: some file systems (XFS) count a move to another directory as a change,
/// and who is not root must open a directory up to move it.
pub(crate) type Closed = (u32, (i64, u32));

/// One thing to be done. `n` names the slot in which its new content is staged, and its old one is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Put what is in the slot where nothing is. `optional`: a device, which may not have been made. `to`: of a directory.
    Create { n: u64, path: PathBytes, optional: bool, to: Option<Closed> },
    /// What is in the slot and what is there, the inode `ino`, change places. `was`: of a directory that is there.
    Replace { n: u64, path: PathBytes, ino: u64, optional: bool, to: Option<Closed>, was: Option<Closed> },
    /// Move what is there, the inode `ino`, into the slot.
    Remove { n: u64, path: PathBytes, ino: u64, was: Option<Closed> },
    /// Set the attributes of what is there, if it is the inode `ino` still: another might get rights that were never meant for it.
    Attributes { path: PathBytes, ino: u64, to: Attrs, from: Attrs },
    /// Everything in the directory, the inode `ino`, is done: set its attributes.
    Directory { path: PathBytes, ino: u64, to: Attrs, from: Attrs },
}

/// A name of an inode that has several in the day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberLine {
    pub n: u64,
    pub path: PathBytes,
    pub kind: FileKind,
    pub group: u64,
    pub size: u64,
    pub to: Attrs,
    /// What the live tree has there: its inode, its size, and its attributes if they are not the day's.
    pub live: Option<(u64, u64, Option<Attrs>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    Step(Step),
    Member(MemberLine),
}

/// The file of the live tree that is an inode of the day with several names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leader {
    pub group: u64,
    pub path: PathBytes,
    pub ino: u64,
}

/// The leaders by the number of the inode in the records.
#[derive(Debug, Default)]
pub(crate) struct Leaders(HashMap<u64, Leader>);

impl Leaders {
    pub(crate) fn read(directory: &Path) -> Result<Self, Error> {
        let lines = JsonLines::<Leader>::open_compressed(&directory.join(LEADERS))?;
        let leaders: Result<_, _> = lines.map(|line| line.map(|leader| (leader.group, leader))).collect();
        Ok(Self(leaders?))
    }

    pub(crate) fn has(&self, group: u64) -> bool {
        self.0.contains_key(&group)
    }

    pub(crate) fn origins(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        self.0.values().map(|leader| (leader.group, leader.path.0.clone()))
    }

    /// What a line comes to; None: nothing is to be done.
    pub(crate) fn settle(&self, line: Line) -> Option<Step> {
        let member = match line {
            Line::Step(step) => return Some(step),
            Line::Member(member) => member,
        };
        let MemberLine { n, path, kind, to, .. } = member;
        let leader = self.0.get(&member.group);
        let optional = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        match (member.live, leader) {
            (Some((ino, _, from)), Some(leader)) if ino == leader.ino => {
                let from = from.filter(|_| path == leader.path)?;
                Some(Step::Attributes { path, ino, to, from })
            }
            // Directories have one name.
            (Some((ino, ..)), _) => Some(Step::Replace { n, path, ino, optional, to: None, was: None }),
            (None, _) => Some(Step::Create { n, path, optional, to: None }),
        }
    }
}

/// Reads the lines of a plan.
pub(crate) fn lines(directory: &Path) -> Result<JsonLines<Line>, Error> {
    Ok(JsonLines::open_compressed(&directory.join(PLAN))?)
}

/// Reads the records of what may have to be made, in the order of the walk.
pub(crate) fn wanted(directory: &Path) -> Result<RecordReader, Error> {
    Ok(RecordReader::open(&directory.join(WANTED))?)
}

/// Reads what is to be done.
pub(crate) fn steps(
    directory: &Path,
    leaders: &Leaders,
) -> Result<impl Iterator<Item = Result<Step, Error>>, Error> {
    let settle = |line: Result<Line, _>| match line {
        Ok(line) => leaders.settle(line).map(Ok),
        Err(error) => Some(Err(Error::Records(error))),
    };
    Ok(lines(directory)?.filter_map(settle))
}

/// Writes a plan.
pub(crate) struct Writer<'a> {
    directory: &'a Path,
    lines: RecordWriter,
    wanted: RecordWriter,
    leaders: HashMap<u64, Leader>,
    /// Which group a live inode was taken for.
    taken: HashMap<u64, u64>,
    next: u64,
}

impl<'a> Writer<'a> {
    pub(crate) fn create(directory: &'a Path) -> Result<Self, Error> {
        let lines = RecordWriter::create(&directory.join(PLAN))?;
        let wanted = RecordWriter::create(&directory.join(WANTED))?;
        Ok(Self { directory, lines, wanted, leaders: HashMap::new(), taken: HashMap::new(), next: 0 })
    }

    /// It may have to be made.
    pub(crate) fn wants(&mut self, record: &FileRecord) -> Result<(), Error> {
        Ok(self.wanted.write(record)?)
    }

    /// A slot of its own.
    pub(crate) fn slot(&mut self) -> u64 {
        let n = self.next;
        self.next += 1;
        n
    }

    pub(crate) fn step(&mut self, step: Step) -> Result<(), Error> {
        Ok(self.lines.write_line(&Line::Step(step))?)
    }

    /// `same_content`: the live file may be the one that the day's other names are linked to.
    pub(crate) fn member(&mut self, member: MemberLine, same_content: bool) -> Result<(), Error> {
        let group = member.group;
        if let (Some((ino, ..)), true) = (&member.live, same_content)
            && !self.leaders.contains_key(&group)
            && *self.taken.entry(*ino).or_insert(group) == group
        {
            self.leaders.insert(group, Leader { group, path: member.path.clone(), ino: *ino });
        }
        Ok(self.lines.write_line(&Line::Member(member))?)
    }

    /// Ends the plan, and flushes it to the disk if it is to be kept.
    pub(crate) fn finish(self, kept: bool) -> Result<Leaders, Error> {
        self.lines.finish()?;
        self.wanted.finish()?;
        let mut leaders = RecordWriter::create(&self.directory.join(LEADERS))?;
        for leader in self.leaders.values() {
            leaders.write_line(leader)?;
        }
        leaders.finish()?;
        if kept {
            for name in [PLAN, LEADERS, WANTED] {
                let path = self.directory.join(name);
                fs::open(&path)?.sync_all().on("flush", &path)?;
            }
            fs::sync_dir(self.directory)?;
        }
        Ok(Leaders(self.leaders))
    }
}
