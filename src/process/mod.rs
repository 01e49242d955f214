//! The only door to other programs.
//!
//! A child gets its own process group, so that what it started dies with it when time is up or the run is cancelled;
//! dropping the future kills it too. What a child writes is read through pipes: when daykeep is killed, a child that still
//! writes meets a closed pipe instead of a file that the next run owns.

mod inherited;
mod service;
mod table;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::sync::CancellationToken;

pub use inherited::{let_go, log_line};
pub use service::Companion;
pub use table::{Identity, Process, all, commands_with, kill, signal_group};

/// How much of what a child says on stderr is kept for its error: the end of it.
const STDERR_KEPT: usize = 8 * 1024;
/// How long a child may take to end after SIGTERM before SIGKILL comes.
const GRACE: Duration = Duration::from_secs(5);

/// A child could not be started, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its pipes broke.
    #[error("cannot read what {program} writes: {source}")]
    Read {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended badly.
    #[error("{program} ended with {status}{}", said(stderr))]
    Failed {
        /// The program.
        program: String,
        /// How.
        status: ExitStatus,
        /// The end of what it said on stderr.
        stderr: String,
    },
    /// It took too long and was killed.
    #[error("{program} did not end within {}s and was killed{}", limit.as_secs(), said(stderr))]
    TimedOut {
        /// The program.
        program: String,
        /// How long it had.
        limit: Duration,
        /// The end of what it said on stderr.
        stderr: String,
    },
    /// Nothing can be learnt about running processes.
    #[error("cannot read {}: {source}", path.display())]
    Table {
        /// The file below `/proc`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no right to kill a process.
    #[error("cannot kill process {pid}: {source}")]
    Kill {
        /// The process.
        pid: i32,
        /// What the system said.
        source: nix::Error,
    },
    /// The run was cancelled and the child was killed.
    #[error("{program} was stopped because the run was cancelled")]
    Cancelled {
        /// The program.
        program: String,
    },
}

fn said(stderr: &str) -> String {
    let text = stderr.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// A program, its arguments and what surrounds it.
#[derive(Debug, Clone)]
pub struct Program {
    argv: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    limit: Option<Duration>,
    directory: Option<PathBuf>,
}

impl Program {
    /// `argv[0]` is the program, looked for in PATH when it has no `/`.
    #[must_use]
    pub fn new<I, S>(argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            limit: None,
            directory: None,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// Sets a variable of its environment (None removes it).
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: Option<OsString>) -> Self {
        self.env.push((name.into(), value));
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The directory that it starts in: entered with the rights of this process, before the program is started.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Its name, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.argv
            .first()
            .map_or_else(|| "(no program)".to_owned(), |program| program.to_string_lossy().into_owned())
    }

    /// Starts it with its stdout in a pipe.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self) -> Result<Running, Error> {
        self.start_with(Stdio::piped(), Stdio::null())
    }

    /// Starts it with its stdin and stdout in pipes.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with_stdin(&self) -> Result<Running, Error> {
        self.start_with(Stdio::piped(), Stdio::piped())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door to other programs")]
    fn start_with(&self, stdout: Stdio, stdin: Stdio) -> Result<Running, Error> {
        let program = self.name();
        let mut command = tokio::process::Command::new(self.argv.first().cloned().unwrap_or_default());
        command.args(self.argv.iter().skip(1)).stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child =
            command.spawn().map_err(|source| Error::Start { program: program.clone(), source })?;
        let stderr = child.stderr.take().map(|pipe| tokio::spawn(tail_of(pipe)));
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Running { program, child, stderr, group })
    }

    /// Runs it to its end; exit status 0 is success.
    ///
    /// # Errors
    /// It cannot be started, ends with another status, takes too long, or the run is cancelled.
    pub async fn run(&self, cancel: &CancellationToken) -> Result<Vec<u8>, Error> {
        let mut running = self.start()?;
        let mut stdout = Vec::new();
        let pipe = running.take_stdout();
        let work = async {
            if let Some(mut pipe) = pipe {
                pipe.read_to_end(&mut stdout)
                    .await
                    .map_err(|source| Error::Read { program: self.name(), source })?;
            }
            running.finish().await
        };
        let limit = self.limit.unwrap_or(Duration::MAX);
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(limit, work) => outcome.ok(),
            () = cancel.cancelled() => {
                running.kill().await;
                return Err(Error::Cancelled { program: self.name() });
            }
        };
        if let Some(done) = outcome {
            return done.map(|()| stdout);
        }
        let stderr = running.kill().await;
        Err(Error::TimedOut { program: self.name(), limit, stderr })
    }
}

/// A child that was started. Dropping it kills its process group.
#[derive(Debug)]
pub struct Running {
    program: String,
    child: tokio::process::Child,
    stderr: Option<tokio::task::JoinHandle<String>>,
    group: Option<Pid>,
}

impl Running {
    /// Its process id, while it has one.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it writes.
    pub fn take_stdout(&mut self) -> Option<tokio::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// What it reads.
    pub fn take_stdin(&mut self) -> Option<tokio::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits for its end; exit status 0 is success.
    ///
    /// # Errors
    /// It ended with another status.
    pub async fn finish(&mut self) -> Result<(), Error> {
        let status = self
            .child
            .wait()
            .await
            .map_err(|source| Error::Read { program: self.program.clone(), source })?;
        self.group = None;
        let stderr = self.said().await;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Failed { program: self.program.clone(), status, stderr })
        }
    }

    /// Ends it and all it started: SIGTERM, and SIGKILL after a grace. Gives the end of what it said.
    pub async fn kill(&mut self) -> String {
        if let Some(group) = self.group.take() {
            // Gone already is as good as killed.
            let _ = killpg(group, Signal::SIGTERM);
            let ended = tokio::time::timeout(GRACE, self.child.wait()).await;
            let _ = killpg(group, Signal::SIGKILL);
            if ended.is_err() {
                let _ = self.child.wait().await;
            }
        }
        self.said().await
    }

    async fn said(&mut self) -> String {
        match self.stderr.take() {
            // A grandchild may hold the pipe open for ever: what was read by then has to do.
            Some(reader) => {
                tokio::time::timeout(GRACE, reader).await.ok().and_then(Result::ok).unwrap_or_default()
            }
            None => String::new(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn tail_of(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut chunk = [0_u8; 4096];
    while let Ok(count) = pipe.read(&mut chunk).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&chunk[..count]);
        if kept.len() > 2 * STDERR_KEPT {
            kept.drain(..kept.len() - STDERR_KEPT);
        }
    }
    let from = kept.len().saturating_sub(STDERR_KEPT);
    String::from_utf8_lossy(&kept[from..]).into_owned()
}
