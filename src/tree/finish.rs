//! After the release: what was held open is copied, directories get their attributes, the records are written.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::event::Phase;
use crate::fs;
use crate::fs::attributes;
use crate::fs::dir::{Dir, Kind, split_last, stat_file};
use crate::manifest::{FileKind, FileRecord, RecordReader, RecordWriter, TreeRecord};
use crate::tree::fence::Fenced;
use crate::tree::held::Held;
use crate::tree::linking::turn_or_link;
use crate::tree::overlay::{Now, Overlay, is_within, key};
use crate::tree::queue::Task;
use crate::tree::reading::{Reading, note};
use crate::tree::site::{Place, Site};
use crate::tree::warm::{Listed, directories, records as list_of};
use crate::tree::{Error, judge, pool};

/// How often a file held open is read again that changes.
const TRIES: usize = 5;
/// Directories for a thread at once.
const BATCH: usize = 64;

impl Task for Vec<FileRecord> {}

impl Task for (Vec<u8>, Box<Held>) {}

pub(crate) fn finish(fenced: Fenced, writer: &mut RecordWriter) -> Result<TreeRecord, Error> {
    let Fenced { site, mut overlay, listed, how, took, watch } = fenced;
    drop(watch);
    site.held.store(false, Ordering::Relaxed);
    copy_open(&site, &mut overlay)?;
    let listed = if overlay.len() == 0 {
        // Nothing changed since the list was written.
        site.check()?;
        writer.append(&list_of(&site.work), listed.entries)?;
        close(&site, RecordReader::open(&directories(&site.work))?.map(|record| Ok(record?)))?;
        listed
    } else {
        let mut listed = Listed::default();
        let records = overlay.over(&list_of(&site.work))?.map(|record| {
            let record = record?;
            listed.count(&record);
            writer.write(&record)?;
            Ok(record)
        });
        close(&site, records)?;
        listed
    };
    let totals = totals(&site, listed, how, took);
    site.tell_lacking();
    let work = site.work.file_name().unwrap_or_default();
    Dir::open(fs::parent_of(&site.work))?.remove_all(std::os::unix::ffi::OsStrExt::as_bytes(work))?;
    Ok(totals)
}

/// Gives the directories among the records, which come in order, their attributes.
fn close(site: &Site, records: impl Iterator<Item = Result<FileRecord, Error>>) -> Result<(), Error> {
    if may_search_all() {
        return close_by_all_threads(site, records);
    }
    let mut open: Vec<FileRecord> = Vec::new();
    for record in records {
        let record = record?;
        site.check()?;
        close_directories(site, &mut open, Some(&record))?;
        if record.kind == FileKind::Directory {
            open.push(record);
        }
    }
    close_directories(site, &mut open, None)
}

/// Whether a directory that is closed to others can be gone through all the same, so that it does not matter which is closed first.
fn may_search_all() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    let any = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::DAC_READ_SEARCH);
    capabilities(None).is_ok_and(|sets| sets.effective.intersects(any))
}

fn close_by_all_threads(
    site: &Site,
    records: impl Iterator<Item = Result<FileRecord, Error>>,
) -> Result<(), Error> {
    let work = |batch: Vec<FileRecord>| batch.iter().try_for_each(|record| close_directory(site, record));
    pool::run(site.crew(), work, &mut |()| Ok(()), |pool| {
        let mut batch = Vec::with_capacity(BATCH);
        for record in records {
            site.check()?;
            let record = record?;
            if record.kind == FileKind::Directory {
                batch.push(record);
            }
            if batch.len() >= BATCH {
                pool.give(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)))?;
            }
        }
        pool.give(batch)
    })
}

fn totals(site: &Site, listed: Listed, how: &str, took: Duration) -> TreeRecord {
    let Listed { entries, files, bytes } = listed;
    TreeRecord {
        source: site.tree.path.display().to_string(),
        entries,
        files,
        bytes,
        copied_files: site.counts.copied_files.load(Ordering::Relaxed),
        copied_bytes: site.counts.copied_bytes.load(Ordering::Relaxed),
        linked_files: site.counts.linked_files.load(Ordering::Relaxed).min(files),
        fence: how.to_owned(),
        fence_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Gives every directory that `next` is not in its attributes, the lowest first: nothing changes in it any more.
fn close_directories(
    site: &Site,
    open: &mut Vec<FileRecord>,
    next: Option<&FileRecord>,
) -> Result<(), Error> {
    let next = next.map(|record| key(&record.path.0));
    while let Some(last) =
        open.pop_if(|last| !next.as_ref().is_some_and(|next| is_within(next, &key(&last.path.0))))
    {
        close_directory(site, &last)?;
    }
    Ok(())
}

fn close_directory(site: &Site, record: &FileRecord) -> Result<(), Error> {
    let dir = site.target.beneath(&record.path.0)?;
    let wanted =
        judge::recorded_attributes(record).ok_or_else(|| Error::BadRecord { path: dir.path().to_owned() })?;
    note(site, attributes::apply(&dir, b"", Kind::Directory, &wanted)?);
    Ok(())
}

/// Copies what is held open, by all threads.
fn copy_open(site: &Site, overlay: &mut Overlay) -> Result<(), Error> {
    let paths = overlay.open_paths();
    if paths.is_empty() {
        return Ok(());
    }
    let mut open = Vec::with_capacity(paths.len());
    for path in paths {
        if let Some(held) = overlay.take_open(&path) {
            open.push((path, held));
        }
    }
    let work = |(path, held): (Vec<u8>, Box<Held>)| copy_held(site, &path, &held);
    let mut sink = |record: FileRecord| {
        site.tell(Phase::Trees, 1);
        let path = record.path.0.clone();
        overlay.replace(&path, Now::In(Box::new(record)));
        Ok(())
    };
    pool::run(site.crew(), work, &mut sink, |pool| open.into_iter().try_for_each(|held| pool.give(held)))
}

fn copy_held(site: &Site, path: &[u8], held: &Held) -> Result<FileRecord, Error> {
    let (parent, name) = split_last(path);
    let shown = site.source.path_of(parent);
    let place = Place {
        path: parent.to_vec(),
        // For messages only: the source may have changed by now, the open file is what is read.
        source: site.source.shown_as(&shown)?,
        target: site.target.beneath(parent)?,
        previous: None,
        is_new: false,
    };
    if held.stat.nlink < 2 {
        return copy_settled(site, &place, name, held);
    }
    match turn_or_link(site, &place, name, &held.stat)? {
        Err(linked) => Ok(*linked),
        Ok(turn) => {
            let mut record = copy_settled(site, &place, name, held)?;
            record.link_group = Some(turn.number(&held.stat, &site.root, path));
            turn.done(&record);
            Ok(record)
        }
    }
}

fn copy_settled(site: &Site, place: &Place, name: &[u8], held: &Held) -> Result<FileRecord, Error> {
    let path = place.source.path_of(name);
    for _ in 0..TRIES {
        let before = stat_file(&held.file, &path)?;
        if before.size != held.stat.size {
            return Err(Error::Renewed { path });
        }
        let reading = Reading {
            site,
            dir: &place.source,
            name,
            file: &held.file,
            before: &before,
            as_of: &held.stat,
            held: true,
        };
        if let Some(record) = reading.copy(place)? {
            return Ok(record);
        }
    }
    Err(Error::Unsettled { path })
}
