//! Bringing one name into the day: by a link to the day before, or by a copy.
//!
//! Crash safety: a name appears in the day by `linkat` from the day before, by `O_EXCL` where nothing had that name, or by `rename` of a
//! file that was made in the staging directory. Killed at any moment, the next run finds a stray file in the staging directory and
//! removes it, or a file in the day that is whole or not, and believes it only when its digest and its attributes are the source's. What
//! has a name in the day already is never opened for writing, so nothing is ever written through a hard link into an older day.

use std::sync::atomic::Ordering;

use crate::fs::dir::{Dir, Kind, Stat, is_gone, stat_file};
use crate::manifest::FileRecord;
use crate::tree::Error;
use crate::tree::held::{Held, Slot};
use crate::tree::judge::{self, Judgement};
use crate::tree::linking::{link_over, turn_or_link};
use crate::tree::reading::{Reading, xattrs_of};
use crate::tree::site::{Place, Site, is_link};
use crate::tree::special::special;

/// How often a name is looked at again that changes while it is brought.
const TRIES: usize = 5;
/// How many names an inode can have on ext4; other file systems allow more.
const MOST_NAMES: u32 = 65_000;

/// When a name is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The repository runs: what does not settle is left for later.
    Running,
    /// The repository is held: what does not settle is an error.
    Held,
}

/// What became of a name.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is in the day.
    In(Box<FileRecord>),
    /// It is in the day since the last look, and its record holds.
    AsWas,
    /// It is not in the source any more, nor in the day.
    Gone,
    /// It would not hold still, or became something else: to be looked at again.
    Unsettled,
    /// It is open, and copied after the release.
    Open(Box<Held>),
}

/// A path, and what became of it.
#[derive(Debug)]
pub(crate) struct Brought {
    /// Empty where the record says it.
    path: Vec<u8>,
    /// What became of it.
    pub outcome: Outcome,
}

impl Brought {
    /// Asks for the path only where no record has it.
    pub(crate) fn new(outcome: Outcome, path: impl FnOnce() -> Vec<u8>) -> Self {
        let path = if matches!(outcome, Outcome::In(_)) { Vec::new() } else { path() };
        Self { path, outcome }
    }

    /// In the tree.
    pub(crate) fn path(&self) -> &[u8] {
        match &self.outcome {
            Outcome::In(record) => &record.path.0,
            _ => &self.path,
        }
    }
}

/// Brings the name, whatever it is but a directory.
pub(crate) fn bring(
    site: &Site,
    place: &Place,
    name: &[u8],
    mut previous: Option<Box<FileRecord>>,
    stage: Stage,
) -> Result<Outcome, Error> {
    for _ in 0..TRIES {
        site.check()?;
        let Some(stat) = place.source.stat_if_exists(name)? else {
            place.target.remove_all(name)?;
            return Ok(Outcome::Gone);
        };
        if stat.mount_root || stat.dev != site.root.dev {
            // A file that is mounted over the name changes elsewhere.
            site.spans.store(true, Ordering::Relaxed);
        }
        let brought = match stat.kind {
            Kind::Directory => return Ok(Outcome::Unsettled),
            _ => one_of_several(site, place, name, &stat, &mut previous, stage)?,
        };
        if let Some(outcome) = brought {
            return Ok(outcome);
        }
    }
    match stage {
        Stage::Running => {
            // It gets no record, so it keeps nothing in the day: what is there may be what a killed run left.
            place.target.remove_all(name)?;
            Ok(Outcome::Unsettled)
        }
        Stage::Held => Err(Error::Unsettled { path: place.source.path_of(name) }),
    }
}

/// A file or special file, with regard to its other names. None: it changed meanwhile.
fn one_of_several(
    site: &Site,
    place: &Place,
    name: &[u8],
    stat: &Stat,
    previous: &mut Option<Box<FileRecord>>,
    stage: Stage,
) -> Result<Option<Outcome>, Error> {
    if stage == Stage::Held && site.tree.content_named && stat.kind == Kind::File {
        if is_kept_already(place, name, stat)? {
            return Ok(Some(Outcome::AsWas));
        }
        // The others are copied at once.
        if let Some(slot) = Slot::take() {
            return hold_open(place, name, stat, slot);
        }
    }
    if stat.nlink < 2 {
        return by_itself(site, place, name, stat, previous);
    }
    let turn = match turn_or_link(site, place, name, stat)? {
        Ok(turn) => turn,
        Err(linked) => return Ok(Some(Outcome::In(linked))),
    };
    // What is no regular file is not linked to the day before when it has several names: a new inode is cheap. Nor is what begins another
    // inode since the first can have no more names: the day before's inode may be that very one.
    if stat.kind != Kind::File || turn.begins_another() {
        *previous = None;
    }
    match by_itself(site, place, name, stat, previous)? {
        Some(Outcome::In(mut record)) => {
            record.link_group = Some(turn.number(stat, &site.root, &record.path.0));
            turn.done(&record);
            Ok(Some(Outcome::In(record)))
        }
        other => Ok(other),
    }
}

fn by_itself(
    site: &Site,
    place: &Place,
    name: &[u8],
    stat: &Stat,
    previous: &mut Option<Box<FileRecord>>,
) -> Result<Option<Outcome>, Error> {
    match stat.kind {
        Kind::File => regular(site, place, name, stat, previous),
        _ => Ok(special(site, place, name, stat, previous.as_deref())?.map(Outcome::In)),
    }
}

/// A regular file by itself. None: it changed meanwhile.
fn regular(
    site: &Site,
    place: &Place,
    name: &[u8],
    stat: &Stat,
    previous: &mut Option<Box<FileRecord>>,
) -> Result<Option<Outcome>, Error> {
    if let (Some(record), Some(dir)) = (&*previous, &place.previous)
        && link_previous(site, place, dir, name, stat, record)?
        && let Some(mut record) = previous.take()
    {
        site.counts.linked_files.fetch_add(1, Ordering::Relaxed);
        (record.ctime, record.ino, record.link_group) = (stat.ctime, stat.ino, None);
        return Ok(Some(Outcome::In(record)));
    }
    let file = match place.source.open_file(name) {
        Ok(file) => file,
        Err(error) if is_gone(&error) || is_link(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let reading =
        Reading { site, dir: &place.source, name, file: &file, before: stat, as_of: stat, held: false };
    Ok(reading.copy(place)?.map(|record| Outcome::In(Box::new(record))))
}

/// Whether the file is the previous day's, and is linked now.
fn link_previous(
    site: &Site,
    place: &Place,
    dir: &Dir,
    name: &[u8],
    stat: &Stat,
    record: &FileRecord,
) -> Result<bool, Error> {
    let judgement = judge::file(record, stat, site.tree.content_named);
    if judgement == Judgement::Differs {
        return Ok(false);
    }
    // Before it is trusted: the day may have been hurt since it was sealed.
    let Some(kept) = dir.stat_if_exists(name)? else { return Ok(false) };
    let rights = if site.is_root { 0o7777 } else { 0o777 };
    if kept.kind != Kind::File
        || kept.size != record.size
        || kept.mtime != record.mtime
        || (kept.mode ^ record.mode) & rights != 0
    {
        return Ok(false);
    }
    // All names of an inode are to be one inode: where they would not all find room on the older one, a new one is begun.
    if stat.nlink > 1 && stat.nlink <= MOST_NAMES && kept.nlink.saturating_add(stat.nlink) > MOST_NAMES {
        return Ok(false);
    }
    if judgement != Judgement::Same && !judge::same_xattrs(record, &xattrs_of(&place.source, name)?) {
        return Ok(false);
    }
    if judgement == Judgement::Compare {
        let file = match place.source.open_file(name) {
            Ok(file) => file,
            Err(error) if is_gone(&error) || is_link(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let reading =
            Reading { site, dir: &place.source, name, file: &file, before: stat, as_of: stat, held: false };
        if reading.digest()?.map(|digest| digest.to_hex().to_string()) != record.blake3 {
            return Ok(false);
        }
    }
    link_over(dir, name, &kept, &place.target, name)
}

/// A file of a tree whose names are content, while the repository is held: the day has it already.
fn is_kept_already(place: &Place, name: &[u8], stat: &Stat) -> Result<bool, Error> {
    let Some(there) = place.target.stat_if_exists(name)? else { return Ok(false) };
    let alike = there.kind == Kind::File
        && (there.size, there.mode, there.uid, there.gid) == (stat.size, stat.mode, stat.uid, stat.gid)
        && (stat.nlink == 1 || there.nlink > 1);
    Ok(alike && xattrs_of(&place.target, name)? == xattrs_of(&place.source, name)?)
}

/// Opened, to be copied after the release.
fn hold_open(place: &Place, name: &[u8], stat: &Stat, slot: Slot) -> Result<Option<Outcome>, Error> {
    let file = match place.source.open_file(name) {
        Ok(file) => file,
        Err(error) if is_gone(&error) || is_link(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let opened = stat_file(&file, &place.source.path_of(name))?;
    if !opened.is_same_inode(stat) || opened.size != stat.size {
        return Ok(None);
    }
    Ok(Some(Outcome::Open(Box::new(Held { file, stat: opened, _slot: slot }))))
}
