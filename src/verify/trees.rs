//! The trees of a day against the records: a merge of both, which stand in the same order, so that however many files there
//! are, one record and the names of the open directories are in memory. Content is read by threads meanwhile.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::Error;
use super::gather::{Gather, in_parallel};
use super::judge::{self, Maker};
use super::names::{Batch, Tree, both_of, cannot_read, damage, is_read, other_kind, other_size};
use super::records::{self, Records};
use super::report::{Damage, Fault, Part, in_tree, shown};
use super::walk::{Met, Walk};
use crate::fs::attributes::has_xattrs;
use crate::fs::dir::{Dir, Kind, Stat, is_gone, split_last};
use crate::manifest::{FileKind, FileRecord, PathBytes, SealRecord, TreeRecord, TreeSeal};
use crate::vault::Day;

/// Hands names to the threads.
type Give<'a> = dyn FnMut(Batch) -> Result<(), Error> + 'a;

/// Holds the chosen trees against their records.
pub(super) fn check(day: &Day, seal: Option<&SealRecord>, gather: &Gather) -> Result<(), Error> {
    let chosen = |name: &String| gather.choice.trees.has(name);
    if !day.manifest().trees.keys().any(chosen) {
        return Ok(());
    }
    let mut records = match Records::open(day) {
        Ok(records) => records,
        Err(error) => {
            gather.add(records::unreadable(&error.to_string(), "no file of any tree"));
            return Ok(());
        }
    };
    let mut trees = Vec::new();
    let look = |batch: Batch| batch.look(gather);
    in_parallel(gather, look, |give| {
        for (name, said) in &day.manifest().trees {
            if !chosen(name) {
                records.skip_tree(name);
                continue;
            }
            let seal = seal.and_then(|seal| seal.trees.get(name)).copied();
            let mut merge = Merge::open(day, name, gather)?;
            merge.run(&mut records, give)?;
            if records.problem.is_none() {
                merge.compare_numbers(said, seal);
            }
            trees.push(merge.tree);
        }
        records.tell_problem(day, gather);
        Ok(())
    })?;
    for tree in trees {
        tree.tell_lacking(gather);
    }
    Ok(())
}

/// One tree and its records.
struct Merge<'a> {
    tree: Arc<Tree>,
    gather: &'a Gather,
    walk: Option<Walk>,
    met: Option<Met>,
    /// Names that wait for a thread.
    batch: Batch,
    counted: TreeSeal,
    /// The inode of each group of names, by the group's number.
    groups: HashMap<u64, (u64, PathBytes)>,
    /// What could not be looked at, and so nothing below it either: nobody can tell whether that is there.
    unread: Option<Vec<u8>>,
}

impl<'a> Merge<'a> {
    fn open(day: &Day, tree: &str, gather: &'a Gather) -> Result<Self, Error> {
        let uid = Dir::open(day.path())?.stat_self()?.uid;
        let mut maker = Maker { uid, xattrs: true };
        let walk = match Dir::open(&day.trees().join(tree)) {
            Ok(root) => {
                maker.xattrs = has_xattrs(&root)?;
                Some(Walk::new(root))
            }
            // Its records tell, name by name.
            Err(error) if is_gone(&error) => None,
            Err(error) => {
                gather.add(cannot_read(tree, b"", &error));
                None
            }
        };
        let tree = Arc::new(Tree::new(tree, maker));
        Ok(Self {
            batch: Batch::new(&tree),
            tree,
            gather,
            walk,
            met: None,
            counted: TreeSeal { entries: 0, files: 0, bytes: 0 },
            groups: HashMap::new(),
            unread: None,
        })
    }

    fn run(&mut self, records: &mut Records, give: &mut Give<'_>) -> Result<(), Error> {
        self.advance();
        loop {
            self.gather.check()?;
            let order = match (records.peek(&self.tree.name), &self.met) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                // Behind damage in the records nothing can be told of the files.
                (None, Some(_)) if records.problem.is_some() => break,
                (None, Some(_)) => Ordering::Greater,
                (Some(record), Some(met)) => in_walk(&record.path.0).cmp(in_walk(&met.path)),
            };
            let met = if order == Ordering::Less { None } else { self.met.take() };
            let record = if order == Ordering::Greater { None } else { records.take() };
            match (record, met) {
                (Some(record), Some(met)) => self.both(record, &met),
                (Some(record), None) => self.missing(record),
                (None, Some(met)) => self.foreign(&met),
                (None, None) => {}
            }
            if self.batch.is_full() {
                self.flush(give)?;
            }
            if order != Ordering::Less {
                self.advance();
            }
        }
        self.flush(give)
    }

    fn flush(&mut self, give: &mut Give<'_>) -> Result<(), Error> {
        if self.batch.is_empty() {
            return Ok(());
        }
        give(std::mem::replace(&mut self.batch, Batch::new(&self.tree)))
    }

    /// The next name of the tree; what cannot be read is told and passed over.
    fn advance(&mut self) {
        while let Some(walk) = &mut self.walk {
            match walk.next() {
                Ok(met) => {
                    self.met = met;
                    return;
                }
                Err((path, error)) => {
                    self.gather.add(cannot_read(&self.tree.name, &path, &error));
                    self.unread = Some(path);
                }
            }
        }
    }

    fn count(&mut self, record: &FileRecord) {
        self.counted.entries += 1;
        if record.kind == FileKind::File {
            self.counted.files += 1;
            self.counted.bytes += record.size;
        }
    }

    fn missing(&mut self, record: Box<FileRecord>) {
        self.count(&record);
        let within = |unread: &Vec<u8>| in_walk(&record.path.0).zip(in_walk(unread)).all(|(a, b)| a == b);
        let is_unread = self.unread.as_ref().is_some_and(within);
        if let Some(damage) = self.tree.missing(record).filter(|_| !is_unread) {
            self.gather.add(damage);
        }
    }

    fn foreign(&mut self, met: &Met) {
        if let Some(walk) = self.walk.as_mut().filter(|_| met.kind == Kind::Directory) {
            walk.skip_below();
        }
        let word = judge::word(judge::kind(met.kind));
        self.gather.add(Damage {
            part: Part::Tree { name: self.tree.name.clone() },
            file: in_tree(&self.tree.name, &met.path),
            fault: Fault::Foreign,
            also: Vec::new(),
            problem: format!("there is a {word} that no record knows"),
            means: "it is no part of the day; restore.sh would restore it all the same".to_owned(),
            record: None,
        });
    }

    fn both(&mut self, record: Box<FileRecord>, met: &Met) {
        self.count(&record);
        if record.kind != judge::kind(met.kind) {
            if let Some(walk) = self.walk.as_mut().filter(|_| met.kind == Kind::Directory) {
                walk.skip_below();
            }
            return self.gather.add(other_kind(record, judge::kind(met.kind)));
        }
        if record.kind != FileKind::Directory && record.link_group.is_none() {
            return self.batch.add(&met.dir, record);
        }
        let stat = match met.stat.map_or_else(|| met.dir.stat(split_last(&met.path).1), Ok) {
            Ok(stat) => stat,
            Err(error) if is_gone(&error) => {
                return self.tree.missing(record).map_or((), |damage| self.gather.add(damage));
            }
            Err(error) => return self.gather.add(cannot_read(&self.tree.name, &met.path, &error)),
        };
        let (linked, first_of_its_inode) = self.links(&record, &stat);
        let seen = both_of(self.tree.attributes(&met.dir, &record, &stat, None), linked);
        let other_size = other_size(&record, &stat);
        let reads = record.kind == FileKind::File && other_size.is_none();
        if reads && first_of_its_inode && is_read(&record, self.gather) {
            return self.batch.add_content(&met.dir, record, seen);
        }
        if let Some(damage) = both_of(seen, other_size) {
            self.gather.add(damage);
        }
    }

    /// Names of one group are one inode; what is wrong with that. True for the first name of an inode: the content of the others is
    /// the same.
    fn links(&mut self, record: &FileRecord, stat: &Stat) -> (Option<Damage>, bool) {
        let Some(group) = record.link_group else { return (None, true) };
        match self.groups.get(&group) {
            None => {
                self.groups.insert(group, (stat.ino, record.path.clone()));
                (None, true)
            }
            Some((ino, _)) if *ino == stat.ino => (None, false),
            Some((_, first)) => {
                let first = shown(first);
                let problem = format!("it was one inode with {first}, and is not any more");
                let means =
                    "restore.sh would restore two files where there was one with two names".to_owned();
                (Some(damage(Box::new(record.clone()), Fault::Links, problem, means)), true)
            }
        }
    }

    /// What was counted against what the manifest and the seal record say.
    fn compare_numbers(&self, said: &TreeRecord, seal: Option<TreeSeal>) {
        let TreeSeal { entries, files, bytes } = self.counted;
        let counted = format!("{entries} entries, {files} files and {bytes} bytes");
        let said = TreeSeal { entries: said.entries, files: said.files, bytes: said.bytes };
        let wrong = |part, file: Vec<u8>, who: &str, said: TreeSeal| {
            self.gather.add(Damage {
                part,
                file: PathBytes(file),
                fault: Fault::Numbers,
                also: Vec::new(),
                problem: format!(
                    "{who} says that the tree {} has {} entries, {} files and {} bytes; the records have {counted}",
                    self.tree.name, said.entries, said.files, said.bytes
                ),
                means: format!("files of the tree {} were added to the day or taken out of it after it was sealed", self.tree.name),
                record: None,
            });
        };
        if said != self.counted {
            wrong(Part::Records, b"files.jsonl.zst".to_vec(), "manifest.json", said);
        }
        if let Some(seal) = seal.filter(|seal| *seal != self.counted) {
            wrong(Part::Records, b"files.jsonl.zst".to_vec(), "the seal record", seal);
        }
    }
}

/// The order of the records, for paths of one tree.
fn in_walk(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}
