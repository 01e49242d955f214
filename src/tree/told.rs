//! From what the kernel told to what is dirty; its cost follows what changed, and the number of names whose inode has several.

use std::collections::{BTreeMap, HashMap};

use crate::fs;
use crate::fs::dir::{Kind, Stat, is_gone};
use crate::manifest::{FileRecord, RecordReader};
use crate::tree::bring::Stage;
use crate::tree::compare::{Dirt, Dirty, mark};
use crate::tree::overlay::{Key, Overlay, path as path_of_key};
use crate::tree::site::{Site, is_link};
use crate::tree::warm::links;
use crate::tree::watch::{Seen, Watch};
use crate::tree::{Error, judge};

/// What is dirty; Err: why only a walk can tell.
pub(crate) fn dirty(
    site: &Site,
    overlay: &Overlay,
    watch: &Watch,
    seen: BTreeMap<Key, Seen>,
    stage: Stage,
) -> Result<Result<Dirty, String>, Error> {
    let mut names = Names { site, dirty: Dirty::new(), inodes: HashMap::new() };
    for (key, seen) in seen {
        let path = path_of_key(&key);
        if names.told(&path, seen)? == Told::Nameless {
            if stage == Stage::Held {
                let shown = site.source.path_of(&path);
                return Ok(Err(format!("{} was written when it had no name any more", shown.display())));
            }
            // That its name was removed may still be in the queue.
            watch.put_back(key, seen);
        }
    }
    let list = links(&site.work);
    let listed = if fs::exists(&list)? { Some(RecordReader::open(&list)?) } else { None };
    for record in listed.into_iter().flatten() {
        let record = record?;
        if !overlay.has(&record.path.0) {
            names.one_of_several(&record)?;
        }
    }
    for record in overlay.records().filter(|record| record.link_group.is_some()) {
        names.one_of_several(record)?;
    }
    if names.inodes.values().any(|(links, met)| met < links) {
        return Ok(Err("a changed file has names that are not known".to_owned()));
    }
    Ok(Ok(names.dirty))
}

#[derive(PartialEq, Eq)]
enum Told {
    Clear,
    Nameless,
}

struct Names<'a> {
    site: &'a Site,
    dirty: Dirty,
    /// Changed inodes with several names: how many they have, and how many of these were met.
    inodes: HashMap<((u32, u32), u64), (u32, u32)>,
}

impl Names<'_> {
    fn told(&mut self, path: &[u8], seen: Seen) -> Result<Told, Error> {
        if !self.site.rules.keep_above(path) {
            return Ok(Told::Clear);
        }
        mark(&mut self.dirty, path, seen.dirt);
        if path.is_empty() || seen.dirt == Dirt::Below || !self.site.rules.keep(path, false) {
            return Ok(Told::Clear);
        }
        match self.look(path)? {
            Found::There(stat) => {
                if stat.kind != Kind::Directory && stat.nlink > 1 {
                    self.meet(&stat);
                }
                Ok(Told::Clear)
            }
            Found::NameGone if seen.written && !seen.removed => Ok(Told::Nameless),
            Found::NameGone | Found::ParentGone => Ok(Told::Clear),
        }
    }

    fn meet(&mut self, stat: &Stat) {
        let entry = self.inodes.entry((stat.dev, stat.ino)).or_insert((stat.nlink, 0));
        entry.1 += 1;
    }

    /// A name whose inode had others too: a change through one of those was not told for this one.
    fn one_of_several(&mut self, record: &FileRecord) -> Result<(), Error> {
        let path = &record.path.0;
        if self.dirty.contains_key(&crate::tree::overlay::key(path)) {
            return Ok(());
        }
        let Found::There(stat) = self.look(path)? else {
            mark(&mut self.dirty, path, Dirt::Name);
            return Ok(());
        };
        let by_name = self.site.tree.content_named;
        let changed = judge::is_as_recorded(record, &stat, by_name) != Some(true);
        if changed || self.inodes.contains_key(&(stat.dev, stat.ino)) {
            mark(&mut self.dirty, path, Dirt::Name);
            if stat.kind != Kind::Directory && stat.nlink > 1 {
                self.meet(&stat);
            }
        }
        Ok(())
    }

    fn look(&self, path: &[u8]) -> Result<Found, Error> {
        let (dir, name) = match self.site.source.parent_beneath(path) {
            Ok(found) => found,
            Err(error) if is_gone(&error) || is_link(&error) => return Ok(Found::ParentGone),
            Err(error) => return Err(error.into()),
        };
        Ok(dir.stat_if_exists(&name)?.map_or(Found::NameGone, |stat| Found::There(Box::new(stat))))
    }
}

enum Found {
    There(Box<Stat>),
    NameGone,
    ParentGone,
}
