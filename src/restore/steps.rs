//! A restore's job: each phase is in its journal before it begins, and the observer is told.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::event::{Context, Event, Notices as _, Phase};
use crate::journal::{End, JobKind, Journal};
use crate::restore::Error;

/// A job as it goes. Dropped without its end, it counts as failed.
pub(super) struct Job {
    journal: Journal,
    context: Context,
}

impl Job {
    /// Gives it its number.
    pub(super) fn begin(
        state_dir: &Path,
        repository: &str,
        kind: JobKind,
        started_by: &str,
        context: &Context,
    ) -> Result<Self, Error> {
        let journal = Journal::begin(state_dir, repository, kind, started_by, context.clock.now())?;
        context.observer.observe(&Event::Job { id: journal.id() });
        Ok(Self { journal, context: context.clone() })
    }

    /// Its number.
    pub(super) fn id(&self) -> u64 {
        self.journal.id()
    }

    /// A phase that is begun even when the job is to stop: what was begun is brought to an end.
    pub(super) fn step(&mut self, phase: Phase) -> Result<(), Error> {
        self.journal.step(phase, self.context.clock.now())?;
        self.context.observer.phase(phase);
        Ok(())
    }

    /// A phase before which the job may stop.
    pub(super) fn may_stop_before(&mut self, phase: Phase) -> Result<(), Error> {
        self.step(phase)?;
        if self.context.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Writes how it ended.
    pub(super) fn end<T>(mut self, done: Result<T, Error>, told: impl Fn(&T) -> End) -> Result<T, Error> {
        let done = done.map_err(Error::settled);
        let end = match &done {
            Ok(done) => told(done),
            Err(error) => error.end(),
        };
        match (done, self.journal.finish(&end, self.context.clock.now())) {
            (done, Ok(())) => done,
            (Ok(_), Err(unwritten)) => Err(unwritten.into()),
            (Err(error), Err(unwritten)) => {
                // Why the job failed matters more. Without an end it counts as failed.
                let job = self.journal.id();
                self.context
                    .observer
                    .warn(format!("the end of job {job} could not be recorded: {unwritten}"));
                Err(error)
            }
        }
    }
}

/// For what is brought to an end even when the job is to stop.
pub(super) fn uncancelled(context: &Context) -> Context {
    Context { cancel: CancellationToken::new(), ..context.clone() }
}

/// Runs what blocks on a thread that may.
pub(super) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Error>
where
    T: Send + 'static,
    E: Send + 'static,
    Error: From<E>,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Error::Panicked),
    }
}
