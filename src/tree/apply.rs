//! Bringing over what changed since a tree was walked.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::fs;
use crate::fs::dir::{Kind, split_last};
use crate::manifest::{FileRecord, RecordReader, RecordsError};
use crate::tree::Error;
use crate::tree::bring::{Brought, Outcome, Stage, bring};
use crate::tree::compare::{Dirt, Dirty, mark};
use crate::tree::overlay::{Key, Now, Overlay, is_within, key, path as path_of_key};
use crate::tree::pool;
use crate::tree::queue::Task;
use crate::tree::site::{Place, Site};
use crate::tree::sync::{self, Results, directory_record};

const BATCH: usize = 32;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Names that would not settle: for the next time.
    pub again: Dirty,
    /// Names brought.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Brings every dirty path of the source into the day and the overlay. `links` lists the records of the walk that have several names.
pub(crate) fn apply(
    site: &Site,
    dirty: &Dirty,
    overlay: &mut Overlay,
    links: &Path,
    stage: Stage,
) -> Result<Applied, Error> {
    site.groups.clear();
    let mut applied = Applied::default();
    let mut round = Round {
        site,
        overlay,
        stage,
        applied: &mut applied,
        groups: HashSet::new(),
        brought: HashSet::new(),
    };
    round.apply(dirty)?;
    // A name that moved took its inode along: the other names of that inode must be one with it again.
    let others = other_names(&round, links)?;
    round.apply(&others)?;
    Ok(applied)
}

fn other_names(round: &Round<'_>, links: &Path) -> Result<Dirty, Error> {
    let mut others = Dirty::new();
    if round.groups.is_empty() {
        return Ok(others);
    }
    let mut add = |record: &FileRecord| {
        let is_one = record.link_group.is_some_and(|group| round.groups.contains(&group));
        if is_one && !round.brought.contains(&key(&record.path.0)) {
            mark(&mut others, &record.path.0, Dirt::Name);
        }
    };
    let listed = if fs::exists(links)? { Some(RecordReader::open(links)?) } else { None };
    for record in listed.into_iter().flatten() {
        let record = record?;
        if !round.overlay.has(&record.path.0) {
            add(&record);
        }
    }
    round.overlay.records().for_each(add);
    Ok(others)
}

struct Round<'a> {
    site: &'a Site,
    overlay: &'a mut Overlay,
    stage: Stage,
    applied: &'a mut Applied,
    /// Groups of names that were brought.
    groups: HashSet<u64>,
    /// Those names: a second turn would count them twice.
    brought: HashSet<Key>,
}

struct Batch {
    place: Arc<Place>,
    names: Vec<Vec<u8>>,
}

impl Task for Batch {
    fn homes(&self) -> Option<[usize; 2]> {
        Some([Arc::as_ptr(&self.place).addr(); 2])
    }

    fn places(&self) -> usize {
        1
    }
}

impl Round<'_> {
    /// Directories and what has gone first, one by one; then the files, by all threads.
    fn apply(&mut self, dirty: &Dirty) -> Result<(), Error> {
        let mut files = Dirty::new();
        let mut done: Option<Vec<u8>> = None;
        for (key, dirt) in dirty {
            self.site.check()?;
            if done.as_ref().is_some_and(|done| is_within(key, done)) {
                continue;
            }
            let path = path_of_key(key);
            if !self.site.rules.keep_above(&path) {
                continue;
            }
            match self.directory_or_gone(path, *dirt)? {
                Step::File(path) => mark(&mut files, &path, Dirt::Name),
                Step::Whole(path) => done = Some(crate::tree::overlay::key(&path)),
                Step::Done => {}
            }
        }
        self.files(&files)
    }

    /// Looks at a path, or at the lowest directory above it that is there on both sides.
    fn directory_or_gone(&mut self, path: Vec<u8>, dirt: Dirt) -> Result<Step, Error> {
        if path.is_empty() {
            return self.directory(&path, dirt == Dirt::Below);
        }
        let (mut path, mut dirt) = (path, dirt);
        let (place, name) = loop {
            let (parent, name) = split_last(&path);
            match self.site.place(parent) {
                Ok(place) => break (place, name.to_vec()),
                Err(error) if error.is_gone() && !parent.is_empty() => {
                    (path, dirt) = (parent.to_vec(), Dirt::Below);
                }
                Err(error) => return Err(error),
            }
        };
        let stat = place.source.stat_if_exists(&name)?;
        let kept = stat.filter(|stat| self.site.rules.keep(&path, stat.kind == Kind::Directory));
        match kept.map(|stat| stat.kind) {
            None => {
                place.target.remove_all(&name)?;
                self.overlay.replace(&path, Now::Gone);
                Ok(Step::Whole(path))
            }
            Some(Kind::Directory) => {
                let there = place.target.stat_if_exists(&name)?;
                let is_new = there.is_none_or(|there| there.kind != Kind::Directory);
                if dirt == Dirt::Below || is_new {
                    place.target.remove_all(&name)?;
                }
                self.directory(&path, dirt == Dirt::Below || is_new)
            }
            Some(_) => Ok(Step::File(path)),
        }
    }

    fn directory(&mut self, path: &[u8], whole: bool) -> Result<Step, Error> {
        if !whole {
            match self.site.source.beneath(path) {
                Ok(source) => self.overlay.put(directory_record(self.site, &source, path)?.0),
                // It went since it was looked at.
                Err(error) => self.unsettled(path, error.into())?,
            }
            return Ok(Step::Done);
        }
        self.overlay.replace(path, Now::Gone);
        let mut results = Vec::new();
        let mut sink = |brought| {
            results.push(brought);
            Ok(())
        };
        let none: Option<std::iter::Empty<Result<FileRecord, RecordsError>>> = None;
        sync::subtree(self.site, path, none, self.stage, &mut sink)?;
        self.take(results)?;
        Ok(Step::Whole(path.to_vec()))
    }

    /// What is gone while the repository runs is looked at again.
    fn unsettled(&mut self, path: &[u8], error: Error) -> Result<(), Error> {
        if self.stage == Stage::Held || !error.is_gone() {
            return Err(error);
        }
        mark(&mut self.applied.again, path, Dirt::Below);
        Ok(())
    }

    fn files(&mut self, files: &Dirty) -> Result<(), Error> {
        let (site, stage) = (self.site, self.stage);
        let mut gone = Vec::new();
        let work = |batch: Batch| -> Result<Results, Error> {
            let bring = |name: Vec<u8>| {
                let outcome = bring(site, &batch.place, &name, None, stage)?;
                Ok(Brought::new(outcome, || batch.place.path_of(&name)))
            };
            batch.names.into_iter().map(bring).collect()
        };
        let mut sink = |results| self.take(results);
        pool::run(site.crew(), work, &mut sink, |pool| {
            let mut batch: Option<Batch> = None;
            for path in files.keys().map(|key| path_of_key(key)) {
                let (parent, name) = split_last(&path);
                let full = |batch: &mut Batch| batch.place.path != parent || batch.names.len() >= BATCH;
                if let Some(batch) = batch.take_if(full) {
                    pool.give(batch)?;
                }
                let batch = match &mut batch {
                    Some(batch) => batch,
                    None => match site.place(parent) {
                        Ok(place) => batch.insert(Batch { place: Arc::new(place), names: Vec::new() }),
                        Err(error) => {
                            gone.push((path, error));
                            continue;
                        }
                    },
                };
                batch.names.push(name.to_vec());
            }
            batch.map_or(Ok(()), |batch| pool.give(batch))
        })?;
        gone.into_iter().try_for_each(|(path, error)| self.unsettled(&path, error))
    }

    fn take(&mut self, results: Results) -> Result<(), Error> {
        for brought in results {
            let path = brought.path().to_vec();
            match brought.outcome {
                Outcome::In(record) => {
                    self.applied.files += 1;
                    self.applied.bytes += record.size;
                    if let Some(group) = record.link_group {
                        self.groups.insert(group);
                        self.brought.insert(key(&path));
                    }
                    if record.kind == crate::manifest::FileKind::Directory {
                        self.overlay.put(*record);
                    } else {
                        self.overlay.replace(&path, Now::In(record));
                    }
                }
                Outcome::Open(held) => {
                    self.applied.files += 1;
                    self.applied.bytes += held.stat.size;
                    self.overlay.replace(&path, Now::Open(held));
                }
                Outcome::Gone => self.overlay.replace(&path, Now::Gone),
                Outcome::AsWas => {}
                Outcome::Unsettled if self.stage == Stage::Running => {
                    mark(&mut self.applied.again, &path, Dirt::Below);
                }
                Outcome::Unsettled => {
                    let path = self.site.source.path_of(&path);
                    return Err(Error::Unsettled { path });
                }
            }
        }
        Ok(())
    }
}

enum Step {
    /// To be brought with the other files.
    File(Vec<u8>),
    /// The path and all below it is done.
    Whole(Vec<u8>),
    /// Only the path is done.
    Done,
}
