//! Why a job cannot begin that somebody asks for.

use axum::http::StatusCode;

use crate::api::server::Refusal;
use crate::api::wire::{self, JobState};
use crate::daemon::routine::Routine;
use crate::daemon::state::State;
use crate::journal::JobKind;

/// Why it cannot begin now: a job of ours that excludes it, or one that another process does. `in_the_way` is one of ours that may have no
/// number yet.
pub fn already_running(state: &State, routine: &Routine, in_the_way: Option<&Routine>) -> Option<Refusal> {
    let ours = state.running_jobs();
    let jobs = state.jobs();
    let excludes = |job: &&wire::Job| {
        let kind = JobKind::of_word(&job.kind);
        job.state == JobState::Running
            && kind.is_some_and(|kind| Routine::new(&job.repository, kind).excludes(routine))
    };
    let job = jobs.iter().find(excludes);
    let repository = &routine.repository;
    let (message, hint) = match job {
        Some(job) if ours.contains(&job.id) => (
            format!("job {} of {repository} is going on", job.id),
            format!("GET /v1/jobs/{} shows how far it is", job.id),
        ),
        Some(job) => (
            format!("job {} of {repository} is going on in another process", job.id),
            format!("wait for its end, or interrupt `daykeep {}` where it was started", verb(&job.kind)),
        ),
        // It has no number yet.
        None => {
            let running = in_the_way?;
            let message = format!("a {} of {repository} is going on", running.kind.word());
            (message, "GET /v1/status shows it".to_owned())
        }
    };
    Some(Refusal::new(StatusCode::CONFLICT, "already_running", message).hint(hint))
}

/// The command that does such jobs.
fn verb(kind: &str) -> &str {
    match kind {
        "backup" => "run",
        "settle" => "restore",
        kind => kind,
    }
}
