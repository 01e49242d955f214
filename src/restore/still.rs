//! The repository, held while a day takes its place; or not held, when nobody changes it.

use std::path::Path;

use crate::config::Repository;
use crate::event::Context;
use crate::hold::{self, Held, Purpose};
use crate::journal::PendingRestore;
use crate::restore::Error;

/// What is needed to hold it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holding<'a> {
    pub(super) repository: &'a Repository,
    pub(super) state_dir: &'a Path,
    pub(super) guard: &'a Path,
    pub(super) job: u64,
    /// False: it is not held.
    pub(super) hold: bool,
    /// An earlier job may have left it held.
    pub(super) again: bool,
}

/// It stands still, as long as this lives.
pub(super) struct Stillness {
    held: Option<Held>,
}

/// Holds it. What a killed restore has left held is taken over.
pub(super) async fn hold(holding: Holding<'_>, context: &Context) -> Result<Stillness, Error> {
    if !holding.hold {
        return Ok(Stillness { held: None });
    }
    let held = if holding.again {
        hold::resume(holding.request(), context).await
    } else {
        hold::pause(holding.request(), context).await
    };
    Ok(Stillness { held: Some(held?) })
}

/// Whether it runs now, for a plan; None: that cannot be told, or it is not to be held. Nothing is paused.
pub(super) async fn runs(holding: Holding<'_>, context: &Context) -> Result<Option<bool>, Error> {
    if !holding.hold {
        return Ok(None);
    }
    Ok(hold::runs(holding.request(), context).await?)
}

impl<'a> Holding<'a> {
    fn request(&self) -> hold::Request<'a> {
        hold::Request {
            repository: &self.repository.name,
            run: self.job,
            hold: &self.repository.hold,
            server: self.repository.database.as_ref().map(|database| &database.server),
            state_dir: self.state_dir,
            guard: self.guard,
            purpose: Purpose::Restore,
        }
    }
}

/// What becomes of what is held when that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It runs if it ran before.
    AsFound,
    /// It is started, even if it was found stopped.
    Started,
    /// It stays stopped, even if it ran.
    Stopped,
}

impl Stillness {
    /// From now on it stays held whoever dies, until the restore is ended.
    pub(super) async fn keep(&mut self, pending: &PendingRestore) -> Result<(), Error> {
        match &mut self.held {
            Some(held) => Ok(held.keep(&pending.to_string()).await?),
            None => Ok(()),
        }
    }

    /// Whether somebody else had stopped it before.
    pub(super) fn was_stopped(&self) -> bool {
        self.held.as_ref().is_some_and(Held::was_stopped)
    }

    /// Releases it. Tells whether it runs now, as far as we know.
    pub(super) async fn release(self, after: After) -> Result<bool, hold::Error> {
        let Some(held) = self.held else { return Ok(false) };
        let released = match after {
            After::AsFound => held.release().await?,
            After::Started => held.release_and_start().await?,
            After::Stopped => held.release_to_stopped().await?,
        };
        Ok(released.runs())
    }
}
