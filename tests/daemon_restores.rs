//! Restores under the daemon: ordered, taken back, confirmed, cancelled, killed, and what waits for a person.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/daemon.rs"]
mod harness;

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use harness::{Daemon, Place, until};

const RESTORES: &str = "/v1/repositories/small/restores";
const RUNS: &str = "/v1/repositories/small/runs";

fn begun((status, answer): (u16, Value)) -> u64 {
    assert_eq!(status, 202, "{answer}");
    answer["job"]["id"].as_u64().unwrap()
}

fn finished(daemon: &Daemon<'_>, id: u64) -> Value {
    let ended = |answer: &Value| answer["job"]["state"] != "running";
    daemon.until(&format!("/v1/jobs/{id}"), "the job's end", ended)["job"].clone()
}

fn done(daemon: &Daemon<'_>, id: u64) -> Value {
    let job = finished(daemon, id);
    assert_eq!(job["state"], "succeeded", "{job:#}");
    job
}

/// A day is kept, and then the tree changes.
fn with_a_day(place: &Place, daemon: &Daemon<'_>) -> String {
    let job = done(daemon, begun(daemon.post(RUNS)));
    fs::write(place.path("tree/one"), "changed\n").unwrap();
    fs::write(place.path("tree/two"), "2\n").unwrap();
    job["day"].as_str().unwrap().to_owned()
}

fn is_the_day(place: &Place) -> bool {
    fs::read_to_string(place.path("tree/one")).unwrap() == "1\n" && !place.path("tree/two").exists()
}

fn is_as_before(place: &Place) -> bool {
    fs::read_to_string(place.path("tree/one")).unwrap() == "changed\n" && place.path("tree/two").exists()
}

fn waiting(daemon: &Daemon<'_>, phase: &str) -> Value {
    let so = |answer: &Value| answer["repositories"][0]["pending_restore"]["phase"] == phase;
    daemon.until("/v1/status", "the restore's phase", so)["repositories"][0]["pending_restore"].clone()
}

fn nothing_waits(daemon: &Daemon<'_>) {
    let so = |answer: &Value| answer["repositories"][0]["pending_restore"].is_null();
    daemon.until("/v1/status", "the restore's end", so);
}

#[test]
fn a_restore_is_ordered_taken_back_and_confirmed() {
    let place = Place::new();
    let daemon = place.start();
    let day = with_a_day(&place, &daemon);
    let (status, answer) = daemon.order(RESTORES, &json!({ "day": day }));
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("bad_request")));
    assert!(answer["error"]["hint"].as_str().unwrap().contains("--plan"), "{answer}");
    let (status, answer) = daemon.order(RESTORES, &json!({ "day": day, "only": "files", "yes": true }));
    assert_eq!(status, 400);
    assert!(answer["error"]["message"].as_str().unwrap().contains("must be \"database\" or \"trees\""));
    assert!(is_as_before(&place));

    let order = json!({ "day": "latest", "only": "trees", "yes": true });
    let restore = begun(daemon.order(RESTORES, &order));
    let job = done(&daemon, restore);
    assert_eq!((job["type"].as_str(), job["day"].as_str()), (Some("restore"), Some(&*day)), "{job:#}");
    assert!(is_the_day(&place));
    assert_eq!(place.trace(), "pause\nrelease\npause\nrelease\n");
    let pending = waiting(&daemon, "done");
    assert_eq!((&pending["job"], &pending["over"]), (&json!(restore), &json!(true)), "{pending}");
    assert!(daemon.ask("GET", "/metrics").1.contains("daykeep_restore_pending{repository=\"small\"} 1.0"));

    assert_eq!(daemon.order(&format!("{RESTORES}/undo"), &json!({})).0, 400);
    let job = done(&daemon, begun(daemon.order(&format!("{RESTORES}/undo"), &json!({ "yes": true }))));
    assert_eq!(job["type"], "settle", "{job:#}");
    assert!(is_as_before(&place));
    nothing_waits(&daemon);
    let job = finished(&daemon, begun(daemon.order(&format!("{RESTORES}/undo"), &json!({ "yes": true }))));
    assert_eq!(job["error"], "no restore of small waits to be confirmed or taken back", "{job:#}");

    done(&daemon, begun(daemon.order(RESTORES, &order)));
    waiting(&daemon, "done");
    done(&daemon, begun(daemon.order(&format!("{RESTORES}/confirm"), &json!({ "yes": true }))));
    nothing_waits(&daemon);
    assert!(is_the_day(&place));
}

#[test]
fn the_command_orders_them_too() {
    let place = Place::new();
    let daemon = place.start();
    with_a_day(&place, &daemon);
    let daykeep = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
        let output = command.arg("--config").arg(place.path("daykeep.toml")).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), said)
    };
    let (code, _, said) = daykeep(&["restore", "latest", "--detach"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--yes"), "{said}");
    let (code, told, said) = daykeep(&["restore", "small", "latest", "--tree", "files", "--detach", "--yes"]);
    assert_eq!((code, told.as_str()), (Some(0), "job 2 of small is started\n"), "{said}");
    done(&daemon, 2);
    assert!(is_the_day(&place));
    let (code, told, said) = daykeep(&["restore", "--undo", "--detach", "--yes"]);
    assert_eq!((code, told.as_str()), (Some(0), "job 3 of small is started\n"), "{said}");
    done(&daemon, 3);
    assert!(is_as_before(&place));
    let (code, told, said) = daykeep(&["drill", "--detach", "--json"]);
    let document: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &document["job"]["type"]), (Some(0), &json!("drill")), "{said}");
    done(&daemon, 4);
    let (code, told, said) = daykeep(&["verify", "latest", "--sample", "12.5%", "--detach"]);
    assert_eq!((code, told.as_str()), (Some(0), "job 5 of small is started\n"), "{said}");
    done(&daemon, 5);
    let (_, told, _) = daykeep(&["status"]);
    let first = told.lines().next().unwrap();
    assert!(first.starts_with("newest proven day: ") && first.ends_with(" of small)"), "{told}");
    assert!(!first.contains("NONE"), "{told}");
}

const UNTIL_IDLE: &str =
    "prove = [\"test\", \"-e\", \"$T/idle\"]\n[repository.small.hold]\ndrain = \"60s\"\n";

/// A restore whose scheduler is paused and not idle yet.
fn paused(place: &Place, daemon: &Daemon<'_>) -> u64 {
    fs::write(place.path("idle"), "").unwrap();
    with_a_day(place, daemon);
    fs::remove_file(place.path("idle")).unwrap();
    let id = begun(daemon.order(RESTORES, &json!({ "day": "latest", "yes": true })));
    until("the pause", || place.trace().matches("pause").count() == 2);
    id
}

#[test]
fn a_restore_excludes_all_else_and_can_be_cancelled() {
    let place = Place::new();
    place.configure(&place.small("", UNTIL_IDLE));
    let daemon = place.start();
    let id = paused(&place, &daemon);
    for path in [RUNS, "/v1/repositories/small/drills", "/v1/repositories/small/verifies"] {
        let (status, answer) = daemon.post(path);
        assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("already_running")), "{answer}");
    }
    let shown = daemon.get("/v1/status")["repositories"][0].clone();
    assert_eq!(
        (&shown["other_jobs"][0]["id"], &shown["other_jobs"][0]["phase"]),
        (&json!(id), &json!("hold"))
    );
    assert_eq!(daemon.post(&format!("/v1/jobs/{id}/cancel")).0, 202);
    assert_eq!(finished(&daemon, id)["state"], "cancelled");
    assert!(is_as_before(&place));
    assert_eq!(place.trace(), "pause\nrelease\npause\nrelease\n");
}

#[test]
fn a_restore_in_which_the_daemon_died_is_begun_again_by_the_same_order() {
    let place = Place::new();
    place.configure(&place.small("", UNTIL_IDLE));
    let mut daemon = place.start();
    let id = paused(&place, &daemon);
    daemon.signal(Signal::SIGKILL);
    daemon.ended();
    drop(daemon);
    until("the release by the guard", || place.trace() == "pause\nrelease\npause\nrelease\n");
    let daemon = place.start();
    let job = finished(&daemon, id);
    assert_eq!(
        (job["state"].as_str(), job["error"].as_str()),
        (Some("failed"), Some("daykeep died during hold"))
    );
    assert!(is_as_before(&place));
    fs::write(place.path("idle"), "").unwrap();
    done(&daemon, begun(daemon.order(RESTORES, &json!({ "day": "latest", "yes": true }))));
    assert!(is_the_day(&place));
    waiting(&daemon, "done");
}

#[test]
fn what_a_restore_keeps_held_is_left_alone_and_shown() {
    let place = Place::new();
    place.leave_a_kept_hold();
    let daemon = place.start();
    assert_eq!(place.trace(), "pause\n", "the start has not released it");
    let status = daemon.get("/v1/status");
    assert_eq!(status["held"], true);
    let kept = &status["repositories"][0]["kept_hold"];
    assert_eq!((&kept["job"], &kept["reason"]), (&json!(77), &json!("the restore of a day is half way")));
    assert!(daemon.ask("GET", "/metrics").1.contains("daykeep_hold_kept{repository=\"small\"} 1.0"));
    let job = finished(&daemon, begun(daemon.post(RUNS)));
    let error = job["error"].as_str().unwrap();
    assert!(error.starts_with("small stays held since "), "{error}");
    assert!(error.ends_with(": the restore of a day is half way"), "{error}");
    assert_eq!(place.trace(), "pause\n");
    let release = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
        let output =
            command.arg("--config").arg(place.path("daykeep.toml")).arg("release").args(words).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = release(&[]);
    assert_eq!(code, Some(11), "{told}");
    assert!(told.contains("and stays held: the restore of a day is half way"), "{told}");
    let (code, told) = release(&["--force"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(place.trace(), "pause\nrelease\n");
    let gone = |answer: &Value| answer["held"] == false && answer["repositories"][0]["kept_hold"].is_null();
    daemon.until("/v1/status", "the release", gone);
    drop(daemon);

    place.leave_a_kept_hold();
    let (code, _) = release(&["small", "--give-up"]);
    assert_eq!(code, Some(2), "nobody is there to be asked");
    let (code, told) = release(&["small", "--give-up", "--yes"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.starts_with("small: the hold of job 77 is forgotten; what `sh -c ")
            && told.contains("stays paused"),
        "{told}"
    );
    assert_eq!(place.trace(), "pause\nrelease\npause\n");
    let (code, told) = release(&["--all"]);
    assert_eq!((code, told.as_str()), (Some(0), ""));
}
