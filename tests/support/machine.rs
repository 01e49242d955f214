//! A machine whose power can be cut: a file system on a [`Disk`] that holds everything (the repository, its server, the vault, what
//! daykeep records), mounted where this test's thread and its children alone see it.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

use super::disk::{Disk, Image, Log, Position};
use crate::support::small::own_mounts;

/// Room for a server, a repository and some days; XFS wants 300 MB at least.
const BYTES: u64 = 512 << 20;

/// A kind of file system, and how it is made without waiting for anything.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    make: &'static [&'static str],
    options: &'static str,
}

pub const EXT4: Kind = Kind {
    name: "ext4",
    make: &["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
    options: "loop",
};
pub const XFS: Kind = Kind { name: "xfs", make: &["-q", "-f", "-K"], options: "loop" };
pub const BTRFS: Kind = Kind { name: "btrfs", make: &["-q", "-f", "-K"], options: "loop" };

/// The machine. Without power nothing of it is mounted.
pub struct Machine {
    kind: Kind,
    disk: Option<Disk>,
}

impl Machine {
    /// Makes one with an empty file system, and has all temporary directories of this process made on it.
    ///
    /// # Errors
    /// Why this is not possible here.
    pub fn new(kind: Kind) -> Result<Self, String> {
        own_mounts()?;
        // A file system of this test's own below: nothing stays behind on that of the machine.
        let own = Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "tmpfs"]).arg(top()).status();
        if !own.is_ok_and(|own| own.success()) {
            return Err(format!("no tmpfs can be mounted on {}", top().display()));
        }
        for directory in [root(), place()] {
            fs::create_dir(directory).expect("a directory");
        }
        let mut machine = Self { kind, disk: None };
        machine.serve(Image::new(BYTES))?;
        let file = machine.disk.as_ref().expect("it is served").file();
        let made = Command::new(format!("mkfs.{}", kind.name)).args(kind.make).arg(file).output();
        match made {
            Ok(made) if made.status.success() => {}
            Ok(made) => return Err(format!("mkfs.{}: {}", kind.name, String::from_utf8_lossy(&made.stderr))),
            Err(error) => return Err(format!("mkfs.{}: {error}", kind.name)),
        }
        machine.mount()?;
        fs::set_permissions(root(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let _ = tempfile::env::override_temp_dir(&root());
        assert_eq!(tempfile::env::temp_dir(), root());
        Ok(machine)
    }

    fn serve(&mut self, image: Image) -> Result<(), String> {
        let disk = Disk::serve(&place(), image).map_err(|error| format!("no FUSE: {error}"))?;
        self.disk = Some(disk);
        Ok(())
    }

    fn mount(&self) -> Result<(), String> {
        let file = self.disk.as_ref().expect("it is served").file();
        let mut mount = Command::new("mount");
        mount.args(["-t", self.kind.name, "-o", self.kind.options]).arg(file).arg(root());
        let done = mount.output().map_err(|error| format!("mount: {error}"))?;
        if done.status.success() {
            return Ok(());
        }
        Err(format!("no {} can be mounted: {}", self.kind.name, String::from_utf8_lossy(&done.stderr)))
    }

    fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("it has power")
    }

    /// Everything so far is on the disk; from now on it is remembered what the disk is sent.
    pub fn record(&self) {
        flush();
        self.disk().record();
    }

    /// How far the log is.
    pub fn position(&self) -> Position {
        self.disk().position()
    }

    /// What was remembered.
    pub fn take_log(&self) -> Log {
        self.disk().take_log()
    }

    /// The power comes back to a disk with this on it. Everything that ran must have been [ended](Self::off) before.
    ///
    /// # Panics
    /// The file system cannot be mounted any more.
    pub fn on(&mut self, image: Image) {
        self.serve(image).unwrap_or_else(|error| panic!("{error}"));
        self.mount().unwrap_or_else(|error| panic!("{error}"));
    }

    /// The power goes: whoever used the file system has been killed, and what it kept in memory is lost with the disk.
    ///
    /// # Panics
    /// Somebody goes on using it.
    pub fn off(&mut self) {
        let limit = Instant::now() + Duration::from_secs(30);
        while let Err(error) = unmount(root(), UnmountFlags::empty()) {
            assert!(Instant::now() < limit, "{}: {error}: {:?}", root().display(), users());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.disk.take().expect("it had power").end();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // After a failed test somebody may still use it: it is gone when the last of them is.
        let _ = unmount(root(), UnmountFlags::DETACH);
        let _ = unmount(place(), UnmountFlags::DETACH);
    }
}

/// Everything so far is on the disk.
pub fn flush() {
    rustix::fs::syncfs(fs::File::open(root()).expect("the root")).expect("it is flushed");
}

/// Where the file system is mounted: one path for all tests of this program, since each sees its own mounts only.
pub fn root() -> PathBuf {
    top().join("m")
}

/// Where the disk is served.
fn place() -> PathBuf {
    top().join("disk")
}

/// A directory that every system has and that hides nothing of ours when something is mounted there. Short, for the paths of sockets.
fn top() -> &'static Path {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    Path::new(if ours.starts_with("/mnt") { "/media" } else { "/mnt" })
}

/// The processes that keep a file system busy: those of this test, for others may have another one by the same name.
pub fn users() -> Vec<(i32, String)> {
    let (root, ours) = (root(), fs::read_link("/proc/thread-self/ns/mnt").expect("a namespace"));
    let uses = |pid: i32| {
        let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}"));
        let is_on_it = |name: &str| link(name).is_ok_and(|to| to.starts_with(&root));
        let files = || fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let opened = || files().any(|file| fs::read_link(file.path()).is_ok_and(|to| to.starts_with(&root)));
        link("ns/mnt").is_ok_and(|theirs| theirs == ours) && (is_on_it("cwd") || is_on_it("exe") || opened())
    };
    let all = daykeep::process::all().expect("/proc").into_iter().filter(|one| uses(one.pid));
    all.map(|one| (one.pid, one.argv.join(" "))).collect()
}
