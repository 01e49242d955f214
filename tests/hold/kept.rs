//! The hold of a restore: it has no limit, and once it is kept it outlives its run until a run takes it over. What every adapter has to do.

use std::time::Duration;

use crate::conformance::{Check, Subject, kill_guards};
use crate::driver::{Run, wait_until};

pub const CHECKS: [Check; 10] = [
    ("a killed restore that is not kept is released", not_kept_it_is_released),
    ("a kept hold outlives its run", it_outlives_its_run),
    ("a kept hold outlives its run and its guard", it_outlives_its_guard),
    ("a kept hold outlives its record", it_outlives_its_record),
    ("what was started meanwhile is paused again", what_was_started_is_paused_again),
    ("what a restore found stopped stays stopped, unless it is asked for", what_was_stopped),
    ("what is to stay stopped is not started", it_stays_stopped),
    ("after a release by force a resume pauses anew", after_force),
    ("a hold that is given up is forgotten", given_up),
    ("hold.max does not count", no_limit),
];

/// A restore that has kept its hold.
fn kept(subject: &dyn Subject) -> Run {
    let mut run = subject.place().restoring("restore");
    assert!(!subject.runs(), "it is paused");
    run.tell("keep");
    run.expect("kept");
    run
}

/// Killed, with the guard having seen it.
fn killed(subject: &dyn Subject, mut run: Run) {
    run.kill();
    wait_until("the guard has gone", || subject.place().guards().is_empty());
    assert!(subject.place().has_record());
}

fn released(mut run: Run) {
    run.tell("release");
    run.expect("released");
}

fn not_kept_it_is_released(subject: &dyn Subject) {
    let mut run = subject.place().restoring("restore");
    assert!(!subject.runs());
    run.kill();
    subject.place().wait_for_no_record();
    assert!(subject.runs());
}

fn it_outlives_its_run(subject: &dyn Subject) {
    let run = kept(subject);
    let found = subject.place().leftovers(false);
    assert_eq!(found[0]["outcome"], "InUse", "{found:?}");
    let refused = subject.place().start("resume", |_| {}).expect_error("InUse");
    assert!(refused.starts_with("app is held by job 7 (process "), "{refused}");
    killed(subject, run);
    for _ in 0..2 {
        assert!(!subject.runs(), "nobody has released it");
        let found = subject.place().leftovers(false);
        assert_eq!(found[0]["outcome"], "Kept", "{found:?}");
        assert!(found[0]["text"].as_str().unwrap().contains("a restore is half way"), "{found:?}");
        let text = subject.place().run().expect_error("Kept");
        assert!(
            text.starts_with("app stays held since ") && text.ends_with(": a restore is half way"),
            "{text}"
        );
        // Killed again, before it has said anything of its own.
        let run = subject.place().restoring("resume");
        assert_eq!(subject.place().guards().len(), 1);
        killed(subject, run);
    }
    let run = subject.place().start("resume", |_| {});
    let held = run.expect("held");
    assert_eq!(held["evidence"]["paused_by_us"], true, "{held}");
    assert!(!held["evidence"]["proofs"].as_array().unwrap().is_empty(), "{held}");
    released(run);
    assert!(subject.runs());
    assert!(!subject.place().has_record());
}

fn it_outlives_its_guard(subject: &dyn Subject) {
    let before = subject.releases();
    let run = kept(subject);
    kill_guards(subject);
    killed(subject, run);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!subject.runs());
    let mut lives = subject.place().restoring("resume");
    // It is not the process that counts: a daemon lives on after a restore that failed.
    lives.tell("drop");
    lives.expect("dropped");
    wait_until("the guard has gone", || subject.place().guards().is_empty());
    assert!(!subject.runs());
    assert_eq!(subject.place().leftovers(false)[0]["outcome"], "Kept");
    let mut run = subject.place().restoring("resume");
    run.tell("drop");
    run.expect("dropped");
    wait_until("the guard has gone", || subject.place().guards().is_empty());
    assert_eq!(subject.place().leftovers(true)[0]["outcome"], "Released");
    assert!(subject.runs());
    if let (Some(before), Some(after)) = (before, subject.releases()) {
        assert_eq!(after, before + 1);
    }
}

fn it_outlives_its_record(subject: &dyn Subject) {
    let mut run = kept(subject);
    std::fs::remove_dir_all(subject.place().state_dir()).unwrap();
    run.kill();
    wait_until("the guard has gone", || subject.place().guards().is_empty());
    assert!(!subject.runs(), "nobody knows what the restore has replaced");
    subject.operator_starts();
}

fn what_was_started_is_paused_again(subject: &dyn Subject) {
    killed(subject, kept(subject));
    subject.operator_starts();
    assert!(subject.runs());
    let run = subject.place().start("resume", |_| {});
    let held = run.expect("held");
    assert!(!subject.runs());
    let proofs = held["evidence"]["proofs"].to_string();
    assert!(
        proofs.contains("it was started while the restore was half way, and is paused again"),
        "{proofs}"
    );
    released(run);
    assert!(subject.runs());
}

fn what_was_stopped(subject: &dyn Subject) {
    subject.operator_stops();
    let run = subject.place().start("restore", |_| {});
    let held = run.expect("held");
    assert_eq!(held["evidence"]["paused_by_us"], false, "{held}");
    released(run);
    assert!(!subject.runs(), "nobody asked for it");
    let mut run = subject.place().restoring("restore");
    run.tell("keep");
    run.expect("kept");
    killed(subject, run);
    released(subject.place().restoring("resume"));
    assert!(!subject.runs(), "nor for this");
    let mut run = subject.place().restoring("restore");
    run.tell("keep");
    run.expect("kept");
    killed(subject, run);
    let mut run = subject.place().restoring("resume");
    run.tell("start");
    run.expect("released");
    assert!(subject.runs());
}

fn it_stays_stopped(subject: &dyn Subject) {
    let mut run = kept(subject);
    run.tell("stop");
    run.expect("released");
    assert!(!subject.runs());
    assert!(!subject.place().has_record());
    wait_until("the guard has gone", || subject.place().guards().is_empty());
    assert!(!subject.runs(), "nor does its guard start it");
    subject.operator_starts();
    killed(subject, kept(subject));
    let mut run = subject.place().restoring("resume");
    run.tell("stop");
    run.expect("released");
    assert!(!subject.runs(), "nor after a kill");
    subject.operator_starts();
}

fn after_force(subject: &dyn Subject) {
    killed(subject, kept(subject));
    assert_eq!(subject.place().leftovers(true)[0]["outcome"], "Released");
    assert!(subject.runs());
    let mut run = subject.place().restoring("resume");
    assert!(!subject.runs());
    run.kill();
    // It was paused anew, and nobody has kept it since.
    subject.place().wait_for_no_record();
    assert!(subject.runs());
}

fn given_up(subject: &dyn Subject) {
    let run = kept(subject);
    assert_eq!(subject.place().give_up()["kind"], "InUse");
    killed(subject, run);
    let told = subject.place().give_up();
    assert!(told["stays"].is_string(), "{told}");
    assert!(!subject.place().has_record() && !subject.runs());
    assert_eq!(subject.place().give_up()["step"], "done");
    subject.operator_starts();
}

/// A backup with this limit is released after it.
fn no_limit(subject: &dyn Subject) {
    subject.configure("max = \"1s\"\ndrain = \"20s\"");
    let mut run = subject.place().restoring("restore");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!subject.runs());
    run.tell("still");
    run.expect("still");
    released(run);
}
