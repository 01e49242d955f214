//! `daykeepd`: keeps the schedule, carries the runs out, answers on the socket.
//!
//! The order of a start is what makes it safe after any death: first the lock that makes it the only daemon of its
//! state directory; then every hold that an earlier life left is released; then every job that was going on then is written down as
//! failed; only then is anything scheduled. What a signal asks for comes into the same loop as time itself.

mod backend;
mod conflict;
mod job;
mod leftover;
mod log;
mod metrics;
mod notify;
mod others;
pub mod plan;
mod reload;
mod routine;
mod scheduler;
mod seen;
mod shelf;
mod signals;
mod stamp;
mod state;
mod timer;
mod watch;
mod work;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Group;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::wire::Live;
use crate::api::{listen, server, told};
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::fs::socket::{self, Found};
use crate::{fs, journal};

/// Threads that answer and schedule; each run has one of its own besides.
const WORKERS: usize = 2;
/// Who may talk to the socket: its user and its group.
const SOCKET_MODE: u32 = 0o660;
/// File descriptors that connections, runs and vaults may need.
const DESCRIPTORS: u64 = 8192;
/// Questions to start a run that may wait.
const STARTS: usize = 64;
/// How long a release of an earlier life's hold may take before the service manager loses patience.
const RELEASE_PATIENCE: Duration = Duration::from_secs(600);
/// How long a daemon waits for the lock of one that was killed.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// The daemon cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error("the configuration cannot be used")]
    Config(#[source] Box<config::Error>),
    /// Another daemon has the state directory.
    #[error("another daykeepd uses {}: stop it first", state_dir.display())]
    Another {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// Another process listens where it should.
    #[error("another process listens at {}: stop it, or set [daemon] socket", socket.display())]
    SocketInUse {
        /// The socket.
        socket: PathBuf,
    },
    /// There is something else where the socket should be.
    #[error("{} is there and is no socket: remove it, or set [daemon] socket", socket.display())]
    NoSocket {
        /// The socket.
        socket: PathBuf,
    },
    /// A file.
    #[error("{0}: {cause}", cause = .0.source)]
    File(#[from] fs::Error),
    /// The journals.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The system gives no signals, threads or timer.
    #[error("the system refuses {what}: {source}")]
    System {
        /// What it refuses.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}

/// Starts the log, reads the configuration, and keeps going until a signal says stop. True when every run had ended by
/// then.
///
/// # Errors
/// The configuration is wrong, another daemon is there, or the system refuses what is needed.
pub fn run(config: &Path) -> Result<bool, Error> {
    let config = config::load(config).map_err(|error| Error::Config(Box::new(error)))?;
    log::start();
    raise_descriptors();
    let _lock = only_one(&config.state_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|source| Error::System { what: "threads", source })?;
    let outcome = runtime.block_on(live(config));
    // A run that did not end in time, or a look into a hanging vault, must not keep the process.
    runtime.shutdown_background();
    outcome
}

async fn live(config: Config) -> Result<bool, Error> {
    let signals = signals::Signals::listen().map_err(|source| Error::System { what: "signals", source })?;
    let (starts, asked) = mpsc::channel(STARTS);
    let socket_path = config.daemon.socket.clone();
    let listener = open_socket(&config)?;
    let state = Arc::new(state::State::new(config, Arc::new(SystemClock::new()), starts));

    // Looked at from now on, so that a long release shows; a job that died with the daemon shows as failed all the while.
    remember(&state)?;
    let gone = CancellationToken::new();
    let router = server::router(Arc::new(backend::Daemon::new(Arc::clone(&state))));
    let served = tokio::spawn(listen::serve(listener, router, gone.clone()));

    let leftovers = leftover::Leftovers::default();
    notify::status("releasing what an earlier run left");
    notify::patience(RELEASE_PATIENCE);
    leftovers.release(&state).await;
    let died = settle(&state).await?;
    let scheduler = scheduler::Scheduler::new(Arc::clone(&state), guard_program(), asked, leftovers, &died)
        .map_err(|source| Error::System { what: "a timer", source })?;
    tracing::info!("daykeepd {} listens at {}", env!("CARGO_PKG_VERSION"), socket_path.display());
    notify::ready();

    let ended = scheduler.turn(signals).await.map_err(|source| Error::System { what: "a timer", source });
    state.tell(Live::End { reason: "the daemon stops".to_owned() });
    gone.cancel();
    // It is bounded by itself, and a panic in it has nothing more to break.
    let _ = served.await;
    fs::remove_file(&socket_path)?;
    tracing::info!("stopped");
    ended
}

/// Writes down the jobs of earlier lives; gives those of a schedule that were going on when daykeep died.
async fn settle(state: &state::State) -> Result<Vec<routine::Routine>, Error> {
    let config = state.config();
    let settled = journal::settle(&config.state_dir, state.clock.now())?;
    for job in &settled {
        let error = job.error.as_deref().unwrap_or_default();
        tracing::warn!("{}: job {} is failed: {error}", job.repository, job.id);
    }
    others::begin(state).await?;
    let scheduled = settled.into_iter().filter(|job| job.started_by == plan::StartedBy::Schedule.word());
    Ok(scheduled.map(|job| routine::Routine::new(&job.repository, job.kind)).collect())
}

/// Shows the jobs of the journals as they are before they are settled.
fn remember(state: &state::State) -> Result<(), Error> {
    let jobs = journal::jobs(&state.config().state_dir)?;
    state.remember(jobs.into_iter().map(told::job));
    Ok(())
}

/// The lock that dies with the process. One that was killed a moment ago may not be dead to the last yet.
fn only_one(state_dir: &Path) -> Result<File, Error> {
    fs::create_dir_durable(state_dir)?;
    fs::lock_file_within(&state_dir.join("daykeepd.lock"), LOCK_PATIENCE)?
        .ok_or_else(|| Error::Another { state_dir: state_dir.to_owned() })
}

fn open_socket(config: &Config) -> Result<UnixListener, Error> {
    let path = &config.daemon.socket;
    match socket::look(path)? {
        Found::Nothing => {}
        Found::Stale => fs::remove_file(path)?,
        Found::Live => return Err(Error::SocketInUse { socket: path.clone() }),
        Found::Other => return Err(Error::NoSocket { socket: path.clone() }),
    }
    let group = match Group::from_name(&config.daemon.group) {
        Ok(Some(group)) => Some(group.gid.as_raw()),
        Ok(None) | Err(_) => {
            tracing::warn!(
                "there is no group {:?}: only this user and root can use the socket",
                config.daemon.group
            );
            None
        }
    };
    let listener = socket::listen_at(path, SOCKET_MODE, group)?;
    UnixListener::from_std(listener).map_err(|source| Error::System { what: "a listening socket", source })
}

/// The `daykeep` program: the one beside this, else the one in PATH.
fn guard_program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("daykeep"));
    beside.filter(|program| program.is_file()).unwrap_or_else(|| PathBuf::from("daykeep"))
}

/// Connections alone may take more descriptors than the usual soft limit.
fn raise_descriptors() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let wanted = DESCRIPTORS.min(hard);
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_err() {
        tracing::warn!("the limit of open files stays at {soft}");
    }
}
