//! The journals' jobs in the words of the socket.

use crate::api::wire;
use crate::journal::{Job, JobState};

/// A job of an earlier life.
#[must_use]
pub fn told(job: Job) -> wire::Job {
    wire::Job {
        id: job.id,
        kind: job.kind.word().to_owned(),
        repository: job.repository,
        state: state(job.state),
        phase: job.phase,
        message: job.message,
        current: 0,
        total: None,
        unit: None,
        error: job.error,
        detail: job.detail,
        started_by: job.started_by,
        started: job.started,
        ended: job.ended,
        elapsed_seconds: 0.0,
        held: false,
        held_seconds: None,
        paused_seconds: None,
        day: job.day,
    }
}

fn state(state: JobState) -> wire::JobState {
    match state {
        JobState::Running => wire::JobState::Running,
        JobState::Succeeded => wire::JobState::Succeeded,
        JobState::Failed => wire::JobState::Failed,
        JobState::Skipped => wire::JobState::Skipped,
        JobState::Cancelled => wire::JobState::Cancelled,
    }
}
