//! A day restored is the server that `pg_dumpall | psql` would have made: both are dumped again and compared.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use daykeep::database;
use daykeep::manifest::Manifest;
use support::context::context;
use support::picture::{Tablespace, assert_same, dump, load_dump, picture};
use support::postgres::{Server, check, feed};

fn exported(day: &Path, manifest: &Manifest, bin_dir: &Path) -> Vec<u8> {
    let mut stream = Vec::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let context = context();
    let export = database::export(day, manifest, Some(bin_dir), None, &mut stream, &context);
    runtime.block_on(export).expect("an export");
    stream
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
        load_dump(&server, &dumpall, "-c default_transaction_read_only=off");
        picture(&server)
    };
    // pg_dumpall forgets these; a day does not.
    expected.postgres = source.postgres;
    expected.template1 = source.template1;
    let by_export = {
        let server = fresh();
        load_dump(&server, &exported(&day, &manifest, server.bin_dir()), "");
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
