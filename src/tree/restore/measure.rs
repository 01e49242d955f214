//! How much a live directory holds that is to go, and whether all of it may.

use crate::fs::dir::{Dir, Kind, Stat, is_gone, split_last};
use crate::tree::filter::is_of_a_restore;
use crate::tree::restore::Error;
use crate::tree::restore::survey::Survey;
use crate::tree::site::{is_link, join};

/// What goes with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bulk {
    /// Names that are no directories.
    pub names: u64,
    pub directories: u64,
    /// Bytes of regular files.
    pub bytes: u64,
    pub sockets: u64,
    pub devices: u64,
    /// Something in it is excluded or a mount point: the directory cannot go as a whole.
    pub stays: bool,
}

impl Bulk {
    /// Of one name by itself.
    pub(crate) fn of(stat: &Stat) -> Self {
        let is = |kinds: &[Kind]| u64::from(kinds.contains(&stat.kind));
        Self {
            names: 1 - is(&[Kind::Directory]),
            directories: is(&[Kind::Directory]),
            bytes: if stat.kind == Kind::File { stat.size } else { 0 },
            sockets: is(&[Kind::Socket]),
            devices: is(&[Kind::CharDevice, Kind::BlockDevice]),
            stays: false,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.names += other.names;
        self.directories += other.directories;
        self.bytes += other.bytes;
        self.sockets += other.sockets;
        self.devices += other.devices;
        self.stays |= other.stays;
    }
}

/// Measures a name with all below it; stops at the first that stays.
pub(crate) fn measure(
    survey: &Survey<'_>,
    dir: &Dir,
    name: &[u8],
    path: &[u8],
    stat: &Stat,
) -> Result<Bulk, Error> {
    let mut bulk = Bulk::of(stat);
    if stat.mount_root {
        return Ok(Bulk { stays: true, ..bulk });
    }
    // Paths beneath `dir`, not open directories: depth costs no descriptors.
    let mut waiting = if stat.kind == Kind::Directory { vec![name.to_vec()] } else { Vec::new() };
    let above = split_last(path).0;
    while let Some(here) = waiting.pop() {
        survey.tell.check()?;
        let Some(below) = there(dir.beneath(&here))? else { continue };
        let names = below.names()?;
        for (name, _) in (0..names.len()).filter_map(|index| names.get(index)) {
            let Some(stat) = below.stat_if_exists(name)? else { continue };
            let path = join(&here, name);
            let is_directory = stat.kind == Kind::Directory;
            let kept = survey.rules.keep(&join(above, &path), is_directory) && !is_of_a_restore(name);
            if stat.mount_root || !kept {
                return Ok(Bulk { stays: true, ..bulk });
            }
            bulk.add(Bulk::of(&stat));
            if is_directory {
                waiting.push(path);
            }
        }
    }
    Ok(bulk)
}

fn there(opened: Result<Dir, crate::fs::Error>) -> Result<Option<Dir>, Error> {
    match opened {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if is_gone(&error) || is_link(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
