//! The adapter `fossology`: stops FOSSology's scheduler, proves that nothing of it is left at work, and starts it again.
//!
//! The scheduler cannot be paused, only stopped: `stop` lets running agents finish, and dispatches what is already in the
//! scheduler's memory while they do; rows that wait in `jobqueue` stay there. Its end closes the connection that sent `stop`. It cannot be
//! told to go on: a release after `stop` waits for its end, then runs the start command.
//!
//! Four proofs, all of them each time:
//! 1. the connection that sent `stop` was closed, and the port refuses;
//! 2. no process has `--scheduler_start` in its command line, and none is left of the process groups of those that were seen to have it,
//!    nor of the scheduler's session (zombies do not count);
//! 3. no session of an agent or the scheduler is in the database;
//! 4. `jobqueue` is read: rows that have begun and not ended are stale after 1 to 3; their numbers are the evidence.
//!
//! A scheduler may crash at any moment. Its agents live on as orphans, and so the same proofs hold for them.

mod proofs;
mod protocol;
mod release;

use std::time::Duration;

use futures_util::future::BoxFuture;
use nix::sys::signal::Signal;

pub use release::Release;

use self::proofs::{Agents, Database, text_of};
use self::protocol::{Connection, Status};
use super::adapter::{Adapter, Before, Proof};
use super::plan::ReleasePlan;
use super::{Error, Purpose};
use crate::config::{self, FossologyHold};
use crate::process::{self, Process};

/// How long one look waits for the scheduler to close its connection.
const CLOSED_PATIENCE: Duration = Duration::from_millis(20);
/// How long agents may take to end after SIGTERM before SIGKILL comes, and after that.
const KILL_GRACE: Duration = Duration::from_secs(3);
/// How often killed agents are looked at.
const KILL_POLL: Duration = Duration::from_millis(50);

/// A scheduler at this address is asked how it is and told to stop: for the fuzz targets.
#[cfg(fuzzing)]
pub async fn ask_and_stop(address: &str) {
    if let Ok(Some(mut connection)) = Connection::open(address).await {
        if let Ok(Some(status)) = connection.status().await {
            let _ = (status.paused_jobs(), status.jobs_text());
        }
        let _ = connection.end("stop").await;
    }
}

pub(super) struct Fossology {
    repository: String,
    settings: FossologyHold,
    drain: Duration,
    agents: Agents,
    database: Database,
    /// The connection that sent `stop`; None when the scheduler has closed it, or never ran.
    stopping: Option<Connection>,
    /// The scheduler's process id; None when it was stopped before the hold.
    scheduler: Option<i64>,
    purpose: Purpose,
}

impl Fossology {
    pub(super) fn new(
        repository: String,
        settings: FossologyHold,
        server: config::Server,
        drain: Duration,
        purpose: Purpose,
    ) -> Self {
        let agents = Agents::new(&settings.agent_match);
        let database = Database::new(server, &settings);
        Self { repository, settings, drain, agents, database, stopping: None, scheduler: None, purpose }
    }

    async fn look_now(&mut self) -> Result<Before, Error> {
        // What could not be proven later is found out before anything is stopped.
        self.ask_database().await?;
        self.agents.look()?;
        let release = |scheduler| ReleasePlan::Fossology(Release::new(&self.settings, scheduler, self.drain));
        let Some(status) = status_of(&self.settings.address).await? else {
            let why = format!("nothing listened on {}", self.settings.address);
            return Ok(Before::Stopped { why, start: release(None) });
        };
        let jobs = status.paused_jobs();
        if !jobs.is_empty() {
            return Err(Error::PausedJobs { jobs });
        }
        self.scheduler = Some(status.scheduler);
        let plan = release(Some(status.scheduler));
        self.agents.remember_session(status.scheduler)?;
        Ok(Before::Running(plan))
    }

    /// Proofs 3 and 4. A restore does without them when there is no database to ask: it may have been lost.
    async fn ask_database(&mut self) -> Result<Proof, Error> {
        match self.sessions_and_jobs().await {
            Err(error) if self.purpose == Purpose::Restore && error.is_absence() => {
                Ok(Proof::Idle(vec![format!(
                    "the agents' sessions and jobqueue were not looked at: {error}"
                )]))
            }
            answer => answer,
        }
    }

    async fn sessions_and_jobs(&mut self) -> Result<Proof, Error> {
        let sessions = self.database.sessions().await?;
        let unfinished = self.database.unfinished().await?;
        if !sessions.is_empty() {
            return Ok(Proof::Busy(sessions));
        }
        Ok(Proof::Idle(vec![
            format!("no agent has a session in database {}", self.settings.database),
            match unfinished.as_slice() {
                [] => "jobqueue has no job that has begun and not ended".to_owned(),
                stale => format!("jobqueue calls jobs {} unfinished; none of them runs", numbers(stale)),
            },
        ]))
    }

    async fn pause_now(&mut self) -> Result<(), Error> {
        // A scheduler that is gone by now crashed: there is nothing to stop, only to drain and to start.
        if let Some(mut connection) = Connection::open(&self.settings.address).await?
            && connection.end("stop").await?
        {
            self.stopping = Some(connection);
        }
        Ok(())
    }

    async fn prove_now(&mut self) -> Result<Proof, Error> {
        let mut busy = Vec::new();
        busy.extend(self.scheduler_at_work().await?);
        busy.extend(self.agents.look()?.iter().map(text_of));
        if !busy.is_empty() {
            return Ok(Proof::Busy(busy));
        }
        let proofs = match self.ask_database().await? {
            Proof::Idle(proofs) => proofs,
            busy @ Proof::Busy(_) => return Ok(busy),
        };
        let address = &self.settings.address;
        let port = match self.scheduler {
            Some(pid) => format!("the scheduler (pid {pid}) has ended and {address} refuses"),
            None => format!("{address} refuses"),
        };
        let own = [port, "no agent and nothing that an agent started is running".to_owned()];
        Ok(Proof::Idle(own.into_iter().chain(proofs).collect()))
    }

    /// Proof 1.
    async fn scheduler_at_work(&mut self) -> Result<Option<String>, Error> {
        if let Some(connection) = &mut self.stopping {
            if !connection.is_closed(CLOSED_PATIENCE).await {
                return Ok(Some(match status_of(&self.settings.address).await? {
                    Some(status) => {
                        format!("the scheduler (pid {}) has {}", status.scheduler, status.jobs_text())
                    }
                    None => "the scheduler is ending".to_owned(),
                }));
            }
            self.stopping = None;
        }
        let Some(mut connection) = Connection::open(&self.settings.address).await? else { return Ok(None) };
        match connection.status().await? {
            // Its last moment, between the end of one connection and that of the port.
            None => Ok(Some("the scheduler is ending".to_owned())),
            Some(status) if Some(status.scheduler) == self.scheduler => {
                Ok(Some(format!("the scheduler (pid {}) still answers", status.scheduler)))
            }
            Some(status) => Err(Error::StartedMeanwhile {
                repository: self.repository.clone(),
                what: format!("a scheduler (pid {})", status.scheduler),
            }),
        }
    }

    /// `die` ends agents on other hosts too; what is left here is killed with all it started.
    async fn kill_now(&mut self) -> Result<(), Error> {
        if let Some(mut connection) = Connection::open(&self.settings.address).await? {
            connection.end("die").await?;
        }
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let mut waited = Duration::ZERO;
            while waited < KILL_GRACE {
                let left = self.agents.look()?;
                if left.is_empty() {
                    return Ok(());
                }
                // Once for SIGTERM; SIGKILL again and again, for what a dying agent still starts.
                if waited.is_zero() || signal == Signal::SIGKILL {
                    signal_all(&left, signal)?;
                }
                tokio::time::sleep(KILL_POLL).await;
                waited += KILL_POLL;
            }
        }
        Ok(())
    }
}

fn signal_all(processes: &[Process], signal: Signal) -> Result<(), Error> {
    let groups: std::collections::BTreeSet<i32> = processes.iter().map(|process| process.group).collect();
    for group in groups {
        process::signal_group(group, signal).map_err(|source| Error::Signal { group, source })?;
    }
    Ok(())
}

/// Tells the scheduler at `address` that there are new rows in its queue; without it, it looks every two minutes. False: no scheduler
/// answers there.
///
/// # Errors
/// Something else answers, or the network fails.
pub async fn announce_jobs(address: &str) -> Result<bool, Error> {
    match Connection::open(address).await? {
        Some(mut connection) => connection.look_at_queue().await,
        None => Ok(false),
    }
}

/// None: no scheduler answers there.
async fn status_of(address: &str) -> Result<Option<Status>, Error> {
    match Connection::open(address).await? {
        Some(mut connection) => connection.status().await,
        None => Ok(None),
    }
}

fn numbers(ids: &[i64]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Adapter for Fossology {
    fn name(&self) -> &'static str {
        "fossology"
    }

    fn look(&mut self) -> BoxFuture<'_, Result<Before, Error>> {
        Box::pin(self.look_now())
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.pause_now())
    }

    fn prove(&mut self) -> BoxFuture<'_, Result<Proof, Error>> {
        Box::pin(self.prove_now())
    }

    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.kill_now())
    }

    fn pause_limit(&self) -> Duration {
        Duration::from_secs(30)
    }
}
