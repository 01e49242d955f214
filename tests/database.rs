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

use daykeep::config::{Database, Databases};
use daykeep::database::{DayBefore, Error, Frozen, directory_name, prepare};
use daykeep::event::Event;
use daykeep::manifest::{DatabaseRecord, Released, Rows, Still, TableReader, TableRecord};
use futures_util::TryStreamExt as _;
use support::context::{context, notices, recorded};
use support::postgres::Server;
use tempfile::TempDir;

struct Held;
impl Still for Held {}
struct Free;
impl Released for Free {}

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
    let context = context();
    prepare(config, &context).await?.freeze(&Held, &context).await
}

/// What a sealed day knows of its files.
struct Sealed {
    directory: PathBuf,
    digests: BTreeMap<String, String>,
}

impl Sealed {
    fn of(day: &Path) -> Self {
        let digest = |path: &PathBuf| blake3::hash(&std::fs::read(path).unwrap()).to_hex().to_string();
        let name = |path: &PathBuf| path.strip_prefix(day).unwrap().to_str().unwrap().to_owned();
        let digests = walk(day).iter().map(|path| (name(path), digest(path))).collect();
        Self { directory: day.join("database"), digests }
    }

    fn day_before(&self) -> DayBefore<'_> {
        DayBefore { directory: &self.directory, digests: &self.digests }
    }
}

/// A whole dump into `<vault>/<day>/database`.
async fn dump_day(config: &Database, vault: &Path, day: &str, previous: Option<&str>) -> DatabaseRecord {
    let context = context();
    let mut frozen = freeze(config).await.unwrap();
    let target = vault.join(day).join("database");
    let previous = previous.map(|day| Sealed::of(&vault.join(day)));
    let previous = previous.as_ref().map(Sealed::day_before);
    let record = frozen.dump(&Free, &target, previous, false, &context).await.unwrap().record;
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

fn lines(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).lines().count()
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

/// Rows whose text is about 100 bytes each and does not compress away.
fn fill(server: &Server, database: &str, table: &str, rows: u32) {
    server.psql(
        database,
        &format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, v int NOT NULL, pad text NOT NULL) WITH (fillfactor = 80);
             INSERT INTO {table} SELECT g, 0, md5(g::text) || md5((g + 1)::text) FROM generate_series(1, {rows}) g"
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_day_is_links_and_a_changed_one_is_patches_of_depth_one() {
    let server = Server::start(None);
    server.psql("postgres", "CREATE DATABASE app");
    fill(&server, "app", "big", 300_000);
    fill(&server, "app", "small", 100);
    server.psql("app", "VACUUM FREEZE");
    let vault = TempDir::new().unwrap();
    let config = only(&server, "app");
    let first = dump_day(&config, vault.path(), "1", None).await;
    let cuts = table(&tables(vault.path(), "1", "app"), "big").segments.len();
    assert!(cuts >= 3, "{cuts} segments");

    let second = dump_day(&config, vault.path(), "2", Some("1")).await;
    let home_of = |day: &str| home(vault.path(), day, "app");
    assert_eq!(inodes(&home_of("2")), inodes(&home_of("1")), "every file is a link");
    let beside = |day: &str| -> u64 {
        let names = ["rest.dump", "tables.jsonl", "load.txt"].map(|name| home_of(day).join(name));
        let globals = vault.path().join(day).join("database/globals.sql");
        names.iter().chain([&globals]).map(|path| path.metadata().unwrap().len()).sum()
    };
    assert_eq!(second.new_bytes, beside("2"));
    assert_eq!(second.stored_bytes, first.stored_bytes - beside("1") + beside("2"));

    for day in 3..=5 {
        server.psql("app", &format!("UPDATE big SET v = v + 1 WHERE id % 100 = {day}"));
        let (now, before) = (day.to_string(), (day - 1).to_string());
        let record = dump_day(&config, vault.path(), &now, Some(&before)).await;
        let new = record.new_bytes - beside(&now);
        assert!(new * 5 < first.stored_bytes, "day {day}: {new} of {}", first.stored_bytes);
        let tables = tables(vault.path(), &now, "app");
        let big = table(&tables, "big");
        assert!(big.segments.iter().filter(|segment| segment.base.is_some()).count() >= 3);
        let files = inodes(&home_of(&now));
        for base in big.segments.iter().filter_map(|segment| segment.base.as_ref()) {
            assert_eq!(files[&format!("{base}.zst")], inodes(&home_of("1"))[&format!("{base}.zst")]);
        }
        let text = String::from_utf8(text_of(&home_of(&now), big)).unwrap();
        assert_eq!(text.lines().count(), 300_000);
        let sum: u64 =
            text.lines().map(|line| line.split('\t').nth(1).unwrap().parse::<u64>().unwrap()).sum();
        assert_eq!(sum, 3000 * (day - 2));
        assert!(table(&tables, "small").segments.iter().all(|segment| segment.base.is_none()));
    }
    // A linked patch brings its base along.
    dump_day(&config, vault.path(), "6", Some("5")).await;
    assert_eq!(inodes(&home_of("6")), inodes(&home_of("5")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_base_shares_no_inode_and_leftovers_go() {
    let server = Server::start(None);
    fill(&server, "postgres", "t", 1000);
    let vault = TempDir::new().unwrap();
    let config = only(&server, "postgres");
    dump_day(&config, vault.path(), "1", None).await;
    let target = vault.path().join("2/database");
    std::fs::create_dir_all(target.join("postgres/tables")).unwrap();
    for name in ["globals.sql", "postgres/rest.dump", "postgres/tables/.long-0", "postgres/load.txt"] {
        std::fs::write(target.join(name), "half").unwrap();
    }
    let context = context();
    let mut frozen = freeze(&config).await.unwrap();
    let previous = Sealed::of(&vault.path().join("1"));
    frozen.dump(&Free, &target, Some(previous.day_before()), true, &context).await.unwrap();
    let inodes = |day: &str| -> BTreeSet<u64> {
        walk(&vault.path().join(day)).iter().map(|path| path.metadata().unwrap().ino()).collect()
    };
    assert!(inodes("1").is_disjoint(&inodes("2")));
    assert!(!target.join("postgres/tables/.long-0").exists());
    let modes = walk(&target).into_iter().map(|path| path.metadata().unwrap().mode() & 0o777);
    assert!(modes.into_iter().all(|mode| mode == 0o600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_day_before_is_told_and_not_linked() {
    let server = Server::start(None);
    fill(&server, "postgres", "t", 1000);
    fill(&server, "postgres", "u", 2000);
    let vault = TempDir::new().unwrap();
    let config = only(&server, "postgres");
    dump_day(&config, vault.path(), "1", None).await;
    let before = tables(vault.path(), "1", "postgres");
    let sealed = Sealed::of(&vault.path().join("1"));
    let unknown = Sealed { digests: BTreeMap::new(), ..Sealed::of(&vault.path().join("1")) };
    let tables_dir = home(vault.path(), "1", "postgres").join("tables");
    let (damaged, gone) = (&table(&before, "t").segments[0].blake3, &table(&before, "u").segments[0].blake3);
    let path = tables_dir.join(format!("{damaged}.zst"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_file(tables_dir.join(format!("{gone}.zst"))).unwrap();
    for (day, previous) in [("2", sealed), ("3", unknown)] {
        let (context, heard) = recorded();
        let mut frozen = freeze(&config).await.unwrap();
        let target = vault.path().join(day).join("database");
        frozen.dump(&Free, &target, Some(previous.day_before()), false, &context).await.unwrap();
        let after = tables(vault.path(), day, "postgres");
        let home = home(vault.path(), day, "postgres");
        assert_eq!(lines(&text_of(&home, table(&after, "t"))), 1000);
        assert_eq!(lines(&text_of(&home, table(&after, "u"))), 2000);
        let told = notices(&heard);
        assert!(told.iter().any(|text| text.contains(damaged) && text.contains("is damaged")), "{told:?}");
        assert!(told.iter().any(|text| text.contains(gone) && text.contains("it is not there")), "{told:?}");
        assert_eq!(
            told.iter().any(|text| text.contains("not the file that was sealed")),
            day == "2",
            "{told:?}"
        );
    }
}

/// Runs SQL over and over, each on its own connection and with a pause in milliseconds.
struct Hammer {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<u64>>,
}

impl Hammer {
    fn start(server: &Server, database: &str, statements: &[(&str, u64)]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = statements
            .iter()
            .map(|(sql, pause)| {
                let (stop, sql, pause) = (stop.clone(), (*sql).to_owned(), Duration::from_millis(*pause));
                let connection = server.connection_string(database);
                std::thread::spawn(move || hammer(&connection, &sql, pause, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// How often the statements ran.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

fn hammer(connection: &str, sql: &str, pause: Duration, stop: &AtomicBool) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, driver) = tokio_postgres::connect(connection, tokio_postgres::NoTls).await.unwrap();
        let driver = tokio::spawn(driver);
        let mut times = 0;
        while !stop.load(Ordering::Relaxed) {
            client.batch_execute(sql).await.unwrap();
            times += 1;
            tokio::time::sleep(pause).await;
        }
        drop(client);
        driver.await.unwrap().unwrap();
        times
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_is_one_instant_while_writers_hammer() {
    let server = Server::start(None);
    server.psql(
        "postgres",
        "CREATE TABLE a (id int PRIMARY KEY, v bigint); INSERT INTO a SELECT g, 100 FROM generate_series(1, 500) g;
         CREATE TABLE b (id int PRIMARY KEY, v bigint); INSERT INTO b SELECT g, 100 FROM generate_series(1, 500) g;
         CREATE TABLE refilled (a int); INSERT INTO refilled SELECT generate_series(1, 1000);
         CREATE TABLE altered (a int); INSERT INTO altered VALUES (1)",
    );
    let transfer = "BEGIN; UPDATE a SET v = v - 7 WHERE id = (SELECT (random() * 499)::int + 1);
         UPDATE b SET v = v + 7 WHERE id = (SELECT (random() * 499)::int + 1); COMMIT";
    let refill = "BEGIN; TRUNCATE refilled; INSERT INTO refilled SELECT generate_series(1, 1000); COMMIT";
    let alter = "BEGIN; ALTER TABLE altered ADD COLUMN x int DEFAULT 5; COMMIT;
         BEGIN; ALTER TABLE altered DROP COLUMN x; COMMIT";
    let create = "CREATE TABLE passing (a int); DROP TABLE passing";
    let statements = [(transfer, 1), (refill, 300), (alter, 400), (create, 500)];
    let hammer = Hammer::start(&server, "postgres", &statements);
    let vault = TempDir::new().unwrap();
    let config = only(&server, "postgres");
    for day in 1..=8 {
        let day = day.to_string();
        dump_day(&config, vault.path(), &day, None).await;
        let tables = tables(vault.path(), &day, "postgres");
        let home = home(vault.path(), &day, "postgres");
        let sum = |name: &str| -> i64 {
            let text = String::from_utf8(text_of(&home, table(&tables, name))).unwrap();
            text.lines().map(|line| line.split('\t').nth(1).unwrap().parse::<i64>().unwrap()).sum()
        };
        assert_eq!(sum("a") + sum("b"), 100_000, "day {day}");
        assert_eq!(table(&tables, "refilled").rows.count, 1000, "day {day}");
        let altered = table(&tables, "altered");
        let text = String::from_utf8(text_of(&home, altered)).unwrap();
        assert_eq!(text, if altered.columns.len() == 2 { "1\t5\n" } else { "1\n" });
    }
    assert!(hammer.stop() > 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_from_the_snapshot_before_and_after_the_dump() {
    let server = Server::start(None);
    server.psql("postgres", "CREATE TABLE t (a int, n text); INSERT INTO t VALUES (1, 'é'), (2, 'two')");
    let mut frozen = freeze(&only(&server, "postgres")).await.unwrap();
    server.psql("postgres", "DELETE FROM t");
    let count = async |frozen: &Frozen| -> Vec<String> {
        let rows = frozen.rows("postgres", "SELECT n FROM t ORDER BY a").await.unwrap();
        rows.map_ok(|row| row.get(0)).try_collect().await.unwrap()
    };
    assert_eq!(count(&frozen).await, ["é", "two"]);
    let refused = frozen.rows("postgres", "SELECT nonsense").await.err().unwrap().to_string();
    assert!(refused.contains("cannot run the query of a check: ERROR: column \"nonsense\""), "{refused}");
    let refused =
        frozen.rows("postgres", "DELETE FROM t RETURNING a").await.unwrap().try_collect::<Vec<_>>().await;
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("read-only transaction"), "{refused}");
    assert!(frozen.rows("other", "SELECT 1").await.is_err());
    let vault = TempDir::new().unwrap();
    let (context, heard) = recorded();
    let target = vault.path().join("1/database");
    let record = frozen.dump(&Free, &target, None, false, &context).await.unwrap().record;
    assert_eq!(record.databases[0].rows, 2);
    assert_eq!(count(&frozen).await, ["é", "two"]);
    assert!(
        heard.events().iter().any(|event| matches!(event, Event::Progress { current, .. } if *current > 0))
    );
    frozen.finish().await.unwrap();
    no_session_is_left(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_fails_the_run() {
    let server = Server::start(None);
    fill(&server, "postgres", "t", 1000);
    let vault = TempDir::new().unwrap();
    let config = only(&server, "postgres");
    for (victim, said) in [
        (
            "application_name = 'daykeep' AND backend_xmin IS NOT NULL",
            "the session that holds the snapshot was lost",
        ),
        ("application_name LIKE 'daykeep rest%'", "pg_dump"),
    ] {
        fill(&server, "postgres", "t_more", 10);
        let context = context();
        let mut frozen = freeze(&config).await.unwrap();
        // pg_dump may have ended its reading already, with a day this small: the keeper never has.
        let killed = server.psql(
            "postgres",
            &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {victim}"),
        );
        let outcome = frozen.dump(&Free, &vault.path().join("1/database"), None, false, &context).await;
        if killed.contains('t') {
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains("database \"postgres\"") && error.contains(said), "{error}");
        }
        drop(frozen);
        server.psql("postgres", "DROP TABLE t_more");
    }
    let mut server = server;
    let context = context();
    let mut frozen = freeze(&config).await.unwrap();
    server.stop_immediately();
    let error =
        frozen.dump(&Free, &vault.path().join("1/database"), None, false, &context).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. } | Error::Program { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_before_the_hold() {
    let server = Server::start(None);
    server.psql(
        "postgres",
        "CREATE DATABASE app; CREATE ROLE poor LOGIN; CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader;
         CREATE ROLE granted LOGIN",
    );
    server.psql(
        "app",
        "CREATE TABLE secret (a int); CREATE SEQUENCE s; GRANT SELECT ON ALL TABLES IN SCHEMA public TO granted;
         GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO granted",
    );
    let (context, heard) = recorded();
    let said = async |config: &Database| prepare(config, &context).await.map(|_| ()).unwrap_err().to_string();
    let as_role = |role: &str| {
        let mut config = only(&server, "app");
        config.server.user = Some(role.to_owned());
        config
    };
    assert_eq!(
        said(&as_role("poor")).await,
        "role \"poor\" may not read sequence public.s in database \"app\"; grant it pg_read_all_data (and BYPASSRLS) or use a \
         superuser"
    );
    let nobody = said(&as_role("nobody")).await;
    assert!(
        nobody.contains("as \"nobody\": FATAL: role \"nobody\" does not exist (SQLSTATE 28000)"),
        "{nobody}"
    );
    let missing = said(&only(&server, "missing")).await;
    assert_eq!(missing, "there is no database \"missing\" on the server; it has postgres, app, template1");

    let vault = TempDir::new().unwrap();
    dump_day(&as_role("reader"), vault.path(), "1", None).await;
    dump_day(&as_role("granted"), vault.path(), "2", None).await;
    let prepared = prepare(&as_role("granted"), &context).await.unwrap();
    assert!(prepared.report().warnings[0].contains("without their passwords"));
    assert_eq!(notices(&heard), prepared.report().warnings);
    server.psql("app", "ALTER TABLE secret ENABLE ROW LEVEL SECURITY");
    let hidden = said(&as_role("reader")).await;
    assert!(hidden.contains("may not read every row (row security) of table public.secret"), "{hidden}");

    let old = TempDir::new().unwrap();
    for name in ["pg_dump", "pg_dumpall", "pg_restore"] {
        let path = old.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{name} (PostgreSQL) 12.22'\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let major = server.major();
    let error = said(&Database { bin_dir: Some(old.path().to_owned()), ..config(&server) }).await;
    assert_eq!(
        error,
        format!(
            "the newest pg_dump is {}/pg_dump of version 12.22, but the server has version {major}; install the client programs \
             of version {major}",
            old.path().display()
        )
    );
    let empty = TempDir::new().unwrap();
    let error = said(&Database { bin_dir: Some(empty.path().to_owned()), ..config(&server) }).await;
    assert!(error.starts_with("cannot find pg_dump (looked in "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocker_is_named_and_the_lock_given_up() {
    let server = Server::start(None);
    server.psql("postgres", "CREATE TABLE t (a int)");
    let (client, driver) =
        tokio_postgres::connect(&server.connection_string("postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(driver);
    client.batch_execute("BEGIN; ALTER TABLE t ADD COLUMN b int").await.unwrap();
    let config = Database { lock_timeout: Duration::from_millis(600), ..only(&server, "postgres") };
    let error = freeze(&config).await.unwrap_err().to_string();
    let pid = server
        .psql("postgres", "SELECT pid FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted LIMIT 1");
    assert_eq!(
        error,
        format!(
            "database \"postgres\": a table stayed locked for more than 600ms (lock_timeout); blocked by pid {pid} of postgres \
             (idle in transaction): BEGIN; ALTER TABLE t ADD COLUMN b int"
        )
    );
    client.batch_execute("COMMIT").await.unwrap();
    freeze(&config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_encoding_and_every_name_comes_through() {
    let server = Server::start(None);
    let odd = "odd\n\"name\"\t%s \\ 'é'";
    let quoted = odd.replace('"', "\"\"");
    server.psql(
        "postgres",
        &format!(
            "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
             CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0; CREATE DATABASE \"{quoted}\""
        ),
    );
    server.psql("ascii", "CREATE TABLE raw (t text); INSERT INTO raw VALUES (E'caf\\xE9'), ('plain')");
    server.psql(
        "latin",
        "SET client_encoding = 'UTF8'; CREATE TABLE \"tisch\" (\"größe\" text); INSERT INTO tisch VALUES ('é');
         CREATE TABLE \"käse\" (a text); INSERT INTO \"käse\" VALUES ('ü')",
    );
    server.psql(
        odd,
        &format!(
            "CREATE SCHEMA \"{quoted}\"; CREATE TABLE \"{quoted}\".\"{quoted}\" (\"{quoted}\" int);
             INSERT INTO \"{quoted}\".\"{quoted}\" VALUES (42)"
        ),
    );
    let vault = TempDir::new().unwrap();
    let record = dump_day(&config(&server), vault.path(), "1", None).await;
    let of = |database: &str, name: &str| {
        let tables = tables(vault.path(), "1", database);
        text_of(&home(vault.path(), "1", database), table(&tables, name))
    };
    assert_eq!(of("ascii", "raw"), b"caf\xE9\nplain\n");
    assert_eq!(of("latin", "tisch"), b"\xE9\n");
    assert_eq!(of(odd, odd), b"42\n");
    let latin = record.databases.iter().find(|entry| entry.name == "latin").unwrap();
    assert_eq!(
        (latin.tables, latin.rest_tables),
        (1, 1),
        "pg_dump keeps what it cannot be told to leave out"
    );
    let recipe = std::fs::read_to_string(home(vault.path(), "1", odd).join("load.txt")).unwrap();
    let name = r#"U&"odd\000A""name""\0009%s \\ 'é'""#;
    assert!(recipe.starts_with(&format!("T COPY {name}.{name} ({name}) FROM stdin;\nF ")), "{recipe}");
    let recipe = std::fs::read_to_string(home(vault.path(), "1", "latin").join("load.txt")).unwrap();
    assert!(recipe.starts_with(r#"T COPY "public"."tisch" (U&"gr\00F6\00DFe") FROM stdin;"#), "{recipe}");
}

/// In a SQL_ASCII database a name is any bytes.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_utf_8_are_left_to_pg_dump() {
    let server = Server::start(None);
    server.psql("postgres", "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
    let make = "DO $$ BEGIN EXECUTE 'CREATE TABLE caf' || chr(233) || '(a int)';
                  EXECUTE 'INSERT INTO caf' || chr(233) || ' VALUES (4711)';
                  EXECUTE 'CREATE TABLE odd_column (t' || chr(228) || ' int)'; END $$;
                INSERT INTO odd_column VALUES (4712); CREATE TABLE plain (a int); INSERT INTO plain VALUES (4713)";
    server.psql("ascii", make);
    let vault = TempDir::new().unwrap();
    let record = dump_day(&only(&server, "ascii"), vault.path(), "1", None).await;
    let entry = &record.databases[0];
    assert_eq!((entry.tables, entry.rest_tables), (1, 2), "{entry:?}");
    let archive = home(vault.path(), "1", "ascii").join("rest.dump");
    let restore = support::postgres::newest_bin_dir().join("pg_restore");
    let output = Command::new(restore).arg("--file=-").arg(archive).output().unwrap();
    let text = output.stdout;
    let has = |wanted: &[u8]| text.windows(wanted.len()).any(|window| window == wanted);
    assert!(
        has(b"COPY public.\"caf\xE9\"") || has(b"COPY public.caf\xE9"),
        "{}",
        String::from_utf8_lossy(&text)
    );
    assert!(has(b"\n4711\n") && has(b"\n4712\n") && !has(b"\n4713\n"));
}

/// pg_dump that cannot work here is not tried until `lock_timeout` has passed, and what it said is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_pg_dump_that_fails_tells_why_at_once() {
    let server = Server::start(None);
    let bin = TempDir::new().unwrap();
    let real = support::postgres::newest_bin_dir();
    for name in ["pg_dumpall", "pg_restore"] {
        std::os::unix::fs::symlink(real.join(name), bin.path().join(name)).unwrap();
    }
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec {}/pg_dump --version\necho 'pg_dump: error: no licence' >&2; exit 1\n",
        real.display()
    );
    let path = bin.path().join("pg_dump");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = Database {
        bin_dir: Some(bin.path().to_owned()),
        lock_timeout: Duration::from_secs(120),
        ..only(&server, "postgres")
    };
    let error = tokio::time::timeout(Duration::from_secs(60), freeze(&config)).await.unwrap().unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("database \"postgres\": ")
            && text.ends_with("exit status: 1: pg_dump: error: no licence"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_too_long_for_memory_are_streamed() {
    let server = Server::start(None);
    server.psql(
        "postgres",
        "CREATE TABLE wide (a int, t text);
         INSERT INTO wide SELECT g, repeat(md5(g::text), 700000) FROM generate_series(1, 2) g",
    );
    let vault = TempDir::new().unwrap();
    let config = only(&server, "postgres");
    dump_day(&config, vault.path(), "1", None).await;
    dump_day(&config, vault.path(), "2", Some("1")).await;
    let tables = tables(vault.path(), "2", "postgres");
    let wide = table(&tables, "wide");
    assert_eq!((wide.rows.count, wide.segments.len()), (2, 1));
    assert_eq!(wide.segments[0].bytes, 2 * (2 + 22_400_000 + 1));
    let (first, second) = (home(vault.path(), "1", "postgres"), home(vault.path(), "2", "postgres"));
    assert_eq!(text_of(&second, wide).len() as u64, wide.segments[0].bytes);
    assert_eq!(inodes(&first), inodes(&second));
    server.psql("postgres", "INSERT INTO wide VALUES (3, 'x')");
    dump_day(&config, vault.path(), "3", Some("2")).await;
    assert_eq!(inodes(&home(vault.path(), "3", "postgres")).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_databases_with_few_connections() {
    let server = Server::start(None);
    for number in 0..30 {
        server.psql("postgres", &format!("CREATE DATABASE d{number}"));
    }
    for number in [0, 29] {
        server.psql(&format!("d{number}"), "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    }
    let vault = TempDir::new().unwrap();
    let context = context();
    let prepared = prepare(&config(&server), &context).await.unwrap();
    let warned = prepared.report().warnings.clone();
    assert!(warned[0].starts_with("only 2") && warned[0].contains("raise max_connections by"), "{warned:?}");
    drop(prepared);
    let record = dump_day(&config(&server), vault.path(), "1", None).await;
    assert_eq!(record.databases.len(), 32);
    assert_eq!(record.databases.iter().map(|entry| entry.rows).sum::<u64>(), 2);
    let mut small = Server::start_with(None, &[("max_connections", "10")]);
    for number in 0..8 {
        small.psql("postgres", &format!("CREATE DATABASE d{number}"));
    }
    let error = prepare(&config(&small), &context).await.unwrap_err().to_string();
    assert!(error.contains("databases need at least 12 connections at once, but only"), "{error}");
    small.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_dump_leaves_nothing_behind() {
    let server = Server::start(None);
    fill(&server, "postgres", "big", 400_000);
    let context = context();
    let config = only(&server, "postgres");
    let mut frozen = freeze(&config).await.unwrap();
    let vault = TempDir::new().unwrap();
    let cancel = context.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    });
    let outcome = frozen.dump(&Free, &vault.path().join("1/database"), None, false, &context).await;
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    drop(frozen);
    no_session_is_left(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_are_those_of_the_text() {
    let server = Server::start(None);
    server.psql("postgres", "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, E'x\\ny'), (2, NULL)");
    let vault = TempDir::new().unwrap();
    dump_day(&only(&server, "postgres"), vault.path(), "1", None).await;
    let tables = tables(vault.path(), "1", "postgres");
    let rows = [&b"1\tx\\ny"[..], b"2\t\\N"].map(xxhash_rust::xxh3::xxh3_128);
    let expected = Rows { count: 2, digest: rows[0].wrapping_add(rows[1]) };
    assert_eq!(table(&tables, "t").rows, expected);
}

/// A server process ends a moment after its client.
async fn no_session_is_left(server: &Server) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'daykeep%'";
    for _ in 0..100 {
        if server.psql("postgres", sql) == "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("sessions are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_on_this_machine_is_dumped() {
    for major in support::postgres::majors().into_keys() {
        let server = Server::start(major);
        fill(&server, "postgres", "big", 150_000);
        server.psql(
            "postgres",
            "CREATE TABLE typed (a timestamptz, b interval, c float8, d bytea, e money, f int[], h jsonb);
             INSERT INTO typed VALUES ('2026-11-21 10:00+02', '1 day 2:03', 0.1, '\\x00ff', 3, '{1,NULL}', '{}');
             ALTER ROLE postgres SET TimeZone = 'Asia/Tokyo'; ALTER ROLE postgres SET bytea_output = 'escape';
             ALTER ROLE postgres SET DateStyle = 'German'; ALTER ROLE postgres SET extra_float_digits = -5",
        );
        let vault = TempDir::new().unwrap();
        let config = only(&server, "postgres");
        dump_day(&config, vault.path(), "1", None).await;
        server.psql("postgres", "UPDATE big SET v = 1 WHERE id % 1000 = 0");
        let record = dump_day(&config, vault.path(), "2", Some("1")).await;
        assert_eq!(record.server_version / 10_000, major);
        let tables = tables(vault.path(), "2", "postgres");
        let home = home(vault.path(), "2", "postgres");
        assert_eq!(lines(&text_of(&home, table(&tables, "big"))), 150_000, "PostgreSQL {major}");
        assert!(
            table(&tables, "big").segments.iter().any(|segment| segment.base.is_some()),
            "PostgreSQL {major}"
        );
        let typed = String::from_utf8(text_of(&home, table(&tables, "typed"))).unwrap();
        let expected = "2026-11-21 08:00:00+00\t1 day 02:03:00\t0.1\t\\\\x00ff\t$3.00\t{1,NULL}\t{}\n";
        assert_eq!(typed, expected, "PostgreSQL {major}");
    }
}
