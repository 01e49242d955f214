//! A socket in front of a server that cuts every connection at the Nth statement: what a server sees of a program that is killed there.
#![allow(dead_code, reason = "every test program uses another part")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

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

/// The socket.
pub struct Cut {
    dir: TempDir,
    /// Statements that still go through.
    left: Arc<AtomicI64>,
}

impl Cut {
    /// In front of `server`; the statement after `statements` of them is the last.
    pub fn before(server: &Server, statements: i64, last: Last) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
        let left = Arc::new(AtomicI64::new(statements));
        let (target, counter) = (server.socket_dir().join(".s.PGSQL.5432"), left.clone());
        // It goes with the test's process; nothing waits for it.
        std::thread::spawn(move || accept(&listener, &target, &counter, last));
        Self { dir, left }
    }

    /// Whether the connection was cut.
    pub fn has_cut(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// How to reach it.
    pub fn config(&self, server: &Server) -> daykeep::config::Server {
        daykeep::config::Server { host: Some(self.dir.path().display().to_string()), ..server.config() }
    }
}

fn accept(listener: &UnixListener, target: &Path, left: &Arc<AtomicI64>, last: Last) {
    while let Ok((client, _)) = listener.accept() {
        let Some(server) = connect(target, left) else { continue };
        let (from_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || {
            let (mut from, mut to) = (&from_server, &to_client);
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let left = left.clone();
        std::thread::spawn(move || {
            relay(&client, &server, &left, last);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
    }
}

/// After the cut, nobody gets through any more.
fn connect(target: &Path, left: &AtomicI64) -> Option<UnixStream> {
    (left.load(Ordering::SeqCst) >= 0).then(|| UnixStream::connect(target).ok()).flatten()
}

/// Message by message: a type (not the first one), a length, the rest.
fn relay(mut client: &UnixStream, mut server: &UnixStream, left: &AtomicI64, last: Last) {
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
        let is_last = is_statement && left.fetch_sub(1, Ordering::SeqCst) <= 0;
        if is_last {
            // Before the server has the statement: its answer could come back faster than the cut.
            let _ = client.shutdown(Shutdown::Write);
        }
        if !(is_last && last == Last::Lost) && server.write_all(&message).is_err() {
            return;
        }
        if is_last {
            // Whoever is connected besides is cut off by its next statement.
            return;
        }
    }
}
