//! A real `daykeepd` for tests, with a configuration, a vault, a tree and a service manager's socket of its own.
#![allow(dead_code, reason = "every test program uses another part")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use daykeep::clock::SystemClock;
use daykeep::event::{Context, Silent};
use daykeep::{config, hold};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that should happen soon.
pub const SOON: Duration = Duration::from_secs(20);

/// Directories of a daemon, kept over its lives.
pub struct Place {
    pub dir: TempDir,
    notices: Arc<Mutex<Vec<String>>>,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("dk").tempdir().unwrap();
        for name in ["vault", "tree"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("tree/one"), "1\n").unwrap();
        let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        let notices = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&notices);
        // The service manager always reads; it goes with the test.
        std::thread::spawn(move || {
            let mut buffer = [0_u8; 4096];
            while let Ok(length) = notify.recv(&mut buffer) {
                heard.lock().unwrap().push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        });
        let place = Self { dir, notices };
        place.configure(&place.small("", ""));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Holds as a restore does, is told to stay, and dies.
    pub fn leave_a_kept_hold(&self) {
        let config = config::load(&self.path("daykeep.toml")).unwrap();
        let request = hold::Request {
            repository: "small",
            run: 77,
            purpose: hold::Purpose::Restore,
            hold: &config.repositories["small"].hold,
            server: None,
            state_dir: &config.state_dir,
            guard: Path::new(env!("CARGO_BIN_EXE_daykeep")),
        };
        let cancel = tokio_util::sync::CancellationToken::new();
        let context = Context { observer: Arc::new(Silent), cancel, clock: Arc::new(SystemClock::new()) };
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let mut held = hold::pause(request, &context).await.unwrap();
            held.keep("the restore of a day is half way").await.unwrap();
            drop(held);
        });
    }

    pub fn socket(&self) -> PathBuf {
        self.path("s")
    }

    pub fn configure(&self, text: &str) {
        fs::write(self.path("daykeep.toml"), text).unwrap();
    }

    /// A configuration with one repository `small`: a tree, no database, and a hold whose commands leave traces in the file
    /// `trace`. `more` are keys of the repository, `hold` of its hold's command.
    pub fn small(&self, more: &str, hold: &str) -> String {
        let root = self.dir.path().display();
        let pause = if hold.contains("pause =") {
            ""
        } else {
            "pause = [\"sh\", \"-c\", \"echo pause >> $T/trace\"]"
        };
        format!(
            "state_dir = \"{root}/state\"\n\
             [daemon]\nsocket = \"{root}/s\"\n\
             [repository.small]\nvault = \"{root}/vault\"\n{more}\n\
             [repository.small.hold.command]\n{pause}\n\
             release = [\"sh\", \"-c\", \"echo release >> $T/trace\"]\n{hold}\n\
             [repository.small.tree.files]\npath = \"{root}/tree\"\n"
        )
        .replace("$T", &root.to_string())
    }

    pub fn trace(&self) -> String {
        fs::read_to_string(self.path("trace")).unwrap_or_default()
    }

    /// The daemon as a command: quiet surroundings, our notify socket, its log in `log`.
    pub fn command(&self) -> Command {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_daykeepd"));
        command
            .arg("--config")
            .arg(self.path("daykeep.toml"))
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env_remove("JOURNAL_STREAM")
            .env_remove("DAYKEEP_LOG")
            .env_remove("WATCHDOG_USEC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    pub fn start(&self) -> Daemon<'_> {
        self.start_by(&mut self.command())
    }

    /// Starts it and waits until it says that it is ready.
    pub fn start_by(&self, command: &mut Command) -> Daemon<'_> {
        self.notices();
        let child = command.spawn().unwrap();
        let mut daemon = Daemon { child, place: self };
        let begun = Instant::now();
        loop {
            if self.notices().iter().any(|notice| notice.contains("READY=1")) {
                return daemon;
            }
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("daykeepd ended with {status}:\n{}", self.log());
            }
            assert!(begun.elapsed() < SOON, "daykeepd is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What the service manager was told since it was last asked.
    pub fn notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap())
    }
}

/// A running daemon. Dropped, it is killed; the guard of a hold may outlive it for a moment.
pub struct Daemon<'a> {
    pub child: Child,
    place: &'a Place,
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon<'_> {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < SOON, "daykeepd does not end:\n{}", self.place.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks; gives the status and the whole answer's body.
    pub fn ask(&self, method: &str, path: &str) -> (u16, String) {
        ask(&self.place.socket(), method, path).expect("an answer")
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path);
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub fn post(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.ask("POST", path);
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("POST {path}: {status} {body}")))
    }

    /// Asks with an order in the body.
    pub fn order(&self, path: &str, order: &Value) -> (u16, Value) {
        let (status, body) =
            ask_with(&self.place.socket(), "POST", path, &order.to_string()).expect("an answer");
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("POST {path}: {status} {body}")))
    }

    /// Waits until a question has the wished answer.
    pub fn until(&self, path: &str, what: &str, wished: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.get(path);
            if wished(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < SOON, "{what} never comes: {answer:#}\n{}", self.place.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// One question over a connection of its own.
pub fn ask(socket: &Path, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    ask_with(socket, method, path, "")
}

pub fn ask_with(socket: &Path, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SOON))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

/// Waits until something is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < SOON, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
