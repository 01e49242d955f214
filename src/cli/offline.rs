//! How everything stands, without a daemon: from the vaults, the hold records and the journal.

use jiff::Timestamp;

use super::failure::Failure;
use crate::api::wire::{self, DayName, NextRun, NextRunReason, RepositoryStatus};
use crate::config::{Config, Repository};
use crate::hold::{self, HoldRecord};
use crate::journal::{self, Job, JobState};
use crate::schedule::Cron;
use crate::vault::Vault;

/// Every repository of the configuration.
pub fn repositories(config: &Config, now: Timestamp) -> Result<Vec<RepositoryStatus>, Failure> {
    let jobs = journal::jobs(&config.state_dir)?;
    let holds = hold::pending(&config.state_dir)?;
    Ok(config.repositories.values().map(|repository| status(repository, &jobs, &holds, now)).collect())
}

fn status(repository: &Repository, jobs: &[Job], holds: &[HoldRecord], now: Timestamp) -> RepositoryStatus {
    let own = || jobs.iter().rev().filter(|job| job.repository == repository.name);
    let (newest_day, vault_error) = newest_day(repository, now);
    RepositoryStatus {
        name: repository.name.clone(),
        newest_day_age_seconds: newest_day
            .as_ref()
            .map(|day| u64::try_from(now.as_second() - day.freeze_point.as_second()).unwrap_or(0)),
        newest_day,
        held: holds.iter().any(|hold| hold.repository == repository.name),
        last_attempt: own().next().map(|job| as_wire(job, holds, now)),
        last_success: own().find(|job| job.state == JobState::Succeeded).map(|job| as_wire(job, holds, now)),
        running: own().find(|job| job.state == JobState::Running).map(|job| as_wire(job, holds, now)),
        next_run: next_run(repository, now),
        schedule: repository.schedule.as_ref().map(|schedule| wire::Schedule {
            cron: schedule.cron.clone(),
            timezone: schedule.timezone.clone(),
            catch_up: schedule.catch_up,
        }),
        vault_error,
    }
}

fn newest_day(repository: &Repository, now: Timestamp) -> (Option<DayName>, Option<String>) {
    // Before the first run there is no vault: that is no error to be told.
    let Ok(vault) = Vault::open(&repository.vault, &repository.name) else {
        let missing = !repository.vault.is_dir();
        let error = format!("{} is not there: is the disk mounted?", repository.vault.display());
        return (None, missing.then_some(error));
    };
    match vault.newest_good(now) {
        Ok(day) => {
            let name = |day: crate::vault::Day| DayName {
                name: day.name().to_owned(),
                freeze_point: day.manifest().freeze_point,
            };
            (day.map(name), None)
        }
        Err(error) => (None, Some(error.to_string())),
    }
}

/// The next time of the schedule, at which a daemon would begin a run.
fn next_run(repository: &Repository, now: Timestamp) -> Option<NextRun> {
    let schedule = repository.schedule.as_ref()?;
    // The configuration was checked: it parses.
    let cron = Cron::parse(&schedule.cron, &schedule.timezone).ok()?;
    let at = cron.next_after(now)?;
    let local = at.to_zoned(cron.zone().clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    Some(NextRun { at, local, why: NextRunReason::Schedule })
}

/// A job of the journal, as the daemon would tell it.
fn as_wire(job: &Job, holds: &[HoldRecord], now: Timestamp) -> wire::Job {
    let until = job.ended.unwrap_or(now);
    wire::Job {
        id: job.id,
        kind: job.kind.word().to_owned(),
        repository: job.repository.clone(),
        state: match job.state {
            JobState::Running => wire::JobState::Running,
            JobState::Succeeded => wire::JobState::Succeeded,
            JobState::Failed => wire::JobState::Failed,
            JobState::Skipped => wire::JobState::Skipped,
            JobState::Cancelled => wire::JobState::Cancelled,
        },
        phase: job.phase,
        message: job.message.clone(),
        current: 0,
        total: None,
        unit: None,
        error: job.error.clone(),
        detail: job.detail.clone(),
        started_by: job.started_by.clone(),
        started: job.started,
        ended: job.ended,
        elapsed_seconds: until.duration_since(job.started).as_secs_f64(),
        held: holds.iter().any(|hold| hold.repository == job.repository && hold.run == job.id),
        held_seconds: None,
        paused_seconds: None,
        day: job.day.clone(),
    }
}
