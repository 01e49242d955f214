//! The release as data: what is on disk before the pause, and all that the guard, the next start or a person needs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, command, fossology, http, systemd};
use crate::process;

/// Set for every command that pauses, so that the release can tell whether one still runs.
pub(super) const TOKEN_VARIABLE: &str = "DAYKEEP_HOLD";
/// How long a pausing command whose run was killed may go on before it is killed.
const STRAGGLER_PATIENCE: Duration = Duration::from_secs(5);
/// How often such a command is looked for.
const STRAGGLER_POLL: Duration = Duration::from_millis(50);

/// How to release. Performing it twice does no harm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum ReleasePlan {
    /// There is nothing to release.
    Nothing,
    /// FOSSology's scheduler.
    Fossology(fossology::Release),
    /// Units of systemd.
    Systemd(systemd::Release),
    /// A command.
    Command(command::Release),
    /// A switch behind HTTP.
    Http(http::Release),
}

/// What a try to release knows of those before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    /// The hold's token.
    pub(super) token: &'a str,
    /// A release was begun before and may have been completed.
    pub(super) resumed: bool,
    /// Nobody knows whether the pause was ever carried out: its run ended while it was asking for it.
    pub(super) in_doubt: bool,
    /// How long ago it was begun.
    pub(super) releasing_for: Duration,
}

impl ReleasePlan {
    pub(super) async fn perform(&self, attempt: Attempt<'_>) -> Result<(), Error> {
        end_stragglers(attempt.token).await?;
        match self {
            Self::Nothing => Ok(()),
            Self::Fossology(release) => release.perform(attempt).await,
            Self::Systemd(release) => release.perform().await,
            Self::Command(release) => release.perform(attempt.resumed).await,
            Self::Http(release) => release.perform(attempt).await,
        }
    }

    /// This plan, and what an older hold of the same adapter has left to release.
    pub(super) fn after(self, older: Self) -> Self {
        match (self, older) {
            (Self::Nothing, older) => older,
            (Self::Systemd(plan), Self::Systemd(older)) => Self::Systemd(plan.after(older)),
            (plan, _) => plan,
        }
    }

    /// In its place when nothing is to run afterwards: nothing, where what is paused does not run.
    pub(super) fn stopping(self) -> Self {
        match self {
            Self::Systemd(release) => release.stopping().map_or(Self::Nothing, Self::Systemd),
            Self::Nothing | Self::Fossology(_) | Self::Command(_) | Self::Http(_) => Self::Nothing,
        }
    }

    /// What it sets running, for people; None: nothing.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Fossology(release) => Some(release.subject()),
            Self::Systemd(release) => Some(release.subject()),
            Self::Command(release) => Some(release.subject()),
            Self::Http(release) => Some(release.subject()),
        }
    }

    /// The longest that one try may take.
    pub(super) fn limit(&self) -> Duration {
        let own = match self {
            Self::Nothing => Duration::ZERO,
            Self::Fossology(release) => release.limit(),
            Self::Systemd(release) => release.limit(),
            Self::Command(release) => release.limit(),
            Self::Http(release) => release.limit(),
        };
        own + STRAGGLER_PATIENCE
    }
}

/// When a run is killed while its pause command runs, the command goes on: were it not ended first, it could pause what was
/// just released.
async fn end_stragglers(token: &str) -> Result<(), Error> {
    let variable = format!("{TOKEN_VARIABLE}={token}");
    let mut waited = Duration::ZERO;
    loop {
        let left = process::commands_with(&variable)?;
        if left.is_empty() {
            return Ok(());
        }
        if waited >= STRAGGLER_PATIENCE {
            for command in &left {
                process::signal_group(command.group, nix::sys::signal::Signal::SIGKILL)
                    .map_err(|source| Error::Signal { group: command.group, source })?;
            }
        }
        tokio::time::sleep(STRAGGLER_POLL).await;
        waited += STRAGGLER_POLL;
    }
}
