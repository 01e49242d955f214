//! One tree being copied: where from, where to, and what its threads share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config;
use crate::event::{Context, Event, Notices as _, Phase, Unit};
use crate::fs::dir::{Dir, Stat, is_gone};
use crate::fs::fanotify::Group;
use crate::tree::filter::Rules;
use crate::tree::links::Groups;
use crate::tree::pool::Crew;
use crate::tree::{Error, Job};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// The tree, and what all threads share.
pub(crate) struct Site {
    pub tree: config::Tree,
    pub rules: Rules,
    pub source: Dir,
    pub root: Stat,
    pub target: Dir,
    /// The previous day's tree, if it may be linked from.
    pub previous: Option<Dir>,
    /// Where files are made before they get their names: outside the tree, on the same file system.
    pub staging: Dir,
    pub work: PathBuf,
    pub jobs: usize,
    /// The threads of the pool stand back behind all else on the machine.
    pub idle: bool,
    pub groups: Groups,
    pub counts: Counts,
    pub context: Context,
    /// Set-id bits are kept in the day.
    pub is_root: bool,
    /// Stops the threads, when the run is cancelled or one of them has failed.
    pub stop: CancellationToken,
    /// Another file system was met below the root, and is part of the tree.
    pub spans: AtomicBool,
    /// What listens to the file system, while the day is built.
    pub listener: Mutex<Weak<Group>>,
    /// The repository is held: time is dearer than load.
    pub held: AtomicBool,
    rate: Option<u64>,
    /// When the next read may begin, by the monotonic clock.
    next_read: Mutex<Duration>,
    next_tell: Mutex<Duration>,
    next_name: AtomicU64,
    total: Option<u64>,
}

/// What was done, for the day's record and for progress.
#[derive(Default)]
pub(crate) struct Counts {
    pub looked_at: AtomicU64,
    pub copied_files: AtomicU64,
    pub copied_bytes: AtomicU64,
    pub linked_files: AtomicU64,
    pub lacking_owner: AtomicU64,
    pub lacking_xattr: AtomicU64,
    pub lacking_device: AtomicU64,
}

/// One directory, open in all the places that matter.
#[derive(Debug)]
pub(crate) struct Place {
    pub path: Vec<u8>,
    pub source: Dir,
    pub target: Dir,
    pub previous: Option<Dir>,
    /// The directory was made in the day just now: nothing is in it.
    pub is_new: bool,
}

impl Place {
    pub(crate) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }

    /// The same, in memory that is there already.
    pub(crate) fn path_into(&self, name: &[u8], path: &mut Vec<u8>) {
        path.clear();
        path.extend_from_slice(&self.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
}

/// `name` below `path`, which is empty for the root.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return name.to_vec();
    }
    [path, b"/", name].concat()
}

impl Site {
    /// Opens the source, makes target and work directory.
    pub(crate) fn open(job: &Job, total: Option<u64>, context: &Context) -> Result<Self, Error> {
        let source = Dir::open_trusted(&job.tree.path)?;
        let root = source.stat_self()?;
        crate::fs::create_dir_durable(&job.target)?;
        let work = work_dir(job);
        crate::fs::create_dir_durable(&work)?;
        let work_handle = Dir::open(&work)?;
        // What a killed run was making.
        work_handle.remove_all(b"new")?;
        work_handle.make_dir(b"new")?;
        let target = Dir::open(&job.target)?;
        let kind = crate::fs::dir::Kind::Directory;
        Dir::open(crate::fs::parent_of(&job.target))?.set_mode(last_name(job), 0o700, kind)?;
        let previous = match &job.previous {
            Some(previous) if !job.new_base => match Dir::open(&previous.tree_dir) {
                Ok(dir) => Some(dir),
                Err(error) if is_gone(&error) => None,
                Err(error) => return Err(error.into()),
            },
            _ => None,
        };
        Ok(Self {
            rules: Rules::new(&job.tree.filters),
            tree: job.tree.clone(),
            source,
            root,
            target,
            previous,
            staging: work_handle.dir(b"new")?,
            work,
            jobs: job.jobs.max(1),
            idle: job.idle,
            groups: Groups::default(),
            counts: Counts::default(),
            context: context.clone(),
            is_root: rustix::process::geteuid().is_root(),
            stop: context.cancel.child_token(),
            spans: AtomicBool::new(false),
            listener: Mutex::default(),
            held: AtomicBool::new(false),
            rate: job.copy_rate.filter(|rate| *rate > 0),
            next_read: Mutex::default(),
            next_tell: Mutex::default(),
            next_name: AtomicU64::new(0),
            total,
        })
    }

    /// A directory, opened from the roots down.
    pub(crate) fn place(&self, path: &[u8]) -> Result<Place, Error> {
        let previous = match &self.previous {
            Some(root) => optional(root.beneath(path))?,
            None => None,
        };
        Ok(Place {
            path: path.to_vec(),
            source: self.source.beneath(path)?,
            target: self.target.beneath(path)?,
            previous,
            is_new: false,
        })
    }

    /// A directory of the day: what happens in it is this very copy, and need not be told.
    pub(crate) fn overhear(&self, target: &Dir) {
        let listener = lock(&self.listener).upgrade();
        if listener.is_some_and(|group| !group.ignore(target)) {
            *lock(&self.listener) = Weak::new();
        }
    }

    /// The threads that work at it.
    pub(crate) fn crew(&self) -> Crew<'_> {
        let idle = self.idle && !self.held.load(Ordering::Relaxed);
        Crew { threads: self.jobs, open: open_at_once() / 2, idle, stop: &self.stop }
    }

    /// A name in the staging directory that nothing has.
    pub(crate) fn new_name(&self) -> Vec<u8> {
        self.next_name.fetch_add(1, Ordering::Relaxed).to_string().into_bytes()
    }

    /// Fails when the run is to stop.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Waits as long as the configured rate asks for; not while the repository is held.
    pub(crate) fn pace(&self, bytes: u64) {
        let Some(rate) = self.rate.filter(|_| !self.held.load(Ordering::Relaxed)) else { return };
        let now = self.context.clock.monotonic();
        let start = {
            let mut next = lock(&self.next_read);
            let start = (*next).max(now);
            *next = start + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate);
            start
        };
        let mut left = start.saturating_sub(now);
        while !left.is_zero() && !self.stop.is_cancelled() {
            let step = left.min(Duration::from_millis(100));
            std::thread::sleep(step);
            left -= step;
        }
    }

    /// One more file is dealt with.
    pub(crate) fn tell(&self, phase: Phase, files: u64) {
        let current = self.counts.looked_at.fetch_add(files, Ordering::Relaxed) + files;
        let now = self.context.clock.monotonic();
        let mut next = lock(&self.next_tell);
        if now < *next {
            return;
        }
        *next = now + TELL_EVERY;
        drop(next);
        self.tell_now(phase, current);
    }

    pub(crate) fn tell_now(&self, phase: Phase, files: u64) {
        let bytes = self.counts.copied_bytes.load(Ordering::Relaxed);
        let observer = &self.context.observer;
        observer.observe(&Event::Progress { phase, unit: Unit::Files, current: files, total: self.total });
        observer.observe(&Event::Progress { phase, unit: Unit::Bytes, current: bytes, total: None });
    }

    /// Tells what rights or the file system did not allow.
    pub(crate) fn tell_lacking(&self) {
        let name = &self.tree.name;
        let told = [
            (
                &self.counts.lacking_owner,
                "have another owner in the day, because this process may not give files away",
            ),
            (
                &self.counts.lacking_xattr,
                "lack extended attributes in the day, because the vault does not take them",
            ),
            (&self.counts.lacking_device, "are devices that this process may not make"),
        ];
        for (count, what) in told {
            let count = count.swap(0, Ordering::Relaxed);
            if count > 0 {
                self.context.observer.warn(format!("tree {name}: {count} names {what}; the records have it"));
            }
        }
    }
}

/// Nothing, where there is nothing.
pub(crate) fn optional<T>(result: Result<T, crate::fs::Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(&error) || is_link(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A symbolic link stands where something else was expected.
pub(crate) fn is_link(error: &crate::fs::Error) -> bool {
    error.source.raw_os_error() == Some(nix::libc::ELOOP)
}

fn last_name(job: &Job) -> &[u8] {
    use std::os::unix::ffi::OsStrExt as _;
    job.target.file_name().unwrap_or_default().as_bytes()
}

/// How many files this process may have open.
pub(crate) fn descriptors() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Directories that the threads of a walk may hold open together, each in three places: a quarter of what can be open.
pub(crate) fn open_at_once() -> usize {
    usize::try_from(descriptors() / 4 / 3).unwrap_or(usize::MAX)
}

/// Beside the tree: `.<tree>.work`.
fn work_dir(job: &Job) -> PathBuf {
    let name = job.target.file_name().unwrap_or_default().to_string_lossy();
    crate::fs::parent_of(&job.target).join(format!(".{name}.work"))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
