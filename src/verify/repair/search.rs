//! Looking for whole copies of what is damaged.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{Place, Prospect, Remedy, open_live, same, wanted};
use crate::database::recipe;
use crate::event::Context;
use crate::fs::dir::{Dir, Kind, Stat};
use crate::fs::{self, OnPath as _, copy};
use crate::manifest::{FileKind, FileRecord, PathBytes, RecordReader, TableReader};
use crate::vault::Day;
use crate::verify::Error;
use crate::verify::report::{Damage, Fault, Part, in_tree};

/// Copies of one content that are remembered.
const COPIES: usize = 8;

/// Where copies may be.
pub(super) struct Search<'a> {
    day: &'a Day,
    others: &'a [Day],
    live: &'a BTreeMap<String, PathBuf>,
    context: &'a Context,
    /// Names whose records have a digest that is wanted: the day's name, and the path.
    copies: HashMap<String, Vec<(String, PathBuf)>>,
    /// The names of the groups of this day that are damaged, by tree and number.
    groups: HashMap<(String, u64), Vec<PathBytes>>,
    /// Other days' records of the damaged paths: by path in the day, the day's directory and the record.
    same_path: HashMap<PathBytes, Vec<(PathBuf, String, FileRecord)>>,
}

impl<'a> Search<'a> {
    pub fn new(
        day: &'a Day,
        others: &'a [Day],
        live: &'a BTreeMap<String, PathBuf>,
        context: &'a Context,
    ) -> Self {
        let (copies, groups, same_path) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { day, others, live, context, copies, groups, same_path }
    }

    /// Reads the records of every day once, and remembers what concerns these damages.
    pub fn read_records(&mut self, damages: &[Damage]) -> Result<(), Error> {
        for record in damages.iter().filter_map(|damage| damage.record.as_deref()) {
            if let Some(digest) = &record.blake3 {
                self.copies.entry(digest.clone()).or_default();
            }
            if let Some(group) = record.link_group {
                self.groups.entry((record.tree.clone(), group)).or_default();
            }
            self.same_path.entry(in_tree(&record.tree, &record.path.0)).or_default();
        }
        if self.same_path.is_empty() {
            return Ok(());
        }
        // The newest days are the likeliest to have the same.
        for day in self.others.iter().rev() {
            let Ok(records) = RecordReader::open(&day.records()) else { continue };
            for record in records {
                if self.context.cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                // Another day's damage is not what this is about.
                let Ok(record) = record else { break };
                self.remember(day, record);
            }
        }
        Ok(())
    }

    fn remember(&mut self, day: &Day, record: FileRecord) {
        let path = in_tree(&record.tree, &record.path.0);
        if let Some(copies) = record.blake3.as_ref().and_then(|digest| self.copies.get_mut(digest))
            && copies.len() < COPIES
        {
            copies.push((day.name().to_owned(), day.path().join(path.as_path())));
        }
        if day.name() == self.day.name() {
            let group =
                record.link_group.and_then(|group| self.groups.get_mut(&(record.tree.clone(), group)));
            if let Some(names) = group {
                names.push(path);
            }
        } else if let Some(found) = self.same_path.get_mut(&path) {
            found.push((day.path().to_owned(), day.name().to_owned(), record));
        }
    }

    /// What can be done about one damage.
    pub fn prospect(&self, damage: &Damage) -> Prospect {
        let remedy = self.remedy(damage);
        let mut names = vec![Place { day: self.day.path().to_owned(), file: damage.file.clone() }];
        names.extend(self.other_names(damage));
        let sharers = self.sharers(damage);
        let shared_with = sharers.iter().map(|(day, _)| day.clone()).collect();
        names.extend(sharers.into_iter().map(|(_, place)| place));
        Prospect { damage: damage.clone(), remedy, shared_with, names }
    }

    fn remedy(&self, damage: &Damage) -> Option<Remedy> {
        if damage.fault == Fault::Foreign {
            return Some(Remedy::Aside);
        }
        // What does not agree with the rest is to blame only if it is not what was sealed.
        if damage.part == Part::Seal || (damage.fault == Fault::Numbers && !self.is_changed(damage)) {
            return None;
        }
        if damage.record.as_ref().is_some_and(|record| record.kind != FileKind::File) {
            return Some(Remedy::Record);
        }
        let Some(digest) = wanted(self.day, damage) else { return self.written(damage, None) };
        if let Some(written) = self.written(damage, Some(&digest)) {
            return Some(written);
        }
        // What is only no longer what it was in its attributes or links has its content itself.
        let own = (self.day.name().to_owned(), damage.path(self.day));
        let copies = std::iter::once(own).chain(self.copies_of(damage, &digest));
        for (day, path) in copies {
            if self.has_digest(&path, &digest) {
                return Some(Remedy::Day { day, path });
            }
        }
        let record = damage.record.as_ref()?;
        let root = self.live.get(&record.tree)?.clone();
        let path = root.join(record.path.as_path());
        let is_whole = open_live(&root, &path).is_ok_and(|file| self.is_of(&file, &path, &digest));
        is_whole.then_some(Remedy::Live { root, path })
    }

    fn is_changed(&self, damage: &Damage) -> bool {
        let digest = wanted(self.day, damage);
        digest.is_some_and(|digest| !self.has_digest(&damage.path(self.day), &digest))
    }

    fn copies_of(&self, damage: &Damage, digest: &str) -> Vec<(String, PathBuf)> {
        if damage.record.is_some() {
            return self.copies.get(digest).cloned().unwrap_or_default();
        }
        let mut copies = Vec::new();
        for day in self.others.iter().rev() {
            let same = day.manifest().digests.iter().filter(|(_, is)| *is == digest);
            copies.extend(same.map(|(name, _)| (day.name().to_owned(), day.path().join(name))).take(COPIES));
        }
        copies
    }

    /// Files that follow from others of the day.
    fn written(&self, damage: &Damage, digest: Option<&str>) -> Option<Remedy> {
        let name = damage.file.as_path().to_str()?;
        let content = match &damage.part {
            Part::Manifest | Part::Guide => self.day.written_anew(name)?,
            Part::Database { name: database } if name.ends_with("/load.txt") => self.load_list(database)?,
            _ => return None,
        };
        let is_right = match digest {
            Some(digest) => blake3::hash(&content).to_hex().as_str() == digest,
            None => name == "manifest.blake3",
        };
        is_right.then_some(Remedy::Written { content })
    }

    fn load_list(&self, database: &str) -> Option<Vec<u8>> {
        let databases = &self.day.manifest().database.as_ref()?.databases;
        let entry = databases.iter().find(|entry| entry.name == database)?;
        let path = self.day.database().join(&entry.directory).join("tables.jsonl");
        let mut text = String::new();
        for table in TableReader::open(&path).ok()? {
            text.push_str(&recipe(&table.ok()?, &entry.encoding));
        }
        Some(text.into_bytes())
    }

    fn has_digest(&self, path: &Path, digest: &str) -> bool {
        if !fs::look_at(path).is_ok_and(|meta| meta.is_file()) {
            return false;
        }
        fs::open(path).is_ok_and(|file| self.is_of(&file, path, digest))
    }

    fn is_of(&self, file: &File, path: &Path, digest: &str) -> bool {
        let stop =
            |_| if self.context.cancel.is_cancelled() { Err(io::Error::other("cancelled")) } else { Ok(()) };
        let is = copy::content(file, None, &mut { stop }).on("read", path);
        is.is_ok_and(|is| is.to_hex().as_str() == digest)
    }

    /// The other names of its inode in this day, which get the new inode too.
    fn other_names(&self, damage: &Damage) -> Vec<Place> {
        let group = damage.record.as_ref().and_then(|record| Some((record.tree.clone(), record.link_group?)));
        let names = group.and_then(|group| self.groups.get(&group)).into_iter().flatten();
        let place = |file: &PathBytes| Place { day: self.day.path().to_owned(), file: file.clone() };
        names.filter(|name| **name != damage.file).map(place).collect()
    }

    /// Other days in which the damaged name is the damaged inode, and which want the same there.
    fn sharers(&self, damage: &Damage) -> Vec<(String, Place)> {
        let Some(damaged) = stat(&damage.path(self.day)).filter(|stat| stat.kind != Kind::Directory) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut add = |day: &Path, name: &str| {
            let path = day.join(damage.file.as_path());
            if stat(&path).is_some_and(|stat| stat.is_same_inode(&damaged)) {
                found.push((name.to_owned(), Place { day: day.to_owned(), file: damage.file.clone() }));
            }
        };
        match &damage.record {
            Some(record) => {
                let others = self.same_path.get(&damage.file).into_iter().flatten();
                others.filter(|(_, _, other)| same(record, other)).for_each(|(day, name, _)| add(day, name));
            }
            None => {
                let name = damage.file.as_path().to_str().unwrap_or_default();
                let digest = self.day.manifest().digests.get(name);
                let others = self.others.iter().filter(|other| other.name() != self.day.name());
                others
                    .filter(|other| digest.is_some() && other.manifest().digests.get(name) == digest)
                    .for_each(|other| add(other.path(), other.name()));
            }
        }
        found
    }
}

fn stat(path: &Path) -> Option<Stat> {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = Dir::open(fs::parent_of(path)).ok()?;
    dir.stat_if_exists(path.file_name()?.as_bytes()).ok()?
}
