//! With a daemon: status, run --detach, watch, cancel.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{World, assert_told};

/// A daemon of this test; it ends with it.
struct Daemon(Child);

impl Daemon {
    fn start(world: &World) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_daykeepd"))
            .arg("--config")
            .arg(world.path("daykeep.toml"))
            .env_remove("NOTIFY_SOCKET")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("daykeepd starts");
        let daemon = Self(child);
        world.wait_until("the daemon's answer", |world| {
            let status = world.output(&["status", "--json", "--quiet"]);
            let document: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
            document["daemon"].is_object()
        });
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}

fn held(prove: &str) -> World {
    let world = World::new();
    world.configure(&world.web_held("drain = \"5m\"", prove));
    std::fs::write(world.path("files/a.txt"), "content of a").expect("a file");
    world
}

#[test]
fn it_is_asked_first() {
    let world = held("true");
    let _daemon = Daemon::start(&world);
    let calls: [&[&str]; 4] =
        [&["status"], &["watch", "99"], &["cancel", "99"], &["run", "gold", "--detach"]];
    let told: Vec<String> = calls.iter().map(|call| world.transcript(call)).collect();
    assert_told("daemon_asked", &told.join("\n"));
}

#[test]
fn it_keeps_a_day_while_we_watch() {
    let world = held("true");
    let _daemon = Daemon::start(&world);
    let output = world.output(&["run", "--detach", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    let job = document["job"]["id"].to_string();
    let watched = world.output(&["watch", &job]);
    assert!(watched.status.success(), "{watched:?}");
    let text = String::from_utf8_lossy(&watched.stdout).into_owned();
    assert!(text.contains(&format!("job {job} (backup of web) succeeded: day ")), "{text}");
    // Once more, now that it has ended.
    let again = world.output(&["watch", &job, "--json"]);
    let line: serde_json::Value = serde_json::from_slice(&again.stdout).expect("one line");
    assert_eq!(
        (&line["schema"], &line["type"], &line["job"]["state"]),
        (&1.into(), &"job".into(), &"succeeded".into())
    );
    assert!(world.path("vault/web/current/trees/files/a.txt").exists());
    let cancelled = world.output(&["cancel", &job]);
    assert_eq!(
        String::from_utf8_lossy(&cancelled.stdout),
        format!("job {job} had ended already: succeeded\n")
    );
}

#[test]
fn it_is_told_to_stop() {
    let world = held("false");
    let _daemon = Daemon::start(&world);
    let output = world.output(&["run", "--detach", "--quiet"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "job 1 of web is started\n");
    world.wait_until("the pause", |world| world.path("paused").exists());
    let status = String::from_utf8(world.output(&["status"]).stdout).expect("text");
    assert!(
        status.contains("running       job 1 since") && status.contains("holding the repository"),
        "{status}"
    );
    let second = world.output(&["run", "--detach"]);
    assert_eq!(second.status.code(), Some(11), "{second:?}");

    let child = world.command(&["watch", "1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("it starts");
    let cancelled = world.output(&["cancel", "1"]);
    let told = String::from_utf8_lossy(&cancelled.stdout).into_owned();
    assert_eq!(told, "job 1 is asked to stop; its repository is released first\n");
    let watched = child.wait_with_output().expect("it ends");
    assert_eq!(watched.status.code(), Some(1), "{watched:?}");
    assert!(String::from_utf8_lossy(&watched.stderr).contains("error: job 1 (backup of web) was cancelled"));
    assert!(!world.path("paused").exists(), "the repository runs again");
}
