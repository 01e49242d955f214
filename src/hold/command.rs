//! The adapter `command`: plain commands pause, prove and release.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::adapter::{Adapter, Before, Proof};
use super::plan::{ReleasePlan, TOKEN_VARIABLE};
use super::{Error, Purpose};
use crate::config::CommandHold;
use crate::process::{self, Program};

pub(super) struct CommandAdapter {
    settings: CommandHold,
    token: String,
    before: Option<bool>,
    purpose: Purpose,
    /// Seen by a restore: the program that would have to answer is not on this machine any more.
    gone: bool,
}

impl CommandAdapter {
    pub(super) fn new(settings: CommandHold, token: String, purpose: Purpose) -> Self {
        Self { settings, token, before: None, purpose, gone: false }
    }

    fn program(&self, argv: &[String]) -> Program {
        Program::new(argv).limit(self.settings.timeout).env(TOKEN_VARIABLE, Some(self.token.clone().into()))
    }

    async fn look_now(&mut self) -> Result<Before, Error> {
        let release = ReleasePlan::Command(Release {
            argv: self.settings.release.clone(),
            is_running: self.settings.is_running.clone(),
            timeout: self.settings.timeout,
        });
        let first = self.settings.is_running.as_ref().unwrap_or(&self.settings.pause).first();
        if let Some(gone) = first.filter(|name| self.purpose == Purpose::Restore && !is_there(name)) {
            (self.before, self.gone) = (Some(false), true);
            return Ok(Before::Stopped { why: format!("{gone} is not on this machine"), start: release });
        }
        let Some(argv) = &self.settings.is_running else {
            self.before = Some(true);
            return Ok(Before::Presumed(release));
        };
        let runs = asks(&self.program(argv), "cannot ask whether the application runs").await?.is_ok();
        self.before = Some(runs);
        if !runs {
            let why = format!("`{}` told that the application did not run", argv.join(" "));
            return Ok(Before::Stopped { why, start: release });
        }
        Ok(Before::Running(release))
    }

    async fn prove_now(&self) -> Result<Proof, Error> {
        let Some(argv) = self.settings.prove.as_ref().filter(|_| !self.gone) else {
            let paused = format!("`{}` exited with 0", self.settings.pause.join(" "));
            return Ok(Proof::Idle(if self.before == Some(true) { vec![paused] } else { Vec::new() }));
        };
        match asks(&self.program(argv), "cannot ask whether the application is idle").await? {
            Ok(()) => Ok(Proof::Idle(vec![format!("`{}` exited with 0", argv.join(" "))])),
            Err(refused) => Ok(Proof::Busy(vec![refused.to_string()])),
        }
    }
}

/// Whether a command can be started at all.
pub(super) fn is_there(name: &str) -> bool {
    if name.contains('/') {
        return is_program(Path::new(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| is_program(&directory.join(name)))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// A command whose exit status is its answer: `Ok(Err(..))` is a no, with what it said.
async fn asks(program: &Program, doing: &'static str) -> Result<Result<(), process::Error>, Error> {
    match program.run(&CancellationToken::new()).await {
        Ok(_) => Ok(Ok(())),
        Err(no @ process::Error::Failed { .. }) => Ok(Err(no)),
        Err(source) => Err(Error::Command { doing, source }),
    }
}

impl Adapter for CommandAdapter {
    fn name(&self) -> &'static str {
        "command"
    }

    fn look(&mut self) -> BoxFuture<'_, Result<Before, Error>> {
        Box::pin(self.look_now())
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let program = self.program(&self.settings.pause);
            program
                .run_service()
                .await
                .map_err(|source| Error::Command { doing: "cannot pause the application", source })
        })
    }

    fn prove(&mut self) -> BoxFuture<'_, Result<Proof, Error>> {
        Box::pin(self.prove_now())
    }

    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let Some(argv) = &self.settings.kill else { return Ok(()) };
            let program = self.program(argv);
            program
                .run_service()
                .await
                .map_err(|source| Error::Command { doing: "cannot kill what is still busy", source })
        })
    }

    fn pause_limit(&self) -> Duration {
        self.settings.timeout
    }
}

/// Releases by a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    argv: Vec<String>,
    is_running: Option<Vec<String>>,
    timeout: Duration,
}

impl Release {
    pub(super) async fn perform(&self, resumed: bool) -> Result<(), Error> {
        if resumed && let Some(argv) = &self.is_running {
            let program = Program::new(argv).limit(self.timeout);
            // What cannot be asked is released once more: the command has to bear it.
            if program.run(&CancellationToken::new()).await.is_ok() {
                return Ok(());
            }
        }
        Program::new(&self.argv)
            .limit(self.timeout)
            .run_service()
            .await
            .map_err(|source| Error::Command { doing: "cannot release the application", source })
    }

    /// What it releases.
    pub(super) fn subject(&self) -> String {
        format!("what `{}` starts", self.argv.join(" "))
    }

    pub(super) fn limit(&self) -> Duration {
        self.timeout * 2
    }
}
