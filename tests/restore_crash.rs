//! SIGKILL in the middle of restores: after the same command again, or `--undo`, the repository is exactly the day or exactly what it was
//! before, its scheduler runs, and nothing is left behind (promises 1 and 7).
//!
//! Each kill hits the real program in the middle of a real restore of a damaged repository. Half of the kills take the guard along, as a
//! power cut would. Those at random moments come from a seed that is printed; `DAYKEEP_CRASH_SEED` gives another one. Those before a
//! system call are exact: `strace` counts the calls and kills before the effect of the Nth.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "the seed is needed to see a failure again")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

mod support;

use support::random::Random;
use support::repository::{NAME, Repository};
use support::restored::{Kept, said};
use support::state::State;

/// So many kills at random moments, with the guard and without it.
const KILLS: usize = 50;
/// A scheduler with nothing to do.
const IDLE: [&str; 6] = ["--agent-ms", "10", "--files", "2", "--poll-ms", "50"];

#[test]
fn killed_at_50_moments_it_is_the_day_or_what_was_before() {
    at_random_moments(1, false);
}

#[test]
fn killed_with_its_guard_at_50_moments_it_is_the_day_or_what_was_before() {
    at_random_moments(4, true);
}

fn at_random_moments(stream: u64, with_guard: bool) {
    let world = World::new();
    let mut random = Random::seeded(stream);
    let mut steps: BTreeMap<String, usize> = BTreeMap::new();
    let mut phases: BTreeMap<String, usize> = BTreeMap::new();
    let whole = world.time_of_a_restore();
    for number in 0..KILLS {
        let mut restore = world.start();
        std::thread::sleep(random.part_of(whole));
        world.kill(&mut restore, with_guard);
        *steps.entry(world.last_step()).or_insert(0) += 1;
        *phases.entry(world.phase().unwrap_or_else(|| "none".to_owned())).or_insert(0) += 1;
        world.recover(&format!("kill {number}"), &mut random);
    }
    eprintln!("{KILLS} kills: {steps:?}; the record said {phases:?}");
    let reached = |step: &str| steps.get(step).copied().unwrap_or_default();
    let inside: usize = ["load", "stage", "switch", "cross_check", "release"].map(reached).iter().sum();
    assert!(inside * 3 >= KILLS, "only {inside} kills came inside the hold: {steps:?}");
    world.kept.repository.assert_dispatching();
}

#[test]
fn killed_before_the_flushes_and_renames_of_the_switch() {
    let world = World::new();
    let mut random = Random::seeded(2);
    let mut steps: BTreeMap<String, usize> = BTreeMap::new();
    let mut kill_before = |call: &str, number: usize, options: &[&str]| {
        let mut restore = world.kept.repository.start(&mut world.strace(call, number, options));
        let status = restore.wait().unwrap();
        let killed = status.signal() == Some(9);
        assert!(killed || status.success(), "{status}\n{}", world.kept.repository.surroundings());
        if random.is_even() {
            world.kill_guards();
        }
        *steps.entry(world.last_step()).or_insert(0) += usize::from(killed);
        world.recover(&format!("{call} {number}"), &mut random);
    };
    // The thread of the straight line: its flushes are the journal's, the record's and the hold's.
    for call in ["fsync", "fdatasync", "rename", "connect"] {
        for number in spread(world.count(call)) {
            kill_before(call, number, &[]);
        }
    }
    // The threads that stage and switch the files; counted by each for itself.
    for (call, numbers) in [("renameat2", [1, 2, 5]), ("fsync", [2, 6, 12]), ("unlinkat", [1, 2, 4])] {
        for number in numbers {
            kill_before(call, number, &["-f", "-b", "execve"]);
        }
    }
    eprintln!("{steps:?}");
    for step in ["hold", "switch", "release"] {
        assert!(steps.contains_key(step), "no kill at the step {step}: {steps:?}");
    }
}

#[test]
fn killed_while_it_is_taken_back_or_confirmed() {
    let world = World::new();
    let mut random = Random::seeded(3);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..12 {
        let undo = number % 3 != 2;
        let option = if undo { "--undo" } else { "--confirm" };
        world.kept.must(&[&world.kept.day, "--yes"]);
        let whole = Duration::from_millis(if undo { 1500 } else { 400 });
        let mut settle = world.kept.repository.start(&mut world.kept.command(&[option]));
        std::thread::sleep(random.part_of(whole));
        world.kill(&mut settle, random.is_even());
        let phase = world.phase();
        *seen.entry(format!("{option}: {phase:?}")).or_insert(0) += 1;
        if phase.as_deref() == Some("undoing") {
            world.kept.refused(&[&world.kept.day, "--yes"], 1, "is not taken back to the end");
        }
        let again = world.kept.restore(&[option]);
        let told = said(&again);
        assert!(again.status.success() || told.contains("no restore of"), "{told}");
        world.kept.repository.wait_until_released();
        if undo {
            world.kept.now().assert_is(&world.damaged.borrow(), "after --undo");
        } else {
            world.kept.now().assert_is(&world.kept.then, "after --confirm");
            world.damage_again();
        }
        world.kept.assert_nothing_left();
    }
    eprintln!("{seen:?}");
}

/// A damaged repository with a day.
struct World {
    kept: Kept,
    damaged: RefCell<State>,
}

impl World {
    fn new() -> Self {
        let kept = Kept::of(Repository::new(&IDLE, ""));
        let damaged = RefCell::new(kept.damage());
        Self { kept, damaged }
    }

    /// More damage, after a restore was confirmed.
    fn damage_again(&self) {
        *self.damaged.borrow_mut() = self.kept.damage();
    }

    fn start(&self) -> Child {
        self.kept.repository.start(&mut self.kept.command(&[&self.kept.day, "--yes"]))
    }

    /// One restore to its end and back; how long the first took.
    fn time_of_a_restore(&self) -> Duration {
        let begun = Instant::now();
        self.kept.must(&[&self.kept.day, "--yes"]);
        let whole = begun.elapsed();
        self.kept.must(&["--undo"]);
        self.kept.now().assert_is(&self.damaged.borrow(), "after --undo");
        whole
    }

    fn last_step(&self) -> String {
        self.kept.repository.last_step().unwrap_or_else(|| "none".to_owned())
    }

    /// What the restore's record says.
    fn phase(&self) -> Option<String> {
        let record = self.kept.repository.path("state").join(NAME).join("restore.json");
        let record: Value = serde_json::from_slice(&std::fs::read(record).ok()?).expect("a whole record");
        Some(record["phase"].as_str().expect("a phase").to_owned())
    }

    fn kill(&self, restore: &mut Child, with_guard: bool) {
        if with_guard {
            self.kill_guards();
        }
        // One that has ended already is killed too late: that is a moment as well.
        let _ = restore.kill();
        restore.wait().unwrap();
        if with_guard {
            self.kill_guards();
        }
    }

    fn kill_guards(&self) {
        for guard in self.kept.repository.guards() {
            let _ = kill(Pid::from_raw(guard), Signal::SIGKILL);
        }
    }

    /// The same command again, or `--undo`; then everything is the day, or as it was before. In the end it is as it was before.
    fn recover(&self, moment: &str, random: &mut Random) {
        let phase = self.phase();
        eprintln!("{moment}: {} ({phase:?})", self.last_step());
        let half_way = phase.as_deref() == Some("switching");
        if half_way {
            // Nobody but the two commands ends this.
            let release = self.kept.repository.daykeep(&["release", NAME]).output().unwrap();
            assert!(!release.status.success(), "{moment}: {}", self.kept.repository.told(&release));
            assert_eq!(self.kept.repository.fossology.pid(), None, "{moment}: the scheduler must not run");
        }
        if random.is_even() {
            let again = self.kept.restore(&[&self.kept.day, "--yes"]);
            // One that was killed after its end has nothing left to do.
            let ends = if phase.as_deref() == Some("done") { 13 } else { 0 };
            assert_eq!(again.status.code(), Some(ends), "{moment}: {}", self.kept.repository.told(&again));
            self.kept.repository.wait_until_released();
            self.kept.now().assert_is(&self.kept.then, &format!("{moment}: the same command again"));
        }
        let undo = self.kept.restore(&["--undo"]);
        let told = said(&undo);
        let is_done = undo.status.success() || told.contains("no restore of");
        assert!(is_done, "{moment}: {}", self.kept.repository.told(&undo));
        self.kept.repository.wait_until_released();
        self.kept.now().assert_is(&self.damaged.borrow(), &format!("{moment}: --undo"));
        self.kept.repository.wait_until_alone();
        self.kept.assert_nothing_left();
    }

    /// How often the thread of the straight line makes a call.
    fn count(&self, call: &str) -> usize {
        let log = self.kept.repository.path("strace.log");
        let output = self.traced(&["-o", &log.display().to_string()], call, None).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        self.kept.must(&["--undo"]);
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter(|line| line.contains(&format!("{call}("))).count()
    }

    /// `strace` that kills a restore before the call with this number.
    fn strace(&self, call: &str, number: usize, options: &[&str]) -> Command {
        self.traced(&[options, &["-o", "/dev/null"]].concat(), call, Some(number))
    }

    fn traced(&self, options: &[&str], call: &str, kill_before: Option<usize>) -> Command {
        let mut command = Command::new("strace");
        self.kept.repository.surround(&mut command);
        command.args(options).arg(format!("--trace={call}"));
        if let Some(number) = kill_before {
            command.arg(format!("--inject={call}:signal=SIGKILL:when={number}"));
        }
        let restore = self.kept.command(&[&self.kept.day, "--yes"]);
        command.arg(restore.get_program()).args(restore.get_args());
        command
    }
}

/// Up to eight numbers from 1 to `count`, closer towards the end.
fn spread(count: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> =
        [100, 60, 35, 20, 10, 5, 2, 0].map(|back| count - count * back / 120).to_vec();
    numbers.retain(|number| *number >= 1);
    numbers.dedup();
    numbers
}
