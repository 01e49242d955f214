//! The journal of the jobs, through deaths, torn lines and races.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests look at the disk and start processes past the doors")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daykeep::event::Phase;
use daykeep::journal::{
    End, Error, Job, JobKind, JobState, Journal, job, jobs, last_due, last_success, set_last_due, settle,
};
use jiff::{SignedDuration, Timestamp};

fn at(minutes: i64) -> Timestamp {
    "2026-11-21T01:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
}

fn begin(state: &Path, repository: &str, minutes: i64) -> Journal {
    Journal::begin(state, repository, JobKind::Backup, "schedule", at(minutes)).unwrap()
}

fn succeed(state: &Path, repository: &str, minutes: i64) -> u64 {
    let mut journal = begin(state, repository, minutes);
    journal.finish(&End::Succeeded { day: Some("2026-11-21T010000Z".into()) }, at(minutes)).unwrap();
    journal.id()
}

#[test]
fn a_job_is_told_as_it_goes_and_as_it_ended() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path();
    let mut journal = begin(state, "fossology", 0);
    assert_eq!(journal.id(), 1);
    journal.step(Phase::Warm, at(1)).unwrap();
    journal.note("300 files are new", at(2)).unwrap();
    let mut expected = Job {
        id: 1,
        repository: "fossology".into(),
        kind: JobKind::Backup,
        state: JobState::Running,
        phase: Some(Phase::Warm),
        message: Some("300 files are new".into()),
        error: None,
        detail: None,
        started: at(0),
        ended: None,
        started_by: "schedule".into(),
        day: None,
    };
    assert_eq!(job(state, 1).unwrap(), expected);
    journal.step(Phase::Seal, at(3)).unwrap();
    let error = "cannot write /vault/x".to_owned();
    journal.finish(&End::Failed { error: error.clone(), detail: "no space".into() }, at(4)).unwrap();
    expected = Job {
        state: JobState::Failed,
        phase: Some(Phase::Seal),
        error: Some(error),
        detail: Some("no space".into()),
        ended: Some(at(4)),
        ..expected
    };
    assert_eq!(job(state, 1).unwrap(), expected);
    drop(journal);
    assert_eq!(jobs(state).unwrap(), [expected]);

    let end = |end: &End| {
        let mut journal = begin(state, "fossology", 5);
        journal.finish(end, at(6)).unwrap();
        job(state, journal.id()).unwrap()
    };
    let done = end(&End::Succeeded { day: Some("2026-11-21T010000Z".into()) });
    assert_eq!((done.state, done.day.as_deref()), (JobState::Succeeded, Some("2026-11-21T010000Z")));
    let skipped = end(&End::Skipped { reason: "3 agents run".into() });
    assert_eq!((skipped.state, skipped.error.as_deref()), (JobState::Skipped, Some("3 agents run")));
    assert_eq!(end(&End::Cancelled).state, JobState::Cancelled);
    let error = job(state, 99).unwrap_err();
    assert!(matches!(error, Error::NoSuchJob { id: 99 }));
    assert_eq!(error.to_string(), "there is no job 99");
}

#[test]
fn the_lines_on_the_disk_are_the_documented_ones() {
    let state = tempfile::tempdir().unwrap();
    let mut journal = begin(state.path(), "fossology", 0);
    journal.step(Phase::CrossCheck, at(1)).unwrap();
    journal.note("so", at(2)).unwrap();
    journal.finish(&End::Skipped { reason: "busy".into() }, at(3)).unwrap();
    insta::assert_snapshot!(fs::read_to_string(state.path().join("fossology/jobs/1.jsonl")).unwrap(), @r#"
    {"at":"2026-11-21T01:00:00Z","begin":{"job":1,"repository":"fossology","kind":"backup","started_by":"schedule"}}
    {"at":"2026-11-21T01:01:00Z","step":"cross_check"}
    {"at":"2026-11-21T01:02:00Z","note":"so"}
    {"at":"2026-11-21T01:03:00Z","end":{"state":"skipped","reason":"busy"}}
    "#);
}

#[test]
fn numbers_count_over_all_repositories() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path();
    assert_eq!(jobs(&state.join("missing")).unwrap(), []);
    let ids: Vec<u64> = ["a", "b", "a", "c"].map(|repository| succeed(state, repository, 0)).to_vec();
    assert_eq!(ids, [1, 2, 3, 4]);
    fs::write(state.join("b/jobs/17.jsonl"), "").unwrap();
    fs::write(state.join("b/jobs/notes.txt"), "").unwrap();
    assert_eq!(succeed(state, "a", 0), 18, "a file without a line has taken its number");
    let listed: Vec<u64> = jobs(state).unwrap().iter().map(|job| job.id).collect();
    assert_eq!(listed, [1, 2, 3, 4, 18]);
}

#[test]
fn two_that_begin_at_once_have_two_numbers() {
    let state = tempfile::tempdir().unwrap();
    let ids: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let state = state.path();
                scope.spawn(move || (0..10).map(|_| succeed(state, &format!("r{n}"), 0)).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 80);
    assert!(jobs(state.path()).unwrap().iter().all(|job| job.state == JobState::Succeeded));
}

const VICTIM: &str = "DAYKEEP_TEST_VICTIM_STATE";

/// Not a test when it is run as one: begins a job, and waits to be killed.
#[test]
fn victim() {
    let Some(state) = std::env::var_os(VICTIM) else { return };
    let mut journal = begin(Path::new(&state), "fossology", 0);
    journal.step(Phase::Hold, at(1)).unwrap();
    loop {
        std::thread::park();
    }
}

fn start_victim(state: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "victim", "--nocapture"]).env(VICTIM, state).stdout(Stdio::null());
    let child = command.spawn().unwrap();
    let start = Instant::now();
    while !jobs(state).unwrap().iter().any(|job| job.phase == Some(Phase::Hold)) {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn a_job_whose_daykeep_was_killed_has_failed_and_is_settled_once() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    let mut child = start_victim(state);
    assert_eq!(job(state, 1).unwrap().state, JobState::Running);
    assert_eq!(settle(state, at(2)).unwrap(), [], "what runs is not settled");
    child.kill().unwrap();
    child.wait().unwrap();
    let died = job(state, 1).unwrap();
    assert_eq!((died.state, died.error.as_deref()), (JobState::Failed, Some("daykeep died during hold")));
    assert_eq!(died.ended, Some(at(1)), "last heard of");

    // The power cut tore a line.
    let path = state.join("fossology/jobs/1.jsonl");
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"at\":\"2026-11-2").unwrap();
    assert_eq!(job(state, 1).unwrap(), died);
    let settled = settle(state, at(60)).unwrap();
    assert_eq!(settled, [Job { ended: Some(at(60)), ..died }]);
    assert_eq!(settle(state, at(61)).unwrap(), []);
    assert_eq!(jobs(state).unwrap(), settled);
    assert!(fs::read_to_string(&path).unwrap().ends_with(
        "\"end\":{\"state\":\"failed\",\"error\":\"daykeep died during hold\",\"detail\":\"\"}}\n"
    ));
}

#[test]
fn a_journal_that_is_dropped_without_an_end_has_failed() {
    let state = tempfile::tempdir().unwrap();
    drop(begin(state.path(), "fossology", 0));
    let job = job(state.path(), 1).unwrap();
    assert_eq!(job.error.as_deref(), Some("daykeep died before the job's first phase"));
}

#[test]
fn a_torn_first_line_is_no_job() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    succeed(state, "fossology", 0);
    fs::write(state.join("fossology/jobs/2.jsonl"), "{\"at\":\"2026-").unwrap();
    assert_eq!(jobs(state).unwrap().len(), 1);
    assert_eq!(settle(state, at(1)).unwrap(), []);
    assert_eq!(succeed(state, "fossology", 1), 3);
}

#[test]
fn old_jobs_are_forgotten_but_for_the_newest_success() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    succeed(state, "fossology", 0);
    let success = succeed(state, "fossology", 7);
    let other = succeed(state, "other", 9);
    let failed = |id: u64| {
        format!(
            "{{\"at\":\"2026-11-21T02:00:00Z\",\"begin\":{{\"job\":{id},\"repository\":\"fossology\",\"kind\":\"backup\",\
             \"started_by\":\"schedule\"}}}}\n{{\"at\":\"2026-11-21T02:00:00Z\",\"end\":{{\"state\":\"cancelled\"}}}}\n"
        )
    };
    for id in 4..1204 {
        fs::write(state.join(format!("fossology/jobs/{id}.jsonl")), failed(id)).unwrap();
    }
    let journal = begin(state, "fossology", 60);
    assert_eq!(journal.id(), 1204);
    let ids: Vec<u64> = jobs(state).unwrap().iter().map(|job| job.id).collect();
    let expected: Vec<u64> = [success, other].into_iter().chain(205..=1204).collect();
    assert_eq!(ids, expected);
    assert_eq!(last_success(state, "fossology").unwrap(), Some(at(7)));
    assert_eq!(last_success(state, "other").unwrap(), Some(at(9)));
    assert_eq!(last_success(state, "nobody").unwrap(), None);
}

#[test]
fn only_a_backup_is_a_success() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    let mut prune = Journal::begin(state, "fossology", JobKind::Prune, "root", at(0)).unwrap();
    prune.finish(&End::Succeeded { day: None }, at(1)).unwrap();
    assert_eq!(last_success(state, "fossology").unwrap(), None);
    succeed(state, "fossology", 2);
    drop(begin(state, "fossology", 3));
    assert_eq!(last_success(state, "fossology").unwrap(), Some(at(2)));
}

#[test]
fn the_last_due_instant_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    let (old, new) = ("0 1 * * * UTC", "0 3 * * * UTC");
    assert_eq!(last_due(state, "fossology", JobKind::Backup, old).unwrap(), None);
    set_last_due(state, "fossology", JobKind::Backup, old, at(0)).unwrap();
    set_last_due(state, "fossology", JobKind::Backup, old, at(5)).unwrap();
    assert_eq!(last_due(state, "fossology", JobKind::Backup, old).unwrap(), Some(at(5)));
    let drill = last_due(state, "fossology", JobKind::Drill, old).unwrap();
    assert_eq!(drill, None, "each kind of job has its own");
    assert_eq!(
        last_due(state, "fossology", JobKind::Backup, new).unwrap(),
        None,
        "another schedule has handled nothing yet"
    );
    fs::write(state.join("fossology/schedule.json"), "{").unwrap();
    let error = last_due(state, "fossology", JobKind::Backup, old).unwrap_err().to_string();
    assert!(
        error.ends_with("schedule.json is damaged: remove it, and the next scheduled run will write it anew")
    );
}

#[test]
fn a_line_that_a_full_disk_tore_does_not_take_the_next_one_along() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "none"])
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(mounted.success());
    let state = dir.path().join("state");
    let mut journal = begin(&state, "gold", 0);
    let filler = dir.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let failed =
        (0..200).map(|_| journal.note("a sentence that fills the page", at(1))).find_map(Result::err);
    let failed = failed.expect("the disk is full").to_string();
    assert!(failed.starts_with("cannot write ") && failed.contains("1.jsonl"), "{failed}");
    fs::remove_file(&filler).unwrap();
    journal.finish(&End::Succeeded { day: None }, at(2)).unwrap();
    drop(journal);
    let state = job(&state, 1).unwrap().state;
    assert!(Command::new("umount").arg(dir.path()).status().unwrap().success());
    assert_eq!(state, JobState::Succeeded);
}
