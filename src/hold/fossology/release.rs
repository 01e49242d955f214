//! Starting the scheduler again, whatever state it is in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::proofs::{Agents, text_of};
use super::protocol::Connection;
use super::status_of;
use crate::config::FossologyHold;
use crate::hold::Error;
use crate::hold::plan::Attempt;
use crate::process::Program;

/// How long one try waits for a scheduler that was told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// How often a scheduler that starts is asked.
const START_POLL: Duration = Duration::from_millis(50);
/// How long a start that was begun before may take to show at the port.
const RESUMED_PATIENCE: Duration = Duration::from_secs(2);

/// Starts the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    address: String,
    start: Vec<String>,
    start_timeout: Duration,
    agent_match: String,
    /// The process id that the scheduler had when it was paused; None when none ran.
    scheduler: Option<i64>,
    /// How long the release waits for orphans of a scheduler that crashed: its successor runs their jobs again.
    orphan_patience: Duration,
}

impl Release {
    pub(super) fn new(settings: &FossologyHold, scheduler: Option<i64>, drain: Duration) -> Self {
        Self {
            address: settings.address.clone(),
            start: settings.start.clone(),
            start_timeout: settings.start_timeout,
            agent_match: settings.agent_match.clone(),
            scheduler,
            orphan_patience: drain,
        }
    }

    /// It cannot be told whether `stop` was sent, so one more is sent to the same scheduler; another one that answers was
    /// started meanwhile, and all is well.
    pub(in crate::hold) async fn perform(&self, attempt: Attempt<'_>) -> Result<(), Error> {
        if attempt.resumed && self.answers_within(RESUMED_PATIENCE, self.scheduler).await? {
            return Ok(());
        }
        if let Some(mut connection) = Connection::open(&self.address).await? {
            match connection.status().await? {
                Some(status) if Some(status.scheduler) != self.scheduler => return Ok(()),
                Some(status) => {
                    let ended = !connection.end("stop").await? || connection.is_closed(STOP_PATIENCE).await;
                    if !ended {
                        let jobs = status.jobs_text();
                        let what =
                            format!("the scheduler (pid {}) has ended, which has {jobs}", status.scheduler);
                        return Err(Error::StillStopping { what });
                    }
                }
                None => {}
            }
        }
        self.wait_for_refusal().await?;
        self.wait_for_orphans(attempt)?;
        Program::new(&self.start)
            .limit(self.start_timeout)
            .run_service()
            .await
            .map_err(|source| Error::Command { doing: "cannot start the scheduler", source })?;
        if self.answers_within(self.start_timeout, None).await? {
            return Ok(());
        }
        let what = format!("the scheduler at {}", self.address);
        Err(Error::DoesNotAnswer { what, limit: self.start_timeout })
    }

    /// What it starts.
    pub(in crate::hold) fn subject(&self) -> String {
        format!("the scheduler at {} (`{}`)", self.address, self.start.join(" "))
    }

    pub(in crate::hold) fn limit(&self) -> Duration {
        self.start_timeout * 2 + STOP_PATIENCE + RESUMED_PATIENCE + Duration::from_secs(30)
    }

    /// A process that ends closes its connections one by one: the port may answer a moment longer.
    async fn wait_for_refusal(&self) -> Result<(), Error> {
        let mut waited = Duration::ZERO;
        while Connection::open(&self.address).await?.is_some() {
            if waited >= STOP_PATIENCE {
                let what = format!("{} refuses", self.address);
                return Err(Error::StillStopping { what });
            }
            tokio::time::sleep(START_POLL).await;
            waited += START_POLL;
        }
        Ok(())
    }

    fn wait_for_orphans(&self, attempt: Attempt<'_>) -> Result<(), Error> {
        let orphans = Agents::new(&self.agent_match).look()?;
        if orphans.is_empty() || attempt.releasing_for >= self.orphan_patience {
            return Ok(());
        }
        let names = orphans.iter().map(text_of).collect::<Vec<_>>().join(", ");
        Err(Error::StillStopping { what: format!("what the scheduler left running has ended: {names}") })
    }

    /// Whether a scheduler answers, but for the one with this process id. (One in a container may get the same id each time.)
    async fn answers_within(&self, limit: Duration, but: Option<i64>) -> Result<bool, Error> {
        let mut waited = Duration::ZERO;
        loop {
            if status_of(&self.address).await?.is_some_and(|status| Some(status.scheduler) != but) {
                return Ok(true);
            }
            if waited >= limit {
                return Ok(false);
            }
            tokio::time::sleep(START_POLL).await;
            waited += START_POLL;
        }
    }
}
