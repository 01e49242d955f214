//! A program that does not outlive us: a shell between us and it reads a pipe of ours, and ends it when the pipe does.
//!
//! Signals of the parent's death (`PR_SET_PDEATHSIG`) would follow a thread of ours, not the process, and are lost when the child
//! changes its user. A pipe is closed by the kernel however we end.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::ScratchError;
use crate::process::{self, Companion, Program};

/// `$0` is a name to be known by, the arguments are the command. File descriptor 9 of the command is the directory that it was started
/// in: `/proc/self/fd/9` leads there whatever the rights of the directories above. What it says goes to `../server.log`. Its
/// exit status is the only line on our pipe. Background commands of a shell may ignore SIGQUIT until they say otherwise, so it
/// comes again and again.
const SCRIPT: &str = r#"exec 9<. 3<&0 4>&1 >>../server.log 2>&1
"$@" 3<&- 4>&- </dev/null &
child=$!
{
  read -r _ <&3
  tries=0
  while kill -QUIT "$child" 2>/dev/null; do
    sleep 1
    tries=$((tries + 1))
    if [ "$tries" -ge 10 ]; then kill -KILL "$child"; fi
  done
} 4>&- &
watcher=$!
wait "$child"
echo "$?" >&4
kill "$watcher" 2>/dev/null
"#;
/// Where the command finds the directory that it was started in.
pub const OWN_DIRECTORY: &str = "/proc/self/fd/9";

/// The account that runs the server when we are root, who may not.
pub const ACCOUNT: &str = "postgres";

/// A command under its shell. Dropping it ends the command.
#[derive(Debug)]
pub struct Supervised {
    shell: Companion,
    group: Option<i32>,
}

impl Supervised {
    /// Starts a command in `directory`, in a session of its own, as [`ACCOUNT`] when we are root.
    ///
    /// # Errors
    /// The shell cannot be started.
    pub fn start(
        name: &str,
        directory: &Path,
        command: Vec<std::ffi::OsString>,
    ) -> Result<Self, ScratchError> {
        let mut program = Program::new(["setsid", "sh", "-c", SCRIPT, name]).directory(directory);
        if nix::unistd::geteuid().is_root() {
            for word in ["setpriv", "--reuid", ACCOUNT, "--regid", ACCOUNT, "--init-groups", "--"] {
                program = program.arg(word);
            }
        }
        for word in command {
            program = program.arg(word);
        }
        // Neither a server nor initdb is to hear of the server that somebody set for clients.
        for variable in ["PGDATA", "PGOPTIONS", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE", "PGSERVICE"] {
            program = program.env(variable, None);
        }
        let shell = program.start_companion().map_err(ScratchError::Process)?;
        let group = shell.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self { shell, group })
    }

    /// Waits for the command's end; its exit status, None when the shell is gone too.
    ///
    /// # Errors
    /// The pipe broke.
    pub async fn ended(&mut self) -> Result<Option<i32>, ScratchError> {
        let line = self.shell.line().await.map_err(ScratchError::Process)?;
        Ok(line.and_then(|line| line.parse().ok()))
    }

    /// Ends the command and waits for it; after `limit` in the hard way.
    pub async fn stop(&mut self, limit: Duration) {
        if !self.shell.dismiss(limit).await
            && let Some(group) = self.group
        {
            // Gone already is as good as killed.
            let _ = process::signal_group(group, Signal::SIGKILL);
            self.shell.dismiss(limit).await;
        }
    }
}
