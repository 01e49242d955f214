//! Trees put back for real: onto nothing, onto what is there, and back again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test fails by panicking, and makes the files that it tests with"
)]

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use daykeep::clock::SystemClock;
use daykeep::config::Tree;
use daykeep::event::{Context, Event, Recording};
use daykeep::manifest::{FileRecord, RecordReader, RecordWriter, Released, Still};
use daykeep::tree::restore::{Built, Elsewhere, Error, Source, elsewhere};
use daykeep::tree::{Job, warm};

struct Witness;
impl Still for Witness {}
impl Released for Witness {}

/// A live tree and a day of it.
struct Bench {
    dir: tempfile::TempDir,
    tree: Tree,
    heard: Arc<Recording>,
    context: Context,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("live");
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
        Self { dir, tree, heard, context }
    }

    fn live(&self) -> &Path {
        &self.tree.path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sh(&self, script: &str) {
        sh(self.live(), script);
    }

    fn source(&self) -> Source {
        Source {
            tree_dir: self.path("day/trees/files"),
            records: self.path("day/files.jsonl.zst"),
            tree: "files".into(),
        }
    }

    /// Keeps the live tree as the day.
    fn keep(&self) {
        let job = Job {
            tree: self.tree.clone(),
            target: self.source().tree_dir,
            previous: None,
            new_base: true,
            jobs: 2,
            copy_rate: None,
            idle: false,
        };
        let fenced = warm(&job, &self.context).unwrap().fence(&Witness, &self.context).unwrap();
        let mut writer = RecordWriter::create(&self.source().records).unwrap();
        fenced.finish(&Witness, &mut writer, &self.context).unwrap();
        writer.finish().unwrap();
    }

    fn records(&self) -> Vec<FileRecord> {
        RecordReader::open(&self.source().records).unwrap().map(Result::unwrap).collect()
    }

    /// Writes other records than those of the day.
    fn tamper(&self, change: impl FnOnce(&mut Vec<FileRecord>)) {
        let mut records = self.records();
        change(&mut records);
        let mut writer = RecordWriter::create(&self.source().records).unwrap();
        for record in &records {
            writer.write(record).unwrap();
        }
        writer.finish().unwrap();
    }

    fn notices(&self) -> String {
        let text = |event| if let Event::Notice { text, .. } = event { Some(text) } else { None };
        self.heard.events().into_iter().filter_map(text).collect::<Vec<_>>().join("\n")
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

fn sh(dir: &Path, script: &str) {
    let output = Command::new("bash").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn run(program: &str, args: &[&[u8]]) -> String {
    let args = args.iter().map(|arg| std::ffi::OsStr::from_bytes(arg));
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What rsync would do to make `b` as `a`, sockets aside.
fn differences(a: &Path, b: &Path) -> String {
    let (a, b) = (format!("{}/", a.display()), format!("{}/", b.display()));
    let args = ["-aHAXnci", "--numeric-ids", "--delete", &a, &b];
    let text = run("rsync", &args.map(str::as_bytes));
    text.lines()
        .filter(|line| line.as_bytes().get(1).is_none_or(|kind| *kind != b'S'))
        .fold(String::new(), |text, line| text + line + "\n")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
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
    let bench = Bench::new();
    bench.sh(ALL_KINDS);
    bench.sh("mkdir .daykeep-restore-7 a/.daykeep-restore-8");
    bench.keep();
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
    let bench = Bench::new();
    bench.sh(ALL_KINDS);
    bench.keep();
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
        let bench = Bench::new();
        bench.sh(ALL_KINDS);
        bench.keep();
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
    let bench = Bench::new();
    bench.sh("mkdir a; echo 1 > a/x; echo 2 > a/y");
    bench.keep();
    let records = bench.records();
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
