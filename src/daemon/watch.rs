//! The observer of one run: what it hears becomes the job as the status shows it, lines of the event stream, and log.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::api::wire::Live;
use crate::daemon::routine::Routine;
use crate::daemon::state::State;
use crate::event::{Event, Level, Observer};

/// How often progress goes into the event stream; the status always has the newest.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Watches one run.
#[derive(Debug)]
pub struct Watch {
    state: Arc<State>,
    routine: Routine,
    started_by: String,
    cancel: CancellationToken,
    number: OnceLock<u64>,
    /// Whoever asked for the run wants to know its number, or why it has none.
    asker: Mutex<Option<oneshot::Sender<Result<u64, String>>>>,
    last_progress: Mutex<Option<Duration>>,
}

impl Watch {
    /// Watches a job that `started_by` asked for.
    #[must_use]
    pub fn new(
        state: Arc<State>,
        routine: Routine,
        started_by: &str,
        asker: Option<oneshot::Sender<Result<u64, String>>>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            state,
            routine,
            started_by: started_by.to_owned(),
            cancel,
            number: OnceLock::new(),
            asker: Mutex::new(asker),
            last_progress: Mutex::default(),
        }
    }

    /// The run's number in the journal, once it has one.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.number.get().copied()
    }

    /// Tells whoever asked, if anybody still waits.
    pub fn tell(&self, answer: Result<u64, String>) {
        if let Some(asker) = self.asker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody waits any more: that is theirs.
            let _ = asker.send(answer);
        }
    }

    fn is_told(&self, event: &Event) -> bool {
        if !matches!(event, Event::Progress { .. }) {
            return true;
        }
        let now = self.state.clock.monotonic();
        let mut last = self.last_progress.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_sub(last) >= PROGRESS_EVERY);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl Observer for Watch {
    fn observe(&self, event: &Event) {
        if let Event::Job { id } = event {
            if self.number.set(*id).is_err() {
                return;
            }
            self.state.job_begins(*id, &self.routine, &self.started_by, self.cancel.clone());
            self.tell(Ok(*id));
        }
        let Some(id) = self.number() else {
            return;
        };
        log(&self.routine.name(), &self.routine.repository, id, event);
        self.state.job_hears(id, event);
        if self.is_told(event) {
            self.state.tell(Live::Event {
                id,
                repository: self.routine.repository.clone(),
                at: self.state.clock.now(),
                happened: event.clone(),
            });
        }
    }
}

fn log(name: &str, repository: &str, job: u64, event: &Event) {
    match event {
        Event::Job { .. } => tracing::info!(repository, job, "{name}: job {job} begins"),
        Event::Phase { phase } => tracing::info!(repository, job, "{name}: {}", phase.word()),
        Event::Progress { .. } => {}
        Event::Notice { level: Level::Info, text } => tracing::info!(repository, job, "{name}: {text}"),
        Event::Notice { level: Level::Warning, text } => {
            tracing::warn!(repository, job, "{name}: {text}");
        }
        Event::Held => tracing::info!(repository, job, "{name}: held, proven idle"),
        Event::Released { held_seconds, paused_seconds, .. } => tracing::info!(
            repository,
            job,
            "{name}: released, held for {held_seconds:.1} s, paused for {paused_seconds:.1} s"
        ),
    }
}
