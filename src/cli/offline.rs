//! How everything stands, without a daemon: from the vaults, the hold records and the journal.

use jiff::Timestamp;

use super::failure::Failure;
use crate::api::told::{self, Proofs};
use crate::api::wire::{self, DayName, NextRun, NextRunReason, RepositoryStatus};
use crate::config::{Config, Repository, Schedule};
use crate::hold::{self, HoldRecord};
use crate::journal::{self, Job, JobKind, JobState, PendingRestore};
use crate::schedule::Cron;
use crate::vault::{Error, Vault};

/// Every repository of the configuration.
pub fn repositories(config: &Config, now: Timestamp) -> Result<Vec<RepositoryStatus>, Failure> {
    let records =
        Records { jobs: journal::jobs(&config.state_dir)?, holds: hold::pending(&config.state_dir)?, now };
    let status = |repository: &Repository| {
        records.status(repository, journal::pending_restore(&config.state_dir, &repository.name))
    };
    Ok(config.repositories.values().map(status).collect())
}

/// What the state directory says of all repositories.
struct Records {
    jobs: Vec<Job>,
    holds: Vec<HoldRecord>,
    now: Timestamp,
}

impl Records {
    /// A record that cannot be read is told; the rest of the status is known all the same.
    fn status(
        &self,
        repository: &Repository,
        pending: Result<Option<PendingRestore>, journal::Error>,
    ) -> RepositoryStatus {
        let (pending, restore_error) = match pending {
            Ok(pending) => (pending, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let all = || self.jobs.iter().rev().filter(|job| job.repository == repository.name);
        let own = || all().filter(|job| job.kind == JobKind::Backup);
        let others = all().filter(|job| job.kind != JobKind::Backup && job.state == JobState::Running);
        let hold = self.holds.iter().find(|hold| hold.repository == repository.name);
        let seen = look(repository, self.now);
        RepositoryStatus {
            name: repository.name.clone(),
            newest_day_age_seconds: seen.newest.as_ref().map(|day| told::age(day.freeze_point, self.now)),
            newest_day: seen.newest,
            newest_proven_age_seconds: seen
                .proofs
                .newest_proven
                .as_ref()
                .map(|day| told::age(day.freeze_point, self.now)),
            newest_proven_day: seen.proofs.newest_proven,
            last_verify: seen.proofs.last_verify,
            last_drill: seen.proofs.last_drill,
            held: hold.is_some(),
            hold: hold.map(told::hold),
            kept_hold: hold.and_then(told::kept),
            pending_restore: pending.as_ref().map(told::pending_restore),
            restore_error,
            last_attempt: own().next().map(|job| self.told(job)),
            last_success: own().find(|job| job.state == JobState::Succeeded).map(|job| self.told(job)),
            running: own().find(|job| job.state == JobState::Running).map(|job| self.told(job)),
            other_jobs: others.map(|job| self.told(job)).collect(),
            next_run: next(repository.schedule.as_ref(), self.now),
            next_verify: next(repository.verify.schedule.as_ref(), self.now),
            next_drill: next(repository.drill.schedule.as_ref(), self.now),
            schedule: repository.schedule.as_ref().map(|schedule| wire::Schedule {
                cron: schedule.cron.clone(),
                timezone: schedule.timezone.clone(),
                catch_up: schedule.catch_up,
            }),
            vault_error: seen.error,
        }
    }

    /// A job of the journal, as the daemon would tell it.
    fn told(&self, job: &Job) -> wire::Job {
        let until = job.ended.unwrap_or(self.now);
        wire::Job {
            elapsed_seconds: until.duration_since(job.started).as_secs_f64(),
            held: self.holds.iter().any(|hold| hold.repository == job.repository && hold.run == job.id),
            ..told::job(job.clone())
        }
    }
}

/// What a vault shows.
#[derive(Default)]
struct Seen {
    newest: Option<DayName>,
    proofs: Proofs,
    error: Option<String>,
}

fn look(repository: &Repository, now: Timestamp) -> Seen {
    let days = |vault: Vault| vault.days(now).map(|days| (vault, days));
    match Vault::open(&repository.vault, &repository.name).and_then(days) {
        Ok((vault, days)) => Seen {
            newest: days.good.last().map(|day| DayName {
                name: day.name().to_owned(),
                freeze_point: day.manifest().freeze_point,
            }),
            proofs: told::proofs(&vault, &days),
            error: None,
        },
        // Before the first run there is no vault: that is no error to be told.
        Err(Error::NoVault { .. }) if repository.vault.is_dir() => Seen::default(),
        Err(error) => Seen { error: Some(error.to_string()), ..Seen::default() },
    }
}

/// The next time of a schedule, at which a daemon would begin a job.
fn next(schedule: Option<&Schedule>, now: Timestamp) -> Option<NextRun> {
    let schedule = schedule?;
    // The configuration was checked: it parses.
    let cron = Cron::parse(&schedule.cron, &schedule.timezone).ok()?;
    let at = cron.next_after(now)?;
    let local = at.to_zoned(cron.zone().clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    Some(NextRun { at, local, why: NextRunReason::Schedule })
}
