//! One name of a tree held against its record, by whichever thread.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::gather::Gather;
use super::judge::{self, Maker};
use super::report::{Damage, Fault, Part, in_tree, shown};
use crate::fs::attributes::{read_open_xattrs, read_xattrs};
use crate::fs::dir::{Dir, Stat, is_gone, split_last, stat_file};
use crate::fs::{self, OnPath as _, copy};
use crate::manifest::{FileKind, FileRecord, PathBytes};

/// How much goes to a thread at once: names, and open directories that they are in.
const NAMES: usize = 64;
const DIRECTORIES: usize = 4;

/// Names for a thread to look at.
pub(super) struct Batch {
    tree: Arc<Tree>,
    items: Vec<Item>,
    directories: usize,
}

struct Item {
    dir: Arc<Dir>,
    record: Box<FileRecord>,
    look: Look,
}

enum Look {
    /// At all of it.
    Whole,
    /// At its content. What is wrong with the rest was seen: told together with what is in it.
    Content(Option<Damage>),
}

impl Batch {
    pub fn new(tree: &Arc<Tree>) -> Self {
        Self { tree: Arc::clone(tree), items: Vec::with_capacity(NAMES), directories: 0 }
    }

    /// Adds a name that is no directory and whose inode has no other name in the day.
    pub fn add(&mut self, dir: &Arc<Dir>, record: Box<FileRecord>) {
        self.push(dir, record, Look::Whole);
    }

    /// Adds a file of which all but the content was looked at.
    pub fn add_content(&mut self, dir: &Arc<Dir>, record: Box<FileRecord>, seen: Option<Damage>) {
        self.push(dir, record, Look::Content(seen));
    }

    fn push(&mut self, dir: &Arc<Dir>, record: Box<FileRecord>, look: Look) {
        let is_new = self.items.last().is_none_or(|last| !Arc::ptr_eq(&last.dir, dir));
        self.directories += usize::from(is_new);
        self.items.push(Item { dir: Arc::clone(dir), record, look });
    }

    pub fn is_full(&self) -> bool {
        self.items.len() >= NAMES || self.directories >= DIRECTORIES
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Looks at all of them.
    pub fn look(self, gather: &Gather) {
        for Item { dir, record, look } in self.items {
            if gather.check().is_err() {
                return;
            }
            let damage = match look {
                Look::Whole => self.tree.look(&dir, record, gather),
                Look::Content(seen) => both_of(read(&dir, &record, gather), seen),
            };
            if gather.check().is_err() {
                return;
            }
            if let Some(damage) = damage {
                gather.add(damage);
            }
        }
    }
}

/// What the threads know of a tree, and count.
pub(super) struct Tree {
    pub name: String,
    maker: Maker,
    recorded_only: AtomicU64,
    not_given_away: AtomicU64,
}

impl Tree {
    pub fn new(name: &str, maker: Maker) -> Self {
        let (recorded_only, not_given_away) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { name: name.to_owned(), maker, recorded_only, not_given_away }
    }

    /// The day does not have it; what is wrong with that.
    pub fn missing(&self, record: Box<FileRecord>) -> Option<Damage> {
        match record.kind {
            // Recorded only.
            FileKind::Socket => return None,
            // Not everybody may make one.
            FileKind::CharDevice | FileKind::BlockDevice => {
                self.recorded_only.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            _ => {}
        }
        let means = lost(&record);
        Some(damage(record, Fault::Missing, "it is not there".to_owned(), means))
    }

    /// Looks at a name that is no directory and whose inode has no other name in the day.
    fn look(&self, dir: &Dir, record: Box<FileRecord>, gather: &Gather) -> Option<Damage> {
        let name = split_last(&record.path.0).1;
        let reads = record.kind == FileKind::File && is_read(&record, gather);
        // What is read is opened first: an open file tells all that is asked of it sooner than a name does.
        let open = if reads { dir.open_file(name).ok() } else { None };
        let stat = match &open {
            Some(file) => stat_file(file, dir.path()),
            None => dir.stat(name),
        };
        let stat = match stat {
            Ok(stat) => stat,
            Err(error) if is_gone(&error) => return self.missing(record),
            Err(error) => return Some(cannot_read(&self.name, &record.path.0, &error)),
        };
        if record.kind != judge::kind(stat.kind) {
            return Some(other_kind(record, judge::kind(stat.kind)));
        }
        let seen = both_of(self.attributes(dir, &record, &stat, open.as_ref()), other_size(&record, &stat));
        let is_whole = record.kind != FileKind::File || record.size == stat.size;
        let content = match open {
            Some(file) if is_whole => content(&file, dir, &record, gather),
            None if reads && is_whole => read(dir, &record, gather),
            _ => None,
        };
        both_of(content, seen)
    }

    /// What differs of what a name carries besides its content.
    pub fn attributes(
        &self,
        dir: &Dir,
        record: &FileRecord,
        stat: &Stat,
        open: Option<&File>,
    ) -> Option<Damage> {
        let name = split_last(&record.path.0).1;
        let mut what = judge::differences(record, stat, self.maker);
        if self.maker.could_not_give_away(record, stat) {
            self.not_given_away.fetch_add(1, Ordering::Relaxed);
        }
        if record.kind == FileKind::Symlink {
            let target = dir.read_link(name).ok().map(PathBytes);
            if target != record.target {
                what.push("target");
            }
        }
        let xattrs = match open {
            Some(file) => read_open_xattrs(file, dir.path()),
            None => read_xattrs(dir, name),
        };
        match xattrs {
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

    /// Says what is as it must be all the same, when all was looked at.
    pub fn tell_lacking(&self, gather: &Gather) {
        let tree = &self.name;
        let count = self.recorded_only.load(Ordering::Relaxed);
        if count > 0 {
            gather.note(format!("tree {tree}: {count} devices are in the records only"));
        }
        let count = self.not_given_away.load(Ordering::Relaxed);
        if count > 0 {
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
}

/// Opens a file and holds its content against the recorded digest.
fn read(dir: &Dir, record: &FileRecord, gather: &Gather) -> Option<Damage> {
    match dir.open_file(split_last(&record.path.0).1) {
        Ok(file) => content(&file, dir, record, gather),
        Err(error) => Some(unreadable(record, &error)),
    }
}

fn content(file: &File, dir: &Dir, record: &FileRecord, gather: &Gather) -> Option<Damage> {
    let digest = copy::content_sized(file, None, record.size, &mut |bytes| gather.read(bytes));
    if gather.check().is_err() {
        return None;
    }
    gather.read_whole();
    match digest.on("read", &dir.path_of(split_last(&record.path.0).1)) {
        Ok(digest) if record.blake3.as_deref() == Some(digest.to_hex().as_str()) => None,
        Ok(_) => {
            let problem = "its content does not have the recorded digest".to_owned();
            Some(damage(Box::new(record.clone()), Fault::Content, problem, lost_content(record)))
        }
        Err(error) => Some(unreadable(record, &error)),
    }
}

fn unreadable(record: &FileRecord, error: &fs::Error) -> Damage {
    let problem = format!("{error}: {}", error.source);
    damage(Box::new(record.clone()), Fault::Unreadable, problem, lost_content(record))
}

/// Whether a file's content is among what is to be read.
pub(super) fn is_read(record: &FileRecord, gather: &Gather) -> bool {
    gather.choice.tree_content && gather.is_chosen(&in_tree(&record.tree, &record.path.0).0)
}

pub(super) fn other_kind(record: Box<FileRecord>, is: FileKind) -> Damage {
    let (was, is) = (judge::word(record.kind), judge::word(is));
    let means = lost(&record);
    damage(record, Fault::Kind, format!("it is a {is}, and was a {was}"), means)
}

/// A file that is longer or shorter than it was; None: it is not.
pub(super) fn other_size(record: &FileRecord, stat: &Stat) -> Option<Damage> {
    if record.kind != FileKind::File || record.size == stat.size {
        return None;
    }
    let problem = format!("it has {} bytes, and had {}", stat.size, record.size);
    Some(damage(Box::new(record.clone()), Fault::Content, problem, lost_content(record)))
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

pub(super) fn cannot_read(tree: &str, path: &[u8], error: &fs::Error) -> Damage {
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

/// What is wrong with a name of a tree.
pub(super) fn damage(record: Box<FileRecord>, fault: Fault, problem: String, means: String) -> Damage {
    let (part, file) = (Part::Tree { name: record.tree.clone() }, in_tree(&record.tree, &record.path.0));
    Damage { part, file, fault, also: Vec::new(), problem, means, record: Some(record) }
}

pub(super) fn both_of(one: Option<Damage>, other: Option<Damage>) -> Option<Damage> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.and(other)),
        (one, other) => one.or(other),
    }
}
