//! The freeze point of the databases and their dump, on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test looks at files and starts programs itself")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daykeep::clock::SystemClock;
use daykeep::config::{Database, Databases};
use daykeep::database::{Error, Frozen, directory_name, prepare};
use daykeep::event::{Context, Event, Recording};
use daykeep::manifest::{DatabaseRecord, Released, Rows, Still, TableReader, TableRecord};
use futures_util::{StreamExt as _, TryStreamExt as _};
use support::postgres::Server;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct Held;
impl Still for Held {}
struct Free;
impl Released for Free {}

/// A context that keeps what it hears.
fn context() -> (Context, Arc<Recording>) {
    let heard = Arc::new(Recording::default());
    let context = Context {
        observer: heard.clone(),
        cancel: CancellationToken::new(),
        clock: Arc::new(SystemClock::new()),
    };
    (context, heard)
}

fn notices(heard: &Recording) -> Vec<String> {
    let text = |event| if let Event::Notice { text, .. } = event { Some(text) } else { None };
    heard.events().into_iter().filter_map(text).collect()
}

fn config(server: &Server) -> Database {
    Database {
        server: server.config(),
        databases: Databases::AllBut(vec![]),
        globals: true,
        jobs: 2,
        compression: 3,
        bin_dir: Some(support::postgres::newest_bin_dir()),
        lock_timeout: Duration::from_secs(5),
    }
}

fn only(server: &Server, name: &str) -> Database {
    Database { databases: Databases::Only(vec![name.to_owned()]), ..config(server) }
}

async fn freeze(config: &Database) -> Result<Frozen, Error> {
    let (context, _) = context();
    prepare(config, &context).await?.freeze(&Held, &context).await
}

/// A whole dump into `<vault>/<day>/database`.
async fn dump_day(config: &Database, vault: &Path, day: &str, previous: Option<&str>) -> DatabaseRecord {
    let (context, _) = context();
    let mut frozen = freeze(config).await.unwrap();
    let target = vault.join(day).join("database");
    let previous = previous.map(|day| vault.join(day).join("database"));
    let record = frozen.dump(&Free, &target, previous.as_deref(), false, &context).await.unwrap();
    frozen.finish().await.unwrap();
    record
}

fn home(vault: &Path, day: &str, database: &str) -> PathBuf {
    vault.join(day).join("database").join(directory_name(database))
}

fn tables(vault: &Path, day: &str, database: &str) -> Vec<TableRecord> {
    TableReader::open(&home(vault, day, database).join("tables.jsonl"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

fn table<'a>(tables: &'a [TableRecord], name: &str) -> &'a TableRecord {
    tables.iter().find(|table| table.name == name).unwrap_or_else(|| panic!("no table {name}"))
}

/// The text of a table, put together by the zstd program as the recipe says, each stretch checked against its digest.
fn text_of(home: &Path, table: &TableRecord) -> Vec<u8> {
    let zstd = |args: &[&str]| {
        let output = Command::new("zstd").args(args).current_dir(home.join("tables")).output().unwrap();
        assert!(output.status.success(), "zstd {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let scratch = TempDir::new().unwrap();
    let mut whole = Vec::new();
    for segment in &table.segments {
        let text = match &segment.base {
            None => zstd(&["-dc", &format!("{}.zst", segment.blake3)]),
            Some(base) => {
                let path = scratch.path().join("base");
                std::fs::write(&path, zstd(&["-dc", &format!("{base}.zst")])).unwrap();
                zstd(&[
                    "-dc",
                    "--long=31",
                    &format!("--patch-from={}", path.display()),
                    &format!("{}.patch.zst", segment.blake3),
                ])
            }
        };
        assert_eq!(blake3::hash(&text).to_hex().as_str(), segment.blake3);
        assert_eq!(text.len() as u64, segment.bytes);
        whole.extend_from_slice(&text);
    }
    whole
}

/// Inode of every file below `tables`, by name.
fn inodes(home: &Path) -> BTreeMap<String, u64> {
    std::fs::read_dir(home.join("tables"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().ino()))
        .collect()
}

fn is_send<T: Send>(value: T) -> T {
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_holds_every_row_and_the_rest() {
    let server = Server::start(None);
    server.psql(
        "postgres",
        "CREATE DATABASE app; CREATE ROLE owner LOGIN PASSWORD 'secret'; ALTER DATABASE app SET work_mem = '5MB'",
    );
    server.psql(
        "app",
        "CREATE TABLE plain (id int PRIMARY KEY, gone int, name text, twice int GENERATED ALWAYS AS (id * 2) STORED);
         ALTER TABLE plain DROP COLUMN gone;
         INSERT INTO plain SELECT g, 'row ' || g FROM generate_series(1, 1000) g;
         CREATE TABLE empty (a int); CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
         CREATE TABLE parent (a int) PARTITION BY RANGE (a);
         CREATE TABLE leaf PARTITION OF parent FOR VALUES FROM (0) TO (10);
         INSERT INTO parent VALUES (1), (2);
         CREATE TABLE base (a int); CREATE TABLE child (b int) INHERITS (base); INSERT INTO child VALUES (1, 2);
         CREATE UNLOGGED TABLE quick (a int); INSERT INTO quick VALUES (7);
         CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TABLE moods (m mood) PARTITION BY HASH (m);
         CREATE TABLE moods_0 PARTITION OF moods FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         INSERT INTO moods VALUES ('ok');
         CREATE SEQUENCE s; SELECT nextval('s'); SELECT lo_create(4711);",
    );
    let vault = TempDir::new().unwrap();
    let record = is_send(dump_day(&config(&server), vault.path(), "1", None)).await;
    let names: Vec<&str> = record.databases.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["app", "postgres", "template1"]);
    let app = &record.databases[0];
    assert_eq!((app.tables, app.rest_tables, app.rows), (7, 1, 1000 + 1 + 2 + 1 + 1));
    let tables = tables(vault.path(), "1", "app");
    let home = home(vault.path(), "1", "app");
    assert_eq!(table(&tables, "plain").columns, ["id", "name"]);
    let text = String::from_utf8(text_of(&home, table(&tables, "plain"))).unwrap();
    assert!(text.starts_with("1\trow 1\n2\trow 2\n"));
    assert_eq!(text.lines().count(), 1000);
    assert_eq!(text_of(&home, table(&tables, "nothing")), b"\n");
    assert_eq!(text_of(&home, table(&tables, "child")), b"1\t2\n");
    assert_eq!(text_of(&home, table(&tables, "base")), b"");
    assert_eq!(text_of(&home, table(&tables, "leaf")), b"1\n2\n");
    let globals = std::fs::read_to_string(vault.path().join("1/database/globals.sql")).unwrap();
    assert!(globals.contains("CREATE ROLE owner") && globals.contains("SCRAM-SHA-256"));
    let recipe = std::fs::read_to_string(home.join("load.txt")).unwrap();
    assert!(recipe.contains("T COPY \"public\".\"plain\" (\"id\", \"name\") FROM stdin;\nF "), "{recipe}");
    let bytes: u64 =
        walk(&vault.path().join("1/database")).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!((record.stored_bytes, record.new_bytes), (bytes, bytes));
    assert!(record.system_identifier.is_some() && !record.wal_begin.is_empty());
}

fn walk(directory: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { [path].into() }).collect()
}
