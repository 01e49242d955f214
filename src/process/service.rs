//! Programs that outlive what starts them: commands that leave a service running, and companions of this process.

use std::io::{self, Read as _, Seek as _};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

use super::{Error, Program};

/// How much of what a starting command says is kept.
const SAID_KEPT: u64 = 64 * 1024;

impl Program {
    /// Runs a command that may leave a service behind in its process group, with its stdout and stderr still open.
    ///
    /// Waits for the command only, and never kills its group once it has ended. What it says goes to a small sealed piece of
    /// memory instead of a pipe: a service that goes on writing there gets an error at its end, not the SIGPIPE that would
    /// kill it as soon as daykeep is gone.
    ///
    /// # Errors
    /// It cannot be started, ends with another status than 0, or does not end within its limit (then it is killed).
    pub async fn run_service(&self) -> Result<(), Error> {
        let at_start = |source: io::Error| Error::Start { program: self.name(), source };
        let mut said = sealed_memory().map_err(at_start)?;
        let stderr = said.try_clone().map_err(at_start)?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        command.process_group(0).kill_on_drop(false);
        let mut child = command.spawn().map_err(at_start)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let limit = self.limit.unwrap_or(Duration::MAX);
        let Ok(ended) = tokio::time::timeout(limit, child.wait()).await else {
            if let Some(group) = group {
                // Gone already is as good as killed.
                let _ = super::signal_group(group, nix::sys::signal::Signal::SIGKILL);
            }
            let _ = child.wait().await;
            return Err(Error::TimedOut { program: self.name(), limit, stderr: text_of(&mut said) });
        };
        let status = ended.map_err(|source| Error::Read { program: self.name(), source })?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed { program: self.name(), status, stderr: text_of(&mut said) })
    }

    /// Starts a program that outlives this process, holding the reading end of a pipe from it: when this process ends, or drops
    /// the [`Companion`], the program reads the end of its stdin.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_companion(&self) -> Result<Companion, Error> {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(false);
        let mut child = command.spawn().map_err(|source| Error::Start { program: self.name(), source })?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(tokio::io::BufReader::new);
        Ok(Companion { program: self.name(), child, stdin, stdout })
    }

    /// Starts a program and lets go of it: it reads nothing, and its answers go nowhere but for stderr. Gives its process id.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_detached(&self) -> Result<Option<u32>, Error> {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(false);
        let child = command.spawn().map_err(|source| Error::Start { program: self.name(), source })?;
        Ok(child.id())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door to other programs")]
    fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.argv.first().cloned().unwrap_or_default());
        command.args(self.argv.iter().skip(1));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}

/// A program that watches this process through a pipe. Dropping it closes the pipe and does not kill the program.
#[derive(Debug)]
pub struct Companion {
    program: String,
    child: tokio::process::Child,
    stdin: Option<tokio::process::ChildStdin>,
    stdout: Option<tokio::io::BufReader<tokio::process::ChildStdout>>,
}

impl Companion {
    /// Its process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The next line that it says, without its end; None when it says no more.
    ///
    /// # Errors
    /// Its pipe broke.
    pub async fn line(&mut self) -> Result<Option<String>, Error> {
        let Some(stdout) = &mut self.stdout else { return Ok(None) };
        let mut line = String::new();
        let count = stdout
            .read_line(&mut line)
            .await
            .map_err(|source| Error::Read { program: self.program.clone(), source })?;
        Ok((count > 0).then(|| line.trim_end().to_owned()))
    }

    /// Tells it a line.
    ///
    /// # Errors
    /// It is gone.
    pub async fn tell(&mut self, line: &str) -> Result<(), Error> {
        let gone = |source| Error::Read { program: self.program.clone(), source };
        let Some(stdin) = &mut self.stdin else { return Err(gone(io::ErrorKind::BrokenPipe.into())) };
        stdin.write_all(format!("{line}\n").as_bytes()).await.map_err(gone)?;
        stdin.flush().await.map_err(gone)
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Closes its pipe and waits until it has ended, but no longer than `limit`; whether it has.
    pub async fn dismiss(&mut self, limit: Duration) -> bool {
        self.stdin = None;
        tokio::time::timeout(limit, self.child.wait()).await.is_ok()
    }

    /// Closes its pipe and waits until it has ended; whether it was through with what it does.
    pub async fn has_succeeded(mut self) -> bool {
        self.stdin = None;
        self.child.wait().await.is_ok_and(|status| status.success())
    }
}

/// Memory behind a file descriptor that cannot grow past [`SAID_KEPT`].
fn sealed_memory() -> io::Result<std::fs::File> {
    let memory = rustix::fs::memfd_create("said", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&memory, SAID_KEPT)?;
    rustix::fs::fcntl_add_seals(&memory, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(memory.into())
}

fn text_of(said: &mut std::fs::File) -> String {
    let mut bytes = Vec::new();
    if said.rewind().and_then(|()| said.read_to_end(&mut bytes)).is_err() {
        return String::new();
    }
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Error, Program};

    #[tokio::test]
    async fn a_service_that_keeps_its_stderr_open_does_not_hold_its_starter_up() {
        let marker = tempfile::tempdir().expect("a directory");
        let done = marker.path().join("done");
        let script = format!("(sleep 0.5; echo late >&2; touch {}) & echo started >&2", done.display());
        let program = Program::new(["sh", "-c", script.as_str()]).limit(Duration::from_secs(5));
        program.run_service().await.expect("starts");
        assert!(!done.exists(), "it returned before the service ended");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(done.exists(), "the service survives writing to its stderr");
    }

    #[tokio::test]
    async fn a_command_that_fails_says_why() {
        let error = Program::new(["sh", "-c", "echo no such unit >&2; exit 5"]).run_service().await;
        let Err(Error::Failed { stderr, .. }) = error else { panic!("{error:?}") };
        assert_eq!(stderr, "no such unit");
    }
}
