//! What every adapter has to do, in the same words for all of them.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::driver::{Place, wait_until};
use crate::kept;

/// An application that an adapter holds.
pub trait Subject {
    /// Where its configuration is.
    fn place(&self) -> &Place;
    /// Writes the configuration with these lines in `[hold]`.
    fn configure(&self, general: &str);
    /// Whether the application runs.
    fn runs(&self) -> bool;
    /// An operator stops it.
    fn operator_stops(&self);
    /// An operator starts it.
    fn operator_starts(&self);
    /// How often it was released, if that is counted.
    fn releases(&self) -> Option<usize>;
}

const GENEROUS: &str = "max = \"60s\"\ndrain = \"20s\"\non_busy = \"skip\"";

/// One promise.
pub type Check = (&'static str, fn(&dyn Subject));

/// All that is promised of an adapter that pauses.
pub fn every_promise(subject: &dyn Subject) {
    let checks: [Check; 12] = [
        ("holds and releases", holds_and_releases),
        ("what was stopped stays stopped", what_was_stopped_stays_stopped),
        ("a killed run is released", a_killed_run_is_released),
        ("a dropped hold is released", a_dropped_hold_is_released),
        ("a panic releases", a_panic_releases),
        ("a record is enough", the_record_is_enough),
        ("a guard needs no record", a_guard_needs_no_record),
        ("only one releases", only_one_releases),
        ("a hold in use is left alone", a_hold_in_use_is_left_alone),
        ("hold.max releases", hold_max_releases),
        ("an operator who starts it is noticed", an_early_start_is_noticed),
        ("the next hold works", holds_and_releases),
    ];
    for (name, check) in checks.into_iter().chain(kept::CHECKS) {
        eprintln!("conformance: {name}");
        subject.configure(GENEROUS);
        assert!(subject.runs(), "before: {name}");
        check(subject);
        wait_until(name, || subject.runs());
        subject.place().wait_for_no_record();
        wait_until("no guard is left", || subject.place().guards().is_empty());
    }
}

fn holds_and_releases(subject: &dyn Subject) {
    let mut run = subject.place().run();
    let held = run.expect("held");
    assert!(!subject.runs(), "it is paused");
    assert_eq!(subject.place().phase().as_deref(), Some("paused"));
    assert_eq!(subject.place().guards().len(), 1);
    assert_eq!(held["evidence"]["paused_by_us"], true);
    assert!(!held["evidence"]["proofs"].as_array().unwrap().is_empty(), "{held}");
    assert!(held["evidence"]["released_at"].is_null());
    run.tell("still");
    run.expect("still");
    run.tell("release");
    let released = run.expect("released");
    assert!(subject.runs(), "it runs when the release returns");
    assert!(!subject.place().has_record());
    assert!(released["evidence"]["released_at"].is_string());
    assert!(released["evidence"]["held_seconds"].as_f64().unwrap() > 0.0);
}

fn what_was_stopped_stays_stopped(subject: &dyn Subject) {
    subject.operator_stops();
    let mut run = subject.place().run();
    let held = run.expect("held");
    assert_eq!(held["evidence"]["paused_by_us"], false, "{held}");
    assert!(!subject.place().has_record(), "there is nothing to release");
    run.tell("release");
    run.expect("released");
    assert!(!subject.runs(), "daykeep never starts what an operator stopped");
    assert!(subject.place().leftovers(true).is_empty());
    assert!(!subject.runs());
    let mut run = subject.place().held();
    run.kill();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!subject.runs());
    subject.operator_starts();
}

fn a_killed_run_is_released(subject: &dyn Subject) {
    let mut run = subject.place().held();
    assert!(!subject.runs());
    run.kill();
    subject.place().wait_for_no_record();
    assert!(subject.runs(), "the guard released it before it took the record away");
}

fn a_dropped_hold_is_released(subject: &dyn Subject) {
    let mut run = subject.place().held();
    run.tell("drop");
    run.expect("dropped");
    subject.place().wait_for_no_record();
}

fn a_panic_releases(subject: &dyn Subject) {
    let mut run = subject.place().held();
    run.tell("panic");
    subject.place().wait_for_no_record();
}

/// The guard is killed with the run: the record is all that is left, as after a power cut.
fn the_record_is_enough(subject: &dyn Subject) {
    let mut run = subject.place().held();
    kill_guards(subject);
    run.kill();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!subject.runs(), "nobody is there to release it");
    let found = subject.place().leftovers(false);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["outcome"], "Released", "{found:?}");
    assert_eq!(found[0]["run"], 7);
    assert!(subject.runs());
    assert!(subject.place().leftovers(false).is_empty(), "there is nothing left to do");
}

fn a_guard_needs_no_record(subject: &dyn Subject) {
    let mut run = subject.place().held();
    std::fs::remove_dir_all(subject.place().state_dir()).unwrap();
    run.kill();
    wait_until("it is released from memory", || subject.runs());
}

fn only_one_releases(subject: &dyn Subject) {
    let before = subject.releases();
    let mut run = subject.place().held();
    kill_guards(subject);
    run.kill();
    let places = [subject.place(); 4];
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = places
            .into_iter()
            .map(|place| {
                let mut command = place.command();
                command.arg("leftovers").arg(place.state_dir());
                scope.spawn(move || command.output().expect("the driver").stdout)
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let released =
        outcomes.iter().filter(|text| String::from_utf8_lossy(text).contains("\"Released\"")).count();
    assert_eq!(released, 1, "exactly one of four releases");
    wait_until("it runs", || subject.runs());
    if let (Some(before), Some(after)) = (before, subject.releases()) {
        assert_eq!(after, before + 1);
    }
}

fn a_hold_in_use_is_left_alone(subject: &dyn Subject) {
    let mut run = subject.place().held();
    let found = subject.place().leftovers(false);
    assert_eq!(found[0]["outcome"], "InUse", "{found:?}");
    assert!(!subject.runs());
    let found = subject.place().leftovers(true);
    assert_eq!(found[0]["outcome"], "Released", "{found:?}");
    assert!(subject.runs());
    run.tell("still");
    let text = run.expect_error("ReleasedByGuard");
    assert!(text.contains("`daykeep release`") && text.contains("the freeze is void"), "{text}");
    run.tell("release");
    run.expect_error("ReleasedByGuard");
    assert!(!subject.place().has_record(), "the run has learned it");
}

/// A run that is stopped keeps its pipe open: the guard counts.
fn hold_max_releases(subject: &dyn Subject) {
    subject.configure("max = \"1s\"\ndrain = \"20s\"");
    let mut run = subject.place().held();
    run.signal(Signal::SIGSTOP);
    wait_until("hold.max has passed", || subject.runs());
    subject.place().wait_for_phase("released");
    run.signal(Signal::SIGCONT);
    run.tell("release");
    let text = run.expect_error("ReleasedByGuard");
    assert!(text.contains("hold.max (1s) had passed"), "{text}");
}

fn an_early_start_is_noticed(subject: &dyn Subject) {
    let mut run = subject.place().held();
    subject.operator_starts();
    run.tell("still");
    let error = run.expect("error");
    let kind = error["kind"].as_str().unwrap_or_default();
    assert!(["NotIdle", "StartedMeanwhile"].contains(&kind), "{error}");
    run.tell("release");
    run.expect("released");
    assert!(subject.runs());
}

/// SIGKILL, until none is left.
pub fn kill_guards(subject: &dyn Subject) {
    for pid in subject.place().guards() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).expect("the guard runs");
        // It has no command line any more a moment before it is dead, and can be waited for only when its last thread has ended.
        wait_until("the guard is dead", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['Z', 'X'])) && threads < 2
        });
    }
}
