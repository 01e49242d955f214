//! A disk that begins to fail: at every write and flush that a run or a prune sends to the vault's disk, this one fails, or this one
//! and all that follow. The error says where, the repository is released, and on the disk as it is then no kept day is touched, every listed
//! day verifies and the next run succeeds (promises 1, 2, 5 and 6).
//!
//! What `full_disk.rs` has single system calls say, the file system says here itself, when it likes: often long after the write, at a flush
//! or by becoming read-only. `make test` tries a few points, `DAYKEEP_FAULTS=all` (`make faults`) every one.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what was hit belongs to the test's output")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

#[path = "support/disk.rs"]
mod disk;
mod support;

use disk::{Disk, Image};
use support::repository::{NAME, Repository};
use support::restored::said;
use support::scheduler::Fossology;
use support::small::own_mounts;

/// A scheduler with nothing to do.
const IDLE: [&str; 6] = ["--agent-ms", "10", "--files", "3", "--poll-ms", "50"];

#[test]
fn writes_of_a_run_and_a_prune_fail_on_ext4() {
    let make = ["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"];
    on_a_failing_disk("ext4", 64, &make);
}

#[test]
fn writes_of_a_run_and_a_prune_fail_on_xfs() {
    on_a_failing_disk("xfs", 300, &["-q", "-f", "-K"]);
}

fn on_a_failing_disk(kind: &str, megabytes: u64, make: &[&str]) {
    if let Err(reason) = own_mounts() {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let fossology = Fossology::new(&IDLE);
    let mut vault = match Vault::new(&fossology, kind, megabytes << 20, make) {
        Ok(vault) => vault,
        Err(reason) => {
            eprintln!("SKIPPED: {kind}: {reason}");
            return;
        }
    };
    let repository = Repository::of(fossology, "");
    repository.fossology.queue("ununpack", 1);
    repository.until("nothing is queued", || {
        let left = "SELECT count(*) FROM jobqueue WHERE jq_endtime IS NULL";
        let fossology = &repository.fossology;
        fossology.server.psql("fossology", left) == "0" && fossology.agents().is_empty()
    });
    repository.fossology.server.psql("fossology", "CREATE TABLE changing AS SELECT 0 AS n");
    repository.run();
    for arguments in [&Repository::run_arguments()[..], &["prune", NAME]] {
        every_write_fails(&repository, &mut vault, arguments);
    }
}

/// Has the command fail at one write after another, until it sends so few that none fails.
fn every_write_fails(repository: &Repository, vault: &mut Vault, arguments: &[&str]) {
    let is_prune = arguments[0] == "prune";
    let (mut good, mut failed, mut kept) = (0, 0, 0);
    loop {
        for bad in [1, usize::MAX] {
            let before = prepared(repository, is_prune);
            vault.disk().fail(good, bad);
            let output = repository.daykeep(arguments).output().unwrap();
            let what = format!("{} {arguments:?}, from {good} on {bad} fail", vault.kind);
            repository.wait_until_released();
            repository.wait_until_alone();
            let hits = vault.heal();
            if output.status.success() {
                kept += 1;
            } else {
                failed += 1;
                eprintln!("{what}: {}", said(&output).lines().next().unwrap_or_default());
                assert_told(&output, &what, repository);
            }
            repository.look_again();
            let listed = repository.list();
            let stays = before.first().expect("a day");
            assert!(listed.contains(stays), "{what}: {stays} is gone: {listed:?}");
            if is_prune {
                repository.json(&["--quiet", "prune", NAME, "--json"]);
                assert_eq!(repository.list(), std::slice::from_ref(stays), "{what}");
                repository.reconfigure("last = 1", "last = 3");
            } else {
                let verify = repository.daykeep(&["--quiet", "verify", "--all", NAME]).output().unwrap();
                assert!(verify.status.success(), "{what}: {}", repository.told(&verify));
            }
            if hits == 0 {
                assert!(output.status.success(), "{what}: {}", repository.told(&output));
                assert!(failed > 3, "only {failed} failed");
                eprintln!("{} {arguments:?}: {failed} failed, {kept} came to their end", vault.kind);
                return;
            }
        }
        let all = std::env::var_os("DAYKEEP_FAULTS").is_some();
        good = if all { good + 1 } else { good * 4 + 3 };
    }
}

/// Days to be pruned, or something new to be kept; the days that there are, newest first.
fn prepared(repository: &Repository, is_prune: bool) -> Vec<String> {
    if is_prune {
        repository.run();
        repository.run();
        repository.reconfigure("last = 3", "last = 1");
    } else {
        // As much each time: how often a run writes must not grow with the number of runs.
        let fossology = &repository.fossology;
        let now = fossology.server.psql("fossology", "UPDATE changing SET n = n + 1 RETURNING n");
        fs::write(fossology.sysconf().join("changing"), now).unwrap();
    }
    flush(&repository.path("vault"));
    repository.list()
}

fn flush(place: &Path) {
    rustix::fs::syncfs(File::open(place).unwrap()).unwrap();
}

/// It says where, and what the file system says: that it cannot write, or that it will not any more.
#[track_caller]
fn assert_told(output: &Output, what: &str, repository: &Repository) {
    assert_eq!(output.status.code(), Some(1), "{what}: {}", repository.told(output));
    let text = said(output);
    let number = ["(os error 5)", "(os error 30)"].iter().any(|number| text.contains(number));
    assert!(text.contains(" /") && number, "{what}: {}", repository.told(output));
}

/// The vault, on a disk of its own.
struct Vault {
    kind: String,
    place: PathBuf,
    below: PathBuf,
    disk: Option<Disk>,
}

impl Vault {
    fn new(fossology: &Fossology, kind: &str, bytes: u64, make: &[&str]) -> Result<Self, String> {
        let [place, below] = ["vault", "disk"].map(|name| fossology.path(name));
        fs::create_dir_all(&place).unwrap();
        fs::create_dir_all(&below).unwrap();
        let mut vault = Self { kind: kind.to_owned(), place, below, disk: None };
        vault.serve(Image::new(bytes))?;
        let made = Command::new(format!("mkfs.{kind}")).args(make).arg(vault.disk().file()).output();
        if !made.as_ref().is_ok_and(|made| made.status.success()) {
            return Err(format!("mkfs.{kind}: {made:?}"));
        }
        vault.mount()?;
        Ok(vault)
    }

    fn serve(&mut self, image: Image) -> Result<(), String> {
        self.disk = Some(Disk::serve(&self.below, image).map_err(|error| format!("no FUSE: {error}"))?);
        Ok(())
    }

    fn mount(&self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        mount.args(["-t", &self.kind, "-o", "loop"]).arg(self.disk().file()).arg(&self.place);
        let done = mount.output().unwrap();
        if done.status.success() { Ok(()) } else { Err(format!("mount: {done:?}")) }
    }

    fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("it is served")
    }

    /// Somebody puts what is on the disk on one that does not fail, and has the file system checked. Gives how often it failed.
    fn heal(&mut self) -> usize {
        unmount_soon(&self.place);
        let disk = self.disk.take().expect("it is served");
        let (failed, image) = (disk.failed(), disk.image());
        disk.end();
        self.serve(image).unwrap();
        if self.kind == "ext4" {
            let checked = Command::new("e2fsck").args(["-f", "-y"]).arg(self.disk().file()).output().unwrap();
            // 1: repaired.
            assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
        }
        self.mount().unwrap();
        failed
    }
}

fn unmount_soon(place: &Path) {
    let limit = Instant::now() + Duration::from_secs(30);
    while let Err(error) = unmount(place, UnmountFlags::empty()) {
        assert!(Instant::now() < limit, "{}: {error}", place.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        let _ = unmount(&self.place, UnmountFlags::DETACH);
        let _ = unmount(&self.below, UnmountFlags::DETACH);
    }
}
