//! Real PostgreSQL servers for tests: their own data directory, a private unix socket and no TCP port.
//!
//! A server runs as the user `postgres` when the tests run as root. A guard (a shell that reads a pipe held by the
//! test) kills it when the test is killed, so that no server is left behind.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every server is set to: quick, quiet, and nothing durable.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", ""),
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "32MB"),
    ("max_wal_size", "2GB"),
    ("max_connections", "60"),
    ("timezone", "UTC"),
    ("logging_collector", "off"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
];

/// Where the programs of each major version are: Debian's, and those that `tests/servers.sh` fetched.
pub fn majors() -> BTreeMap<u32, PathBuf> {
    let mut found = BTreeMap::new();
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pg");
    for place in [fetched.as_path(), Path::new("/usr/lib/postgresql")] {
        let Ok(entries) = fs::read_dir(place) else { continue };
        for entry in entries.flatten() {
            let major = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let bin = fs::canonicalize(entry.path().join("bin"));
            if let (Some(major), Ok(bin)) = (major, bin)
                && bin.join("initdb").exists()
            {
                found.insert(major, bin);
            }
        }
    }
    found
}

/// The programs of a major version.
///
/// # Panics
/// It is not on this machine.
pub fn bin_dir(major: u32) -> PathBuf {
    majors()
        .remove(&major)
        .unwrap_or_else(|| panic!("PostgreSQL {major} is not on this machine: run tests/servers.sh"))
}

/// The major version that tests use when it does not matter: the newest that Debian installed, else the newest.
pub fn default_major() -> u32 {
    let majors = majors();
    let debian = majors.iter().rev().find(|(_, bin)| bin.starts_with("/usr/lib/postgresql"));
    *debian
        .or_else(|| majors.iter().next_back())
        .unwrap_or_else(|| panic!("no PostgreSQL server is on this machine: run tests/servers.sh"))
        .0
}

/// The newest client programs on this machine: a dump needs one that is not older than the server.
pub fn newest_bin_dir() -> PathBuf {
    bin_dir(*majors().keys().next_back().unwrap_or(&default_major()))
}

/// A running server. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Server {
    major: u32,
    bin: PathBuf,
    guard: Option<Child>,
    dir: TempDir,
}

impl Server {
    /// Makes a cluster of this major version (None: [`default_major`]) and starts it.
    ///
    /// # Panics
    /// The version is not on this machine, or it does not start.
    pub fn start(major: impl Into<Option<u32>>) -> Self {
        Self::start_with(major, &[])
    }

    /// Like [`Self::start`], with more settings: `("max_connections", "20")`.
    ///
    /// # Panics
    /// As for [`Self::start`].
    pub fn start_with(major: impl Into<Option<u32>>, settings: &[(&str, &str)]) -> Self {
        let major = major.into().unwrap_or_else(default_major);
        let bin = bin_dir(major);
        let dir = tempfile::Builder::new().prefix("daykeep-pg").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        give_to_postgres(dir.path());
        let mut server = Self { major, bin, guard: None, dir };
        server.init(settings);
        server.run();
        server
    }

    /// Makes an empty cluster in its place, after [`Self::lose`].
    ///
    /// # Panics
    /// It cannot be made.
    pub fn init(&self, settings: &[(&str, &str)]) {
        let mut initdb = self.as_postgres(&self.bin.join("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]);
        check(initdb.arg(self.data_dir()), "initdb");
        let sockets = self.socket_dir().display().to_string();
        let mut conf = String::new();
        let own = [("unix_socket_directories", sockets.as_str())];
        for (name, value) in own.iter().chain(SETTINGS).chain(settings) {
            writeln!(conf, "{name} = '{}'", value.replace('\'', "''")).expect("memory");
        }
        self.append_conf(&conf);
    }

    /// Kills all of it at once, as a power cut does.
    pub fn pull_the_plug(&mut self) {
        let postmaster = self.postmaster();
        let all = daykeep::process::all().expect("/proc");
        let killed = all.iter().filter(|one| Some(one.parent) == postmaster.map(Pid::as_raw));
        let mut killed: Vec<Pid> = killed.map(|one| Pid::from_raw(one.pid)).collect();
        killed.extend(postmaster);
        for pid in killed.iter().rev() {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        // Its guard must reap it: a zombie would pass for a server that runs.
        let is_there =
            |pid: &Pid| if Some(*pid) == postmaster { kill(*pid, None).is_ok() } else { lives(*pid) };
        let limit = Instant::now() + PATIENCE;
        while killed.iter().any(is_there) {
            assert!(Instant::now() < limit, "the server does not die");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.end();
    }

    /// Kills it and removes its data.
    ///
    /// # Panics
    /// The data cannot be removed.
    pub fn lose(&mut self) {
        self.pull_the_plug();
        fs::remove_dir_all(self.data_dir()).expect("the data goes");
    }

    /// Stops it, if it runs.
    pub fn stop_if_there(&mut self) {
        if self.answers() {
            self.stop();
        }
    }

    /// Whether it answers.
    pub fn answers(&self) -> bool {
        self.data_dir().join("postmaster.pid").exists() && self.is_ready()
    }

    /// Its major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Its programs; `psql` and `pg_dump` among them.
    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The directory of its socket.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// A directory that the server can write to (for a tablespace or a foreign file), made now.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).expect("a directory");
        give_to_postgres(&path);
        path
    }

    /// How daykeep reaches it, as its superuser.
    pub fn config(&self) -> daykeep::config::Server {
        daykeep::config::Server {
            host: Some(self.socket_dir().display().to_string()),
            port: Some(5432),
            user: Some("postgres".to_owned()),
            dbname: Some("postgres".to_owned()),
            ..daykeep::config::Server::default()
        }
    }

    /// A connection string for libpq and tokio-postgres.
    pub fn connection_string(&self, database: &str) -> String {
        let quoted = database.replace('\\', "\\\\").replace('\'', "\\'");
        format!("host='{}' port=5432 user=postgres dbname='{quoted}'", self.socket_dir().display())
    }

    /// A program of PostgreSQL's (by name: this server's own; by path: that one) set up to reach this server.
    pub fn client(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(self.bin.join(program));
        self.prepare(&mut command);
        command.envs(self.environment());
        command
    }

    /// Nothing of the environment of the tests may decide which server is met. A server from a wheel brings its own libpq.
    fn prepare(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C.UTF-8");
        if !self.bin.starts_with("/usr") {
            command.env("LD_LIBRARY_PATH", self.bin.join("../lib"));
        }
    }

    /// The environment by which libpq finds this server.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("PGHOST", self.socket_dir().display().to_string()),
            ("PGPORT", "5432".to_owned()),
            ("PGUSER", "postgres".to_owned()),
            ("PGDATABASE", "postgres".to_owned()),
        ]
    }

    /// Runs SQL (any number of statements, psql's commands too) and gives what it prints: unaligned, rows only.
    ///
    /// # Panics
    /// A statement fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let output = self.try_psql(database, sql);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "psql: {said}\n{}", sql.chars().take(500).collect::<String>());
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// Like [`Self::psql`], for SQL that may fail.
    ///
    /// # Panics
    /// psql cannot be run.
    pub fn try_psql(&self, database: &str, sql: &str) -> Output {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        psql.env("PGDATABASE", database).env("PGCLIENTENCODING", "UTF8");
        feed(&mut psql, sql.as_bytes())
    }

    /// Ends it as a crash would: no checkpoint, and the next start recovers from the WAL.
    ///
    /// # Panics
    /// It does not end.
    pub fn stop_immediately(&mut self) {
        assert!(self.end_by(Signal::SIGQUIT), "the server does not stop:\n{}", self.log());
    }

    /// Stops it as an admin would (`fast`) and starts it again.
    ///
    /// # Panics
    /// It does not end, or does not start.
    pub fn restart(&mut self) {
        self.stop();
        self.run();
    }

    /// Stops it as an admin would (`fast`).
    ///
    /// # Panics
    /// It does not end.
    pub fn stop(&mut self) {
        assert!(self.end_by(Signal::SIGINT), "the server does not stop:\n{}", self.log());
    }

    /// Asks it to end by `signal`, kills what is left of it, and tells whether it went by itself.
    fn end_by(&mut self, signal: Signal) -> bool {
        let mut ended = true;
        if let Some(pid) = self.postmaster() {
            let _ = kill(pid, signal);
            let limit = Instant::now() + PATIENCE;
            while kill(pid, None).is_ok() && ended {
                std::thread::sleep(Duration::from_millis(5));
                ended = Instant::now() < limit;
            }
        }
        self.end();
        ended
    }

    /// Starts it after [`Self::stop`] or [`Self::stop_immediately`].
    ///
    /// # Panics
    /// It does not start.
    pub fn run(&mut self) {
        // The guard's stdin is this test's: its end is the test's end.
        let script = r#"("$@" </dev/null; kill -KILL $$) & cat >/dev/null; kill -QUIT "$(head -n 1 "$3"/postmaster.pid)""#;
        let mut guard = self.as_postgres(Path::new("sh"));
        guard.args(["-c", script, "sh"]).arg(self.bin.join("postgres")).arg("-D").arg(self.data_dir());
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log");
        guard.stdin(Stdio::piped()).stdout(log.try_clone().expect("a log")).stderr(log).process_group(0);
        self.guard = Some(guard.spawn().expect("setpriv and sh"));
        let limit = Instant::now() + PATIENCE;
        while !self.is_ready() {
            assert!(Instant::now() < limit, "the server does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Adds to `postgresql.conf`; [`Self::restart`] brings it into force.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn append_conf(&self, text: &str) {
        let path = self.data_dir().join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(path).expect("postgresql.conf");
        file.write_all(text.as_bytes()).expect("postgresql.conf");
    }

    /// What the server said so far.
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// `pg_isready` would not know the start of a server from its end; a question does.
    fn is_ready(&self) -> bool {
        self.dir.path().join(".s.PGSQL.5432").exists()
            && self.try_psql("postgres", "SELECT 1").status.success()
    }

    fn postmaster(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok().map(Pid::from_raw)
    }

    /// Ends the guard, and with it a postmaster that has not said its name yet.
    fn end(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            if let Ok(group) = i32::try_from(guard.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = guard.wait();
        }
    }

    fn as_postgres(&self, program: &Path) -> Command {
        let mut command = if geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        self.prepare(&mut command);
        command.current_dir(self.dir.path());
        command
    }
}

/// Whether a process is there and no zombie.
fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

impl Drop for Server {
    fn drop(&mut self) {
        // A panic in here would hide the one that fails the test.
        self.end_by(Signal::SIGQUIT);
    }
}

/// Runs `command` with `input` on its stdin and gives what it said.
///
/// # Panics
/// It cannot be started.
pub fn feed(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends early does not read on; its status tells why.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().expect("its end")
    })
}

/// Runs `command`, which must succeed, and gives its stdout.
///
/// # Panics
/// It cannot be started or fails.
pub fn check(command: &mut Command, what: &str) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn give_to_postgres(path: &Path) {
    if geteuid().is_root() {
        let user = User::from_name("postgres").ok().flatten().expect("the user postgres: install postgresql");
        nix::unistd::chown(path, Some(user.uid), Some(user.gid)).expect("chown");
    }
}
