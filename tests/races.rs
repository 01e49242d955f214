//! Somebody who may write in a source tree exchanges its directories and files for symbolic links, as fast as he can, while daykeep keeps it
//! and puts it back: nothing outside of the tree is read into a day, and nothing outside of it is changed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking, and makes the files that it tests with"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use daykeep::event::Context;
use daykeep::fs::dir::{Dir, Kind};
use daykeep::tree::restore::{Plan, State, Wish, plan};
use rustix::fs::{CWD, RenameFlags, renameat_with};

mod support;

use support::live::Live;

/// What only root may read, and no day may hold.
const SECRET: &str = "the secret of somebody else";
/// How long each race goes on.
const LONG: Duration = Duration::from_secs(5);
/// The names that are the same inside and outside.
const NAMES: usize = 8;

impl Live {
    /// A tree, and beside it `outside` with the same names, of which nothing may be read or changed.
    fn with_outside() -> Self {
        let live = Self::new("live");
        for (root, text) in [("live", "what is kept"), ("outside", SECRET)] {
            for directory in ["a", "b/c"] {
                let at = live.path(root).join(directory);
                fs::create_dir_all(&at).unwrap();
                for number in 0..NAMES {
                    fs::write(at.join(number.to_string()), format!("{text} {number}\n")).unwrap();
                    fs::set_permissions(at.join(number.to_string()), fs::Permissions::from_mode(0o600))
                        .unwrap();
                }
            }
        }
        live
    }

    fn plan(&self, context: &Context) -> Result<Plan, daykeep::tree::restore::Error> {
        let wish = Wish {
            source: self.day("day"),
            tree: self.tree.clone(),
            path: None,
            directory: self.path("plan"),
            tag: "1".into(),
            jobs: 2,
        };
        plan(&wish, context)
    }

    /// Everything outside that could be changed: names, kinds, modes, owners, times, links and content.
    fn outside(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![self.path("outside")];
        while let Some(path) = waiting.pop() {
            let of = fs::symlink_metadata(&path).unwrap();
            let content = if of.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
            found.push(format!(
                "{} {:o} {}:{} {} {}.{} {}.{} {content}",
                path.display(),
                of.mode(),
                of.uid(),
                of.gid(),
                of.nlink(),
                of.mtime(),
                of.mtime_nsec(),
                of.ctime(),
                of.ctime_nsec(),
            ));
            if of.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        found.sort();
        found
    }

    /// What the day has otherwise: modes that are to be set, files to be made, one to be removed; by names that lead nowhere else.
    fn disturb(&self) {
        let root = Dir::open(&self.tree.path).unwrap();
        for directory in [&b"a"[..], b"b/c"] {
            let Ok(dir) = root.beneath(directory) else { continue };
            for name in (b'0'..).take(NAMES) {
                if directory == b"a" && name % 4 == 0 {
                    let _ = dir.unlink(&[name]);
                } else {
                    let _ = dir.set_mode(&[name], 0o640, Kind::File);
                }
            }
            let _ = dir.make_symlink(b"extra", b"nowhere");
        }
    }

    /// Links that lead outside, to be exchanged with names of the tree: directories, one below another, and files.
    fn traps(&self) -> Vec<Trap> {
        let traps = self.path("traps");
        fs::create_dir_all(&traps).unwrap();
        let directories = ["a", "b/c", "b"].map(str::to_owned);
        let names = directories.into_iter().chain((0..NAMES).map(|number| format!("a/{number}")));
        let trap = |(number, name): (usize, String)| Trap {
            link: traps.join(number.to_string()),
            target: self.path("outside").join(&name),
            root: self.tree.path.clone(),
            name,
        };
        names.enumerate().map(trap).collect()
    }
}

/// Exchanges names for links and back until it is told to stop. Counts.
fn exchange(traps: &[Trap], stop: &AtomicBool, count: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        for trap in traps {
            trap.set();
            if !trap.swap() {
                continue;
            }
            count.fetch_add(1, Ordering::Relaxed);
            // The tree is whole most of the time, so that daykeep comes far.
            while !trap.swap() {
                // A restore has moved the link aside, and nothing has the name.
                if !trap.is_there() {
                    let _ = fs::remove_file(&trap.link);
                    break;
                }
            }
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// A link, and the name in the tree that it is exchanged with.
struct Trap {
    link: PathBuf,
    target: PathBuf,
    root: PathBuf,
    name: String,
}

impl Trap {
    /// What a restore has put here instead goes.
    fn set(&self) {
        if fs::symlink_metadata(&self.link).is_ok_and(|of| of.is_symlink()) {
            return;
        }
        let _ = fs::remove_file(&self.link);
        let _ = fs::remove_dir_all(&self.link);
        symlink(&self.target, &self.link).unwrap();
    }

    /// The directory that the name is in; never by a link, which would lead outside.
    fn parent(&self) -> Option<(Dir, Vec<u8>)> {
        Dir::open(&self.root).ok()?.parent_beneath(self.name.as_bytes()).ok()
    }

    fn swap(&self) -> bool {
        let Some((dir, name)) = self.parent() else { return false };
        renameat_with(CWD, &self.link, &dir, name.as_slice(), RenameFlags::EXCHANGE).is_ok()
    }

    fn is_there(&self) -> bool {
        self.parent().is_some_and(|(dir, name)| dir.stat(&name).is_ok())
    }
}

/// Stops the others, also when a test fails.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does `work` again and again while somebody exchanges names; how often it was done and how often it succeeded.
fn race(traps: &[Trap], mut work: impl FnMut() -> bool) -> (u32, u32) {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut tries, mut good) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| exchange(traps, &stop, &count));
        let _stop = AtTheEnd(&stop);
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            tries += 1;
            good += u32::from(work());
        }
    });
    let count = count.load(Ordering::Relaxed);
    eprintln!("{count} exchanges, {tries} tries, {good} of them came to their end");
    assert!(count > 100, "nobody raced");
    (tries, good)
}

fn grep(directory: &Path) -> String {
    let found = Command::new("grep").args(["-rla", SECRET]).arg(directory).output().unwrap();
    String::from_utf8(found.stdout).unwrap()
}

#[test]
fn a_backup_reads_nothing_outside_of_the_tree() {
    let bench = Live::with_outside();
    let before = bench.outside();
    let traps = bench.traps();
    let mut kept: Option<String> = None;
    let mut number = 0;
    race(&traps, || {
        number += 1;
        let name = format!("day{number}");
        let done = bench.keep(&name, kept.as_deref());
        assert_eq!(grep(&bench.path(&name)), "", "the secret is in the vault ({done:?})");
        if done.is_ok() {
            kept = Some(name);
        }
        done.is_ok()
    });
    assert_eq!(bench.outside(), before);
    // When nobody races any more, the tree can be kept.
    bench.keep("last", None).unwrap();
    assert_eq!(grep(&bench.path("last")), "");
}

#[test]
fn a_restore_changes_nothing_outside_of_the_tree() {
    let bench = Live::with_outside();
    bench.keep("day", None).unwrap();
    let traps = bench.traps();
    let before = bench.outside();
    let mut round = 0_u32;
    race(&traps, || {
        round += 1;
        bench.disturb();
        let done = bench.plan(&bench.context).and_then(|plan| {
            let done = plan.stage(&bench.context).and_then(|_| plan.execute(&bench.context));
            let ended = match plan.state()? {
                State::Switched if round.is_multiple_of(2) => plan.drop_aside(&bench.context),
                State::Switched | State::Switching | State::GoingBack => {
                    plan.back(&bench.context).and_then(|()| plan.discard(&bench.context))
                }
                _ => plan.discard(&bench.context),
            };
            done.and(ended)
        });
        if done.is_err() {
            // Somebody who cannot end it starts anew.
            let _ = fs::remove_dir_all(bench.path("plan"));
            let _ = fs::remove_dir_all(bench.path(".daykeep-restore-1-files"));
        }
        done.is_ok()
    });
    assert_eq!(bench.outside(), before);
}

/// The name whose mode is to be set is a link at the moment at which it is set.
#[test]
fn a_link_in_place_of_a_planned_file_is_not_followed() {
    let bench = Live::with_outside();
    bench.keep("day", None).unwrap();
    let file = bench.tree.path.join("a/1");
    for (name, directory) in [("a/1", false), ("b/c", true)] {
        let live = bench.tree.path.join(name);
        fs::set_permissions(&live, fs::Permissions::from_mode(if directory { 0o755 } else { 0o640 }))
            .unwrap();
        if directory {
            filetime::set_file_mtime(&live, filetime::FileTime::from_unix_time(1, 0)).unwrap();
        }
    }
    let before = bench.outside();
    let plan = bench.plan(&bench.context).unwrap();
    plan.stage(&bench.context).unwrap();
    fs::rename(&file, bench.path("aside")).unwrap();
    symlink(bench.path("outside/a/1"), &file).unwrap();
    let error = plan.execute(&bench.context).unwrap_err().to_string();
    assert!(error.contains("a/1 was changed by somebody else since the restore was planned"), "{error}");
    assert_eq!(bench.outside(), before);
    // Another file in its place gets nothing either.
    fs::remove_file(&file).unwrap();
    fs::write(&file, "another").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(plan.execute(&bench.context).is_err());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o604);
    fs::rename(bench.path("aside"), &file).unwrap();
    plan.execute(&bench.context).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
}

/// Whoever had the live file open could write into it after it was compared.
#[test]
fn a_file_that_gives_rights_is_made_anew_and_not_given_them() {
    let bench = Live::with_outside();
    let file = bench.tree.path.join("a/1");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    bench.keep("day", None).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let old = fs::File::options().append(true).open(&file).unwrap();
    let plan = bench.plan(&bench.context).unwrap();
    assert_eq!((plan.summary().totals.attributes, plan.summary().totals.replace), (0, 1));
    plan.stage(&bench.context).unwrap();
    plan.execute(&bench.context).unwrap();
    let now = fs::metadata(&file).unwrap();
    assert_eq!(now.mode() & 0o7777, 0o4755);
    assert_ne!(now.ino(), old.metadata().unwrap().ino(), "what was open before is another file");
    assert_eq!(old.metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn the_directory_for_what_is_staged_must_be_ours() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let bench = Live::with_outside();
    bench.keep("day", None).unwrap();
    fs::remove_file(bench.tree.path.join("a/1")).unwrap();
    let plan = bench.plan(&bench.context).unwrap();
    let aside = bench.path(".daykeep-restore-1-files");
    fs::create_dir(&aside).unwrap();
    lchown(&aside, Some(4711), None).unwrap();
    let error = plan.stage(&bench.context).unwrap_err().to_string();
    assert!(error.ends_with(".daykeep-restore-1-files was made by somebody else, who could change what is put there: remove it"), "{error}");
    fs::remove_dir(&aside).unwrap();
    symlink(bench.path("outside"), &aside).unwrap();
    let before = bench.outside();
    assert!(plan.stage(&bench.context).is_err());
    assert_eq!(bench.outside(), before);
}

/// The application's user owns the directory that the root is in, and puts a link there.
#[test]
fn a_root_that_somebody_else_has_made_a_link_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut bench = Live::with_outside();
    bench.keep("day", None).unwrap();
    let root = bench.path("root");
    symlink("outside", &root).unwrap();
    lchown(&root, Some(4711), None).unwrap();
    bench.tree.path = root.clone();
    let before = bench.outside();
    let error = bench.keep("stolen", None).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    let told = format!("{error}: {cause}");
    assert!(told.contains("a symbolic link of uid 4711 leads to a directory of uid 0"), "{told}");
    assert_eq!(grep(&bench.path("stolen")), "");
    assert!(bench.plan(&bench.context).is_err());
    assert_eq!(bench.outside(), before);
    // Root's own link is the admin's word.
    lchown(&root, Some(0), None).unwrap();
    bench.keep("wanted", None).unwrap();
}
