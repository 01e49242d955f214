//! Power cuts: whenever the power goes in a run, a prune or a restore, no half day is listed, every listed day verifies, the repository is
//! released, and the next run succeeds (promises 1, 2, 5 and 7).
//!
//! A whole machine stands on one disk that remembers every write and flush ([`disk`]): vault, trees, PostgreSQL with its data, and what
//! daykeep records. The real program does its work; then its log is cut at many points, what was not flushed is kept or dropped by
//! chance, and each disk that comes of it is mounted, its server recovers, and an admin's commands are said.
//!
//! `make test` cuts at a few points; `DAYKEEP_POWER_CUTS=200` (`make faults`) at so many on ext4, a third of them in each command, and at a
//! quarter of that on XFS and on btrfs. Points and chance come from `DAYKEEP_CRASH_SEED`.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "the seed and the points are needed to see a failure again")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

#[path = "support/disk.rs"]
mod disk;
#[path = "support/machine.rs"]
mod machine;
mod support;

use disk::{Log, Position};
use machine::{BTRFS, EXT4, Kind, Machine, XFS};
use support::postgres::Server;
use support::random::Random;
use support::repository::{NAME, Repository};
use support::restored::{Kept, said};
use support::scheduler::{DATABASE, Fossology};
use support::state::State;

/// A scheduler with nothing to do: what it had not flushed itself would be missed.
const IDLE: [&str; 6] = ["--agent-ms", "10", "--files", "2", "--poll-ms", "50"];
/// A server as admins run it: a commit survives.
const DURABLE: [(&str, &str); 5] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("max_wal_size", "64MB"),
    ("min_wal_size", "32MB"),
];

#[test]
fn in_a_run_and_a_prune_on_ext4() {
    in_a_run_and_a_prune(EXT4, third(12, 1));
}

#[test]
fn in_a_run_and_a_prune_on_xfs() {
    in_a_run_and_a_prune(XFS, third(5, 4));
}

#[test]
fn in_a_run_and_a_prune_on_btrfs() {
    in_a_run_and_a_prune(BTRFS, third(5, 4));
}

#[test]
fn in_a_restore_on_ext4() {
    in_a_restore(EXT4, third(12, 1));
}

#[test]
fn in_a_restore_on_xfs() {
    in_a_restore(XFS, third(5, 4));
}

#[test]
fn in_a_restore_on_btrfs() {
    in_a_restore(BTRFS, third(5, 4));
}

/// At how many points each of run, prune and restore is cut: a third of the few of every test run, or of this part of
/// `DAYKEEP_POWER_CUTS`.
fn third(few: usize, part: usize) -> usize {
    let all = std::env::var("DAYKEEP_POWER_CUTS").ok().and_then(|all| all.parse::<usize>().ok());
    all.map_or(few, |all| all / part).div_ceil(3)
}

// --- a run and a prune ---------------------------------------------------------------------------------------------------

fn in_a_run_and_a_prune(kind: Kind, points: usize) {
    let Some(machine) = machine_of(kind) else { return };
    let repository = repository();
    let mut before = Vec::new();
    for _ in 0..3 {
        before.insert(0, repository.run());
        repository.fossology.queue("ununpack", 2);
        until_idle(&repository);
    }
    repository.reconfigure("last = 3", "last = 2");
    machine.record();
    let begun = machine.position();
    let new = repository.run();
    let kept = machine.position();
    repository.reconfigure("last = 2", "last = 1");
    machine::flush();
    let reconfigured = machine.position();
    repository.json(&["--quiet", "prune", NAME, "--json"]);
    let pruned = machine.position();
    let mut world = World::new(machine, repository, 11);
    for (command, from, to) in [("run", begun, kept), ("prune", reconfigured, pruned)] {
        for cut in world.points(from, to, points) {
            world.cut(cut, &format!("{} {command}", kind.name));
            let listed = world.days_are_whole();
            // The others are what the run prunes.
            let stay = if command == "run" { &before[..1] } else { std::slice::from_ref(&new) };
            assert!(stay.iter().all(|day| listed.contains(day)), "{listed:?} lacks some of {stay:?}");
            assert!(cut < kept || listed.contains(&new), "{new} was told to be kept: {listed:?}");
            assert!(
                cut < pruned || listed == [new.clone()],
                "all but {new} were told to be removed: {listed:?}"
            );
            world.is_released();
            world.next_run();
        }
    }
    world.end();
}

// --- a restore --------------------------------------------------------------------------------------------------------------

fn in_a_restore(kind: Kind, points: usize) {
    let Some(machine) = machine_of(kind) else { return };
    let kept = Kept::of(repository());
    let damaged = kept.damage();
    machine.record();
    let begun = machine.position();
    kept.must(&[&kept.day, "--yes"]);
    let restored = machine.position();
    kept.must(&["--undo"]);
    let undone = machine.position();
    kept.must(&[&kept.day, "--yes"]);
    let restored_again = machine.position();
    kept.must(&["--confirm"]);
    let confirmed = machine.position();
    let Kept { repository, day, then } = kept;
    let mut world = World::new(machine, repository, 12);
    let [then, damaged] = [then, damaged].map(State::without_sequences);
    let ends = Ends { day, then, damaged };
    for cut in world.points(begun, restored, points) {
        world.cut(cut, &format!("{} restore", kind.name));
        ends.after_a_restore(&mut world, cut == restored);
        world.next_run();
    }
    let few = points.div_ceil(4);
    for cut in world.points(restored, undone, few) {
        world.cut(cut, &format!("{} restore --undo", kind.name));
        ends.after_an_undo(&mut world, cut == undone);
        world.next_run();
    }
    for cut in world.points(restored_again, confirmed, few) {
        world.cut(cut, &format!("{} restore --confirm", kind.name));
        ends.after_a_confirm(&mut world, cut == confirmed);
        world.next_run();
    }
    world.end();
}

/// What a restore may end in.
struct Ends {
    day: String,
    then: State,
    damaged: State,
}

impl Ends {
    fn after_a_restore(&self, world: &mut World, was_told: bool) {
        world.days_are_whole();
        let phase = world.phase();
        assert!(!was_told || phase.as_deref() == Some("done"), "the restore was told to be done: {phase:?}");
        if phase.is_none() {
            world.now().assert_is(&self.damaged, "nothing was begun");
        }
        if phase.as_deref() == Some("switching") {
            // Nobody but the two commands ends this.
            let release = world.repository.daykeep(&["release", NAME]).output().unwrap();
            assert!(!release.status.success(), "{}", world.repository.told(&release));
        }
        if world.random.is_even() {
            self.taken_back(world);
        }
        // One that was done, and was not taken back, has nothing left to do.
        let is_done = world.phase().as_deref() == Some("done");
        world
            .restore(&[&self.day, "--yes"], if is_done { "waits to be confirmed or taken back" } else { "" });
        world.now().assert_is(&self.then, "the same command again");
    }

    fn taken_back(&self, world: &mut World) {
        world.restore(&["--undo", "--yes"], "no restore of");
        world.now().assert_is(&self.damaged, "taken back");
        world.nothing_left();
    }

    fn after_an_undo(&self, world: &mut World, was_told: bool) {
        world.days_are_whole();
        let phase = world.phase();
        assert!(!was_told || phase.is_none(), "the restore was told to be taken back: {phase:?}");
        self.taken_back(world);
        // Without its files no run of it would succeed.
        world.restore(&[&self.day, "--yes"], "");
    }

    fn after_a_confirm(&self, world: &mut World, was_told: bool) {
        world.days_are_whole();
        let phase = world.phase();
        assert!(!was_told || phase.is_none(), "the restore was told to be confirmed: {phase:?}");
        world.restore(&["--confirm", "--yes"], "no restore of");
        world.now().assert_is(&self.then, "confirmed");
        world.nothing_left();
    }
}

// --- the machine and what is on it --------------------------------------------------------------------------------------

fn machine_of(kind: Kind) -> Option<Machine> {
    match Machine::new(kind) {
        Ok(machine) => Some(machine),
        Err(reason) => {
            eprintln!("SKIPPED: no power cuts on {} here: {reason}", kind.name);
            None
        }
    }
}

fn repository() -> Repository {
    let server = Server::start_with(None, &DURABLE);
    Repository::of(Fossology::on(server, &IDLE), "")
}

fn until_idle(repository: &Repository) {
    repository.until("nothing is queued", || {
        let left = "SELECT count(*) FROM jobqueue WHERE jq_endtime IS NULL";
        repository.fossology.server.psql("fossology", left) == "0" && repository.fossology.agents().is_empty()
    });
}

/// A machine that was switched off, and what its disk was sent before.
struct World {
    // In the order in which they are dropped: what runs on the machine first.
    repository: Repository,
    machine: Machine,
    log: Log,
    random: Random,
    begun: Instant,
    cuts: BTreeMap<String, usize>,
    has_power: bool,
}

impl World {
    fn new(machine: Machine, repository: Repository, stream: u64) -> Self {
        let log = machine.take_log();
        let (flushes, bytes) = log.tell();
        eprintln!("the disk was sent {} writes of {bytes} bytes and {flushes} flushes", log.len() - flushes);
        let (random, begun, cuts) = (Random::seeded(stream), Instant::now(), BTreeMap::new());
        let mut world = Self { repository, machine, log, random, begun, cuts, has_power: true };
        world.power_goes();
        world
    }

    /// So many points after `from`, in their order: when there are many, `to` among them, where the command had told of its end. A point
    /// may come again, with other writes dropped.
    fn points(&mut self, from: Position, to: Position, count: usize) -> Vec<Position> {
        assert!(to - from >= 10, "only {} writes and flushes", to - from);
        let mut points: Vec<_> = (0..count).map(|_| from + 1 + self.random.below(to - from)).collect();
        if count >= 3 {
            points[0] = to;
        }
        points.sort_unstable();
        points
    }

    /// The machine as it is after a power cut there.
    fn cut(&mut self, cut: Position, command: &str) {
        eprintln!(
            "cut at {cut} of {} in {command}, {:.0?} after the first",
            self.log.len(),
            self.begun.elapsed()
        );
        *self.cuts.entry(command.to_owned()).or_insert(0) += 1;
        self.power_goes();
        let image = self.log.cut(cut, &mut self.random);
        self.machine.on(image);
        self.has_power = true;
        self.boot();
    }

    /// The server recovers, and the scheduler is started unless it is held; then, too, every other time: its unit may not know.
    fn boot(&mut self) {
        let server = &mut self.repository.fossology.server;
        for of_the_last_boot in
            [server.data_dir().join("postmaster.pid"), server.socket_dir().join(".s.PGSQL.5432")]
        {
            let _ = std::fs::remove_file(of_the_last_boot);
        }
        server.run();
        if !self.repository.is_held() || (self.random.is_even() && !self.is_closed()) {
            self.repository.fossology.start();
        }
    }

    /// The switch of a restore has closed the database: no scheduler starts on it.
    fn is_closed(&self) -> bool {
        let asked = format!("SELECT NOT datallowconn FROM pg_database WHERE datname = '{DATABASE}'");
        let is_closed = self.repository.fossology.server.psql("postgres", &asked) == "t";
        let phase = self.phase();
        let goes_on = matches!(phase.as_deref(), Some("switching" | "undoing"));
        assert!(!is_closed || goes_on, "closed, and nobody opens it: {phase:?}");
        is_closed
    }

    /// Everything dies at once, and the disk goes.
    fn power_goes(&mut self) {
        if !std::mem::take(&mut self.has_power) {
            return;
        }
        // Nobody is to start the scheduler again meanwhile.
        let end = |pid: i32| {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        };
        for stray in self.repository.strays() {
            stray.split(' ').next().and_then(|pid| pid.parse().ok()).map(end);
        }
        self.repository.fossology.crash();
        self.repository.fossology.server.pull_the_plug();
        for (pid, _) in machine::users() {
            end(pid);
        }
        self.machine.off();
    }

    fn end(mut self) {
        eprintln!("{:?} in {:.0?}", self.cuts, self.begun.elapsed());
        // What is dropped needs somewhere to stand.
        let image = self.log.cut(self.log.len(), &mut self.random);
        self.power_goes();
        self.machine.on(image);
    }

    // --- what must be so after a cut ---

    /// No half day is listed; every day that is verifies, by daykeep and without it. Their names, newest first.
    fn days_are_whole(&self) -> Vec<String> {
        self.repository.look_again();
        let verify = self.repository.daykeep(&["--quiet", "verify", "--all", NAME]).output().unwrap();
        assert!(verify.status.success(), "{}", self.repository.told(&verify));
        self.repository.list()
    }

    /// By hand, or else by the next run.
    fn is_released(&mut self) {
        if self.random.is_even() {
            let release = self.repository.daykeep(&["release", "--all"]).output().unwrap();
            // 1: not yet, and a guard that was started anew goes on trying.
            assert!(matches!(release.status.code(), Some(0 | 1)), "{}", self.repository.told(&release));
            self.repository.wait_until_released();
        }
    }

    /// It succeeds, the repository is released, and nothing lies about among the days.
    fn next_run(&self) {
        let day = self.repository.run();
        self.repository.wait_until_released();
        self.repository.wait_until_alone();
        let listed = self.repository.assert_days_are_whole();
        assert_eq!(listed.first(), Some(&day));
        let names = std::fs::read_dir(self.repository.days_dir()).unwrap();
        let mut names: BTreeSet<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !listed.contains(name) && name != ".building.json");
        assert!(names.is_empty(), "left among the days: {names:?}");
    }

    /// A restore's command that must succeed, or that has nothing to do and says so.
    fn restore(&self, arguments: &[&str], or_says: &str) {
        let output = self.repository.daykeep(&[&["restore", NAME], arguments].concat()).output().unwrap();
        let said = said(&output);
        let is_done = output.status.success() || !or_says.is_empty() && said.contains(or_says);
        assert!(is_done, "restore {arguments:?}: {}", self.repository.told(&output));
        self.repository.wait_until_released();
    }

    /// What the restore's record says.
    fn phase(&self) -> Option<String> {
        let record = self.repository.path("state").join(NAME).join("restore.json");
        let record: Value = serde_json::from_slice(&std::fs::read(record).ok()?).expect("a whole record");
        Some(record["phase"].as_str().expect("a phase").to_owned())
    }

    fn now(&self) -> State {
        let fossology = &self.repository.fossology;
        State::of(&fossology.server, &[&fossology.repository(), &fossology.sysconf()]).without_sequences()
    }

    fn nothing_left(&self) {
        self.repository.wait_until_alone();
        support::restored::assert_nothing_left(&self.repository);
    }
}
