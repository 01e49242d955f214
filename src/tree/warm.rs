//! The warm pass: tomorrow's tree from today's, while the repository runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::event::{Context, Notices as _, Phase};
use crate::fs;
use crate::manifest::{self, FileKind, FileRecord, LONGEST_PAGE, Manifest, RecordReader, RecordWriter};
use crate::tree::apply::{Applied, apply};
use crate::tree::bring::{Brought, Outcome, Stage};
use crate::tree::compare::{self, Dirt, Dirty, mark};
use crate::tree::fence::Fenced;
use crate::tree::overlay::Overlay;
use crate::tree::site::Site;
use crate::tree::watch::Watch;
use crate::tree::{Error, Job, sync, told};

/// More changes than this are merged into the list on disk, so that memory stays bounded.
const CHANGES_IN_MEMORY: usize = 20_000;

/// A tree of the day being built that is nearly the source.
pub struct Warm {
    pub(crate) site: Site,
    pub(crate) overlay: Overlay,
    /// What the list holds that the overlay lies over.
    pub(crate) listed: Listed,
    /// What would not settle.
    pub(crate) again: Dirty,
    /// What tells of changes, where it can be had.
    pub(crate) watch: Option<Watch>,
}

impl std::fmt::Debug for Warm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warm").field("tree", &self.site.tree.name).finish_non_exhaustive()
    }
}

/// What a catch-up found changed since the look before it, and brought over: so much, about, the next one will find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// Names.
    pub files: u64,
    /// Bytes of the regular files among them.
    pub bytes: u64,
}

/// Builds the tree of the new day from the day before and the source, while the repository runs. What an interrupted run left in the
/// target is used where it is right.
///
/// # Errors
/// A file cannot be read, the day cannot be written, or the run is cancelled. What is in the target is picked up by the next run.
pub fn warm(job: &Job, context: &Context) -> Result<Warm, Error> {
    let previous = job.previous.as_ref().filter(|_| !job.new_base);
    let site =
        Site::open(job, previous.and_then(|previous| count(&previous.records, &job.tree.name)), context)?;
    let records = match (&site.previous, previous) {
        (Some(_), Some(previous)) if fs::exists(&previous.records)? => {
            Some(RecordReader::open(&previous.records)?)
        }
        _ => None,
    };
    let watch = match Watch::begin(&site)? {
        Ok(watch) => Some(watch),
        Err(why) => {
            walk_instead(&site, &why);
            None
        }
    };
    let mut again = Dirty::new();
    let mut list = Lists::create(&site.work)?;
    sync::subtree(&site, b"", records, Stage::Running, &mut |brought: Brought| {
        match &brought.outcome {
            Outcome::In(record) => list.write(record)?,
            Outcome::Unsettled => mark(&mut again, brought.path(), Dirt::Below),
            Outcome::Gone | Outcome::AsWas | Outcome::Open(_) => {}
        }
        Ok(())
    })?;
    let listed = list.finish()?;
    site.tell_now(Phase::Warm, site.counts.looked_at.load(Ordering::Relaxed));
    Ok(Warm { site, overlay: Overlay::default(), listed, again, watch })
}

fn walk_instead(site: &Site, why: &str) {
    let name = &site.tree.name;
    let text = format!("tree {name}: changes are found by walking the tree again, not by fanotify: {why}");
    site.context.observer.info(text);
}

/// How many names the day before had, for the forecast.
fn count(records: &Path, tree: &str) -> Option<u64> {
    let manifest = fs::read_regular(&fs::parent_of(records).join("manifest.json"), LONGEST_PAGE).ok()??;
    let manifest: Manifest = serde_json::from_slice(&manifest).ok()?;
    Some(manifest.trees.get(tree)?.entries)
}

impl Warm {
    /// Brings over what changed since the last look, while the repository still runs, so that little is left for the fence.
    ///
    /// # Errors
    /// As [`warm`].
    pub fn catch_up(&mut self, context: &Context) -> Result<Pending, Error> {
        self.site.stop = context.cancel.child_token();
        let (dirty, _) = self.dirty(Stage::Running)?;
        let Applied { again, files, bytes } =
            apply(&self.site, &dirty, &mut self.overlay, &links(&self.site.work), Stage::Running)?;
        self.again = again;
        if self.overlay.len() > CHANGES_IN_MEMORY {
            self.merge()?;
        }
        Ok(Pending { files, bytes })
    }

    /// Brings over the last changes. Afterwards the tree in the day, with what is held open, is the tree at this instant.
    ///
    /// # Errors
    /// As [`warm`]; and a file changes although the repository is held.
    pub fn fence(self, _still: &dyn manifest::Still, context: &Context) -> Result<Fenced, Error> {
        Fenced::take(self, context)
    }

    /// What changed since the last look.
    pub(crate) fn dirty(&mut self, stage: Stage) -> Result<(Dirty, &'static str), Error> {
        let told = self.told(stage)?;
        let how = if told.is_some() { "fanotify" } else { "walk" };
        let mut dirty = match told {
            Some(dirty) => dirty,
            None => compare::dirty(&self.site, self.overlay.over(&records(&self.site.work))?)?,
        };
        for (key, dirt) in std::mem::take(&mut self.again) {
            let entry = dirty.entry(key).or_insert(dirt);
            *entry = dirt.max(*entry);
        }
        Ok((dirty, how))
    }

    /// What the kernel told, if that is all.
    fn told(&mut self, stage: Stage) -> Result<Option<Dirty>, Error> {
        let Some(watch) = &self.watch else { return Ok(None) };
        let seen = if self.site.spans.load(Ordering::Relaxed) {
            Err("it lies on several file systems".to_owned())
        } else {
            watch.take()
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(why) => {
                walk_instead(&self.site, &why);
                let spans = self.site.spans.load(Ordering::Relaxed);
                self.watch = None;
                if stage == Stage::Running && !spans {
                    // A new one begins before the walk, so that the look after this one need not be a walk too.
                    self.watch = Watch::begin(&self.site)?.ok();
                }
                return Ok(None);
            }
        };
        match told::dirty(&self.site, &self.overlay, watch, seen, stage)? {
            Ok(dirty) => Ok(Some(dirty)),
            Err(why) => {
                walk_instead(&self.site, &why);
                Ok(None)
            }
        }
    }

    /// Makes list and changes one list.
    fn merge(&mut self) -> Result<(), Error> {
        let (old, new) = (&self.site.work, self.site.work.join("merged"));
        fs::create_dir_durable(&new)?;
        let mut lists = Lists::create(&new)?;
        for record in self.overlay.over(&records(old))? {
            lists.write(&record?)?;
        }
        self.listed = lists.finish()?;
        // Should we be killed between them, nothing is lost: the next run does not read them.
        for list in [links, directories, records] {
            fs::rename_durable(&list(&new), &list(old))?;
        }
        self.overlay.clear();
        Ok(())
    }
}

/// The list of all records of the tree being built.
pub(crate) fn records(work: &Path) -> PathBuf {
    work.join("records")
}

/// The list of those whose inode has several names.
pub(crate) fn links(work: &Path) -> PathBuf {
    work.join("links")
}

/// The list of the directories among them.
pub(crate) fn directories(work: &Path) -> PathBuf {
    work.join("directories")
}

/// What a finished list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Listed {
    pub entries: u64,
    /// Regular files, and the sum of their sizes.
    pub files: u64,
    pub bytes: u64,
}

impl Listed {
    pub(crate) fn count(&mut self, record: &FileRecord) {
        self.entries += 1;
        if record.kind == FileKind::File {
            self.files += 1;
            self.bytes += record.size;
        }
    }
}

/// The lists being written.
struct Lists {
    records: RecordWriter,
    links: RecordWriter,
    directories: RecordWriter,
    listed: Listed,
}

impl Lists {
    fn create(work: &Path) -> Result<Self, Error> {
        Ok(Self {
            records: RecordWriter::create(&records(work))?,
            links: RecordWriter::create(&links(work))?,
            directories: RecordWriter::create(&directories(work))?,
            listed: Listed::default(),
        })
    }

    fn write(&mut self, record: &FileRecord) -> Result<(), Error> {
        self.listed.count(record);
        self.records.write(record)?;
        if record.link_group.is_some() {
            self.links.write(record)?;
        }
        if record.kind == FileKind::Directory {
            self.directories.write(record)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Listed, Error> {
        self.records.finish()?;
        self.links.finish()?;
        self.directories.finish()?;
        Ok(self.listed)
    }
}
