//! Trees copied for real: files, links, owners, ACLs and devices, with rsync as the judge of equality.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::needless_for_each,
    clippy::print_stderr,
    clippy::too_many_lines,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "a test fails by panicking, and makes the files that it tests with"
)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use daykeep::config::Filter;
use daykeep::event::Context;
use daykeep::manifest::{FileKind, FileRecord, RecordWriter, TreeRecord};
use daykeep::tree::{DayTree, Error, Job, Warm, warm};

mod support;

use support::context::Witness;
use support::live::{Live, differences, is_root, run, sh};

/// A source and the days kept of it, one after the other.
struct Bench {
    live: Live,
    days: u32,
    new_base: bool,
}

impl Deref for Bench {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.live
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut Live {
        &mut self.live
    }
}

fn name_of(day: u32) -> String {
    format!("day{day}")
}

impl Bench {
    fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    fn below(place: &Path) -> Self {
        Self { live: Live::below(place, "source"), days: 0, new_base: false }
    }

    fn source(&self, path: impl AsRef<Path>) -> PathBuf {
        self.tree.path.join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.source(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn day(&self, day: u32) -> PathBuf {
        self.path(&name_of(day))
    }

    fn tree_of(&self, day: u32) -> PathBuf {
        self.day(day).join("trees/files")
    }

    fn job(&self) -> Job {
        let previous = (self.days > 0).then(|| name_of(self.days));
        let job = self.live.job(&name_of(self.days + 1), previous.as_deref());
        Job { new_base: self.new_base, ..job }
    }

    fn warm(&self) -> Warm {
        warm(&self.job(), &self.context).unwrap()
    }

    fn seal(&mut self, warm: Warm) -> TreeRecord {
        self.days += 1;
        let record = self.fill(&name_of(self.days), warm).unwrap();
        assert_eq!(
            fs::read_dir(self.day(self.days).join("trees")).unwrap().count(),
            1,
            "nothing is left over"
        );
        record
    }

    fn take(&mut self) -> TreeRecord {
        let warm = self.warm();
        let record = self.seal(warm);
        self.assert_equal();
        record
    }

    /// rsync finds nothing to do between source and day, and the records are true.
    fn assert_equal(&self) {
        assert_eq!(differences(&self.tree.path, &self.tree_of(self.days)), "");
        self.assert_records();
    }

    fn records(&self, day: u32) -> Vec<FileRecord> {
        self.live.records(&name_of(day))
    }

    /// Every record says what is in the day, and everything in the day has its record.
    fn assert_records(&self) {
        let records = self.records(self.days);
        assert!(records.is_sorted_by(|a, b| daykeep::manifest::walk_order(a, b).is_lt()), "walk order");
        let mut inodes: BTreeMap<u64, u64> = BTreeMap::new();
        for record in &records {
            let path = self.tree_of(self.days).join(record.path.as_path());
            if record.kind == FileKind::Socket {
                assert!(!path.exists());
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (record.uid, record.gid), "{}", path.display());
            assert_eq!(
                (meta.mtime(), meta.mtime_nsec()),
                (record.mtime.0, record.mtime.1.into()),
                "{}",
                path.display()
            );
            if record.kind == FileKind::File {
                assert_eq!(meta.len(), record.size);
                let digest = blake3::hash(&fs::read(&path).unwrap()).to_hex().to_string();
                assert_eq!(Some(digest), record.blake3, "{}", path.display());
            }
            if let Some(group) = record.link_group {
                assert_eq!(*inodes.entry(group).or_insert(meta.ino()), meta.ino(), "{}", path.display());
            }
        }
        let listed = run("find", &[self.tree_of(self.days).as_os_str().as_bytes(), b"-printf", b"x"]).len();
        assert_eq!(listed, records.iter().filter(|record| record.kind != FileKind::Socket).count());
    }

    fn inode(&self, day: u32, path: &str) -> u64 {
        fs::symlink_metadata(self.tree_of(day).join(path)).unwrap().ino()
    }
}

#[test]
fn a_day_is_the_source_and_the_next_links_what_did_not_change() {
    let mut bench = Bench::new();
    bench.write("a", "one");
    bench.write("dir/b", "two");
    bench.write("dir/deep/c", "three");
    symlink("../a", bench.source("dir/link")).unwrap();
    let first = bench.take();
    assert_eq!((first.files, first.copied_files, first.linked_files, first.bytes), (3, 3, 0, 11));
    bench.write("dir/b", "TWO");
    let second = bench.take();
    assert_eq!((second.entries, second.copied_files, second.linked_files), (7, 1, 2));
    assert_eq!(bench.inode(1, "a"), bench.inode(2, "a"));
    assert_eq!(bench.inode(1, "dir/link"), bench.inode(2, "dir/link"));
    assert_ne!(bench.inode(1, "dir/b"), bench.inode(2, "dir/b"));
    assert_eq!(fs::read_to_string(bench.tree_of(1).join("dir/b")).unwrap(), "two");
    bench.new_base = true;
    assert_eq!(bench.take().copied_files, 3);
    assert_ne!(bench.inode(2, "a"), bench.inode(3, "a"));
}

#[test]
fn everything_that_a_name_carries_is_kept() {
    let mut bench = Bench::new();
    sh(&bench.tree.path, "
        echo x >plain; chmod 4755 plain; touch -d '2001-02-03 04:05:06.123456789' plain
        echo y >group; ln group group2; mkdir sub; ln group sub/group3
        ln -s /nowhere dangling; touch -hd '1969-12-31 12:00:00.5' dangling
        truncate -s 20M sparse; printf tail >>sparse; printf mid | dd of=sparse bs=1 seek=9000000 conv=notrunc status=none
        truncate -s 5M hole
        setfattr -n user.colour -v blue plain; setfattr -n user.empty plain; setfattr -n user.dir -v d sub
        setfacl -m u:1234:r plain; setfacl -d -m g:4321:rwx sub
        mkfifo pipe; : >empty; mkdir -m 1777 sticky; mkdir -m 0500 closed; touch -d '2010-01-01' closed
        printf n >\"$(printf 'caf\\351')\"; printf n >\"$(printf 'new\\nline')\"
        printf n >\"$(printf '%0255d' 7)\"
    ");
    if is_root() {
        sh(
            &bench.tree.path,
            "chown 12:34 group; chown -h 56:78 dangling; chown 99:99 sub; chown 12:34 plain; chmod 6755 plain
            mknod null c 1 3; mknod loop b 7 99; chmod 640 null; setfattr -n trusted.t -v 1 empty
            setfattr -n trusted.link -h -v 1 dangling",
        );
    }
    let _socket = std::os::unix::net::UnixListener::bind(bench.source("socket")).unwrap();
    bench.take();
    let blocks = |path: &str| fs::metadata(bench.tree_of(1).join(path)).unwrap().blocks() * 512;
    assert!(blocks("sparse") < 200_000 && blocks("hole") == 0, "holes stay holes");
    assert_eq!(bench.inode(1, "group"), bench.inode(1, "sub/group3"));
    let sockets: Vec<_> =
        bench.records(1).into_iter().filter(|record| record.kind == FileKind::Socket).collect();
    assert_eq!(sockets.len(), 1, "a socket is recorded");
    let again = bench.take();
    assert_eq!((again.copied_files, again.copied_bytes), (0, 0));
    assert_eq!(bench.inode(1, "group"), bench.inode(2, "sub/group3"));
}

#[test]
fn attributes_that_change_never_reach_the_older_day() {
    let mut bench = Bench::new();
    for name in ["mode", "owner", "xattr", "acl", "time"] {
        bench.write(name, "same");
    }
    bench.take();
    let before = snapshot(&bench.tree_of(1));
    sh(
        &bench.tree.path,
        "chmod 600 mode; setfattr -n user.x -v 1 xattr; setfacl -m u:7:r acl; touch -d 2001-01-01 time",
    );
    if is_root() {
        sh(&bench.tree.path, "chown 5:5 owner");
    }
    bench.take();
    assert_eq!(snapshot(&bench.tree_of(1)), before);
    assert_ne!(bench.inode(1, "mode"), bench.inode(2, "mode"));
}

/// All that a later run could change of a sealed tree.
fn snapshot(tree: &Path) -> String {
    let path = tree.as_os_str().as_bytes();
    let listed = run("find", &[path, b"-printf", b"%P %i %y %s %m %U %G %T@ %l\n"]);
    let files = run("sh", &[b"-c", b"find \"$0\" -type f -exec sha256sum {} + | sort", path]);
    let xattrs = run("getfattr", &[b"-Rhd", b"-m-", b"--absolute-names", path]);
    let mut lines: Vec<_> = listed.lines().chain(files.lines()).map(str::to_owned).collect();
    lines.sort();
    lines.join("\n") + &xattrs
}

#[test]
fn what_changes_between_the_warm_pass_and_the_fence_is_in_the_day() {
    for content_named in [false, true] {
        let mut bench = Bench::new();
        bench.tree.content_named = content_named;
        for n in 0..200 {
            bench.write(&format!("d{}/f{n}", n % 7), &format!("file {n}"));
        }
        bench.take();
        let mut warm = bench.warm();
        bench.write("d1/f1", "written over");
        sh(
            &bench.tree.path,
            "rm d2/f2; mv d3 moved; mkdir -p new/deep; echo n >new/deep/x; ln d1/f8 linked
            rm -r d4; echo file >d4; rm d5/f5; mkdir d5/f5; echo in >d5/f5/in; chmod 600 d6/f6; ln -s x d6/s",
        );
        let pending = warm.catch_up(&bench.context).unwrap();
        assert!(pending.files > 10, "{pending:?}");
        assert_eq!(warm.catch_up(&bench.context).unwrap().files, 0, "all was brought");
        sh(
            &bench.tree.path,
            "mv new newer; echo more >>newer/deep/x; echo y >newer/y; rm linked; touch -d 2001-01-01 d6; chmod 700 d6",
        );
        let record = bench.seal(warm);
        bench.assert_equal();
        assert_eq!(record.entries, bench.records(2).len() as u64);
        bench.take();
    }
}

#[test]
fn a_tree_whose_names_are_content_keeps_its_older_times() {
    let mut bench = Bench::new();
    bench.tree.content_named = true;
    bench.write("gold/aa", "content");
    bench.take();
    sh(&bench.tree.path, "touch gold/aa");
    let warm = bench.warm();
    sh(&bench.tree.path, "touch -d 2030-01-01 gold/aa; echo held >gold/bb");
    let fenced = warm.fence(&Witness, &bench.context).unwrap();
    // After the fence the name is gone; the open file is what the day gets.
    fs::remove_file(bench.source("gold/bb")).unwrap();
    bench.days += 1;
    let mut writer = RecordWriter::create(&bench.day(2).join("files.jsonl.zst")).unwrap();
    let record = fenced.finish(&Witness, &mut writer, &bench.context).unwrap();
    writer.finish().unwrap();
    assert_eq!((record.linked_files, record.copied_files), (1, 1));
    assert_eq!(bench.inode(1, "gold/aa"), bench.inode(2, "gold/aa"));
    assert_eq!(fs::read_to_string(bench.tree_of(2).join("gold/bb")).unwrap(), "held\n");
    bench.assert_records();
}

#[test]
fn an_unreadable_file_fails_the_run_with_its_path() {
    forbid(&[CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH]);
    let bench = Bench::new();
    bench.write("dir/secret", "x");
    fs::set_permissions(bench.source("dir/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let error = warm(&bench.job(), &bench.context).unwrap_err();
    let path = bench.source("dir/secret");
    assert_eq!(error.to_string(), format!("cannot open {}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(bench.source("dir"), fs::Permissions::from_mode(0o000)).unwrap();
    let error = warm(&bench.job(), &bench.context).unwrap_err().to_string();
    assert_eq!(error, format!("cannot open the directory {}", bench.source("dir").display()));
    fs::set_permissions(bench.source("dir"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_cancelled_run_stops_and_the_next_one_goes_on() {
    let mut bench = Bench::new();
    bench.write("a", "x");
    bench.context.cancel.cancel();
    let error = warm(&bench.job(), &bench.context).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    bench.context.cancel = tokio_util::sync::CancellationToken::new();
    bench.take();
}

#[test]
fn each_step_stops_when_the_token_that_it_was_given_is_cancelled() {
    let bench = Bench::new();
    bench.write("a", "x");
    let cancelled = Context { cancel: tokio_util::sync::CancellationToken::new(), ..bench.context.clone() };
    cancelled.cancel.cancel();
    let mut first = bench.warm();
    bench.write("a", "y");
    assert!(matches!(first.catch_up(&cancelled), Err(Error::Cancelled)));
    let warm = bench.warm();
    bench.write("a", "z");
    assert!(matches!(warm.fence(&Witness, &cancelled), Err(Error::Cancelled)), "hold.max must end a fence");
    let fenced = bench.warm().fence(&Witness, &bench.context).unwrap();
    let mut writer = RecordWriter::create(&bench.day(1).join("files.jsonl.zst")).unwrap();
    assert!(matches!(fenced.finish(&Witness, &mut writer, &cancelled), Err(Error::Cancelled)));
}

#[test]
fn without_rights_the_records_hold_what_the_day_cannot() {
    if !is_root() {
        return;
    }
    let mut bench = Bench::new();
    bench.write("a", "x");
    sh(&bench.tree.path, "chown 5:6 a; mknod null c 1 3");
    forbid(&[CapabilitySet::CHOWN, CapabilitySet::MKNOD, CapabilitySet::FOWNER]);
    let warm = bench.warm();
    bench.seal(warm);
    let records = bench.records(1);
    assert_eq!((records[1].uid, records[1].gid), (5, 6));
    assert_eq!((records[2].kind, records[2].device), (FileKind::CharDevice, Some((1, 3))));
    assert!(!bench.tree_of(1).join("null").exists());
    let said = bench.notices();
    assert!(said.contains("tree files: 1 names have another owner in the day"), "{said}");
    assert!(said.contains("tree files: 1 names are devices that this process may not make"), "{said}");
}

#[test]
fn the_configured_rate_is_kept() {
    let bench = Bench::new();
    bench.write("a", &"x".repeat(600_000));
    bench.write("b", &"y".repeat(600_000));
    let begun = std::time::Instant::now();
    warm(&Job { copy_rate: Some(1_000_000), ..bench.job() }, &bench.context).unwrap();
    // The last chunk is read before it is paid for.
    assert!(begun.elapsed().as_millis() > 500, "{:?}", begun.elapsed());
}

#[test]
fn inside_the_hold_no_rate_is_kept_and_after_it_again() {
    let mut bench = Bench::new();
    let mut job = Job { copy_rate: Some(200_000), ..bench.job() };
    let warm_pass = warm(&job, &bench.context).unwrap();
    bench.write("last", &"x".repeat(1_200_000));
    let begun = std::time::Instant::now();
    bench.seal(warm_pass);
    assert!(begun.elapsed().as_millis() < 2000, "the hold waited for the rate: {:?}", begun.elapsed());

    bench.tree.content_named = true;
    job = Job { copy_rate: Some(1_000_000), ..bench.job() };
    let warm_pass = warm(&job, &bench.context).unwrap();
    bench.write("later", &"y".repeat(1_600_000));
    let begun = std::time::Instant::now();
    bench.seal(warm_pass);
    assert!(begun.elapsed().as_millis() > 500, "what was held open was copied faster than the rate");
}

#[test]
fn a_long_look_at_what_is_there_already_can_be_cancelled() {
    let mut bench = Bench::new();
    bench.write("large", &"x".repeat(1_500_000));
    drop(bench.warm());
    let slow = Job { copy_rate: Some(100_000), ..bench.job() };
    let cancel = bench.context.cancel.clone();
    let begun = std::time::Instant::now();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            cancel.cancel();
        });
        warm(&slow, &bench.context).unwrap_err()
    });
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    bench.context.cancel = tokio_util::sync::CancellationToken::new();
    bench.take();
}

#[test]
fn a_name_that_would_not_settle_leaves_nothing_of_an_earlier_run() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut bench = Bench::new();
    bench.tree.content_named = true;
    bench.write("large", &"x".repeat(8_000_000));
    drop(bench.warm());
    // A power cut: the name and its size are there, the content is not.
    fs::write(bench.tree_of(1).join("large"), "z".repeat(8_000_000)).unwrap();
    let (stop, path) = (AtomicBool::new(false), bench.source("large"));
    let warm = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                filetime::set_file_mtime(&path, filetime::FileTime::from_unix_time(9, 9)).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        let warm = bench.warm();
        stop.store(true, Ordering::Relaxed);
        warm
    });
    bench.seal(warm);
    bench.assert_records();
    assert_eq!(bench.records(1).len(), 2);
}

#[test]
fn a_mount_point_is_kept_as_an_empty_directory() {
    if !is_root() {
        return;
    }
    let mut bench = Bench::new();
    bench.write("mounted/below", "hidden by the mount");
    let point = bench.source("mounted");
    run("mount", &[b"-t", b"tmpfs", b"none", point.as_os_str().as_bytes()]);
    fs::write(point.join("other"), "on another file system").unwrap();
    let warm = bench.warm();
    bench.seal(warm);
    bench.tree.one_file_system = false;
    let both = bench.warm();
    bench.seal(both);
    run("umount", &[point.as_os_str().as_bytes()]);
    let paths = |day| bench.records(day).len();
    assert_eq!((paths(1), paths(2)), (2, 3));
    assert!(bench.notices().contains("mounted is a mount point: kept as an empty directory"));
}

#[test]
fn a_damaged_file_of_the_day_before_is_not_linked() {
    let mut bench = Bench::new();
    for name in ["short", "gone", "mode", "fine"] {
        bench.write(name, "content");
    }
    bench.take();
    sh(&bench.tree_of(1), "truncate -s 3 short; rm gone; chmod 777 mode");
    let second = bench.take();
    assert_eq!((second.copied_files, second.linked_files), (3, 1));
}

#[test]
fn what_an_interrupted_run_left_is_used_or_removed() {
    let mut bench = Bench::new();
    bench.write("old", "old");
    bench.take();
    bench.write("copied", "copied");
    bench.write("torn", "whole text");
    drop(bench.warm());
    let copied = bench.inode(2, "copied");
    let target = bench.tree_of(2);
    let times = fs::metadata(target.join("torn")).unwrap().modified().unwrap();
    // A power cut: size and times are there, the content is not. And strays of every kind.
    fs::write(target.join("torn"), "whole TEXT").unwrap();
    filetime::set_file_mtime(target.join("torn"), times.into()).unwrap();
    sh(
        &target,
        "mkdir -p stray/deep; echo x >stray/deep/x; chmod 000 stray/deep; ln -s x link; echo z >../.files.work/new/17",
    );
    let record = bench.take();
    assert_eq!(record.copied_files, 1, "only the torn file is copied again");
    assert_eq!(bench.inode(2, "copied"), copied);
    assert_eq!(bench.inode(2, "old"), bench.inode(1, "old"));
}

#[test]
fn deep_and_long_paths_are_kept() {
    let mut bench = Bench::new();
    let script = "d=$(printf '%0200d' 1); for i in $(seq 60); do mkdir $d; cd -P $d; echo $i >f; done";
    let output = Command::new("bash").args(["-ec", script]).current_dir(&bench.tree.path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    bench.write("zz", "after the deep one");
    let warm = bench.warm();
    sh(&bench.tree.path, "echo more >>zz");
    bench.seal(warm);
    assert_eq!(bench.records(1).iter().filter(|record| record.kind == FileKind::File).count(), 61);
    let longest = bench.records(1).iter().map(|record| record.path.0.len()).max().unwrap();
    assert!(longest > 12_000, "{longest}");
    let second = bench.warm();
    let second = bench.seal(second);
    assert_eq!((second.linked_files, second.copied_files), (61, 0));
}

/// More directories than are opened ahead of the walk, in more levels, with files between them, and with what a killed run left in their place.
#[test]
fn wide_and_nested_directories_are_kept_in_the_order_of_the_walk() {
    let mut bench = Bench::new();
    let script = "for a in $(seq 40); do mkdir -p d$a; echo $a >e$a; for b in $(seq 20); do mkdir -p d$a/d$b/x/y/z; echo $b >d$a/e$b; \
                  echo $a.$b >d$a/d$b/x/y/z/f; done; done; mkdir one; for n in $(seq 1500); do echo $n >one/$n; done";
    sh(&bench.tree.path, script);
    drop(bench.warm());
    sh(&bench.tree_of(1), "rm -rf d7 d9 d11/d3; echo x >d7; ln -s d8 d9; mkdir d12/stray; echo x >d11/d3");
    let first = bench.take();
    assert_eq!(first.files, 40 + 40 * 20 * 2 + 1500);
    let paths: Vec<_> = bench
        .records(1)
        .into_iter()
        .map(|record| {
            record.path.0.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect::<Vec<u8>>()
        })
        .collect();
    assert!(paths.is_sorted(), "directories before what is in them, names by their bytes");
    sh(&bench.tree.path, "rm -r d5; echo new >d9/d9/x/new");
    let second = bench.take();
    assert_eq!((second.copied_files, second.linked_files), (1, first.files - 40));
}

#[test]
fn filters_keep_what_rsync_keeps() {
    let mut bench = Bench::new();
    sh(&bench.tree.path, "mkdir -p foo/bar/baz src/foo a/b/c tmp/x 'we[i]rd'
        for f in foo/one.o foo/bar/two.c foo/bar/baz/three.o src/foo/four.c src/five.o a/b/c/six a/six tmp/x/y root.o foo.c 'we[i]rd/f' 'a/st*r' a/q1 a/q22; do echo $f >\"$f\"; done");
    let tables: &[&[(bool, &str)]] = &[
        &[(false, "*.o")],
        &[(false, "/foo/")],
        &[(false, "foo/")],
        &[(true, "*/"), (true, "*.c"), (false, "*")],
        &[(false, "foo/bar")],
        &[(false, "/foo/*/baz")],
        &[(false, "/a/**/six")],
        &[(false, "**/six")],
        &[(false, "tmp/***")],
        &[(true, "/foo/bar/***"), (true, "/foo/"), (false, "*")],
        &[(false, "q?")],
        &[(false, "q[0-9]*")],
        &[(false, r"st\*r")],
        &[(false, r"we\[i\]rd*")],
        &[(false, "b/c")],
        &[(false, "**.o"), (false, "x/y")],
    ];
    for rules in tables {
        bench.tree.filters = rules
            .iter()
            .map(|(include, pattern)| Filter { include: *include, pattern: (*pattern).into() })
            .collect();
        let warm = bench.warm();
        bench.seal(warm);
        let mut ours: Vec<_> = bench
            .records(bench.days)
            .iter()
            .map(|record| record.path.as_path().display().to_string())
            .collect();
        ours.retain(|path| !path.is_empty());
        let reference = bench.dir.path().join(format!("rsync{}", bench.days));
        let mut args = vec!["-a".to_owned()];
        args.extend(rules.iter().map(|(include, pattern)| {
            format!("--{}={pattern}", if *include { "include" } else { "exclude" })
        }));
        args.extend([format!("{}/", bench.tree.path.display()), format!("{}/", reference.display())]);
        run("rsync", &args.iter().map(String::as_bytes).collect::<Vec<_>>());
        let listed =
            run("find", &[reference.as_os_str().as_bytes(), b"-mindepth", b"1", b"-printf", b"%P\n"]);
        let mut theirs: Vec<_> = listed.lines().map(str::to_owned).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{rules:?}");
    }
}

#[test]
fn a_lookup_stays_beneath_the_tree() {
    let bench = Bench::new();
    bench.write("gold/aa/file", "1234567");
    symlink("aa", bench.source("gold/link")).unwrap();
    symlink("file", bench.source("gold/aa/alias")).unwrap();
    bench.write("../outside", "x");
    let tree = DayTree::open(&bench.tree.path).unwrap();
    assert_eq!(tree.stat_beneath(b"gold/aa/file").unwrap(), Some(7));
    let long = "x".repeat(9000).into_bytes();
    for path in [
        &b"gold/aa"[..],
        b"gold/link/file",
        b"gold/aa/alias",
        b"../outside",
        b"gold/../../outside",
        b"",
        b"nothing",
        b"gold/aa/file/x",
        b"/etc/passwd",
        b"gold/..",
        &long,
    ] {
        assert_eq!(tree.stat_beneath(path).unwrap(), None, "{}", String::from_utf8_lossy(path));
    }
}

/// Takes rights from this test's thread, and so from the threads that it starts.
fn forbid(rights: &[CapabilitySet]) {
    if is_root() {
        let mut sets = capabilities(None).unwrap();
        rights.iter().copied().for_each(|right| sets.effective.remove(right));
        set_capabilities(None, sets).unwrap();
    }
}

/// The fence is a walk then.
fn forbid_fanotify() {
    forbid(&[CapabilitySet::SYS_ADMIN]);
}

/// Whether fanotify can be had where the tests put their files.
fn has_fanotify() -> bool {
    let is_ext4 =
        || run("stat", &[b"-f", b"-c", b"%T", std::env::temp_dir().as_os_str().as_bytes()]).contains("ext");
    is_root() && is_ext4()
}

#[test]
fn every_kind_of_change_is_told_by_the_kernel() {
    if !has_fanotify() {
        return;
    }
    let changes = [
        "echo more >>f",
        "echo over >f",
        "truncate -s 2 f",
        "truncate -s 1M f",
        "mv f g",
        "mv f d/f",
        "mv ../out in",
        "mv f ../away",
        "mv ../over f",
        "rm f",
        "mkdir -p n/m/o; echo x >n/m/o/p",
        "chmod 600 f",
        "chown 3:4 f",
        "setfattr -n user.a -v b f",
        "touch -d 2001-01-01 f",
        "ln f h",
        "ln -s f s",
        "mv d e",
        "mv d ../gone",
        "mv ../outdir d2",
        "rm -r d",
        "rm -r d; mkdir d; echo z >d/z",
        "mv d e; echo y >e/y; mv e d",
        "chmod 700 d",
        "touch -d 2001-01-01 d",
        "setfacl -m u:9:rx d",
        "rm l1",
        "echo more >>l1",
        "chmod 640 l2",
        "mv l1 d/l1",
        "ln l1 d/l3",
        "rm s0; ln -s elsewhere s0",
        "mkfifo p",
        "rm f; mkdir f; echo in >f/in",
        "rm -r d; echo file >d",
        "touch -d 2002-02-02 .",
        "mv dd/deep d/deep2; echo q >>d/deep2/x",
        "mv d/x tmp; mv dd/y d/x; mv tmp dd/y",
        "ln f t; rm f; mv t f",
        "exec 3>>f; ln f alias; rm f; echo late >&3; exec 3>&-",
    ];
    let mut bench = Bench::new();
    for change in changes {
        let root = bench.dir.path();
        sh(
            root,
            "rm -rf source out over outdir away gone; mkdir -p source/d source/dd/deep outdir/sub; cd source
            echo f >f; echo x >d/x; echo y >dd/y; echo d >dd/deep/x; echo l >l1; ln l1 l2; ln -s f s0
            echo out >../out; echo over >../over; echo sub >../outdir/sub/s",
        );
        let mut warm = bench.warm();
        warm.catch_up(&bench.context).unwrap();
        sh(&bench.tree.path, change);
        let record = bench.seal(warm);
        bench.assert_equal();
        let walked = ["ln f h", "ln l1 d/l3", "exec"].iter().any(|needs| change.starts_with(needs));
        assert!(record.fence == "fanotify" || walked, "{change}: {}\n{}", record.fence, bench.notices());
    }
}

#[test]
fn without_the_right_to_watch_the_fence_is_a_walk_and_says_so() {
    forbid_fanotify();
    let mut bench = Bench::new();
    bench.write("a", "x");
    assert_eq!(bench.take().fence, "walk");
    assert!(bench.notices().contains("changes are found by walking the tree again"), "{}", bench.notices());
}

#[test]
fn a_writer_that_stops_only_for_the_fence_is_caught() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut bench = Bench::new();
    for n in 0..300 {
        bench.write(&format!("d{}/f{n}", n % 10), "begin");
    }
    for _ in 0..3 {
        let stop = AtomicBool::new(false);
        let root = bench.tree.path.clone();
        let warm = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut n = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let name = |k: u32| root.join(format!("d{}/f{}", k % 10, k % 300));
                    let _ = fs::write(name(n * 7), format!("{n}"));
                    let _ = fs::rename(name(n * 3), name(n * 11 + 1));
                    let _ = fs::remove_file(name(n * 13));
                    let _ = fs::create_dir_all(root.join(format!("d{}/sub{}", n % 10, n % 5)));
                    let _ = fs::rename(
                        root.join(format!("d{}/sub{}", n % 10, n % 5)),
                        root.join(format!("d{}/moved", n % 9)),
                    );
                    let _ = fs::remove_dir_all(root.join(format!("d{}/moved", n % 4)));
                    let _ = fs::hard_link(name(n), root.join(format!("d1/link{}", n % 20)));
                }
            });
            let mut warm = bench.warm();
            warm.catch_up(&bench.context).unwrap();
            stop.store(true, Ordering::Relaxed);
            warm
        });
        bench.seal(warm);
        bench.assert_equal();
    }
}

#[test]
fn a_directory_that_becomes_a_link_to_elsewhere_leads_nowhere() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    fs::create_dir_all(outside.join("sub")).unwrap();
    for n in 0..40 {
        bench.write(&format!("swap/f{n}"), "inside");
        bench.write(&format!("swap/sub/f{n}"), "inside");
        fs::write(outside.join(format!("f{n}")), "secret").unwrap();
        fs::write(outside.join(format!("sub/f{n}")), "secret").unwrap();
    }
    let (stop, root) = (AtomicBool::new(false), bench.tree.path.clone());
    for _ in 0..4 {
        let warm = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    fs::rename(root.join("swap"), root.join("aside")).unwrap();
                    symlink(&outside, root.join("swap")).unwrap();
                    std::thread::yield_now();
                    fs::remove_file(root.join("swap")).unwrap();
                    fs::rename(root.join("aside"), root.join("swap")).unwrap();
                    fs::rename(root.join("swap/f1"), root.join("f1")).unwrap();
                    symlink(outside.join("f1"), root.join("swap/f1")).unwrap();
                    fs::rename(root.join("f1"), root.join("swap/f1")).unwrap();
                }
            });
            let mut warm = bench.warm();
            warm.catch_up(&bench.context).unwrap();
            stop.store(true, Ordering::Relaxed);
            warm
        });
        let built = bench.tree_of(bench.days + 1);
        let found = Command::new("grep").args(["-rl", "secret"]).arg(&built).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        bench.seal(warm);
        bench.assert_equal();
        stop.store(false, Ordering::Relaxed);
    }
}

#[test]
fn names_beyond_what_an_inode_can_have_are_kept_all_the_same() {
    let mut bench = Bench::new();
    bench.write("n/0", "content");
    let names = 33_000;
    // ext4 allows 65,000 names; where more are allowed there is one inode.
    for n in 1..names {
        if fs::hard_link(bench.source("n/0"), bench.source(format!("n/{n}"))).is_err() {
            return;
        }
    }
    bench.take();
    let warm = bench.warm();
    bench.seal(warm);
    bench.assert_records();
    assert_eq!(bench.records(2).len(), names + 2);
}

#[test]
fn a_watch_that_was_lost_begins_anew() {
    if !has_fanotify() {
        return;
    }
    let mut bench = Bench::new();
    bench.write("a", "x");
    let mut warm = bench.warm();
    let moved = bench.dir.path().join("moved");
    fs::rename(&bench.tree.path, &moved).unwrap();
    bench.tree.path = moved;
    bench.write("b", "x");
    warm.catch_up(&bench.context).unwrap();
    assert!(bench.notices().contains("the tree itself was moved"), "{}", bench.notices());
    bench.write("c", "x");
    assert_eq!(bench.seal(warm).fence, "fanotify");
    bench.assert_equal();
}

/// Each of these makes a second name of an inode that had one, where a directory moved in the same round.
#[test]
fn names_that_come_with_a_directory_that_moved_are_one_inode_with_those_that_stayed() {
    let by_hand: [&str; 3] = [
        // In its place.
        "mkdir d/e && mv d/e empty && ln a d/e",
        // In it, before it came into the tree.
        "mkdir ../new && ln a ../new/x && mv ../new d/new",
        // Below it, the same.
        "mkdir -p ../new/y && ln link ../new/y/x && mv ../new d/new",
    ];
    for edits in by_hand {
        for in_the_hold in [false, true] {
            let mut bench = Bench::new();
            bench.write("a", "content");
            symlink("a", bench.source("link")).unwrap();
            fs::create_dir(bench.source("d")).unwrap();
            fs::create_dir(bench.source("empty")).unwrap();
            let mut warm = bench.warm();
            sh(&bench.tree.path, edits);
            if !in_the_hold {
                warm.catch_up(&bench.context).unwrap();
            }
            bench.seal(warm);
            bench.assert_equal();
        }
    }
}

/// Runs the test in a process of its own that may open so many files, and is true in that.
fn has_few_descriptors(test: &str, most: u32) -> bool {
    if std::env::var_os("FEW_DESCRIPTORS").is_some() {
        return true;
    }
    let output = Command::new("sh")
        .args(["-c", r#"ulimit -n "$2"; FEW_DESCRIPTORS=1 exec "$0" --exact "$1" --nocapture"#])
        .arg(std::env::current_exe().unwrap())
        .args([test, &most.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
    false
}

/// Directories that are opened ahead, queued and in work are open three times each.
#[test]
fn many_directories_and_threads_do_with_the_descriptors_that_there_are() {
    if !has_few_descriptors("many_directories_and_threads_do_with_the_descriptors_that_there_are", 256) {
        return;
    }
    let mut bench = Bench::new();
    bench.jobs = 8;
    sh(&bench.tree.path, "for a in $(seq 300); do mkdir -p d$a; echo $a >d$a/f; done");
    assert_eq!(bench.take().files, 300);
    assert_eq!(bench.take().linked_files, 300);
}

#[test]
fn several_trees_share_the_descriptors_that_there_are() {
    if !has_few_descriptors("several_trees_share_the_descriptors_that_there_are", 128) {
        return;
    }
    let mut benches = [Bench::new(), Bench::new()];
    let warm: Vec<Warm> = benches
        .iter_mut()
        .map(|bench| {
            bench.tree.content_named = true;
            bench.warm()
        })
        .collect();
    for bench in &benches {
        (0..200).for_each(|n| bench.write(&n.to_string(), &format!("content {n}")));
    }
    let fenced: Vec<_> = warm
        .into_iter()
        .zip(&benches)
        .map(|(warm, bench)| warm.fence(&Witness, &bench.context).unwrap())
        .collect();
    for (fenced, bench) in fenced.into_iter().zip(&mut benches) {
        bench.days = 1;
        let mut writer = RecordWriter::create(&bench.day(1).join("files.jsonl.zst")).unwrap();
        fenced.finish(&Witness, &mut writer, &bench.context).unwrap();
        writer.finish().unwrap();
        bench.assert_equal();
    }
}

#[test]
fn where_the_file_system_shares_blocks_a_copy_is_a_clone_that_stays_what_it_was() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (kind, make) in [("xfs", "mkfs.xfs -q -m reflink=1 image"), ("btrfs", "mkfs.btrfs -q image")] {
        sh(dir.path(), "rm -rf image at; truncate -s 400M image; mkdir at");
        let made = Command::new("sh").args(["-c", make]).current_dir(dir.path()).output().unwrap();
        let at = dir.path().join("at");
        let mounted = Command::new("mount")
            .args(["-o", "loop"])
            .arg(dir.path().join("image"))
            .arg(&at)
            .output()
            .unwrap();
        if !made.status.success() || !mounted.status.success() {
            eprintln!("{kind} cannot be made or mounted here");
            continue;
        }
        let mut bench = Bench::below(&at);
        bench.write("large", &"x".repeat(2_000_000));
        sh(&bench.tree.path, "truncate -s 3M holes; printf end >>holes");
        bench.take();
        sh(&bench.tree.path, "printf changed | dd of=large conv=notrunc seek=5 bs=1 2>&1");
        bench.assert_records();
        bench.take();
        drop(bench);
        sh(dir.path(), "umount at");
    }
}

mod edits {
    use super::{Bench, forbid_fanotify, snapshot};
    use proptest::prelude::{ProptestConfig, Strategy, any, prop, proptest};
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::{Path, PathBuf};

    type Edit = (u8, u8, u8, u8);

    fn path(root: &Path, choice: u8) -> PathBuf {
        let names = ["a", "b", "c", "a.b"];
        let mut path = root.to_owned();
        for level in 0..=choice % 3 {
            path.push(names[usize::from(choice >> (2 * level + 1)) % names.len()]);
        }
        path
    }

    /// One edit; those that cannot be made where they fall change nothing.
    fn edit(root: &Path, (what, at, to, value): Edit) {
        let (at, to) = (path(root, at), path(root, to));
        let _ = fs::create_dir_all(at.parent().unwrap());
        match what % 14 {
            0 | 1 => drop(fs::write(&at, vec![value; usize::from(value)])),
            2 => {
                let file = fs::OpenOptions::new().append(true).open(&at);
                let _ = file.and_then(|mut file| file.write_all(&[value]));
            }
            3 => drop(fs::create_dir_all(&at)),
            4 | 5 => drop(fs::rename(&at, &to)),
            6 => drop(fs::remove_file(&at)),
            7 => drop(fs::remove_dir_all(&at)),
            8 => drop(fs::set_permissions(&at, fs::Permissions::from_mode(0o700 | u32::from(value)))),
            9 => drop(std::os::unix::fs::lchown(&at, Some(value.into()), Some(7))),
            10 => drop(xattr::set(&at, "user.x", &[value])),
            11 => drop(filetime::set_file_mtime(&at, filetime::FileTime::from_unix_time(value.into(), 5))),
            12 => drop(fs::hard_link(&at, &to)),
            _ => drop(symlink(format!("{value}"), &at)),
        }
    }

    fn days() -> impl Strategy<Value = Vec<[Vec<Edit>; 3]>> {
        let edits = || prop::collection::vec(any::<Edit>(), 0..25);
        prop::collection::vec([edits(), edits(), edits()], 1..4)
    }

    /// DAYKEEP_CASES asks for more.
    fn cases() -> u32 {
        std::env::var("DAYKEEP_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24)
    }

    /// Mostly renames and links, and directories that come and go: the inodes are what is hard.
    fn links_and_moves() -> impl Strategy<Value = Vec<[Vec<Edit>; 3]>> {
        let what = prop::sample::select(vec![1_u8, 3, 4, 4, 6, 7, 9, 12, 12, 12, 13]);
        let edits =
            move || prop::collection::vec((what.clone(), any::<u8>(), any::<u8>(), any::<u8>()), 0..25);
        prop::collection::vec([edits(), edits(), edits()], 1..4)
    }

    fn check(days: &[[Vec<Edit>; 3]]) {
        let mut bench = Bench::new();
        let mut sealed = Vec::new();
        let root = bench.tree.path.clone();
        for [before, running, last] in days {
            before.iter().for_each(|one| edit(&root, *one));
            let mut warm = bench.warm();
            running.iter().for_each(|one| edit(&root, *one));
            warm.catch_up(&bench.context).unwrap();
            last.iter().for_each(|one| edit(&root, *one));
            bench.seal(warm);
            bench.assert_equal();
            for (day, was) in &sealed {
                assert_eq!(snapshot(&bench.tree_of(*day)), *was, "day {day} was changed");
            }
            sealed.push((bench.days, snapshot(&bench.tree_of(bench.days))));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_day_is_the_source_and_no_older_day_changes(days in days()) {
            check(&days);
        }

        #[test]
        fn inodes_stay_one_whatever_moves(days in links_and_moves()) {
            check(&days);
        }

        #[test]
        fn the_same_when_the_fence_is_a_walk(days in days()) {
            forbid_fanotify();
            check(&days);
        }
    }
}

#[test]
fn a_tree_on_its_way_can_be_handed_to_another_thread() {
    fn can_be_sent<T: Send + 'static>() {}
    can_be_sent::<Warm>();
    can_be_sent::<daykeep::tree::Fenced>();
    can_be_sent::<Error>();
}
