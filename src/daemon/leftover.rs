//! Holds of an earlier life: released before anything is scheduled, and looked at again as long as one is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::daemon::others::{look_at_holds, look_at_restores};
use crate::daemon::state::State;
use crate::event::{Context, Event, Level, Observer};
use crate::hold::{self, Outcome};

/// Whether any hold is left, and the looking after it.
#[derive(Debug, Clone, Default)]
pub struct Leftovers {
    any: Arc<AtomicBool>,
    trying: Arc<AtomicBool>,
}

impl Leftovers {
    /// Releases what earlier lives left. What cannot be released yet shows in the status, and is tried again.
    pub async fn release(&self, state: &State) {
        let config = state.config();
        let context = Context {
            observer: Arc::new(Words),
            cancel: CancellationToken::new(),
            clock: Arc::clone(&state.clock),
        };
        let mut any = false;
        match hold::release_leftovers(&config.state_dir, None, false, &context).await {
            Ok(leftovers) => {
                for leftover in leftovers {
                    any |= tell(&leftover.record.repository, &leftover.outcome);
                }
            }
            Err(error) => {
                tracing::error!("the records of holds cannot be read: {error}");
                any = true;
            }
        }
        self.any.store(any, Ordering::Relaxed);
        if let Err(error) = look_at_holds(state) {
            tracing::warn!("the records of holds cannot be read: {error}");
        }
        if let Err(error) = look_at_restores(state) {
            tracing::warn!("the records of restores cannot be read: {error}");
        }
    }

    /// Is one left?
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Tries again, beside whoever asks; one try at a time.
    pub fn try_again(&self, state: &Arc<State>) {
        if self.trying.swap(true, Ordering::AcqRel) {
            return;
        }
        let (leftovers, state) = (self.clone(), Arc::clone(state));
        tokio::spawn(async move {
            leftovers.release(&state).await;
            leftovers.trying.store(false, Ordering::Release);
        });
    }
}

/// Puts into the log what became of a hold; true when it is left.
fn tell(repository: &str, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Released => {
            tracing::warn!("{repository}: was still held by an earlier run and is released");
            false
        }
        Outcome::InUse => {
            tracing::warn!("{repository}: is held by a run of another process");
            true
        }
        Outcome::Kept { reason } => {
            tracing::warn!("{repository}: stays held: {reason}");
            false
        }
        Outcome::Waiting { error, .. } => {
            tracing::warn!("{repository}: is still held, somebody is releasing it: {error}");
            true
        }
        Outcome::Failed { error, .. } => {
            tracing::error!("{repository}: is STILL PAUSED and cannot be released: {error}");
            true
        }
    }
}

/// What a release says goes into the log.
#[derive(Debug)]
struct Words;

impl Observer for Words {
    fn observe(&self, event: &Event) {
        match event {
            Event::Notice { level: Level::Info, text } => tracing::info!("{text}"),
            Event::Notice { level: Level::Warning, text } => tracing::warn!("{text}"),
            _ => {}
        }
    }
}
