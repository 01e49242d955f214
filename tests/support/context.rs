//! What every part is handed: whom it tells, what stops it, what time it is, and the word that the repository stands still.

use std::sync::Arc;

use daykeep::clock::SystemClock;
use daykeep::event::{Context, Event, Recording, SharedObserver, Silent};
use daykeep::manifest::{Released, Still};

/// Says what a hold would prove.
pub struct Witness;
impl Still for Witness {}
impl Released for Witness {}

/// Nobody listens.
pub fn context() -> Context {
    told_to(Arc::new(Silent))
}

/// All that is told is kept.
pub fn recorded() -> (Context, Arc<Recording>) {
    let heard = Arc::new(Recording::default());
    (told_to(heard.clone()), heard)
}

fn told_to(observer: SharedObserver) -> Context {
    let cancel = tokio_util::sync::CancellationToken::new();
    Context { observer, cancel, clock: Arc::new(SystemClock::new()) }
}

/// The sentences for people among what was told.
pub fn notices(heard: &Recording) -> Vec<String> {
    let text = |event| if let Event::Notice { text, .. } = event { Some(text) } else { None };
    heard.events().into_iter().filter_map(text).collect()
}
