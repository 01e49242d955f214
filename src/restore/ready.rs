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
    made: Vec<(PathBuf, files::Ready)>,
    /// Where one was begun. What lies beside other places is somebody else's.
    begun: Vec<PathBuf>,
    jobs: usize,
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
        let mut ready = Self { made: Vec::new(), begun: Vec::new(), jobs: trees::jobs(request) };
        match ready.make_all(found, day, directory, context).await {
            Ok(()) => Ok(ready),
            Err(error) => Err(ready.discard(error, context).await),
        }
    }

    async fn make_all(
        &mut self,
        found: &Found,
        day: &Day,
        directory: &Path,
        context: &Context,
    ) -> Result<(), Error> {
        let whole = found.chosen.trees.iter().map(|name| (name, None));
        let parts = found.chosen.paths.iter().map(|path| (&path.tree, Some(path.path.0.clone())));
        for (tree, path) in whole.chain(parts) {
            let target = directory.join(tree);
            let wish = Elsewhere {
                source: trees::source(day, tree),
                path,
                target: target.clone(),
                jobs: self.jobs,
                durable: true,
                expected: day.manifest().trees.get(tree).map(|tree| tree.entries),
            };
            let context = context.clone();
            self.begun.push(target.clone());
            self.made.push((target, blocking(move || files::prepare(&wish, &context)).await?));
        }
        Ok(())
    }

    /// Gives all of them their names.
    pub(super) async fn place(mut self, context: &Context) -> Result<Vec<PathBuf>, Error> {
        let made = std::mem::take(&mut self.made);
        let place = |(target, ready): (PathBuf, files::Ready)| ready.place().map(|_| target);
        match blocking(move || made.into_iter().map(place).collect()).await {
            Ok(placed) => Ok(placed),
            Err(error) => Err(self.discard(error, context).await),
        }
    }

    /// Removes what has no name yet: something failed. Nothing is left that would be in the way of the next try.
    pub(super) async fn discard(self, error: Error, context: &Context) -> Error {
        let Self { begun, jobs, .. } = self;
        let context = uncancelled(context);
        match blocking(move || begun.iter().try_for_each(|target| files::sweep(target, jobs, &context))).await
        {
            Ok(()) => error,
            Err(left) => Error::NotDiscarded { error: Box::new(error), discard: Box::new(left) },
        }
    }
}
