//! The second walk: what is not as recorded, without touching anything. Its cost follows the number of names in the tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fs::attributes;
use crate::fs::dir::{Names, is_gone, split_last};
use crate::manifest::{FileKind, FileRecord, RecordsError};
use crate::tree::overlay::{Cursor, Key, is_within, key};
use crate::tree::pool::{self, Pool};
use crate::tree::queue::Task;
use crate::tree::site::{Place, Site, optional};
use crate::tree::sync::{is_mount, kept_names};
use crate::tree::walk::{Visit, walk};
use crate::tree::{Error, judge};

const BATCH: usize = 256;

/// What is to be brought again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dirt {
    /// The name itself; what is below a directory is dirty by itself.
    Name,
    /// The name and all below it.
    Below,
}

/// Dirty paths in the order of the walk.
pub(crate) type Dirty = BTreeMap<Key, Dirt>;

/// Marks a path; the wider mark wins.
pub(crate) fn mark(dirty: &mut Dirty, path: &[u8], dirt: Dirt) {
    let entry = dirty.entry(key(path)).or_insert(dirt);
    *entry = dirt.max(*entry);
}

struct Batch {
    place: Arc<Place>,
    names: Vec<(Vec<u8>, Box<FileRecord>)>,
}

impl Task for Batch {
    fn places(&self) -> usize {
        1
    }
}

/// Looks at every name of the tree.
pub(crate) fn dirty(
    site: &Site,
    records: impl Iterator<Item = Result<FileRecord, RecordsError>>,
) -> Result<Dirty, Error> {
    let mut found = Dirty::new();
    let mut by_walk = Dirty::new();
    let work = |batch: Batch| -> Result<Vec<Vec<u8>>, Error> {
        let mut changed = Vec::new();
        for (name, record) in &batch.names {
            if !is_unchanged(site, &batch.place, name, record)? {
                changed.push(batch.place.path_of(name));
            }
        }
        Ok(changed)
    };
    let mut sink = |paths: Vec<Vec<u8>>| {
        for path in paths {
            mark(&mut found, &path, Dirt::Name);
        }
        Ok(())
    };
    pool::run(site.crew(), work, &mut sink, |pool| {
        let cursor = Cursor::new(records, &site.tree.name);
        let mut looker = Looker { site, pool, cursor, batch: None, dirty: &mut by_walk, gone: None };
        walk(site, b"", &mut looker)?;
        looker.finish()
    })?;
    for (key, dirt) in by_walk {
        let entry = found.entry(key).or_insert(dirt);
        *entry = dirt.max(*entry);
    }
    Ok(found)
}

fn is_unchanged(site: &Site, place: &Place, name: &[u8], record: &FileRecord) -> Result<bool, Error> {
    let Some(stat) = place.source.stat_if_exists(name)? else { return Ok(false) };
    if let Some(known) = judge::is_as_recorded(record, &stat, site.tree.content_named) {
        return Ok(known);
    }
    match attributes::read_xattrs(&place.source, name) {
        Ok(xattrs) => Ok(judge::same_xattrs(record, &xattrs)),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

struct Looker<'a, 'p, I: Iterator<Item = Result<FileRecord, RecordsError>>> {
    site: &'a Site,
    pool: &'a mut Pool<'p, Batch, Vec<Vec<u8>>, Error>,
    cursor: Cursor<I>,
    batch: Option<Batch>,
    dirty: &'a mut Dirty,
    /// The last path found gone: what is below it needs no mark.
    gone: Option<Key>,
}

impl<I: Iterator<Item = Result<FileRecord, RecordsError>>> Looker<'_, '_, I> {
    fn record(&mut self, path: &[u8]) -> Result<Option<Box<FileRecord>>, Error> {
        let (dirty, gone) = (&mut *self.dirty, &mut self.gone);
        Ok(self.cursor.seek(path, &mut |passed| mark_gone(dirty, gone, passed))?)
    }

    fn finish(self) -> Result<(), Error> {
        let (dirty, mut gone) = (self.dirty, self.gone);
        Ok(self.cursor.rest(&mut |passed| mark_gone(dirty, &mut gone, passed))?)
    }
}

fn mark_gone(dirty: &mut Dirty, gone: &mut Option<Key>, record: &FileRecord) {
    let key = key(&record.path.0);
    // Below what is marked whole, be it gone or new in kind, nothing needs a mark of its own.
    if !gone.as_ref().is_some_and(|gone| is_within(&key, gone)) {
        dirty.insert(key.clone(), Dirt::Below);
        *gone = Some(key);
    }
}

impl<I: Iterator<Item = Result<FileRecord, RecordsError>>> Visit for Looker<'_, '_, I> {
    fn directory(&mut self, above: Option<&Place>, path: &[u8]) -> Result<Option<(Place, Names)>, Error> {
        let Some(record) = self.record(path)?.filter(|record| record.kind == FileKind::Directory) else {
            mark(self.dirty, path, Dirt::Below);
            self.gone = Some(key(path));
            return Ok(None);
        };
        let source = match above {
            Some(above) => optional(above.source.dir(split_last(path).1))?,
            None => Some(self.site.source.beneath(path)?),
        };
        let Some(source) = source else {
            mark(self.dirty, path, Dirt::Below);
            return Ok(None);
        };
        let stat = source.stat_self()?;
        if judge::is_as_recorded(&record, &stat, false) != Some(true) {
            mark(self.dirty, path, Dirt::Name);
        }
        if !path.is_empty() && is_mount(self.site, &stat) {
            return Ok(None);
        }
        let names = kept_names(self.site, &source, path)?;
        let target = self.site.target.beneath(b"")?;
        Ok(Some((Place { path: path.to_vec(), source, target, previous: None, is_new: false }, names)))
    }

    fn other(&mut self, place: &Arc<Place>, name: &[u8]) -> Result<(), Error> {
        let path = place.path_of(name);
        let Some(record) = self.record(&path)? else {
            mark(self.dirty, &path, Dirt::Name);
            return Ok(());
        };
        if record.kind == FileKind::Directory {
            mark(self.dirty, &path, Dirt::Below);
            self.gone = Some(key(&path));
            return Ok(());
        }
        let batch = self.batch.get_or_insert_with(|| Batch { place: Arc::clone(place), names: Vec::new() });
        batch.names.push((name.to_vec(), record));
        if batch.names.len() >= BATCH { self.pause() } else { Ok(()) }
    }

    fn pause(&mut self) -> Result<(), Error> {
        self.batch.take().map_or(Ok(()), |batch| self.pool.give(batch))
    }
}
