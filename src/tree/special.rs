//! Bringing what is neither file nor directory into the day.

use std::io;
use std::sync::atomic::Ordering;

use crate::fs::attributes::{self, Attributes};
use crate::fs::dir::{Kind, Stat, is_gone};
use crate::manifest::{FileKind, FileRecord, PathBytes};
use crate::tree::Error;
use crate::tree::judge;
use crate::tree::linking::link_over;
use crate::tree::reading::{let_clock_step, name_it, note, xattrs_of};
use crate::tree::site::{Place, Site};

/// Everything that is neither file nor directory. None: it changed meanwhile.
pub(crate) fn special(
    site: &Site,
    place: &Place,
    name: &[u8],
    stat: &Stat,
    previous: Option<&FileRecord>,
) -> Result<Option<Box<FileRecord>>, Error> {
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
    Ok(Some(Box::new(record)))
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
