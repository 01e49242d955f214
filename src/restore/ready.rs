//! Trees that are made beside the places they are to go to: none of them has its name before all are complete.

use std::path::{Path, PathBuf};

use crate::event::Context;
use crate::restore::look::Found;
use crate::restore::steps::{blocking, uncancelled};
use crate::restore::{Error, Request, trees};
use crate::tree::restore::{self as files, Elsewhere};
use crate::vault::Day;

/// All of them.
#[derive(Debug)]
pub(super) struct Ready {
    trees: Vec<(PathBuf, files::Ready)>,
    places: Places,
}

/// Where trees may have been made.
#[derive(Debug, Clone)]
pub(super) struct Places {
    targets: Vec<PathBuf>,
    jobs: usize,
}

impl Places {
    /// Of all trees of the day, whichever were asked for: an earlier try may have asked for others.
    pub(super) fn of(request: &Request, day: &Day, directory: &Path) -> Self {
        let targets = day.manifest().trees.keys().map(|tree| directory.join(tree)).collect();
        Self { targets, jobs: trees::jobs(request) }
    }

    /// Removes what lies beside them.
    pub(super) async fn sweep(&self, context: &Context) -> Result<(), Error> {
        let (places, context) = (self.clone(), context.clone());
        blocking(move || {
            places.targets.iter().try_for_each(|target| files::sweep(target, places.jobs, &context))
        })
        .await
    }

    /// What came of an error: nothing is left that would be in the way of the next try.
    pub(super) async fn after(&self, error: Error, context: &Context) -> Error {
        match self.sweep(&uncancelled(context)).await {
            Ok(()) => error,
            Err(left) => Error::NotDiscarded { error: Box::new(error), discard: Box::new(left) },
        }
    }
}

impl Ready {
    /// Makes each in a directory with its name. What fails leaves nothing.
    pub(super) async fn make(
        request: &Request,
        found: &Found,
        day: &Day,
        directory: &Path,
        context: &Context,
    ) -> Result<Self, Error> {
        let places = Places::of(request, day, directory);
        match make(request, found, day, directory, context).await {
            Ok(trees) => Ok(Self { trees, places }),
            Err(error) => Err(places.after(error, context).await),
        }
    }

    /// Removes them: something else failed.
    pub(super) async fn discard(self, error: Error, context: &Context) -> Error {
        drop(self.trees);
        self.places.after(error, context).await
    }

    /// Gives all of them their names.
    pub(super) async fn place(self, context: &Context) -> Result<Vec<PathBuf>, Error> {
        let Self { trees, places } = self;
        let place = |(target, ready): (PathBuf, files::Ready)| ready.place().map(|_| target);
        match blocking(move || trees.into_iter().map(place).collect()).await {
            Ok(placed) => Ok(placed),
            Err(error) => Err(places.after(error, context).await),
        }
    }
}

async fn make(
    request: &Request,
    found: &Found,
    day: &Day,
    directory: &Path,
    context: &Context,
) -> Result<Vec<(PathBuf, files::Ready)>, Error> {
    let whole = found.chosen.trees.iter().map(|name| (name, None));
    let parts = found.chosen.paths.iter().map(|path| (&path.tree, Some(path.path.0.clone())));
    let mut made = Vec::new();
    for (tree, path) in whole.chain(parts) {
        let wish = Elsewhere {
            source: trees::source(day, tree),
            path,
            target: directory.join(tree),
            jobs: trees::jobs(request),
            durable: true,
            expected: day.manifest().trees.get(tree).map(|tree| tree.entries),
        };
        let (target, context) = (wish.target.clone(), context.clone());
        made.push((target, blocking(move || files::prepare(&wish, &context)).await?));
    }
    Ok(made)
}
