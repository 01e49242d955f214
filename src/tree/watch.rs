//! What the kernel says has changed in the tree since before it was walked.
//!
//! Why nothing is missed: the watch begins before the walk, so a name changes either before the walk reads it, and is read as it is, or
//! after the watch began, and is told. The kernel queues an event in the system call that causes it, before that call returns; when the
//! application is proven idle all its calls have returned, so reading the queue until it is empty reads them all. Events name a directory by
//! its handle; its path is looked up when the event is read. If it was renamed meanwhile, that rename is an event too, and a
//! directory that moved is brought with all below it, so that it does not matter which of its paths an event was booked on.
//!
//! What the kernel does not tell by name is found in other ways or makes the fence a walk: names of an inode that has several
//! (`fence`), files written through a descriptor whose name is gone (`Seen::written`), lost events, a root that moved. Writes through
//! a memory map are told when the map is closed, not before: a process that keeps one through the hold is not idle.

use std::collections::{BTreeMap, HashMap};
use std::io::PipeWriter;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::fanotify::MaskFlags;

use crate::fs::dir::Dir;
use crate::fs::fanotify::{self, Event, Group, Handle, Happened};
use crate::tree::Error;
use crate::tree::compare::Dirt;
use crate::tree::overlay::{Key, key};
use crate::tree::site::{Site, join, lock};

/// How long changes gather before they are read: some thousand at most, which the kernel keeps meanwhile.
const GATHER: Duration = Duration::from_millis(20);

/// Directories whose paths are remembered.
const REMEMBERED: usize = 8192;

/// More changes than this are not remembered by name: a walk is as quick, and memory stays bounded.
const MOST_SEEN: usize = 100_000;

/// What was told of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub dirt: Dirt,
    /// Its content or attributes changed.
    pub written: bool,
    /// The name went away.
    pub removed: bool,
}

/// A running watch.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    /// Closed when the reader is to end.
    stop: Option<PipeWriter>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    group: Arc<Group>,
    root: Dir,
    /// Where the root was when the watch began.
    path: Vec<u8>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: BTreeMap<Key, Seen>,
    /// Paths of directories relative to the root; None: outside. Forgotten when any directory moves.
    paths: HashMap<Handle, Option<Vec<u8>>>,
    /// Why the watch cannot be relied on.
    failed: Option<String>,
}

impl Watch {
    /// Begins to watch, if kernel, file system and rights allow it; else the reason why not.
    pub(crate) fn begin(site: &Site) -> Result<Result<Self, String>, Error> {
        if !fanotify::is_local(&site.source)? {
            return Ok(Err("its file system may be changed from other machines".to_owned()));
        }
        let group = match Group::watch(&site.source) {
            Ok(group) => Arc::new(group),
            Err(error) => return Ok(Err(error.source.to_string())),
        };
        let (root, path) = (site.source.beneath(b"")?, site.source.kernel_path()?);
        let (stopped, stop) = match std::io::pipe() {
            Ok(pipe) => pipe,
            Err(error) => return Ok(Err(error.to_string())),
        };
        *lock(&site.listener) = Arc::downgrade(&group);
        site.overhear(&site.target);
        site.overhear(&site.staging);
        let shared = Arc::new(Shared { group, root, path, state: Mutex::default() });
        let reader = Arc::clone(&shared);
        // Reads while the tree is walked, so that the kernel need not keep it all.
        let thread = std::thread::spawn(move || {
            while matches!(reader.group.wait(&stopped), Ok(true)) {
                // What this very copy does is told too: to be woken by each of its calls would cost more than they do.
                if fanotify::stops_within(&stopped, GATHER) {
                    return;
                }
                reader.drain();
            }
        });
        Ok(Ok(Self { shared, stop: Some(stop), thread: Some(thread) }))
    }

    /// All that was told until now, once. Err: why it is not all.
    pub(crate) fn take(&self) -> Result<BTreeMap<Key, Seen>, String> {
        self.shared.drain();
        let moved = self.shared.root.kernel_path().ok().as_ref() != Some(&self.shared.path);
        let mut state = lock(&self.shared.state);
        if moved {
            state.failed.get_or_insert_with(|| "the tree itself was moved".to_owned());
        }
        match &state.failed {
            Some(why) => Err(why.clone()),
            None => Ok(std::mem::take(&mut state.seen)),
        }
    }

    /// To be asked again next time.
    pub(crate) fn put_back(&self, key: Key, seen: Seen) {
        lock(&self.shared.state).note(key, seen);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A reader that panicked has told nothing more: there is nobody left to ask it.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Under the lock, so that whoever has it next finds every event that any thread has read.
    fn drain(&self) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let drained = self.group.drain(&mut |event| match event {
            Event::Lost => fail(state, "the kernel lost events"),
            Event::Name(happened) => {
                if let Err(error) = self.book(state, happened) {
                    let why = format!("{error}: {}", error.source);
                    fail(state, &why);
                }
            }
        });
        if let Err(error) = drained {
            fail(state, &error.to_string());
        }
    }

    fn book(&self, state: &mut State, happened: Happened) -> Result<(), crate::fs::Error> {
        if state.failed.is_some() {
            return Ok(());
        }
        let dir = match state.paths.get(&happened.dir) {
            Some(known) => known.clone(),
            None => {
                let path = self.find(&happened.dir)?;
                if state.paths.len() >= REMEMBERED {
                    state.paths.clear();
                }
                state.paths.insert(happened.dir, path.clone());
                path
            }
        };
        let Some(dir) = dir else { return Ok(()) };
        let what = happened.what;
        let is_self = happened.name == b"." || happened.name.is_empty();
        let path = if is_self { dir.clone() } else { join(&dir, &happened.name) };
        let names = MaskFlags::FAN_CREATE | MaskFlags::FAN_DELETE | MaskFlags::FAN_MOVE;
        let removed = what.intersects(MaskFlags::FAN_DELETE | MaskFlags::FAN_MOVED_FROM);
        let moved = what.intersects(MaskFlags::FAN_DELETE | MaskFlags::FAN_MOVE);
        // What stands in the way of a directory that moved or went may be anything by now.
        let below = what.contains(MaskFlags::FAN_ONDIR) && moved && !is_self;
        let written = !what.contains(MaskFlags::FAN_ONDIR)
            && what.intersects(MaskFlags::FAN_MODIFY | MaskFlags::FAN_CLOSE_WRITE | MaskFlags::FAN_ATTRIB);
        if below {
            // Later events in it are booked on its new path; on its old one, this mark brings it whole.
            state.paths.clear();
        }
        let dirt = if below { Dirt::Below } else { Dirt::Name };
        state.note(key(&path), Seen { dirt, written, removed });
        if what.intersects(names) {
            // The directory's own times changed.
            state.note(key(&dir), Seen { dirt: Dirt::Name, written: false, removed: false });
        }
        Ok(())
    }

    /// The path of a directory relative to the root; None: outside of the tree, or gone, in which case its parent tells.
    fn find(&self, handle: &Handle) -> Result<Option<Vec<u8>>, crate::fs::Error> {
        let Some(fd) = fanotify::open_handle(&self.root, handle)? else { return Ok(None) };
        let Some(path) = fanotify::path_of(fd, self.root.path())? else { return Ok(None) };
        let above = self.path.strip_suffix(b"/").unwrap_or(&self.path);
        let below = path.strip_prefix(above).filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
        Ok(below.map(|rest| rest.strip_prefix(b"/").unwrap_or(rest).to_vec()))
    }
}

fn fail(state: &mut State, why: &str) {
    state.failed.get_or_insert_with(|| why.to_owned());
    state.seen.clear();
}

impl State {
    fn note(&mut self, key: Key, seen: Seen) {
        let known = self.seen.entry(key).or_insert(seen);
        known.dirt = known.dirt.max(seen.dirt);
        known.written |= seen.written;
        known.removed |= seen.removed;
        if self.seen.len() > MOST_SEEN {
            fail(self, "more has changed than is remembered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_SEEN, Seen, State};
    use crate::tree::compare::Dirt;

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut state = State::default();
        let seen = Seen { dirt: Dirt::Name, written: true, removed: false };
        (0..=MOST_SEEN).for_each(|number| state.note(number.to_be_bytes().to_vec(), seen));
        assert!(state.seen.is_empty());
        assert_eq!(state.failed.as_deref(), Some("more has changed than is remembered"));
    }
}
