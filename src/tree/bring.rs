//! Bringing one name into the day: by a link to the day before, or by a copy.
//!
//! Crash safety: a name appears in the day by `linkat` from the day before, by `O_EXCL` where nothing had that name, or by `rename` of a
//! file that was made in the staging directory. Killed at any moment, the next run finds a stray file in the staging directory and
//! removes it, or a file in the day that is whole or not, and believes it only when its digest and its attributes are the source's. What
//! has a name in the day already is never opened for writing, so nothing is ever written through a hard link into an older day.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::fs::attributes::{self, Attributes, Lacking};
use crate::fs::dir::{Dir, Kind, Stat, is_gone, stat_file};
use crate::fs::{OnPath as _, copy};
use crate::manifest::{FileKind, FileRecord, PathBytes};
use crate::tree::Error;
use crate::tree::held::{Held, Slot};
use crate::tree::judge::{self, Judgement};
use crate::tree::links::{Claim, Turn};
use crate::tree::site::{Place, Site, is_link};

/// How often a name is looked at again that changes while it is brought.
const TRIES: usize = 5;
/// The coarsest step of the kernel's clock for file times: a change within the step in which a file was read does not move its ctime.
const CLOCK_STEP: Duration = Duration::from_millis(12);

/// How many names an inode can have on ext4; other file systems allow more.
const MOST_NAMES: u32 = 65_000;

/// When a name is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The repository runs: what does not settle is left for later.
    Running,
    /// The repository is held: what does not settle is an error.
    Held,
}

/// What became of a name.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is in the day.
    In(Box<FileRecord>),
    /// It is in the day since the last look, and its record holds.
    AsWas,
    /// It is not in the source any more, nor in the day.
    Gone,
    /// It would not hold still, or became something else: to be looked at again.
    Unsettled,
    /// It is open, and copied after the release.
    Open(Box<Held>),
}

type Xattrs = BTreeMap<String, Vec<u8>>;

/// Brings the name, whatever it is but a directory.
pub(crate) fn bring(
    site: &Site,
    place: &Place,
    name: &[u8],
    mut previous: Option<FileRecord>,
    stage: Stage,
) -> Result<Outcome, Error> {
    for _ in 0..TRIES {
        site.check()?;
        let Some(stat) = place.source.stat_if_exists(name)? else {
            place.target.remove_all(name)?;
            return Ok(Outcome::Gone);
        };
        if stat.mount_root || stat.dev != site.root.dev {
            // A file that is mounted over the name changes elsewhere.
            site.spans.store(true, Ordering::Relaxed);
        }
        let brought = match stat.kind {
            Kind::Directory => return Ok(Outcome::Unsettled),
            _ => one_of_several(site, place, name, &stat, &mut previous, stage)?,
        };
        if let Some(outcome) = brought {
            return Ok(outcome);
        }
    }
    match stage {
        Stage::Running => {
            // It gets no record, so it keeps nothing in the day: what is there may be what a killed run left.
            place.target.remove_all(name)?;
            Ok(Outcome::Unsettled)
        }
        Stage::Held => Err(Error::Unsettled { path: place.source.path_of(name) }),
    }
}

/// A file or special file, with regard to its other names. None: it changed meanwhile.
fn one_of_several(
    site: &Site,
    place: &Place,
    name: &[u8],
    stat: &Stat,
    previous: &mut Option<FileRecord>,
    stage: Stage,
) -> Result<Option<Outcome>, Error> {
    if stage == Stage::Held && site.tree.content_named && stat.kind == Kind::File {
        if is_kept_already(place, name, stat)? {
            return Ok(Some(Outcome::AsWas));
        }
        // The others are copied at once.
        if let Some(slot) = Slot::take() {
            return hold_open(place, name, stat, slot);
        }
    }
    if stat.nlink < 2 {
        return by_itself(site, place, name, stat, previous);
    }
    let turn = match turn_or_link(site, place, name, stat)? {
        Ok(turn) => turn,
        Err(linked) => return Ok(Some(Outcome::In(linked))),
    };
    // What is no regular file is not linked to the day before when it has several names: a new inode is cheap. Nor is what begins another
    // inode since the first can have no more names: the day before's inode may be that very one.
    if stat.kind != Kind::File || turn.begins_another() {
        *previous = None;
    }
    match by_itself(site, place, name, stat, previous)? {
        Some(Outcome::In(mut record)) => {
            record.link_group = Some(turn.number(stat, &site.root, &record.path.0));
            turn.done(&record);
            Ok(Some(Outcome::In(record)))
        }
        other => Ok(other),
    }
}

/// The right to bring the first name of an inode that has several; Err: the name is linked to the first.
pub(crate) fn turn_or_link<'a>(
    site: &'a Site,
    place: &Place,
    name: &[u8],
    stat: &Stat,
) -> Result<Result<Turn<'a>, Box<FileRecord>>, Error> {
    let mut full = None;
    loop {
        match site.groups.claim(stat, full.take()) {
            Claim::First(turn) => return Ok(Ok(turn)),
            Claim::Link(first) => match link_to_first(site, place, name, &first)? {
                Some(record) => return Ok(Err(Box::new(record))),
                // The inode in the day has all the links that it can have, or the first name is gone.
                None => full = Some(first),
            },
        }
    }
}

fn by_itself(
    site: &Site,
    place: &Place,
    name: &[u8],
    stat: &Stat,
    previous: &mut Option<FileRecord>,
) -> Result<Option<Outcome>, Error> {
    match stat.kind {
        Kind::File => regular(site, place, name, stat, previous),
        _ => special(site, place, name, stat, previous.as_ref()),
    }
}

/// Links to the name of the same inode that is in the day already.
fn link_to_first(
    site: &Site,
    place: &Place,
    name: &[u8],
    first: &FileRecord,
) -> Result<Option<FileRecord>, Error> {
    let (dir, last) = match site.target.parent_beneath(&first.path.0) {
        Ok(found) => found,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(inode) = dir.stat_if_exists(&last)? else { return Ok(None) };
    let linked = link_over(&dir, &last, &inode, &place.target, name)?;
    Ok(linked.then(|| FileRecord { path: PathBytes(place.path_of(name)), ..first.clone() }))
}

/// Links, over what is there. False: the file system does not allow (another) link.
fn link_over(from: &Dir, name: &[u8], inode: &Stat, to: &Dir, new: &[u8]) -> Result<bool, Error> {
    let linked = match from.link(name, to, new) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match to.stat_if_exists(new)? {
            Some(there) if there.is_same_inode(inode) => return Ok(true),
            Some(_) => to.remove_all(new).and_then(|()| from.link(name, to, new)),
            None => from.link(name, to, new),
        },
        linked => linked,
    };
    match linked {
        Ok(()) => Ok(true),
        Err(error) if refuses_links(&error.source) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn refuses_links(error: &io::Error) -> bool {
    use nix::libc::{EMLINK, ENOENT, EOPNOTSUPP, EPERM, EXDEV};
    error.raw_os_error().is_some_and(|errno| [EMLINK, EPERM, EXDEV, EOPNOTSUPP, ENOENT].contains(&errno))
}

/// A regular file by itself. None: it changed meanwhile.
fn regular(
    site: &Site,
    place: &Place,
    name: &[u8],
    stat: &Stat,
    previous: &mut Option<FileRecord>,
) -> Result<Option<Outcome>, Error> {
    if let (Some(record), Some(dir)) = (&*previous, &place.previous)
        && link_previous(site, place, dir, name, stat, record)?
        && let Some(record) = previous.take()
    {
        site.counts.linked_files.fetch_add(1, Ordering::Relaxed);
        let Stat { ctime, ino, .. } = *stat;
        return Ok(Some(Outcome::In(Box::new(FileRecord { ctime, ino, link_group: None, ..record }))));
    }
    let file = match place.source.open_file(name) {
        Ok(file) => file,
        Err(error) if is_gone(&error) || is_link(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let reading =
        Reading { site, dir: &place.source, name, file: &file, before: stat, as_of: stat, held: false };
    Ok(reading.copy(place)?.map(|record| Outcome::In(Box::new(record))))
}

/// Whether the file is the previous day's, and is linked now.
fn link_previous(
    site: &Site,
    place: &Place,
    dir: &Dir,
    name: &[u8],
    stat: &Stat,
    record: &FileRecord,
) -> Result<bool, Error> {
    let judgement = judge::file(record, stat, site.tree.content_named);
    if judgement == Judgement::Differs {
        return Ok(false);
    }
    // Before it is trusted: the day may have been hurt since it was sealed.
    let Some(kept) = dir.stat_if_exists(name)? else { return Ok(false) };
    let rights = if rustix::process::geteuid().is_root() { 0o7777 } else { 0o777 };
    if kept.kind != Kind::File
        || kept.size != record.size
        || kept.mtime != record.mtime
        || (kept.mode ^ record.mode) & rights != 0
    {
        return Ok(false);
    }
    // All names of an inode are to be one inode: where they would not all find room on the older one, a new one is begun.
    if stat.nlink > 1 && stat.nlink <= MOST_NAMES && kept.nlink.saturating_add(stat.nlink) > MOST_NAMES {
        return Ok(false);
    }
    if judgement != Judgement::Same && !judge::same_xattrs(record, &xattrs_of(&place.source, name)?) {
        return Ok(false);
    }
    if judgement == Judgement::Compare {
        let file = match place.source.open_file(name) {
            Ok(file) => file,
            Err(error) if is_gone(&error) || is_link(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let reading =
            Reading { site, dir: &place.source, name, file: &file, before: stat, as_of: stat, held: false };
        if reading.digest()?.map(|digest| digest.to_hex().to_string()) != record.blake3 {
            return Ok(false);
        }
    }
    link_over(dir, name, &kept, &place.target, name)
}

/// The extended attributes of a name; none when it has gone.
fn xattrs_of(dir: &Dir, name: &[u8]) -> Result<Xattrs, Error> {
    match attributes::read_xattrs(dir, name) {
        Ok(xattrs) => Ok(xattrs),
        Err(error) if is_gone(&error) => Ok(Xattrs::new()),
        Err(error) => Err(error.into()),
    }
}

/// A file being read that others may be changing.
pub(crate) struct Reading<'a> {
    pub site: &'a Site,
    pub dir: &'a Dir,
    pub name: &'a [u8],
    pub file: &'a File,
    /// What the name was before the file was opened.
    pub before: &'a Stat,
    /// What the day shows: the same, but for a file held open since the freeze point.
    pub as_of: &'a Stat,
    /// It is held open since the freeze point, and may have lost its name.
    pub held: bool,
}

impl Reading<'_> {
    /// The digest of the content. None: it changed meanwhile.
    fn digest(&self) -> Result<Option<blake3::Hash>, Error> {
        self.read(None)
    }

    fn read(&self, target: Option<&File>) -> Result<Option<blake3::Hash>, Error> {
        let path = self.dir.path_of(self.name);
        if !self.is_settled(&stat_file(self.file, &path)?) {
            return Ok(None);
        }
        let_clock_step(self.site, self.before);
        let size = self.before.size;
        let digest = copy::content_sized(self.file, target, size, &mut |bytes| self.watch(bytes));
        self.site.check()?;
        let digest = digest.on(if target.is_some() { "copy" } else { "read" }, &path)?;
        Ok(self.is_settled(&stat_file(self.file, &path)?).then_some(digest))
    }

    /// After every chunk: keeps to the rate, and stops when the run is cancelled.
    fn watch(&self, bytes: u64) -> io::Result<()> {
        self.site.pace(bytes);
        if self.site.stop.is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    fn is_settled(&self, now: &Stat) -> bool {
        let before = self.before;
        now.is_same_inode(before)
            && now.kind == before.kind
            && (now.size, now.mtime, now.ctime) == (before.size, before.mtime, before.ctime)
            // A file held open may lose its name after the release.
            && (self.held || now.nlink == before.nlink)
    }

    /// What an interrupted run had copied already, if it is the source's content and attributes to the last bit. The digest of both
    /// is read: after a power cut a file may have its name and size and still not its content.
    fn keep_copied(&self, place: &Place) -> Result<Option<FileRecord>, Error> {
        let Some(there) = place.target.stat_if_exists(self.name)? else { return Ok(None) };
        let alike = there.kind == Kind::File
            && there.nlink == 1
            && self.before.nlink == 1
            && (there.size, there.mtime, there.mode)
                == (self.before.size, self.before.mtime, self.before.mode)
            && (there.uid, there.gid) == (self.before.uid, self.before.gid);
        let xattrs = if alike { xattrs_of(&place.source, self.name)? } else { return Ok(None) };
        if xattrs_of(&place.target, self.name)? != xattrs {
            return Ok(None);
        }
        let file = place.target.open_file(self.name)?;
        let path = place.target.path_of(self.name);
        let kept = copy::content(&file, None, &mut |bytes| self.watch(bytes));
        self.site.check()?;
        let kept = kept.on("read", &path)?;
        if self.digest()? != Some(kept) {
            return Ok(None);
        }
        let mut record = judge::record(&self.site.tree.name, &place.path_of(self.name), self.before, &xattrs);
        record.blake3 = Some(kept.to_hex().to_string());
        Ok(Some(record))
    }

    /// Copies the file and gives it its name in the day. None: it changed meanwhile.
    pub(crate) fn copy(&self, place: &Place) -> Result<Option<FileRecord>, Error> {
        let site = self.site;
        // Of the open file: its name may be another file's by now.
        let xattrs = attributes::read_open_xattrs(self.file, &self.dir.path_of(self.name))?;
        // Where nothing has the name, the file is made under it: a rename from elsewhere costs a lock of the whole file system.
        let here = place.target.create_file_if_new(self.name)?;
        if here.is_none()
            && !self.held
            && let Some(record) = self.keep_copied(place)?
        {
            return Ok(Some(record));
        }
        let wanted = judge::attributes(self.as_of, xattrs.clone());
        let copied = match here {
            Some(made) => self.copy_here(&place.target, self.name, &made, &wanted)?,
            None => {
                let new = site.new_name();
                let made = site.staging.create_file(&new)?;
                let copied = self.copy_here(&site.staging, &new, &made, &wanted)?;
                if copied.is_some() {
                    name_it(site, place, self.name, &new)?;
                }
                copied
            }
        };
        let Some(digest) = copied else { return Ok(None) };
        site.counts.copied_files.fetch_add(1, Ordering::Relaxed);
        site.counts.copied_bytes.fetch_add(self.as_of.size, Ordering::Relaxed);
        let mut record = judge::record(&site.tree.name, &place.path_of(self.name), self.as_of, &xattrs);
        record.blake3 = Some(digest.to_hex().to_string());
        Ok(Some(record))
    }
}

impl Reading<'_> {
    /// Fills a file that was just made, and gives it its attributes. None: the source changed meanwhile, and it is removed.
    fn copy_here(
        &self,
        dir: &Dir,
        name: &[u8],
        made: &File,
        wanted: &Attributes,
    ) -> Result<Option<blake3::Hash>, Error> {
        let read = self.read(Some(made)).map_err(|error| match error {
            Error::File(error) => error.of_copy_to(|| dir.path_of(name)).into(),
            other => other,
        });
        let copied = read.and_then(|digest| {
            if digest.is_some() {
                note(self.site, attributes::apply_made(made, dir, name, wanted)?);
            }
            Ok(digest)
        });
        if !matches!(copied, Ok(Some(_))) {
            // Half a file must not be met by a later look. What kept it from being whole matters more than this.
            let removed = dir.unlink(name);
            if copied.is_ok() {
                removed?;
            }
        }
        copied
    }
}

/// What was changed in this very step of the clock could be changed once more with the same ctime: wait until a later change must show.
fn let_clock_step(site: &Site, stat: &Stat) {
    let now = site.context.clock.now().as_nanosecond();
    let (seconds, nanos) = stat.ctime;
    let changed = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    if (now - changed).unsigned_abs() < CLOCK_STEP.as_nanos() {
        std::thread::sleep(CLOCK_STEP);
    }
}

/// Gives what was made in the staging directory its attributes and its name.
fn put(
    site: &Site,
    place: &Place,
    name: &[u8],
    new: &[u8],
    kind: Kind,
    wanted: &Attributes,
) -> Result<(), Error> {
    note(site, attributes::apply(&site.staging, new, kind, wanted)?);
    name_it(site, place, name, new)
}

/// Counts what could not be set.
pub(crate) fn note(site: &Site, lacking: Lacking) {
    site.counts.lacking_owner.fetch_add(lacking.owner.into(), Ordering::Relaxed);
    site.counts.lacking_xattr.fetch_add(lacking.xattr.into(), Ordering::Relaxed);
}

fn name_it(site: &Site, place: &Place, name: &[u8], new: &[u8]) -> Result<(), Error> {
    if place.target.stat_if_exists(name)?.is_some_and(|there| there.kind == Kind::Directory) {
        place.target.remove_all(name)?;
    }
    Ok(site.staging.rename(new, &place.target, name)?)
}

/// Everything that is neither file nor directory. None: it changed meanwhile.
fn special(
    site: &Site,
    place: &Place,
    name: &[u8],
    stat: &Stat,
    previous: Option<&FileRecord>,
) -> Result<Option<Outcome>, Error> {
    if !site.held.load(Ordering::Relaxed) {
        // An inode that was freed may be the next one's at once: another link with the same number and the same times.
        let_clock_step(site, stat);
    }
    let xattrs = xattrs_of(&place.source, name)?;
    let mut record = judge::record(&site.tree.name, &place.path_of(name), stat, &xattrs);
    if stat.kind == Kind::Symlink {
        match place.source.read_link(name) {
            Ok(target) => record.target = Some(PathBytes(target)),
            Err(error) if is_gone(&error) => return Ok(None),
            // No link any more.
            Err(error) if error.source.raw_os_error() == Some(nix::libc::EINVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    if place.source.stat_if_exists(name)?.map(|now| (now.ino, now.ctime)) != Some((stat.ino, stat.ctime)) {
        return Ok(None);
    }
    if !link_special(place, name, &record, previous)? {
        let new = site.new_name();
        if make_special(site, &new, stat, &record)? {
            put(site, place, name, &new, stat.kind, &judge::attributes(stat, xattrs))?;
        } else {
            place.target.remove_all(name)?;
        }
    }
    Ok(Some(Outcome::In(Box::new(record))))
}

/// A symbolic link that is the previous day's is linked, to spare its inode.
fn link_special(
    place: &Place,
    name: &[u8],
    record: &FileRecord,
    previous: Option<&FileRecord>,
) -> Result<bool, Error> {
    let (Some(previous), Some(dir)) = (previous, &place.previous) else { return Ok(false) };
    let as_before = FileRecord { ctime: record.ctime, ino: record.ino, ..previous.clone() };
    if record.kind != FileKind::Symlink || as_before != *record {
        return Ok(false);
    }
    let Some(kept) = dir.stat_if_exists(name)? else { return Ok(false) };
    if kept.kind != Kind::Symlink || kept.mtime != record.mtime {
        return Ok(false);
    }
    if Some(dir.read_link(name)?) != record.target.as_ref().map(|target| target.0.clone()) {
        return Ok(false);
    }
    link_over(dir, name, &kept, &place.target, name)
}

/// False: it is only recorded.
fn make_special(site: &Site, new: &[u8], stat: &Stat, record: &FileRecord) -> Result<bool, Error> {
    match (stat.kind, &record.target) {
        (Kind::Symlink, Some(target)) => site.staging.make_symlink(new, &target.0)?,
        (Kind::Fifo | Kind::CharDevice | Kind::BlockDevice, _) => {
            match site.staging.make_node(new, stat.kind, stat.rdev) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    site.counts.lacking_device.fetch_add(1, Ordering::Relaxed);
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// A file of a tree whose names are content, while the repository is held: the day has it already.
fn is_kept_already(place: &Place, name: &[u8], stat: &Stat) -> Result<bool, Error> {
    let Some(there) = place.target.stat_if_exists(name)? else { return Ok(false) };
    let alike = there.kind == Kind::File
        && (there.size, there.mode, there.uid, there.gid) == (stat.size, stat.mode, stat.uid, stat.gid)
        && (stat.nlink == 1 || there.nlink > 1);
    Ok(alike && xattrs_of(&place.target, name)? == xattrs_of(&place.source, name)?)
}

/// Opened, to be copied after the release.
fn hold_open(place: &Place, name: &[u8], stat: &Stat, slot: Slot) -> Result<Option<Outcome>, Error> {
    let file = match place.source.open_file(name) {
        Ok(file) => file,
        Err(error) if is_gone(&error) || is_link(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let opened = stat_file(&file, &place.source.path_of(name))?;
    if !opened.is_same_inode(stat) || opened.size != stat.size {
        return Ok(None);
    }
    Ok(Some(Outcome::Open(Box::new(Held { file, stat: opened, _slot: slot }))))
}
