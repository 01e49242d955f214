//! The adapter `fossology` against the stand-in of its scheduler and a real PostgreSQL.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::conformance::{Subject, every_promise};
use crate::driver::{Place, wait_until};
use crate::support::scheduler::{DATABASE, Fossology};

struct App {
    place: Place,
    fossology: Fossology,
}

const GENERAL: &str = "max = \"60s\"\ndrain = \"20s\"";
const STARTED: &str = "SELECT count(*) FROM jobqueue WHERE jq_starttime IS NOT NULL";
const DONE: &str = "SELECT count(*) FROM jobqueue WHERE jq_end_bits = 1";

impl App {
    /// The scheduler runs, with these flags.
    fn new(flags: &[&str]) -> Self {
        let app = Self { place: Place::new(), fossology: Fossology::new(flags) };
        app.fossology.start();
        app.configure(GENERAL);
        app
    }

    fn count(&self, sql: &str) -> u32 {
        self.fossology.server.psql(DATABASE, sql).parse().expect("a number")
    }

    fn release(&self, mut run: crate::driver::Run) {
        run.tell("release");
        run.expect("released");
        assert!(self.fossology.pid().is_some(), "the scheduler answers when the release returns");
    }

    fn unfinished_job(&self) -> i32 {
        let sql = "SELECT max(jq_pk) FROM jobqueue WHERE jq_starttime IS NOT NULL AND jq_endtime IS NULL";
        self.fossology.server.psql(DATABASE, sql).parse().expect("a job runs")
    }
}

impl Subject for App {
    fn place(&self) -> &Place {
        &self.place
    }

    fn configure(&self, general: &str) {
        let (hold, database) = (self.fossology.hold_toml(), self.fossology.database_toml());
        self.place.configure(general, "fossology", &hold, Some(&database));
    }

    fn runs(&self) -> bool {
        self.fossology.pid().is_some()
    }

    fn operator_stops(&self) {
        self.fossology.ask("stop", "CLOSE").expect("it runs");
        wait_until("it has stopped", || self.fossology.pid().is_none());
    }

    fn operator_starts(&self) {
        self.fossology.start();
    }

    fn releases(&self) -> Option<usize> {
        None
    }
}

#[test]
fn it_does_what_every_adapter_does() {
    every_promise(&App::new(&[]));
}

#[test]
fn running_and_checked_out_jobs_are_waited_for() {
    let app = App::new(&["--agent-ms", "700", "--slots", "2", "--poll-ms", "50"]);
    app.fossology.queue("ununpack", 5);
    app.fossology.wait_for_agents(2);
    let run = app.place.run();
    let held = run.expect("held");
    assert!(app.fossology.agents().is_empty(), "no agent runs");
    assert!(app.count(STARTED) > 2, "what was checked out was still dispatched after `stop`");
    assert_eq!(app.count(STARTED), app.count(DONE), "what was started has ended");
    let proofs = held["evidence"]["proofs"].as_array().unwrap();
    assert_eq!(proofs.len(), 4, "{held}");
    assert!(proofs[0].as_str().unwrap().contains("has ended and 127.0.0.1:"), "{held}");
    let rows = "SELECT count(*) FROM pfile";
    let before = app.count(rows);
    // What is queued now waits.
    app.fossology.queue("ununpack", 1);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(app.count(rows), before);
    app.release(run);
    app.fossology.wait_for(DONE, "6");
}

#[test]
fn a_busy_scheduler_is_skipped_at_once_and_started_by_its_guard() {
    let app = App::new(&["--agent-ms", "9000", "--poll-ms", "50"]);
    app.configure("max = \"60s\"\ndrain = \"1s\"\non_busy = \"skip\"");
    app.fossology.queue("sleeper", 1);
    app.fossology.wait_for_agents(1);
    let first = app.fossology.pid();
    let run = app.place.run();
    let text = run.expect_error("Busy");
    assert_eq!(app.fossology.agents().len(), 1, "the run does not wait for the agent");
    assert!(text.starts_with("app was still busy after 1s: the scheduler (pid "), "{text}");
    assert!(text.contains("(sleeper, started)") && text.contains("agent sleeper (pid "), "{text}");
    assert!(text.contains("; its guard is waiting until the scheduler (pid "), "{text}");
    assert_eq!(app.place.phase().as_deref(), Some("releasing"));
    app.place.wait_for_no_record();
    assert_ne!(app.fossology.pid(), first, "another scheduler runs");
    assert_eq!(app.count(DONE), 1, "the job was allowed to finish");
}

#[test]
fn a_busy_scheduler_is_killed_when_that_is_wanted() {
    let app = App::new(&["--agent-ms", "60000", "--poll-ms", "50"]);
    app.configure("max = \"60s\"\ndrain = \"1s\"\non_busy = \"kill\"");
    app.fossology.queue("sleeper", 2);
    app.fossology.wait_for_agents(2);
    let run = app.place.run();
    let held = run.expect("held");
    assert!(held["evidence"]["proofs"][0].as_str().unwrap().starts_with("killed after 1s"), "{held}");
    assert!(app.fossology.agents().is_empty());
    assert_eq!(app.count("SELECT count(*) FROM jobqueue WHERE jq_endtext = 'Failed'"), 2, "their jobs fail");
    app.release(run);
}

#[test]
fn a_paused_job_is_refused_before_the_stop() {
    let app = App::new(&["--agent-ms", "1000", "--poll-ms", "50"]);
    app.fossology.queue("sleeper", 1);
    app.fossology.wait_for_agents(1);
    let (job, first) = (app.unfinished_job(), app.fossology.pid());
    app.fossology.ask(&format!("pause {job}"), "received");
    app.fossology.wait_for("SELECT jq_endtext FROM jobqueue", "Paused");
    let text = app.place.run().expect_error("PausedJobs");
    assert!(text.starts_with(&format!("job {job} is paused while it runs")), "{text}");
    assert!(text.contains(&format!("`restart {job}`")), "{text}");
    assert!(!app.place.has_record());
    assert_eq!(app.fossology.pid(), first, "it was not stopped");
    app.fossology.ask(&format!("restart {job}"), "received");
    app.release(app.place.held());
}

#[test]
fn orphans_of_a_crashed_scheduler_are_waited_for() {
    let app = App::new(&["--agent-ms", "10000", "--poll-ms", "50", "--crash-after-stop-ms", "200"]);
    app.fossology.queue("sleeper", 1);
    app.fossology.wait_for_agents(1);
    let job = app.unfinished_job();
    // It vanishes in the middle of the drain; its agent goes on.
    let run = app.place.run();
    wait_until("it has crashed", || app.fossology.pid().is_none());
    assert_eq!(app.fossology.agents().len(), 1, "an orphan");
    let held = run.expect("held");
    assert!(app.fossology.agents().is_empty());
    let text = held["evidence"]["proofs"][3].as_str().unwrap();
    assert_eq!(text, format!("jobqueue calls jobs {job} unfinished; none of them runs"));
    app.release(run);
}

#[test]
fn what_an_agent_left_behind_is_waited_for() {
    let app = App::new(&["--agent-ms", "5137", "--poll-ms", "50"]);
    app.fossology.queue("forker", 1);
    app.fossology.wait_for_agents(1);
    // The agent ends after the half of it, its child goes on to the end.
    let child = || daykeep::process::all().unwrap().iter().any(|one| one.argv == ["sleep", "5.137"]);
    wait_until("it has a child", child);
    let run = app.place.run();
    run.expect("held");
    assert!(!child(), "the child of an agent still runs");
    app.release(run);
}

#[test]
fn what_an_agent_left_that_ended_unseen_is_waited_for() {
    let app = App::new(&["--agent-ms", "8219", "--poll-ms", "50"]);
    app.fossology.queue("forker", 1);
    let child = || daykeep::process::all().unwrap().iter().any(|one| one.argv == ["sleep", "8.219"]);
    wait_until("it has a child", child);
    app.fossology.wait_for_agents(0);
    assert!(child(), "the agent has ended before its child");
    let run = app.place.run();
    run.expect("held");
    assert!(!child(), "the child of an agent still runs");
    app.release(run);
}

#[test]
fn a_database_that_keeps_silent_is_not_waited_for_for_ever() {
    let app = App::new(&["--poll-ms", "600000"]);
    let first = app.fossology.pid();
    let mut psql = app.fossology.server.client("psql");
    psql.args(["-X", "-q", "-d", DATABASE, "-c", "BEGIN; LOCK jobqueue; SELECT pg_sleep(60)"]);
    let mut locker = psql.spawn().expect("psql");
    app.fossology.wait_for("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'jobqueue'::regclass", "1");
    let text = app.place.run().expect_error("DatabaseSilent");
    assert!(
        text.starts_with("database fossology, asked to read jobqueue, gave no answer within 15s"),
        "{text}"
    );
    assert!(!app.place.has_record());
    assert_eq!(app.fossology.pid(), first, "it was not stopped");
    locker.kill().unwrap();
    locker.wait().unwrap();
}

#[test]
fn a_session_of_a_remote_agent_is_seen() {
    let app = App::new(&[]);
    app.configure("max = \"60s\"\ndrain = \"1s\"");
    let mut psql = app.fossology.server.client("psql");
    psql.args(["-X", "-q", "-c", "SELECT pg_sleep(60)"]);
    psql.env("PGDATABASE", DATABASE).env("PGAPPNAME", "");
    psql.arg(format!(
        "host='{}' dbname={DATABASE} application_name=''",
        app.fossology.server.socket_dir().display()
    ));
    let mut session = psql.spawn().expect("psql");
    app.fossology.wait_for(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '' AND query LIKE 'SELECT pg_sleep%'",
        "1",
    );
    let text = app.place.run().expect_error("Busy");
    assert!(text.contains("session ") && text.contains(" of postgres"), "{text}");
    session.kill().unwrap();
    session.wait().unwrap();
    wait_until("it runs again", || app.runs());
}

#[test]
fn a_scheduler_that_cannot_be_started_is_reported_and_tried_again() {
    let app = App::new(&[]);
    let good = std::fs::read_to_string(app.fossology.start_script()).unwrap();
    let mut run = app.place.held();
    app.fossology.write_script("start", "#!/bin/sh\necho disk full >&2; exit 1\n");
    run.tell("release");
    let text = run.expect_error("StillPaused");
    assert!(
        text.starts_with("app is STILL PAUSED: cannot start the scheduler") && text.contains("disk full"),
        "{text}"
    );
    assert!(app.place.has_record());
    app.fossology.write_script("start", &good);
    app.place.wait_for_no_record();
    assert!(app.runs());
}

#[test]
fn an_unreachable_scheduler_or_database_is_found_out_before_the_stop() {
    let app = App::new(&["--poll-ms", "600000"]);
    let first = app.fossology.pid();
    app.fossology.server.psql(DATABASE, "ALTER TABLE jobqueue RENAME TO elsewhere");
    let text = app.place.run().expect_error("Database");
    assert!(text.contains("cannot read jobqueue") && text.contains("does not exist"), "{text}");
    app.fossology.server.psql(DATABASE, "ALTER TABLE elsewhere RENAME TO jobqueue");
    assert_eq!(app.fossology.pid(), first);
    let hold = app.fossology.hold_toml().replace("127.0.0.1:", "no-such-host.invalid:");
    app.place.configure(GENERAL, "fossology", &hold, Some(&app.fossology.database_toml()));
    let text = app.place.run().expect_error("Unreachable");
    assert!(text.starts_with("cannot reach the scheduler at no-such-host.invalid:"), "{text}");
    assert!(!app.place.has_record());
}

#[test]
fn killed_at_many_moments_the_scheduler_comes_back() {
    let app = App::new(&["--agent-ms", "150", "--poll-ms", "30", "--busy-ms", "120"]);
    for round in 0..12_u64 {
        let mut run = app.place.run();
        std::thread::sleep(Duration::from_millis(20 + round * 37));
        // Every third time the guard dies with its run.
        if round % 3 == 2 {
            for pid in app.place.guards() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        run.kill();
        wait_until("it is released", || {
            if round % 3 == 2 {
                app.place.leftovers(false);
            }
            let done = !app.place.has_record() && app.runs();
            if !done {
                eprintln!(
                    "round {round}: {:?} {:?} {:?}",
                    app.place.phase(),
                    app.fossology.pid(),
                    app.fossology.agents()
                );
                std::thread::sleep(Duration::from_millis(500));
            }
            done
        });
    }
    app.release(app.place.held());
}

#[test]
fn a_restore_holds_what_a_disaster_has_left() {
    let app = App::new(&[]);
    let gone = |database: &str| {
        let hold = format!("{}\ndatabase = \"lost\"", app.fossology.hold_toml());
        app.place.configure(GENERAL, "fossology", &hold, Some(database));
    };
    // The database is blown away, the scheduler runs.
    gone(&app.fossology.database_toml());
    let text = app.place.run().expect_error("Database");
    assert!(text.contains("\"lost\""), "a backup is not made without its proofs: {text}");
    let run = app.place.start("restore", |_| {});
    let held = run.expect("held");
    assert!(app.fossology.pid().is_none(), "it is paused all the same");
    let proofs = held["evidence"]["proofs"].to_string();
    assert!(proofs.contains("has ended and 127.0.0.1:"), "{proofs}");
    assert!(proofs.contains("the agents' sessions and jobqueue were not looked at: cannot ask"), "{proofs}");
    app.release(run);
    // The server is gone, and the scheduler with it.
    app.operator_stops();
    gone("host = \"/nonexistent\"\nuser = \"postgres\"");
    let mut run = app.place.start("restore", |_| {});
    let proofs = run.expect("held")["evidence"]["proofs"].to_string();
    assert!(
        proofs.contains("nothing listened on 127.0.0.1:") && proofs.contains("nothing was paused"),
        "{proofs}"
    );
    assert!(proofs.contains("were not looked at") && proofs.contains("/nonexistent"), "{proofs}");
    run.tell("start");
    run.expect("released");
    assert!(app.fossology.pid().is_some(), "it was asked for");
}

/// Who is refused has a server, and cannot do without its proofs.
#[test]
fn a_restore_does_not_take_a_refusal_for_a_loss() {
    let app = App::new(&[]);
    let server = app.fossology.database_toml();
    let user = server.lines().filter(|line| !line.starts_with("user")).collect::<Vec<_>>().join("\n");
    let hold = app.fossology.hold_toml();
    app.place.configure(GENERAL, "fossology", &hold, Some(&format!("{user}\nuser = \"nobody_here\"")));
    let text = app.place.start("restore", |_| {}).expect_error("Database");
    assert!(text.contains("nobody_here"), "{text}");
    assert!(app.fossology.pid().is_some(), "nothing was paused");
}
