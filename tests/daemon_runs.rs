//! Runs under the daemon: by schedule and by hand, cancelled, killed, skipped, failed and caught up.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/daemon.rs"]
mod harness;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;

use harness::{Daemon, Place, SOON, until};

/// A hold that is idle only once the file `idle` is there.
const UNTIL_IDLE: &str =
    "prove = [\"test\", \"-e\", \"$T/idle\"]\n[repository.small.hold]\ndrain = \"60s\"\n";

fn at(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("no instant: {value}")).parse().unwrap()
}

/// Starts a run by hand; gives its number.
fn start(daemon: &Daemon<'_>) -> u64 {
    let (status, answer) = daemon.post("/v1/repositories/small/runs");
    assert_eq!(status, 202, "{answer}");
    answer["job"]["id"].as_u64().unwrap()
}

fn finished(daemon: &Daemon<'_>, id: u64) -> Value {
    let ended = |answer: &Value| answer["job"]["state"] != "running";
    daemon.until(&format!("/v1/jobs/{id}"), "the job's end", ended)["job"].clone()
}

/// Starts a run and waits until its scheduler is paused and asked whether it is idle.
fn start_and_pause(place: &Place, daemon: &Daemon<'_>) -> u64 {
    let id = start(daemon);
    until("the pause", || place.trace().contains("pause"));
    id
}

/// `daykeep run`, until its scheduler is paused.
fn run_in_the_foreground(place: &Place) -> Child {
    let run = Command::new(env!("CARGO_BIN_EXE_daykeep"))
        .args(["run", "small", "--config"])
        .arg(place.path("daykeep.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the pause", || place.trace().contains("pause"));
    run
}

#[test]
fn the_schedule_keeps_days_one_run_at_a_time() {
    let place = Place::new();
    place.configure(&place.small("schedule = \"* * * * * *\"", ""));
    let mut daemon = place.start();
    let days = daemon.until("/v1/repositories/small/days", "three days", |answer| {
        answer["days"].as_array().unwrap().len() >= 3
    });
    let mut jobs: Vec<Value> = daemon.get("/v1/jobs")["jobs"].as_array().unwrap().clone();
    jobs.retain(|job| job["state"] != "running");
    jobs.reverse();
    for pair in jobs.windows(2) {
        assert!(at(&pair[0]["ended"]) <= at(&pair[1]["started"]), "two at a time: {pair:#?}");
    }
    for job in &jobs {
        assert_eq!(
            (job["state"].as_str(), job["started_by"].as_str()),
            (Some("succeeded"), Some("schedule")),
            "{job:#}"
        );
    }
    let newest = days["days"][0]["name"].as_str().unwrap().to_owned();
    let day = daemon.get(&format!("/v1/repositories/small/days/{newest}"));
    assert_eq!(day["manifest"]["day"].as_str(), Some(newest.as_str()));
    let (status, body) = daemon.ask("GET", "/v1/repositories/small/days/2001-01-01T000000Z");
    assert_eq!(status, 404, "{body}");
    assert!(body.contains("no_such_day"), "{body}");

    let status = daemon.get("/v1/status");
    assert!(status["newest_day_age_seconds"].as_u64().unwrap() < 60, "{status:#}");
    assert_eq!(status["repositories"][0]["last_success"]["state"], "succeeded");
    let metrics = daemon.ask("GET", "/metrics").1;
    assert!(metrics.contains("daykeep_last_attempt_success{repository=\"small\"} 1.0"), "{metrics}");
    assert!(
        metrics.contains("daykeep_run_duration_seconds{repository=\"small\",phase=\"hold\"}"),
        "{metrics}"
    );
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), Some(0));
    let told = place.notices().concat();
    assert!(told.contains("STATUS=small: ") && told.contains("next run "), "{told}");
}

#[test]
fn a_run_by_hand_can_be_watched_and_cancelled() {
    let place = Place::new();
    place.configure(&place.small("", UNTIL_IDLE));
    let daemon = place.start();
    let mut events = BufReader::new(UnixStream::connect(place.socket()).unwrap());
    events.get_ref().set_read_timeout(Some(SOON)).unwrap();
    write!(events.get_mut(), "GET /v1/events HTTP/1.1\r\nHost: l\r\n\r\n").unwrap();

    let id = start_and_pause(&place, &daemon);
    let (status, answer) = daemon.post("/v1/repositories/small/runs");
    assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("already_running")));
    assert_eq!(answer["error"]["message"], format!("job {id} of small is going on"));
    let running = daemon.get("/v1/status")["repositories"][0]["running"].clone();
    assert_eq!((running["id"].as_u64(), running["phase"].as_str()), (Some(id), Some("hold")));

    let cancel = format!("/v1/jobs/{id}/cancel");
    assert_eq!(daemon.post(&cancel).0, 202);
    let job = finished(&daemon, id);
    assert_eq!(job["state"], "cancelled", "{job:#}");
    let (status, again) = daemon.post(&cancel);
    assert_eq!((status, again["job"]["state"].as_str()), (202, Some("cancelled")));
    assert_eq!(place.trace(), "pause\nrelease\n");
    assert_eq!(daemon.get("/v1/status")["held"], false);

    let mut seen = Vec::new();
    let mut line = String::new();
    while !seen.iter().any(|line: &Value| line["job"]["state"] == "cancelled") {
        line.clear();
        assert!(events.read_line(&mut line).unwrap() > 0, "the stream ended: {seen:#?}");
        seen.extend(line.strip_prefix("data:").map(|data| serde_json::from_str::<Value>(data).unwrap()));
    }
    let mut phases = seen.iter().filter_map(|line| line["happened"]["phase"].as_str()).collect::<Vec<_>>();
    phases.dedup();
    assert!(phases.starts_with(&["begin", "preflight", "warm", "hold"]), "{phases:?}");
    assert!(seen.iter().any(|line| line["job"]["state"] == "running"));
}

#[test]
fn a_run_that_waits_until_its_repository_is_idle_holds_it() {
    let place = Place::new();
    place.configure(&place.small("", UNTIL_IDLE));
    let daemon = place.start();
    let id = start_and_pause(&place, &daemon);
    let status = daemon.until("/v1/status", "the hold", |status| status["held"] == true);
    let small = &status["repositories"][0];
    assert_eq!((&small["held"], &small["hold"]["phase"]), (&true.into(), &"pausing".into()), "{small:#}");
    assert_eq!((&small["hold"]["job"], &small["running"]["held"]), (&id.into(), &true.into()), "{small:#}");
    assert!(small["hold"]["guard"].is_number() && small["kept_hold"].is_null(), "{small:#}");
    let told = Command::new(env!("CARGO_BIN_EXE_daykeep"))
        .args(["status", "--config"])
        .arg(place.path("daykeep.toml"))
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("held          YES, it is being paused since "), "{told}");
    assert!(told.contains(&format!("by job {id}, and not idle yet")), "{told}");
    fs::write(place.path("idle"), "").unwrap();
    assert_eq!(finished(&daemon, id)["state"], "succeeded");
    let status = daemon.get("/v1/status");
    let small = &status["repositories"][0];
    assert_eq!((&small["held"], &small["hold"]), (&false.into(), &Value::Null), "{small:#}");
}

#[test]
fn a_mistake_in_the_configuration_does_not_hide_what_the_daemon_does() {
    let place = Place::new();
    let daemon = place.start();
    let id = start(&daemon);
    assert_eq!(finished(&daemon, id)["state"], "succeeded");
    let text = place.small("", "").replace("vault =", "vualt =");
    place.configure(&text);
    let status = Command::new(env!("CARGO_BIN_EXE_daykeep"))
        .args(["status", "--config"])
        .arg(place.path("daykeep.toml"))
        .output()
        .unwrap();
    let told = String::from_utf8(status.stdout).unwrap();
    let error = String::from_utf8(status.stderr).unwrap();
    assert!(told.contains("small: newest day ") && told.contains("last attempt  succeeded"), "{told}{error}");
    assert!(error.contains("the daemon still runs with an older configuration"), "{error}");
    assert!(error.contains("vualt"), "{error}");
    assert_eq!(status.status.code(), Some(2));
}

/// The job of a run whose release fails says so; the status, until it is released.
#[test]
fn a_release_that_fails_is_shown_until_it_is_done() {
    let place = Place::new();
    let mended = place.path("mended").display().to_string();
    place.configure(
        &place.small("", "").replace("echo release", &format!("test -e {mended} || exit 3; echo release")),
    );
    let daemon = place.start();
    let job = finished(&daemon, start(&daemon));
    let error = job["error"].as_str().unwrap();
    assert!(error.starts_with("small is STILL PAUSED: cannot release the application"), "{error}");
    let failing = |status: &Value| status["repositories"][0]["hold"]["attempts"].as_u64() >= Some(2);
    let status = daemon.until("/v1/status", "the guard's tries", failing);
    let hold = &status["repositories"][0]["hold"];
    assert_eq!((&status["held"], &hold["phase"]), (&true.into(), &"releasing".into()), "{status:#}");
    assert!(
        error.contains(&format!("its guard (process {}) goes on trying", hold["guard"])),
        "{error}: {hold}"
    );
    fs::write(&mended, "").unwrap();
    daemon.until("/v1/status", "the release", |status| status["held"] == false);
}

#[test]
fn a_killed_daemon_leaves_nothing_held_and_a_failed_job() {
    let place = Place::new();
    place.configure(&place.small("", UNTIL_IDLE));
    let mut daemon = place.start();
    let id = start_and_pause(&place, &daemon);
    daemon.signal(Signal::SIGKILL);
    daemon.ended();
    until("the guard's release", || place.trace().contains("release"));
    let daemon = place.start();
    let job = daemon.get(&format!("/v1/jobs/{id}"))["job"].clone();
    assert_eq!(job["state"], "failed");
    assert_eq!(job["error"], "daykeep died during hold");
    let status = daemon.get("/v1/status");
    assert_eq!(status["held"], false, "{status:#}");
    assert_eq!(status["repositories"][0]["last_attempt"]["id"].as_u64(), Some(id));
    fs::write(place.path("idle"), "").unwrap();
    let next = start(&daemon);
    assert!(next > id);
    assert_eq!(finished(&daemon, next)["state"], "succeeded", "and the next run is as ever");
}

#[test]
fn what_a_run_in_the_foreground_does_is_shown_as_it_happens() {
    let place = Place::new();
    place.configure(&place.small("", UNTIL_IDLE));
    let daemon = place.start();
    let mut run = run_in_the_foreground(&place);
    let status = daemon.until("/v1/status", "the hold of another process", |status| status["held"] == true);
    let small = &status["repositories"][0];
    assert_eq!(small["held"], true);
    assert_eq!(
        (&small["running"]["phase"], &small["running"]["held"]),
        (&"hold".into(), &true.into()),
        "{small:#}"
    );
    let id = small["running"]["id"].as_u64().unwrap();
    assert!(daemon.ask("GET", "/metrics").1.contains("daykeep_paused{repository=\"small\"} 1.0"));
    let told = Command::new(env!("CARGO_BIN_EXE_daykeep"))
        .args(["status", "--config"])
        .arg(place.path("daykeep.toml"))
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("held          YES") && told.contains(&format!("job {id} since")), "{told}");
    let (status, answer) = daemon.post(&format!("/v1/jobs/{id}/cancel"));
    assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("not_ours")), "{answer:#}");
    assert!(run.try_wait().unwrap().is_none());

    fs::write(place.path("idle"), "").unwrap();
    assert!(run.wait().unwrap().success());
    let done = |status: &Value| status["repositories"][0]["last_success"]["id"].as_u64() == Some(id);
    let status = daemon.until("/v1/status", "the success of another process", done);
    let small = &status["repositories"][0];
    assert_eq!((&status["held"], &small["running"]), (&false.into(), &Value::Null), "{status:#}");
    assert_eq!(small["last_attempt"]["id"].as_u64(), Some(id));
    let day = &small["last_success"]["day"];
    assert!(
        day.is_string() && small["newest_day"]["name"] == *day,
        "the vault was looked at anew: {small:#}"
    );
    assert_eq!(daemon.get("/v1/jobs")["jobs"][0]["state"], "succeeded");
    assert_eq!(daemon.get(&format!("/v1/jobs/{id}"))["job"]["day"], *day);
    let metrics = daemon.ask("GET", "/metrics").1;
    assert!(metrics.contains("daykeep_last_attempt_success{repository=\"small\"} 1.0"), "{metrics}");
    assert!(metrics.contains("daykeep_last_success_timestamp_seconds{repository=\"small\"}"), "{metrics}");
    assert!(metrics.contains("daykeep_paused{repository=\"small\"} 0.0"), "{metrics}");
    // And a run of its own is as ever.
    let next = start(&daemon);
    assert!(next > id);
    assert_eq!(finished(&daemon, next)["state"], "succeeded");
    assert_eq!(daemon.get("/v1/status")["held"], false);
}

#[test]
fn a_run_in_the_foreground_is_told_to_who_watches_and_when_it_dies() {
    let place = Place::new();
    place.configure(&place.small("", UNTIL_IDLE));
    let daemon = place.start();
    let mut run = run_in_the_foreground(&place);
    let is_seen = |jobs: &Value| jobs["jobs"][0]["state"] == "running";
    let id = daemon.until("/v1/jobs", "the job", is_seen)["jobs"][0]["id"].as_u64().unwrap();
    let watch = Command::new(env!("CARGO_BIN_EXE_daykeep"))
        .args(["watch", &id.to_string(), "--config"])
        .arg(place.path("daykeep.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    run.kill().unwrap();
    run.wait().unwrap();
    // Nobody asks but the daemon itself.
    let watched = watch.wait_with_output().unwrap();
    let told = String::from_utf8(watched.stderr).unwrap();
    assert_eq!(watched.status.code(), Some(1), "{told}");
    assert!(told.contains("daykeep died during hold"), "{told}");
    until("the guard's release", || place.trace().contains("release"));
    daemon.until("/v1/status", "nothing is held", |status| status["held"] == false);
}

#[test]
fn a_stop_releases_what_is_held() {
    let place = Place::new();
    place.configure(&place.small("", UNTIL_IDLE));
    let mut daemon = place.start();
    let id = start_and_pause(&place, &daemon);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), Some(0));
    assert_eq!(place.trace(), "pause\nrelease\n", "released before it ended");
    let daemon = place.start();
    assert_eq!(daemon.get(&format!("/v1/jobs/{id}"))["job"]["state"], "cancelled");
}

#[test]
fn a_second_stop_ends_it_at_once_and_the_guard_releases() {
    let place = Place::new();
    // The release by the daemon hangs until `go` is there, and so does the guard's, which comes after it.
    let text = place.small("", UNTIL_IDLE).replace(
        "echo release",
        &format!("until test -e {0}/go; do sleep 0.05; done; echo release", place.dir.path().display()),
    );
    place.configure(&text);
    let mut daemon = place.start();
    start_and_pause(&place, &daemon);
    daemon.signal(Signal::SIGTERM);
    until("the first signal is heard", || place.log().contains("stopping"));
    let begun = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), Some(128 + 15));
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(!place.trace().contains("release"));
    fs::write(place.path("go"), "").unwrap();
    until("the guard's release", || place.trace().contains("release"));
}

#[test]
fn a_skipped_run_is_tried_again() {
    let place = Place::new();
    let hold = "prove = [\"test\", \"-e\", \"$T/idle\"]\n[repository.small.hold]\ndrain = \"1s\"\non_busy = \"skip\"\nretry_after = \"2s\"\n";
    place.configure(&place.small("", hold));
    let daemon = place.start();
    let id = start(&daemon);
    let job = finished(&daemon, id);
    assert_eq!(job["state"], "skipped", "{job:#}");
    assert!(!job["error"].is_null());
    let next = daemon.get("/v1/status")["repositories"][0]["next_run"].clone();
    assert_eq!(next["why"], "retry", "{next}");
    fs::write(place.path("idle"), "").unwrap();
    let jobs = daemon.until("/v1/jobs", "the next try", |jobs| jobs["jobs"][0]["state"] == "succeeded");
    assert_eq!(jobs["jobs"][0]["started_by"], "retry");
    assert!(at(&jobs["jobs"][0]["started"]) >= at(&next["at"]));
}

#[test]
fn a_failure_says_why_and_does_not_move_the_last_success() {
    let place = Place::new();
    let daemon = place.start();
    let good = start(&daemon);
    assert_eq!(finished(&daemon, good)["state"], "succeeded");
    let stamp = |metrics: &str| {
        let line = metrics.lines().find(|line| line.starts_with("daykeep_last_success_timestamp_seconds{"));
        line.unwrap_or_else(|| panic!("no stamp: {metrics}")).to_owned()
    };
    let before = stamp(&daemon.ask("GET", "/metrics").1);
    fs::rename(place.path("tree"), place.path("gone")).unwrap();
    let bad = start(&daemon);
    let job = finished(&daemon, bad);
    assert_eq!(job["state"], "failed", "{job:#}");
    let error = job["error"].as_str().unwrap();
    assert!(error.ends_with("/tree: No such file or directory (os error 2)"), "{job:#}");
    assert_eq!(job["detail"], "No such file or directory (os error 2)");
    let metrics = daemon.ask("GET", "/metrics").1;
    assert_eq!(stamp(&metrics), before);
    assert!(metrics.contains("daykeep_last_attempt_success{repository=\"small\"} 0.0"), "{metrics}");
    let small = daemon.get("/v1/status")["repositories"][0].clone();
    assert_eq!(small["last_success"]["id"].as_u64(), Some(good));
    assert_eq!(small["last_attempt"]["id"].as_u64(), Some(bad));
    assert!(small["newest_day"]["name"].is_string());
}

#[test]
fn a_run_missed_while_the_machine_was_off_is_made_once() {
    let place = Place::new();
    let schedule = "schedule = \"0 0 1 1 *\"\ntimezone = \"UTC\"\ncatch_up = true";
    place.configure(&place.small(schedule, ""));
    drop(place.start());
    let stamp = place.path("state/small/schedule.json");
    let text = fs::read_to_string(&stamp).unwrap();
    let mut off: Value = serde_json::from_str(&text).unwrap();
    off["last_due"] = "2001-01-01T00:00:00Z".into();
    fs::write(&stamp, off.to_string()).unwrap();

    let daemon = place.start();
    let jobs = daemon.until("/v1/jobs", "the late run", |jobs| jobs["jobs"][0]["state"] == "succeeded");
    assert_eq!(jobs["jobs"][0]["started_by"], "catch-up");
    drop(daemon);
    let daemon = place.start();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(daemon.get("/v1/jobs")["jobs"].as_array().unwrap().len(), 1, "one for all that were missed");
    drop(daemon);

    // The same stamp under another schedule: nothing was missed.
    fs::write(&stamp, off.to_string()).unwrap();
    place.configure(&place.small(&schedule.replace("0 0 1 1 *", "0 5 1 1 *"), ""));
    let daemon = place.start();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(daemon.get("/v1/jobs")["jobs"].as_array().unwrap().len(), 1);
}

#[test]
fn a_late_run_that_the_daemon_died_in_is_not_begun_again_and_again() {
    let place = Place::new();
    let schedule = "schedule = \"0 0 1 1 *\"\ntimezone = \"UTC\"\ncatch_up = true";
    place.configure(&place.small(schedule, UNTIL_IDLE));
    let mut daemon = place.start();
    // As the schedule would have begun it: missed, then begun, then killed.
    daemon.signal(Signal::SIGKILL);
    daemon.ended();
    let stamp = place.path("state/small/schedule.json");
    let mut off: Value = serde_json::from_str(&fs::read_to_string(&stamp).unwrap()).unwrap();
    off["last_due"] = "2001-01-01T00:00:00Z".into();
    fs::write(&stamp, off.to_string()).unwrap();
    let mut daemon = place.start();
    until("the pause", || place.trace().contains("pause"));
    daemon.signal(Signal::SIGKILL);
    daemon.ended();
    until("the guard's release", || place.trace().contains("release"));
    // It was a late run: it is not begun again, or a run that kills the machine would for ever.
    let daemon = place.start();
    std::thread::sleep(Duration::from_millis(500));
    let jobs = daemon.get("/v1/jobs");
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "{jobs:#}");
    assert_eq!(jobs["jobs"][0]["started_by"], "catch-up");
}
