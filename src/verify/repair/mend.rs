//! Putting the sealed state back, name by name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::{Place, Prospect, Remedy, open_live, wanted};
use crate::event::Context;
use crate::fs::attributes::{self, Attributes};
use crate::fs::dir::{Dir, Kind, Stat, split_last};
use crate::fs::{self, OnPath as _, copy};
use crate::manifest::{FileKind, FileRecord, hex_decode};
use crate::vault::{Day, Locked};
use crate::verify::Error;
use crate::verify::report::shown;

/// Repairs one damage. The vault is locked, so that no run links from what is being replaced.
///
/// # Errors
/// The copy is not whole any more, something cannot be written, or there is no remedy. What was done before stays done.
pub fn mend(locked: &Locked, day: &Day, prospect: &Prospect, context: &Context) -> Result<(), Error> {
    let failed = |problem: String| Error::NotRepaired { file: shown(&prospect.damage.file), problem };
    let Some(remedy) = &prospect.remedy else { return Err(failed(prospect.sentence())) };
    let staging = locked.days_path().join(".repair");
    clear(&staging)?;
    let mended = put_back(locked, day, prospect, remedy, &staging, context);
    // What failed may have failed for want of room: nothing of it stays.
    let cleared = clear(&staging);
    mended.and(cleared)
}

fn clear(staging: &Path) -> Result<(), Error> {
    if fs::exists(staging)? {
        fs::remove_tree(staging, 1, &|_| true)?;
    }
    Ok(())
}

fn put_back(
    locked: &Locked,
    day: &Day,
    prospect: &Prospect,
    remedy: &Remedy,
    staging: &Path,
    context: &Context,
) -> Result<(), Error> {
    let failed = |problem: String| Error::NotRepaired { file: shown(&prospect.damage.file), problem };
    fs::create_dir_durable(staging)?;
    let bench = Bench { locked, day, staging: Dir::open(staging)?, context };
    match remedy {
        Remedy::Aside => bench.move_aside(&prospect.names[0]),
        Remedy::Record => bench.make_anew(prospect),
        Remedy::Day { path, .. } | Remedy::Live { path, .. } => {
            let digest =
                wanted(day, &prospect.damage).ok_or_else(|| failed("no digest of it is known".to_owned()))?;
            let copy = match remedy {
                Remedy::Live { root, .. } => open_live(root, path)?,
                _ => fs::open(path)?,
            };
            let new = bench.staging.create_file(b"new")?;
            if bench.copy(&copy, &new, path)? != digest {
                return Err(failed(format!("{} is not whole any more", path.display())));
            }
            bench.finish_file(&new, prospect)
        }
        Remedy::Written { content } => {
            let mut new = bench.staging.create_file(b"new")?;
            new.write_all(content).on("write", staging)?;
            bench.finish_file(&new, prospect)
        }
    }
}

/// Where things are made before they get their names.
struct Bench<'a> {
    locked: &'a Locked,
    day: &'a Day,
    staging: Dir,
    context: &'a Context,
}

/// A directory in which a name changes, which is to look as if nothing had happened.
struct Parent {
    dir: Dir,
    name: Vec<u8>,
    was: Stat,
}

impl Bench<'_> {
    /// Copies the content; gives its digest.
    fn copy(&self, from: &File, to: &File, path: &Path) -> Result<String, Error> {
        let mut stop = |_| {
            if self.context.cancel.is_cancelled() { Err(io::Error::other("cancelled")) } else { Ok(()) }
        };
        let digest = copy::content(from, Some(to), &mut stop);
        if self.context.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let digest =
            digest.on("copy", path).map_err(|error| error.of_copy_to(|| self.staging.path_of(b"new")));
        Ok(digest?.to_hex().to_string())
    }

    /// The new file gets its attributes, is flushed, and takes all its names.
    fn finish_file(&self, new: &File, prospect: &Prospect) -> Result<(), Error> {
        let wanted = match &prospect.damage.record {
            Some(record) => of_record(record),
            None => self.of_own_file(&prospect.names[0])?,
        };
        attributes::apply(&self.staging, b"new", Kind::File, &wanted)?;
        new.sync_all().on("flush", &self.staging.path_of(b"new"))?;
        self.give_names(&prospect.names)
    }

    /// Each name becomes the new inode by a rename.
    fn give_names(&self, names: &[Place]) -> Result<(), Error> {
        for place in names {
            let parent = Parent::of(place)?;
            // A second name of the new inode, which the rename uses up.
            self.staging.unlink(b"name")?;
            self.staging.link(b"new", &self.staging, b"name")?;
            if let Some(there) = parent.dir.stat_if_exists(&parent.name)?
                && there.kind == Kind::Directory
            {
                self.put_among_strays(&parent)?;
            }
            self.staging.rename(b"name", &parent.dir, &parent.name)?;
            parent.settle()?;
        }
        Ok(())
    }

    /// What has no content is made from its record.
    fn make_anew(&self, prospect: &Prospect) -> Result<(), Error> {
        let Some(record) = &prospect.damage.record else { return Ok(()) };
        let wanted = of_record(record);
        if record.kind == FileKind::Directory {
            return self.directory(&prospect.names[0], &wanted);
        }
        let kind = match (record.kind, &record.target) {
            (FileKind::Symlink, Some(target)) => {
                self.staging.make_symlink(b"new", &target.0)?;
                Kind::Symlink
            }
            (FileKind::CharDevice, _) => self.node(Kind::CharDevice, record)?,
            (FileKind::BlockDevice, _) => self.node(Kind::BlockDevice, record)?,
            _ => self.node(Kind::Fifo, record)?,
        };
        attributes::apply(&self.staging, b"new", kind, &wanted)?;
        self.give_names(&prospect.names)
    }

    fn node(&self, kind: Kind, record: &FileRecord) -> Result<Kind, Error> {
        self.staging.make_node(b"new", kind, record.device.unwrap_or_default())?;
        Ok(kind)
    }

    /// A directory belongs to one day only: it is made, or set right, where it is.
    fn directory(&self, place: &Place, wanted: &Attributes) -> Result<(), Error> {
        let parent = Parent::of(place)?;
        match parent.dir.stat_if_exists(&parent.name)? {
            Some(there) if there.kind == Kind::Directory => {}
            there => {
                if there.is_some() {
                    self.put_among_strays(&parent)?;
                }
                parent.dir.make_dir(&parent.name)?;
            }
        }
        attributes::apply(&parent.dir.dir(&parent.name)?, b"", Kind::Directory, wanted)?;
        parent.settle()
    }

    fn move_aside(&self, place: &Place) -> Result<(), Error> {
        let parent = Parent::of(place)?;
        self.put_among_strays(&parent)?;
        parent.settle()
    }

    /// Nothing that is in a day is thrown away.
    fn put_among_strays(&self, parent: &Parent) -> Result<(), Error> {
        let path = self.locked.path().join("strays");
        fs::create_dir_durable(&path)?;
        let strays = Dir::open(&path)?;
        let mut number = 1;
        let name = loop {
            let name = format!("{}-{number}", self.day.name()).into_bytes();
            if strays.stat_if_exists(&name)?.is_none() {
                break name;
            }
            number += 1;
        };
        Ok(parent.dir.rename(&parent.name, &strays, &name)?)
    }

    /// A file of the day outside the trees: as daykeep writes them.
    fn of_own_file(&self, place: &Place) -> Result<Attributes, Error> {
        let owner = Dir::open(self.day.path())?.stat_self()?;
        let mode = match place.file.0.as_slice() {
            b"restore.sh" => 0o755,
            b"RESTORE.md" => 0o644,
            _ => 0o600,
        };
        let now = self.context.clock.now();
        let mtime = (now.as_second(), 0);
        Ok(Attributes { mode, uid: owner.uid, gid: owner.gid, mtime, xattrs: BTreeMap::new() })
    }
}

impl Parent {
    /// The directory that a name is in, reached without following a link below the day.
    fn of(place: &Place) -> Result<Self, Error> {
        let (above, name) = split_last(&place.file.0);
        let dir = Dir::open(&place.day)?.beneath(above)?;
        let was = dir.stat_self()?;
        if was.mode & 0o200 == 0 {
            set_mode(&dir, was.mode | 0o700)?;
        }
        Ok(Self { name: name.to_vec(), was, dir })
    }

    /// Gives the directory its mode and time back, and flushes it.
    fn settle(self) -> Result<(), Error> {
        attributes::set_mtime(&self.dir, b"", self.was.mtime)?;
        if self.was.mode & 0o200 == 0 {
            set_mode(&self.dir, self.was.mode)?;
        }
        Ok(fs::sync_dir(&self.dir.proc_path(b""))?)
    }
}

fn set_mode(dir: &Dir, mode: u32) -> Result<(), Error> {
    Ok(fs::set_mode(&dir.proc_path(b""), mode)?)
}

fn of_record(record: &FileRecord) -> Attributes {
    let FileRecord { mode, uid, gid, mtime, .. } = *record;
    // What is no hex in the records is no attribute that can be set.
    let value = |(name, value): (&String, &String)| Some((name.clone(), hex_decode(value)?));
    Attributes { mode, uid, gid, mtime, xattrs: record.xattrs.iter().filter_map(value).collect() }
}
