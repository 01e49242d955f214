//! What is to be done to a live tree so that it is the day's: found out without touching it, and written down.
//!
//! A plan is a directory: `plan.jsonl.zst`, `leaders.jsonl.zst` and `wanted.jsonl.zst` (`lines.rs`), `summary.json`, written last, and from the
//! first thing that is done on `state.json`. Killed before the summary is there, there is no plan.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::event::{Context, Phase};
use crate::fs;
use crate::fs::attributes;
use crate::fs::dir::Dir;
use crate::manifest::PathBytes;
use crate::tree::filter::Rules;
use crate::tree::restore::ground::Ground;
use crate::tree::restore::planner::{Planned, Planner};
use crate::tree::restore::records::Records;
use crate::tree::restore::state::{self, State};
use crate::tree::restore::survey::{Survey, survey};
use crate::tree::restore::tell::Tell;
use crate::tree::restore::{Error, Source};

pub(crate) const SUMMARY: &str = "summary.json";
/// A name needs a block for what is not its content, about.
const NAME_BYTES: u64 = 4096;

/// A tree to be put back where it was.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The tree in the day.
    pub source: Source,
    /// The live tree: its root, and its rules, by which excluded names stay.
    pub tree: config::Tree,
    /// Only this file or directory of it.
    pub path: Option<Vec<u8>>,
    /// Where the plan is kept; belongs to this restore alone.
    pub directory: PathBuf,
    /// Makes the name of the directory for what is moved aside the restore's own: the job's number.
    pub tag: String,
    /// Threads.
    pub jobs: usize,
}

/// What is to be done, in numbers. Names that are no directories, if nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// They are the day's already.
    pub same: u64,
    /// They are missing.
    pub create: u64,
    /// Something else is there.
    pub replace: u64,
    /// Only mode, owner, time or extended attributes differ.
    pub attributes: u64,
    /// The day does not have them; with those in directories that it does not have.
    pub remove: u64,
    /// Directories that are missing, whose attributes differ, and that the day does not have.
    pub create_directories: u64,
    /// See `create_directories`.
    pub change_directories: u64,
    /// See `create_directories`.
    pub remove_directories: u64,
    /// Excluded names and mount points of the live tree, which stay.
    pub stay: u64,
    /// Sockets, and devices that this process may not make: recorded only.
    pub recorded_only: u64,
    /// Bytes to be copied out of the day.
    pub copy_bytes: u64,
    /// Bytes of regular files that are moved aside.
    pub aside_bytes: u64,
    /// Sockets and devices of the live tree that are moved aside.
    pub aside_specials: u64,
}

/// What the root is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootIs {
    /// Not there.
    Missing,
    /// An empty directory.
    Empty,
    /// A directory with something in it.
    Filled,
}

/// What was found out about the place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an ability by itself")]
pub struct Checks {
    /// The root.
    pub root: RootIs,
    /// Something is mounted there.
    pub mount_point: bool,
    /// The type of its file system, and what it has left.
    pub file_system: String,
    /// See `file_system`.
    pub free_bytes: u64,
    /// See `file_system`.
    pub free_inodes: u64,
    /// This process may give files any owner.
    pub any_owner: bool,
    /// The file system keeps extended attributes of users.
    pub xattrs: bool,
    /// The file system keeps ACLs.
    pub acls: bool,
    /// The first mount points in the live tree; they stay.
    pub mounts: Vec<PathBuf>,
    /// Why it would fail, a sentence each; empty when nothing is known to be in the way.
    pub problems: Vec<String>,
}

/// The whole of a plan in one page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The tree in the day.
    pub source: Source,
    /// The live root, without symbolic links.
    pub root: PathBuf,
    /// Only this path of it.
    pub path: Option<PathBytes>,
    /// Where new content is staged, and old content kept.
    pub aside: PathBuf,
    /// `aside` lies in the root.
    pub inside: bool,
    /// The highest directory above the root that is missing too; it is made.
    pub missing_above: Option<PathBuf>,
    /// The root's modification time, if it is there: what lies in it for a while changes that.
    pub root_mtime: Option<(i64, u32)>,
    /// The numbers.
    pub totals: Totals,
    /// The place.
    pub checks: Checks,
}

/// A plan on disk.
#[derive(Debug)]
pub struct Plan {
    pub(crate) directory: PathBuf,
    pub(crate) summary: Summary,
    pub(crate) jobs: usize,
}

impl Plan {
    /// The plan in a directory; None when there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(directory: &Path, jobs: usize) -> Result<Option<Self>, Error> {
        let path = directory.join(SUMMARY);
        let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(None) };
        let summary = serde_json::from_slice(&bytes)
            .map_err(|error| Error::BadPlan { path, problem: error.to_string() })?;
        Ok(Some(Self { directory: directory.to_owned(), summary, jobs }))
    }

    /// What is to be done, in numbers, and where.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Totals { create, replace, attributes, remove, .. } = self.summary.totals;
        let Totals { create_directories, change_directories, remove_directories, .. } = self.summary.totals;
        create + replace + attributes + remove + create_directories + change_directories + remove_directories
            == 0
    }

    pub(crate) fn tell(&self, phase: Phase, total: Option<u64>, context: &Context) -> Tell {
        Tell::new(&self.summary.source.tree, phase, total, context)
    }

    /// Names that are made.
    pub(crate) fn to_make(&self) -> u64 {
        let totals = &self.summary.totals;
        totals.create + totals.replace + totals.create_directories
    }
}

/// Finds out what is to be done, and writes it down; the tree is only read. An older plan in the directory is discarded with what it staged.
/// What changes in the tree afterwards is in no plan: once the repository is held, plan again.
///
/// # Errors
/// The tree, the day or the plan cannot be read or written; a record cannot be trusted; the older plan is being carried out.
pub fn plan(wish: &Wish, context: &Context) -> Result<Plan, Error> {
    if let Some(old) = Plan::open(&wish.directory, wish.jobs)? {
        match old.state()? {
            State::Planned | State::Staged | State::Back | State::Discarding => old.discard(context)?,
            State::Switching | State::Switched | State::GoingBack | State::Dropping => {
                return Err(Error::Unfinished { root: old.summary.root });
            }
        }
    }
    fs::create_dir_durable(&wish.directory)?;
    // Of a plan that was forgotten half.
    state::forget(&wish.directory)?;
    let summary = summarize(wish, true, context)?;
    let path = wish.directory.join(SUMMARY);
    let text = serde_json::to_vec_pretty(&summary)
        .map_err(|error| Error::BadPlan { path: path.clone(), problem: error.to_string() })?;
    fs::write_durable(&path, &text)?;
    Ok(Plan { directory: wish.directory.clone(), summary, jobs: wish.jobs })
}

/// Finds out what would be done. The tree is only read, and no plan is kept: nothing waits for the disk.
///
/// # Errors
/// As [`plan`].
pub fn look(wish: &Wish, context: &Context) -> Result<Summary, Error> {
    fs::create_dir_scratch(&wish.directory)?;
    let summary = summarize(wish, false, context);
    for name in fs::names_in(&wish.directory)? {
        fs::remove_file(&wish.directory.join(name))?;
    }
    fs::remove_empty_dir(&wish.directory)?;
    summary
}

/// Writes the lines of a plan into the directory; it is kept there, or not.
fn summarize(wish: &Wish, kept: bool, context: &Context) -> Result<Summary, Error> {
    let ground = Ground::look(&wish.tree.path, &wish.tree.name, &wish.tag)?;
    let scope = wish.path.as_deref().filter(|path| !path.is_empty());
    let mut planner = Planner::new(&wish.directory, ground.root.clone())?;
    let rules = Rules::new(&wish.tree.filters);
    let tell = Tell::new(&wish.tree.name, Phase::Preflight, None, context);
    let held = Survey {
        root: ground.open.as_ref().map(|(dir, _)| dir),
        rules: &rules,
        one_file_system: wish.tree.one_file_system,
        scope,
        trust_times: true,
        threads: wish.jobs,
        tell: &tell,
        stop: context.cancel.child_token(),
    };
    let records = Records::open(&wish.source.records, &wish.source.tree, scope)?;
    survey(&held, records, &mut |finding| planner.take(finding))?;
    let Planned { totals, problems, mounts } = planner.finish(kept)?;
    Ok(Summary {
        checks: checks(wish, &ground, &totals, problems, mounts)?,
        source: wish.source.clone(),
        path: scope.map(|path| PathBytes(path.to_vec())),
        root: ground.root,
        aside: ground.work,
        inside: ground.inside,
        missing_above: ground.missing_above,
        root_mtime: ground.open.map(|(_, stat)| stat.mtime),
        totals,
    })
}

/// What the place allows, and what is in the way.
fn checks(
    wish: &Wish,
    ground: &Ground,
    totals: &Totals,
    mut problems: Vec<String>,
    mounts: Vec<PathBuf>,
) -> Result<Checks, Error> {
    let nearest = ground.nearest();
    let volume = fs::volume(nearest)?;
    let dir = Dir::open(nearest)?;
    let shown = ground.root.display();
    if !fs::may_write(nearest) {
        problems.push(format!("{} may not be written by this process", nearest.display()));
    }
    if ground.open.as_ref().is_some_and(|(_, stat)| stat.fixed) {
        problems.push(format!("{shown} is immutable or append-only: `chattr -ia {shown}` first"));
    }
    let names = totals.create + totals.replace + totals.create_directories;
    let needed = totals.copy_bytes + names * NAME_BYTES;
    // Where the day's blocks can be shared nothing is copied.
    let day = Dir::open(&wish.source.tree_dir)?.stat_self()?;
    let shares =
        day.dev == dir.stat_self()?.dev && ["btrfs", "xfs", "bcachefs"].contains(&volume.kind.as_str());
    if needed > volume.free_bytes && !shares {
        let free = volume.free_bytes;
        problems.push(format!(
            "{needed} bytes are to be staged beside {shown}, and its file system has {free} bytes left"
        ));
    }
    if volume.total_inodes > 0 && names > volume.free_inodes {
        let free = volume.free_inodes;
        problems.push(format!(
            "{names} names are to be made, and the file system of {shown} has {free} inodes left"
        ));
    }
    Ok(Checks {
        root: match &ground.open {
            None => RootIs::Missing,
            Some((root, _)) if root.names()?.is_empty() => RootIs::Empty,
            Some(_) => RootIs::Filled,
        },
        mount_point: ground.open.as_ref().is_some_and(|(_, stat)| stat.mount_root),
        file_system: volume.kind,
        free_bytes: volume.free_bytes,
        free_inodes: volume.free_inodes,
        any_owner: may_give_away(),
        xattrs: attributes::are_kept(&dir, "user.daykeep"),
        acls: attributes::are_kept(&dir, "system.posix_acl_access"),
        mounts,
        problems,
    })
}

fn may_give_away() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::CHOWN))
}
