//! Making things out of the day, in the order of the walk.
//!
//! One thread goes through the records and makes the directories; the others make what is in them, a batch of names at a time, relative
//! to open directories. A directory gets its attributes when everything in it is done: then its times hold.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::fs::attributes;
use crate::fs::dir::{Dir, Kind, split_last};
use crate::manifest::{FileKind, FileRecord};
use crate::tree::pool::{self, Crew, Pool};
use crate::tree::queue::Task;
use crate::tree::restore::Error;
use crate::tree::restore::making::Making;
use crate::tree::restore::records::attributes_of;
use crate::tree::restore::yard::{Yard, in_day};
use crate::tree::site::{join, open_at_once};

/// Names handed to a thread at once.
const BATCH: usize = 32;
/// Levels of directories that stay open.
const OPEN_LEVELS: usize = 32;

/// Something to be made whose name is not the one in the records.
pub(crate) struct Top {
    pub record: FileRecord,
    /// The directory that it is made in, its path beneath the target, and its name there.
    pub dir: Arc<Dir>,
    pub dir_path: Vec<u8>,
    pub name: Vec<u8>,
}

/// What threads are given.
struct Batch {
    source: Arc<Dir>,
    target: Arc<Dir>,
    target_path: Vec<u8>,
    /// The record, and the name to make when it is not the record's.
    items: Vec<(FileRecord, Option<Vec<u8>>)>,
}

impl Task for Batch {
    fn homes(&self) -> Option<[usize; 2]> {
        Some([Arc::as_ptr(&self.target).addr(); 2])
    }

    fn places(&self) -> usize {
        1
    }
}

enum Done {
    /// So many names.
    Names(u64),
    /// Everything in this directory is made.
    Close(Arc<Dir>, Box<FileRecord>),
}

/// A directory that is being made.
struct Open {
    record: FileRecord,
    target_path: Vec<u8>,
    /// In the day, and where it is made; None while the walk is far below it.
    dirs: Option<(Arc<Dir>, Arc<Dir>)>,
}

/// Makes what it is given, in the order of the walk.
pub(crate) struct Builder<'a, 'p> {
    yard: &'a Yard<'a>,
    pool: &'a mut Pool<'p, Batch, Done, Error>,
    batch: Option<Batch>,
    open: Vec<Open>,
    /// The directory of the day that the last thing came from.
    source: Option<(Vec<u8>, Arc<Dir>)>,
}

/// Runs `body` with a builder; all that it asked for is made when this returns.
pub(crate) fn build(
    yard: &Yard<'_>,
    threads: usize,
    body: impl FnOnce(&mut Builder<'_, '_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let crew = Crew { threads: threads.max(1), open: open_at_once(), idle: false, stop: &yard.stop };
    let work = |batch: Batch| make_batch(yard, &batch);
    let mut sink = |done: Done| match done {
        Done::Names(names) => {
            yard.tell.files(names);
            Ok(())
        }
        Done::Close(dir, record) => close(yard, &dir, &record),
    };
    pool::run(crew, work, &mut sink, |pool| {
        let mut builder = Builder { yard, pool, batch: None, open: Vec::new(), source: None };
        body(&mut builder)?;
        builder.close_until(None)?;
        builder.flush()
    })
}

impl Builder<'_, '_> {
    /// Makes a thing under a name of its own. If it is a directory, what is in it comes [next](Self::within).
    pub(crate) fn top(&mut self, top: Top) -> Result<(), Error> {
        self.close_until(None)?;
        if top.record.kind == FileKind::Directory {
            self.flush()?;
            let source =
                Arc::new(in_day(self.yard, &top.record.path.0, self.yard.day.beneath(&top.record.path.0))?);
            return self.directory(top.record, source, &top.dir, &top.dir_path, &top.name);
        }
        let source = self.source_of(split_last(&top.record.path.0).0)?;
        let fits =
            |batch: &Batch| Arc::ptr_eq(&batch.source, &source) && Arc::ptr_eq(&batch.target, &top.dir);
        if self.batch.as_ref().is_some_and(|batch| !fits(batch)) {
            self.flush()?;
        }
        let new = || Batch { source, target: top.dir, target_path: top.dir_path, items: Vec::new() };
        self.batch.get_or_insert_with(new).items.push((top.record, Some(top.name)));
        self.flush_if_full()
    }

    /// Makes a thing in the directory that was given before it.
    pub(crate) fn within(&mut self, record: FileRecord) -> Result<(), Error> {
        let parent = split_last(&record.path.0).0.to_vec();
        self.close_until(Some(&parent))?;
        let Some(above) = self.open.last_mut() else {
            return Err(Error::Damaged {
                path: self.yard.day.path_of(&record.path.0),
                problem: "its directory is not among what is restored".to_owned(),
            });
        };
        let (source, target) = match &above.dirs {
            Some((source, target)) => (Arc::clone(source), Arc::clone(target)),
            None => {
                let source = in_day(self.yard, &parent, self.yard.day.beneath(&parent))?;
                let dirs = (Arc::new(source), Arc::new(self.yard.target.beneath(&above.target_path)?));
                above.dirs = Some((Arc::clone(&dirs.0), Arc::clone(&dirs.1)));
                dirs
            }
        };
        let target_path = above.target_path.clone();
        if record.kind == FileKind::Directory {
            self.flush()?;
            let name = split_last(&record.path.0).1.to_vec();
            let below = in_day(self.yard, &record.path.0, source.dir(&name))?;
            return self.directory(record, Arc::new(below), &target, &target_path, &name);
        }
        let new = || Batch { source, target, target_path, items: Vec::new() };
        self.batch.get_or_insert_with(new).items.push((record, None));
        self.flush_if_full()
    }

    fn directory(
        &mut self,
        record: FileRecord,
        source: Arc<Dir>,
        above: &Dir,
        above_path: &[u8],
        name: &[u8],
    ) -> Result<(), Error> {
        self.yard.tell.check()?;
        let fresh = above.make_dir(name)?;
        if !fresh && self.yard.resumed {
            // What a killed restore made may be closed to us, if we are not root.
            if above.stat(name)?.kind == Kind::Directory {
                above.set_mode(name, 0o700, Kind::Directory)?;
            } else {
                above.remove_all(name)?;
                above.make_dir(name)?;
            }
        }
        let target = Arc::new(above.dir(name)?);
        let may_be_there = self.yard.resumed || (self.yard.onto_mount && self.open.is_empty());
        if !fresh && !may_be_there {
            return Err(Error::NotOurs { path: target.path().to_owned() });
        }
        self.yard.made.entries.fetch_add(1, Ordering::Relaxed);
        self.open.push(Open { record, target_path: join(above_path, name), dirs: Some((source, target)) });
        if let Some(far) = self.open.len().checked_sub(OPEN_LEVELS) {
            self.open[far].dirs = None;
        }
        Ok(())
    }

    /// Ends every directory that the next thing, which is in `parent`, is not in.
    fn close_until(&mut self, parent: Option<&[u8]>) -> Result<(), Error> {
        while let Some(last) = self.open.pop_if(|last| parent != Some(last.record.path.0.as_slice())) {
            self.flush()?;
            let target = match last.dirs {
                Some((_, target)) => target,
                None => Arc::new(self.yard.target.beneath(&last.target_path)?),
            };
            self.pool.give_ready(Done::Close(target, Box::new(last.record)))?;
        }
        Ok(())
    }

    fn source_of(&mut self, parent: &[u8]) -> Result<Arc<Dir>, Error> {
        if let Some((path, dir)) = &self.source
            && path == parent
        {
            return Ok(Arc::clone(dir));
        }
        let dir = Arc::new(in_day(self.yard, parent, self.yard.day.beneath(parent))?);
        self.source = Some((parent.to_vec(), Arc::clone(&dir)));
        Ok(dir)
    }

    fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.batch.as_ref().is_some_and(|batch| batch.items.len() >= BATCH) {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.batch.take().map_or(Ok(()), |batch| self.pool.give(batch))
    }
}

fn close(yard: &Yard<'_>, dir: &Dir, record: &FileRecord) -> Result<(), Error> {
    yard.tell.lacks(attributes::give(dir, dir.path(), &attributes_of(record)?)?);
    yard.tell.files(1);
    Ok(())
}

fn make_batch(yard: &Yard<'_>, batch: &Batch) -> Result<Done, Error> {
    let names = batch.items.len() as u64;
    for (record, name) in &batch.items {
        if yard.stop.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let making = Making {
            yard,
            source: &batch.source,
            target: &batch.target,
            record,
            name: name.as_deref().unwrap_or_else(|| split_last(&record.path.0).1),
        };
        making.make(&batch.target_path)?;
    }
    Ok(Done::Names(names))
}
