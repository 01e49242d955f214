//! `daykeep watch`

use std::collections::BTreeMap;

use serde::Serialize;

use super::failure::{Failure, Kind};
use super::progress::Progress;
use super::remote;
use super::session::{Session, wait_for};
use crate::api::client::Client;
use crate::api::wire::{Job, JobState, Live};
use crate::event::Level;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Watch this job, until it ends, and exit as it did; without it, watch everything until interrupted.
    #[arg(value_parser = remote::number)]
    job: Option<u64>,
}

/// Shows what the daemon does, as it does it.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let client = remote::client(session)?;
    wait_for(watch(&client, args.job, session))
}

/// The jobs on the screen.
struct Screen<'a> {
    session: &'a Session,
    jobs: BTreeMap<u64, Progress>,
}

/// Watches one job to its end, or everything.
pub async fn watch(client: &Client, only: Option<u64>, session: &Session) -> Result<(), Failure> {
    // The stream first: a job that ends between the two questions is seen by one of them.
    let mut events = client.events().await?;
    let mut screen = Screen { session, jobs: BTreeMap::new() };
    if let Some(id) = only {
        let job = client.job(id).await?;
        if job.state != JobState::Running {
            screen.json(&Live::Job { job: Box::new(job.clone()) })?;
            return screen.ended(&job);
        }
    }
    while let Some(live) = events.next().await? {
        if only.is_some_and(|id| number_of(&live).is_some_and(|other| other != id)) {
            continue;
        }
        screen.json(&live)?;
        match &live {
            Live::Job { job } if job.state != JobState::Running => {
                let ended = screen.ended(job);
                if only.is_some() {
                    return ended;
                }
                if let Err(failure) = ended {
                    session.out.say(failure.render().trim_end());
                }
            }
            _ if !session.out.json => screen.show(&live)?,
            _ => {}
        }
        if let Live::End { reason } = live {
            return Err(Failure::new(Kind::Failed, format!("the daemon ends: {reason}")));
        }
    }
    Err(Failure::new(Kind::Failed, "the daemon has ended the stream of events"))
}

fn number_of(live: &Live) -> Option<u64> {
    match live {
        Live::Job { job } => Some(job.id),
        Live::Event { id, .. } => Some(*id),
        _ => None,
    }
}

impl Screen<'_> {
    /// For a script: every line as it came.
    fn json(&self, live: &impl Serialize) -> Result<(), Failure> {
        if self.session.out.json { self.session.out.line(live) } else { Ok(()) }
    }

    /// For a person: the events are what was asked for, so they go to stdout.
    fn show(&mut self, live: &Live) -> Result<(), Failure> {
        let out = self.session.out;
        let sentence = match live {
            Live::Job { job } => {
                self.of(job.id, &job.repository);
                begun(job)
            }
            Live::Event { id, repository, happened, .. } => {
                let progress = self.of(*id, repository);
                let Some((level, sentence)) = progress.step(happened) else { return Ok(()) };
                let mark = if level == Level::Warning { "warning: " } else { "" };
                return progress.aside(|| out.text(&format!("{mark}{sentence}\n")));
            }
            Live::Missed { count } => format!("this reader was too slow: {count} events are left out"),
            Live::Config { error: None } => "the configuration was read again".to_owned(),
            Live::Config { error: Some(error) } => format!("the configuration was not read again: {error}"),
            Live::End { .. } => return Ok(()),
        };
        out.text(&format!("{sentence}\n"))
    }

    fn of(&mut self, id: u64, repository: &str) -> &Progress {
        let session = self.session;
        self.jobs.entry(id).or_insert_with(|| session.progress(format!("{repository} #{id}: ")))
    }

    fn ended(&mut self, job: &Job) -> Result<(), Failure> {
        if let Some(progress) = self.jobs.remove(&job.id) {
            progress.finish();
        }
        let line = remote::ended(job);
        if self.session.out.json {
            // The job itself was the last line.
            return line.map(|_| ()).map_err(|failure| Failure::told(failure.kind()));
        }
        self.session.out.text(&format!("{}\n", line?))
    }
}

fn begun(job: &Job) -> String {
    let phase = job.phase.map(|phase| format!(", in phase {}", phase.word())).unwrap_or_default();
    format!("{} #{}: {} started by {}{phase}", job.repository, job.id, job.kind, job.started_by)
}
