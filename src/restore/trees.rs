//! The trees of a restore in place: each tree, or part of one, has a plan of its own in a directory below the record, which knows how
//! far it is. What is looked at before the hold is looked at once more in it, since the repository ran meanwhile.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::event::Context;
use crate::fs::{self, dir::Dir};
use crate::journal::{RestorePhase, sentence_of};
use crate::manifest::PathBytes;
use crate::restore::error::{damaged, is_damage_of_files};
use crate::restore::record::Durable;
use crate::restore::steps::blocking;
use crate::restore::{Chosen, Error, Request, Space, TreePlan};
use crate::tree::restore::{self as files, Plan, Source, Wish};
use crate::vault::{Day, overlap, real_place};

/// Plans that are only looked at are in a directory of this name, with the number of the process.
const LOOK: &str = "restore-look-";

/// A tree, or a part of one, that is restored where it was.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    tree: config::Tree,
    path: Option<PathBytes>,
    source: Source,
}

/// A piece whose plan is in the record: what is beside it, and what took its place, is told by the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Placed {
    /// The tree.
    tree: String,
    /// Only this of it.
    path: Option<PathBytes>,
    /// Where its plan is.
    plan: PathBuf,
}

impl Placed {
    /// `TREE` or `TREE:PATH`.
    pub(super) fn shown(&self) -> String {
        match &self.path {
            Some(path) => format!("{}:{}", self.tree, String::from_utf8_lossy(&path.0)),
            None => self.tree.clone(),
        }
    }
}

/// What was seen of all trees.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) plans: Vec<TreePlan>,
    pub(super) space: Vec<Space>,
    pub(super) problems: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// The pieces of a choice, and why some have no place.
pub(super) fn pieces(request: &Request, chosen: &Chosen, day: &Day) -> (Vec<Piece>, Vec<String>) {
    let whole = chosen.trees.iter().map(|name| (name, None));
    let parts = chosen.paths.iter().map(|path| (&path.tree, Some(path.path.clone())));
    let (mut pieces, mut problems) = (Vec::new(), Vec::new());
    for (name, path) in whole.chain(parts) {
        match request.repository.trees.get(name) {
            Some(tree) => {
                let source = source(day, name);
                pieces.push(Piece { tree: tree.clone(), path, source });
            }
            None => {
                let was = day.manifest().trees.get(name).map_or("", |tree| tree.source.as_str());
                problems.push(format!(
                    "the configuration has no tree {name}, which was {was} when the day was kept: add it, or restore it with --to"
                ));
            }
        }
    }
    (pieces, problems)
}

/// A tree in the day.
pub(super) fn source(day: &Day, tree: &str) -> Source {
    Source { tree_dir: day.trees().join(tree), records: day.records(), tree: tree.to_owned() }
}

/// Looks at the trees and changes nothing.
pub(super) async fn look(
    request: &Request,
    pieces: &[Piece],
    day: &Day,
    context: &Context,
) -> Result<Seen, Error> {
    if pieces.is_empty() {
        return Ok(Seen::default());
    }
    let home = desk(request)?;
    let seen = look_at_each(request, pieces, day, &home, context).await;
    if fs::exists(&home)? {
        // Each look takes its own away, unless it failed at that.
        if fs::names_in(&home)?.is_empty() {
            fs::remove_empty_dir(&home)?;
        } else {
            fs::remove_tree(&home, 1, &|_| true)?;
        }
    }
    seen
}

/// Where plans that are only looked at are: beside the records. Where nothing is recorded yet nothing is made for a look; then they are
/// in a directory of nobody else's among the temporary ones.
fn desk(request: &Request) -> Result<PathBuf, Error> {
    let own = format!("{LOOK}{}", std::process::id());
    let records = request.state_dir.join(&request.repository.name);
    if fs::exists(&records)? {
        return Ok(records.join(own));
    }
    let temporary = std::env::temp_dir();
    let above = Dir::open(&temporary)?;
    let mut name = format!("daykeep-{own}");
    while !above.make_dir(name.as_bytes())? {
        name.push('-');
    }
    Ok(temporary.join(name))
}

/// Removes the plans of those who died looking.
pub(super) fn sweep(directory: &Path) -> Result<(), Error> {
    for name in fs::names_in(directory)? {
        let Some(process) = name.to_str().and_then(|name| name.strip_prefix(LOOK)) else { continue };
        if !fs::exists(&Path::new("/proc").join(process))? {
            fs::remove_tree(&directory.join(&name), 1, &|_| true)?;
        }
    }
    Ok(())
}

async fn look_at_each(
    request: &Request,
    pieces: &[Piece],
    day: &Day,
    home: &Path,
    context: &Context,
) -> Result<Seen, Error> {
    let mut seen = Seen::default();
    for (number, piece) in pieces.iter().enumerate() {
        apart(request, piece, &mut seen)?;
        let wish = wish(request, piece, home.join(number.to_string()), "look");
        match looked(wish, context).await {
            Ok(summary) => seen.add(piece, &summary),
            Err(Error::Files(error @ files::Error::NotInDay { .. })) => {
                return Err(Error::NotThere { problems: vec![error.to_string()] });
            }
            Err(Error::Files(error)) if is_damage_of_files(&error, day) => {
                return Err(damaged(request, day, &error));
            }
            Err(Error::Files(error)) if !matches!(error, files::Error::Cancelled) => {
                seen.problems.push(format!("tree {}: {}", piece.tree.name, sentence_of(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}

/// Looks at the places that trees are to go to: nothing may be there.
pub(super) fn look_elsewhere(
    request: &Request,
    chosen: &Chosen,
    day: &Day,
    directory: &Path,
) -> Result<Seen, Error> {
    let mut seen = Seen::default();
    let (mut needed, mut inodes) = (0, 0);
    for name in chosen.touched_trees() {
        let parts: Vec<_> = chosen.paths.iter().filter(|path| path.tree == name).collect();
        if parts.len() > 1 {
            seen.problems
                .push(format!("tree {name}: one path of a tree can be restored elsewhere at a time"));
        }
        let target = directory.join(name);
        if fs::exists(&target)? && !(target.is_dir() && fs::names_in(&target)?.is_empty()) {
            seen.problems.push(format!(
                "{} is not empty: move it away, or restore to another directory",
                target.display()
            ));
        }
        seen.problems.extend(in_use(request, &target)?);
        let Some(tree) = day.manifest().trees.get(name) else { continue };
        let part = parts.first().map(|part| part.path.0.as_slice());
        let size = match (files::size(&source(day, name), part), part) {
            (Ok(size), _) => size,
            (Err(error @ files::Error::NotInDay { .. }), _) => {
                return Err(Error::NotThere { problems: vec![error.to_string()] });
            }
            // What is wrong with the records is told where all damage is.
            (Err(_), None) => {
                let (names, bytes) = (tree.entries, tree.bytes);
                files::Size { names, bytes, inodes: names, room: bytes }
            }
            (Err(error), Some(_)) => return Err(error.into()),
        };
        needed = size.room.saturating_add(needed);
        inodes += size.inodes;
        seen.plans.push(TreePlan {
            name: name.to_owned(),
            path: target.display().to_string(),
            part: parts.first().map(|path| String::from_utf8_lossy(&path.path.0).into_owned()),
            create: size.names,
            copy_bytes: size.bytes,
            ..TreePlan::default()
        });
    }
    let there = directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let fs::Volume { free_bytes: free, total_inodes, free_inodes, .. } = fs::volume(there)?;
    if needed > free {
        let (needed, free) = (bytesize::ByteSize(needed), bytesize::ByteSize(free));
        seen.problems.push(format!("{} has {free} free, and the trees need {needed}", there.display()));
    }
    if total_inodes > 0 && inodes > free_inodes {
        let there = there.display();
        seen.problems.push(format!("{there} has {free_inodes} inodes left, and the trees need {inodes}"));
    }
    seen.space.push(Space { place: directory.display().to_string(), needed, free: Some(free), old: 0 });
    Ok(seen)
}

/// Why nothing may come to a place: it would come into the vault, or into a tree that is there.
fn in_use(request: &Request, target: &Path) -> Result<Vec<String>, Error> {
    let real = |path: &Path| real_place(path).unwrap_or_else(|| path.to_owned());
    let (place, shown) = (real(target), target.display());
    let mut problems = Vec::new();
    let vault = fs::parent_of(request.vault.path());
    if place.starts_with(real(vault)) {
        let vault = vault.display();
        problems
            .push(format!("{shown} is inside the vault {vault}: name a directory outside of it with --to"));
    }
    let own =
        request.repository.trees.values().map(|tree| (format!("tree {}", tree.name), tree.path.clone()));
    let mut seen = Vec::new();
    for (name, path) in own.chain(request.in_use.iter().cloned()) {
        if seen.contains(&path) || !fs::exists(&path)? {
            continue;
        }
        let (tree, at) = (real(&path), path.display().to_string());
        seen.push(path);
        if tree == place {
            problems.push(format!(
                "{shown} is the place of the {name} itself: name another directory with --to, or restore in place, without --to"
            ));
        } else if place.starts_with(&tree) {
            problems.push(format!(
                "{shown} is inside the {name} at {at}, which is in use: name a directory outside of it with --to"
            ));
        } else if tree.starts_with(&place) {
            problems.push(format!(
                "the {name} at {at}, which is in use, is inside {shown}: name another directory with --to"
            ));
        }
    }
    Ok(problems)
}

/// What a restore wrote into the vault would be written into the days.
fn apart(request: &Request, piece: &Piece, seen: &mut Seen) -> Result<(), Error> {
    if fs::exists(&piece.tree.path)?
        && let Some(together) = overlap(fs::parent_of(request.vault.path()), &piece.tree.path)?
    {
        seen.problems.push(format!("tree {}: {together}", piece.tree.name));
    }
    Ok(())
}

impl Seen {
    fn add(&mut self, piece: &Piece, summary: &files::Summary) {
        let totals = &summary.totals;
        let checks = &summary.checks;
        let name = &piece.tree.name;
        self.problems.extend(checks.problems.iter().map(|problem| format!("tree {name}: {problem}")));
        if !checks.mounts.is_empty() {
            let mounts: Vec<_> = checks.mounts.iter().map(|path| path.display().to_string()).collect();
            self.warnings
                .push(format!("tree {name}: what is mounted in it stays as it is: {}", mounts.join(", ")));
        }
        if !checks.any_owner {
            self.warnings.push(format!(
                "tree {name}: this user may not give files away: owners may not be those of the day"
            ));
        }
        if totals.recorded_only > 0 {
            let are = match totals.recorded_only {
                1 => "1 socket or device is".to_owned(),
                count => format!("{count} sockets and devices are"),
            };
            self.warnings.push(format!("tree {name}: {are} only recorded, and not made"));
        }
        self.plans.push(TreePlan {
            name: name.clone(),
            path: summary.root.display().to_string(),
            part: piece.path.as_ref().map(|path| String::from_utf8_lossy(&path.0).into_owned()),
            create: totals.create + totals.create_directories,
            replace: totals.replace,
            attributes: totals.attributes + totals.change_directories,
            remove: totals.remove + totals.remove_directories,
            same: totals.same,
            stay: totals.stay,
            copy_bytes: totals.copy_bytes,
            aside_bytes: totals.aside_bytes,
        });
        let place = fs::parent_of(&summary.aside).display().to_string();
        let (needed, free, old) = (totals.copy_bytes, Some(checks.free_bytes), totals.aside_bytes);
        match self.space.iter_mut().find(|space| space.place == place) {
            Some(space) => (space.needed, space.old) = (space.needed + needed, space.old + old),
            None => self.space.push(Space { place, needed, free, old }),
        }
    }
}

fn wish(request: &Request, piece: &Piece, directory: PathBuf, tag: &str) -> Wish {
    Wish {
        source: piece.source.clone(),
        tree: piece.tree.clone(),
        path: piece.path.as_ref().map(|path| path.0.clone()),
        directory,
        tag: tag.to_owned(),
        jobs: jobs(request),
    }
}

/// Threads.
pub(super) fn jobs(request: &Request) -> usize {
    request.jobs.unwrap_or(request.repository.limits.tree_jobs)
}

async fn looked(wish: Wish, context: &Context) -> Result<files::Summary, Error> {
    let context = context.clone();
    blocking(move || files::look(&wish, &context)).await
}

async fn planned(wish: Wish, context: &Context) -> Result<Plan, Error> {
    let context = context.clone();
    blocking(move || files::plan(&wish, &context)).await
}

/// Plans once more, in the hold, and copies out of the day what the trees lack.
pub(super) async fn stage(
    request: &Request,
    pieces: &[Piece],
    durable: &Durable,
    context: &Context,
) -> Result<(), Error> {
    let home = durable.directory()?;
    let placed = pieces.iter().enumerate().map(|(number, piece)| Placed {
        tree: piece.tree.name.clone(),
        path: piece.path.clone(),
        plan: home.join(number.to_string()),
    });
    let placed: Vec<Placed> = placed.collect();
    durable.change(|record| {
        record.head.phase = RestorePhase::Loading;
        record.trees.clone_from(&placed);
    })?;
    for (number, (piece, placed)) in pieces.iter().zip(placed).enumerate() {
        let wish = wish(request, piece, placed.plan, &format!("{}-{number}", durable.tag()));
        let plan = planned(wish, context).await?;
        if let Some(problem) = plan.summary().checks.problems.first() {
            // It came while the repository was being paused.
            let problems = vec![format!("tree {}: {problem}", piece.tree.name)];
            return Err(Error::Refused { day: durable.head().day, problems });
        }
        let context = context.clone();
        blocking(move || plan.stage(&context)).await?;
    }
    Ok(())
}

/// What is beside takes the place of what is there.
pub(super) async fn switch(durable: &Durable, context: &Context) -> Result<(), Error> {
    each(durable, false, context, |plan, context| plan.execute(context)).await
}

/// What was there takes its place again, in the opposite order.
pub(super) async fn back(durable: &Durable, context: &Context) -> Result<(), Error> {
    each(durable, true, context, |plan, context| plan.back(context)).await?;
    discard(durable, context).await
}

/// What was there before goes.
pub(super) async fn drop_old(durable: &Durable, context: &Context) -> Result<(), Error> {
    each(durable, false, context, Plan::drop_aside).await
}

/// What is beside goes.
pub(super) async fn discard(durable: &Durable, context: &Context) -> Result<(), Error> {
    each(durable, true, context, Plan::discard).await
}

async fn each(
    durable: &Durable,
    backwards: bool,
    context: &Context,
    work: fn(Plan, &Context) -> Result<(), files::Error>,
) -> Result<(), Error> {
    let mut placed = durable.with(|record| record.trees.clone());
    if backwards {
        placed.reverse();
    }
    for placed in placed {
        let context = context.clone();
        blocking(move || match Plan::open(&placed.plan, 1)? {
            Some(plan) => work(plan, &context),
            // Killed before there was a plan: nothing was staged.
            None => Ok(()),
        })
        .await?;
    }
    Ok(())
}
