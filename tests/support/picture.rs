//! What is compared of two servers, and days of servers that stand still.
#![allow(dead_code, reason = "every test program uses another part")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daykeep::config::{Database, Databases};
use daykeep::database::{self, DayBefore};
use daykeep::manifest::Manifest;
use tempfile::TempDir;

use super::context::{Witness, context};
use super::postgres::{Server, check, feed};

/// What is compared of a server: everything, and what pg_dumpall leaves out.
#[derive(Debug, PartialEq, Eq)]
pub struct Picture {
    pub all: String,
    pub postgres: String,
    pub template1: String,
}

pub fn picture(server: &Server) -> Picture {
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
pub fn comparable(dump: &[u8]) -> String {
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
    let text: String = lines.join(&b'\n').into_iter().map(char::from).collect();
    // pg_dump lists the roles of a policy in the order in which pg_authid has them, which every change of a role turns over.
    text.replace(" TO reader, writer USING ", " TO writer, reader USING ")
}

/// Fails with the lines that differ, not with two dumps.
pub fn assert_same(what: &str, restored: &Picture, expected: &Picture) {
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
pub struct Tablespace {
    dir: TempDir,
    made: std::cell::Cell<u32>,
}

impl Tablespace {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let tablespace = Self { dir, made: std::cell::Cell::new(0) };
        tablespace.turn();
        tablespace
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("space")
    }

    /// From now on the name means a new, empty directory.
    pub fn turn(&self) {
        self.made.set(self.made.get() + 1);
        let real = self.dir.path().join(self.made.get().to_string());
        fs::create_dir(&real).unwrap();
        if nix::unistd::geteuid().is_root() {
            check(Command::new("chown").arg("postgres").arg(&real), "chown");
        }
        self.point_to(&real);
    }

    /// From now on the name means the first directory again.
    pub fn turn_back(&self) {
        self.point_to(&self.dir.path().join("1"));
    }

    fn point_to(&self, real: &Path) {
        let _ = fs::remove_file(self.path());
        symlink(real, self.path()).unwrap();
    }
}

/// A day of the server: `vault/<day>`, with what is equal or similar taken from `previous`.
pub fn dump(server: &Server, vault: &Path, day: &str, previous: Option<&str>) -> Manifest {
    dump_by(server, server.bin_dir(), vault, day, previous)
}

/// The same by the programs of another version.
pub fn dump_by(
    server: &Server,
    programs: &Path,
    vault: &Path,
    day: &str,
    previous: Option<&str>,
) -> Manifest {
    let config = Database {
        server: server.config(),
        databases: Databases::AllBut(vec![]),
        globals: true,
        jobs: 2,
        compression: 3,
        bin_dir: Some(programs.to_owned()),
        lock_timeout: Duration::from_secs(5),
    };
    let target = vault.join(day);
    let previous = previous.map(|day| vault.join(day).join("database"));
    let digests = std::collections::BTreeMap::new();
    let previous = previous.as_deref().map(|directory| DayBefore { directory, digests: &digests });
    let context = context();
    let work = async {
        let prepared = database::prepare(&config, &context).await?;
        let mut frozen = prepared.freeze(&Witness, &context).await?;
        let target = target.join("database");
        let record = frozen.dump(&Witness, &target, previous, false, &context).await?.record;
        frozen.finish().await?;
        Ok::<_, database::Error>(record)
    };
    let record = tokio::runtime::Runtime::new().unwrap().block_on(work).expect("a dump");
    super::day::describe(&serde_json::to_value(record).unwrap(), &[], &target)
}

/// psql's complaints but for those about what every new server has.
pub fn load_dump(server: &Server, stream: &[u8], options: &str) {
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
