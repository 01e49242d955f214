//! One name of the live tree held against its record.

use std::collections::BTreeMap;

use crate::fs::dir::{Dir, Kind, Stat};
use crate::fs::{attributes, copy};
use crate::manifest::{FileKind, FileRecord};
use crate::tree::judge;
use crate::tree::restore::Error;
use crate::tree::restore::measure::Bulk;
use crate::tree::restore::records::digest_of;
use crate::tree::restore::survey::{Finding, Survey};
use crate::tree::site::join;

/// What a live name is, with its extended attributes as far as they were asked for.
#[derive(Debug, Clone)]
pub(crate) struct Attributed {
    pub stat: Stat,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What stands at a name whose inode has several in the day.
#[derive(Debug)]
pub(crate) struct Member {
    pub live: Attributed,
    /// Kind and content are the day's.
    pub same_content: bool,
    /// The attributes are.
    pub same_attributes: bool,
}

/// Whether a thing of this kind is more than a record: sockets belong to the programs that listen at them, and devices are for those who may
/// make them.
pub(crate) fn can_be_made(kind: FileKind) -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    match kind {
        FileKind::Socket => false,
        FileKind::CharDevice | FileKind::BlockDevice => {
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::MKNOD))
        }
        _ => true,
    }
}

/// What is to be said of a name that is no directory in either; nothing when it has gone and nobody misses it.
pub(crate) fn at(
    survey: &Survey<'_>,
    dir: &Dir,
    above: &[u8],
    name: &[u8],
    record: Option<FileRecord>,
) -> Result<Option<Finding>, Error> {
    survey.tell.check()?;
    let stat = dir.stat_if_exists(name)?;
    let (record, stat) = match (record, stat) {
        (None, None) => return Ok(None),
        (None, Some(stat)) if survey.one_file_system && stat.mount_root => {
            return Ok(Some(Finding::Stays { path: join(above, name), mount: true }));
        }
        (None, Some(stat)) => {
            return Ok(Some(Finding::Extra { path: join(above, name), stat, bulk: Bulk::of(&stat) }));
        }
        (Some(record), None) => {
            let record = Box::new(record);
            return Ok(Some(match (can_be_made(record.kind), record.link_group) {
                (false, _) => Finding::Unmade { record },
                (true, Some(_)) => Finding::Member { record, live: None },
                (true, None) => Finding::Missing { record, below: false },
            }));
        }
        (Some(record), Some(stat)) => (Box::new(record), stat),
    };
    if stat.mount_root {
        return Ok(Some(Finding::Stays { path: record.path.0, mount: true }));
    }
    let same_kind = record.kind == judge::kind(stat.kind);
    if !same_kind && !can_be_made(record.kind) {
        return Ok(Some(Finding::Extra { path: join(above, name), stat, bulk: Bulk::of(&stat) }));
    }
    let untouched = same_kind && survey.trust_times && is_untouched(&record, &stat);
    let looked = if untouched || !same_kind { None } else { content(survey, dir, name, &record, &stat)? };
    let same_attributes =
        untouched || looked.as_ref().is_some_and(|xattrs| has_attributes(&record, &stat, xattrs));
    // A file that is to run with another's rights is made anew: whoever has the live one open could write into it after it was compared.
    let same_content = same_attributes || (looked.is_some() && !gives_rights(&record));
    let live = Attributed { stat, xattrs: looked.unwrap_or_default() };
    if record.link_group.is_some() {
        return Ok(Some(Finding::Member {
            record,
            live: Some(Member { live, same_content, same_attributes }),
        }));
    }
    // An inode of its own in the day, but not here.
    let is_shared = stat.nlink > 1 && record.kind != FileKind::Socket;
    Ok(Some(if !same_content || is_shared {
        Finding::Other { record, stat, bulk: Bulk::of(&stat) }
    } else if same_attributes {
        Finding::Same
    } else {
        Finding::Attributes { record, live }
    }))
}

/// The attributes of a directory that both have, and whether they are those of the record.
pub(crate) fn at_directory(
    survey: &Survey<'_>,
    dir: &Dir,
    record: Option<&FileRecord>,
    stat: Stat,
) -> Result<(Attributed, bool), Error> {
    let untouched = record.is_some_and(|record| survey.trust_times && is_untouched(record, &stat));
    let xattrs = if untouched {
        record.and_then(judge::recorded_attributes).map(|attributes| attributes.xattrs).unwrap_or_default()
    } else {
        attributes::read_xattrs(dir, b"")?
    };
    let same = untouched || record.is_none_or(|record| has_attributes(record, &stat, &xattrs));
    Ok((Attributed { stat, xattrs }, same))
}

/// The very inode that was recorded, and nothing was done to it since: every change moves the change time, which nobody can set.
fn is_untouched(record: &FileRecord, stat: &Stat) -> bool {
    record.ino == stat.ino
        && record.ctime == stat.ctime
        && record.mtime == stat.mtime
        && (record.kind != FileKind::File || record.size == stat.size)
        && judge::same_owner_and_mode(record, stat)
}

/// Whether whoever runs this gets rights: set-user-ID, set-group-ID (execve(2)) or file capabilities (capabilities(7)).
fn gives_rights(record: &FileRecord) -> bool {
    record.kind == FileKind::File
        && (record.mode & 0o6000 != 0 || record.xattrs.contains_key("security.capability"))
}

fn has_attributes(record: &FileRecord, stat: &Stat, xattrs: &BTreeMap<String, Vec<u8>>) -> bool {
    (record.kind == FileKind::Symlink || record.mode == stat.mode)
        && (record.uid, record.gid, record.mtime) == (stat.uid, stat.gid, stat.mtime)
        && judge::same_xattrs(record, xattrs)
}

type Xattrs = BTreeMap<String, Vec<u8>>;

/// The extended attributes of a name of the record's kind, if its content is the record's.
fn content(
    survey: &Survey<'_>,
    dir: &Dir,
    name: &[u8],
    record: &FileRecord,
    stat: &Stat,
) -> Result<Option<Xattrs>, Error> {
    let same = match stat.kind {
        Kind::File if record.size == stat.size => return file(survey, dir, name, record),
        Kind::File | Kind::Directory => false,
        Kind::Symlink => record.target.as_ref().map(|target| &target.0) == dir.read_link(name).ok().as_ref(),
        Kind::CharDevice | Kind::BlockDevice => record.device == Some(stat.rdev),
        Kind::Fifo | Kind::Socket => true,
    };
    Ok(if same { Some(attributes::read_xattrs(dir, name)?) } else { None })
}

/// A live file that cannot be read is not known to be the day's.
fn file(survey: &Survey<'_>, dir: &Dir, name: &[u8], record: &FileRecord) -> Result<Option<Xattrs>, Error> {
    let Ok(file) = dir.open_file(name) else { return Ok(None) };
    let read = copy::content(&file, None, &mut |bytes| {
        survey.tell.bytes(bytes);
        survey.tell.check().map_err(|_| std::io::ErrorKind::Interrupted.into())
    });
    survey.tell.check()?;
    if read.ok().is_none_or(|digest| Some(digest) != digest_of(record)) {
        return Ok(None);
    }
    Ok(Some(attributes::read_open_xattrs(&file, &dir.path_of(name))?))
}
