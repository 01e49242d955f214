//! FOSSology's scheduler, as its stand-in (`examples/fossology_scheduler`) plays it.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::postgres::Server;
use super::programs::example;

/// The database of the tests.
pub const DATABASE: &str = "fossology";

/// A FOSSology: its database, its repository, and a script that starts its scheduler.
#[derive(Debug)]
pub struct Fossology {
    /// Its server.
    pub server: Server,
    /// Its TCP port.
    pub port: u16,
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Fossology {
    /// Sets one up; the scheduler does not run yet. `flags` are the stand-in's.
    pub fn new(flags: &[&str]) -> Self {
        Self::on(Server::start(None), flags)
    }

    /// On this server.
    pub fn on(server: Server, flags: &[&str]) -> Self {
        server.psql("postgres", "CREATE DATABASE fossology");
        let dir = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = example("fossology_scheduler");
        let made = Command::new(&program)
            .args(["schema", "--database", &server.connection_string(DATABASE)])
            .status()
            .expect("the stand-in can be started");
        assert!(made.success(), "the tables can be created");
        let fossology = Self { server, port, dir, program };
        fossology.set_flags(flags);
        fossology
    }

    /// Writes the start script anew.
    pub fn set_flags(&self, flags: &[&str]) {
        let text = format!(
            "#!/bin/sh\nsetsid -f '{}' run --port {} --database \"{}\" --sysconf '{}' --repository '{}' {} </dev/null >>'{}' 2>&1\n",
            self.program.display(),
            self.port,
            self.server.connection_string(DATABASE),
            self.sysconf().display(),
            self.repository().display(),
            flags.join(" "),
            self.path("scheduler.log").display(),
        );
        self.write_script("start", &text);
    }

    /// Writes an executable file and gives its path.
    pub fn write_script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        // A script that is being run is not written over, but put in its place.
        let aside = self.path(&format!("{name}.new"));
        fs::write(&aside, text).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&aside, &path).unwrap();
        path
    }

    /// The command that starts the scheduler.
    pub fn start_script(&self) -> PathBuf {
        self.path("start")
    }

    /// Its file tree.
    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// Its configuration directory: the word in its agents' command lines.
    pub fn sysconf(&self) -> PathBuf {
        self.path("etc")
    }

    /// A path of the test's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the scheduler and waits until it answers.
    pub fn start(&self) -> i32 {
        assert!(Command::new(self.start_script()).status().expect("the script").success());
        self.wait_until_running(Duration::from_secs(20))
    }

    /// Queues jobs for an agent.
    pub fn queue(&self, agent: &str, count: u32) {
        let queued = Command::new(&self.program)
            .args(["queue", "--database", &self.server.connection_string(DATABASE)])
            .args(["--agent", agent, "--count", &count.to_string()])
            .status();
        assert!(queued.expect("the stand-in can be started").success());
    }

    /// Stops the scheduler as an operator does, and waits for its end.
    pub fn stop(&self) {
        let _ = self.ask("stop", "CLOSE");
        let until = Instant::now() + Duration::from_secs(20);
        while self.pid().is_some() {
            assert!(Instant::now() < until, "the scheduler does not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Queues a job for an upload that is there; gives its `jq_pk`.
    pub fn queue_for(&self, upload: u32, agent: &str) -> i64 {
        let sql = format!(
            "WITH j AS (INSERT INTO job (job_name, job_upload_fk, job_user_fk) VALUES ('{agent}', {upload}, 1) RETURNING job_pk)
             INSERT INTO jobqueue (jq_job_fk, jq_type, jq_args, jq_end_bits)
             SELECT job_pk, '{agent}', '{upload}', 0 FROM j RETURNING jq_pk"
        );
        self.server.psql(DATABASE, &sql).lines().next().unwrap().parse().expect("a jq_pk")
    }

    /// What the port answers; None: it refuses.
    pub fn ask(&self, command: &str, last: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(command.as_bytes()).ok()?;
        let mut text = String::new();
        let mut chunk = [0_u8; 4096];
        while !text.lines().any(|line| line == last) {
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(count) => text.push_str(&String::from_utf8_lossy(&chunk[..count])),
            }
        }
        Some(text)
    }

    /// The scheduler's process id, if it runs.
    pub fn pid(&self) -> Option<i32> {
        let status = self.ask("status", "end")?;
        let line = status.lines().find_map(|line| line.strip_prefix("scheduler:"))?;
        line.split(' ').next()?.parse().ok()
    }

    /// Waits until the scheduler answers, and gives its process id.
    pub fn wait_until_running(&self, limit: Duration) -> i32 {
        let until = Instant::now() + limit;
        loop {
            if let Some(pid) = self.pid() {
                return pid;
            }
            assert!(Instant::now() < until, "the scheduler does not run:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a question to the database has this answer.
    pub fn wait_for(&self, sql: &str, answer: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = self.server.psql(DATABASE, sql);
            if seen == answer {
                return;
            }
            assert!(Instant::now() < until, "{sql}: {seen}, not {answer}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until so many agents run.
    pub fn wait_for_agents(&self, count: usize) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.agents().len() != count {
            assert!(Instant::now() < until, "{:?}, not {count}\n{}", self.agents(), self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Process ids of the agents.
    pub fn agents(&self) -> Vec<i32> {
        let word = self.sysconf().display().to_string();
        let all = daykeep::process::all().expect("/proc");
        let agents = all.iter().filter(|process| {
            process.argv.iter().any(|argument| argument == "--scheduler_start")
                && process.argv.iter().any(|argument| argument.contains(&word))
        });
        agents.map(|process| process.pid).collect()
    }

    /// What the scheduler wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("scheduler.log")).unwrap_or_default()
    }

    /// `[database]` of a configuration.
    pub fn database_toml(&self) -> String {
        format!("host = \"{}\"\nport = 5432\nuser = \"postgres\"", self.server.socket_dir().display())
    }

    /// `[hold.fossology]` of a configuration.
    pub fn hold_toml(&self) -> String {
        format!(
            "address = \"127.0.0.1:{}\"\nstart = [\"{}\"]\nstart_timeout = \"10s\"\nagent_match = \"{}\"",
            self.port,
            self.start_script().display(),
            self.sysconf().display()
        )
    }

    /// Ends the scheduler as a crash does.
    pub fn crash(&self) {
        if let Some(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            while Path::new(&format!("/proc/{pid}")).exists() && self.pid().is_some() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Fossology {
    fn drop(&mut self) {
        // Nothing may start it again meanwhile.
        let _ = fs::write(self.start_script(), "#!/bin/sh\nexit 1\n");
        self.crash();
        for pid in self.agents() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
