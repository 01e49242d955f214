//! The trees of a day against the records: a merge of both, which stand in the same order, so that however many files there
//! are, one record and the names of the open directories are in memory. Content is read by threads meanwhile.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::gather::{Gather, in_parallel};
use super::judge::{self, Maker};
use super::records::{self, Records};
use super::report::{Damage, Fault, Part, in_tree, shown};
use super::walk::{Met, Walk};
use super::{Choice, Error};
use crate::fs::attributes::{has_xattrs, read_xattrs};
use crate::fs::dir::{Dir, Kind, is_gone};
use crate::fs::{self, OnPath as _, copy};
use crate::manifest::{FileKind, FileRecord, PathBytes, SealRecord, TreeRecord, TreeSeal};
use crate::vault::Day;

/// Content to be read.
struct Task {
    dir: Arc<Dir>,
    name: Vec<u8>,
    record: Box<FileRecord>,
    /// What is wrong with it as far as was seen: told together with what is in it.
    seen: Option<Damage>,
}

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
    let read = |task: Task| read_content(&task, gather);
    in_parallel(gather, read, |give| {
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
        }
        records.tell_problem(day, gather);
        Ok(())
    })
}

/// One tree and its records.
struct Merge<'a> {
    tree: &'a str,
    gather: &'a Gather,
    walk: Option<Walk>,
    met: Option<Met>,
    maker: Maker,
    counted: TreeSeal,
    /// The inode of each group of names, by the group's number.
    groups: HashMap<u64, (u64, PathBytes)>,
    /// What could not be looked at, and so nothing below it either: nobody can tell whether that is there.
    unread: Option<Vec<u8>>,
    recorded_only: u64,
    not_given_away: u64,
}

impl<'a> Merge<'a> {
    fn open(day: &Day, tree: &'a str, gather: &'a Gather) -> Result<Self, Error> {
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
        Ok(Self {
            tree,
            gather,
            walk,
            met: None,
            maker,
            counted: TreeSeal { entries: 0, files: 0, bytes: 0 },
            groups: HashMap::new(),
            unread: None,
            recorded_only: 0,
            not_given_away: 0,
        })
    }

    fn run(
        &mut self,
        records: &mut Records,
        give: &mut dyn FnMut(Task) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.advance();
        loop {
            self.gather.check()?;
            let order = match (records.peek(self.tree), &self.met) {
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
                (Some(record), Some(met)) => self.both(record, &met, give)?,
                (Some(record), None) => self.missing(record),
                (None, Some(met)) => self.foreign(&met),
                (None, None) => {}
            }
            if order != Ordering::Less {
                self.advance();
            }
        }
        self.tell_lacking();
        Ok(())
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
                    self.gather.add(cannot_read(self.tree, &path, &error));
                    self.unread = Some(path);
                }
            }
        }
    }

    fn damage(&self, record: Box<FileRecord>, fault: Fault, problem: String, means: String) {
        self.gather.add(damage(record, fault, problem, means));
    }

    fn part(&self) -> Part {
        Part::Tree { name: self.tree.to_owned() }
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
        match record.kind {
            // Recorded only.
            FileKind::Socket => return,
            // Not everybody may make one.
            FileKind::CharDevice | FileKind::BlockDevice => {
                self.recorded_only += 1;
                return;
            }
            _ => {}
        }
        let within = |unread: &Vec<u8>| in_walk(&record.path.0).zip(in_walk(unread)).all(|(a, b)| a == b);
        if self.unread.as_ref().is_some_and(within) {
            return;
        }
        let means = lost(&record);
        self.damage(record, Fault::Missing, "it is not there".to_owned(), means);
    }

    fn foreign(&mut self, met: &Met) {
        if let Some(walk) = self.walk.as_mut().filter(|_| met.stat.kind == Kind::Directory) {
            walk.skip_below();
        }
        let word = judge::word(judge::kind(met.stat.kind));
        self.gather.add(Damage {
            part: self.part(),
            file: in_tree(self.tree, &met.path),
            fault: Fault::Foreign,
            also: Vec::new(),
            problem: format!("there is a {word} that no record knows"),
            means: "it is no part of the day; restore.sh would restore it all the same".to_owned(),
            record: None,
        });
    }

    fn both(
        &mut self,
        record: Box<FileRecord>,
        met: &Met,
        give: &mut dyn FnMut(Task) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.count(&record);
        if record.kind != judge::kind(met.stat.kind) {
            if let Some(walk) = self.walk.as_mut().filter(|_| met.stat.kind == Kind::Directory) {
                walk.skip_below();
            }
            let (was, is) = (judge::word(record.kind), judge::word(judge::kind(met.stat.kind)));
            let means = lost(&record);
            self.damage(record, Fault::Kind, format!("it is a {is}, and was a {was}"), means);
            return Ok(());
        }
        let (linked, first_of_its_inode) = self.links(&record, met);
        let mut seen = both_of(self.attributes(&record, met), linked);
        if record.kind == FileKind::File && record.size != met.stat.size {
            let problem = format!("it has {} bytes, and had {}", met.stat.size, record.size);
            let means = lost_content(&record);
            seen = both_of(seen, Some(damage(record, Fault::Content, problem, means)));
        } else if record.kind == FileKind::File {
            let choice: &Choice = &self.gather.choice;
            let name = in_tree(self.tree, &record.path.0);
            if choice.tree_content && first_of_its_inode && self.gather.is_chosen(&name.0) {
                return give(Task { dir: Arc::clone(&met.dir), name: met.name.clone(), record, seen });
            }
        }
        if let Some(damage) = seen {
            self.gather.add(damage);
        }
        Ok(())
    }

    fn attributes(&mut self, record: &FileRecord, met: &Met) -> Option<Damage> {
        let mut what = judge::differences(record, &met.stat, self.maker);
        if self.maker.could_not_give_away(record, &met.stat) {
            self.not_given_away += 1;
        }
        if record.kind == FileKind::Symlink {
            let target = met.dir.read_link(&met.name).ok().map(PathBytes);
            if target != record.target {
                what.push("target");
            }
        }
        match read_xattrs(&met.dir, &met.name) {
            Ok(xattrs) if judge::same_xattrs(record, &xattrs, self.maker) => {}
            // Attributes that this process may not read it cannot judge.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            _ => what.push("xattrs"),
        }
        if what.is_empty() {
            return None;
        }
        let problem = format!("its {} not as recorded", listed(&what));
        let means = if what == ["target"] {
            "restore.sh would restore a link that leads elsewhere; the record has the right target".to_owned()
        } else {
            "restore.sh would restore it like this; the record has it right".to_owned()
        };
        Some(damage(Box::new(record.clone()), Fault::Attributes { what }, problem, means))
    }

    /// Names of one group are one inode; what is wrong with that. True for the first name of an inode: the content of the others is
    /// the same.
    fn links(&mut self, record: &FileRecord, met: &Met) -> (Option<Damage>, bool) {
        let Some(group) = record.link_group else { return (None, true) };
        match self.groups.get(&group) {
            None => {
                self.groups.insert(group, (met.stat.ino, record.path.clone()));
                (None, true)
            }
            Some((ino, _)) if *ino == met.stat.ino => (None, false),
            Some((_, first)) => {
                let first = shown(first);
                let problem = format!("it was one inode with {first}, and is not any more");
                let means =
                    "restore.sh would restore two files where there was one with two names".to_owned();
                (Some(damage(Box::new(record.clone()), Fault::Links, problem, means)), true)
            }
        }
    }

    fn tell_lacking(&self) {
        let tree = self.tree;
        let gather = self.gather;
        if self.recorded_only > 0 {
            let count = self.recorded_only;
            gather.note(format!("tree {tree}: {count} devices are in the records only"));
        }
        if self.not_given_away > 0 {
            let count = self.not_given_away;
            gather.note(format!(
                "tree {tree}: {count} names belong to the user that keeps the days, who may not give files away; the records have \
                 their owners"
            ));
        }
        if !self.maker.xattrs {
            gather.note(format!(
                "tree {tree}: the vault's file system takes no extended attributes; the records have them"
            ));
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
                    self.tree, said.entries, said.files, said.bytes
                ),
                means: format!("files of the tree {} were added to the day or taken out of it after it was sealed", self.tree),
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

/// `mode is`, `mode and mtime are`.
fn listed(what: &[&str]) -> String {
    match what {
        [one] if *one != "xattrs" => format!("{one} is"),
        [one] => format!("{one} are"),
        [before @ .., last] => format!("{} and {last} are", before.join(", ")),
        [] => String::new(),
    }
}

/// What the loss of a name means.
fn lost(record: &FileRecord) -> String {
    let (word, path, tree) = (judge::word(record.kind), shown(&record.path), &record.tree);
    match record.kind {
        FileKind::File => format!("the file {path} of the tree {tree} cannot be restored from this day"),
        _ if path.is_empty() => format!(
            "the root of the tree {tree} is made anew from its record; restore.sh cannot restore the tree"
        ),
        _ => format!(
            "the {word} {path} of the tree {tree} is made anew from its record; restore.sh would leave it out"
        ),
    }
}

/// What the loss of an inode's content means: it is told under one name of it.
fn lost_content(record: &FileRecord) -> String {
    if record.link_group.is_none() {
        return lost(record);
    }
    let (path, tree) = (shown(&record.path), &record.tree);
    format!("the file {path} of the tree {tree}, under all its names, cannot be restored from this day")
}

fn cannot_read(tree: &str, path: &[u8], error: &fs::Error) -> Damage {
    Damage {
        part: Part::Tree { name: tree.to_owned() },
        file: in_tree(tree, path),
        fault: Fault::Unreadable,
        also: Vec::new(),
        problem: format!("{error}: {}", error.source),
        means: "what is in it cannot be restored as long as it cannot be read".to_owned(),
        record: None,
    }
}

fn read_content(task: &Task, gather: &Gather) {
    let record = &task.record;
    let path = task.dir.path_of(&task.name);
    let digest = task
        .dir
        .open_file(&task.name)
        .and_then(|file| copy::content(&file, None, &mut |bytes| gather.read(bytes)).on("read", &path));
    if gather.check().is_err() {
        return;
    }
    gather.read_whole();
    let wrong = match digest {
        Ok(digest) if record.blake3.as_deref() == Some(digest.to_hex().as_str()) => None,
        Ok(_) => Some((Fault::Content, "its content does not have the recorded digest".to_owned())),
        Err(error) => Some((Fault::Unreadable, format!("{error}: {}", error.source))),
    };
    let wrong = wrong.map(|(fault, problem)| damage(record.clone(), fault, problem, lost_content(record)));
    if let Some(damage) = both_of(wrong, task.seen.clone()) {
        gather.add(damage);
    }
}

/// What is wrong with a name of a tree.
fn damage(record: Box<FileRecord>, fault: Fault, problem: String, means: String) -> Damage {
    let (part, file) = (Part::Tree { name: record.tree.clone() }, in_tree(&record.tree, &record.path.0));
    Damage { part, file, fault, also: Vec::new(), problem, means, record: Some(record) }
}

fn both_of(one: Option<Damage>, other: Option<Damage>) -> Option<Damage> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.and(other)),
        (one, other) => one.or(other),
    }
}
