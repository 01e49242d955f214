//! From what a survey finds to the lines of a plan and its numbers.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::fs::dir::{Kind, Stat};
use crate::manifest::{FileKind, FileRecord, PathBytes};
use crate::tree::restore::Error;
use crate::tree::restore::lines::{Attrs, Closed, Leaders, Line, MemberLine, Step, Writer, lines};
use crate::tree::restore::look::{Attributed, Member};
use crate::tree::restore::measure::Bulk;
use crate::tree::restore::plan::Totals;
use crate::tree::restore::survey::Finding;

/// How many paths are told one by one.
const TOLD: usize = 20;

/// Writes the plan while the survey goes on.
pub(crate) struct Planner<'a> {
    directory: &'a Path,
    root: PathBuf,
    writer: Writer<'a>,
    planned: Planned,
    /// The directories above: whether a name in each comes or goes, and whether it lies on another file system than the root.
    above: Vec<(bool, bool)>,
    members: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub totals: Totals,
    pub problems: Vec<String>,
    pub mounts: Vec<PathBuf>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(directory: &'a Path, root: PathBuf) -> Result<Self, Error> {
        let writer = Writer::create(directory)?;
        Ok(Self { directory, root, writer, planned: Planned::default(), above: Vec::new(), members: false })
    }

    pub(crate) fn take(&mut self, finding: Finding) -> Result<(), Error> {
        match finding {
            Finding::Enter { foreign } => self.above.push((false, foreign)),
            Finding::Leave { path, record, live, same } => {
                self.leave(path, record.as_deref(), &live, same)?;
            }
            Finding::Missing { record, below: true } => {
                self.writer.wants(&record)?;
                self.count_new(&record);
            }
            Finding::Missing { record, below: false } => self.missing(&record)?,
            Finding::Extra { path, stat, bulk } => self.extra(path, &stat, bulk)?,
            Finding::Other { record, stat, bulk } => self.other(&record, &stat, bulk)?,
            Finding::Attributes { record, live } => self.attributes(&record, &live)?,
            Finding::Member { record, live } => self.member(&record, live)?,
            Finding::Same => self.planned.totals.same += 1,
            Finding::Stays { path, mount } => {
                self.planned.totals.stay += 1;
                if mount && self.planned.mounts.len() < TOLD {
                    self.planned.mounts.push(self.shown(&path));
                }
            }
            Finding::Unmade { record } => {
                self.writer.wants(&record)?;
                self.planned.totals.recorded_only += 1;
            }
        }
        Ok(())
    }

    /// Ends the plan on disk, where it is to be kept or not.
    pub(crate) fn finish(mut self, kept: bool) -> Result<Planned, Error> {
        let leaders = self.writer.finish(kept)?;
        if self.members {
            count_members(&mut self.planned.totals, self.directory, &leaders)?;
        }
        Ok(self.planned)
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        self.root.join(PathBytes(path.to_vec()).as_path())
    }

    fn problem(&mut self, text: String) {
        if self.planned.problems.len() < TOLD {
            self.planned.problems.push(text);
        }
    }

    /// A name comes or goes.
    fn touch(&mut self, path: &[u8], live: Option<&Stat>) {
        let Some((touched, foreign)) = self.above.last_mut() else { return };
        *touched = true;
        let foreign = *foreign;
        let shown = self.shown(path);
        let shown = shown.display();
        if foreign {
            self.problem(format!(
                "{shown} is to be changed, and lies on another file system than {}: configure what is mounted there as a tree \
                 of its own",
                self.root.display()
            ));
        }
        if live.is_some_and(|stat| stat.fixed) {
            self.problem(format!("{shown} is immutable or append-only: `chattr -ia {shown}` first"));
        }
    }

    fn leave(
        &mut self,
        path: Vec<u8>,
        record: Option<&FileRecord>,
        live: &Attributed,
        same: bool,
    ) -> Result<(), Error> {
        let touched = self.above.pop().is_some_and(|(touched, _)| touched);
        if live.stat.fixed && (touched || !same) {
            let shown = self.shown(&path);
            let shown = shown.display();
            self.problem(format!("{shown} is immutable or append-only: `chattr -ia {shown}` first"));
        }
        self.planned.totals.change_directories += u64::from(!same);
        // The root's is always there: what is staged and moved aside may lie in it.
        if touched || !same || path.is_empty() {
            let from = Attrs::live(live);
            let to = record.map_or_else(|| from.clone(), Attrs::recorded);
            self.writer.step(Step::Directory { path: PathBytes(path), ino: live.stat.ino, to, from })?;
        }
        Ok(())
    }

    fn count_new(&mut self, record: &FileRecord) {
        let totals = &mut self.planned.totals;
        if record.kind == FileKind::Directory {
            totals.create_directories += 1;
        } else {
            totals.create += 1;
            totals.copy_bytes += record.size;
        }
    }

    fn missing(&mut self, record: &FileRecord) -> Result<(), Error> {
        self.touch(&record.path.0, None);
        self.writer.wants(record)?;
        self.count_new(record);
        let (n, path, optional) = (self.writer.slot(), record.path.clone(), is_device(record.kind));
        self.writer.step(Step::Create { n, path, optional, to: closed(record) })
    }

    fn aside(&mut self, bulk: Bulk) {
        let totals = &mut self.planned.totals;
        totals.aside_bytes += bulk.bytes;
        totals.aside_specials += bulk.sockets + bulk.devices;
        totals.remove_directories += bulk.directories;
    }

    fn extra(&mut self, path: Vec<u8>, stat: &Stat, bulk: Bulk) -> Result<(), Error> {
        self.touch(&path, Some(stat));
        self.aside(bulk);
        self.planned.totals.remove += bulk.names;
        let n = self.writer.slot();
        self.writer.step(Step::Remove { n, path: PathBytes(path), ino: stat.ino, was: was(stat) })
    }

    fn other(&mut self, record: &FileRecord, stat: &Stat, bulk: Bulk) -> Result<(), Error> {
        self.touch(&record.path.0, Some(stat));
        self.writer.wants(record)?;
        self.aside(bulk);
        let totals = &mut self.planned.totals;
        if record.kind == FileKind::Directory {
            totals.create_directories += 1;
            totals.remove += bulk.names;
        } else {
            totals.replace += 1;
            totals.copy_bytes += record.size;
            // What a directory held goes with it.
            totals.remove += if bulk.directories > 0 { bulk.names } else { 0 };
        }
        let (n, path, optional) = (self.writer.slot(), record.path.clone(), is_device(record.kind));
        let (to, was) = (closed(record), was(stat));
        self.writer.step(Step::Replace { n, path, ino: stat.ino, optional, to, was })
    }

    fn attributes(&mut self, record: &FileRecord, live: &Attributed) -> Result<(), Error> {
        self.planned.totals.attributes += 1;
        if live.stat.fixed {
            let shown = self.shown(&record.path.0);
            let shown = shown.display();
            self.problem(format!("{shown} is immutable or append-only: `chattr -ia {shown}` first"));
        }
        self.writer.step(Step::Attributes {
            path: record.path.clone(),
            ino: live.stat.ino,
            to: Attrs::recorded(record),
            from: Attrs::live(live),
        })
    }

    fn member(&mut self, record: &FileRecord, live: Option<Member>) -> Result<(), Error> {
        self.members = true;
        self.writer.wants(record)?;
        self.touch(&record.path.0, live.as_ref().map(|member| &member.live.stat));
        let same_content = live.as_ref().is_some_and(|member| member.same_content);
        let line = MemberLine {
            n: self.writer.slot(),
            path: record.path.clone(),
            kind: record.kind,
            group: record.link_group.unwrap_or_default(),
            size: record.size,
            to: Attrs::recorded(record),
            live: live.map(|Member { live, same_attributes, .. }| {
                (live.stat.ino, live.stat.size, (!same_attributes).then(|| Attrs::live(&live)))
            }),
        };
        self.writer.member(line, same_content)
    }
}

fn closed(record: &FileRecord) -> Option<Closed> {
    (record.kind == FileKind::Directory).then_some((record.mode, record.mtime))
}

fn was(stat: &Stat) -> Option<Closed> {
    (stat.kind == Kind::Directory).then_some((stat.mode, stat.mtime))
}

fn is_device(kind: FileKind) -> bool {
    matches!(kind, FileKind::CharDevice | FileKind::BlockDevice)
}

/// Counts the names of inodes that have several, now that it is known what is to be done with them.
fn count_members(totals: &mut Totals, directory: &Path, leaders: &Leaders) -> Result<(), Error> {
    let mut copied = HashSet::new();
    for line in lines(directory)? {
        let Line::Member(member) = line? else { continue };
        let (group, size, live) = (member.group, member.size, member.live.as_ref().map(|(_, size, _)| *size));
        let is_file = member.kind == FileKind::File;
        let leads = leaders.has(group);
        match leaders.settle(Line::Member(member)) {
            None => totals.same += 1,
            Some(Step::Attributes { .. }) => totals.attributes += 1,
            Some(Step::Create { .. }) => totals.create += 1,
            Some(_) => totals.replace += 1,
        }
        if !leads && copied.insert(group) {
            totals.copy_bytes += size;
        }
        if !leads && is_file {
            totals.aside_bytes += live.unwrap_or_default();
        }
    }
    Ok(())
}
