//! A day restored is the server that `pg_dumpall | psql` would have made: both are dumped again and compared.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use daykeep::clock::SystemClock;
use daykeep::config::{Database, Databases};
use daykeep::database;
use daykeep::event::{Context, Silent};
use daykeep::manifest::{Manifest, Released, Still};
use support::postgres::{Server, check, feed};
use tempfile::TempDir;

/// Nothing writes to the servers here: they stand still and are free at any time.
struct Quiet;
impl Still for Quiet {}
impl Released for Quiet {}

/// What is compared of a server: everything, and what pg_dumpall leaves out.
#[derive(Debug, PartialEq, Eq)]
struct Picture {
    all: String,
    postgres: String,
    template1: String,
}

fn picture(server: &Server) -> Picture {
    let dump = |program: &str, args: &[&str]| {
        let dumped = check(server.client(program).arg("--restrict-key=x").args(args), program);
        comparable(&dumped)
    };
    let properties = ["--create", "--schema-only", "--dbname"];
    Picture {
        all: dump("pg_dumpall", &[]),
        postgres: dump("pg_dump", &[properties.as_slice(), &["postgres"]].concat()),
        template1: dump("pg_dump", &[properties.as_slice(), &["template1"]].concat()),
    }
}

/// Without the versions, and with the rows at the end, sorted, each behind its COPY: their order means nothing, and below hash
/// partitioning by an enum neither does the partition (it depends on OIDs; the COPY is the root's for each of them). A byte
/// becomes one letter, so that what is no UTF-8 is compared too.
fn comparable(dump: &[u8]) -> String {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut rows: Vec<[&[u8]; 2]> = Vec::new();
    let mut table: Option<&[u8]> = None;
    for line in dump.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"-- Dumped ")) {
        match table {
            Some(_) if line == b"\\." => table = None,
            Some(table) => rows.push([table, line]),
            None => {
                kept.push(line);
                table = (line.starts_with(b"COPY ") && line.ends_with(b" FROM stdin;")).then_some(line);
            }
        }
    }
    rows.sort_unstable();
    let rows = rows.iter().map(|row| row.join(&b'\t'));
    let lines: Vec<Vec<u8>> = kept.into_iter().map(<[u8]>::to_vec).chain(rows).collect();
    lines.join(&b'\n').into_iter().map(char::from).collect()
}

/// Fails with the lines that differ, not with two dumps.
fn assert_same(what: &str, restored: &Picture, expected: &Picture) {
    let parts = [
        ("pg_dumpall", &restored.all, &expected.all),
        ("postgres", &restored.postgres, &expected.postgres),
        ("template1", &restored.template1, &expected.template1),
    ];
    for (part, restored, expected) in parts {
        if restored == expected {
            continue;
        }
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("expected"), expected).unwrap();
        fs::write(scratch.path().join(what), restored).unwrap();
        let diff =
            Command::new("diff").args(["-u", "expected", what]).current_dir(scratch.path()).output().unwrap();
        let diff = String::from_utf8_lossy(&diff.stdout).into_owned();
        panic!("{what}: {part} differs:\n{}", diff.chars().take(6000).collect::<String>());
    }
}

/// A directory for tablespaces that is another one for each server, under the same name: two servers cannot share one.
struct Tablespace {
    dir: TempDir,
    made: std::cell::Cell<u32>,
}

impl Tablespace {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let tablespace = Self { dir, made: std::cell::Cell::new(0) };
        tablespace.turn();
        tablespace
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("space")
    }

    /// From now on the name means a new, empty directory.
    fn turn(&self) {
        self.made.set(self.made.get() + 1);
        let real = self.dir.path().join(self.made.get().to_string());
        fs::create_dir(&real).unwrap();
        if nix::unistd::geteuid().is_root() {
            check(Command::new("chown").arg("postgres").arg(&real), "chown");
        }
        let _ = fs::remove_file(self.path());
        symlink(&real, self.path()).unwrap();
    }
}

fn context() -> Context {
    Context {
        observer: Arc::new(Silent),
        cancel: tokio_util::sync::CancellationToken::new(),
        clock: Arc::new(SystemClock::new()),
    }
}

/// A day of the server: `vault/<day>`, with what is equal or similar taken from `previous`.
fn dump(server: &Server, vault: &Path, day: &str, previous: Option<&str>) -> Manifest {
    let config = Database {
        server: server.config(),
        databases: Databases::AllBut(vec![]),
        globals: true,
        jobs: 2,
        compression: 3,
        bin_dir: Some(server.bin_dir().to_owned()),
        lock_timeout: Duration::from_secs(5),
    };
    let target = vault.join(day);
    let previous = previous.map(|day| vault.join(day).join("database"));
    let context = context();
    let work = async {
        let prepared = database::prepare(&config, &context).await?;
        let mut frozen = prepared.freeze(&Quiet, &context).await?;
        let target = target.join("database");
        let record = frozen.dump(&Quiet, &target, previous.as_deref(), false, &context).await?.record;
        frozen.finish().await?;
        Ok::<_, database::Error>(record)
    };
    let record = tokio::runtime::Runtime::new().unwrap().block_on(work).expect("a dump");
    support::day::describe(&serde_json::to_value(record).unwrap(), &[], &target)
}

fn exported(day: &Path, manifest: &Manifest, bin_dir: &Path) -> Vec<u8> {
    let mut stream = Vec::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let context = context();
    let export = database::export(day, manifest, Some(bin_dir), None, &mut stream, &context);
    runtime.block_on(export).expect("an export");
    stream
}

/// psql's complaints but for those about what every new server has.
fn load(server: &Server, stream: &[u8], options: &str) {
    let mut psql = server.client("psql");
    let output = feed(psql.args(["-X", "-q", "-f", "-", "postgres"]).env("PGOPTIONS", options), stream);
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("rror:") || line.contains("ERROR:") || line.contains("FATAL:"))
        .filter(|line| !line.ends_with("ERROR:  role \"postgres\" already exists"))
        .take(8)
        .collect();
    assert!(output.status.success() && complaints.is_empty(), "{complaints:#?}");
}

fn restore_by_hand(server: &Server, day: &Path) {
    let path = format!("{}:{}", server.bin_dir().display(), std::env::var("PATH").unwrap());
    let mut script = Command::new(day.join("restore.sh"));
    script.args(["--only", "database", "--jobs", "2"]).envs(server.environment()).env("PATH", path);
    let output = script.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", server.log());
    assert!(!said.contains("warning"), "{said}");
}

fn load_lists(day: &Path) -> Vec<PathBuf> {
    let databases = fs::read_dir(day.join("database")).unwrap();
    databases.map(|entry| entry.unwrap().path().join("load.txt")).filter(|path| path.exists()).collect()
}

/// Makes a server with `fill`, a day of it, changes it with `change`, makes the next day of it and pg_dumpall's dump of it, and
/// restores all three ways.
fn prove(major: u32, tablespace: &Tablespace, fill: impl FnOnce(&Server), change: impl FnOnce(&Server)) {
    let vault = tempfile::tempdir().unwrap();
    let day = vault.path().join("day2");
    let (manifest, dumpall, source) = {
        let server = Server::start(major);
        fill(&server);
        dump(&server, vault.path(), "day1", None);
        change(&server);
        let manifest = dump(&server, vault.path(), "day2", Some("day1"));
        let dumpall = check(server.client("pg_dumpall").arg("--restrict-key=x"), "pg_dumpall");
        (manifest, dumpall, picture(&server))
    };
    let load_lists = check(Command::new("cat").args(load_lists(&day)), "cat");
    let patches = load_lists.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"P ")).count();
    assert!(patches > 0, "the second day has no patch: nothing of them is tested");
    let fresh = || {
        tablespace.turn();
        Server::start(major)
    };
    let mut expected = {
        let server = fresh();
        // pg_dumpall's own dump of a database that is read only by default needs this; a day's does not.
        load(&server, &dumpall, "-c default_transaction_read_only=off");
        picture(&server)
    };
    // pg_dumpall forgets these; a day does not.
    expected.postgres = source.postgres;
    expected.template1 = source.template1;
    let by_export = {
        let server = fresh();
        load(&server, &exported(&day, &manifest, server.bin_dir()), "");
        picture(&server)
    };
    assert_same("export", &by_export, &expected);
    let by_hand = {
        let server = fresh();
        restore_by_hand(&server, &day);
        picture(&server)
    };
    assert_same("restore.sh", &by_hand, &expected);
}

fn nasty(major: u32) {
    let tablespace = Tablespace::new();
    let sql =
        include_str!("sql/nasty.sql").replace("{{TABLESPACE}}", &tablespace.path().display().to_string());
    let fill = |server: &Server| {
        server.psql("postgres", &sql);
    };
    let change = |server: &Server| {
        server.psql(
            "shop",
            "SET default_transaction_read_only = off; UPDATE churned SET body = body || '!' WHERE id % 100 = 1;
             INSERT INTO shop.vals (a_text) VALUES ('new'); DELETE FROM far WHERE a = 17; DROP TABLE loose;
             CREATE TABLE new_table AS SELECT * FROM far; ALTER TABLE parent RENAME TO renamed_parent;
             TRUNCATE one_text; SELECT setval('shop.seq', 7)",
        );
    };
    prove(major, &tablespace, fill, change);
}

fn zabbix(major: u32) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/zabbix");
    let fill = |server: &Server| {
        server.psql("postgres", "CREATE ROLE zabbix; CREATE DATABASE zabbix OWNER zabbix");
        for part in ["schema", "images", "data"] {
            let path = dir.join(format!("{part}.sql.gz"));
            assert!(path.exists(), "Zabbix's schema is not on this machine: run tests/servers.sh");
            let sql = check(Command::new("gzip").arg("-dc").arg(path), "gzip");
            let output =
                feed(server.client("psql").args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "zabbix"]), &sql);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    };
    let change = |server: &Server| {
        server.psql(
            "zabbix",
            "UPDATE items SET delay = '17s' WHERE itemid % 50 = 0; DELETE FROM images WHERE imageid = 1",
        );
    };
    prove(major, &Tablespace::new(), fill, change);
}

#[test]
fn the_nastiest_schema_on_15() {
    nasty(15);
}

#[test]
fn the_nastiest_schema_on_18() {
    nasty(18);
}

#[test]
fn a_real_schema_on_15() {
    zabbix(15);
}

#[test]
fn a_real_schema_on_18() {
    zabbix(18);
}
