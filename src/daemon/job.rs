//! One run, from its start to its end, on a thread of its own: the flow may wait for disks without keeping the
//! executor from answering.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::api::wire::JobState;
use crate::config::Repository;
use crate::daemon::state::{End, State};
use crate::daemon::watch::Watch;
use crate::event::{Context, Event, Observer as _};
use crate::run::{self, Outcome};

/// What is to be run.
#[derive(Debug)]
pub struct Order {
    /// The repository, as configured now.
    pub repository: Repository,
    /// Where the durable records live.
    pub state_dir: PathBuf,
    /// The `daykeep` program.
    pub guard: PathBuf,
    /// `schedule`, `catch-up`, `retry`, or a user.
    pub started_by: String,
    /// Stops it.
    pub cancel: CancellationToken,
    /// Whoever waits for its number.
    pub asker: Option<oneshot::Sender<Result<u64, String>>>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Of which repository.
    pub repository: String,
    /// Was it skipped because the repository was busy?
    pub skipped: bool,
}

/// Runs it to its end, whatever end that is.
pub async fn carry_out(order: Order, state: Arc<State>) -> Ended {
    let Order { repository, state_dir, guard, started_by, cancel, asker } = order;
    let name = repository.name.clone();
    let watch = Arc::new(Watch::new(Arc::clone(&state), &name, &started_by, asker, cancel.clone()));
    let context = Context {
        observer: Arc::clone(&watch) as _,
        cancel: cancel.clone(),
        clock: Arc::clone(&state.clock),
    };
    let request = run::Request { repository, state_dir, guard, started_by };
    let runtime = tokio::runtime::Handle::current();
    let ran = tokio::task::spawn_blocking(move || runtime.block_on(run::backup(&request, &context))).await;
    let end = match &ran {
        Ok(outcome) => end_of(outcome, cancel.is_cancelled()),
        Err(panic) => failed(format!("the run broke off by a fault in daykeep: {panic}"), None),
    };
    if let Ok(Ok(Outcome::Sealed { job, .. } | Outcome::Skipped { job, .. })) = &ran {
        watch.observe(&Event::Job { id: *job });
    }
    log(&name, watch.number(), &end);
    match watch.number() {
        Some(id) => state.job_ends(id, end.clone()),
        None => watch.tell(Err(end.error.clone().unwrap_or_else(|| "the run could not begin".to_owned()))),
    }
    state.shelf.forget(&name);
    Ended { repository: name, skipped: end.state == JobState::Skipped }
}

fn end_of(outcome: &Result<Outcome, run::Error>, cancelled: bool) -> End {
    match outcome {
        Ok(Outcome::Sealed { manifest, .. }) => {
            End { state: JobState::Succeeded, error: None, detail: None, day: Some(manifest.day.clone()) }
        }
        Ok(Outcome::Skipped { reason, .. }) => {
            End { state: JobState::Skipped, error: Some(reason.clone()), detail: None, day: None }
        }
        Err(error) => {
            let end = failed(error.to_string(), causes(error));
            let asked = cancelled || matches!(error, run::Error::Cancelled);
            End { state: if asked { JobState::Cancelled } else { JobState::Failed }, ..end }
        }
    }
}

fn failed(error: String, detail: Option<String>) -> End {
    End { state: JobState::Failed, error: Some(error), detail, day: None }
}

/// What is behind an error, one cause a line.
fn causes(error: &run::Error) -> Option<String> {
    let lines = error.causes();
    (!lines.is_empty()).then_some(lines)
}

fn log(repository: &str, job: Option<u64>, end: &End) {
    let error = end.error.as_deref().unwrap_or_default();
    let detail = end.detail.as_deref().unwrap_or_default().replace('\n', ": ");
    match end.state {
        JobState::Succeeded => {
            let day = end.day.as_deref().unwrap_or_default();
            tracing::info!(repository, job, "{repository}: kept {day}");
        }
        JobState::Skipped => tracing::warn!(repository, job, "{repository}: skipped: {error}"),
        JobState::Cancelled => tracing::warn!(repository, job, "{repository}: cancelled"),
        JobState::Failed | JobState::Running => {
            tracing::error!(repository, job, detail, "{repository}: failed: {error}");
        }
    }
}
