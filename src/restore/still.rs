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
    let request = hold::Request {
        repository: &holding.repository.name,
        run: holding.job,
        hold: &holding.repository.hold,
        server: holding.repository.database.as_ref().map(|database| &database.server),
        state_dir: holding.state_dir,
        guard: holding.guard,
        purpose: Purpose::Restore,
    };
    let held = if holding.again {
        hold::resume(request, context).await
    } else {
        hold::pause(request, context).await
    };
    Ok(Stillness { held: Some(held?) })
}

impl Stillness {
    /// From now on it stays held whoever dies, until the restore is ended.
    pub(super) async fn keep(&mut self, pending: &PendingRestore) -> Result<(), Error> {
        match &mut self.held {
            Some(held) => Ok(held.keep(&pending.to_string()).await?),
            None => Ok(()),
        }
    }

    /// Releases it; with `start` it is started even if it was found stopped. Tells whether it runs now, as far as we know.
    pub(super) async fn release(self, start: bool) -> Result<bool, hold::Error> {
        let Some(held) = self.held else { return Ok(false) };
        let released = if start { held.release_and_start().await? } else { held.release().await? };
        let evidence = released.evidence();
        Ok(start || evidence.paused_by_us || evidence.adapter == "none")
    }
}
