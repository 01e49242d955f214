//! A repository that is never still: a scheduler that queues jobs for itself, and an application that nobody pauses, which
//! adds files and rows, moves amounts between rows and makes and drops tables all the while. Every day must be one
//! instant all the same (promise 3).
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "figures of the hammering")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use daykeep::config::{self, Check};
use daykeep::crosscheck::{self, cross_check};
use daykeep::database::{self, Frozen, Prepared};
use daykeep::event::Context;
use daykeep::hold::{self, Held};
use daykeep::manifest::RecordWriter;
use daykeep::tree::{self, DayTree, Warm};

#[path = "support/application.rs"]
mod application;
mod support;

use application::{ACCOUNTS, Application, BALANCE};
use support::context::context;
use support::postgres::{Server, check};
use support::programs::example;
use support::repository::{NAME, Repository};
use support::scheduler::DATABASE;

/// A scheduler that is busy, but not so busy that 50 runs cannot be waited for.
const BUSY: [&str; 8] = ["--agent-ms", "60", "--files", "2", "--busy-ms", "1000", "--poll-ms", "50"];
/// How many runs there are under the hammer.
const RUNS: usize = 50;

#[test]
fn fifty_days_kept_under_the_hammer_are_each_one_instant() {
    let repository = Repository::new(&BUSY, "");
    let application = Application::start(&repository);
    let mut growing = 0;
    let mut uploads = 0;
    for number in 1..=RUNS {
        // The run fails if a row of the day has no file in it.
        let before = application.uploads();
        let day = repository.run();
        let during = application.uploads() - before;
        growing += usize::from(during > 0);
        uploads += during;
        // And here the same is looked at without daykeep.
        repository.assert_days_are_whole();
        match number {
            7 | RUNS => restore(&repository, &day, &By::Script),
            25 => restore(&repository, &day, &By::Export),
            _ => {}
        }
    }
    let (moves, tables) = application.stop();
    eprintln!("{uploads} uploads during the runs, {moves} moves, {tables} tables made and dropped");
    assert_eq!(growing, RUNS, "every run had uploads beside it");
    assert!(moves > RUNS && tables > RUNS, "{moves} moves, {tables} tables");
    repository.look_again();
    repository.assert_dispatching();
}

enum By {
    Script,
    Export,
}

/// Restores a day into a server and directory of its own, without touching the repository, and looks at what is there.
fn restore(repository: &Repository, day: &str, by: &By) {
    let server = Server::start(None);
    let day = repository.days_dir().join(day);
    let files = tempfile::tempdir().unwrap();
    let trees: PathBuf = match by {
        By::Script => {
            let mut script = Command::new(day.join("restore.sh"));
            script.envs(server.environment()).arg("--files").arg(files.path().join("trees"));
            check(&mut script, "restore.sh");
            files.path().join("trees")
        }
        By::Export => {
            export(repository, &day, &server);
            day.join("trees")
        }
    };
    let mut compare = Command::new(example("compare_day"));
    compare.arg(&day).arg(server.socket_dir()).args(["5432", "postgres"]).arg(&trees);
    let told = String::from_utf8(check(&mut compare, "compare_day")).unwrap();
    assert!(!told.contains("DIFFERENT"), "{told}");
    eprintln!("{}", told.trim());
    assert_one_instant(&server, &trees);
}

fn export(repository: &Repository, day: &Path, server: &Server) {
    let name = day.file_name().unwrap().to_str().unwrap();
    let mut export =
        repository.daykeep(&["export", NAME, name]).stdout(Stdio::piped()).spawn().expect("daykeep starts");
    let mut psql = server.client("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=0", "-f", "-"]).stdin(export.stdout.take().unwrap());
    let loaded = psql.stdout(Stdio::null()).output().expect("psql starts");
    assert!(export.wait().unwrap().success(), "daykeep export");
    let errors = String::from_utf8_lossy(&loaded.stderr).into_owned();
    let unexpected: Vec<&str> = errors
        .lines()
        .filter(|line| line.contains("ERROR") && !line.contains("role \"postgres\" already exists"))
        .collect();
    assert!(loaded.status.success() && unexpected.is_empty(), "psql: {errors}");
}

/// What every transaction of the application leaves true is true in what was restored.
fn assert_one_instant(server: &Server, trees: &Path) {
    let number = |sql: &str| -> i64 { server.psql(DATABASE, sql).parse().unwrap() };
    assert_eq!(number("SELECT sum(balance) FROM account"), ACCOUNTS * BALANCE, "an amount was half moved");
    let unbooked = "SELECT count(*) FROM account WHERE balance <> 1000
                    + (SELECT coalesce(sum(amount), 0) FROM entry WHERE account = account.id)";
    assert_eq!(number(unbooked), 0, "an account is not what its entries say");
    let uploads = number("SELECT count(*) FROM upload WHERE upload_desc = 'by the application'");
    assert_eq!(number("SELECT uploads FROM tally"), uploads, "an upload is half there");
    assert!(uploads > 0);
    let files =
        server.psql(DATABASE, "SELECT lower(pfile_sha1 || '.' || pfile_md5 || '.' || pfile_size) FROM pfile");
    for name in files.lines() {
        let path = trees.join("repository").join(application::place("files", name));
        let content = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(application::name_of(&content), name, "{} has another content", path.display());
    }
}

// --- the order --------------------------------------------------------------------------------------------------------------

/// The trees at their instant, then more uploads, then the database: the wrong way round.
#[tokio::test(flavor = "multi_thread")]
async fn files_before_the_database_are_caught_by_the_cross_check() {
    let parts = Parts::new();
    let (released, frozen, day) = Box::pin(parts.take(&Order::FilesFirst)).await;
    let told = Box::pin(cross_check(&parts.check, &frozen, &day, &parts.context)).await;
    let Err(crosscheck::Error::FilesMissing { missing, rows, examples, .. }) = &told else {
        panic!("not caught: {told:?}")
    };
    // An upload has two rows that name its file: its own, and that of the file.
    assert!(*missing >= 2 * u64::from(LATE) && *rows > *missing, "{missing} of {rows}");
    assert!(released.evidence().paused_by_us);
    let text = told.as_ref().unwrap_err().to_string();
    assert!(
        text.starts_with(&format!(
            "cross-check files: {missing} of {rows} rows have no file, and allow_missing is 0: "
        )),
        "{text}"
    );
    for example in examples {
        // localhost/gold/aa/bb/cc/NAME, of upload 7 (web-3.tar.gz)
        let (path, upload) = example.split_once(", of upload ").expect("an upload is named");
        assert!(parts.repository.fossology.repository().join(path).is_file(), "{path} is in the repository");
        assert_eq!(day.stat_beneath(path.as_bytes()).unwrap(), None, "{path} is not in the day");
        let name = path.rsplit('/').next().unwrap();
        let (number, filename) = upload.trim_end_matches(')').split_once(" (").unwrap();
        let theirs = format!(
            "SELECT upload_filename || ' ' || lower(pfile_sha1 || '.' || pfile_md5 || '.' || pfile_size)
             FROM upload JOIN pfile ON pfile_pk = pfile_fk WHERE upload_pk = {number}"
        );
        let theirs = parts.repository.fossology.server.psql(DATABASE, &theirs);
        assert_eq!(theirs, format!("{filename} {name}"), "the upload that is named is the one that is hurt");
    }
}

/// The same parts, the same uploads between them, the right way round.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_before_the_files_passes_the_cross_check() {
    let parts = Parts::new();
    let (_released, frozen, day) = Box::pin(parts.take(&Order::DatabaseFirst)).await;
    let record = cross_check(&parts.check, &frozen, &day, &parts.context).await.expect("every file is there");
    assert_eq!(record.missing, 0);
    assert!(record.rows > 0);
}

/// How many uploads come between the two halves of a freeze.
const LATE: u32 = 3;

enum Order {
    FilesFirst,
    DatabaseFirst,
}

/// The parts that a run puts together, put together by hand.
struct Parts {
    /// Dropped first: it ends before its server does.
    application: Application,
    repository: Repository,
    configured: config::Repository,
    check: Check,
    context: Context,
}

impl Parts {
    fn new() -> Self {
        tokio::task::block_in_place(|| {
            let repository = Repository::new(&BUSY, "");
            let application = Application::start(&repository);
            let mut config = config::load(&repository.config_file()).expect("a configuration");
            let configured = config.repositories.remove(NAME).expect("the repository");
            let check = configured.checks["files"].clone();
            Self { application, repository, configured, check, context: context() }
        })
    }

    /// The freeze with uploads between its two halves, and the tree of the day that comes of it.
    async fn take(&self, order: &Order) -> (hold::ReleasedHold, Frozen, DayTree) {
        let day = self.repository.path("day");
        std::fs::create_dir_all(day.join("trees")).unwrap();
        let server = self.configured.database.as_ref().expect("a database");
        let prepared = database::prepare(server, &self.context).await.expect("the server is reached");
        let warm = self.warm(&day);
        let held = self.pause(&server.server).await;
        let (fenced, frozen) = match order {
            Order::FilesFirst => {
                let fenced = fence(warm, &held, &self.context);
                self.wait_for_uploads();
                (fenced, freeze(prepared, &held, &self.context).await)
            }
            Order::DatabaseFirst => {
                let frozen = freeze(prepared, &held, &self.context).await;
                self.wait_for_uploads();
                (fence(warm, &held, &self.context), frozen)
            }
        };
        let released = held.release().await.expect("it is released");
        let tree = tokio::task::block_in_place(|| {
            let mut records = RecordWriter::create(&day.join("files.jsonl.zst")).unwrap();
            fenced.finish(&released, &mut records, &self.context).expect("the tree is finished");
            records.finish().unwrap();
            DayTree::open(&day.join("trees/repository")).unwrap()
        });
        (released, frozen, tree)
    }

    fn warm(&self, day: &Path) -> Warm {
        let job = tree::Job {
            tree: self.configured.trees["repository"].clone(),
            target: day.join("trees/repository"),
            previous: None,
            new_base: true,
            jobs: 2,
            copy_rate: None,
            idle: false,
        };
        tokio::task::block_in_place(|| tree::warm(&job, &self.context)).expect("the tree is copied")
    }

    async fn pause(&self, server: &config::Server) -> Held {
        let state_dir = self.repository.path("state");
        let request = hold::Request {
            purpose: hold::Purpose::Backup,
            repository: NAME,
            run: 1,
            hold: &self.configured.hold,
            server: Some(server),
            state_dir: &state_dir,
            guard: Path::new(env!("CARGO_BIN_EXE_daykeep")),
        };
        hold::pause(request, &self.context).await.expect("it is held")
    }

    /// The scheduler stands still; the application does not.
    fn wait_for_uploads(&self) {
        let before = self.application.uploads();
        tokio::task::block_in_place(|| {
            self.repository
                .until("the application goes on", || self.application.uploads() >= before + u64::from(LATE));
        });
    }
}

fn fence(warm: Warm, held: &Held, context: &Context) -> tree::Fenced {
    tokio::task::block_in_place(|| warm.fence(held, context)).expect("the tree is fenced")
}

async fn freeze(prepared: Prepared, held: &Held, context: &Context) -> Frozen {
    prepared.freeze(held, context).await.expect("the snapshots are open")
}
