//! A tree of a day put where nothing is.
//!
//! It is made beside its place and gets its name by one rename. Killed before that, its place is as empty as it was, and the next restore
//! to it removes what is beside it. Where the place is a mount point, it is made in it; killed, it is not empty any more.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::{Context, Phase};
use crate::fs::dir::Dir;
use crate::fs::swap;
use crate::fs::{self, remove_tree};
use crate::tree::restore::build::{Top, build};
use crate::tree::restore::links::Links;
use crate::tree::restore::records::Records;
use crate::tree::restore::tell::Tell;
use crate::tree::restore::yard::{Made, Yard};
use crate::tree::restore::{Built, Error, PREFIX, Source};

/// Where a tree is to be put.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// The tree in the day.
    pub source: Source,
    /// Only this file or directory of it, with the directories that lead there.
    pub path: Option<Vec<u8>>,
    /// The new root: missing, or an empty directory.
    pub target: PathBuf,
    /// Threads.
    pub jobs: usize,
    /// Flush it to the disk before it gets its name.
    pub durable: bool,
    /// Names to come, for progress, if they are known.
    pub expected: Option<u64>,
}

/// A tree that is made, and has yet to get its name.
#[must_use = "it is beside its place"]
#[derive(Debug)]
pub struct Ready {
    target: PathBuf,
    above: Dir,
    /// None: it was made where it is to be.
    aside: Option<Vec<u8>>,
    durable: bool,
    built: Built,
}

impl Ready {
    /// Puts it there.
    ///
    /// # Errors
    /// Something has come there meanwhile, or the place cannot be written.
    pub fn place(self) -> Result<Built, Error> {
        if let Some(aside) = &self.aside {
            // Over nothing, or over an empty directory.
            self.above.rename(aside, &self.above, name_of(&self.target))?;
        }
        if self.durable {
            fs::sync_dir(fs::parent_of(&self.target))?;
        }
        Ok(self.built)
    }
}

/// Puts a tree of a day where nothing is; every byte has been held against its digest when this returns.
///
/// # Errors
/// As [`prepare`].
pub fn elsewhere(wish: &Elsewhere, context: &Context) -> Result<Built, Error> {
    prepare(wish, context)?.place()
}

/// Removes what an earlier try left beside its place.
///
/// # Errors
/// It cannot be removed.
pub fn sweep(target: &Path, jobs: usize, context: &Context) -> Result<(), Error> {
    let left = fs::parent_of(target).join(OsString::from_vec(aside_of(target)));
    if fs::exists(&left)? {
        remove_tree(&left, jobs.max(1), &|_| !context.cancel.is_cancelled())?;
    }
    Ok(())
}

fn aside_of(target: &Path) -> Vec<u8> {
    [PREFIX.as_bytes(), name_of(target)].concat()
}

/// Makes a tree of a day beside the place where nothing is; every byte has been held against its digest when this returns.
///
/// # Errors
/// Something is there, the day is damaged, the place cannot be written, or the job is cancelled. What was made is beside the place, and goes
/// with the next try.
pub fn prepare(wish: &Elsewhere, context: &Context) -> Result<Ready, Error> {
    let (parent, name) = (fs::parent_of(&wish.target), name_of(&wish.target));
    fs::create_dir_durable(parent)?;
    let above = Dir::open(parent)?;
    let there = above.stat_if_exists(name)?;
    if there.is_some() && !above.dir(name)?.names()?.is_empty() {
        return Err(Error::NotEmpty { path: wish.target.clone() });
    }
    let is_mount = there.is_some_and(|stat| stat.mount_root);
    let aside = (!is_mount).then(|| aside_of(&wish.target));
    if aside.is_some() {
        sweep(&wish.target, wish.jobs, context)?;
    }
    let making = aside.as_deref().unwrap_or(name);
    let built = make(wish, &above, making, is_mount, context)?;
    if wish.durable {
        swap::sync_volume_of(&above.dir(making)?)?;
    }
    Ok(Ready { target: wish.target.clone(), above, aside, durable: wish.durable, built })
}

fn name_of(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_bytes()
}

/// What a tree of a day takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Names, directories among them.
    pub names: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Inodes: names of one file have one.
    pub inodes: u64,
    /// Bytes of the blocks that the files fill, where a block has [`BLOCK`] bytes.
    pub room: u64,
}

/// What most file systems give a file at a time.
const BLOCK: u64 = 4096;

/// Of a tree, or of a part of it with the directories that lead there.
///
/// # Errors
/// The day has no such part, or its records cannot be read.
pub fn size(source: &Source, path: Option<&[u8]>) -> Result<Size, Error> {
    let mut size = Size::default();
    let mut groups = HashSet::new();
    for record in Records::open(&source.records, &source.tree, path)? {
        let record = record?;
        size.names += 1;
        size.bytes = size.bytes.saturating_add(record.size);
        if record.link_group.is_none_or(|group| groups.insert(group)) {
            size.inodes += 1;
            let room = record.size.div_ceil(BLOCK).saturating_mul(BLOCK);
            size.room = size.room.saturating_add(room);
        }
    }
    Ok(size)
}

fn make(
    wish: &Elsewhere,
    above: &Dir,
    name: &[u8],
    onto_mount: bool,
    context: &Context,
) -> Result<Built, Error> {
    let Source { tree_dir, records, tree } = &wish.source;
    let day = Dir::open(tree_dir)?;
    let scope = wish.path.as_deref();
    let mut records = Records::open(records, tree, scope)?;
    let yard = Yard {
        day: &day,
        target: above,
        live: None,
        links: Links::default(),
        resumed: false,
        onto_mount,
        tell: Tell::new(tree, Phase::Stage, wish.expected, context),
        made: Made::default(),
        stop: context.cancel.child_token(),
    };
    build(&yard, wish.jobs, |builder| {
        if let Some(record) = records.next().transpose()? {
            let dir = Arc::new(above.shown_as(above.path())?);
            builder.top(Top { record, dir, dir_path: Vec::new(), name: name.to_vec() })?;
        }
        for record in records {
            builder.within(record?)?;
        }
        Ok(())
    })?;
    yard.tell.finish();
    Ok(yard.made.built())
}
