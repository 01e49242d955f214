//! Removing a tree of millions of names: several threads, directory by directory, relative to open directories, so that
//! no path is too long. Each thread runs at niceness 19; Linux derives the I/O priority of a thread that set none from its
//! niceness, which makes this the lowest best-effort one (ioprio_set(2)).
//!
//! Memory does not grow with the tree: at most [`QUEUED`] directories wait; beyond that a thread goes down by itself. What
//! lies deeper than [`DEEPEST`] is first moved up to the top of the tree, so open directories stay few.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::fs::{Error, OnPath as _, open, parent_of, sync_dir};

const QUEUED: usize = 128;
const DEEPEST: usize = 48;
/// How often a name is tried again that a full file system would not remove.
const FLUSHES: usize = 4;

/// Told now and then how many names are gone; answers whether to go on.
pub type Going<'a> = &'a (dyn Fn(u64) -> bool + Sync);

/// Removes `root` and everything below it with so many threads, and flushes the directory that held its name. Read-only
/// directories are made writable first. Returns false when `going` said to stop: then what is left is still below `root`.
///
/// # Errors
/// The first name that cannot be removed. What the threads had removed until then is gone.
pub fn remove_tree(root: &Path, threads: usize, going: Going<'_>) -> Result<bool, Error> {
    let above = OwnedFd::from(open(parent_of(root))?);
    let name = CString::new(root.file_name().unwrap_or_default().as_bytes()).on("remove", root)?;
    let Some(top) = open_directory(&above, &name).on("open", root)? else {
        rustix::fs::unlinkat(&above, &name, AtFlags::empty()).on("remove", root)?;
        return sync_dir(parent_of(root)).map(|()| true);
    };
    let above =
        Arc::new(Open { fd: above, name: CString::default(), below: AtomicUsize::new(2), above: None });
    let top = Arc::new(Open { fd: top, name, below: AtomicUsize::new(1), above: Some(above) });
    let removal = Removal {
        root,
        top: top.clone(),
        going,
        queue: Mutex::new(Queue { waiting: vec![top], busy: 0 }),
        changed: Condvar::new(),
        removed: AtomicU64::new(0),
        moved_up: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        error: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| removal.work());
        }
    });
    if let Some(error) = removal.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    sync_dir(parent_of(root))?;
    Ok(!removal.stopped.into_inner())
}

/// A directory that is being emptied. `below` counts the directories in it that are not removed yet, and one more while
/// its own names are being read; whoever brings it to 0 removes it.
struct Open {
    fd: OwnedFd,
    name: CString,
    below: AtomicUsize,
    above: Option<Arc<Open>>,
}

impl Open {
    fn depth(&self) -> usize {
        std::iter::successors(self.above.as_ref(), |open| open.above.as_ref()).count()
    }

    fn path(&self, root: &Path) -> PathBuf {
        let mut names: Vec<&CStr> = vec![&self.name];
        names.extend(
            std::iter::successors(self.above.as_ref(), |open| open.above.as_ref()).map(|open| &*open.name),
        );
        // The last two are what holds the root, and the root itself.
        names.truncate(names.len().saturating_sub(2));
        names.iter().rev().fold(root.to_owned(), |path, name| path.join(OsStr::from_bytes(name.to_bytes())))
    }
}

struct Queue {
    waiting: Vec<Arc<Open>>,
    busy: usize,
}

struct Removal<'a> {
    root: &'a Path,
    top: Arc<Open>,
    going: Going<'a>,
    queue: Mutex<Queue>,
    changed: Condvar,
    removed: AtomicU64,
    moved_up: AtomicU64,
    stopped: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Removal<'_> {
    fn work(&self) {
        // Only a kindness to the rest of the machine: a refusal changes nothing else.
        let _ = rustix::process::setpriority_process(None, 19);
        while let Some(directory) = self.next() {
            let emptied = self.empty(&directory);
            let mut queue = self.queue();
            queue.busy -= 1;
            if let Err(error) = emptied {
                self.stopped.store(true, Ordering::Relaxed);
                self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
            self.changed.notify_all();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Arc<Open>> {
        let mut queue = self.queue();
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(directory) = queue.waiting.pop() {
                queue.busy += 1;
                return Some(directory);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn empty(&self, directory: &Arc<Open>) -> Result<(), Error> {
        let unread = |source: Errno| Error {
            action: "read the directory",
            path: directory.path(self.root),
            source: source.into(),
        };
        let failed = |action, name: &CStr, source: Errno| Error {
            action,
            path: joined(&directory.path(self.root), name),
            source: source.into(),
        };
        let mut names = Dir::read_from(&directory.fd).map_err(unread)?;
        while let Some(entry) = names.read() {
            let entry = entry.map_err(unread)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if self.stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            let maybe_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            match maybe_directory.then(|| open_directory(&directory.fd, name)) {
                None | Some(Ok(None)) => {
                    unlink(directory, name, AtFlags::empty())
                        .map_err(|error| failed("remove", name, error))?;
                }
                Some(Ok(Some(fd))) => self.go_below(directory, name, fd)?,
                Some(Err(error)) => return Err(failed("open", name, error)),
            }
            self.gone();
        }
        self.done(directory)
    }

    fn go_below(&self, directory: &Arc<Open>, name: &CStr, fd: OwnedFd) -> Result<(), Error> {
        let (above, name) = if directory.depth() > DEEPEST {
            let higher =
                self.move_up(directory, name).on("rename", &joined(&directory.path(self.root), name))?;
            (self.top.clone(), higher)
        } else {
            (directory.clone(), name.to_owned())
        };
        above.below.fetch_add(1, Ordering::AcqRel);
        let below = Arc::new(Open { fd, name, below: AtomicUsize::new(1), above: Some(above) });
        let mut queue = self.queue();
        if queue.waiting.len() < QUEUED {
            queue.waiting.push(below);
            self.changed.notify_one();
            return Ok(());
        }
        drop(queue);
        self.empty(&below)
    }

    fn move_up(&self, directory: &Open, name: &CStr) -> Result<CString, Errno> {
        loop {
            let number = self.moved_up.fetch_add(1, Ordering::Relaxed);
            let higher = CString::new(format!(".daykeep-removing-{number}")).unwrap_or_default();
            match rustix::fs::renameat(&directory.fd, name, &self.top.fd, &higher) {
                // Left by a removal that was interrupted; it is being removed too.
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                renamed => return renamed.map(|()| higher),
            }
        }
    }

    /// A directory has been read to its end, or a directory in it is gone.
    fn done(&self, directory: &Arc<Open>) -> Result<(), Error> {
        let mut directory = directory;
        while directory.below.fetch_sub(1, Ordering::AcqRel) == 1 {
            let Some(above) = &directory.above else { return Ok(()) };
            unlink(above, &directory.name, AtFlags::REMOVEDIR).map_err(|source| Error {
                action: "remove the directory",
                path: directory.path(self.root),
                source: source.into(),
            })?;
            directory = above;
        }
        Ok(())
    }

    fn gone(&self) {
        let removed = self.removed.fetch_add(1, Ordering::Relaxed) + 1;
        if removed.is_multiple_of(256) && !(self.going)(removed) {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }
}

fn joined(path: &Path, name: &CStr) -> PathBuf {
    path.join(OsStr::from_bytes(name.to_bytes()))
}

/// None when it is not a directory.
fn open_directory(above: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(above, name, flags, Mode::empty());
    match open() {
        Ok(fd) => Ok(Some(fd)),
        // Gone already, or not a directory: unlinking it will tell.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(None),
        Err(Errno::ACCESS) => {
            // What cannot be read can still be taken hold of, so that no link is followed.
            let hold = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let held = rustix::fs::openat(above, name, hold, Mode::empty())?;
            let path = format!("/proc/self/fd/{}", held.as_raw_fd());
            rustix::fs::chmodat(CWD, path, Mode::RWXU, AtFlags::empty())?;
            open().map(Some)
        }
        Err(error) => Err(error),
    }
}

fn unlink(directory: &Open, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
    let mut flushes = 0;
    let unlinked = loop {
        match rustix::fs::unlinkat(&directory.fd, name, flags) {
            // On a full btrfs there may be no room to write down that a name is gone, until it is flushed what went before.
            Err(Errno::NOSPC | Errno::DQUOT) if flushes < FLUSHES => {
                flushes += 1;
                rustix::fs::syncfs(&directory.fd)?;
            }
            unlinked => break unlinked,
        }
    };
    match unlinked {
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(directory.fd.as_fd(), Mode::RWXU)?;
            rustix::fs::unlinkat(&directory.fd, name, flags)
        }
        // Somebody else removed it: that is what was wanted.
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
