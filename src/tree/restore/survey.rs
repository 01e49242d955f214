//! The day's records held against the live tree, both in the order of the walk, without touching anything.
//!
//! One thread walks and merges; the others look at the names. What they find comes in the order of the walk, a directory behind all that
//! is in it. Memory holds the names of one directory a level, and what is under way.

use std::iter::Peekable;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::fs::dir::{Dir, Kind, Names, Stat, is_gone, split_last};
use crate::manifest::{FileKind, FileRecord};
use crate::tree::filter::{Rules, is_of_a_restore};
use crate::tree::pool::{self, Crew, Pool};
use crate::tree::queue::Task;
use crate::tree::restore::Error;
use crate::tree::restore::look::{self, Attributed, Member};
use crate::tree::restore::measure::{Bulk, measure};
use crate::tree::restore::records::{Records, is_above, is_beneath};
use crate::tree::restore::tell::Tell;
use crate::tree::site::{is_link, join, open_at_once};

const BATCH: usize = 64;
/// Findings below what is missing, handed on at once.
const RUN: usize = 256;
const OPEN_LEVELS: usize = 32;

/// What is held against what.
pub(crate) struct Survey<'a> {
    /// The live tree; None: it is missing.
    pub root: Option<&'a Dir>,
    pub rules: &'a Rules,
    pub one_file_system: bool,
    pub scope: Option<&'a [u8]>,
    /// A file that has the record's inode number and change time is the record's.
    pub trust_times: bool,
    pub threads: usize,
    pub tell: &'a Tell,
    pub stop: CancellationToken,
}

/// What was found of one name.
#[derive(Debug)]
pub(crate) enum Finding {
    /// What follows, up to its [`Finding::Leave`], is in this directory, which both have. `foreign`: on another file system than the root.
    Enter { foreign: bool },
    /// Everything in the directory was found. Without a record it is not the day's, but holds what stays.
    Leave { path: Vec<u8>, record: Option<Box<FileRecord>>, live: Attributed, same: bool },
    /// The day has it, the live tree does not. `below`: with the directory that it is in.
    Missing { record: Box<FileRecord>, below: bool },
    /// The live tree has it, the day does not; for a directory, with all in it.
    Extra { path: Vec<u8>, stat: Stat, bulk: Bulk },
    /// Both have it, and what they have differs in kind or content.
    Other { record: Box<FileRecord>, stat: Stat, bulk: Bulk },
    /// Only mode, owner, time or extended attributes differ.
    Attributes { record: Box<FileRecord>, live: Attributed },
    /// A name of an inode that has several in the day.
    Member { record: Box<FileRecord>, live: Option<Member> },
    /// Nothing differs.
    Same,
    /// It is excluded, or something is mounted on it: it stays whatever the day has.
    Stays { path: Vec<u8>, mount: bool },
    /// A socket, or a device that this process may not make: recorded only.
    Unmade { record: Box<FileRecord> },
}

struct Batch {
    dir: Arc<Dir>,
    path: Vec<u8>,
    names: Vec<(Vec<u8>, Option<FileRecord>)>,
}

impl Task for Batch {
    fn places(&self) -> usize {
        1
    }
}

/// A directory that both have, or that stays.
struct Level {
    path: Vec<u8>,
    dir: Option<Arc<Dir>>,
    names: Names,
    next: usize,
    record: Option<FileRecord>,
    stat: Stat,
    foreign: bool,
}

/// Holds the records against the live tree and tells `sink` what it finds.
pub(crate) fn survey(
    survey: &Survey<'_>,
    records: Records,
    sink: &mut dyn FnMut(Finding) -> Result<(), Error>,
) -> Result<(), Error> {
    let crew = Crew { threads: survey.threads.max(1), open: open_at_once(), idle: false, stop: &survey.stop };
    let work = |batch: Batch| {
        let look = |(name, record): (Vec<u8>, Option<FileRecord>)| {
            look::at(survey, &batch.dir, &batch.path, &name, record)
        };
        let mut found = Vec::with_capacity(batch.names.len());
        for name in batch.names {
            found.extend(look(name)?);
        }
        Ok(found)
    };
    let mut emit = |findings: Vec<Finding>| {
        survey.tell.files(findings.len() as u64);
        findings.into_iter().try_for_each(&mut *sink)
    };
    pool::run(crew, work, &mut emit, |pool| {
        let mut merge = Merge { survey, pool, records: records.peekable(), levels: Vec::new(), batch: None };
        merge.begin()?;
        while !merge.levels.is_empty() {
            survey.tell.check()?;
            merge.step()?;
        }
        Ok(())
    })
}

struct Merge<'a, 'p> {
    survey: &'a Survey<'a>,
    pool: &'a mut Pool<'p, Batch, Vec<Finding>, Error>,
    records: Peekable<Records>,
    levels: Vec<Level>,
    batch: Option<Batch>,
}

impl Merge<'_, '_> {
    /// The root.
    fn begin(&mut self) -> Result<(), Error> {
        let Some(record) = self.records.next().transpose()? else { return Ok(()) };
        match self.survey.root {
            Some(root) => self.enter(Arc::new(root.shown_as(root.path())?), Vec::new(), Some(record), false),
            None => self.missing(record),
        }
    }

    /// The next name of the lowest directory, or its end.
    fn step(&mut self) -> Result<(), Error> {
        let dir = self.dir()?;
        let Some(here) = self.levels.last_mut() else { return Ok(()) };
        let wanted = match self.records.peek() {
            // What is below a directory that stays without a record is nobody's.
            Some(Ok(record)) if here.record.is_some() => {
                let (parent, name) = split_last(&record.path.0);
                (parent == here.path && !record.path.0.is_empty()).then_some(name)
            }
            Some(Err(_)) => {
                return self.records.next().transpose().map(|_| ());
            }
            _ => None,
        };
        let live = here.names.get(here.next);
        let (take_live, take_record) = match (live, wanted) {
            (None, None) => return self.leave(),
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (Some((live, _)), Some(wanted)) => (live <= wanted, wanted <= live),
        };
        let live = if take_live { live.map(|(name, kind)| (name.to_vec(), kind)) } else { None };
        if take_live {
            here.next += 1;
        }
        let record = if take_record { self.records.next().transpose()? } else { None };
        match (live, record) {
            (Some((name, kind)), record) => self.name(&dir, name, kind, record),
            (None, Some(record)) => self.missing(record),
            (None, None) => Ok(()),
        }
    }

    /// A name that the live tree has.
    fn name(
        &mut self,
        dir: &Arc<Dir>,
        name: Vec<u8>,
        kind: Option<Kind>,
        record: Option<FileRecord>,
    ) -> Result<(), Error> {
        let Some(here) = self.levels.last() else { return Ok(()) };
        let path = join(&here.path, &name);
        let kind = match kind {
            Some(kind) => Some(kind),
            None => dir.stat_if_exists(&name)?.map(|stat| stat.kind),
        };
        let is_directory = kind == Some(Kind::Directory);
        if !self.survey.rules.keep(&path, is_directory) {
            return self.stays(&path, false, record);
        }
        let wants_directory = record.as_ref().is_some_and(|record| record.kind == FileKind::Directory);
        if !is_directory && !wants_directory {
            return self.look_at(dir, name, record);
        }
        let Some(stat) = dir.stat_if_exists(&name)? else {
            return record.map_or(Ok(()), |record| self.missing(record));
        };
        if stat.mount_root && self.survey.one_file_system {
            return self.stays(&path, true, record);
        }
        match record {
            Some(record) if is_directory && wants_directory => match dir.dir(&name) {
                Ok(below) => self.enter(Arc::new(below), path, Some(record), stat.mount_root),
                Err(error) if is_gone(&error) || is_link(&error) => self.missing(record),
                Err(error) => Err(error.into()),
            },
            Some(record) => self.other(dir, &name, record, stat),
            None => self.extra_directory(dir, &name, path, stat),
        }
    }

    /// What is there is another kind of thing than the day's, and one of them is a directory.
    fn other(&mut self, dir: &Dir, name: &[u8], record: FileRecord, stat: Stat) -> Result<(), Error> {
        let path = record.path.0.clone();
        let bulk = measure(self.survey, dir, name, &path, &stat)?;
        if bulk.stays {
            return Err(Error::InTheWay { path: dir.path_of(name) });
        }
        if is_above(&path, self.survey.scope) {
            return Err(Error::NoDirectory { path: dir.path_of(name) });
        }
        let is_directory = record.kind == FileKind::Directory;
        let record = Box::new(record);
        self.emit(if look::can_be_made(record.kind) {
            Finding::Other { record, stat, bulk }
        } else {
            Finding::Extra { path: path.clone(), stat, bulk }
        })?;
        if is_directory { self.below(&path) } else { Ok(()) }
    }

    fn extra_directory(&mut self, dir: &Dir, name: &[u8], path: Vec<u8>, stat: Stat) -> Result<(), Error> {
        let bulk = measure(self.survey, dir, name, &path, &stat)?;
        if bulk.stays {
            // It goes name by name, but for what stays.
            return self.enter(Arc::new(dir.dir(name)?), path, None, stat.mount_root);
        }
        self.emit(Finding::Extra { path, stat, bulk })
    }

    fn look_at(&mut self, dir: &Arc<Dir>, name: Vec<u8>, record: Option<FileRecord>) -> Result<(), Error> {
        let Some(here) = self.levels.last() else { return Ok(()) };
        let path = &here.path;
        let new = || Batch { dir: Arc::clone(dir), path: path.clone(), names: Vec::new() };
        let batch = self.batch.get_or_insert_with(new);
        batch.names.push((name, record));
        if batch.names.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn stays(&mut self, path: &[u8], mount: bool, record: Option<FileRecord>) -> Result<(), Error> {
        self.emit(Finding::Stays { path: path.to_vec(), mount })?;
        if record.is_some_and(|record| record.kind == FileKind::Directory) {
            while self.next_below(path)?.is_some() {}
        }
        Ok(())
    }

    /// What the live tree lacks, with all below it.
    fn missing(&mut self, record: FileRecord) -> Result<(), Error> {
        let path = record.path.0.clone();
        let is_directory = record.kind == FileKind::Directory;
        let record = Box::new(record);
        self.emit(match (look::can_be_made(record.kind), record.link_group) {
            (false, _) => Finding::Unmade { record },
            (true, Some(_)) => Finding::Member { record, live: None },
            (true, None) => Finding::Missing { record, below: false },
        })?;
        if is_directory { self.below(&path) } else { Ok(()) }
    }

    /// All records below a directory that is missing.
    fn below(&mut self, path: &[u8]) -> Result<(), Error> {
        let mut run = Vec::new();
        while let Some(record) = self.next_below(path)? {
            let record = Box::new(record);
            run.push(if look::can_be_made(record.kind) {
                Finding::Missing { record, below: true }
            } else {
                Finding::Unmade { record }
            });
            if run.len() >= RUN {
                self.survey.tell.check()?;
                self.pool.give_ready(std::mem::take(&mut run))?;
            }
        }
        if run.is_empty() { Ok(()) } else { self.pool.give_ready(run) }
    }

    fn next_below(&mut self, path: &[u8]) -> Result<Option<FileRecord>, Error> {
        let is_below = |record: &FileRecord| is_beneath(&record.path.0, path);
        match self.records.peek() {
            Some(Ok(record)) if !is_below(record) => Ok(None),
            _ => self.records.next().transpose(),
        }
    }

    fn enter(
        &mut self,
        dir: Arc<Dir>,
        path: Vec<u8>,
        record: Option<FileRecord>,
        mounted: bool,
    ) -> Result<(), Error> {
        let stat = dir.stat_self()?;
        let foreign = mounted && !path.is_empty() || self.levels.last().is_some_and(|level| level.foreign);
        self.emit(Finding::Enter { foreign })?;
        let names = self.names(&dir, &path)?;
        self.levels.push(Level { path, dir: Some(dir), names, next: 0, record, stat, foreign });
        if let Some(far) = self.levels.len().checked_sub(OPEN_LEVELS) {
            self.levels[far].dir = None;
        }
        Ok(())
    }

    /// The live names of a directory; only the one that leads to the scope, above it.
    fn names(&self, dir: &Dir, path: &[u8]) -> Result<Names, Error> {
        let mut names = dir.names()?;
        let step = self.survey.scope.filter(|_| is_above(path, self.survey.scope)).map(|scope| {
            let rest = if path.is_empty() { scope } else { &scope[path.len() + 1..] };
            rest.split(|byte| *byte == b'/').next().unwrap_or_default()
        });
        names.retain(|name, _| !is_of_a_restore(name) && step.is_none_or(|step| step == name));
        Ok(names)
    }

    fn leave(&mut self) -> Result<(), Error> {
        let dir = self.dir()?;
        let Some(Level { path, record, stat, .. }) = self.levels.pop() else { return Ok(()) };
        // What leads to the scope keeps its own attributes, as what has no record does.
        let record = record.filter(|_| !is_above(&path, self.survey.scope)).map(Box::new);
        let (live, same) = look::at_directory(self.survey, &dir, record.as_deref(), stat)?;
        self.emit(Finding::Leave { path, record, live, same })
    }

    fn emit(&mut self, finding: Finding) -> Result<(), Error> {
        self.flush()?;
        self.pool.give_ready(vec![finding])
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.batch.take().map_or(Ok(()), |batch| self.pool.give(batch))
    }

    /// The lowest directory, open.
    fn dir(&mut self) -> Result<Arc<Dir>, Error> {
        let (Some(here), Some(root)) = (self.levels.last_mut(), self.survey.root) else {
            return Err(Error::Cancelled);
        };
        if let Some(dir) = &here.dir {
            return Ok(Arc::clone(dir));
        }
        Ok(Arc::clone(here.dir.insert(Arc::new(root.beneath(&here.path)?))))
    }
}
