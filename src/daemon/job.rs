//! One job, from its start to its end, on a thread of its own: a flow may wait for disks without keeping the
//! executor from answering.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::api::wire::JobState;
use crate::daemon::routine::Routine;
use crate::daemon::state::{End, State};
use crate::daemon::watch::Watch;
use crate::daemon::work::{Work, end_of, perform};
use crate::event::Context;
use crate::journal::JobKind;

/// What is to be done, and who waits for it.
#[derive(Debug)]
pub struct Task {
    /// What is to be done.
    pub work: Work,
    /// Stops it.
    pub cancel: CancellationToken,
    /// Whoever waits for its number.
    pub asker: Option<oneshot::Sender<Result<u64, String>>>,
}

/// A job that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub routine: Routine,
    /// Its number, if it came so far. That it has ended is for the loop to make known, which then takes the next one.
    pub number: Option<u64>,
    /// How.
    pub end: End,
}

/// Does it to its end, whatever end that is.
pub async fn carry_out(task: Task, state: Arc<State>) -> Ended {
    let Task { work, cancel, asker } = task;
    let routine = Routine::new(&work.repository.name, work.order.kind());
    let watch =
        Arc::new(Watch::new(Arc::clone(&state), routine.clone(), &work.started_by, asker, cancel.clone()));
    let context = Context {
        observer: Arc::clone(&watch) as _,
        cancel: cancel.clone(),
        clock: Arc::clone(&state.clock),
    };
    let runtime = tokio::runtime::Handle::current();
    let state_dir = work.state_dir.clone();
    let done = tokio::task::spawn_blocking(move || runtime.block_on(perform(work, &context))).await;
    let done = done.unwrap_or_else(|panic| Err(format!("the job broke off by a fault in daykeep: {panic}")));
    let number = watch.number();
    let end = tokio::task::spawn_blocking(move || end_of(done, &state_dir, number)).await;
    let end = end.unwrap_or_else(|panic| End {
        state: JobState::Failed,
        error: Some(format!("how the job ended cannot be told: {panic}")),
        detail: None,
        day: None,
    });
    log(&routine, number, &end);
    if number.is_none() {
        watch.tell(Err(end.error.clone().unwrap_or_else(|| "the job could not begin".to_owned())));
    }
    Ended { routine, number, end }
}

fn log(routine: &Routine, job: Option<u64>, end: &End) {
    let (repository, name) = (&routine.repository, routine.name());
    let error = end.error.as_deref().unwrap_or_default();
    // The sentence has the chain of causes; what a verify or drill found it has not.
    let found = end.detail.as_deref().unwrap_or_default().lines().filter(|line| !error.contains(line));
    let detail = found.collect::<Vec<_>>().join("; ");
    match end.state {
        JobState::Succeeded => {
            let day = end.day.as_deref().unwrap_or_default();
            let done = match routine.kind {
                JobKind::Backup => "kept",
                JobKind::Restore => "restored",
                JobKind::Settle => "settled the restore of",
                JobKind::Verify => "found whole",
                JobKind::Drill => "proved",
                JobKind::Prune => "pruned",
            };
            // A verify has no day.
            let done = format!("{done} {day}");
            tracing::info!(repository, job, "{name}: {}", done.trim_end());
        }
        JobState::Skipped => tracing::warn!(repository, job, "{name}: skipped: {error}"),
        JobState::Cancelled => tracing::warn!(repository, job, "{name}: cancelled"),
        JobState::Failed | JobState::Running if detail.is_empty() => {
            tracing::error!(repository, job, "{name}: failed: {error}");
        }
        JobState::Failed | JobState::Running => {
            tracing::error!(repository, job, detail, "{name}: failed: {error}");
        }
    }
}
