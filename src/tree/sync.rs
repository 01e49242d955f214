//! Bringing a directory and all below it into the day.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::event::{Notices as _, Phase};
use crate::fs::attributes;
use crate::fs::dir::{Dir, Kind, Names, Stat, split_last};
use crate::manifest::{FileRecord, RecordsError};
use crate::tree::ahead::{self, Ahead, Opened};
use crate::tree::bring::{Brought, Outcome, Stage, bring};
use crate::tree::filter::is_of_a_restore;
use crate::tree::overlay::Cursor;
use crate::tree::pool::{self, Pool};
use crate::tree::queue::Task;
use crate::tree::site::{Place, Site, join, open_at_once, optional};
use crate::tree::walk::{Visit, kind_of, walk};
use crate::tree::{Error, judge};

/// What is handed to a thread at once: names, and directories that they are in, each of which is open three times. As much of one
/// directory as can be, for two threads that make names in one directory wait for each other; but what has to be copied may be large.
const NAMES: usize = 512;
const COPIED: usize = 8;
const PLACES: usize = 16;

/// A directory of at most so many bytes is read where it is opened, ahead of the walk; longer lists of names are not in memory before they
/// are needed.
const SMALL_DIRECTORY: u64 = 256 * 1024;

/// What follows in the walk, for one thread.
#[derive(Default)]
pub(crate) struct Batch {
    items: Vec<Item>,
    names: usize,
    /// The names, those that have to be copied counted [`COPIED`] times.
    weight: usize,
    places: usize,
    /// The directories of the first and of the last of them, by their addresses.
    homes: Option<[usize; 2]>,
}

enum Item {
    /// It was brought by the walk.
    Done(Brought),
    /// The directory of the names that follow.
    In(Arc<Place>),
    /// A name to be brought that was in the day before.
    Known(Box<FileRecord>),
    /// A name to be brought that was not.
    New(Vec<u8>),
}

impl Task for Batch {
    fn homes(&self) -> Option<[usize; 2]> {
        self.homes
    }

    fn places(&self) -> usize {
        self.places
    }
}

/// What became of some names.
pub(crate) type Results = Vec<Brought>;

/// Brings `start` (a directory) and all below it; `previous` yields the records of the day before in order.
pub(crate) fn subtree<I>(
    site: &Site,
    start: &[u8],
    previous: Option<I>,
    stage: Stage,
    sink: &mut dyn FnMut(Brought) -> Result<(), Error>,
) -> Result<(), Error>
where
    I: Iterator<Item = Result<FileRecord, RecordsError>>,
{
    let work = |batch: Batch| work(site, batch, stage);
    let mut emit = |results: Results| results.into_iter().try_for_each(&mut *sink);
    let body = |ahead| {
        pool::run(site.crew(), work, &mut emit, |pool| {
            let previous = previous.map(|records| Cursor::new(records, &site.tree.name));
            let (batch, places) = (Batch::default(), places(site.jobs));
            let mut bringer =
                Bringer { site, pool, previous, ahead, batch, places, place: None, path: Vec::new() };
            walk(site, start, &mut bringer)?;
            bringer.ahead.left().iter().try_for_each(|path| remove(site, path))?;
            bringer.flush()
        })
    };
    match stage {
        Stage::Running => {
            ahead::run(site.crew(), |above, path| bring_directory(site, Some(above), path), body)
        }
        // What is left for the hold are single directories.
        Stage::Held => body(Ahead::nobody()),
    }
}

/// Directories in one batch: half of those that may be open wait, the others are in work or being gathered.
fn places(threads: usize) -> usize {
    (open_at_once() / 2 / (threads + 1)).clamp(1, PLACES)
}

/// Removes from the day what has no record.
fn remove(site: &Site, path: &[u8]) -> Result<(), Error> {
    match site.target.parent_beneath(path) {
        Ok((above, name)) => Ok(above.remove_all(&name)?),
        Err(error) if crate::fs::dir::is_gone(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn work(site: &Site, batch: Batch, stage: Stage) -> Result<Results, Error> {
    let mut results = Vec::with_capacity(batch.items.len());
    let mut here: Option<Arc<Place>> = None;
    let mut name = Vec::new();
    for item in batch.items {
        name.clear();
        let previous = match item {
            Item::Done(brought) => {
                results.push(brought);
                continue;
            }
            Item::In(place) => {
                here = Some(place);
                continue;
            }
            Item::Known(record) => {
                name.extend_from_slice(split_last(&record.path.0).1);
                Some(record)
            }
            Item::New(new) => {
                name = new;
                None
            }
        };
        // No name is given before its directory.
        if let Some(place) = &here {
            let outcome = bring(site, place, &name, previous, stage)?;
            results.push(Brought::new(outcome, || place.path_of(&name)));
        }
    }
    if stage == Stage::Running {
        site.tell(Phase::Warm, batch.names as u64);
    }
    Ok(results)
}

struct Bringer<'a, 'p, I: Iterator<Item = Result<FileRecord, RecordsError>>> {
    site: &'a Site,
    pool: &'a mut Pool<'p, Batch, Results, Error>,
    previous: Option<Cursor<I>>,
    ahead: Ahead,
    batch: Batch,
    /// Directories in a batch.
    places: usize,
    /// The directory of the last name in the batch.
    place: Option<Arc<Place>>,
    /// Of the last name, for its memory.
    path: Vec<u8>,
}

impl<I: Iterator<Item = Result<FileRecord, RecordsError>>> Bringer<'_, '_, I> {
    fn previous(&mut self, place: &Place, name: &[u8]) -> Option<Box<FileRecord>> {
        let cursor = self.previous.as_mut()?;
        place.path_into(name, &mut self.path);
        match cursor.seek(&self.path, &mut |_| ()) {
            Ok(record) => record,
            Err(error) => {
                // A day that cannot be read to its end is no link source; what is left is copied.
                let name = &self.site.tree.name;
                let text = format!(
                    "tree {name}: the records of the day before are damaged, so the rest is copied: {error}"
                );
                self.site.context.observer.warn(text);
                self.previous = None;
                None
            }
        }
    }

    fn done(&mut self, path: &[u8], outcome: Outcome) -> Result<(), Error> {
        self.batch.items.push(Item::Done(Brought::new(outcome, || path.to_vec())));
        self.flush_if_full()
    }

    fn flush_if_full(&mut self) -> Result<(), Error> {
        let Batch { items, weight, places, .. } = &self.batch;
        // Directories without names count as names: what waits is bounded.
        let is_full = *weight >= NAMES || *places >= self.places || items.len() >= 2 * NAMES;
        if is_full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.place = None;
        let batch = std::mem::take(&mut self.batch);
        if batch.items.is_empty() { Ok(()) } else { self.pool.give(batch) }
    }
}

impl<I: Iterator<Item = Result<FileRecord, RecordsError>>> Visit for Bringer<'_, '_, I> {
    fn ahead(&mut self, place: &Arc<Place>, names: &Names, next: usize, asked: &mut usize) {
        self.ahead.ask(place, names, next, asked);
    }

    fn directory(&mut self, above: Option<&Place>, path: &[u8]) -> Result<Option<(Place, Names)>, Error> {
        let opened = match self.ahead.fetch(path) {
            Some(opened) => opened?,
            None => bring_directory(self.site, above, path)?,
        };
        let Some(Opened { place, record, is_mount, names }) = opened else {
            if let Some(above) = above {
                // As a file that does not settle: what has no record is not in the day.
                above.target.remove_all(split_last(path).1)?;
            }
            self.done(path, Outcome::Unsettled)?;
            return Ok(None);
        };
        self.done(path, Outcome::In(Box::new(record)))?;
        let names = match names {
            Some(names) => names,
            None => kept_names(self.site, &place.source, path)?,
        };
        if !place.is_new {
            remove_strays(&place.target, &names)?;
        }
        Ok((!is_mount).then_some((place, names)))
    }

    fn other(&mut self, place: &Arc<Place>, name: &[u8]) -> Result<(), Error> {
        let record = self.previous(place, name);
        if self.place.as_ref().is_none_or(|last| !Arc::ptr_eq(last, place)) {
            self.batch.items.push(Item::In(Arc::clone(place)));
            self.batch.places += 1;
            let home = Arc::as_ptr(place).addr();
            self.batch.homes = Some([self.batch.homes.map_or(home, |[first, _]| first), home]);
            self.place = Some(Arc::clone(place));
        }
        self.batch.names += 1;
        self.batch.weight += if record.is_some() { 1 } else { COPIED };
        self.batch.items.push(record.map_or_else(|| Item::New(name.to_vec()), Item::Known));
        self.flush_if_full()
    }

    fn pause(&mut self) -> Result<(), Error> {
        // What is as much as a thread of its own is worth is not mixed with the next directory.
        if self.batch.weight >= NAMES / 4 { self.flush() } else { Ok(()) }
    }
}

/// Makes a directory in the day and opens it there, in the source and in the day before. Its attributes come at the very end, when
/// nothing in it changes any more. None: it is no directory any more.
fn bring_directory(site: &Site, above: Option<&Place>, path: &[u8]) -> Result<Option<Opened>, Error> {
    let opened;
    let (above, name) = match above {
        Some(above) => (above, split_last(path).1),
        None if path.is_empty() => return recorded(site, site.place(b"")?).map(Some),
        None => {
            let (parent, name) = split_last(path);
            opened = match site.place(parent) {
                Ok(place) => place,
                Err(error) if error.is_gone() => return Ok(None),
                Err(error) => return Err(error),
            };
            (&opened, name)
        }
    };
    let Some(source) = optional(above.source.dir(name))? else { return Ok(None) };
    let is_new = above.target.make_dir(name)?;
    if !is_new {
        if above.target.stat(name)?.kind != Kind::Directory {
            above.target.remove_all(name)?;
            above.target.make_dir(name)?;
        }
        above.target.set_mode(name, 0o700, Kind::Directory)?;
    }
    let previous = match &above.previous {
        Some(dir) => optional(dir.dir(name))?,
        None => None,
    };
    let target = above.target.dir(name)?;
    site.overhear(&target);
    let place = Place { path: path.to_vec(), source, target, previous, is_new };
    recorded(site, place).map(Some)
}

/// With its record, and with its names if they are few.
fn recorded(site: &Site, place: Place) -> Result<Opened, Error> {
    let (record, stat) = directory_record(site, &place.source, &place.path)?;
    let is_mount = !place.path.is_empty() && is_mount(site, &stat);
    if is_mount {
        let shown = place.source.path().display();
        site.context.observer.info(format!("{shown} is a mount point: kept as an empty directory"));
    }
    let names = match stat.size {
        _ if is_mount => Some(Names::default()),
        ..=SMALL_DIRECTORY => Some(kept_names(site, &place.source, &place.path)?),
        _ => None,
    };
    Ok(Opened { place, record, is_mount, names })
}

/// The record of a directory of the source.
pub(crate) fn directory_record(site: &Site, source: &Dir, path: &[u8]) -> Result<(FileRecord, Stat), Error> {
    let stat = source.stat_self()?;
    if !path.is_empty() && (stat.mount_root || stat.dev != site.root.dev) && !site.tree.one_file_system {
        site.spans.store(true, Ordering::Relaxed);
    }
    let xattrs = attributes::read_xattrs(source, b"")?;
    Ok((judge::record(&site.tree.name, path, &stat, &xattrs), stat))
}

/// Whether the walk does not go below.
pub(crate) fn is_mount(site: &Site, stat: &Stat) -> bool {
    site.tree.one_file_system && (stat.mount_root || stat.dev != site.root.dev)
}

/// The names of a directory that the rules keep.
pub(crate) fn kept_names(site: &Site, source: &Dir, path: &[u8]) -> Result<Names, Error> {
    let mut names = match source.own_names() {
        Ok(names) => names,
        Err(error) if crate::fs::dir::is_gone(&error) => Names::default(),
        Err(error) => return Err(error.into()),
    };
    if site.rules.is_empty() {
        names.retain(|name, _| !is_of_a_restore(name));
        return Ok(names);
    }
    let mut failed = None;
    names.retain(|name, kind| match kind_of(source, name, kind) {
        Ok(kind) => site.rules.keep(&join(path, name), kind == Some(Kind::Directory)),
        Err(error) => {
            failed = Some(error);
            true
        }
    });
    failed.map_or(Ok(names), Err)
}

/// Removes from the day what is not in the source: leftovers of a run that was killed.
fn remove_strays(target: &Dir, names: &Names) -> Result<(), Error> {
    let there = target.names()?;
    for (name, _) in (0..there.len()).filter_map(|index| there.get(index)) {
        if !names.contains(name) {
            target.remove_all(name)?;
        }
    }
    Ok(())
}
