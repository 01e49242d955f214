//! Making things out of the day: files, directories with all in them, links and special files, with all their attributes.
//!
//! One thread goes through the records and makes the directories; the others make what is in them, a batch of names at a time, relative
//! to open directories. A directory gets its attributes when everything in it is done: then its times hold.
//!
//! Killed: a file gets its time last, so that one with the record's time is whole but for what a power cut took of its content; `resumed`
//! reads that again before it keeps the file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::fs::attributes::{self, Attributes};
use crate::fs::dir::{Dir, Kind, is_gone, split_last};
use crate::fs::{OnPath as _, copy};
use crate::manifest::{FileKind, FileRecord};
use crate::tree::pool::{self, Crew, Pool};
use crate::tree::queue::Task;
use crate::tree::restore::links::{Claim, Links, Origin};
use crate::tree::restore::records::{attributes_of, digest_of};
use crate::tree::restore::tell::Tell;
use crate::tree::restore::{Built, Error};
use crate::tree::site::{is_link, join, open_at_once};

/// Names handed to a thread at once.
const BATCH: usize = 32;
/// Levels of directories that stay open.
const OPEN_LEVELS: usize = 32;

/// Where things are made, and what all threads share.
pub(crate) struct Yard<'a> {
    /// The root of the tree in the day.
    pub day: &'a Dir,
    /// What the paths of made things begin at.
    pub target: &'a Dir,
    /// The live tree, for links to files that are right; None when there is none.
    pub live: Option<&'a Dir>,
    pub links: Links,
    /// What a killed restore made may be here already.
    pub resumed: bool,
    /// The directory that is made first is there already: something is mounted there.
    pub onto_mount: bool,
    pub tell: Tell,
    pub made: Made,
    pub stop: CancellationToken,
}

/// What was made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub entries: AtomicU64,
    pub files: AtomicU64,
    pub bytes: AtomicU64,
}

impl Made {
    pub(crate) fn built(&self) -> Built {
        let [entries, files, bytes] =
            [&self.entries, &self.files, &self.bytes].map(|count| count.load(Ordering::Relaxed));
        Built { entries, files, bytes }
    }
}

/// Something to be made whose name is not the one in the records.
pub(crate) struct Top {
    pub record: FileRecord,
    /// The directory that it is made in, its path beneath the target, and its name there.
    pub dir: Arc<Dir>,
    pub dir_path: Vec<u8>,
    pub name: Vec<u8>,
}

/// What threads are given.
struct Batch {
    source: Arc<Dir>,
    target: Arc<Dir>,
    target_path: Vec<u8>,
    /// The record, and the name to make when it is not the record's.
    items: Vec<(FileRecord, Option<Vec<u8>>)>,
}

impl Task for Batch {
    fn homes(&self) -> Option<[usize; 2]> {
        Some([Arc::as_ptr(&self.target).addr(); 2])
    }

    fn places(&self) -> usize {
        1
    }
}

enum Done {
    /// So many names.
    Names(u64),
    /// Everything in this directory is made.
    Close(Arc<Dir>, Box<FileRecord>),
}

/// A directory that is being made.
struct Open {
    record: FileRecord,
    target_path: Vec<u8>,
    /// In the day, and where it is made; None while the walk is far below it.
    dirs: Option<(Arc<Dir>, Arc<Dir>)>,
}

/// Makes what it is given, in the order of the walk.
pub(crate) struct Builder<'a, 'p> {
    yard: &'a Yard<'a>,
    pool: &'a mut Pool<'p, Batch, Done, Error>,
    batch: Option<Batch>,
    open: Vec<Open>,
    /// The directory of the day that the last thing came from.
    source: Option<(Vec<u8>, Arc<Dir>)>,
}

/// Runs `body` with a builder; all that it asked for is made when this returns.
pub(crate) fn build(
    yard: &Yard<'_>,
    threads: usize,
    body: impl FnOnce(&mut Builder<'_, '_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let crew = Crew { threads: threads.max(1), open: open_at_once(), idle: false, stop: &yard.stop };
    let work = |batch: Batch| make_batch(yard, &batch);
    let mut sink = |done: Done| match done {
        Done::Names(names) => {
            yard.tell.files(names);
            Ok(())
        }
        Done::Close(dir, record) => close(yard, &dir, &record),
    };
    pool::run(crew, work, &mut sink, |pool| {
        let mut builder = Builder { yard, pool, batch: None, open: Vec::new(), source: None };
        body(&mut builder)?;
        builder.close_until(None)?;
        builder.flush()
    })
}

impl Builder<'_, '_> {
    /// Makes a thing under a name of its own. If it is a directory, what is in it comes [next](Self::within).
    pub(crate) fn top(&mut self, top: Top) -> Result<(), Error> {
        self.close_until(None)?;
        if top.record.kind == FileKind::Directory {
            self.flush()?;
            let source =
                Arc::new(in_day(self.yard, &top.record.path.0, self.yard.day.beneath(&top.record.path.0))?);
            return self.directory(top.record, source, &top.dir, &top.dir_path, &top.name);
        }
        let source = self.source_of(split_last(&top.record.path.0).0)?;
        let fits =
            |batch: &Batch| Arc::ptr_eq(&batch.source, &source) && Arc::ptr_eq(&batch.target, &top.dir);
        if self.batch.as_ref().is_some_and(|batch| !fits(batch)) {
            self.flush()?;
        }
        let new = || Batch { source, target: top.dir, target_path: top.dir_path, items: Vec::new() };
        self.batch.get_or_insert_with(new).items.push((top.record, Some(top.name)));
        self.flush_if_full()
    }

    /// Makes a thing in the directory that was given before it.
    pub(crate) fn within(&mut self, record: FileRecord) -> Result<(), Error> {
        let parent = split_last(&record.path.0).0.to_vec();
        self.close_until(Some(&parent))?;
        let Some(above) = self.open.last_mut() else {
            return Err(Error::Damaged {
                path: self.yard.day.path_of(&record.path.0),
                problem: "its directory is not among what is restored".to_owned(),
            });
        };
        let (source, target) = match &above.dirs {
            Some((source, target)) => (Arc::clone(source), Arc::clone(target)),
            None => {
                let source = in_day(self.yard, &parent, self.yard.day.beneath(&parent))?;
                let dirs = (Arc::new(source), Arc::new(self.yard.target.beneath(&above.target_path)?));
                above.dirs = Some((Arc::clone(&dirs.0), Arc::clone(&dirs.1)));
                dirs
            }
        };
        let target_path = above.target_path.clone();
        if record.kind == FileKind::Directory {
            self.flush()?;
            let name = split_last(&record.path.0).1.to_vec();
            let below = in_day(self.yard, &record.path.0, source.dir(&name))?;
            return self.directory(record, Arc::new(below), &target, &target_path, &name);
        }
        let new = || Batch { source, target, target_path, items: Vec::new() };
        self.batch.get_or_insert_with(new).items.push((record, None));
        self.flush_if_full()
    }

    fn directory(
        &mut self,
        record: FileRecord,
        source: Arc<Dir>,
        above: &Dir,
        above_path: &[u8],
        name: &[u8],
    ) -> Result<(), Error> {
        self.yard.tell.check()?;
        let fresh = above.make_dir(name)?;
        if !fresh && self.yard.resumed {
            // What a killed restore made may be closed to us, if we are not root.
            if above.stat(name)?.kind == Kind::Directory {
                above.set_mode(name, 0o700, Kind::Directory)?;
            } else {
                above.remove_all(name)?;
                above.make_dir(name)?;
            }
        }
        let target = Arc::new(above.dir(name)?);
        let may_be_there = self.yard.resumed || (self.yard.onto_mount && self.open.is_empty());
        if !fresh && !may_be_there {
            return Err(Error::NotOurs { path: target.path().to_owned() });
        }
        self.yard.made.entries.fetch_add(1, Ordering::Relaxed);
        self.open.push(Open { record, target_path: join(above_path, name), dirs: Some((source, target)) });
        if let Some(far) = self.open.len().checked_sub(OPEN_LEVELS) {
            self.open[far].dirs = None;
        }
        Ok(())
    }

    /// Ends every directory that the next thing, which is in `parent`, is not in.
    fn close_until(&mut self, parent: Option<&[u8]>) -> Result<(), Error> {
        while let Some(last) = self.open.pop_if(|last| parent != Some(last.record.path.0.as_slice())) {
            self.flush()?;
            let target = match last.dirs {
                Some((_, target)) => target,
                None => Arc::new(self.yard.target.beneath(&last.target_path)?),
            };
            self.pool.give_ready(Done::Close(target, Box::new(last.record)))?;
        }
        Ok(())
    }

    fn source_of(&mut self, parent: &[u8]) -> Result<Arc<Dir>, Error> {
        if let Some((path, dir)) = &self.source
            && path == parent
        {
            return Ok(Arc::clone(dir));
        }
        let dir = Arc::new(in_day(self.yard, parent, self.yard.day.beneath(parent))?);
        self.source = Some((parent.to_vec(), Arc::clone(&dir)));
        Ok(dir)
    }

    fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.batch.as_ref().is_some_and(|batch| batch.items.len() >= BATCH) {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.batch.take().map_or(Ok(()), |batch| self.pool.give(batch))
    }
}

/// What cannot be opened in the day because it is not there, or is something else, is damage.
fn in_day<T>(yard: &Yard<'_>, path: &[u8], opened: Result<T, crate::fs::Error>) -> Result<T, Error> {
    opened.map_err(|error| {
        if is_gone(&error) || is_link(&error) {
            let problem = format!("it is not there as it was recorded ({})", error.source);
            return Error::Damaged { path: yard.day.path_of(path), problem };
        }
        error.into()
    })
}

fn close(yard: &Yard<'_>, dir: &Dir, record: &FileRecord) -> Result<(), Error> {
    yard.tell.lacks(attributes::give(dir, dir.path(), &attributes_of(record)?)?);
    yard.tell.files(1);
    Ok(())
}

fn make_batch(yard: &Yard<'_>, batch: &Batch) -> Result<Done, Error> {
    let names = batch.items.len() as u64;
    for (record, name) in &batch.items {
        if yard.stop.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let making = Making {
            yard,
            source: &batch.source,
            target: &batch.target,
            record,
            name: name.as_deref().unwrap_or_else(|| split_last(&record.path.0).1),
        };
        making.make(&batch.target_path)?;
    }
    Ok(Done::Names(names))
}

/// One name.
struct Making<'a> {
    yard: &'a Yard<'a>,
    source: &'a Dir,
    target: &'a Dir,
    record: &'a FileRecord,
    name: &'a [u8],
}

impl Making<'_> {
    fn make(&self, target_path: &[u8]) -> Result<(), Error> {
        let made = match self.record.link_group {
            None => self.by_itself()?,
            Some(group) => self.one_of_several(group, target_path)?,
        };
        if made {
            self.yard.made.entries.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn one_of_several(&self, group: u64, target_path: &[u8]) -> Result<bool, Error> {
        let mut full = None;
        loop {
            match self.yard.links.claim(group, full.take()) {
                Claim::First(turn) => {
                    let made = self.by_itself()?;
                    turn.done(join(target_path, self.name));
                    return Ok(made);
                }
                Claim::Link(origin) if self.link(&origin)? => return Ok(true),
                Claim::Link(origin) => full = Some(origin),
            }
        }
    }

    /// False: it is recorded only.
    fn by_itself(&self) -> Result<bool, Error> {
        match self.record.kind {
            FileKind::File => self.file().map(|()| true),
            _ => self.special(),
        }
    }

    /// False: the inode cannot have another name.
    fn link(&self, origin: &Origin) -> Result<bool, Error> {
        let (root, path) = match (origin, self.yard.live) {
            (Origin::Made(path), _) => (self.yard.target, path),
            (Origin::Live(path), Some(live)) => (live, path),
            (Origin::Live(_), None) => return Ok(false),
        };
        let (dir, last) = root.parent_beneath(path)?;
        if self.yard.resumed {
            let first = dir.stat(&last)?;
            match self.target.stat_if_exists(self.name)? {
                Some(there) if there.is_same_inode(&first) => return Ok(true),
                _ => self.target.remove_all(self.name)?,
            }
        }
        match dir.link(&last, self.target, self.name) {
            Ok(()) => {}
            Err(error) if refuses_links(&error.source) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if self.record.kind == FileKind::File {
            self.yard.made.files.fetch_add(1, Ordering::Relaxed);
            self.yard.made.bytes.fetch_add(self.record.size, Ordering::Relaxed);
        }
        Ok(true)
    }

    fn file(&self) -> Result<(), Error> {
        let wanted = attributes_of(self.record)?;
        if !(self.yard.resumed && self.keep(&wanted)?) {
            self.copy(&wanted)?;
        }
        self.yard.made.files.fetch_add(1, Ordering::Relaxed);
        self.yard.made.bytes.fetch_add(self.record.size, Ordering::Relaxed);
        Ok(())
    }

    fn copy(&self, wanted: &Attributes) -> Result<(), Error> {
        let name = split_last(&self.record.path.0).1;
        let file = in_day(self.yard, &self.record.path.0, self.source.open_file(name))?;
        let shown = self.target.path_of(self.name);
        let made = self.target.create_file(self.name)?;
        let digest = copy::content(&file, Some(&made), &mut |bytes| self.watch(bytes));
        self.yard.tell.check()?;
        let copied = digest.on("copy", &self.source.path_of(name));
        let digest = copied.map_err(|error| error.of_copy_to(|| shown.clone()))?;
        if Some(digest) != digest_of(self.record) {
            let problem = "its content is not what was recorded".to_owned();
            return Err(Error::Damaged { path: self.source.path_of(name), problem });
        }
        self.yard.tell.lacks(attributes::give(&made, &shown, wanted)?);
        Ok(())
    }

    /// Whether a killed restore made this file, to the last byte. What else has the name is removed.
    fn keep(&self, wanted: &Attributes) -> Result<bool, Error> {
        let Some(there) = self.target.stat_if_exists(self.name)? else { return Ok(false) };
        let alike = there.kind == Kind::File
            && there.nlink == 1
            && (there.size, there.mtime) == (self.record.size, self.record.mtime);
        if alike {
            let file = self.target.open_file(self.name)?;
            let shown = self.target.path_of(self.name);
            let digest = copy::content(&file, None, &mut |bytes| self.watch(bytes));
            self.yard.tell.check()?;
            if Some(digest.on("read", &shown)?) == digest_of(self.record) {
                self.yard.tell.lacks(attributes::give(&file, &shown, wanted)?);
                return Ok(true);
            }
        }
        self.target.remove_all(self.name)?;
        Ok(false)
    }

    fn watch(&self, bytes: u64) -> io::Result<()> {
        self.yard.tell.bytes(bytes);
        if self.yard.stop.is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    /// A symbolic link, a pipe or a device. False: it is recorded only.
    fn special(&self) -> Result<bool, Error> {
        if self.yard.resumed {
            self.target.remove_all(self.name)?;
        }
        let kind = match (self.record.kind, &self.record.target) {
            (FileKind::Symlink, Some(target)) => {
                self.target.make_symlink(self.name, &target.0)?;
                Kind::Symlink
            }
            (FileKind::Fifo, _) => self.node(Kind::Fifo)?,
            (FileKind::CharDevice, _) => self.node(Kind::CharDevice)?,
            (FileKind::BlockDevice, _) => self.node(Kind::BlockDevice)?,
            _ => return Ok(false),
        };
        if self.target.stat_if_exists(self.name)?.is_none() {
            self.yard.tell.lacks_device();
            return Ok(false);
        }
        let wanted = attributes_of(self.record)?;
        self.yard.tell.lacks(attributes::apply(self.target, self.name, kind, &wanted)?);
        Ok(true)
    }

    fn node(&self, kind: Kind) -> Result<Kind, Error> {
        match self.target.make_node(self.name, kind, self.record.device.unwrap_or_default()) {
            Err(error) if kind != Kind::Fifo && error.kind() == io::ErrorKind::PermissionDenied => Ok(kind),
            made => Ok(made.map(|()| kind)?),
        }
    }
}

fn refuses_links(error: &io::Error) -> bool {
    use nix::libc::{EMLINK, EOPNOTSUPP, EPERM, EXDEV};
    error.raw_os_error().is_some_and(|errno| [EMLINK, EPERM, EXDEV, EOPNOTSUPP].contains(&errno))
}
