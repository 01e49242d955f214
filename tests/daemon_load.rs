//! What the daemon costs when nothing is asked of it, and what it bears when too much is.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/daemon.rs"]
mod harness;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use harness::{Daemon, Place, SOON, ask};

const CLIENTS: usize = 1000;

/// One of the clients that stay: what it says, and what it does then.
fn bad_client(socket: &Path, number: usize) -> Option<UnixStream> {
    let mut client = UnixStream::connect(socket).ok()?;
    let bytes: &[u8] = match number % 5 {
        // Says nothing.
        0 => b"",
        // Never ends its head.
        1 => b"GET /v1/status HTTP/1.1\r\nHost: l\r\nX: ",
        // Never ends its body.
        2 => b"POST /v1/repositories/small/verify HTTP/1.1\r\nHost: l\r\nContent-Length: 1000\r\n\r\n{",
        // Never reads.
        3 => b"GET /v1/events HTTP/1.1\r\nHost: l\r\n\r\n",
        // Closes its half and waits.
        _ => b"GET /v1/jobs HTTP/1.1\r\nHost: l\r\n",
    };
    client.write_all(bytes).ok()?;
    if number % 5 == 4 {
        client.shutdown(Shutdown::Write).ok()?;
    }
    client.set_nonblocking(true).ok()?;
    Some(client)
}

/// A thousand clients that stay; whoever is hung up on comes back.
fn besiege(socket: &Path, full: &AtomicBool, stop: &AtomicBool) {
    let mut clients: Vec<Option<UnixStream>> = Vec::new();
    clients.resize_with(CLIENTS, || None);
    while !stop.load(Ordering::Relaxed) {
        for (number, client) in clients.iter_mut().enumerate() {
            let is_there = client.as_mut().is_some_and(|client| {
                // Who never reads leaves the answer where it is.
                number % 5 == 3
                    || matches!(client.read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock)
            });
            if !is_there {
                *client = bad_client(socket, number);
            }
        }
        full.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A byte of a request at a time, from fifty clients.
fn drip(socket: &Path, stop: &AtomicBool) {
    let request = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n";
    let mut clients: Vec<(UnixStream, usize)> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        clients.retain_mut(|(client, at)| {
            *at += 1;
            *at <= request.len() && client.write_all(&request[*at - 1..*at]).is_ok()
        });
        while clients.len() < 50 {
            clients.push((UnixStream::connect(socket).unwrap(), 0));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Bodies without end, bytes that are no HTTP, heads that are too long: one after the other, each until it is hung up on.
fn shout(socket: &Path, said: &AtomicU64, stop: &AtomicBool) {
    let junk: Vec<u8> = (0..64 * 1024_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut chunk = b"10000\r\n".to_vec();
    chunk.extend(&junk);
    chunk.extend(b"\r\n");
    let kinds: [(&[u8], &[u8]); 5] = [
        (b"POST /v1/repositories/small/runs HTTP/1.1\r\nHost: l\r\nContent-Length: 1099511627776\r\n\r\n", &junk),
        (b"POST /v1/repositories/small/verify HTTP/1.1\r\nHost: l\r\nContent-Length: 1099511627776\r\n\r\n", &junk),
        (b"POST /v1/repositories/small/restore HTTP/1.1\r\nHost: l\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk),
        (b"GET /v1/status HTTP/1.1\r\nHost: l\r\nX: ", b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        (&junk[..100], &junk),
    ];
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let (head, more) = kinds[number % kinds.len()];
        let Ok(mut client) = UnixStream::connect(socket) else { continue };
        client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut written = client.write_all(head);
        while written.is_ok() && !stop.load(Ordering::Relaxed) {
            written = client.write_all(more);
            said.fetch_add(more.len() as u64, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Makes a run and gives how long it held.
fn run(daemon: &Daemon<'_>) -> f64 {
    let (status, answer) = daemon.post("/v1/repositories/small/runs");
    assert_eq!(status, 202, "{answer}");
    let path = format!("/v1/jobs/{}", answer["job"]["id"]);
    let job =
        daemon.until(&path, "the run's end", |answer| answer["job"]["state"] != "running")["job"].clone();
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let days = daemon.get("/v1/repositories/small/days");
    let newest = days["days"][0]["name"].as_str().unwrap();
    let day = daemon.get(&format!("/v1/repositories/small/days/{newest}"));
    day["manifest"]["hold"]["held_seconds"].as_f64().unwrap()
}

fn longest(holds: &[f64]) -> f64 {
    holds.iter().copied().fold(0.0, f64::max)
}

#[test]
fn a_thousand_clients_of_every_bad_kind_disturb_neither_the_status_nor_a_run() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).unwrap();
    let place = Place::new();
    for number in 0..2000 {
        let dir = place.path("tree").join(format!("d{}", number % 40));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{number}")), format!("{number}")).unwrap();
    }
    let daemon = place.start();
    let quiet: Vec<f64> = (0..3).map(|_| run(&daemon)).collect();

    let (stop, full, said) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let socket = place.socket();
    let (held, slowest, answers) = std::thread::scope(|scope| {
        scope.spawn(|| besiege(&socket, &full, &stop));
        scope.spawn(|| drip(&socket, &stop));
        scope.spawn(|| shout(&socket, &said, &stop));
        let probe = scope.spawn(|| {
            let (mut slowest, mut answers) = (Duration::ZERO, 0);
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let (status, body) = ask(&socket, "GET", "/v1/status").expect("an answer");
                slowest = slowest.max(begun.elapsed());
                answers += 1;
                assert_eq!(status, 200, "{body}");
                std::thread::sleep(Duration::from_millis(50));
            }
            (slowest, answers)
        });
        let _end = End(&stop);
        harness::until("a thousand clients", || full.load(Ordering::Relaxed));
        let held: Vec<f64> = (0..3).map(|_| run(&daemon)).collect();
        stop.store(true, Ordering::Relaxed);
        let (slowest, answers) = probe.join().unwrap();
        (held, slowest, answers)
    });
    assert!(answers > 5, "{answers} answers");
    assert!(said.load(Ordering::Relaxed) > 0, "nothing was shouted");
    assert!(slowest < Duration::from_secs(1), "a status took {slowest:?}");
    // One order of length, with what a machine busy with other things does to a short one.
    assert!(
        longest(&held) < longest(&quiet) * 10.0 + 1.0,
        "held {held:?} s, without the clients {quiet:?} s"
    );
    assert_eq!(place.trace(), "pause\nrelease\n".repeat(6), "each run held once and released");
    let (status, jobs) = daemon.ask("GET", "/v1/jobs");
    let jobs: Value = serde_json::from_str(&jobs).unwrap();
    assert_eq!(
        (status, jobs["jobs"].as_array().unwrap().len()),
        (200, 6),
        "nobody else started anything: {jobs:#}"
    );
}

/// Whatever fails, the threads end.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The number in a line of a file of `/proc`, such as `VmRSS:  9876 kB`.
fn number_in(path: &Path, word: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// How often the threads of a process went to sleep, which is how often they were awake.
fn sleeps(process: &Path) -> u64 {
    let threads = fs::read_dir(process.join("task")).unwrap();
    let threads = threads.map(|thread| thread.unwrap().path().join("status"));
    threads.map(|status| number_in(&status, "voluntary_ctxt_switches:")).sum()
}

#[test]
fn idle_it_is_small_and_wakes_for_the_watchdog_only() {
    let place = Place::new();
    let schedules = "schedule = \"0 1 * * *\"\n[repository.small.verify]\nschedule = \"0 3 * * 0\"\n\
                     [repository.small.drill]\nschedule = \"0 4 * * 0\"";
    place.configure(&place.small(schedules, ""));
    let watched = Duration::from_secs(4);
    let daemon = place.start_by(place.command().env("WATCHDOG_USEC", watched.as_micros().to_string()));
    run(&daemon);
    daemon.get("/v1/status");
    // What the run and the answers left ends: threads that wait for more to do, connections that stay open for a while.
    let process = PathBuf::from(format!("/proc/{}", daemon.child.id()));
    let begun = Instant::now();
    let mut before = sleeps(&process);
    loop {
        std::thread::sleep(watched);
        let now = sleeps(&process);
        let woken = now.saturating_sub(before);
        // Two to four signs of life, each a few switches of two threads.
        if woken <= 30 {
            break;
        }
        assert!(begun.elapsed() < SOON * 2, "{woken} wake-ups in {watched:?} long after the last question");
        before = now;
    }
    let anonymous = number_in(&process.join("status"), "RssAnon:");
    assert!((1..20_000).contains(&anonymous), "{anonymous} kB of memory of its own");
}
