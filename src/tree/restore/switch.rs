//! The plan carried out, and taken back: nothing but names that move, and attributes.
//!
//! Crash safety. Each step says by itself whether it is done: what a name and its slot hold tells, by the inode number that the plan
//! has of what was there before. So killed anywhere, by whatever, the same plan goes on forward or back from the first line, and a step that
//! is done is passed by. Where the file system can exchange two names, no name is ever missing. A power cut may take any of the renames
//! that were not flushed, in whatever order the file system likes: that is one more state that the steps tell apart. What is moved into
//! the tree was flushed before (`staged`), and `switched` and `back` are written after the tree was flushed.
//!
//! A directory's attributes are set when everything in it is done; the plan has its line behind those of its content, on the way back too.

use std::path::Path;

use crate::event::{Context, Notices as _, Phase};
use crate::fs::attributes;
use crate::fs::dir::{Dir, Kind, Stat, is_gone, split_last};
use crate::fs::{self, Inode, swap};
use crate::manifest::PathBytes;
use crate::tree::restore::ground::name_of;
use crate::tree::restore::lines::{Attrs, Closed, Leaders, Step, steps};
use crate::tree::restore::slots::{Slot, Slots};
use crate::tree::restore::state::State;
use crate::tree::restore::tell::Tell;
use crate::tree::restore::{Error, Plan};

/// What a slot's name gets behind it for what was there before, where names cannot be exchanged.
const OLD: &[u8] = b".old";

impl Plan {
    /// Makes the live tree the day's: moves what was staged into place, and what it replaces aside. Can be done again after it was killed.
    ///
    /// # Errors
    /// Not everything is staged, a name cannot be moved, or somebody else changed the tree since the plan was made. It can be done again, or
    /// taken [back](Self::back).
    pub fn execute(&self, context: &Context) -> Result<(), Error> {
        match self.state()? {
            State::Switched => return Ok(()),
            State::Staged | State::Switching | State::GoingBack | State::Back => {}
            state => return Err(self.wrong(state, "switched")),
        }
        self.carry_out(Way::Forward, State::Switching, State::Switched, context)
    }

    /// Makes the live tree what it was before, from wherever the switch came to. Can be done again after it was killed.
    ///
    /// # Errors
    /// The old state is gone, or a name cannot be moved.
    pub fn back(&self, context: &Context) -> Result<(), Error> {
        match self.state()? {
            State::Planned | State::Staged | State::Back | State::Discarding => return Ok(()),
            State::Switching | State::Switched | State::GoingBack => {}
            state @ State::Dropping => return Err(self.wrong(state, "taken back")),
        }
        self.carry_out(Way::Back, State::GoingBack, State::Back, context)
    }

    fn carry_out(&self, way: Way, during: State, after: State, context: &Context) -> Result<(), Error> {
        during.write(&self.directory)?;
        let (slots, _) = Slots::open(&self.summary)?;
        let leaders = Leaders::read(&self.directory)?;
        let tell = self.tell(Phase::Switch, None, context);
        let mut field = Field {
            plan: self,
            above: Dir::open_real(fs::parent_of(&self.summary.root))?,
            root: None,
            slots,
            parent: None,
            tell: &tell,
            context,
            is_root: rustix::process::geteuid().is_root(),
        };
        for step in steps(&self.directory, &leaders)? {
            field.tell.check()?;
            field.step(way, step?)?;
            field.tell.files(1);
        }
        field.tell.finish();
        swap::sync_volume_of(field.slots.work())?;
        after.write(&self.directory)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    Back,
}

/// Where the steps are done.
struct Field<'a> {
    plan: &'a Plan,
    /// The directory that the root is in.
    above: Dir,
    /// The root, once something in it is to be done: from then on it is never moved.
    root: Option<Dir>,
    slots: Slots,
    /// The directory that the last name was in.
    parent: Option<(Vec<u8>, Dir)>,
    tell: &'a Tell,
    context: &'a Context,
    is_root: bool,
}

/// A name of the tree and its slot, both as they are now.
struct Pair<'a> {
    dir: &'a Dir,
    name: Vec<u8>,
    live: Option<Stat>,
    shelf: std::sync::Arc<Dir>,
    slot: Vec<u8>,
    kept: Option<Stat>,
}

impl Field<'_> {
    fn step(&mut self, way: Way, step: Step) -> Result<(), Error> {
        match (step, way) {
            (Step::Create { n, path, optional, to }, Way::Forward) => {
                self.create(n, &path, optional)?;
                self.close(&path, to)
            }
            (Step::Create { n, path, .. }, Way::Back) => self.uncreate(n, &path),
            (Step::Replace { n, path, ino, optional, to, .. }, Way::Forward) => {
                self.replace(n, &path, ino, optional)?;
                self.close(&path, to)
            }
            (Step::Replace { n, path, ino, was, .. } | Step::Remove { n, path, ino, was }, Way::Back) => {
                self.put_back(n, &path, ino)?;
                self.close(&path, was)
            }
            (Step::Remove { n, path, ino, .. }, Way::Forward) => self.remove(n, &path, ino),
            (Step::Attributes { path, ino, to, from }, way) => {
                let (to, from) = if way == Way::Forward { (to, from) } else { (from, to) };
                let tell = self.tell;
                let dir = self.parent_of(&path)?;
                let name = split_last(&path.0).1;
                set(tell, &Inode::of(dir, name)?, ino, &dir.path_of(name), &to, &from)
            }
            (Step::Directory { path, ino, to, from }, way) => {
                let (to, from) = if way == Way::Forward { (to, from) } else { (from, to) };
                let dir = self.beneath(&path.0)?;
                set(self.tell, &Inode::of(&dir, b".")?, ino, dir.path(), &to, &from)
            }
        }
    }

    fn beneath(&mut self, path: &[u8]) -> Result<Dir, Error> {
        let root = match &mut self.root {
            Some(root) => root,
            none => none.insert(self.above.dir(name_of(&self.plan.summary.root))?),
        };
        Ok(root.beneath(path)?)
    }

    /// The directory that a name is in. For the root that is outside the tree.
    fn parent_of(&mut self, path: &PathBytes) -> Result<&Dir, Error> {
        if path.0.is_empty() {
            return Ok(&self.above);
        }
        let parent = split_last(&path.0).0;
        if self.parent.as_ref().is_none_or(|(last, _)| last != parent) {
            let dir = self.beneath(parent)?;
            if !self.is_root {
                open_up(&dir)?;
            }
            self.parent = Some((parent.to_vec(), dir));
        }
        Ok(self.parent.as_ref().map_or(&self.above, |(_, dir)| dir))
    }

    fn pair(&mut self, n: u64, path: &PathBytes) -> Result<Pair<'_>, Error> {
        let Slot { dir: shelf, name: slot, .. } = self.slots.slot(n)?;
        let kept = shelf.stat_if_exists(&slot)?;
        let name = if path.0.is_empty() { name_of(&self.plan.summary.root) } else { split_last(&path.0).1 };
        let name = name.to_vec();
        let dir = self.parent_of(path)?;
        let live = dir.stat_if_exists(&name)?;
        Ok(Pair { dir, name, live, shelf, slot, kept })
    }

    fn create(&mut self, n: u64, path: &PathBytes, optional: bool) -> Result<(), Error> {
        let pair = self.pair(n, path)?;
        match (pair.live, pair.kept) {
            (Some(_), None) => Ok(()),
            (None, Some(_)) => pair.move_in(),
            (None, None) if optional => Ok(()),
            (None, None) => Err(pair.not_staged()),
            (Some(_), Some(_)) => Err(pair.changed()),
        }
    }

    fn uncreate(&mut self, n: u64, path: &PathBytes) -> Result<(), Error> {
        let pair = self.pair(n, path)?;
        if pair.kept.is_none() && pair.live.is_some() { pair.move_out() } else { Ok(()) }
    }

    fn replace(&mut self, n: u64, path: &PathBytes, ino: u64, optional: bool) -> Result<(), Error> {
        let pair = self.pair(n, path)?;
        if is(pair.kept, ino) {
            return Ok(());
        }
        if is(pair.live, ino) {
            return match pair.kept {
                Some(_) => pair.exchange(),
                // The device could not be made: the day's tree has nothing here.
                None if optional => pair.move_out(),
                None => Err(pair.not_staged()),
            };
        }
        match (pair.live, pair.kept) {
            (None, Some(_)) => pair.move_in(),
            (Some(_), None) => Ok(()),
            (None, None) => Err(pair.not_staged()),
            (Some(_), Some(_)) => Err(pair.changed()),
        }
    }

    fn remove(&mut self, n: u64, path: &PathBytes, ino: u64) -> Result<(), Error> {
        let pair = self.pair(n, path)?;
        match (pair.live, pair.kept) {
            (None, _) => Ok(()),
            (live, None) if is(live, ino) => pair.move_out(),
            _ => Err(pair.changed()),
        }
    }

    /// What was there before goes back to its name; what is there now, whatever it is, goes to the slot.
    fn put_back(&mut self, n: u64, path: &PathBytes, ino: u64) -> Result<(), Error> {
        let context = self.context;
        let pair = self.pair(n, path)?;
        if is(pair.live, ino) {
            return Ok(());
        }
        if is(pair.kept, ino) {
            return match pair.live {
                Some(_) => pair.exchange(),
                None => pair.move_in(),
            };
        }
        let old = [&pair.slot, OLD].concat();
        if is(pair.shelf.stat_if_exists(&old)?, ino) {
            if pair.live.is_some() {
                pair.move_out()?;
            }
            return Ok(swap::move_new(&pair.shelf, &old, pair.dir, &pair.name)?);
        }
        let shown = pair.dir.path_of(&pair.name);
        context.observer.warn(format!(
            "{} is not as it was before the restore: somebody else has replaced or removed it since",
            shown.display()
        ));
        Ok(())
    }

    /// A directory that came here has the mode and time that it had, whatever the move made of them.
    fn close(&mut self, path: &PathBytes, closed: Option<Closed>) -> Result<(), Error> {
        let Some((mode, mtime)) = closed else { return Ok(()) };
        let name = if path.0.is_empty() { name_of(&self.plan.summary.root) } else { split_last(&path.0).1 };
        let name = name.to_vec();
        let dir = self.parent_of(path)?;
        let inode = match Inode::of(dir, &name) {
            Err(error) if is_gone(&error) => return Ok(()),
            found => found?,
        };
        let stat = inode.stat()?;
        if stat.kind != Kind::Directory {
            return Ok(());
        }
        if stat.mode != mode {
            inode.set_mode(mode)?;
        }
        if stat.mtime != mtime {
            inode.set_mtime(mtime)?;
        }
        Ok(())
    }
}

impl Pair<'_> {
    fn move_in(&self) -> Result<(), Error> {
        self.opened_up(|| swap::move_new(&self.shelf, &self.slot, self.dir, &self.name))
    }

    fn move_out(&self) -> Result<(), Error> {
        self.move_out_to(&self.slot)
    }

    fn move_out_to(&self, slot: &[u8]) -> Result<(), Error> {
        self.opened_up(|| {
            swap::move_new(self.dir, &self.name, &self.shelf, slot).map_err(|error| {
                // The name that people know.
                fs::Error { path: self.dir.path_of(&self.name), ..error }
            })
        })
    }

    fn exchange(&self) -> Result<(), Error> {
        if self.opened_up(|| swap::exchange(&self.shelf, &self.slot, self.dir, &self.name))? {
            return Ok(());
        }
        self.move_out_to(&[&self.slot, OLD].concat())?;
        self.move_in()
    }

    /// A directory's own write permission is needed to move it to another one, unless by root; its mode is set again where it comes to.
    fn opened_up<T>(&self, act: impl Fn() -> Result<T, fs::Error>) -> Result<T, Error> {
        let refused = match act() {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => error,
            done => return Ok(done?),
        };
        let mut opened = false;
        for (dir, name, stat) in [(self.dir, &self.name, self.live), (&*self.shelf, &self.slot, self.kept)] {
            if let Some(stat) = stat.filter(|stat| stat.kind == Kind::Directory && stat.mode & 0o200 == 0) {
                dir.set_mode(name, stat.mode | 0o700, Kind::Directory)?;
                opened = true;
            }
        }
        if opened { Ok(act()?) } else { Err(refused.into()) }
    }

    fn not_staged(&self) -> Error {
        Error::NotStaged { path: self.dir.path_of(&self.name) }
    }

    fn changed(&self) -> Error {
        Error::Changed { path: self.dir.path_of(&self.name) }
    }
}

fn is(stat: Option<Stat>, ino: u64) -> bool {
    stat.is_some_and(|stat| stat.ino == ino)
}

/// Names in a directory that its owner closed can be moved by nobody but root; its mode comes back with its own line.
fn open_up(dir: &Dir) -> Result<(), Error> {
    let mode = dir.stat_self()?.mode;
    if mode & 0o300 == 0o300 {
        return Ok(());
    }
    Ok(attributes::set_own_mode(dir, mode | 0o700)?)
}

/// Sets attributes; extended ones that only `from` has are taken away. Whoever may write in the directory can put something else in the
/// place of what was planned for, at any moment: so the thing itself is held while it is looked at and changed.
fn set(tell: &Tell, inode: &Inode, ino: u64, shown: &Path, to: &Attrs, from: &Attrs) -> Result<(), Error> {
    if !is(Some(inode.stat()?), ino) {
        return Err(Error::Changed { path: shown.to_owned() });
    }
    let bad = || Error::BadPlan { path: shown.to_owned(), problem: "its attributes are no hex".to_owned() };
    let wanted = to.values().ok_or_else(bad)?;
    for key in from.keys().filter(|key| !to.has(key)) {
        inode.remove_xattr(key)?;
    }
    tell.lacks(inode.apply(&wanted)?);
    Ok(())
}
