//! The daemon as the socket knows it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::future::join_all;
use tokio::sync::{Semaphore, broadcast, oneshot};

use crate::api::order::Order;
use crate::api::server::{Backend, Refusal};
use crate::api::told;
use crate::api::wire::{self, JobState, Live, SCHEMA};
use crate::config::{self, Adapter};
use crate::daemon::routine::Routine;
use crate::daemon::shelf::{Listing, manifest};
use crate::daemon::state::{Start, State};
use crate::daemon::{metrics, others, work};
use crate::journal::JobKind;

/// How long a status waits for a look into a vault before it shows what was seen before.
const STATUS_PATIENCE: Duration = Duration::from_millis(300);
/// How long somebody who asks for the days themselves waits.
const DAYS_PATIENCE: Duration = Duration::from_secs(20);
/// How long a run may take until it has its number.
const NUMBER_PATIENCE: Duration = Duration::from_secs(10);
/// How many manifests are read at one time: a hanging vault must not take all threads.
const READERS: usize = 4;

/// The daemon as the socket knows it.
#[derive(Debug)]
pub struct Daemon {
    state: Arc<State>,
    readers: Semaphore,
}

impl Daemon {
    /// Over what the daemon knows.
    #[must_use]
    pub fn new(state: Arc<State>) -> Self {
        Self { state, readers: Semaphore::new(READERS) }
    }

    fn repository(&self, name: &str) -> Result<config::Repository, Refusal> {
        let config = self.state.config();
        config.repositories.get(name).cloned().ok_or_else(|| Refusal::no_such_repository(name))
    }

    async fn repository_status(
        &self,
        repository: &config::Repository,
        jobs: &[wire::Job],
    ) -> wire::RepositoryStatus {
        let name = &repository.name;
        let listing = self.state.shelf.listing(&repository.vault, name, STATUS_PATIENCE).await;
        let newest = listing.as_ref().and_then(|listing| listing.days.first());
        let now = self.state.clock.now();
        let proofs = listing.as_ref().map(|listing| listing.proofs.clone()).unwrap_or_default();
        let all = || jobs.iter().filter(|job| job.repository == *name);
        let of_this = || all().filter(|job| job.kind == "backup");
        let others = all().filter(|job| job.kind != "backup" && job.state == JobState::Running);
        let waiting = self.state.waiting(name);
        wire::RepositoryStatus {
            name: name.clone(),
            newest_day: newest
                .map(|day| wire::DayName { name: day.name.clone(), freeze_point: day.freeze_point }),
            newest_day_age_seconds: newest.map(|day| told::age(day.freeze_point, now)),
            newest_proven_age_seconds: proofs
                .newest_proven
                .as_ref()
                .map(|day| told::age(day.freeze_point, now)),
            newest_proven_day: proofs.newest_proven,
            last_verify: proofs.last_verify,
            last_drill: proofs.last_drill,
            held: self.state.is_held(name),
            hold: waiting.hold,
            kept_hold: waiting.kept,
            pending_restore: waiting.restore,
            restore_error: waiting.restore_error,
            last_attempt: of_this().next().cloned(),
            last_success: of_this().find(|job| job.state == JobState::Succeeded).cloned(),
            running: of_this().find(|job| job.state == JobState::Running).cloned(),
            other_jobs: others.cloned().collect(),
            next_run: self.state.next(&Routine::new(name, JobKind::Backup)),
            next_verify: self.state.next(&Routine::new(name, JobKind::Verify)),
            next_drill: self.state.next(&Routine::new(name, JobKind::Drill)),
            schedule: schedule(repository),
            vault_error: vault_error(listing.as_deref()),
        }
    }
}

impl Backend for Daemon {
    async fn status(&self) -> wire::Status {
        others::refresh(&self.state).await;
        let config = self.state.config();
        let jobs = self.state.jobs();
        let repositories = config.repositories.values().map(|found| self.repository_status(found, &jobs));
        let repositories = join_all(repositories).await;
        wire::Status {
            schema: SCHEMA,
            newest_day_age_seconds: told::worst(
                repositories.iter().map(|found| found.newest_day_age_seconds),
            ),
            newest_proven_age_seconds: told::worst(
                repositories.iter().map(|found| found.newest_proven_age_seconds),
            ),
            held: repositories.iter().any(|found| found.held),
            repositories,
            config: self.state.config_status(),
            daemon: wire::DaemonStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started: self.state.started,
                stopping: self.state.is_stopping(),
            },
            now: self.state.clock.now(),
        }
    }

    fn repositories(&self) -> Vec<wire::Repository> {
        let config = self.state.config();
        let found = config.repositories.values().map(|found| wire::Repository {
            name: found.name.clone(),
            vault: found.vault.display().to_string(),
            hold: adapter(&found.hold.adapter).to_owned(),
            database: found.database.is_some(),
            trees: found.trees.keys().cloned().collect(),
            schedule: schedule(found),
        });
        found.collect()
    }

    async fn jobs(&self) -> Vec<wire::Job> {
        others::refresh(&self.state).await;
        self.state.jobs()
    }

    async fn job(&self, id: u64) -> Option<wire::Job> {
        others::refresh(&self.state).await;
        self.state.job(id)
    }

    async fn days(&self, repository: &str) -> Result<wire::Days, Refusal> {
        let found = self.repository(repository)?;
        let listing = self.state.shelf.listing(&found.vault, repository, DAYS_PATIENCE).await;
        match listing.as_deref() {
            Some(Listing { error: None, days, quarantined, .. }) => Ok(wire::Days {
                schema: SCHEMA,
                repository: repository.to_owned(),
                days: days.clone(),
                quarantined: quarantined.clone(),
            }),
            other => Err(no_vault(vault_error(other).unwrap_or_else(hangs))),
        }
    }

    async fn day(&self, repository: &str, day: &str) -> Result<wire::OneDay, Refusal> {
        let found = self.repository(repository)?;
        let look = async {
            let _reader = self.readers.acquire().await;
            let (vault, repository, wanted) = (found.vault, repository.to_owned(), day.to_owned());
            let now = self.state.clock.now();
            tokio::task::spawn_blocking(move || manifest(&vault, &repository, &wanted, now)).await
        };
        match tokio::time::timeout(DAYS_PATIENCE, look).await {
            Ok(Ok(Ok(Some(manifest)))) => Ok(wire::OneDay { schema: SCHEMA, manifest }),
            Ok(Ok(Ok(None))) => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "no_such_day",
                format!("{repository} has no day {day:?}"),
            )
            .hint(format!("GET /v1/repositories/{repository}/days lists them"))),
            Ok(Ok(Err(error))) => Err(no_vault(error.to_string())),
            Ok(Err(error)) => Err(no_vault(error.to_string())),
            Err(_) => Err(no_vault(hangs())),
        }
    }

    async fn start(&self, repository: &str, order: Order, user: &str) -> Result<wire::Job, Refusal> {
        work::check(&order)?;
        // A run in the foreground has the vault: better told now than by a job that fails.
        others::refresh(&self.state).await;
        let (reply, answer) = oneshot::channel();
        let start = Start { repository: repository.to_owned(), order, user: user.to_owned(), reply };
        let gone = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the daemon is stopping");
        self.state.starts.send(start).await.map_err(|_| gone())?;
        let number = answer.await.map_err(|_| gone())??;
        let failed = |message: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "run", message);
        match tokio::time::timeout(NUMBER_PATIENCE, number).await {
            Ok(Ok(Ok(id))) => self.state.job(id).ok_or_else(|| Refusal::no_such_job(&id.to_string())),
            Ok(Ok(Err(error))) => Err(failed(error)),
            Ok(Err(_)) => Err(failed("the run could not begin".to_owned())),
            Err(_) => Err(failed("the run has begun, but its journal is slow".to_owned())
                .hint("GET /v1/status shows it as soon as it has a number")),
        }
    }

    fn cancel(&self, id: u64, user: &str) -> Result<wire::Job, Refusal> {
        let found = self.state.cancel(id).ok_or_else(|| Refusal::no_such_job(&id.to_string()))?;
        match found {
            (job, true) => {
                tracing::info!("{}: {user} cancels job {id}", job.repository);
                Ok(job)
            }
            (job, false) if job.state == JobState::Running => Err(Refusal::new(
                StatusCode::CONFLICT,
                "not_ours",
                format!("job {id} of {} is done by another process than the daemon", job.repository),
            )
            .hint("interrupt it where it was started: it releases the repository first")),
            (job, false) => Ok(job),
        }
    }

    fn subscribe(&self) -> (Vec<wire::Job>, broadcast::Receiver<Live>) {
        self.state.subscribe()
    }

    async fn metrics(&self) -> String {
        let status = self.status().await;
        let jobs = self.state.jobs();
        let mut figures = Vec::new();
        for repository in &status.repositories {
            let phases = repository.last_attempt.as_ref().map(|job| self.state.phases(job.id));
            let vault = self.repository(&repository.name).map(|found| found.vault).unwrap_or_default();
            let listing = self.state.shelf.listing(&vault, &repository.name, STATUS_PATIENCE).await;
            let is_ended = |job: &wire::Job| job.repository == repository.name && job.ended.is_some();
            let ended = jobs.iter().find(|job| is_ended(job) && job.kind == "backup").cloned();
            figures.push(metrics::Figures { repository, ended, phases: phases.unwrap_or_default(), listing });
        }
        metrics::text(&status, &figures)
    }

    fn group(&self) -> String {
        self.state.config().daemon.group.clone()
    }
}

fn schedule(repository: &config::Repository) -> Option<wire::Schedule> {
    repository.schedule.as_ref().map(|schedule| wire::Schedule {
        cron: schedule.cron.clone(),
        timezone: schedule.timezone.clone(),
        catch_up: schedule.catch_up,
    })
}

fn adapter(adapter: &Adapter) -> &'static str {
    match adapter {
        Adapter::Fossology(_) => "fossology",
        Adapter::Systemd(_) => "systemd",
        Adapter::Command(_) => "command",
        Adapter::Http(_) => "http",
        Adapter::None => "none",
    }
}

fn vault_error(listing: Option<&Listing>) -> Option<String> {
    match listing {
        Some(listing) => listing.error.clone(),
        None => Some(hangs()),
    }
}

fn hangs() -> String {
    "the vault does not answer: is its mount alive?".to_owned()
}

fn no_vault(message: String) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "vault", message)
}
