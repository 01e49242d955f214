//! `daykeep run`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::failure::{Failure, Kind};
use super::figures::{self, Page};
use super::place;
use super::progress::Progress;
use super::remote;
use super::session::Session;
use super::signals::{Signal, Signals};
use crate::api::order::Order;
use crate::api::wire;
use crate::event::{Event, Observer, Phase};
use crate::run::{self, Outcome, Request, backup};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository; may be left out when only one is configured.
    #[arg(value_name = "REPO")]
    repository: Option<String>,
    /// Ask the daemon to do it, and return at once.
    #[arg(long, visible_alias = "daemon")]
    detach: bool,
}

/// Keeps a day of a repository.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let config = session.config()?;
    let repository = place::configured(&config, args.repository.as_deref())?;
    if args.detach {
        return remote::start(&repository.name, &Order::Backup, session);
    }
    let request = Request {
        repository: repository.clone(),
        state_dir: config.state_dir.clone(),
        guard: own_program()?,
        started_by: place::caller(),
    };
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(Kind::Failed, format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(until_done_or_told(&request, session));
    // A thread that still copies must not keep a program alive that was told to go.
    runtime.shutdown_timeout(Duration::from_secs(1));
    tell(outcome?, session)
}

/// This program, to be started as the guard.
pub fn own_program() -> Result<std::path::PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::new(Kind::Failed, format!("cannot tell where this program is: {error}")))
}

/// Shows the run, and knows whether the repository is paused.
#[derive(Debug)]
struct Watcher {
    progress: Progress,
    paused: AtomicBool,
}

impl Observer for Watcher {
    fn observe(&self, event: &Event) {
        match event {
            Event::Phase { phase: Phase::Hold } => self.paused.store(true, Ordering::SeqCst),
            Event::Released { .. } => self.paused.store(false, Ordering::SeqCst),
            _ => {}
        }
        self.progress.observe(event);
    }
}

/// The first signal cancels the run, which releases the repository; the next one ends the program at once, but not while
/// the repository is paused.
async fn until_done_or_told(request: &Request, session: &Session) -> Result<Outcome, Failure> {
    let mut signals = Signals::listen()?;
    let watcher = Arc::new(Watcher { progress: session.progress(""), paused: AtomicBool::new(false) });
    let cancel = CancellationToken::new();
    let context = session.context_with(Arc::clone(&watcher) as Arc<dyn Observer>, cancel.clone());
    let mut work = std::pin::pin!(backup(request, &context));
    let mut caught: Option<Signal> = None;
    let ended = loop {
        let signal = tokio::select! {
            biased;
            ended = &mut work => break ended,
            signal = signals.next() => signal,
        };
        match caught {
            None => {
                cancel.cancel();
                caught = Some(signal);
                session.out.say(&format!("{signal}: the run stops, and what it holds is released"));
            }
            Some(_) if watcher.paused.load(Ordering::SeqCst) => {
                session.out.warn(&format!("{signal} is not heeded before the repository is released"));
            }
            Some(_) => {
                watcher.progress.finish();
                return Err(Failure::new(Kind::Signal(signal.number), format!("ended by a second {signal}")));
            }
        }
    };
    watcher.progress.finish();
    ended.map_err(|error| match caught {
        Some(signal) if matches!(error, run::Error::Cancelled) => Failure::new(
            Kind::Signal(signal.number),
            format!("the run was stopped by {signal}; no day was kept"),
        ),
        _ => Failure::from(error),
    })
}

/// What came of it.
fn tell(outcome: Outcome, session: &Session) -> Result<(), Failure> {
    let (job, manifest, pruned) = match outcome {
        Outcome::Sealed { job, manifest, pruned } => (job, manifest, pruned),
        Outcome::Skipped { job, reason } => {
            let failure = Failure::new(Kind::Busy, format!("job {job} was skipped: {reason}"));
            return Err(
                failure.hint("nothing is wrong: try again later, or let the daemon do it (retry_after)")
            );
        }
    };
    let day = wire::Day::from(&*manifest);
    if session.out.json {
        return session.out.document(
            &json!({"outcome": "sealed", "job": job, "repository": manifest.repository, "day": day, "pruned": pruned}),
        );
    }
    let mut page = Page::default();
    page.line(format!(
        "{}: day {} is kept (job {job}): {}, {} new of {}, stood still for {}",
        manifest.repository,
        day.name,
        figures::count(day.files, "file"),
        figures::size(day.new_bytes),
        figures::size(day.bytes),
        figures::length(day.held_seconds),
    ));
    if !pruned.is_empty() {
        page.line(format!("removed by the keep rules: {}", pruned.join(", ")));
    }
    session.out.text(&page.0)
}
