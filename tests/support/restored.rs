//! A repository with a day, and what was there then: for tests that damage it and bring it back.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::postgres::check;
use super::repository::{NAME, Repository};
use super::scheduler::DATABASE;
use super::state::State;

/// A scheduler that does what is queued at once.
const QUICK: [&str; 6] = ["--agent-ms", "20", "--files", "3", "--poll-ms", "50"];

const SHOP: &str = r"
    CREATE ROLE keeper LOGIN PASSWORD 'hush';
    CREATE ROLE readers; GRANT readers TO keeper;
    CREATE DATABASE shop OWNER keeper;
    ALTER DATABASE shop SET work_mem = '5MB';
    \connect shop
    CREATE SCHEMA app AUTHORIZATION keeper;
    CREATE TABLE app.item (id serial PRIMARY KEY, name text NOT NULL, price numeric CHECK (price >= 0));
    CREATE TABLE app.sale (item integer REFERENCES app.item, at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX ON app.sale (at);
    CREATE VIEW app.sold AS SELECT name, count(*) FROM app.item JOIN app.sale ON item = id GROUP BY name;
    INSERT INTO app.item (name, price) SELECT 'item ' || g, g FROM generate_series(1, 500) g;
    INSERT INTO app.sale SELECT g, '2026-11-20'::timestamptz FROM generate_series(1, 300) g;
    GRANT SELECT ON app.item TO readers;
    ALTER TABLE app.item OWNER TO keeper;";

/// A repository, a day of it, and its state then.
pub struct Kept {
    pub repository: Repository,
    pub day: String,
    pub then: State,
}

impl Kept {
    /// With two databases, roles, and files of every kind.
    pub fn new() -> Self {
        let repository = Repository::new(&QUICK, "");
        repository.fossology.server.psql("postgres", SHOP);
        odd_files(&repository.fossology.sysconf());
        Self::of(repository)
    }

    /// With what is there.
    pub fn of(repository: Repository) -> Self {
        repository.until("nothing is queued", || {
            let left = "SELECT count(*) FROM jobqueue WHERE jq_endtime IS NULL";
            repository.fossology.server.psql(DATABASE, left) == "0"
                && repository.fossology.agents().is_empty()
        });
        let day = repository.run();
        repository.wait_until_released();
        let then = now(&repository);
        Self { repository, day, then }
    }

    /// What is there now.
    pub fn now(&self) -> State {
        now(&self.repository)
    }

    /// `daykeep restore fossology ...`
    pub fn restore(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("daykeep starts")
    }

    /// The same, not started yet. Nobody is there to be asked whether a restore is to be ended.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let ends = arguments.iter().any(|argument| ["--undo", "--confirm"].contains(argument));
        let agreed: &[&str] = if ends && !arguments.contains(&"--yes") { &["--yes"] } else { &[] };
        self.repository.daykeep(&[&["restore", NAME], arguments, agreed].concat())
    }

    /// A restore of the day that must succeed.
    #[track_caller]
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.restore(arguments);
        assert!(output.status.success(), "restore {arguments:?}: {}", self.repository.told(&output));
        said(&output)
    }

    /// A restore that must be refused in these words, with this code.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str], code: i32, words: &str) -> String {
        let output = self.restore(arguments);
        assert_eq!(output.status.code(), Some(code), "{}", self.repository.told(&output));
        assert!(said(&output).contains(words), "no {words:?} in: {}", said(&output));
        said(&output)
    }

    /// Where the day is.
    pub fn day_dir(&self) -> PathBuf {
        self.repository.days_dir().join(&self.day)
    }

    /// The trees.
    pub fn trees(&self) -> [PathBuf; 2] {
        [self.repository.fossology.repository(), self.repository.fossology.sysconf()]
    }

    /// A bad day: rows, a table, a database and a role go, files go, change and come.
    pub fn damage(&self) -> State {
        let server = &self.repository.fossology.server;
        server.psql(
            DATABASE,
            "DELETE FROM uploadtree; DELETE FROM ununpack_ars; CREATE TABLE intruder (a int)",
        );
        if server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'shop'") == "1" {
            server.psql("postgres", "DROP DATABASE shop; ALTER ROLE readers CREATEDB");
        }
        let [files, etc] = self.trees();
        let mut found = check(Command::new("find").arg(&files).args(["-type", "f"]), "find");
        found.pop();
        let mut found: Vec<PathBuf> =
            found.split(|byte| *byte == b'\n').map(|path| OsStr::from_bytes(path).into()).collect();
        found.sort();
        for (number, path) in found.iter().enumerate() {
            match number % 3 {
                0 => fs::remove_file(path).unwrap(),
                1 => {
                    fs::remove_file(path).unwrap();
                    fs::write(path, "not what it was").unwrap();
                }
                _ => {}
            }
        }
        fs::create_dir_all(files.join("intruder/deep")).unwrap();
        fs::write(files.join("intruder/deep/file"), "x").unwrap();
        fs::write(etc.join("fossology.conf"), "[FOSSOLOGY]\ndepth=4\n").unwrap();
        fs::set_permissions(&etc, fs::Permissions::from_mode(0o700)).unwrap();
        self.now()
    }

    /// Nothing of a restore is left.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_nothing_left(&self.repository);
    }
}

/// Nothing of a restore is left: no database, role or directory of its own, no record, no hold, no process.
#[track_caller]
pub fn assert_nothing_left(repository: &Repository) {
    let server = &repository.fossology.server;
    let databases = "SELECT string_agg(datname, ', ') FROM pg_database WHERE datname LIKE 'daykeep%'";
    assert_eq!(server.psql("postgres", databases), "", "databases are left");
    let found = check(Command::new("find").arg(repository.path("")).args(["-name", ".daykeep-*"]), "find");
    assert_eq!(String::from_utf8_lossy(&found), "", "directories are left");
    let state = repository.path("state").join(NAME);
    let mut names: Vec<_> =
        fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let stays = ["jobs", "hold.lock", "guard.lock", "restore.lock", "schedule.json", ".hold.json.new"];
    names.retain(|name| !stays.contains(&name.as_str()));
    assert!(names.is_empty(), "records are left: {names:?}");
    assert_eq!(repository.guards(), Vec::<i32>::new(), "guards are left");
}

fn now(repository: &Repository) -> State {
    let fossology = &repository.fossology;
    State::of(&fossology.server, &[&fossology.repository(), &fossology.sysconf()])
}

/// All that a call said.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// Files of every kind that a tree may have.
fn odd_files(root: &Path) {
    let dir = root.join("dir with space");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("a"), "content").unwrap();
    fs::hard_link(dir.join("a"), root.join("b")).unwrap();
    symlink("dir with space/a", root.join("link")).unwrap();
    symlink("/nowhere", root.join("dangling")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"caf\xe9\n'\"\\")), "odd").unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(8 * 1024 * 1024).unwrap();
    fs::set_permissions(root.join("sparse"), fs::Permissions::from_mode(0o4751)).unwrap();
    filetime::set_file_mtime(root.join("sparse"), filetime::FileTime::from_unix_time(-5, 123_456_789))
        .unwrap();
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o640)).unwrap();
    let _ = xattr::set(root.join("b"), "user.note", b"kept");
    let _ = Command::new("setfacl").args(["-m", "u:daemon:rw", "-m", "d:u:daemon:r"]).arg(&dir).status();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(root.join("dir with space/a"), Some(1), Some(2)).unwrap();
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o710)).unwrap();
    filetime::set_file_mtime(root, filetime::FileTime::from_unix_time(1_000_000_000, 5)).unwrap();
}
