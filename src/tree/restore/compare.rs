//! A live tree held against the records of a day, to the last byte.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::config;
use crate::event::{Context, Phase};
use crate::fs;
use crate::fs::dir::{Dir, Stat};
use crate::manifest::{FileKind, FileRecord, PathBytes};
use crate::tree::filter::Rules;
use crate::tree::judge;
use crate::tree::restore::look::Member;
use crate::tree::restore::records::Records;
use crate::tree::restore::survey::{Finding, Survey, survey};
use crate::tree::restore::tell::Tell;
use crate::tree::restore::{Error, Source};

/// How many differences are told one by one.
const TOLD: usize = 100;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path in the tree; the root is empty.
    pub path: PathBuf,
    /// What differs.
    pub what: String,
}

/// What differs between a tree and the records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Differences {
    /// How many.
    pub total: u64,
    /// The first hundred.
    pub first: Vec<Difference>,
    /// Names that were held against each other, directories too.
    pub names: u64,
}

/// Holds a tree against the records of a day: every name, attribute and byte; change times and inode numbers are not looked at. Excluded names
/// and what is mounted in the tree are passed by.
///
/// # Errors
/// The tree or the records cannot be read, a record cannot be trusted, or the job is cancelled.
pub fn compare(
    source: &Source,
    tree: &config::Tree,
    jobs: usize,
    context: &Context,
) -> Result<Differences, Error> {
    let root = if fs::exists(&tree.path)? { Some(Dir::open_trusted(&tree.path)?) } else { None };
    let rules = Rules::new(&tree.filters);
    let tell = Tell::new(&tree.name, Phase::Compare, None, context);
    let held = Survey {
        root: root.as_ref(),
        rules: &rules,
        one_file_system: tree.one_file_system,
        scope: None,
        trust_times: false,
        threads: jobs,
        tell: &tell,
        stop: context.cancel.child_token(),
    };
    let mut list = List::default();
    let records = Records::open(&source.records, &source.tree, None)?;
    survey(&held, records, &mut |finding| {
        list.take(finding);
        Ok(())
    })?;
    tell.finish();
    Ok(list.found)
}

#[derive(Default)]
struct List {
    found: Differences,
    /// The live inode of each inode with several names, and the other way round.
    inodes: HashMap<u64, u64>,
    groups: HashMap<u64, u64>,
}

impl List {
    fn take(&mut self, finding: Finding) {
        self.found.names += u64::from(!matches!(finding, Finding::Enter { .. } | Finding::Stays { .. }));
        match finding {
            Finding::Enter { .. }
            | Finding::Leave { same: true, .. }
            | Finding::Same
            | Finding::Stays { .. }
            | Finding::Unmade { .. } => {}
            Finding::Leave { path, record, live, .. } => {
                let what = record.map_or_else(String::new, |record| attributes(&record, &live.stat));
                self.add(path, what);
            }
            Finding::Missing { record, .. } => self.add(record.path.0, "it is missing".to_owned()),
            Finding::Extra { path, .. } => self.add(path, "the day does not have it".to_owned()),
            Finding::Other { record, stat, .. } => self.add(record.path.0.clone(), other(&record, &stat)),
            Finding::Attributes { record, live } => {
                let what = attributes(&record, &live.stat);
                self.add(record.path.0, what);
            }
            Finding::Member { record, live } => self.member(*record, live),
        }
    }

    fn add(&mut self, path: Vec<u8>, what: String) {
        self.found.total += 1;
        if self.found.first.len() < TOLD {
            self.found.first.push(Difference { path: PathBytes(path).as_path().to_owned(), what });
        }
    }

    fn member(&mut self, record: FileRecord, live: Option<Member>) {
        let Some(Member { live, same_content, same_attributes }) = live else {
            return self.add(record.path.0, "it is missing".to_owned());
        };
        if !same_content {
            let what = other(&record, &live.stat);
            return self.add(record.path.0, what);
        }
        if !same_attributes {
            let what = attributes(&record, &live.stat);
            return self.add(record.path.0, what);
        }
        let group = record.link_group.unwrap_or_default();
        let inode = *self.inodes.entry(group).or_insert(live.stat.ino);
        let other = *self.groups.entry(live.stat.ino).or_insert(group);
        if inode != live.stat.ino || other != group {
            self.add(record.path.0, "it is one inode with other names than in the day".to_owned());
        }
    }
}

fn other(record: &FileRecord, stat: &Stat) -> String {
    if record.kind != judge::kind(stat.kind) {
        return format!("it is another kind of thing: {:?}, recorded {:?}", stat.kind, record.kind);
    }
    match record.kind {
        FileKind::File if record.size != stat.size => {
            format!("{} bytes, recorded {}", stat.size, record.size)
        }
        _ if record.link_group.is_none() && stat.nlink > 1 => {
            "it shares its inode with another name, or has another content".to_owned()
        }
        FileKind::Symlink => "it points elsewhere".to_owned(),
        _ => "it has another content".to_owned(),
    }
}

fn attributes(record: &FileRecord, stat: &Stat) -> String {
    if record.mode != stat.mode && record.kind != FileKind::Symlink {
        return format!("mode {:o}, recorded {:o}", stat.mode, record.mode);
    }
    if (record.uid, record.gid) != (stat.uid, stat.gid) {
        return format!("owner {}:{}, recorded {}:{}", stat.uid, stat.gid, record.uid, record.gid);
    }
    if record.mtime != stat.mtime {
        return format!(
            "modified {}.{:09}, recorded {}.{:09}",
            stat.mtime.0, stat.mtime.1, record.mtime.0, record.mtime.1
        );
    }
    "its extended attributes differ".to_owned()
}
