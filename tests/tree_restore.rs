//! Trees put back for real: onto nothing, onto what is there, and back again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    missing_docs,
    reason = "a test fails by panicking, and makes the files that it tests with"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use daykeep::config::Filter;
use daykeep::manifest::{FileRecord, RecordWriter};
use daykeep::tree::restore::{Built, Elsewhere, Error, Plan, RootIs, Source, Wish, compare, elsewhere, plan};

mod support;

use support::live::{Live, differences, is_root, run, sh};
use support::programs::example;

/// The live tree, and the day of it.
impl Live {
    fn live(&self) -> &Path {
        &self.tree.path
    }

    fn sh(&self, script: &str) {
        sh(self.live(), script);
    }

    fn source(&self) -> Source {
        self.day("day")
    }

    fn keep_day(&self) {
        self.keep("day", None).unwrap();
    }

    /// Writes other records than those of the day.
    fn tamper(&self, change: impl FnOnce(&mut Vec<FileRecord>)) {
        let mut records = self.records("day");
        change(&mut records);
        let mut writer = RecordWriter::create(&self.source().records).unwrap();
        for record in &records {
            writer.write(record).unwrap();
        }
        writer.finish().unwrap();
    }

    fn elsewhere(&self, target: &str, path: Option<&str>) -> Result<Built, Error> {
        let wish = Elsewhere {
            source: self.source(),
            path: path.map(|path| path.as_bytes().to_vec()),
            target: self.path(target),
            jobs: 2,
            durable: true,
            expected: None,
        };
        elsewhere(&wish, &self.context)
    }
}

/// A restore of the day.
impl Live {
    fn wish(&self) -> Wish {
        Wish {
            source: self.source(),
            tree: self.tree.clone(),
            path: None,
            directory: self.path("state/restore/files"),
            tag: "7".into(),
            jobs: 2,
        }
    }

    fn plan(&self) -> Plan {
        plan(&self.wish(), &self.context).unwrap()
    }

    /// Nothing differs from the day, by daykeep's eyes and by rsync's.
    fn assert_is_the_day(&self) {
        let found = compare(&self.source(), &self.tree, 2, &self.context).unwrap();
        assert_eq!(found.first, [], "{} differences", found.total);
        assert_eq!(differences(&self.source().tree_dir, self.live()), "");
    }

    fn assert_nothing_is_left(&self) {
        let left = run("find", &[self.dir.path().as_os_str().as_bytes(), b"-name", b".daykeep-restore*"]);
        assert_eq!(left, "");
        assert!(!self.path("state/restore/files/summary.json").exists(), "there is no plan any more");
    }
}

/// Everything there is to see of a tree, by path: kind, mode, owner, times, inode, links, content or target, extended attributes.
type Snapshot = BTreeMap<PathBuf, String>;

fn snapshot(root: &Path) -> Snapshot {
    let mut all = Snapshot::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if path.file_name().unwrap().as_bytes().starts_with(b".daykeep-restore-") {
            continue;
        }
        let kind = meta.file_type();
        let content = if kind.is_file() {
            blake3::hash(&fs::read(&path).unwrap()).to_hex().to_string()
        } else if kind.is_symlink() {
            String::from_utf8_lossy(fs::read_link(&path).unwrap().as_os_str().as_bytes()).into_owned()
        } else {
            String::new()
        };
        let xattrs: BTreeMap<_, _> = xattr::list(&path)
            .unwrap()
            .map(|key| (key.clone(), xattr::get(&path, &key).unwrap().unwrap()))
            .collect();
        if kind.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let links = if kind.is_dir() { 0 } else { meta.nlink() };
        let what = format!(
            "{kind:?} {:o} {}:{} {}.{} inode {} links {links} device {} {} {content} {xattrs:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ino(),
            meta.rdev(),
            meta.len(),
        );
        all.insert(path.strip_prefix(root).unwrap().to_owned(), what);
    }
    all
}

fn assert_same(before: &Snapshot, after: &Snapshot, when: &str) {
    for (path, what) in before {
        assert_eq!(after.get(path), Some(what), "{when}: {}", path.display());
    }
    for path in after.keys() {
        assert!(before.contains_key(path), "{when}: {} is new", path.display());
    }
}

/// A stream of numbers that look random, from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_of<'a>(&mut self, paths: &'a [PathBuf]) -> Option<&'a PathBuf> {
        if paths.is_empty() { None } else { paths.get(self.roll(paths.len() as u64) as usize) }
    }
}

/// Does so many things to a tree, each of which may fail.
fn stir(root: &Path, dice: &mut Dice, times: u64) {
    for _ in 0..times {
        let all: Vec<PathBuf> = snapshot(root).into_keys().map(|path| root.join(path)).collect();
        let directories: Vec<PathBuf> =
            all.iter().filter(|path| path.is_dir() && !path.is_symlink()).cloned().collect();
        let name = ["a", "b", "c", "d", "caf\u{e9}", "x.y"][dice.roll(6) as usize];
        let new = dice.one_of(&directories).unwrap().join(name);
        let old = dice.one_of(&all).unwrap().clone();
        let _ = match dice.roll(16) {
            // Never through a link, and not into a pipe, which would wait for a reader.
            0..=2 if fs::symlink_metadata(&new).map_or(true, |meta| meta.is_file()) => {
                fs::write(&new, format!("{}", dice.roll(3)).repeat(dice.roll(5) as usize))
            }
            3 | 4 => fs::create_dir(&new),
            5 => std::os::unix::fs::symlink(["a", "/etc", "../b"][dice.roll(3) as usize], &new),
            6 | 7 => fs::hard_link(&old, &new),
            8 if old != root => fs::rename(&old, &new),
            9 if old != root => fs::remove_file(&old).or_else(|_| fs::remove_dir_all(&old)),
            10 if !old.is_symlink() => {
                let mode = [0o644, 0o600, 0o755, 0o750, 0o4755, 0o2770][dice.roll(6) as usize];
                fs::set_permissions(&old, PermissionsExt::from_mode(mode))
            }
            11 => {
                let time = filetime::FileTime::from_unix_time(dice.roll(4) as i64 * 100_000_000, 5);
                filetime::set_symlink_file_times(&old, time, time)
            }
            12 if !old.is_symlink() => xattr::set(&old, "user.t", format!("{}", dice.roll(2)).as_bytes()),
            13 if !old.is_symlink() => xattr::remove(&old, "user.t"),
            14 if is_root() => std::os::unix::fs::lchown(&old, Some(dice.roll(3) as u32), Some(7)),
            15 => {
                let made = Command::new("mkfifo").arg(&new).stderr(std::process::Stdio::null()).status();
                made.map(drop)
            }
            _ => Ok(()),
        };
    }
}

/// Everything that a tree can hold.
const ALL_KINDS: &str = r#"
    mkdir -p a/b/c empty deep/$(printf 'd/%.0s' {1..60})
    printf hello > a/file; printf x > a/b/c/x; : > a/nothing
    printf same > a/one; ln a/one a/b/two; ln a/one three
    ln -s ../a/file a/b/link; ln -s /nowhere dangling; ln -s . a/self
    mkfifo a/pipe
    printf deep > deep/$(printf 'd/%.0s' {1..60})file
    printf n > "$(printf 'n%.0s' {1..255})"
    printf u > "$(printf 'caf\xe9')"; printf l > "$(printf 'new\nline')"
    truncate -s 3M sparse; printf end >> sparse; truncate -s 9M hole; printf begin | dd of=hole conv=notrunc status=none
    setfattr -n user.colour -v blue a/file; setfattr -n user.colour -v green a
    setfacl -m u:65534:r a/file; setfacl -d -m u:65534:rx a/b
    chmod 4755 a/file; chmod 2770 a/b; chmod 1777 empty; chmod 0 a/nothing; chmod 0500 a/b/c
    touch -d '1999-12-31 23:59:59.123456789' a/file a dangling -h
    touch -d '1960-01-01' a/b/c/x
    if [ $(id -u) = 0 ]; then chown 1234:5678 a/file a/b; chown -h 77:88 dangling; mknod a/null c 1 3; fi
"#;

#[test]
fn a_tree_is_put_where_nothing_is() {
    let bench = Live::new("live");
    bench.sh(ALL_KINDS);
    bench.sh("mkdir .daykeep-restore-7 a/.daykeep-restore-8");
    bench.keep_day();
    bench.sh("rmdir .daykeep-restore-7 a/.daykeep-restore-8");
    sh(bench.dir.path(), "touch -r day/trees/files live; touch -r day/trees/files/a live/a");
    let built = bench.elsewhere("new/place", None).unwrap();
    assert_eq!(differences(bench.live(), &bench.path("new/place")), "");
    let listed = run("find", &[bench.path("new/place").as_os_str().as_bytes(), b"-printf", b"x"]).len();
    assert_eq!(built.entries, listed as u64);
    let blocks =
        |path: &str| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(bench.path(path)).unwrap());
    assert!(blocks("new/place/sparse") <= blocks("live/sparse"), "holes stay holes");
    assert!(blocks("new/place/hole") <= blocks("live/hole"), "holes stay holes");
    assert!(bench.notices().is_empty() || !is_root(), "{}", bench.notices());
    let error = bench.elsewhere("new/place", None).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    assert_eq!(fs::read_dir(bench.path("new")).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn one_path_is_put_elsewhere_with_the_directories_above_it() {
    let bench = Live::new("live");
    bench.sh(ALL_KINDS);
    bench.keep_day();
    fs::create_dir(bench.path("one")).unwrap();
    bench.elsewhere("one", Some("a/b/c")).unwrap();
    let found = run("find", &[bench.path("one").as_os_str().as_bytes(), b"-printf", b"%P\n"]);
    assert_eq!(found.lines().collect::<Vec<_>>(), ["", "a", "a/b", "a/b/c", "a/b/c/x"]);
    let error = bench.elsewhere("two", Some("a/b/d")).unwrap_err();
    assert_eq!(error.to_string(), "the tree files of this day has no a/b/d");
}

#[test]
fn a_damaged_day_is_told_and_gets_no_place() {
    for damage in
        ["printf jello > a/file", "rm a/file", "rm -r a && ln -s /etc a", "rm a/b/c/x && mkfifo a/b/c/x"]
    {
        let bench = Live::new("live");
        bench.sh(ALL_KINDS);
        bench.keep_day();
        sh(&bench.source().tree_dir, damage);
        let error = bench.elsewhere("place", None).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{damage}: {error}");
        assert!(!bench.path("place").exists());
    }
}

#[test]
fn records_that_lead_out_of_the_tree_are_refused() {
    use daykeep::manifest::{FileKind, PathBytes};
    type Change = fn(&mut Vec<FileRecord>);
    let changes: [(Change, &str); 7] = [
        (|all| all[1].path = PathBytes(b"../evil".to_vec()), "no record before it makes the directory"),
        (|all| all[1].path = PathBytes(b"..".to_vec()), "that is no name of a file"),
        (|all| all[1].path = PathBytes(b"/etc/evil".to_vec()), "no record before it makes the directory"),
        (|all| all[1].kind = FileKind::Symlink, "a symbolic link has a target"),
        (
            |all| {
                all[1].kind = FileKind::Symlink;
                all[1].target = Some(PathBytes(b"/etc".to_vec()));
            },
            "no record before it makes the directory",
        ),
        (|all| all.swap(1, 2), "no record before it makes the directory"),
        (|all| drop(all.remove(0)), "no record before it makes the directory"),
    ];
    let bench = Live::new("live");
    bench.sh("mkdir a; echo 1 > a/x; echo 2 > a/y");
    bench.keep_day();
    let records = bench.records("day");
    for (number, (change, problem)) in changes.into_iter().enumerate() {
        bench.tamper(|all| {
            *all = records.clone();
            change(all);
        });
        let error = bench.elsewhere("place", None).unwrap_err();
        assert!(error.to_string().contains(problem), "{number}: {error}");
        assert!(!bench.path("place").exists() && !bench.path("evil").exists());
    }
}

#[test]
fn whatever_the_tree_has_become_it_is_the_day_again_and_then_what_it_was() {
    let seed = std::env::var("DAYKEEP_TREE_SEED").map_or(1, |text| text.parse().unwrap());
    for round in 0..40 {
        let seed = seed * 1000 + round;
        let mut dice = Dice(seed);
        let bench = Live::new("live");
        stir(bench.live(), &mut dice, 40);
        bench.keep_day();
        let changes = dice.roll(40);
        stir(bench.live(), &mut dice, changes);
        let before = snapshot(bench.live());
        let when = |what: &str| format!("{what}, DAYKEEP_TREE_SEED={seed}");
        let plan = bench.plan();
        assert_same(&before, &snapshot(bench.live()), &when("planned"));
        plan.stage(&bench.context).unwrap();
        plan.execute(&bench.context).unwrap();
        bench.assert_is_the_day();
        plan.execute(&bench.context).unwrap();
        plan.back(&bench.context).unwrap();
        if round % 2 == 0 {
            plan.discard(&bench.context).unwrap();
            assert_same(&before, &snapshot(bench.live()), &when("taken back"));
        } else {
            plan.execute(&bench.context).unwrap();
            bench.assert_is_the_day();
            plan.drop_aside(&bench.context).unwrap();
            bench.assert_is_the_day();
        }
        bench.assert_nothing_is_left();
    }
}

// --- killed ---------------------------------------------------------------------------------------------------------------

impl Live {
    fn driver(&self, verb: &str) -> Command {
        let mut driver = Command::new(example("tree_restore_driver"));
        driver.arg(self.dir.path()).arg(verb);
        driver
    }

    fn drive(&self, verb: &str) {
        let output = self.driver(verb).output().unwrap();
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The driver under strace, which kills it before the call with this number.
    fn drive_until(&self, verb: &str, call: &str, number: u64) -> bool {
        let driver = self.driver(verb);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", &format!("--trace={call}")]);
        strace.arg(format!("--inject={call}:signal=SIGKILL:when={number}"));
        let status = strace.arg(driver.get_program()).args(driver.get_args()).status().unwrap();
        assert!(status.success() || status.signal() == Some(9), "{verb}: {status}");
        status.signal() == Some(9)
    }

    /// What a killed restore left is finished, forward or back; forward it is taken back after that.
    fn settle(&self, forward: bool, before: &Snapshot, when: &str) {
        if forward {
            self.drive("forward");
            self.assert_is_the_day();
        }
        self.drive("back");
        assert_same(before, &snapshot(self.live()), when);
        self.assert_nothing_is_left();
    }
}

/// A day, and a tree that differs from it in every way.
fn stirred(seed: u64) -> (Live, Dice) {
    let mut dice = Dice(seed);
    let bench = Live::new("live");
    bench.sh(ALL_KINDS);
    stir(bench.live(), &mut dice, 60);
    bench.sh("mkdir -p many; for i in {1..70}; do echo $i > many/$i; done; mkdir -p sub/sub; echo 1 > sub/sub/1; echo 2 > sub/2");
    bench.keep_day();
    stir(bench.live(), &mut dice, 40);
    bench.sh("rm -rf sub; for i in {1..20}; do echo new > many/$i; done; rm many/5*; mkdir more; touch more/{1..9}");
    (bench, dice)
}

#[test]
fn killed_before_every_rename_and_link_it_goes_forward_and_back() {
    let (bench, _) = stirred(11);
    let before = snapshot(bench.live());
    let mut kills = 0;
    for call in ["renameat2", "rename", "renameat", "linkat", "syncfs", "fsync"] {
        for number in 1.. {
            // Renames in the middle are all alike.
            if call == "renameat2" && number > 12 && number % 9 != 0 {
                continue;
            }
            if !bench.drive_until("forward", call, number) {
                bench.settle(true, &before, "not killed");
                break;
            }
            kills += 1;
            let when = format!("killed before {call} {number}");
            // The way back is killed too, somewhere else.
            bench.drive_until("back", call, number / 2 + 1);
            bench.settle(number % 2 == 0, &before, &when);
        }
    }
    assert!(kills > 25, "only {kills} kills");
}

#[test]
fn killed_at_100_random_moments_it_goes_forward_and_back() {
    let seed = std::env::var("DAYKEEP_TREE_SEED").map_or(21, |text| text.parse().unwrap());
    let (bench, mut dice) = stirred(seed);
    let before = snapshot(bench.live());
    // Built when it is asked for first.
    bench.driver("none");
    let begun = std::time::Instant::now();
    bench.drive("forward");
    let mut whole = u64::try_from(begun.elapsed().as_micros()).unwrap();
    bench.settle(false, &before, "not killed");
    let (mut killed, mut number) = (0, 0);
    while killed < 100 || number % 4 != 0 {
        let verbs: &[&str] = if number % 3 == 0 { &["forward", "back"] } else { &["forward", "forward"] };
        for verb in verbs {
            let mut run = bench.driver(verb).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_micros(dice.roll(whole * 3 / 4)));
            let _ = run.kill();
            let hit = run.wait().unwrap().signal() == Some(9);
            killed += u64::from(hit);
            // The first run tells how long one takes only roughly, and a run that goes on may have little left to do.
            whole = if hit { whole + whole / 32 } else { whole * 7 / 8 };
        }
        if number % 4 == 3 {
            let forward = dice.roll(2) == 0;
            bench.settle(forward, &before, &format!("kill {number}, DAYKEEP_TREE_SEED={seed}"));
        }
        number += 1;
        assert!(number < 300, "only {killed} kills");
    }
    bench.drive("forward");
    bench.drive("confirm");
    bench.assert_is_the_day();
    bench.assert_nothing_is_left();
}

// --- what stays, and what is refused --------------------------------------------------------------------------------------

#[test]
fn excluded_names_stay_whatever_the_day_has() {
    let mut bench = Live::new("live");
    bench.sh("mkdir -p keep a; echo 1 > a/f; echo 1 > a/x.log; echo 2 > keep/me");
    bench.keep_day();
    let rule = |pattern: &str| Filter { include: false, pattern: pattern.to_owned() };
    bench.tree.filters = vec![rule("*.log"), rule("/cache/")];
    bench.sh("rm -r keep a/f; echo mine > a/x.log; mkdir -p cache new/deep; echo c > cache/c; echo l > new/deep/y.log; echo z > new/z");
    let before = snapshot(bench.live());
    let plan = bench.plan();
    let totals = plan.summary().totals;
    assert_eq!((totals.create, totals.create_directories, totals.remove, totals.stay), (2, 1, 1, 3));
    plan.stage(&bench.context).unwrap();
    plan.execute(&bench.context).unwrap();
    let found = run("find", &[bench.live().as_os_str().as_bytes(), b"-printf", b"%P "]);
    let mut found: Vec<_> = found.split_whitespace().collect();
    found.sort_unstable();
    let expected = "a a/f a/x.log cache cache/c keep keep/me new new/deep new/deep/y.log";
    assert_eq!(found, expected.split(' ').collect::<Vec<_>>());
    assert_eq!(fs::read_to_string(bench.live().join("a/x.log")).unwrap(), "mine\n");
    let left = compare(&bench.source(), &bench.tree, 2, &bench.context).unwrap();
    assert_eq!(left.first, [], "what stays is passed by");
    plan.back(&bench.context).unwrap();
    plan.discard(&bench.context).unwrap();
    assert_same(&before, &snapshot(bench.live()), "taken back");
}

#[test]
fn one_path_is_restored_and_nothing_beside_it() {
    for (path, expected) in [
        ("a/b", "a a/b a/b/1 a/b/2 a/new"),
        ("a/b/1", "a a/b a/b/1 a/b/new a/new"),
        ("c/d/e", "a a/b a/b/new a/new c c/d c/d/e"),
    ] {
        let bench = Live::new("live");
        bench.sh("mkdir -p a/b c/d; echo 1 > a/b/1; echo 2 > a/b/2; echo 3 > c/d/e; echo 4 > c/f; touch -d 2001-01-01 a c c/d");
        bench.keep_day();
        bench.sh("rm -r a/b/[12] c; echo x > a/b/new; echo x > a/new");
        let before = snapshot(bench.live());
        let wish = Wish { path: Some(path.as_bytes().to_vec()), ..bench.wish() };
        let restore = plan(&wish, &bench.context).unwrap();
        restore.stage(&bench.context).unwrap();
        restore.execute(&bench.context).unwrap();
        let after = snapshot(bench.live());
        let names: Vec<_> =
            after.keys().map(|path| path.to_str().unwrap()).filter(|path| !path.is_empty()).collect();
        assert_eq!(names.join(" "), expected, "{path}");
        let day = snapshot(&bench.source().tree_dir);
        let without_inode = |text: &str| text.split(" inode ").next().unwrap().to_owned();
        assert_eq!(without_inode(&after[Path::new(path)]), without_inode(&day[Path::new(path)]));
        if path != "c/d/e" {
            assert_eq!(after[Path::new("a")], before[Path::new("a")], "what leads there keeps its times");
        }
        restore.back(&bench.context).unwrap();
        restore.discard(&bench.context).unwrap();
        assert_same(&before, &snapshot(bench.live()), path);
    }
    let bench = Live::new("live");
    bench.sh("mkdir a; echo 1 > a/1");
    bench.keep_day();
    let wish = |path: &str| Wish { path: Some(path.as_bytes().to_vec()), ..bench.wish() };
    assert!(matches!(plan(&wish("a/2"), &bench.context), Err(Error::NotInDay { .. })));
    bench.sh("rm -r a; ln -s /etc a");
    let error = plan(&wish("a/1"), &bench.context).unwrap_err().to_string();
    assert!(
        error.ends_with("live/a is no directory: move it away, or restore the directory that it is in"),
        "{error}"
    );
}

#[test]
fn a_missing_root_comes_back_with_the_directories_above_it() {
    let mut bench = Live::new("live");
    bench.sh(ALL_KINDS);
    bench.keep_day();
    bench.tree.path = bench.path("far/away/root");
    let restore = bench.plan();
    assert_eq!(restore.summary().checks.root, RootIs::Missing);
    assert!(restore.summary().checks.problems.is_empty());
    assert!(!bench.path("far").exists(), "a plan changes nothing");
    restore.stage(&bench.context).unwrap();
    assert!(!bench.live().exists());
    restore.execute(&bench.context).unwrap();
    bench.assert_is_the_day();
    restore.back(&bench.context).unwrap();
    restore.discard(&bench.context).unwrap();
    assert!(!bench.path("far").exists());
    let restore = bench.plan();
    restore.stage(&bench.context).unwrap();
    restore.execute(&bench.context).unwrap();
    restore.drop_aside(&bench.context).unwrap();
    bench.assert_is_the_day();
    bench.assert_nothing_is_left();
}

#[test]
fn a_damaged_day_is_found_before_anything_is_changed() {
    let bench = Live::new("live");
    bench.sh("echo one > a; echo two > b");
    bench.keep_day();
    bench.sh("echo 1 > a; rm b; echo new > c");
    sh(&bench.source().tree_dir, "echo tvo > b");
    let before = snapshot(bench.live());
    let restore = bench.plan();
    let error = restore.stage(&bench.context).unwrap_err().to_string();
    assert!(
        error.contains("day/trees/files/b in the day is damaged: its content is not what was recorded"),
        "{error}"
    );
    let error = restore.execute(&bench.context).unwrap_err().to_string();
    assert!(error.ends_with("live is planned and cannot be switched now"), "{error}");
    restore.discard(&bench.context).unwrap();
    assert_same(&before, &snapshot(bench.live()), "discarded");
    bench.assert_nothing_is_left();
}

#[test]
fn somebody_elses_changes_are_told_and_never_lost() {
    let bench = Live::new("live");
    bench.sh("echo one > a; echo two > b; echo three > c");
    bench.keep_day();
    bench.sh("echo 1 > a; rm b; echo more > d");
    let before = snapshot(bench.live());
    let restore = bench.plan();
    restore.stage(&bench.context).unwrap();
    bench.sh("echo somebody > b");
    let error = restore.execute(&bench.context).unwrap_err().to_string();
    assert!(error.contains("live/b was changed by somebody else since the restore was planned"), "{error}");
    assert!(matches!(plan(&bench.wish(), &bench.context), Err(Error::Unfinished { .. })));
    bench.sh("rm b");
    restore.execute(&bench.context).unwrap();
    // The repository went on before it was taken back.
    bench.sh("echo other > x; mv x a; echo written >> b; echo again > d");
    let error = Plan::open(&bench.wish().directory, 1).unwrap().unwrap().discard(&bench.context).unwrap_err();
    assert!(error.to_string().ends_with("live is switched and cannot be discarded now"), "{error}");
    restore.back(&bench.context).unwrap();
    restore.discard(&bench.context).unwrap();
    assert_same(&before, &snapshot(bench.live()), "taken back");
}

#[test]
fn a_directory_that_another_restore_keeps_things_in_is_no_part_of_a_tree() {
    let bench = Live::new("live");
    bench.sh("mkdir a; echo 1 > a/1");
    bench.keep_day();
    bench.sh("mkdir -p a/.daykeep-restore-9-inner/0; echo x > a/.daykeep-restore-9-inner/0/0; echo 2 > a/1");
    let restore = bench.plan();
    restore.stage(&bench.context).unwrap();
    restore.execute(&bench.context).unwrap();
    assert!(bench.live().join("a/.daykeep-restore-9-inner/0/0").exists());
    assert_eq!(compare(&bench.source(), &bench.tree, 1, &bench.context).unwrap().total, 0);
}

// --- file systems ---------------------------------------------------------------------------------------------------------

/// A file system mounted for a test, unmounted at its end.
struct Mounted(PathBuf);

impl Mounted {
    /// None: this process may not mount.
    fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        let mounted = is_root()
            && mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status().unwrap().success();
        if !mounted {
            eprintln!("SKIPPED: file systems can only be mounted by root");
        }
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Mounted {
    /// A file system of its own in a file. None: this process may not, or has no such thing.
    fn image(kind: &str, image: &Path, at: &Path) -> Option<Self> {
        fs::File::create(image).unwrap().set_len(400 << 20).unwrap();
        fs::create_dir(at).unwrap();
        let quiet = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).arg(image);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            command
        };
        let made = quiet(&format!("mkfs.{kind}"), &["-q"]).status().is_ok_and(|status| status.success());
        let mounted = made && quiet("mount", &["-o", "loop"]).arg(at).status().unwrap().success();
        if !mounted {
            eprintln!("SKIPPED: no {kind} can be made and mounted here");
        }
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_root_that_is_a_mount_point_is_restored_from_within() {
    let bench = Live::new("live");
    let Some(_mounted) = Mounted::tmpfs(bench.live(), "size=32m,mode=0755") else { return };
    bench.sh("mkdir -p a/b; echo 1 > a/b/1; echo 2 > a/2; mkfifo p; ln a/2 two; touch -d 2001-02-03 a . ");
    bench.keep_day();
    bench.sh("rm -r a/b; echo 3 > a/2; mkdir -p new/x; echo 4 > new/x/4; touch -d 2002-02-02 .");
    let before = snapshot(bench.live());
    let restore = bench.plan();
    let summary = restore.summary();
    assert!(summary.inside && summary.checks.mount_point, "{summary:?}");
    restore.stage(&bench.context).unwrap();
    restore.execute(&bench.context).unwrap();
    assert_eq!(compare(&bench.source(), &bench.tree, 2, &bench.context).unwrap().first, []);
    restore.back(&bench.context).unwrap();
    restore.discard(&bench.context).unwrap();
    assert_same(&before, &snapshot(bench.live()), "taken back");
    let restore = bench.plan();
    restore.stage(&bench.context).unwrap();
    restore.execute(&bench.context).unwrap();
    restore.drop_aside(&bench.context).unwrap();
    bench.assert_is_the_day();
    bench.assert_nothing_is_left();
    // Empty, as after the disk was replaced.
    bench.sh("rm -rf -- * ; chmod 700 .");
    let restore = bench.plan();
    assert_eq!(restore.summary().checks.root, RootIs::Empty);
    restore.stage(&bench.context).unwrap();
    restore.execute(&bench.context).unwrap();
    restore.drop_aside(&bench.context).unwrap();
    bench.assert_is_the_day();
}

#[test]
fn what_is_mounted_in_the_tree_stays() {
    let bench = Live::new("live");
    bench.sh("mkdir -p m gone/m2; echo 1 > a");
    bench.keep_day();
    bench.sh("echo 2 > a; mkdir -p extra/m3");
    let Some(_one) = Mounted::tmpfs(&bench.live().join("m"), "size=1m") else { return };
    let Some(_two) = Mounted::tmpfs(&bench.live().join("extra/m3"), "size=1m") else { return };
    bench.sh("echo in > m/in; echo in > extra/m3/in; echo x > extra/x");
    let restore = bench.plan();
    let mounts = &restore.summary().checks.mounts;
    assert_eq!(mounts, &[bench.live().join("extra/m3"), bench.live().join("m")]);
    restore.stage(&bench.context).unwrap();
    restore.execute(&bench.context).unwrap();
    restore.drop_aside(&bench.context).unwrap();
    bench.sh("test $(cat m/in extra/m3/in a | tr -d '\\n') = inin1; test ! -e extra/x");
}

#[test]
fn a_full_disk_while_staging_leaves_the_tree_as_it_is() {
    let mut bench = Live::new("live");
    bench.sh("head -c 3000000 /dev/urandom > big; echo 1 > a");
    bench.keep_day();
    let place = bench.path("small");
    fs::create_dir(&place).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&place, "size=2m") else { return };
    bench.tree.path = place.join("root");
    fs::create_dir(bench.live()).unwrap();
    bench.sh("echo 2 > a; echo x > x");
    let before = snapshot(bench.live());
    let restore = bench.plan();
    let problems = &restore.summary().checks.problems;
    assert!(problems.iter().any(|text| text.contains("bytes are to be staged beside")), "{problems:?}");
    let error = restore.stage(&bench.context).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot write {}", place.display())), "{error}");
    assert_same(&before, &snapshot(bench.live()), "not staged");
    restore.discard(&bench.context).unwrap();
    assert_same(&before, &snapshot(bench.live()), "discarded");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
}

#[test]
fn what_is_immutable_is_told_before_anything_is_changed() {
    let bench = Live::new("live");
    bench.sh("echo 1 > a; echo 1 > b");
    bench.keep_day();
    bench.sh("echo 2 > a");
    let chattr =
        |flag: &str| Command::new("chattr").arg(flag).arg(bench.live().join("a")).status().unwrap().success();
    if !is_root() || !chattr("+i") {
        eprintln!("SKIPPED: chattr +i is for root, on a file system that has it");
        return;
    }
    let restore = bench.plan();
    let problems = restore.summary().checks.problems.join("\n");
    let staged = restore.stage(&bench.context);
    let switched = restore.execute(&bench.context);
    let back = restore.back(&bench.context);
    chattr("-i");
    assert!(problems.contains("live/a is immutable or append-only: `chattr -ia"), "{problems}");
    staged.unwrap();
    let error = switched.unwrap_err();
    assert!(error.to_string().ends_with("live/a"), "{error}");
    back.unwrap();
    restore.discard(&bench.context).unwrap();
    assert_eq!(fs::read_to_string(bench.live().join("a")).unwrap(), "2\n");
}

#[test]
fn directories_that_are_moved_keep_their_times_on_other_file_systems() {
    for kind in ["xfs", "btrfs"] {
        let mut bench = Live::new("live");
        let (image, place) = (bench.path("image"), bench.path("place"));
        let Some(_mounted) = Mounted::image(kind, &image, &place) else { continue };
        bench.tree.path = place.join("live");
        fs::create_dir(bench.live()).unwrap();
        bench.sh("mkdir -p a/b c/d/e; for i in {1..50}; do echo $i > a/$i; done; touch -d 2001-01-01 a a/b c c/d; head -c 300000 /dev/urandom > big");
        bench.keep_day();
        bench.sh("rm -r a/b c; echo f > a/b; mkdir -p a/new/x; echo 1 > c; truncate -s 9 big; mkdir -p old/er; touch -d 2003-03-03 old");
        let before = snapshot(bench.live());
        let restore = bench.plan();
        restore.stage(&bench.context).unwrap();
        restore.execute(&bench.context).unwrap();
        bench.assert_is_the_day();
        restore.back(&bench.context).unwrap();
        restore.discard(&bench.context).unwrap();
        assert_same(&before, &snapshot(bench.live()), kind);
    }
}

#[test]
fn who_is_not_root_restores_directories_that_are_closed() {
    let bench = Live::new("live");
    bench.sh("mkdir -p ro/sub gone wx; echo 1 > ro/1; echo 2 > ro/sub/2; echo g > gone/g; echo 3 > wx/3; chmod 555 ro ro/sub gone");
    bench.keep_day();
    bench.sh("chmod u+w ro gone; echo x > ro/x; rm -r ro/1 gone; chmod 555 ro; echo 9 > wx/3; mkdir -p ext/y; chmod 555 ext");
    let driver = bench.driver("forward");
    let as_nobody = |verb: &str| {
        if !is_root() {
            return bench.drive(verb);
        }
        let copy = bench.path("driver");
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
        let output = command.arg(bench.dir.path()).arg(verb).output().unwrap();
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
    };
    if is_root() {
        fs::copy(driver.get_program(), bench.path("driver")).unwrap();
        bench.sh("chown -R 65534:65534 ..");
        // The day has the owner that it was kept with.
        bench.tamper(|all| all.iter_mut().for_each(|record| (record.uid, record.gid) = (65534, 65534)));
        bench.sh("chown -R 65534:65534 ..");
    }
    let before = snapshot(bench.live());
    as_nobody("forward");
    bench.assert_is_the_day();
    as_nobody("back");
    assert_same(&before, &snapshot(bench.live()), "taken back");
    as_nobody("forward");
    as_nobody("confirm");
    bench.assert_is_the_day();
}
