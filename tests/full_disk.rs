//! Full disks and failing ones: a vault, a state directory and trees that are full at every stage of every command, and flushes, links,
//! renames and writes that fail one by one. The error says what and where, the repository is released, no kept day is touched,
//! and with room the same command succeeds (promises 1, 2, 5, 6 and 7).
//!
//! What is full is a tmpfs whose limits grow page by page and inode by inode; what fails is failed by `strace`. `DAYKEEP_FAULTS=all`
//! (`make faults`) fails every call instead of some of them, and takes every page and inode in turn.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what was hit belongs to the test's output")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

mod support;

use support::repository::{NAME, Repository};
use support::restored::{Kept, said};
use support::scheduler::Fossology;
use support::small::{Small, own_mounts};

/// A scheduler with nothing to do.
const IDLE: [&str; 6] = ["--agent-ms", "10", "--files", "3", "--poll-ms", "50"];

// --- what fills ------------------------------------------------------------------------------------------------------------

#[test]
fn a_vault_that_is_full_at_any_stage_costs_no_day() {
    let Some((repository, small)) = repository_on("vault") else { return };
    let base = day_and_more(&repository);
    let used = small.used().0;
    let stages = grow(&repository, &base, step(4), |grown| small.limit(Some(used + grown), None));
    for stage in ["begin", "warm", "seal"] {
        assert!(stages.contains_key(stage), "never full at the step {stage}: {stages:?}");
    }
}

#[test]
fn a_vault_that_has_no_inodes_left_at_any_stage_costs_no_day() {
    let Some((repository, small)) = repository_on("vault") else { return };
    repository.reconfigure("min_free = \"0 B\"", "min_free = \"0 B\"\nmin_free_inodes_percent = 0");
    let base = day_and_more(&repository);
    let used = small.used().1;
    let stages = grow(&repository, &base, step(12), |grown| small.limit(None, Some(used + grown)));
    for stage in ["begin", "warm"] {
        assert!(stages.contains_key(stage), "never full at the step {stage}: {stages:?}");
    }
    // A day after a base is not measured by it.
    assert!(!stages.contains_key("preflight"), "refused: {stages:?}");
}

/// Nobody knows what it takes before it is copied.
#[test]
fn a_first_day_stops_at_what_the_limits_keep_before_anything_is_held() {
    let Some((repository, _small)) = repository_on("vault") else { return };
    for number in 0..12 {
        fs::write(repository.path("repository").join(format!("large-{number}")), vec![7; 1 << 20]).unwrap();
    }
    let scheduler = repository.fossology.pid().expect("the scheduler runs");
    repository.reconfigure("min_free = \"0 B\"", "min_free = \"30 MB\"\ncopy_rate = \"1 MB\"");
    let output = repository.daykeep(&["run", NAME]).output().unwrap();
    let told = errors(&output).join("\n");
    assert_eq!(output.status.code(), Some(1), "{}", repository.told(&output));
    assert!(
        told.contains(" left while the trees are copied, and its limits keep 28.6 MiB: nothing was held"),
        "{told}"
    );
    assert!(told.contains("hint: make room"), "{told}");
    assert_eq!(repository.fossology.pid(), Some(scheduler), "the scheduler was stopped\n{told}");
    repository.reconfigure("min_free = \"30 MB\"\ncopy_rate = \"1 MB\"", "min_free = \"0 B\"");
    repository.run();
}

#[test]
fn a_state_directory_that_is_full_at_any_stage_costs_no_day() {
    let Some((repository, small)) = repository_on("state") else { return };
    let base = day_and_more(&repository);
    // The journal of each failed run takes a page itself.
    let stages = grow(&repository, &base, 1, |grown| small.limit(Some(small.used().0 + grown), None));
    assert!(stages.contains_key("hold"), "never full at the hold: {stages:?}");
}

/// By how much room grows from run to run.
fn step(some: u64) -> u64 {
    if all_of_them() { 1 } else { some }
}

/// Runs with more and more room, until one succeeds; at which steps they failed. Then all is as it should be.
fn grow(repository: &Repository, base: &str, step: u64, limit: impl Fn(u64)) -> BTreeMap<String, usize> {
    let mut stages = BTreeMap::new();
    for grown in (0..).step_by(usize::try_from(step).unwrap()) {
        assert!(grown < 2000, "it never succeeds: {stages:?}");
        limit(grown);
        let run = repository.daykeep(&Repository::run_arguments()).output().unwrap();
        released(repository, &format!("with room for {grown}"));
        if run.status.success() {
            break;
        }
        let stage = repository.last_step().unwrap_or_default();
        eprintln!("{grown} {stage}: {}", errors(&run).join(" | "));
        assert_full(&run, repository);
        let days = repository.assert_days_are_whole();
        assert!(days.iter().any(|day| day == base), "{days:?}: {}", repository.told(&run));
        *stages.entry(stage).or_insert(0) += 1;
        if days.len() > 1 {
            // It is a day, and there was no room to say that it is the newest one.
            break;
        }
    }
    limit(1 << 12);
    let last = repository.run();
    released(repository, "with room");
    repository.look_again();
    assert_eq!(repository.list().first(), Some(&last));
    repository.assert_dispatching();
    eprintln!("{stages:?}");
    stages
}

#[test]
fn pruning_works_where_no_byte_and_no_inode_is_left() {
    if let Some((repository, small)) = repository_on("vault") {
        // What daykeep records lies on the same file system.
        fs::create_dir(repository.path("vault/state")).unwrap();
        std::os::unix::fs::symlink(repository.path("vault/state"), repository.path("state")).unwrap();
        small.limit(Some(2000), Some(3000));
        prunes_when_full(&repository, &small, "tmpfs");
    }
}

#[test]
fn pruning_works_on_full_disks_of_every_kind() {
    for (kind, megabytes) in [("ext4", 32), ("xfs", 300), ("btrfs", 128)] {
        let Some(repository) = bare_repository() else { return };
        match Small::image(kind, megabytes, &repository.path("vault")) {
            Ok(small) => prunes_when_full(&repository, &small, kind),
            Err(reason) => eprintln!("SKIPPED: {kind}: {reason}"),
        }
    }
}

fn prunes_when_full(repository: &Repository, small: &Small, kind: &str) {
    repository.run();
    repository.fossology.queue("ununpack", 2);
    until_idle(repository);
    repository.run();
    small.fill();
    let run = repository.daykeep(&Repository::run_arguments()).output().unwrap();
    assert_full(&run, repository);
    eprintln!("{kind}: {}", errors(&run).join(" | "));
    released(repository, kind);
    let days = repository.assert_days_are_whole();
    assert_eq!(days.len(), 2, "{days:?}");
    repository.reconfigure("last = 3", "last = 1");
    let pruned = repository.daykeep(&["prune", NAME]).output().unwrap();
    assert!(pruned.status.success(), "{kind}: {}", repository.told(&pruned));
    assert_eq!(repository.assert_days_are_whole(), days[..1], "{kind}");
    assert_nothing_is_being_removed(repository, kind);
    small.make_room();
    repository.run();
    released(repository, kind);
    repository.look_again();
}

fn assert_nothing_is_being_removed(repository: &Repository, what: &str) {
    let names = fs::read_dir(repository.days_dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let removing: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(".removing")).collect();
    assert!(removing.is_empty(), "{what}: {removing:?}");
}

#[test]
fn a_repair_on_a_full_vault_leaves_the_day_as_it_is_and_goes_on_with_room() {
    let Some((repository, small)) = repository_on("vault") else { return };
    let day = repository.run();
    let file = newest_file(&repository, &day);
    let healthy = fs::read(&file).unwrap();
    let permissions = fs::metadata(&file).unwrap().permissions();
    fs::write(&file, vec![b'x'; healthy.len()]).unwrap();
    small.fill();
    let repair = ["--quiet", "verify", NAME, &day, "--repair", "--yes"];
    let full = repository.daykeep(&repair).output().unwrap();
    assert_eq!(full.status.code(), Some(12), "it is damaged as before: {}", repository.told(&full));
    let text = said(&full);
    assert!(
        text.contains(" is not repaired: cannot ") && text.contains("(os error 28); make room"),
        "{text}"
    );
    assert_eq!(fs::read(&file).unwrap(), vec![b'x'; healthy.len()], "nothing was put there");
    assert!(!repository.days_dir().join(".repair").exists(), "{text}");
    small.make_room();
    let repaired = repository.daykeep(&repair).output().unwrap();
    assert!(repaired.status.success(), "{}", repository.told(&repaired));
    assert_eq!(fs::read(&file).unwrap(), healthy);
    assert_eq!(fs::metadata(&file).unwrap().permissions(), permissions);
    repository.look_again();
}

fn newest_file(repository: &Repository, day: &str) -> PathBuf {
    let mut open = vec![repository.days_dir().join(day).join("trees/repository")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            return path;
        }
    }
    panic!("no file in {day}");
}

// --- restores -----------------------------------------------------------------------------------------------------------------

#[test]
fn a_restore_whose_staging_area_fills_changes_nothing() {
    let Some((kept, small)) = kept_with("repository") else { return };
    let damaged = kept.damage();
    // It is foreseen ...
    small.fill();
    let refused = kept.restore(&[&kept.day, "--yes"]);
    assert!(
        !refused.status.success() && said(&refused).contains(" bytes are to be staged beside "),
        "{}",
        said(&refused)
    );
    eprintln!("{}", errors(&refused).join(" | "));
    small.make_room();
    kept.now().assert_is(&damaged, "nothing was begun");
    // ... but for what fills it meanwhile.
    let jobs = kept.repository.journal_file();
    let mut restore = kept.command(&[&kept.day, "--yes"]);
    let restore = restore.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let restore = restore.spawn().unwrap();
    kept.repository.until("it loads", || {
        kept.repository.journal_file() != jobs && kept.repository.last_step().as_deref() == Some("load")
    });
    small.fill();
    let restore = restore.wait_with_output().unwrap();
    assert_eq!(restore.status.code(), Some(1), "{}", kept.repository.told(&restore));
    assert!(
        said(&restore).contains("nothing was changed:\n  - tree repository: "),
        "{}",
        kept.repository.told(&restore)
    );
    eprintln!("{}", errors(&restore).join(" | "));
    released(&kept.repository, "a full staging area");
    small.make_room();
    kept.now().assert_is(&damaged, "what was staged is discarded");
    kept.assert_nothing_left();
    kept.must(&[&kept.day, "--yes"]);
    kept.must(&["--confirm"]);
    kept.now().assert_is(&kept.then, "with room");
}

#[test]
fn a_restore_that_finds_no_room_while_it_copies_changes_nothing() {
    let Some((kept, small)) = kept_with("repository") else { return };
    let damaged = kept.damage();
    // The forecast has passed, a file has been made, and its first byte takes a while.
    let mut strace = Command::new("strace");
    kept.repository.surround(&mut strace);
    strace.args(["-f", "-b", "execve", "-o", "/dev/null", "--trace=pwrite64"]);
    strace.arg("--inject=pwrite64:delay_enter=3s:when=1");
    let restore = kept.command(&[&kept.day, "--yes"]);
    strace.arg(restore.get_program()).args(restore.get_args());
    strace.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let restore = strace.spawn().unwrap();
    let tree = kept.repository.fossology.repository();
    kept.repository.until("a file is being staged", || is_staging(&tree));
    small.fill();
    let restore = restore.wait_with_output().unwrap();
    assert_full(&restore, &kept.repository);
    assert!(errors(&restore)[0].contains("/.daykeep-restore-"), "{}", kept.repository.told(&restore));
    eprintln!("{}", errors(&restore).join(" | "));
    released(&kept.repository, "no room while it copied");
    small.make_room();
    kept.now().assert_is(&damaged, "what was staged is discarded");
    kept.assert_nothing_left();
    kept.must(&[&kept.day, "--yes"]);
    kept.must(&["--confirm"]);
    kept.now().assert_is(&kept.then, "with room");
}

/// Whether there is a file in what a restore puts into the tree before it switches.
fn is_staging(tree: &Path) -> bool {
    let mut open = vec![tree.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let is_aside = path.file_name().unwrap().to_string_lossy().starts_with(".daykeep-restore-");
            if directory != tree && path.is_file() {
                return true;
            }
            if (is_aside || directory != tree) && path.is_dir() {
                open.push(path);
            }
        }
    }
    false
}

#[test]
fn trees_that_find_no_room_elsewhere_say_so_and_come_when_there_is_room() {
    let Some((repository, small)) = repository_on("elsewhere") else { return };
    // Each takes a page, and has one byte.
    for number in 0..60 {
        fs::write(repository.fossology.sysconf().join(format!("small{number}")), "x").unwrap();
    }
    let day = repository.run();
    let target = repository.path("elsewhere/there").display().to_string();
    let elsewhere = ["--quiet", "restore", NAME, &day, "--to", &target, "--yes"];
    for grown in (1..).step_by(usize::try_from(step(12)).unwrap()) {
        assert!(grown < 1000, "it never succeeds");
        small.limit(Some(small.used().0 + grown), None);
        let restore = repository.daykeep(&elsewhere).output().unwrap();
        eprintln!("{grown}: {}", errors(&restore).join(" | "));
        if restore.status.success() {
            break;
        }
        let text = said(&restore);
        assert_eq!(restore.status.code(), Some(1), "{}", repository.told(&restore));
        assert!(text.contains(" free, and the trees need ") || text.contains("(os error 28)"), "{text}");
        // Nothing is in the way of the same command.
        let target = repository.path("elsewhere/there");
        let there = fs::read_dir(target).into_iter().flatten().count();
        assert_eq!(there, 0, "{}", repository.told(&restore));
    }
    let left =
        fs::read_dir(repository.path("elsewhere/there")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: BTreeSet<_> = left.collect();
    assert_eq!(left, ["configuration", "repository"].map(Into::into).into(), "what was begun is ended");
    fs::remove_dir_all(&target).unwrap();
    // The forecast has passed, the first tree is made, and then there is no room for the second.
    small.limit(None, None);
    let mut strace = Command::new("strace");
    repository.surround(&mut strace);
    strace.args(["-f", "-b", "execve", "-o", "/dev/null", "--trace=pwrite64"]);
    strace.arg("--inject=pwrite64:delay_enter=20ms");
    let restore = repository.daykeep(&elsewhere);
    strace.arg(restore.get_program()).args(restore.get_args());
    strace.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let restore = strace.spawn().unwrap();
    let second = repository.path("elsewhere/there/.daykeep-restore-repository");
    repository.until("the second tree is begun", || second.exists());
    small.fill();
    let restore = restore.wait_with_output().unwrap();
    assert_full(&restore, &repository);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "{}", repository.told(&restore));
    small.make_room();
    let restore = repository.daykeep(&elsewhere).output().unwrap();
    assert!(restore.status.success(), "the same command: {}", repository.told(&restore));
    let [there, live] = [repository.path("elsewhere/there/repository"), repository.fossology.repository()];
    let differs = Command::new("diff").args(["-rq", "-x", "*.I"]).args([there, live]).output().unwrap();
    assert!(differs.status.success(), "{}", said(&differs));
}

#[test]
fn a_restore_whose_records_find_no_room_goes_on_or_back() {
    let Some((kept, small)) = kept_with("state") else { return };
    let damaged = kept.damage();
    let mut seen = BTreeMap::new();
    for grown in (0..).step_by(usize::try_from(step(5)).unwrap()) {
        assert!(grown < 200, "it never succeeds: {seen:?}");
        small.limit(Some(small.used().0 + grown), None);
        let restore = kept.restore(&[&kept.day, "--yes"]);
        small.limit(None, None);
        let phase = phase(&kept.repository);
        eprintln!("{grown} {phase:?}: {}", errors(&restore).join(" | "));
        *seen.entry(format!("{phase:?}")).or_insert(0) += 1;
        if restore.status.success() {
            break;
        }
        assert_full(&restore, &kept.repository);
        if phase.as_deref() != Some("switching") {
            released(&kept.repository, "full records");
        }
        if phase.is_some() || grown % 4 == 0 {
            let again = kept.restore(&[&kept.day, "--yes"]);
            assert!(again.status.success(), "{}", kept.repository.told(&again));
            kept.now().assert_is(&kept.then, "the same command again");
        }
        let undo = kept.restore(&["--undo"]);
        assert!(
            undo.status.success() || said(&undo).contains("no restore of"),
            "{}",
            kept.repository.told(&undo)
        );
        released(&kept.repository, "taken back");
        kept.now().assert_is(&damaged, "taken back");
        kept.assert_nothing_left();
    }
    kept.now().assert_is(&kept.then, "with room");
    eprintln!("{seen:?}");
}

// --- calls that fail -----------------------------------------------------------------------------------------------------------

/// What fails, how, and by whom it is called: the thread of the straight line, or any.
struct Fault {
    call: &'static str,
    error: &'static str,
    options: &'static [&'static str],
    /// Which of them fail when not all are tried.
    some: &'static [&'static str],
}

const THREADS: &[&str] = &["-f", "-b", "execve"];
/// Only the Nth fails, or (`+`) all from the Nth on.
const FAULTS: [Fault; 15] = [
    Fault { call: "fsync", error: "EIO", options: &[], some: &["1", "3+", "7", "12+", "20+"] },
    Fault { call: "fdatasync", error: "EIO", options: &[], some: &["1", "5+"] },
    Fault { call: "syncfs", error: "EIO", options: THREADS, some: &["1"] },
    Fault { call: "rename", error: "EIO", options: &[], some: &["1", "3", "5+"] },
    Fault { call: "rename", error: "ENOSPC", options: &[], some: &["2"] },
    Fault { call: "mkdir", error: "ENOSPC", options: &[], some: &["1", "3"] },
    Fault { call: "symlink", error: "ENOSPC", options: &[], some: &["1+"] },
    Fault { call: "chmod", error: "EIO", options: &[], some: &["2"] },
    Fault { call: "unlink", error: "EIO", options: &[], some: &["2"] },
    Fault { call: "linkat", error: "ENOSPC", options: THREADS, some: &["1", "5+"] },
    Fault { call: "linkat", error: "EMLINK", options: THREADS, some: &["2", "3+"] },
    Fault { call: "renameat2", error: "EIO", options: THREADS, some: &["1"] },
    Fault { call: "fsync", error: "EIO", options: THREADS, some: &["2+"] },
    Fault { call: "mkdirat", error: "ENOSPC", options: THREADS, some: &["1", "4"] },
    Fault { call: "unlinkat", error: "EIO", options: THREADS, some: &["1", "2+"] },
];

fn all_of_them() -> bool {
    std::env::var_os("DAYKEEP_FAULTS").is_some()
}

#[test]
fn calls_of_a_run_that_fail_are_told_and_cost_no_day() {
    let repository = Repository::new(&IDLE, "");
    repository.run();
    let (mut told, mut failed) = (BTreeSet::new(), 0);
    for fault in &FAULTS {
        repository.fossology.queue("ununpack", 1);
        until_idle(&repository);
        for when in fault.numbers() {
            let run = fault.inject(&repository, &when, &repository.daykeep(&Repository::run_arguments()));
            let what = format!("{} {} {when}", fault.call, fault.error);
            released(&repository, &what);
            let days = repository.assert_days_are_whole();
            assert!(!days.is_empty());
            if run.status.success() {
                continue;
            }
            failed += 1;
            assert_eq!(run.status.code(), Some(1), "{what}: {}", repository.told(&run));
            eprintln!("{what}: {}", errors(&run).join(" | "));
            assert_told(&run, fault.error, &what, &repository);
            told.insert(fault.call);
            if fault.call == "syncfs" {
                let origin = repository.days_dir().join(".building.json");
                assert!(!origin.exists(), "what may not be on the disk must not be picked up");
            }
        }
        repository.run();
    }
    repository.look_again();
    eprintln!("{failed} runs failed");
    for call in ["fsync", "fdatasync", "syncfs", "rename", "linkat", "mkdirat"] {
        assert!(told.contains(call), "no run failed by {call}");
    }
}

#[test]
fn writes_of_a_run_that_fail_are_told_and_cost_no_day() {
    let repository = Repository::new(&IDLE, "");
    repository.fossology.server.psql("fossology", "CREATE TABLE noted AS SELECT 'begun' AS note");
    repository.run();
    let all = [("1", "ENOSPC"), ("2+", "EIO"), ("1", "EIO"), ("2+", "ENOSPC"), ("5+", "EIO")];
    let mut failed = BTreeSet::new();
    for kind in 0..KINDS {
        // The last two are written more than once in a run.
        let few = if kind < KINDS - 2 { 1 } else { 2 };
        let tries = if all_of_them() { all.len() } else { few };
        repository.fossology.queue("ununpack", 1);
        until_idle(&repository);
        for (turn, (when, error)) in all.into_iter().take(tries).enumerate() {
            let (name, files) = written(&repository, kind, &format!("{kind}.{turn}"));
            let run = repository.daykeep(&Repository::run_arguments());
            let run = inject_at(&files, ["write,pwrite64", error, when], &repository, &run);
            let what = format!("write {when} of {name}");
            released(&repository, &what);
            repository.assert_days_are_whole();
            if run.status.success() {
                assert!(when != "1", "{what} did not fail: {}", repository.told(&run));
                continue;
            }
            eprintln!("{what}: {}", errors(&run).join(" | "));
            assert_eq!(run.status.code(), Some(1), "{what}: {}", repository.told(&run));
            assert_told(&run, error, &what, &repository);
            failed.insert(name);
        }
        repository.run();
    }
    repository.look_again();
    assert_eq!(failed.len(), KINDS, "only these failed: {failed:?}");
}

/// How many kinds of files a run [writes](written).
const KINDS: usize = 12;

/// What the next run writes of one kind, after something new has been noted in the tree and in the database.
fn written(repository: &Repository, kind: usize, note: &str) -> (&'static str, Vec<PathBuf>) {
    fs::write(repository.fossology.sysconf().join("noted"), note).unwrap();
    repository.fossology.server.psql("fossology", &format!("UPDATE noted SET note = '{note}'"));
    let digest = blake3::hash(format!("{note}\n").as_bytes()).to_hex().to_string();
    let days = repository.days_dir();
    let building = |names: &[&str]| names.iter().map(|name| days.join(".building").join(name)).collect();
    let rows = |end: &str| format!("database/fossology/tables/{digest}{end}");
    match kind {
        0 => ("the records", building(&["files.jsonl.zst"])),
        1 => ("the roles", building(&["database/globals.sql"])),
        2 => ("the manifest", building(&[".manifest.json.new"])),
        3 => ("its digest", building(&[".manifest.blake3.new"])),
        4 => ("a file of a tree", building(&["trees/configuration/noted"])),
        5 => ("rows", building(&[&rows(".zst"), &rows(".patch.zst")])),
        6 => ("the list of tables", building(&["database/fossology/tables.jsonl"])),
        7 => ("the recipe", building(&["database/fossology/load.txt"])),
        8 => ("the script", building(&["restore.sh"])),
        9 => ("the origin", vec![days.join("..building.json.new")]),
        10 => ("the hold's record", vec![repository.path("state").join(NAME).join(".hold.json.new")]),
        _ => ("the journal", vec![next_journal(repository)]),
    }
}

#[test]
fn a_file_that_the_disk_does_not_give_any_more_fails_a_run_and_is_damage_in_a_day() {
    let repository = Repository::new(&IDLE, "");
    let first = repository.run();
    let source = repository.fossology.sysconf().join("fossology.conf");
    fs::write(&source, "[FOSSOLOGY]\ndepth=5\n").unwrap();
    let unread = ["read,pread64,copy_file_range,sendfile", "EIO", "1+"];
    let run = inject_at(
        std::slice::from_ref(&source),
        unread,
        &repository,
        &repository.daykeep(&Repository::run_arguments()),
    );
    assert_eq!(run.status.code(), Some(1), "{}", repository.told(&run));
    assert_told(&run, "EIO", "a source", &repository);
    assert!(errors(&run).join(" ").contains(&source.display().to_string()), "{}", repository.told(&run));
    released(&repository, "a source that cannot be read");
    assert_eq!(repository.assert_days_are_whole(), std::slice::from_ref(&first));

    let kept = repository.days_dir().join(&first).join("trees/configuration/fossology.conf");
    let verify = repository.daykeep(&["verify", NAME, &first]);
    let damaged = inject_at(&[kept], unread, &repository, &verify);
    assert_eq!(damaged.status.code(), Some(12), "{}", repository.told(&damaged));
    let text = said(&damaged);
    assert!(text.contains("trees/configuration/fossology.conf") && text.contains("(os error 5)"), "{text}");
    repository.run();
    repository.look_again();
}

/// A program whose calls fail that are about these files.
fn inject_at(
    files: &[PathBuf],
    [calls, error, when]: [&str; 3],
    repository: &Repository,
    command: &Command,
) -> Output {
    let mut strace = Command::new("strace");
    repository.surround(&mut strace);
    strace.args(["-f", "-b", "execve", "-o", "/dev/null"]);
    strace.args(files.iter().flat_map(|file| ["-P".as_ref(), file.as_os_str()]));
    strace.arg(format!("--trace={calls}")).arg(format!("--inject={calls}:error={error}:when={when}"));
    strace.arg(command.get_program()).args(command.get_args()).output().unwrap()
}

/// The file of the job that is to come.
fn next_journal(repository: &Repository) -> PathBuf {
    let last = repository.journal_file().expect("there was a job");
    let number: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    last.with_file_name(format!("{}.jsonl", number + 1))
}

#[test]
fn calls_of_a_prune_that_fail_are_told_and_the_next_one_ends_it() {
    let repository = Repository::new(&IDLE, "");
    let faults = [
        Fault { call: "renameat2", error: "EIO", options: THREADS, some: &["1"] },
        Fault { call: "unlinkat", error: "EIO", options: THREADS, some: &["1", "20+"] },
        Fault { call: "fsync", error: "EIO", options: THREADS, some: &["1+", "4+"] },
        Fault { call: "rename", error: "ENOSPC", options: THREADS, some: &["1+"] },
    ];
    let mut failed = 0;
    for fault in &faults {
        for when in fault.numbers() {
            let (_, newest) = (repository.run(), repository.run());
            repository.reconfigure("last = 3", "last = 1");
            let what = format!("{} {} {when}", fault.call, fault.error);
            let prune = fault.inject(&repository, &when, &repository.daykeep(&["prune", NAME]));
            let days = repository.assert_days_are_whole();
            assert_eq!(days.first(), Some(&newest), "{what}: {}", repository.told(&prune));
            if !prune.status.success() {
                failed += 1;
                eprintln!("{what}: {}", errors(&prune).join(" | "));
                assert_eq!(prune.status.code(), Some(1), "{what}: {}", repository.told(&prune));
                assert_told(&prune, fault.error, &what, &repository);
            }
            let again = repository.daykeep(&["prune", NAME]).output().unwrap();
            assert!(again.status.success(), "{what}: {}", repository.told(&again));
            assert_eq!(repository.assert_days_are_whole(), [newest], "{what}");
            assert_nothing_is_being_removed(&repository, &what);
            repository.reconfigure("last = 1", "last = 3");
        }
    }
    repository.look_again();
    assert!(failed >= 4, "only {failed} failed");
}

#[test]
fn calls_of_a_restore_that_fail_are_told_and_it_goes_on_or_back() {
    let Some(kept) = bare_repository().map(Kept::of) else { return };
    let damaged = kept.damage();
    let faults = [
        Fault { call: "fsync", error: "EIO", options: &[], some: &["9", "14+", "24+"] },
        Fault { call: "fdatasync", error: "EIO", options: &[], some: &["6+"] },
        Fault { call: "rename", error: "ENOSPC", options: &[], some: &["4", "6+"] },
        Fault { call: "fsync", error: "EIO", options: THREADS, some: &["5+"] },
        Fault { call: "renameat2", error: "EIO", options: THREADS, some: &["1", "3+"] },
        Fault { call: "mkdirat", error: "ENOSPC", options: THREADS, some: &["1"] },
    ];
    let mut failed = 0;
    for (number, fault) in faults.iter().enumerate() {
        for when in fault.numbers() {
            let what = format!("{} {} {when}", fault.call, fault.error);
            let restore = fault.inject(&kept.repository, &when, &kept.command(&[&kept.day, "--yes"]));
            let phase = phase(&kept.repository);
            eprintln!("{what} {phase:?}: {}", errors(&restore).join(" | "));
            if !restore.status.success() {
                failed += 1;
                assert_told(&restore, fault.error, &what, &kept.repository);
            }
            if phase.is_some() || number == 0 {
                let mut again = kept.restore(&[&kept.day, "--yes"]);
                // Told to switch by a record whose flush had failed, after what was beside had been given up: it is put back and begun anew.
                if said(&again).contains("what was there before is in its place, and nothing else is") {
                    again = kept.restore(&[&kept.day, "--yes"]);
                }
                assert!(
                    again.status.success() || said(&again).contains("waits to be confirmed or taken back"),
                    "{what}: {}",
                    kept.repository.told(&again)
                );
                kept.now().assert_is(&kept.then, &what);
            }
            let undo = kept.restore(&["--undo"]);
            assert!(
                undo.status.success() || said(&undo).contains("no restore of"),
                "{what}: {}",
                kept.repository.told(&undo)
            );
            released(&kept.repository, &what);
            kept.now().assert_is(&damaged, &what);
            kept.assert_nothing_left();
        }
    }
    eprintln!("{failed} restores failed");
    assert!(failed >= 6, "only {failed} restores failed");
}

#[test]
fn calls_of_an_undo_and_a_confirm_that_fail_are_told_and_the_same_command_ends_it() {
    let Some(kept) = bare_repository().map(Kept::of) else { return };
    let faults = [
        Fault { call: "fsync", error: "EIO", options: &[], some: &["4+"] },
        Fault { call: "renameat2", error: "EIO", options: THREADS, some: &["2"] },
        Fault { call: "unlinkat", error: "EIO", options: THREADS, some: &["1+"] },
    ];
    let mut failed = 0;
    for fault in &faults {
        for when in fault.numbers() {
            let damaged = kept.damage();
            for end in ["--undo", "--confirm"] {
                kept.must(&[&kept.day, "--yes"]);
                let what = format!("{} {} {when} in {end}", fault.call, fault.error);
                let ended = fault.inject(&kept.repository, &when, &kept.command(&[end]));
                eprintln!("{what} {:?}: {}", phase(&kept.repository), errors(&ended).join(" | "));
                if !ended.status.success() {
                    failed += 1;
                    assert_told(&ended, fault.error, &what, &kept.repository);
                }
                let again = kept.restore(&[end]);
                assert!(
                    again.status.success() || said(&again).contains("no restore of"),
                    "{what}: {}",
                    kept.repository.told(&again)
                );
                released(&kept.repository, &what);
                kept.now().assert_is(if end == "--undo" { &damaged } else { &kept.then }, &what);
                kept.assert_nothing_left();
            }
        }
    }
    assert!(failed >= 3, "only {failed} failed");
}

impl Fault {
    fn numbers(&self) -> Vec<String> {
        if all_of_them() {
            let last = if self.options.is_empty() { 40 } else { 8 };
            return (1..=last).flat_map(|number| [format!("{number}"), format!("{number}+")]).collect();
        }
        self.some.iter().map(|when| (*when).to_owned()).collect()
    }

    fn inject(&self, repository: &Repository, when: &str, command: &Command) -> Output {
        let mut strace = Command::new("strace");
        repository.surround(&mut strace);
        strace.args(self.options).args(["-o", "/dev/null"]).arg(format!("--trace={}", self.call));
        strace.arg(format!("--inject={}:error={}:when={when}", self.call, self.error));
        strace.arg(command.get_program()).args(command.get_args()).output().unwrap()
    }
}

// --- what they share ----------------------------------------------------------------------------------------------------------

fn bare_repository() -> Option<Repository> {
    match own_mounts() {
        Ok(()) => {}
        Err(reason) => {
            eprintln!("SKIPPED: {reason}");
            return None;
        }
    }
    Some(Repository::of(Fossology::new(&IDLE), ""))
}

/// A repository with this directory on a tmpfs.
fn repository_on(directory: &str) -> Option<(Repository, Small)> {
    if let Err(reason) = own_mounts() {
        eprintln!("SKIPPED: {reason}");
        return None;
    }
    let fossology = Fossology::new(&IDLE);
    let small = Small::tmpfs(&fossology.path(directory)).unwrap();
    let repository = Repository::of(fossology, "");
    // Only what is really full is to refuse.
    repository.reconfigure("min_free = \"1 MB\"", "min_free = \"0 B\"");
    Some((repository, small))
}

fn kept_with(directory: &str) -> Option<(Kept, Small)> {
    let (repository, small) = repository_on(directory)?;
    Some((Kept::of(repository), small))
}

/// A first day, and more for a second one.
fn day_and_more(repository: &Repository) -> String {
    let base = repository.run();
    repository.fossology.queue("ununpack", 4);
    until_idle(repository);
    base
}

fn until_idle(repository: &Repository) {
    repository.until("nothing is queued", || {
        let left = "SELECT count(*) FROM jobqueue WHERE jq_endtime IS NULL";
        repository.fossology.server.psql("fossology", left) == "0" && repository.fossology.agents().is_empty()
    });
}

/// By itself, and nothing of daykeep is left running.
fn released(repository: &Repository, what: &str) {
    eprintln!("after {what}");
    repository.wait_until_released();
    repository.wait_until_alone();
}

fn phase(repository: &Repository) -> Option<String> {
    let record = repository.path("state").join(NAME).join("restore.json");
    let record: Value = serde_json::from_slice(&fs::read(record).ok()?).expect("a whole record");
    Some(record["phase"].as_str().expect("a phase").to_owned())
}

/// What went wrong, why, and what to do about it.
fn errors(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_one =
        |line: &&str| ["error:", "  - ", "caused by:", "hint:"].iter().any(|word| line.starts_with(word));
    text.lines().filter(is_one).map(str::to_owned).collect()
}

/// It failed, and says that something has no room, what, and what to do.
#[track_caller]
fn assert_full(output: &Output, repository: &Repository) {
    assert_eq!(output.status.code(), Some(1), "{}", repository.told(output));
    let text = errors(output).join("\n");
    // Told by the file system, or forecast.
    let is_full =
        text.contains("(os error 28)") || text.contains("; what the next day needs is not known, and ");
    assert!(text.contains(" /") && is_full, "{}", repository.told(output));
    assert!(text.contains("hint: make room"), "{}", repository.told(output));
}

/// It says what failed, where, and why.
#[track_caller]
fn assert_told(output: &Output, error: &str, what: &str, repository: &Repository) {
    let number = match error {
        "EIO" => "(os error 5)",
        "ENOSPC" => "(os error 28)",
        "EMLINK" => "(os error 31)",
        other => panic!("{other}"),
    };
    let text = errors(output).join("\n");
    assert!(text.contains(" /") && text.contains(number), "{what}: {}", repository.told(output));
}
