//! Linking a name in the day to another one.

use std::io;

use crate::fs::dir::{Dir, Stat, is_gone};
use crate::manifest::{FileRecord, PathBytes};
use crate::tree::Error;
use crate::tree::links::{Claim, Turn};
use crate::tree::site::{Place, Site};

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
pub(crate) fn link_over(from: &Dir, name: &[u8], inode: &Stat, to: &Dir, new: &[u8]) -> Result<bool, Error> {
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
