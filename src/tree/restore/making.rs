//! Making one thing out of the day: a file, a link or a special file, with all its attributes.
//!
//! Killed: a file gets its time last, so that one with the record's time is whole but for what a power cut took of its content; `resumed`
//! reads that again before it keeps the file.

use std::io;
use std::sync::atomic::Ordering;

use crate::fs::attributes::{self, Attributes};
use crate::fs::dir::{Dir, Kind, split_last};
use crate::fs::{OnPath as _, copy};
use crate::manifest::{FileKind, FileRecord};
use crate::tree::restore::Error;
use crate::tree::restore::links::{Claim, Origin};
use crate::tree::restore::records::{attributes_of, digest_of};
use crate::tree::restore::yard::{Yard, in_day};
use crate::tree::site::join;

/// One name.
pub(crate) struct Making<'a> {
    pub yard: &'a Yard<'a>,
    pub source: &'a Dir,
    pub target: &'a Dir,
    pub record: &'a FileRecord,
    pub name: &'a [u8],
}

impl Making<'_> {
    /// Makes it in the directory with this path beneath the target.
    pub(crate) fn make(&self, target_path: &[u8]) -> Result<(), Error> {
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
