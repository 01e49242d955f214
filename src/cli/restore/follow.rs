//! A restore as it goes, and the signals that ask it to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cli::failure::{Failure, Kind};
use crate::cli::progress::Progress;
use crate::cli::session::Session;
use crate::cli::signals::{Signal, Signals};
use crate::event::{Context, Event, Observer, Phase};
use crate::restore::Error;

/// Nothing has been done yet.
const FREE: u8 = 0;
/// Paused, and nothing that is there has changed.
const HELD: u8 = 1;
/// What is there is being replaced: this goes on to its end.
const SWITCHING: u8 = 2;
/// Something was put beside what is there, or to another place; nothing is paused.
const BESIDE: u8 = 3;

/// Shows the work, and knows what a signal would break.
struct Watcher {
    progress: Arc<Progress>,
    state: AtomicU8,
}

impl Observer for Watcher {
    fn observe(&self, event: &Event) {
        match event {
            Event::Phase { phase: Phase::Hold } => self.state.store(HELD, Ordering::SeqCst),
            Event::Phase { phase: Phase::Switch | Phase::Settle } => {
                self.state.store(SWITCHING, Ordering::SeqCst);
            }
            Event::Phase { phase: Phase::Load | Phase::Stage } => {
                let _ = self.state.compare_exchange(FREE, BESIDE, Ordering::SeqCst, Ordering::SeqCst);
            }
            Event::Released { .. } => self.state.store(BESIDE, Ordering::SeqCst),
            _ => {}
        }
        self.progress.observe(event);
    }
}

/// Does the work in the foreground. The first signal cancels it, but not inside the switch; a later one ends the program at once, but not while
/// the repository is paused.
pub fn until_done_or_told<T, W>(
    session: &Session,
    what: &str,
    work: impl FnOnce(Context, Arc<Progress>) -> W,
) -> Result<T, Failure>
where
    W: Future<Output = Result<T, Error>>,
{
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(Kind::Failed, format!("cannot start the runtime: {error}")))?;
    let progress = Arc::new(session.progress(""));
    let watcher = Arc::new(Watcher { progress: Arc::clone(&progress), state: AtomicU8::new(FREE) });
    let cancel = CancellationToken::new();
    let context = session.context_with(Arc::clone(&watcher) as Arc<dyn Observer>, cancel.clone());
    let ended = runtime.block_on(async {
        let work = work(context, Arc::clone(&progress));
        follow(session, what, work, &watcher, &cancel).await
    });
    // A thread that still copies, or waits for an answer, must not keep a program alive that was told to go.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn follow<T>(
    session: &Session,
    what: &str,
    work: impl Future<Output = Result<T, Error>>,
    watcher: &Watcher,
    cancel: &CancellationToken,
) -> Result<T, Failure> {
    let mut signals = Signals::listen()?;
    let mut work = std::pin::pin!(work);
    let mut caught: Option<Signal> = None;
    let ended = loop {
        let signal = tokio::select! {
            biased;
            ended = &mut work => break ended,
            signal = signals.next() => signal,
        };
        match (watcher.state.load(Ordering::SeqCst), caught) {
            (SWITCHING, _) => {
                session.out.warn(&format!(
                    "{signal}: {what} is past the point where it can stop, and goes on to its end"
                ));
            }
            (HELD, Some(_)) => {
                session.out.warn(&format!("{signal} is not heeded before the repository is released"));
            }
            (_, Some(_)) => {
                watcher.progress.finish();
                return Err(Failure::new(Kind::Signal(signal.number), format!("ended by a second {signal}")));
            }
            (HELD, None) => {
                session.out.say(&format!("{signal}: {what} stops, and what it holds is released"));
            }
            (BESIDE, None) => {
                session.out.say(&format!("{signal}: {what} stops, and removes what it has made"));
            }
            (_, None) => session.out.say(&format!("{signal}: {what} stops, and has changed nothing")),
        }
        cancel.cancel();
        caught = caught.or(Some(signal));
    };
    watcher.progress.finish();
    ended.map_err(|error| match caught {
        Some(signal) if matches!(error, Error::Cancelled) => {
            let so_far = if watcher.state.load(Ordering::SeqCst) == FREE {
                "nothing was changed"
            } else {
                "what was there is as it was, and what was begun is removed"
            };
            Failure::new(Kind::Signal(signal.number), format!("stopped by {signal}: {so_far}"))
        }
        _ => Failure::from(error),
    })
}
