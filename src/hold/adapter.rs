//! What an adapter does: look, pause, prove, kill; and a plan for the release that needs none of it.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::plan::ReleasePlan;
use super::{Error, Request};
use super::{command::CommandAdapter, fossology::Fossology, http::Http, nothing::Nothing, systemd::Systemd};
use crate::config;

/// What was there before the hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Before {
    /// It runs: it is to be paused, and released by this plan.
    Running(ReleasePlan),
    /// Nobody can tell whether it runs: it is paused, and released by this plan, as if it did.
    Presumed(ReleasePlan),
    /// It does not run: an operator has stopped it, or (for a restore) it is gone. Nothing is paused, and nothing will be started unless
    /// somebody asks for that.
    Stopped {
        /// What was seen.
        why: String,
        /// How it would be started.
        start: ReleasePlan,
    },
}

/// One look at whether the repository is idle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// It is; one sentence a proof.
    Idle(Vec<String>),
    /// It is not; what still goes on.
    Busy(Vec<String>),
}

/// One way to hold a repository still.
///
/// The order of calls is `look`, `pause` (unless it was stopped), `prove` until idle, and at the end of the freeze `prove`
/// again. No method changes anything but `pause` and `kill`.
pub(super) trait Adapter: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// What is there, and refuses what cannot be paused.
    fn look(&mut self) -> BoxFuture<'_, Result<Before, Error>>;

    /// Asks for the pause; need not wait for its effect.
    fn pause(&mut self) -> BoxFuture<'_, Result<(), Error>>;

    /// Whether it is idle now.
    fn prove(&mut self) -> BoxFuture<'_, Result<Proof, Error>>;

    /// Ends what still runs after the drain.
    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>>;

    /// The longest `pause` may take.
    fn pause_limit(&self) -> Duration;
}

/// The adapter that is configured.
pub(super) fn adapter_of(request: &Request<'_>, token: &str) -> Result<Box<dyn Adapter>, Error> {
    let needs_server = |adapter| {
        let missing = || Error::NoServer { adapter, repository: request.repository.to_owned() };
        request.server.cloned().ok_or_else(missing)
    };
    let repository = request.repository.to_owned();
    Ok(match &request.hold.adapter {
        config::Adapter::Fossology(settings) => {
            let server = needs_server("fossology")?;
            Box::new(Fossology::new(
                repository,
                settings.clone(),
                server,
                request.hold.drain,
                request.purpose,
            ))
        }
        config::Adapter::Systemd(settings) => {
            Box::new(Systemd::new(settings.clone(), token.to_owned(), request.purpose))
        }
        config::Adapter::Command(settings) => {
            Box::new(CommandAdapter::new(settings.clone(), token.to_owned(), request.purpose))
        }
        config::Adapter::Http(settings) => Box::new(Http::new(settings.clone(), request.purpose)?),
        config::Adapter::None => Box::new(Nothing::new(request.server.cloned(), request.purpose)),
    })
}
