//! A tree of a day put where nothing is.
//!
//! It is made beside its place and gets its name by one rename. Killed before that, its place is as empty as it was, and the next restore
//! to it removes what is beside it. Where the place is a mount point, it is made in it; killed, it is not empty any more.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
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

/// Puts a tree of a day where nothing is; every byte has been held against its digest when this returns.
///
/// # Errors
/// Something is there, the day is damaged, the place cannot be written, or the job is cancelled. What was made is beside the place, and goes
/// with the next try.
pub fn elsewhere(wish: &Elsewhere, context: &Context) -> Result<Built, Error> {
    let (parent, name) =
        (fs::parent_of(&wish.target), wish.target.file_name().unwrap_or_default().as_bytes());
    fs::create_dir_durable(parent)?;
    let above = Dir::open(parent)?;
    let there = above.stat_if_exists(name)?;
    if there.is_some() && !above.dir(name)?.names()?.is_empty() {
        return Err(Error::NotEmpty { path: wish.target.clone() });
    }
    let is_mount = there.is_some_and(|stat| stat.mount_root);
    let aside = [PREFIX.as_bytes(), name].concat();
    let making = if is_mount { name } else { &aside };
    if !is_mount {
        let left = parent.join(std::ffi::OsStr::from_bytes(&aside));
        if fs::exists(&left)? {
            remove_tree(&left, wish.jobs.max(1), &|_| !context.cancel.is_cancelled())?;
        }
    }
    let built = make(wish, &above, making, is_mount, context)?;
    if wish.durable {
        swap::sync_volume_of(&above.dir(making)?)?;
    }
    if !is_mount {
        // Over nothing, or over an empty directory.
        above.rename(&aside, &above, name)?;
    }
    if wish.durable {
        fs::sync_dir(parent)?;
    }
    Ok(built)
}

/// How many names a part of a tree of a day is, with the directories that lead there, and how many bytes its files have.
///
/// # Errors
/// The day has no such part, or its records cannot be read.
pub fn part(source: &Source, path: &[u8]) -> Result<(u64, u64), Error> {
    let mut records = Records::open(&source.records, &source.tree, Some(path))?;
    records.try_fold((0, 0), |(names, bytes), record| Ok((names + 1, bytes + record?.size)))
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
