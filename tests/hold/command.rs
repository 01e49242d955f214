//! The adapter `command`, and with it the steps between the record and its removal.

use std::fs;
use std::time::Duration;

use crate::conformance::{Subject, every_promise};
use crate::driver::{Place, quoted, wait_until};

/// An application that is a file: it runs while the file is there.
pub struct App {
    place: Place,
}

const GENERAL: &str = "max = \"30s\"\ndrain = \"10s\"";

impl App {
    pub fn new() -> Self {
        let place = Place::new();
        let app = Self { place };
        fs::write(app.place.path("running"), "").unwrap();
        app.script("is_running", "test -f running");
        app.script("pause", "echo pause >>log; rm running");
        app.script("prove", "test ! -f running && test ! -f busy");
        app.script("kill", "echo kill >>log; rm busy");
        app.script("release", "echo release >>log; touch running");
        app.configure(GENERAL);
        app
    }

    /// A script that runs in the place's directory.
    pub fn script(&self, name: &str, text: &str) {
        self.place.script(name, &format!("cd \"$(dirname \"$0\")\" || exit 99\n{text}"));
    }

    pub fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.place.path("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

impl Subject for App {
    fn place(&self) -> &Place {
        &self.place
    }

    fn configure(&self, general: &str) {
        let script = |name| format!("{name} = [{}]", quoted(&self.place.path(name)));
        let settings = ["is_running", "pause", "prove", "kill", "release"].map(script).join("\n");
        self.place.configure(general, "command", &format!("{settings}\ntimeout = \"5s\""), None);
    }

    fn runs(&self) -> bool {
        self.place.path("running").exists()
    }

    fn operator_stops(&self) {
        fs::remove_file(self.place.path("running")).unwrap();
    }

    fn operator_starts(&self) {
        fs::write(self.place.path("running"), "").unwrap();
    }

    fn releases(&self) -> Option<usize> {
        Some(self.log().iter().filter(|line| *line == "release").count())
    }
}

#[test]
fn it_does_what_every_adapter_does() {
    every_promise(&App::new());
}

#[test]
fn the_record_is_on_disk_before_the_pause() {
    let app = App::new();
    app.script("pause", "grep -q '\"phase\": \"pausing\"' state/app/hold.json || exit 9; rm running");
    let mut run = app.place.held();
    run.tell("release");
    run.expect("released");
}

#[test]
fn the_guard_is_ready_before_the_pause() {
    let app = App::new();
    let guard = app.place.script("guard", "exit 0");
    let run = app.place.run_with(|command| {
        command.env("GUARD", &guard);
    });
    let text = run.expect_error("GuardNotReady");
    assert!(text.ends_with("did not become ready: nothing was paused"), "{text}");
    assert!(app.log().is_empty(), "nothing was paused");
    assert!(!app.place.has_record());
}

#[test]
fn a_guard_that_is_not_there_keeps_the_hold_from_beginning() {
    let app = App::new();
    let run = app.place.run_with(|command| {
        command.env("GUARD", "/nonexistent/daykeep");
    });
    let text = run.expect_error("Command");
    assert!(text.starts_with("cannot start the guard, so nothing was paused"), "{text}");
    assert!(app.runs() && app.log().is_empty() && !app.place.has_record());
}

#[test]
fn killed_before_the_record_nothing_was_done() {
    let app = App::new();
    app.script("is_running", "kill -9 $PPID");
    app.place.run().wait_killed();
    assert!(!app.place.has_record() && app.log().is_empty());
}

#[test]
fn killed_while_it_pauses_it_is_released() {
    for pause in [
        // Before its effect, after it, and with the effect still to come.
        "kill -9 $PPID; echo pause >>log",
        "echo pause >>log; rm running; kill -9 $PPID",
        "kill -9 $PPID; sleep 1; rm running; echo pause >>log",
    ] {
        let app = App::new();
        app.script("pause", pause);
        app.place.run().wait_killed();
        app.place.wait_for_no_record();
        assert_eq!(app.log(), ["pause", "release"], "{pause}");
        std::thread::sleep(Duration::from_millis(300));
        assert!(app.runs(), "{pause}");
    }
}

#[test]
fn killed_while_it_proves_it_is_released() {
    let app = App::new();
    app.script("prove", "kill -9 $PPID");
    app.place.run().wait_killed();
    app.place.wait_for_no_record();
    assert_eq!(app.log(), ["pause", "release"]);
    assert!(app.runs());
}

#[test]
fn killed_while_it_releases_the_guard_completes_it() {
    let app = App::new();
    app.script(
        "release",
        "test -f killed || { touch killed; kill -9 $PPID; exit 1; }; echo release >>log; touch running",
    );
    let mut run = app.place.held();
    run.tell("release");
    run.wait_killed();
    app.place.wait_for_no_record();
    assert_eq!(app.log(), ["pause", "release"]);
    assert!(app.runs());
}

#[test]
fn a_pause_that_fails_is_undone() {
    let app = App::new();
    app.script("pause", "rm running; echo the queue is locked >&2; exit 3");
    let text = app.place.run().expect_error("Command");
    assert!(
        text.starts_with("cannot pause the application") && text.contains("the queue is locked"),
        "{text}"
    );
    assert!(app.runs(), "it was released before the error came");
    assert!(!app.place.has_record());
}

#[test]
fn a_busy_application_is_released_and_the_run_is_skipped() {
    let app = App::new();
    fs::write(app.place.path("busy"), "").unwrap();
    app.configure("max = \"30s\"\ndrain = \"1s\"\non_busy = \"skip\"");
    app.script("prove", "test ! -f busy || { echo 3 jobs left >&2; exit 1; }");
    let text = app.place.run().expect_error("Busy");
    assert!(text.starts_with("app was still busy after 1s") && text.contains("3 jobs left"), "{text}");
    assert!(app.runs());
    assert_eq!(app.log(), ["pause", "release"]);
}

#[test]
fn a_busy_application_is_killed_when_that_is_wanted() {
    let app = App::new();
    fs::write(app.place.path("busy"), "").unwrap();
    app.configure("max = \"30s\"\ndrain = \"1s\"\non_busy = \"kill\"");
    let mut run = app.place.run();
    let held = run.expect("held");
    assert!(held["evidence"]["proofs"][0].as_str().unwrap().starts_with("killed after 1s"), "{held}");
    run.tell("release");
    run.expect("released");
    assert_eq!(app.log(), ["pause", "kill", "release"]);
}

#[test]
fn a_cancelled_pause_is_undone() {
    let app = App::new();
    fs::write(app.place.path("busy"), "").unwrap();
    let mut run = app.place.run();
    app.place.wait_for_phase("pausing");
    wait_until("it is paused", || !app.runs());
    run.tell("cancel");
    run.expect_error("Cancelled");
    assert!(app.runs());
    assert!(!app.place.has_record());
}

#[test]
fn a_dropped_pause_is_undone() {
    let app = App::new();
    fs::write(app.place.path("busy"), "").unwrap();
    let mut run = app.place.run();
    wait_until("it is paused", || !app.runs());
    run.tell("drop");
    run.expect("dropped");
    app.place.wait_for_no_record();
    assert!(app.runs());
}

#[test]
fn a_release_that_fails_is_reported_and_tried_again() {
    let app = App::new();
    app.script(
        "release",
        "test -f mended || { echo try >>log; echo no licence >&2; exit 1; }; touch running",
    );
    let mut run = app.place.held();
    run.tell("release");
    let text = run.expect_error("StillPaused");
    assert!(
        text.starts_with("app is STILL PAUSED: cannot release the application")
            && text.contains("no licence"),
        "{text}"
    );
    let guard = app.place.the_guard();
    let who = format!(
        "; its guard (process {guard}) goes on trying, after 1s, then ever more rarely, every 60s in the end; \
         `daykeep status app` shows whether it was released, `daykeep release app` tries at once"
    );
    assert!(text.ends_with(&who), "{text}");
    wait_until("the guard tries again", || app.log().iter().filter(|line| *line == "try").count() >= 2);
    let record = fs::read_to_string(app.place.record()).unwrap();
    assert!(record.contains("no licence"), "status can tell why: {record}");
    fs::write(app.place.path("mended"), "").unwrap();
    app.place.wait_for_no_record();
    assert!(app.runs());
}

/// The guard has begun it, and fails: the run learns that, and does not take it for a release.
#[test]
fn a_release_that_fails_when_hold_max_has_passed_is_told_to_the_run() {
    let app = App::new();
    app.configure("max = \"1s\"\ndrain = \"20s\"");
    app.script(
        "release",
        "test -f mended || { echo try >>log; echo no licence >&2; exit 1; }; touch running",
    );
    let mut run = app.place.held();
    wait_until("the guard tries", || {
        fs::read_to_string(app.place.record()).unwrap_or_default().contains("no licence")
    });
    run.tell("still");
    let text = run.expect_error("BeingReleased");
    assert!(text.starts_with("somebody else began to release the repository at "), "{text}");
    run.tell("release");
    let text = run.expect_error("StillPaused");
    assert!(
        text.starts_with("app is STILL PAUSED: its guard or `daykeep release` began to release it at "),
        "{text}"
    );
    assert!(
        text.contains("fails: cannot release the application") && text.contains("no licence; its guard"),
        "{text}"
    );
    assert!(text.contains(&format!("(process {})", app.place.the_guard())), "{text}");
    fs::write(app.place.path("mended"), "").unwrap();
    app.place.wait_for_no_record();
    assert!(app.runs());
}

#[test]
fn a_release_by_hand_joins_the_guard_that_goes_on_trying() {
    let app = App::new();
    app.script("release", "test -f mended || exit 1; touch running");
    let mut run = app.place.held();
    run.tell("release");
    run.expect_error("StillPaused");
    let guard = app.place.the_guard();
    for _ in 0..3 {
        let found = app.place.leftovers(false);
        assert_eq!(found[0]["outcome"], "Failed", "{found:?}");
        let text = found[0]["text"].as_str().unwrap();
        assert!(text.contains(&format!("guard: Some({guard})")), "{text}");
        assert_eq!(app.place.the_guard(), guard, "it is one, and the same");
    }
    // One that was killed with its run has a successor, which is joined in its turn.
    drop(run);
    crate::conformance::kill_guards(&app);
    wait_until("no guard is left", || app.place.guards().is_empty());
    app.place.leftovers(false);
    wait_until("it has noted itself", || app.place.living_guard().is_some());
    app.place.leftovers(false);
    app.place.the_guard();
    fs::write(app.place.path("mended"), "").unwrap();
    app.place.wait_for_no_record();
    wait_until("no guard is left", || app.place.guards().is_empty());
    assert!(app.runs());
}

/// A run that lives waits with its guard: what was forced on it is tried by another one.
#[test]
fn a_forced_release_that_fails_is_tried_again_beside_a_run_that_lives() {
    let app = App::new();
    app.script("release", "test -f mended || exit 1; touch running");
    let mut run = app.place.held();
    assert_eq!(app.place.leftovers(true)[0]["outcome"], "Failed");
    wait_until("there are two guards", || app.place.guards().len() == 2);
    fs::write(app.place.path("mended"), "").unwrap();
    wait_until("it is released", || app.runs());
    run.tell("still");
    let kind = run.expect("error")["kind"].clone();
    assert!(["BeingReleased", "ReleasedByGuard"].contains(&kind.as_str().unwrap()), "{kind}");
}

#[test]
fn a_leftover_that_cannot_be_released_gets_a_guard() {
    let app = App::new();
    app.script("release", "test -f mended || exit 1; touch running");
    let mut run = app.place.held();
    crate::conformance::kill_guards(&app);
    run.kill();
    let found = app.place.leftovers(false);
    assert_eq!(found[0]["outcome"], "Failed", "{found:?}");
    assert!(app.place.has_record());
    fs::write(app.place.path("mended"), "").unwrap();
    app.place.wait_for_no_record();
    assert!(app.runs());
}

#[test]
fn a_run_that_hangs_with_the_lock_is_killed() {
    let app = App::new();
    // The release stops its parent, which has the lock; the guard's own try does not.
    app.script("release", "test -f stopped || { touch stopped; kill -STOP $PPID; exit 1; }; touch running");
    app.configure("max = \"2s\"\ndrain = \"2s\"");
    let settings = fs::read_to_string(app.place.path("daykeep.toml")).unwrap();
    fs::write(app.place.path("daykeep.toml"), settings.replace("timeout = \"5s\"", "timeout = \"1s\""))
        .unwrap();
    let mut run = app.place.held();
    run.tell("release");
    run.wait_killed();
    app.place.wait_for_no_record();
    assert!(app.runs());
}

#[test]
fn a_guard_that_dies_before_the_pause_leaves_nothing_to_release() {
    let app = App::new();
    // It is gone before it could be told of the pause.
    let guard = app.place.script("guard", "exec 0<&-; echo ready; sleep 1");
    let run = app.place.run_with(|command| {
        command.env("GUARD", &guard);
    });
    let text = run.expect_error("GuardDied");
    assert!(text.starts_with("the guard died before the pause, so nothing was paused"), "{text}");
    assert!(app.log().is_empty(), "what was not paused is not released: {:?}", app.log());
    assert!(app.runs() && !app.place.has_record());
}

#[test]
fn what_was_released_meanwhile_is_not_killed() {
    let app = App::new();
    fs::write(app.place.path("busy"), "").unwrap();
    app.configure("max = \"30s\"\ndrain = \"2s\"\non_busy = \"kill\"");
    let run = app.place.run();
    wait_until("it is paused", || !app.runs());
    assert_eq!(app.place.leftovers(true)[0]["outcome"], "Released");
    let text = run.expect_error("ReleasedByGuard");
    assert!(text.contains("the freeze is void"), "{text}");
    assert_eq!(app.log(), ["pause", "release"], "nothing was killed");
}

#[test]
fn a_guard_that_was_killed_gets_a_successor() {
    let app = App::new();
    // While it pauses.
    app.script("pause", "touch pausing; sleep 1; rm running");
    let mut run = app.place.run();
    wait_until("it pauses", || app.place.path("pausing").exists());
    crate::conformance::kill_guards(&app);
    run.expect("held");
    assert_eq!(app.place.guards().len(), 1, "another one has its place");
    // While it is held: the process lives on, as a daemon does, and nobody else looks.
    crate::conformance::kill_guards(&app);
    run.tell("drop");
    run.expect("dropped");
    app.place.wait_for_no_record();
    assert!(app.runs());
}

/// The process lives on, as a daemon does, and nobody else looks.
#[test]
fn a_guard_that_is_killed_after_its_run_has_dropped_the_hold_gets_a_successor() {
    let app = App::new();
    app.script(
        "release",
        "test -f killed || { touch killed; kill -9 $PPID; exit 1; }; echo release >>log; touch running",
    );
    let mut run = app.place.held();
    run.tell("drop");
    run.expect("dropped");
    app.place.wait_for_no_record();
    assert!(app.runs());
    assert_eq!(app.log(), ["pause", "release"]);
}

#[test]
fn a_guard_that_is_killed_at_the_moment_of_the_drop_gets_a_successor() {
    let app = App::new();
    for round in 0..40_u64 {
        let mut run = app.place.held();
        let guards = app.place.guards();
        let [guard] = guards.as_slice() else { panic!("{guards:?}") };
        let kill = || {
            // Dead already is as good.
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(*guard), nix::sys::signal::Signal::SIGKILL);
        };
        // A moment before it, and ever later after it.
        if round < 10 {
            kill();
        }
        run.tell("drop");
        if round >= 10 {
            std::thread::sleep(Duration::from_micros(200) * u32::try_from(round - 10).unwrap());
            kill();
        }
        wait_until(&format!("it is released in round {round}"), || app.runs() && !app.place.has_record());
        wait_until("no guard is left", || app.place.guards().is_empty());
    }
}

#[test]
fn guards_do_not_gather() {
    let app = App::new();
    app.script("release", "test -f mended || exit 1; touch running");
    let mut run = app.place.held();
    crate::conformance::kill_guards(&app);
    run.kill();
    for _ in 0..3 {
        assert_eq!(app.place.leftovers(false)[0]["outcome"], "Failed");
    }
    fs::write(app.place.path("mended"), "").unwrap();
    app.place.wait_for_no_record();
    wait_until("no guard is left", || app.place.guards().is_empty());
}

#[test]
fn a_record_that_cannot_be_read_does_not_keep_others_held() {
    let app = App::new();
    let mut run = app.place.held();
    crate::conformance::kill_guards(&app);
    run.kill();
    // Before the other one in the order of names.
    fs::create_dir_all(app.place.path("state/a")).unwrap();
    fs::write(app.place.path("state/a/hold.json"), "{").unwrap();
    let mut command = app.place.command();
    let output = command.arg("leftovers").arg(app.place.state_dir()).output().unwrap();
    assert!(!output.status.success(), "the bad one is told");
    assert!(String::from_utf8_lossy(&output.stderr).contains("a/hold.json"));
    assert!(app.runs() && !app.place.has_record(), "the good one is released");
}

#[test]
fn a_second_hold_waits_for_the_first_one_s_release() {
    let app = App::new();
    let mut run = app.place.held();
    crate::conformance::kill_guards(&app);
    run.kill();
    let text = app.place.run().expect_error("Unreleased");
    assert!(text.contains("an earlier hold of app (run 7") && text.contains("daykeep release app"), "{text}");
    app.place.leftovers(false);
    let mut run = app.place.held();
    run.tell("release");
    run.expect("released");
}

#[test]
fn a_probe_finds_what_is_missing_and_runs_nothing() {
    let app = App::new();
    fs::remove_file(app.place.path("release")).unwrap();
    let findings = app.place.probe();
    let bad: Vec<_> = findings.iter().filter(|finding| finding["ok"] == false).collect();
    assert_eq!(bad.len(), 1, "{findings:?}");
    assert!(
        bad[0]["text"].as_str().unwrap().ends_with("release is not a program on this machine"),
        "{bad:?}"
    );
    assert!(app.log().is_empty() && app.runs());
}

#[test]
fn a_program_that_a_disaster_took_counts_as_stopped_for_a_restore() {
    let app = App::new();
    fs::remove_file(app.place.path("is_running")).unwrap();
    let text = app.place.run().expect_error("Command");
    assert!(text.contains("is_running"), "a backup does not guess: {text}");
    let mut run = app.place.start("restore", |_| {});
    let proofs = run.expect("held")["evidence"]["proofs"].to_string();
    assert!(proofs.contains("is_running is not on this machine; nothing was paused"), "{proofs}");
    run.tell("release");
    run.expect("released");
    assert!(app.log().is_empty(), "no command was run");
}
