//! Verifies and drills under the daemon: by schedule and by order, beside runs, cancelled and killed.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/daemon.rs"]
mod harness;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use harness::{Daemon, Place, until};

const DRILLS: &str = "/v1/repositories/small/drills";
const VERIFIES: &str = "/v1/repositories/small/verifies";
const RUNS: &str = "/v1/repositories/small/runs";

fn begun((status, answer): (u16, Value)) -> u64 {
    assert_eq!(status, 202, "{answer}");
    assert_eq!(answer["job"]["state"], "running", "{answer}");
    answer["job"]["id"].as_u64().unwrap()
}

fn finished(daemon: &Daemon<'_>, id: u64) -> Value {
    let ended = |answer: &Value| answer["job"]["state"] != "running";
    daemon.until(&format!("/v1/jobs/{id}"), "the job's end", ended)["job"].clone()
}

/// Keeps a day; gives its name.
fn keep_a_day(daemon: &Daemon<'_>) -> String {
    let job = finished(daemon, begun(daemon.post(RUNS)));
    assert_eq!(job["state"], "succeeded", "{job:#}");
    job["day"].as_str().unwrap().to_owned()
}

fn status(daemon: &Daemon<'_>) -> Value {
    daemon.get("/v1/status")["repositories"][0].clone()
}

/// What a drill has made and not removed.
fn scratch(place: &Place) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place.path("state/small/drill")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

/// A tree whose drill takes some seconds.
fn with_large_tree() -> Place {
    let place = Place::new();
    let file = fs::File::create(place.path("tree/large")).unwrap();
    file.set_len(600 << 20).unwrap();
    place
}

#[test]
fn a_scheduled_drill_proves_the_newest_day() {
    let place = Place::new();
    let drill = "[repository.small.drill]\nschedule = \"* * * * * *\"\ntimezone = \"UTC\"\n";
    place.configure(&format!("{}{drill}", place.small("", "")));
    let daemon = place.start();
    assert!(status(&daemon)["newest_proven_day"].is_null());
    assert!(status(&daemon)["next_drill"]["at"].is_string());
    let day = keep_a_day(&daemon);
    let proven = |answer: &Value| answer["repositories"][0]["newest_proven_day"]["name"] == day.as_str();
    let answer = daemon.until("/v1/status", "the proof", proven);
    assert!(answer["newest_proven_age_seconds"].as_u64().unwrap() < 60, "{answer:#}");
    let found = &answer["repositories"][0];
    assert_eq!(found["last_drill"]["ok"], true, "{found:#}");
    let jobs = daemon.get("/v1/jobs")["jobs"].clone();
    let ours = |job: &&Value| job["type"] == "drill" && job["state"] == "succeeded";
    let drilled = jobs.as_array().unwrap().iter().find(ours).unwrap().clone();
    assert_eq!((drilled["started_by"].as_str(), drilled["day"].as_str()), (Some("schedule"), Some(&*day)));
    assert_eq!(found["last_attempt"]["type"], "backup", "a drill is no run: {found:#}");
    let metrics = daemon.ask("GET", "/metrics").1;
    for figure in [
        "daykeep_newest_proven_age_seconds{repository=\"small\"}",
        "daykeep_last_drill_success{repository=\"small\"} 1.0",
        "daykeep_last_drill_duration_seconds{repository=\"small\",part=\"total\"}",
        "daykeep_restore_pending{repository=\"small\"} 0.0",
        "daykeep_hold_kept{repository=\"small\"} 0.0",
    ] {
        assert!(metrics.contains(figure), "{figure}: {metrics}");
    }
    let stamp = fs::read_to_string(place.path("state/small/schedule-drill.json")).unwrap();
    assert!(stamp.contains("* * * * * *"), "{stamp}");
}

#[test]
fn a_scheduled_verify_finds_damage_by_itself_and_its_repair_too() {
    let place = Place::new();
    let verify = "[repository.small.verify]\nschedule = \"* * * * * *\"\ntimezone = \"UTC\"\n";
    place.configure(&format!("{}{verify}", place.small("", "")));
    let daemon = place.start();
    assert!(status(&daemon)["last_verify"].is_null());
    assert!(status(&daemon)["next_verify"]["at"].is_string());
    let day = keep_a_day(&daemon);
    let last = |answer: &Value| answer["repositories"][0]["last_verify"].clone();
    let sound = |answer: &Value| last(answer)["ok"] == true;
    let answer = daemon.until("/v1/status", "the first outcome", sound);
    assert_eq!(last(&answer)["day"], day, "{answer:#}");

    let file = place.path(&format!("vault/small/days/{day}/trees/files/one"));
    let (content, time) = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());
    // Never cut short: somebody looks at it all the time.
    let overwrite =
        |content: &[u8]| fs::File::options().write(true).open(&file).unwrap().write_all(content).unwrap();
    overwrite(&vec![b'x'; content.len()]);
    let damaged = |answer: &Value| last(answer)["ok"] == false;
    let answer = daemon.until("/v1/status", "the damage", damaged);
    let why = last(&answer)["first"].as_str().unwrap().to_owned();
    assert!(last(&answer)["damages"] == 1 && why.starts_with("trees/files/one: its content"), "{answer:#}");
    overwrite(&content);
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    let answer = daemon.until("/v1/status", "that nothing is damaged any more", sound);
    assert!(answer["repositories"][0]["newest_proven_day"].is_null(), "a verify proves no day: {answer:#}");

    let jobs = daemon.get("/v1/jobs")["jobs"].clone();
    let verifies = jobs.as_array().unwrap().iter().filter(|job| job["type"] == "verify");
    let verifies: Vec<&Value> = verifies.collect();
    assert!(verifies.len() >= 3 && verifies.iter().all(|job| job["started_by"] == "schedule"), "{jobs:#}");
    let failed = verifies.iter().find(|job| job["state"] == "failed").expect("the one that found it");
    assert_eq!(failed["error"], format!("damage was found in {day}"));
    let metrics = daemon.ask("GET", "/metrics").1;
    assert!(metrics.contains("daykeep_last_verify_success{repository=\"small\"} 1.0"), "{metrics}");
    let stamp = fs::read_to_string(place.path("state/small/schedule-verify.json")).unwrap();
    assert!(stamp.contains("* * * * * *"), "{stamp}");
    let proofs = fs::read_to_string(place.path(&format!("vault/small/proofs/{day}.json"))).unwrap();
    assert!(proofs.contains("\"ok\": false") && proofs.contains("\"ok\": true"), "{proofs}");
}

#[test]
fn a_verify_by_order_finds_damage_and_takes_the_proof_away() {
    let place = Place::new();
    let daemon = place.start();
    let day = keep_a_day(&daemon);
    let job = finished(&daemon, begun(daemon.order(DRILLS, &json!({ "day": day }))));
    assert_eq!((job["type"].as_str(), job["state"].as_str()), (Some("drill"), Some("succeeded")), "{job:#}");
    assert_eq!(job["started_by"], nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name);
    let job = finished(&daemon, begun(daemon.order(VERIFIES, &json!({ "sample": "50%" }))));
    assert_eq!((job["type"].as_str(), job["state"].as_str()), (Some("verify"), Some("succeeded")), "{job:#}");
    assert_eq!(status(&daemon)["newest_proven_day"]["name"], day);

    let file = place.path(&format!("vault/small/days/{day}/trees/files/one"));
    let length = fs::metadata(&file).unwrap().len();
    fs::write(&file, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
    let job = finished(&daemon, begun(daemon.post(VERIFIES)));
    assert_eq!(job["state"], "failed", "{job:#}");
    assert_eq!(job["error"], format!("damage was found in {day}"));
    assert!(job["detail"].as_str().unwrap().contains("one"), "{job:#}");
    let found = status(&daemon);
    assert!(found["newest_proven_day"].is_null(), "{found:#}");
    assert_eq!((&found["last_verify"]["ok"], &found["last_verify"]["day"]), (&json!(false), &json!(day)));
    let metrics = daemon.ask("GET", "/metrics").1;
    assert!(metrics.contains("daykeep_last_verify_success{repository=\"small\"} 0.0"), "{metrics}");
    assert!(!metrics.contains("daykeep_newest_proven_age_seconds{"), "{metrics}");
}

#[test]
fn an_order_that_makes_no_sense_is_no_job() {
    let place = Place::new();
    let daemon = place.start();
    let refused = |path: &str, order: Value, text: &str| {
        let (status, answer) = daemon.order(path, &order);
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("bad_request")), "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(text), "{message}");
    };
    refused(VERIFIES, json!({ "sample": "half" }), "\"sample\" is \"half\"");
    refused(VERIFIES, json!({ "sample": "0%" }), "must be a percentage above 0%");
    refused(VERIFIES, json!({ "all": true, "day": "latest" }), "cannot be asked for together");
    refused(DRILLS, json!({ "day": 7 }), "the body is no order: invalid type");
    refused(DRILLS, json!({ "dya": "latest" }), "unknown field `dya`");
    let (status, answer) = daemon.post("/v1/repositories/other/drills");
    assert_eq!((status, answer["error"]["code"].as_str()), (404, Some("no_such_repository")));
    assert_eq!(daemon.get("/v1/jobs")["jobs"], json!([]));
}

#[test]
fn a_drill_keeps_no_run_waiting_and_can_be_cancelled() {
    let place = with_large_tree();
    let daemon = place.start();
    keep_a_day(&daemon);
    let drill = begun(daemon.post(DRILLS));
    let (status, answer) = daemon.post(VERIFIES);
    assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("already_running")), "{answer}");
    assert_eq!(answer["error"]["message"], format!("job {drill} of small is going on"));
    let shown = self::status(&daemon);
    assert_eq!(shown["other_jobs"][0]["id"], drill, "{shown:#}");
    assert!(shown["running"].is_null());
    let run = begun(daemon.post(RUNS));
    assert_eq!(daemon.get(&format!("/v1/jobs/{drill}"))["job"]["state"], "running", "side by side");
    assert_eq!(daemon.post(&format!("/v1/jobs/{drill}/cancel")).0, 202);
    let job = finished(&daemon, drill);
    assert_eq!(job["state"], "cancelled", "{job:#}");
    assert!(scratch(&place).is_empty(), "{:?}", scratch(&place));
    assert_eq!(finished(&daemon, run)["state"], "succeeded");
    assert!(self::status(&daemon)["last_drill"].is_null(), "nothing was learnt of the day");
}

#[test]
fn a_drill_in_which_the_daemon_died_is_failed_and_cleared_away() {
    let place = with_large_tree();
    let mut daemon = place.start();
    keep_a_day(&daemon);
    let drill = begun(daemon.post(DRILLS));
    until("the scratch directory", || !scratch(&place).is_empty());
    daemon.signal(Signal::SIGKILL);
    daemon.ended();
    drop(daemon);
    assert!(!scratch(&place).is_empty(), "it was killed in the midst of it");
    fs::remove_file(place.path("tree/large")).unwrap();
    let daemon = place.start();
    let job = finished(&daemon, drill);
    assert_eq!(job["state"], "failed", "{job:#}");
    assert!(job["error"].as_str().unwrap().starts_with("daykeep died during "), "{job:#}");
    let day = keep_a_day(&daemon);
    let job = finished(&daemon, begun(daemon.post(DRILLS)));
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert!(scratch(&place).is_empty(), "{:?}", scratch(&place));
    assert_eq!(status(&daemon)["newest_proven_day"]["name"], day);
}

#[test]
fn what_another_process_does_is_in_the_way_at_once() {
    let place = Place::new();
    let until_idle = "prove = [\"test\", \"-e\", \"$T/idle\"]\n[repository.small.hold]\ndrain = \"60s\"\n";
    place.configure(&place.small("", until_idle));
    let daemon = place.start();
    let mut foreground = Command::new(env!("CARGO_BIN_EXE_daykeep"))
        .arg("--config")
        .arg(place.path("daykeep.toml"))
        .arg("run")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the pause", || place.trace().contains("pause"));
    // What others do is looked at twice a second at the most.
    std::thread::sleep(std::time::Duration::from_millis(700));
    let (status, answer) = daemon.post(RUNS);
    assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("already_running")), "{answer}");
    assert_eq!(answer["error"]["message"], "job 1 of small is going on in another process");
    fs::write(place.path("idle"), "").unwrap();
    assert!(foreground.wait().unwrap().success());
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(finished(&daemon, begun(daemon.post(RUNS)))["state"], "succeeded");
}
