//! From what the kernel told to what is dirty; its cost follows what changed, and the number of names whose inode has several.

use std::collections::{BTreeMap, HashMap};

use crate::fs;
use crate::fs::dir::{Kind, Names as Listed, Stat, is_gone, split_last};
use crate::manifest::{FileRecord, RecordReader};
use crate::tree::bring::Stage;
use crate::tree::compare::{Dirt, Dirty, mark};
use crate::tree::overlay::{Key, Overlay, key as key_of, path as path_of_key};
use crate::tree::site::{Place, Site, is_link, optional};
use crate::tree::sync::{is_mount, kept_names};
use crate::tree::walk::{Visit, walk};
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
        // A directory is told before what is below it.
        let is_known = self.is_in_whole(path);
        if !is_known {
            mark(&mut self.dirty, path, seen.dirt);
        }
        if path.is_empty() {
            return Ok(Told::Clear);
        }
        match self.look(path)? {
            Found::There(stat) => {
                let is_directory = stat.kind == Kind::Directory;
                if is_known || !self.site.rules.keep(path, is_directory) {
                    return Ok(Told::Clear);
                }
                if !is_directory {
                    self.meet(&stat);
                } else if seen.dirt == Dirt::Below {
                    // Not all of what a directory that moved brings along was told: some was done where it was before.
                    walk(self.site, path, &mut Below(self))?;
                }
                Ok(Told::Clear)
            }
            Found::NameGone if seen.dirt == Dirt::Below || !self.site.rules.keep(path, false) => {
                Ok(Told::Clear)
            }
            Found::NameGone if seen.written && !seen.removed => Ok(Told::Nameless),
            Found::NameGone | Found::ParentGone => Ok(Told::Clear),
        }
    }

    /// Whether the path lies in a directory that is brought with all below it.
    fn is_in_whole(&self, path: &[u8]) -> bool {
        let mut above = split_last(path).0;
        while !above.is_empty() {
            if self.dirty.get(&key_of(above)) == Some(&Dirt::Below) {
                return true;
            }
            above = split_last(above).0;
        }
        false
    }

    fn meet(&mut self, stat: &Stat) {
        if stat.kind == Kind::Directory || stat.nlink < 2 {
            return;
        }
        let entry = self.inodes.entry((stat.dev, stat.ino)).or_insert((stat.nlink, 0));
        entry.1 += 1;
    }

    /// A name whose inode had others too: a change through one of those was not told for this one.
    fn one_of_several(&mut self, record: &FileRecord) -> Result<(), Error> {
        let path = &record.path.0;
        if self.dirty.contains_key(&key_of(path)) || self.is_in_whole(path) {
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
            self.meet(&stat);
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

/// Meets all names below a directory.
struct Below<'a, 'b>(&'a mut Names<'b>);

impl Visit for Below<'_, '_> {
    fn directory(&mut self, above: Option<&Place>, path: &[u8]) -> Result<Option<(Place, Listed)>, Error> {
        let site = self.0.site;
        let source = match above {
            Some(above) => above.source.dir(split_last(path).1),
            None => site.source.beneath(path),
        };
        let Some(source) = optional(source)? else { return Ok(None) };
        if is_mount(site, &source.stat_self()?) {
            return Ok(None);
        }
        let names = kept_names(site, &source, path)?;
        let target = site.target.beneath(b"")?;
        Ok(Some((Place { path: path.to_vec(), source, target, previous: None, is_new: false }, names)))
    }

    fn other(&mut self, place: &std::sync::Arc<Place>, name: &[u8]) -> Result<(), Error> {
        if let Some(stat) = place.source.stat_if_exists(name)? {
            self.0.meet(&stat);
        }
        Ok(())
    }

    fn pause(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
