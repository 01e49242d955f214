//! What every verb is handed: the streams, the configuration, the time.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::failure::{Failure, Kind};
use super::output::Output;
use super::progress::Progress;
use crate::clock::{SharedClock, SystemClock};
use crate::config::{self, Config};
use crate::event::{Context, Event, Level, Observer};

/// One call of the program.
#[derive(Debug)]
pub struct Session {
    /// Where to tell.
    pub out: Output,
    /// The configuration file; it is read when a verb needs it.
    pub config_path: PathBuf,
    clock: SharedClock,
}

impl Session {
    /// A session with the machine's clock.
    pub fn new(out: Output, config_path: PathBuf) -> Self {
        Self { out, config_path, clock: Arc::new(SystemClock::new()) }
    }

    /// The time.
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Reads and checks the configuration.
    pub fn config(&self) -> Result<Config, Failure> {
        config::load(&self.config_path).map_err(|error| invalid(&error))
    }

    /// For work that tells its notices on stderr and that nobody cancels.
    pub fn context(&self) -> Context {
        self.context_with(Arc::new(Talk(self.out)), CancellationToken::new())
    }

    /// Shows a run; each line begins with `prefix`.
    pub fn progress(&self, prefix: impl Into<String>) -> Progress {
        Progress::new(self.out, Arc::clone(&self.clock), prefix)
    }

    /// For work with its own observer.
    pub fn context_with(&self, observer: crate::event::SharedObserver, cancel: CancellationToken) -> Context {
        Context { observer, cancel, clock: Arc::clone(&self.clock) }
    }
}

/// Every error of the file, each with its line and a caret.
pub fn invalid(error: &config::Error) -> Failure {
    Failure::new(Kind::Usage, error.to_string()).shown_as(error.render(true))
}

/// Threads that speak with servers: as many as the daemon has.
const WORKERS: usize = 2;

/// Runs what waits.
pub fn wait_for<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(Kind::Failed, format!("cannot start the runtime: {error}")))?;
    runtime.block_on(work)
}

/// Tells notices as they come.
struct Talk(Output);

impl Observer for Talk {
    fn observe(&self, event: &Event) {
        match event {
            Event::Notice { level: Level::Warning, text } => self.0.warn(text),
            Event::Notice { level: Level::Info, text } => self.0.say(text),
            _ => {}
        }
    }
}
