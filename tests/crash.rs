//! SIGKILL: whenever daykeep dies, the repository is released, no half day is listed, and the next run succeeds
//! (promises 1 and 2).
//!
//! Each kill hits the real program in the middle of a real run, and each run but every few begins from what the killed one
//! before it left. The kills before a system call are exact: `strace` counts the calls and kills before the effect of the Nth. Those
//! at random moments come from a seed that is printed; `DAYKEEP_CRASH_SEED` gives another one.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "the seed is needed to see a failure again")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[path = "support/daemon.rs"]
mod daemon;
mod support;

use support::random::Random;
use support::repository::{NAME, Repository};

/// A scheduler that always has something to do.
const BUSY: [&str; 8] = ["--agent-ms", "30", "--files", "3", "--busy-ms", "300", "--poll-ms", "50"];
/// How many kills come between two runs that are let go on to their end.
const KILLS: usize = 8;

// --- kills before a system call -----------------------------------------------------------------------------------------

/// What flushes the steps of the journal, the hold's record and the day.
const FLUSHES: [&str; 3] = ["fsync", "fdatasync", "syncfs"];
/// What gives names, takes them away, and talks to the scheduler and the server.
const EFFECTS: [&str; 6] = ["chmod", "rename", "unlink", "mkdir", "symlink", "connect"];
/// What the threads do that fill the day; counted by each thread for itself.
const WORK: [(&str, &[usize]); 7] = [
    ("linkat", &[1, 3, 8, 13]),
    ("mkdirat", &[1, 9, 30]),
    ("fchmod", &[1, 12, 40]),
    ("utimensat", &[2, 30]),
    ("unlinkat", &[1, 2, 4]),
    ("renameat2", &[1]),
    ("fsync", &[1, 2, 4]),
];

#[test]
fn killed_before_every_flush_of_the_run() {
    let steps = killed_before_each(&FLUSHES);
    // Each step's line is flushed before the step begins: all of them were hit.
    let all =
        ["begin", "preflight", "warm", "hold", "freeze", "release", "dump", "cross_check", "seal", "prune"];
    for step in all {
        assert!(steps.contains_key(step), "no kill at the step {step}: {steps:?}");
    }
}

#[test]
fn killed_before_every_rename_removal_and_connection_of_the_run() {
    let steps = killed_before_each(&EFFECTS);
    for step in ["begin", "preflight", "hold", "release", "seal"] {
        assert!(steps.contains_key(step), "no kill at the step {step}: {steps:?}");
    }
}

/// Kills the thread that runs the straight line before the first of each of these calls, before the second, and so on to the end;
/// tells how many kills hit each step.
fn killed_before_each(calls: &[&str]) -> BTreeMap<String, usize> {
    let repository = Repository::new(&BUSY, "");
    repository.run();
    let mut steps = BTreeMap::new();
    let mut kills = 0;
    for call in calls {
        for number in 1.. {
            let mut run = repository.start(&mut strace(&repository, call, number, &[]));
            if !was_killed(&mut run, &repository) {
                assert!(number > 1 || *call == "symlink", "{call} is never called");
                repository.wait_until_released();
                break;
            }
            *steps.entry(repository.last_step().unwrap_or_default()).or_insert(0) += 1;
            kills += 1;
            released_by_itself(&repository, &format!("{call} {number}"));
            if kills % KILLS == 0 {
                repository.run();
            }
        }
    }
    finish(&repository);
    eprintln!("{kills} kills: {steps:?}");
    steps
}

#[test]
fn killed_before_what_the_working_threads_do() {
    let repository = Repository::new(&BUSY, "");
    repository.run();
    let mut kills = 0;
    for (call, numbers) in WORK {
        for number in numbers {
            // Every program that daykeep starts is let go as soon as it is that program.
            let mut run = repository.start(&mut strace(&repository, call, *number, &["-f", "-b", "execve"]));
            kills += usize::from(was_killed(&mut run, &repository));
            released_by_itself(&repository, &format!("{call} {number} of a thread"));
        }
        repository.run();
    }
    assert!(kills >= 12, "only {kills} kills");
    finish(&repository);
}

/// `strace` that kills a run before the call with this number.
fn strace(repository: &Repository, call: &str, number: usize, more: &[&str]) -> Command {
    let mut command = Command::new("strace");
    repository.surround(&mut command);
    command.args(more).args(["-o", "/dev/null"]).arg(format!("--trace={call}"));
    command.arg(format!("--inject={call}:signal=SIGKILL:when={number}"));
    let run = repository.daykeep(&Repository::run_arguments());
    command.arg(run.get_program()).args(run.get_args());
    command
}

/// Whether the run was killed; one that was not must have gone well.
fn was_killed(run: &mut Child, repository: &Repository) -> bool {
    let status = run.wait().unwrap();
    let killed = status.signal() == Some(9);
    assert!(killed || status.success(), "{status}\n{}", repository.surroundings());
    killed
}

// --- kills at random moments ----------------------------------------------------------------------------------------------

#[test]
fn killed_at_100_moments_the_guard_releases() {
    at_random_moments(100, 1, |repository, run, _| {
        kill_run(run);
        released_by_itself(repository, "a random moment");
    });
}

#[test]
fn killed_with_its_guard_at_50_moments_it_is_released_by_hand() {
    at_random_moments(50, 2, |repository, run, random| {
        kill_run_and_guard(repository, run, random);
        // 1: it cannot be released yet, and a guard that was started anew goes on trying.
        let released = repository.daykeep(&["release", "--all"]).output().unwrap();
        assert!(matches!(released.status.code(), Some(0 | 1)), "{}", repository.told(&released));
        released_by_itself(repository, "a random moment, its guard killed too");
    });
}

#[test]
fn killed_with_its_guard_at_50_moments_the_next_run_releases_it() {
    let mut paused = 0;
    at_random_moments(50, 3, |repository, run, random| {
        kill_run_and_guard(repository, run, random);
        repository.assert_days_are_whole();
        paused += usize::from(repository.is_held());
        repository.run();
        released_by_itself(repository, "the run after a kill");
    });
    assert!(paused >= 5, "only {paused} of the kills left the repository held");
}

#[test]
fn what_an_operator_stopped_stays_stopped() {
    let repository = Repository::new(&BUSY, "");
    let mut random = Random::seeded(4);
    let whole = time_of_a_run(&repository).0;
    repository.fossology.ask("stop", "CLOSE").expect("it runs");
    repository.until("the scheduler has stopped", || repository.fossology.pid().is_none());
    for _ in 0..15 {
        let mut run = repository.start_run();
        std::thread::sleep(random.part_of(whole));
        kill_run_and_guard(&repository, &mut run, &mut random);
        repository.wait_until_alone();
        repository.daykeep(&["release", "--all"]).output().unwrap();
        assert!(!repository.is_held(), "nothing was paused\n{}", repository.surroundings());
        assert_eq!(repository.fossology.pid(), None, "nobody starts it");
    }
    repository.run();
    repository.look_again();
    assert_eq!(repository.fossology.pid(), None, "nobody starts it");
}

#[test]
fn a_killed_daemon_releases_at_its_next_start_and_shows_the_job_failed() {
    let repository = Repository::new(&BUSY, "");
    repository.run();
    let (_, hold) = time_of_a_run(&repository);
    let mut random = Random::seeded(5);
    let (mut died, mut left_held) = (0, 0);
    for _ in 0..10 {
        let mut daemon = start_daemon(&repository);
        let jobs = repository.journal_file();
        let job = repository.json(&["run", NAME, "--detach", "--json"])["job"]["id"].clone();
        repository.until("the hold begins", || {
            repository.journal_file() != jobs && repository.last_step().as_deref() == Some("hold")
        });
        std::thread::sleep(random.part_of(hold));
        kill_run_and_guard(&repository, &mut daemon, &mut random);
        left_held += usize::from(repository.is_held());
        let ended = repository.journal().contains("\"end\"");
        let mut daemon = start_daemon(&repository);
        let (status, told) = daemon::ask(&repository.socket(), "GET", &format!("/v1/jobs/{job}")).unwrap();
        assert_eq!(status, 200, "{told}");
        if !ended {
            died += 1;
            let told: serde_json::Value = serde_json::from_str(&told).unwrap();
            let told = &told["job"];
            assert_eq!(told["state"], "failed", "{told}");
            assert!(told["error"].as_str().unwrap().starts_with("daykeep died during "), "{told}");
        }
        repository.wait_until_released();
        repository.assert_days_are_whole();
        kill(Pid::from_raw(i32::try_from(daemon.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(daemon.wait().unwrap().success(), "{}", repository.surroundings());
    }
    assert!(died >= 5 && left_held >= 2, "{died} jobs died, {left_held} left the repository held");
    finish(&repository);
}

fn start_daemon(repository: &Repository) -> Child {
    let daemon = repository.start(&mut repository.daykeepd());
    repository.until("the daemon answers", || {
        daemon::ask(&repository.socket(), "GET", "/v1/status").is_ok_and(|(status, _)| status == 200)
    });
    daemon
}

/// Kills so many runs: one half anywhere in them, the other between the pause and the release.
fn at_random_moments(kills: usize, stream: u64, mut after: impl FnMut(&Repository, &mut Child, &mut Random)) {
    let repository = Repository::new(&BUSY, "");
    let mut random = Random::seeded(stream);
    let (mut whole, mut hold) = time_of_a_run(&repository);
    let mut steps: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..kills {
        let jobs = repository.journal_file();
        let mut run = repository.start_run();
        if number % 2 == 0 {
            std::thread::sleep(random.part_of(whole));
        } else {
            repository.until("the hold begins", || {
                repository.journal_file() != jobs && repository.last_step().as_deref() == Some("hold")
            });
            std::thread::sleep(random.part_of(hold));
        }
        let step = if repository.journal_file() == jobs { None } else { repository.last_step() };
        *steps.entry(step.unwrap_or_else(|| "none".to_owned())).or_insert(0) += 1;
        after(&repository, &mut run, &mut random);
        if number % KILLS == KILLS - 1 {
            (whole, hold) = time_of_a_run(&repository);
        }
    }
    finish(&repository);
    eprintln!("{kills} kills: {steps:?}");
    let held: usize = ["hold", "freeze", "release"].iter().filter_map(|step| steps.get(*step)).sum();
    assert!(held * 4 >= kills, "only {held} kills came inside the hold: {steps:?}");
}

/// A run to its end: how long it takes, and how long from its step `hold` to its step `dump`.
fn time_of_a_run(repository: &Repository) -> (Duration, Duration) {
    let begun = Instant::now();
    repository.run();
    let whole = begun.elapsed();
    let at = |step: &str| -> jiff::Timestamp {
        let journal = repository.journal();
        let mut lines = journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let line = lines.find(|line| line["step"] == step).expect("every run has this step");
        line["at"].as_str().unwrap().parse().unwrap()
    };
    (whole, Duration::try_from(at("dump").duration_since(at("hold"))).unwrap())
}

fn kill_run(run: &mut Child) {
    // One that has ended already is killed too late: that is a moment as well.
    let _ = run.kill();
    run.wait().unwrap();
}

/// Both at once, in either order; a guard that was being started meanwhile is found by the second look.
fn kill_run_and_guard(repository: &Repository, run: &mut Child, random: &mut Random) {
    let kill_guards = || {
        for guard in repository.guards() {
            let _ = kill(Pid::from_raw(guard), Signal::SIGKILL);
        }
    };
    if random.next().is_multiple_of(2) {
        kill_guards();
        kill_run(run);
    } else {
        kill_run(run);
    }
    kill_guards();
}

// --- what must be so after a kill -------------------------------------------------------------------------------------------

/// Without anybody's help: the scheduler runs, nothing is held, nothing of daykeep is left, and the days are whole.
fn released_by_itself(repository: &Repository, moment: &str) {
    eprintln!("after {moment}");
    repository.wait_until_released();
    repository.wait_until_alone();
    repository.assert_days_are_whole();
}

/// At the end of everything: a run succeeds, the scheduler works, and no day has changed since it was sealed.
fn finish(repository: &Repository) {
    let day = repository.run();
    released_by_itself(repository, "the last run");
    repository.assert_dispatching();
    let days = repository.list();
    assert_eq!(days.first(), Some(&day));
    assert!(days.len() <= 3, "the keep rules are kept: {days:?}");
    repository.look_again();
    // Nothing lies about that no later run would remove.
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(repository.days_dir()).unwrap() {
        names.insert(entry.unwrap().file_name().into_string().unwrap());
    }
    names.retain(|name| !days.contains(name) && name != ".building.json");
    assert!(names.is_empty(), "left among the days: {names:?}");
}
