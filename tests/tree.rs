//! Trees copied for real: files, links, owners, ACLs and devices, with rsync as the judge of equality.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking, and makes the files that it tests with"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use daykeep::clock::SystemClock;
use daykeep::config::{Filter, Tree};
use daykeep::event::{Context, Event, Recording};
use daykeep::manifest::{FileKind, FileRecord, RecordReader, RecordWriter, Released, Still, TreeRecord};
use daykeep::tree::{DayTree, Error, Job, Previous, Warm, warm};

struct Witness;
impl Still for Witness {}
impl Released for Witness {}

/// A source and the days kept of it.
struct Bench {
    dir: tempfile::TempDir,
    tree: Tree,
    days: u32,
    new_base: bool,
    heard: Arc<Recording>,
    context: Context,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("source");
        fs::create_dir(&path).unwrap();
        let tree = Tree {
            name: "files".into(),
            path,
            filters: Vec::new(),
            content_named: false,
            one_file_system: true,
        };
        let heard = Arc::new(Recording::default());
        let context = Context {
            observer: heard.clone(),
            cancel: tokio_util::sync::CancellationToken::new(),
            clock: Arc::new(SystemClock::new()),
        };
        Self { dir, tree, days: 0, new_base: false, heard, context }
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
        self.dir.path().join(format!("day{day}"))
    }

    fn tree_of(&self, day: u32) -> PathBuf {
        self.day(day).join("trees/files")
    }

    fn job(&self) -> Job {
        let previous = (self.days > 0).then(|| Previous {
            tree_dir: self.tree_of(self.days),
            records: self.day(self.days).join("files.jsonl.zst"),
        });
        Job {
            tree: self.tree.clone(),
            target: self.tree_of(self.days + 1),
            previous,
            new_base: self.new_base,
            jobs: 2,
            copy_rate: None,
        }
    }

    fn warm(&self) -> Warm {
        warm(&self.job(), &self.context).unwrap()
    }

    fn seal(&mut self, warm: Warm) -> TreeRecord {
        let fenced = warm.fence(&Witness, &self.context).unwrap();
        self.days += 1;
        let mut writer = RecordWriter::create(&self.day(self.days).join("files.jsonl.zst")).unwrap();
        let record = fenced.finish(&Witness, &mut writer, &self.context).unwrap();
        writer.finish().unwrap();
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
        RecordReader::open(&self.day(day).join("files.jsonl.zst")).unwrap().map(Result::unwrap).collect()
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
            assert_eq!((meta.mtime(), meta.mtime_nsec() as u32), record.mtime, "{}", path.display());
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

    fn notices(&self) -> String {
        let text = |event| if let Event::Notice { text, .. } = event { Some(text) } else { None };
        self.heard.events().into_iter().filter_map(text).collect::<Vec<_>>().join("\n")
    }
}

fn run(program: &str, args: &[&[u8]]) -> String {
    let args = args.iter().map(|arg| std::ffi::OsStr::from_bytes(arg));
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn sh(dir: &Path, script: &str) {
    let output = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What rsync would do to make `b` as `a`, sockets aside.
fn differences(a: &Path, b: &Path) -> String {
    let (a, b) = (format!("{}/", a.display()), format!("{}/", b.display()));
    let args = ["-aHAXnci", "--numeric-ids", "--delete", &a, &b];
    let text = run("rsync", &args.map(str::as_bytes));
    text.lines()
        .filter(|line| !line.as_bytes().get(1).is_some_and(|kind| *kind == b'S'))
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
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
    let bench = Bench::new();
    bench.write("secret", "x");
    let error = if is_root() {
        // Root reads everything, so an attribute's name that is no text stands in: a directory that is no directory any more.
        fs::remove_dir_all(&bench.tree.path).unwrap();
        warm(&bench.job(), &bench.context).unwrap_err()
    } else {
        fs::set_permissions(bench.source("secret"), fs::Permissions::from_mode(0)).unwrap();
        warm(&bench.job(), &bench.context).unwrap_err()
    };
    assert!(matches!(&error, Error::File(_)), "{error}");
    assert!(error.to_string().contains("source"), "{error}");
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
    let long = [&b"x"[..]; 9000].concat();
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
