//! The daemon, as the verbs ask it.

use serde_json::json;

use super::failure::{Failure, Kind};
use super::session::{Session, wait_for};
use crate::api::client::Client;
use crate::api::order::Order;
use crate::api::wire::{Job, JobState};

/// The daemon of the configuration.
pub fn client(session: &Session) -> Result<Client, Failure> {
    Ok(Client::new(session.config()?.daemon.socket))
}

/// Has the daemon do it; whoever asked goes on with other things.
pub fn start(repository: &str, order: &Order, session: &Session) -> Result<(), Failure> {
    let client = client(session)?;
    let job = wait_for(async { Ok(client.start(repository, order).await?) })?;
    if session.out.json {
        return session.out.document(&json!({"job": job}));
    }
    session.out.say(&format!("follow it with `daykeep watch {}`", job.id));
    session.out.text(&format!("job {} of {} is started\n", job.id, job.repository))
}

/// A job's number on the command line.
pub fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "a job is called by its number, as `daykeep status` shows it".to_owned())
}

/// How a job that has ended is told: its line, or the failure that it is.
pub fn ended(job: &Job) -> Result<String, Failure> {
    let name = format!("job {} ({} of {})", job.id, job.kind, job.repository);
    let error = || job.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    match job.state {
        JobState::Running => Ok(format!("{name} is running")),
        JobState::Succeeded => {
            let day = job.day.as_deref().map(|day| format!(": day {day}")).unwrap_or_default();
            Ok(format!("{name} succeeded{day}"))
        }
        JobState::Skipped => Err(Failure::new(Kind::Busy, format!("{name} was skipped{}", error()))),
        JobState::Cancelled => Err(Failure::new(Kind::Failed, format!("{name} was cancelled"))),
        JobState::Failed => Err(Failure::new(Kind::Failed, format!("{name} failed{}", error()))
            .caused_by(job.detail.as_deref().unwrap_or_default().lines())),
    }
}
