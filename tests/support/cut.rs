//! A socket in front of a server that cuts every connection at the Nth statement, which is what a server sees of a program that is killed
//! there; or that keeps the Nth statement back until something has been done to the server.
#![allow(dead_code, reason = "every test program uses another part")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::postgres::Server;

/// What becomes of the statement at which it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// The server never gets it.
    Lost,
    /// The server does it, but its answer is lost.
    Done,
}

/// How long a statement is kept back at most: whoever should let it go has failed by then.
const PATIENCE: Duration = Duration::from_secs(120);

/// What happens at the statement.
enum At {
    Cut(Last),
    /// It waits until this is true.
    Gate(AtomicBool),
}

/// The socket.
pub struct Cut {
    dir: TempDir,
    at: Arc<At>,
    /// Statements that still go through.
    left: Arc<AtomicI64>,
}

impl Cut {
    /// In front of `server`; the statement after `statements` of them is the last.
    pub fn before(server: &Server, statements: i64, last: Last) -> Self {
        Self::listening(server, statements, At::Cut(last))
    }

    /// In front of `server`; the statement after `statements` of them is kept back until [`Self::open`]. All others go through.
    pub fn gate(server: &Server, statements: i64) -> Self {
        Self::listening(server, statements, At::Gate(AtomicBool::new(false)))
    }

    fn listening(server: &Server, statements: i64, at: At) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
        let left = Arc::new(AtomicI64::new(statements));
        let (target, counter) = (server.socket_dir().join(".s.PGSQL.5432"), left.clone());
        let at = Arc::new(at);
        let what = Arc::clone(&at);
        // It goes with the test's process; nothing waits for it.
        std::thread::spawn(move || accept(&listener, &target, &counter, &what));
        Self { dir, at, left }
    }

    /// The directory of the socket.
    pub fn host(&self) -> &Path {
        self.dir.path()
    }

    /// Statements that still go through, below zero when more came.
    pub fn left(&self) -> i64 {
        self.left.load(Ordering::SeqCst)
    }

    /// Counts anew: the statement after so many more is kept back.
    pub fn close(&self, statements: i64) {
        self.left.store(statements, Ordering::SeqCst);
        if let At::Gate(open) = &*self.at {
            open.store(false, Ordering::SeqCst);
        }
    }

    /// Lets go what is kept back.
    pub fn open(&self) {
        if let At::Gate(open) = &*self.at {
            open.store(true, Ordering::SeqCst);
        }
    }

    /// Whether the statement has come: the connection was cut, or waits at the gate.
    pub fn has_cut(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// How to reach it.
    pub fn config(&self, server: &Server) -> daykeep::config::Server {
        daykeep::config::Server { host: Some(self.dir.path().display().to_string()), ..server.config() }
    }
}

fn accept(listener: &UnixListener, target: &Path, left: &Arc<AtomicI64>, at: &Arc<At>) {
    while let Ok((client, _)) = listener.accept() {
        let Some(server) = connect(target, left, at) else { continue };
        let (from_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || {
            let (mut from, mut to) = (&from_server, &to_client);
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let (left, at) = (left.clone(), Arc::clone(at));
        std::thread::spawn(move || {
            relay(&client, &server, &left, &at);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
    }
}

/// After the cut, nobody gets through any more.
fn connect(target: &Path, left: &AtomicI64, at: &At) -> Option<UnixStream> {
    let is_open = matches!(at, At::Gate(_)) || left.load(Ordering::SeqCst) >= 0;
    is_open.then(|| UnixStream::connect(target).ok()).flatten()
}

/// Message by message: a type (not the first one), a length, the rest.
fn relay(mut client: &UnixStream, mut server: &UnixStream, left: &AtomicI64, at: &At) {
    let mut begun = false;
    loop {
        let mut head = vec![0; if begun { 5 } else { 4 }];
        if client.read_exact(&mut head).is_err() {
            return;
        }
        let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap()) as usize;
        let mut message = head.clone();
        message.resize(head.len() - 4 + length, 0);
        if client.read_exact(&mut message[head.len()..]).is_err() {
            return;
        }
        let is_statement = begun && matches!(head[0], b'Q' | b'P');
        begun = true;
        let before = if is_statement { left.fetch_sub(1, Ordering::SeqCst) } else { 1 };
        let last = match at {
            At::Cut(last) => (before <= 0).then_some(*last),
            At::Gate(open) => {
                let limit = Instant::now() + PATIENCE;
                while before == 0 && !open.load(Ordering::SeqCst) && Instant::now() < limit {
                    std::thread::sleep(Duration::from_millis(2));
                }
                None
            }
        };
        if last.is_some() {
            // Before the server has the statement: its answer could come back faster than the cut.
            let _ = client.shutdown(Shutdown::Write);
        }
        if last != Some(Last::Lost) && server.write_all(&message).is_err() {
            return;
        }
        if last.is_some() {
            // Whoever is connected besides is cut off by its next statement.
            return;
        }
    }
}
