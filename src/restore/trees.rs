//! The trees of a restore in place: each tree, or part of one, has a plan of its own in a directory below the record, which knows how
//! far it is. What is looked at before the hold is looked at once more in it, since the repository ran meanwhile.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::event::Context;
use crate::fs;
use crate::manifest::PathBytes;
use crate::restore::error::sentence_of;
use crate::restore::record::Durable;
use crate::restore::steps::blocking;
use crate::restore::{Chosen, Error, Request, Space, TreePlan};
use crate::tree::restore::{self as files, Plan, Source, Wish};
use crate::vault::{Day, Overlap, overlap};

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

/// What was seen of all trees.
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
pub(super) async fn look(request: &Request, pieces: &[Piece], context: &Context) -> Result<Seen, Error> {
    let own = format!("{LOOK}{}", std::process::id());
    let home = request.state_dir.join(&request.repository.name).join(own);
    let seen = look_at_each(request, pieces, &home, context).await;
    if fs::exists(&home)? {
        fs::remove_tree(&home, 1, &|_| true)?;
    }
    seen
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
    home: &Path,
    context: &Context,
) -> Result<Seen, Error> {
    let mut seen = Seen { plans: Vec::new(), space: Vec::new(), problems: Vec::new(), warnings: Vec::new() };
    for (number, piece) in pieces.iter().enumerate() {
        apart(request, piece, &mut seen)?;
        let wish = wish(request, piece, home.join(number.to_string()), "look");
        match planned(wish, context).await {
            Ok(plan) => seen.add(piece, plan.summary()),
            Err(Error::Files(error @ files::Error::NotInDay { .. })) => {
                return Err(Error::NotThere { problems: vec![error.to_string()] });
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
    let mut seen = Seen { plans: Vec::new(), space: Vec::new(), problems: Vec::new(), warnings: Vec::new() };
    let mut needed = 0;
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
        let Some(tree) = day.manifest().trees.get(name) else { continue };
        let part = parts.first().map(|path| String::from_utf8_lossy(&path.path.0).into_owned());
        // What a part takes is known when it is there.
        let copy_bytes = if part.is_some() { 0 } else { tree.bytes };
        needed += copy_bytes;
        seen.plans.push(TreePlan {
            name: name.to_owned(),
            path: target.display().to_string(),
            create: if part.is_some() { 0 } else { tree.entries },
            part,
            copy_bytes,
            ..TreePlan::default()
        });
    }
    let there = directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    if let Some(together) = overlap(fs::parent_of(request.vault.path()), there)?.filter(Overlap::is_in_vault)
    {
        seen.problems.push(together.to_string());
    }
    let free = fs::volume(there)?.free_bytes;
    if needed > free {
        let (needed, free) = (bytesize::ByteSize(needed), bytesize::ByteSize(free));
        seen.problems.push(format!("{} has {free} free, and the trees need {needed}", there.display()));
    }
    seen.space.push(Space { place: directory.display().to_string(), needed, free: Some(free), old: 0 });
    Ok(seen)
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
            let count = totals.recorded_only;
            self.warnings
                .push(format!("tree {name}: {count} sockets or devices are only recorded, and not made"));
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
    durable.change(|record| record.trees.clone_from(&placed))?;
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
