//! A run in a process of its own, driven step by step.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::programs::example;

/// How long a step may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A place for a configuration, scripts and the state.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    pub fn record(&self) -> PathBuf {
        self.path("state/app/hold.json")
    }

    /// An executable file.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let (path, aside) = (self.path(name), self.path(&format!("{name}.new")));
        fs::write(&aside, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&aside, &path).unwrap();
        path
    }

    /// A configuration: `general` stands in `[hold]`, `adapter` is the table below it.
    pub fn configure(&self, general: &str, adapter: &str, settings: &str, database: Option<&str>) {
        let database = database.map_or_else(
            || format!("[repository.app.tree.t]\npath = \"{}\"\n", self.path("tree").display()),
            |server| format!("[repository.app.database]\n{server}\n"),
        );
        let text = format!(
            "[repository.app]\nvault = \"{}\"\n[repository.app.hold]\n{general}\n\
             [repository.app.hold.{adapter}]\n{settings}\n{database}",
            self.path("vault").display()
        );
        fs::write(self.path("daykeep.toml"), text).unwrap();
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(example("hold_driver"));
        // A stand-in of systemctl may be here.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env_remove("NOTIFY_SOCKET");
        command
    }

    /// A run that begins to pause now.
    pub fn run(&self) -> Run {
        self.run_with(|_| {})
    }

    pub fn run_with(&self, change: impl FnOnce(&mut Command)) -> Run {
        self.start("hold", change)
    }

    /// A restore that holds now; `verb` is `restore`, or `resume` for what an earlier one has kept.
    pub fn restoring(&self, verb: &str) -> Run {
        let run = self.start(verb, |_| {});
        run.expect("held");
        run
    }

    pub fn start(&self, verb: &str, change: impl FnOnce(&mut Command)) -> Run {
        let mut command = self.command();
        command.arg(verb).arg(self.path("daykeep.toml")).arg("app").arg(self.state_dir());
        change(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the driver");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(serde_json::from_str(&line).expect("JSON")).is_err() {
                    return;
                }
            }
        });
        Run { child, stdin, lines }
    }

    /// A run that holds now.
    pub fn held(&self) -> Run {
        let run = self.run();
        run.expect("held");
        run
    }

    /// What a release by somebody else tells.
    pub fn leftovers(&self, force: bool) -> Vec<Value> {
        let mut command = self.command();
        command.arg("leftovers").arg(self.state_dir());
        if force {
            command.arg("--force");
        }
        lines_of(&mut command).into_iter().filter(|line| line["step"] == "leftover").collect()
    }

    /// What giving the hold up tells.
    pub fn give_up(&self) -> Value {
        let mut command = self.command();
        lines_of(command.arg("give-up").arg(self.state_dir()).arg("app")).remove(0)
    }

    pub fn probe(&self) -> Vec<Value> {
        lines_of(self.command().arg("probe").arg(self.path("daykeep.toml")).arg("app"))
    }

    pub fn has_record(&self) -> bool {
        self.record().exists()
    }

    pub fn phase(&self) -> Option<String> {
        let text = fs::read_to_string(self.record()).ok()?;
        let record: Value = serde_json::from_str(&text).expect("a record is whole at any moment");
        record["phase"].as_str().map(str::to_owned)
    }

    /// The only guard there is. A command that it starts bears its name for a moment.
    pub fn the_guard(&self) -> i32 {
        wait_until("there is one guard", || self.guards().len() == 1);
        self.living_guard().expect("the record names it")
    }

    /// The guard that the record names, if that lives.
    pub fn living_guard(&self) -> Option<i32> {
        let text = fs::read_to_string(self.record()).ok()?;
        let record: daykeep::hold::HoldRecord = serde_json::from_str(&text).expect("a record is whole");
        record.living_guard()
    }

    pub fn wait_for_phase(&self, phase: &str) {
        wait_until(&format!("phase {phase}"), || self.phase().as_deref() == Some(phase));
    }

    pub fn wait_for_no_record(&self) {
        wait_until("the record is gone", || !self.has_record());
    }

    /// Guards of this place that run.
    pub fn guards(&self) -> Vec<i32> {
        let record = self.record().display().to_string();
        let all = daykeep::process::all().expect("/proc");
        all.into_iter()
            .filter(|one| one.argv.get(1).is_some_and(|word| word == "guard") && one.argv.contains(&record))
            .map(|one| one.pid)
            .collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for pid in self.guards() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn lines_of(command: &mut Command) -> Vec<Value> {
    // The guard that it may leave behind must not hold this up: it has stderr alone.
    let output = command.stderr(Stdio::inherit()).output().expect("the driver");
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Waits until something is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that holds.
pub struct Run {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
}

impl Run {
    /// The next answer that is no event.
    pub fn next(&self) -> Value {
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("the driver says nothing"),
                Err(RecvTimeoutError::Disconnected) => panic!("the driver has ended"),
            };
            if line["step"] != "event" {
                return line;
            }
        }
    }

    /// The next answer, which must be this step.
    pub fn expect(&self, step: &str) -> Value {
        let line = self.next();
        assert_eq!(line["step"], step, "{line}");
        line
    }

    /// The next answer, which must be this error; its text.
    pub fn expect_error(&self, kind: &str) -> String {
        let line = self.expect("error");
        assert_eq!(line["kind"], kind, "{line}");
        line["text"].as_str().expect("a text").to_owned()
    }

    pub fn tell(&mut self, step: &str) {
        let stdin = self.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{step}").expect("the driver listens");
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the driver lives");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("the driver lives");
        self.child.wait().expect("it ends");
    }

    /// Waits until it was killed by what it was given to do.
    pub fn wait_killed(&mut self) {
        let status = self.child.wait().expect("it ends");
        assert!(!status.success(), "it was killed");
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A text as TOML.
pub fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
