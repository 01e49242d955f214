//! Databases of a day put into real servers: beside what is there, in its place, and back.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use daykeep::database::restore::{
    Action, Beside, Loaded, Made, RestoreError, State, Survey, Swap, Target, Wish, fill, load, survey,
};
use daykeep::manifest::Manifest;
use support::context::context;
use support::cut::{Cut, Last};
use support::picture::{Picture, Tablespace, assert_same, comparable, dump, dump_by, load_dump, picture};
use support::postgres::{Server, check, newest_bin_dir};
use tempfile::TempDir;

const TAG: u64 = 7;

/// A day and where it lies.
struct Day {
    vault: TempDir,
    manifest: Manifest,
}

impl Day {
    fn of(server: &Server) -> Self {
        let vault = tempfile::tempdir().unwrap();
        dump(server, vault.path(), "day1", None);
        let manifest = dump(server, vault.path(), "day", Some("day1"));
        Self { vault, manifest }
    }

    fn path(&self) -> PathBuf {
        self.vault.path().join("day")
    }

    fn wish<'a>(&'a self, path: &'a Path, server: &Server) -> Wish<'a> {
        Wish {
            day: path,
            manifest: &self.manifest,
            target: Target::Live(server.config()),
            bin_dir: Some(server.bin_dir().to_owned()),
            databases: None,
            globals: true,
            jobs: 2,
            tag: TAG,
        }
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

/// What a restore flow remembers.
#[derive(Default)]
struct Memory(Mutex<(Beside, Vec<Loaded>)>);

impl Memory {
    fn note(&self, made: &Made) {
        let mut memory = self.0.lock().unwrap();
        match made {
            Made::Roles(roles) => memory.0.roles.extend(roles.iter().cloned()),
            Made::Tablespaces(spaces) => memory.0.tablespaces.extend(spaces.iter().cloned()),
            Made::Database(loaded) => memory.1.push(loaded.clone()),
        }
    }

    fn beside(&self) -> Beside {
        Beside { tag: TAG, ..self.0.lock().unwrap().0.clone() }
    }

    fn done(&self) -> Vec<Loaded> {
        self.0.lock().unwrap().1.clone()
    }

    async fn load(&self, wish: &Wish<'_>, survey: &Survey) -> Result<Vec<Loaded>, RestoreError> {
        let record = |made: &Made| {
            self.note(made);
            Ok(())
        };
        load(wish, survey, &self.done(), &record, &context()).await
    }

    async fn swap(&self, wish: &Wish<'_>, survey: &Survey, loaded: &[Loaded]) -> Swap {
        let Beside { roles, tablespaces, .. } = self.beside();
        let swap = Swap::plan(wish, survey, loaded, roles, tablespaces, &context()).await.unwrap();
        // As it comes back from the record.
        serde_json::from_str(&serde_json::to_string(&swap).unwrap()).unwrap()
    }
}

/// Surveys and loads, ready to be swapped.
async fn loaded(wish: &Wish<'_>) -> Swap {
    let found = survey(wish, &context()).await.unwrap();
    assert!(found.is_possible(), "{:#?}", found.problems);
    let memory = Memory::default();
    let loaded = memory.load(wish, &found).await.unwrap();
    memory.swap(wish, &found, &loaded).await
}

/// Every database with its OID, owner and rights: more than any dump tells.
fn databases(server: &Server) -> String {
    let sql = "SELECT oid, datname, datdba, datallowconn, datistemplate, datconnlimit, dattablespace, datacl FROM pg_database ORDER BY 2;
               SELECT rolname FROM pg_roles WHERE oid >= 16384 ORDER BY 1; SELECT spcname FROM pg_tablespace ORDER BY 1";
    server.psql("postgres", sql)
}

fn nasty(server: &Server, tablespace: &Tablespace) {
    let sql = include_str!("sql/nasty.sql");
    server.psql("postgres", &sql.replace("{{TABLESPACE}}", &tablespace.path().display().to_string()));
}

/// What happened to the server since the day: rows, tables, databases, roles, rights, settings.
const HARM: &str = r#"
    DROP TABLE kept_in_postgres;
    ALTER DATABASE postgres RESET ALL;
    ALTER ROLE writer IN DATABASE postgres RESET ALL;
    ALTER ROLE writer WITH PASSWORD 'changed' SUPERUSER CONNECTION LIMIT 9 VALID UNTIL '2030-01-01';
    ALTER ROLE writer RESET search_path;
    ALTER ROLE writer SET lock_timeout = '5s';
    ALTER ROLE reader VALID UNTIL '2031-01-01' PASSWORD 'secret';
    COMMENT ON ROLE reader IS NULL;
    COMMENT ON ROLE writer IS 'new';
    REVOKE reader FROM writer;
    GRANT writer TO reader;
    GRANT pg_read_all_data TO reader WITH ADMIN OPTION;
    REVOKE SET ON PARAMETER log_statement FROM writer;
    GRANT ALTER SYSTEM ON PARAMETER work_mem TO reader;
    ALTER TABLESPACE elsewhere RESET (random_page_cost);
    ALTER TABLESPACE elsewhere SET (seq_page_cost = 3);
    ALTER TABLESPACE elsewhere OWNER TO postgres;
    REVOKE ALL ON TABLESPACE elsewhere FROM writer;
    GRANT CREATE ON TABLESPACE elsewhere TO PUBLIC;
    DROP DATABASE latin;
    ALTER DATABASE empty IS_TEMPLATE false;
    DROP DATABASE "A 'thing' ""works"" \here % =é";
    REASSIGN OWNED BY "odd ""role"" naïve %" TO postgres;
    DROP OWNED BY "odd ""role"" naïve %";
    DROP ROLE "odd ""role"" naïve %";
    ALTER DATABASE shop CONNECTION LIMIT 3;
    ALTER DATABASE shop SET work_mem = '77MB';
    REVOKE CONNECT ON DATABASE shop FROM reader;
    \setenv PGOPTIONS '-c default_transaction_read_only=off'
    \connect shop
    DROP SCHEMA shop CASCADE;
    TRUNCATE churned;
    CREATE TABLE since_the_day (a int);
    INSERT INTO since_the_day VALUES (1);
    \connect template1
    CREATE TABLE since_the_day (a int);
"#;

/// What a server restored from pg_dumpall looks like, with what pg_dumpall forgets from the source.
fn expected(server: &Server, tablespace: &Tablespace) -> Picture {
    let dumped = check(server.client("pg_dumpall").arg("--restrict-key=x"), "pg_dumpall");
    let source = picture(server);
    tablespace.turn();
    let other = Server::start(server.major());
    load_dump(&other, &dumped, "-c default_transaction_read_only=off");
    let all = picture(&other).all;
    drop(other);
    tablespace.turn_back();
    Picture { all, ..source }
}

fn there_and_back(major: u32) {
    let tablespace = Tablespace::new();
    let server = Server::start(major);
    nasty(&server, &tablespace);
    let day = Day::of(&server);
    let expected = expected(&server, &tablespace);
    server.psql("postgres", HARM);
    let (before, databases_before, seen_before) = (picture(&server), databases(&server), in_use(&server));
    let path = day.path();
    let wish = day.wish(&path, &server);
    run(async {
        let swap = loaded(&wish).await;
        assert!(in_use(&server) == seen_before, "what is in use changed while something was loaded");
        assert_eq!(swap.state(&server.config()).await.unwrap(), State::Before);
        swap.forward(&server.config(), &context()).await.unwrap();
        assert_eq!(swap.state(&server.config()).await.unwrap(), State::After);
        assert_same("restored", &picture(&server), &expected);
        swap.back(&server.config(), &context()).await.unwrap();
        assert_same("taken back", &picture(&server), &before);
        assert_eq!(databases(&server), databases_before);
        // And once more, for good.
        let swap = loaded(&wish).await;
        swap.forward(&server.config(), &context()).await.unwrap();
        swap.drop_old(&server.config(), &context()).await.unwrap();
        swap.drop_old(&server.config(), &context()).await.unwrap();
        assert_same("confirmed", &picture(&server), &expected);
        let error = swap.back(&server.config(), &context()).await.unwrap_err().to_string();
        assert!(
            error.starts_with("the restore cannot be taken back: what it had replaced has been dropped ("),
            "{error}"
        );
    });
    assert_eq!(server.psql("postgres", "SELECT datname FROM pg_database WHERE datname ~ 'daykeep'"), "");
}

/// What users see while something is loaded beside. Roles that were missing are there then, and can do nothing.
fn in_use(server: &Server) -> String {
    let mut seen =
        comparable(&check(server.client("pg_dumpall").args(["-g", "--restrict-key=x"]), "pg_dumpall"));
    // A byte is a letter in what is compared.
    let new: String = r#""odd ""role"" naïve %""#.bytes().map(char::from).collect();
    let attributes = "NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS";
    seen = seen.replace(&format!("CREATE ROLE {new};\nALTER ROLE {new} WITH {attributes};\n"), "");
    let names = server.psql(
        "postgres",
        "SELECT datname FROM pg_database WHERE datallowconn AND datname !~ 'daykeep' ORDER BY 1",
    );
    for name in names.lines() {
        let mut dump = server.client("pg_dump");
        dump.args(["--create", "--restrict-key=x"]).env("PGDATABASE", name);
        seen += &comparable(&check(&mut dump, "pg_dump"));
    }
    seen
}

#[test]
fn the_nastiest_schema_goes_there_and_back_on_15() {
    there_and_back(15);
}

#[test]
fn the_nastiest_schema_goes_there_and_back_on_18() {
    there_and_back(18);
}

/// Two databases that are replaced, one that is new, roles that change and one that is missing.
const SMALL: &str = r"
    CREATE ROLE app LOGIN PASSWORD 'a';
    CREATE ROLE gone;
    GRANT gone TO app;
    CREATE DATABASE shop OWNER gone;
    CREATE DATABASE lost OWNER app;
    CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g;
    \connect shop
    CREATE TABLE t (id int PRIMARY KEY, body text);
    INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 5000) g;
    ALTER TABLE t OWNER TO gone;
    CREATE INDEX ON t (body);
    \connect lost
    CREATE TABLE u AS SELECT g FROM generate_series(1, 10) g;
";
const SMALL_HARM: &str = r"
    DROP DATABASE lost;
    DROP TABLE t;
    ALTER DATABASE shop OWNER TO app;
    \connect shop
    DROP TABLE t;
    CREATE TABLE later (a int);
    DROP OWNED BY gone;
    DROP ROLE gone;
    ALTER ROLE app SET work_mem = '8MB';
";

/// What is compared after each of many cuts.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Small {
    globals: String,
    databases: String,
    rows: String,
}

fn small(server: &Server) -> Small {
    let globals = check(server.client("pg_dumpall").args(["-g", "--restrict-key=x"]), "pg_dumpall");
    let sql = "SELECT datname, pg_get_userbyid(datdba), datallowconn, datacl FROM pg_database \
               WHERE datname !~ '^daykeep_(old|control)' ORDER BY 1";
    let there = "SELECT coalesce(string_agg(relname, ' ' ORDER BY relname), '') FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    let rows = format!("{} / {}", server.psql("postgres", there), server.psql("shop", there));
    Small { globals: comparable(&globals), databases: server.psql("postgres", sql), rows }
}

/// A server with a day and what has become of it since.
fn small_world() -> (Server, Day) {
    let server = Server::start(None);
    server.psql("postgres", SMALL);
    let day = Day::of(&server);
    server.psql("postgres", SMALL_HARM);
    (server, day)
}

#[test]
fn cut_off_at_any_statement_a_swap_goes_on_or_back() {
    let (server, day) = small_world();
    let path = day.path();
    let wish = day.wish(&path, &server);
    run(async {
        let mut swap = loaded(&wish).await;
        let before = small(&server);
        let mut after = None;
        // Every third statement, another third in another run.
        let (mut statements, mut uncut) = (i64::from(std::process::id() % 3), false);
        while !uncut {
            for last in [Last::Lost, Last::Done] {
                // Forward, cut off, then on or back.
                let cut = Cut::before(&server, statements, last);
                let outcome = swap.forward(&cut.config(&server), &context()).await;
                assert_eq!(outcome.is_err(), cut.has_cut(), "{statements} {last:?}: {outcome:?}");
                uncut = !cut.has_cut();
                let state = swap.state(&server.config()).await;
                assert!(state.is_ok(), "{statements} {last:?}: {state:?}");
                if last == Last::Done || uncut {
                    swap.forward(&server.config(), &context()).await.unwrap();
                    let seen = small(&server);
                    assert_eq!(&seen, after.get_or_insert_with(|| seen.clone()), "{statements} {last:?}");
                    assert_ne!(seen, before);
                }
                // Back, cut off at the same place.
                let cut = Cut::before(&server, statements, last);
                let _ = swap.back(&cut.config(&server), &context()).await;
                swap.back(&server.config(), &context()).await.unwrap();
                let seen = small(&server);
                let without_beside = |small: &Small| Small {
                    databases: lines_without(&small.databases, "daykeep_"),
                    globals: lines_without(&small.globals, "ROLE gone"),
                    rows: small.rows.clone(),
                };
                assert_eq!(without_beside(&seen), without_beside(&before), "{statements} {last:?}");
                assert_eq!(
                    server.psql("postgres", "SELECT datname FROM pg_database WHERE datname ~ 'daykeep'"),
                    ""
                );
                swap = loaded(&wish).await;
            }
            statements += 3;
        }
        assert!(statements > 30, "only {statements} statements");
    });
}

fn lines_without(text: &str, part: &str) -> String {
    text.lines().filter(|line| !line.contains(part)).collect::<Vec<_>>().join("\n")
}

#[test]
fn cut_off_while_loading_what_was_complete_is_kept() {
    let (server, day) = small_world();
    let path = day.path();
    let wish = day.wish(&path, &server);
    let before = small(&server);
    run(async {
        let (mut statements, mut kept) = (i64::from(std::process::id() % 37), 0);
        loop {
            let memory = Memory::default();
            let cut = Cut::before(&server, statements, Last::Done);
            let far = Wish { target: Target::Live(cut.config(&server)), ..wish.clone() };
            let found = survey(&wish, &context()).await.unwrap();
            let outcome = memory.load(&far, &found).await;
            assert_eq!(outcome.is_err(), cut.has_cut(), "{statements}: {outcome:?}");
            let done = memory.done();
            // The same command again: it looks anew.
            let found = survey(&wish, &context()).await.unwrap();
            assert!(found.is_possible(), "{:#?}", found.problems);
            let loaded = memory.load(&wish, &found).await.unwrap();
            kept += done.iter().filter(|done| loaded.contains(done)).count();
            assert!(done.iter().all(|done| loaded.contains(done)), "{statements}: {done:?} {loaded:?}");
            let swap = memory.swap(&wish, &found, &loaded).await;
            swap.forward(&server.config(), &context()).await.unwrap();
            assert_eq!(server.psql("shop", "SELECT count(*), count(DISTINCT body) FROM t"), "5000|5000");
            assert_eq!(server.psql("postgres", "SELECT count(*), sum(g) FROM t"), "1000|500500");
            assert_eq!(server.psql("lost", "SELECT count(*) FROM u"), "10");
            swap.back(&server.config(), &context()).await.unwrap();
            assert_eq!(small(&server), before, "{statements}");
            if !cut.has_cut() {
                break;
            }
            statements += 37;
        }
        assert!(kept > 0, "no cut came after a database was complete");
        // Given up instead.
        let memory = Memory::default();
        let found = survey(&wish, &context()).await.unwrap();
        memory.load(&wish, &found).await.unwrap();
        memory.beside().discard(&server.config(), &context()).await.unwrap();
        memory.beside().discard(&server.config(), &context()).await.unwrap();
        assert_eq!(small(&server), before);
    });
}

#[test]
fn a_control_database_whose_drop_was_cut_off_is_no_obstacle() {
    let (server, day) = small_world();
    let path = day.path();
    let wish = day.wish(&path, &server);
    run(async {
        let swap = loaded(&wish).await;
        let left = |name: &str| {
            // As a power cut in the middle of DROP DATABASE leaves it: PostgreSQL lets nobody in any more.
            let drop = format!(
                "DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} TEMPLATE template0; \
                 UPDATE pg_database SET datconnlimit = -2 WHERE datname = '{name}'"
            );
            server.psql("template1", &drop);
        };
        left(&format!("daykeep_control_{}", wish.tag));
        swap.forward(&server.config(), &context()).await.unwrap();
        left(&format!("daykeep_control_{}", wish.tag));
        swap.back(&server.config(), &context()).await.unwrap();
        let control = "SELECT datname FROM pg_database WHERE datname ~ 'daykeep_control'";
        assert_eq!(server.psql("postgres", control), "");
    });
}

#[test]
fn those_who_come_back_again_and_again_do_not_stop_a_swap() {
    let (server, day) = small_world();
    let path = day.path();
    let wish = day.wish(&path, &server);
    let busy = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for database in ["shop", "postgres", "shop"] {
            let (server, busy) = (&server, &busy);
            scope.spawn(move || {
                let mut went_in = 0;
                while busy.load(Ordering::SeqCst) {
                    let mut psql = server.client("psql");
                    psql.args(["-X", "-q", "-d", database, "-c", "SELECT pg_sleep(30)"]);
                    went_in += u32::from(psql.output().unwrap().status.code() == Some(2));
                }
                assert!(went_in > 1, "nobody was thrown out of {database}");
            });
        }
        run(async {
            for _ in 0..2 {
                let swap = loaded(&wish).await;
                let found = survey(&wish, &context()).await.unwrap();
                assert!(
                    found.sessions.iter().any(|seen| seen.database == "shop" && seen.application == "psql")
                );
                swap.forward(&server.config(), &context()).await.unwrap();
                assert_eq!(swap.state(&server.config()).await.unwrap(), State::After);
                swap.forward(&server.config(), &context()).await.unwrap();
                assert_eq!(server.psql("shop", "SELECT count(*) FROM t"), "5000");
                swap.back(&server.config(), &context()).await.unwrap();
                assert_eq!(swap.state(&server.config()).await.unwrap(), State::Before);
            }
        });
        busy.store(false, Ordering::SeqCst);
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()";
        server.psql("template1", sql);
    });
}

/// What a survey says against a server that `change` has changed since the day.
#[track_caller]
fn refused(server: &Server, day: &Day, change: &str, problems: &[&str]) {
    server.psql("postgres", change);
    let path = day.path();
    let wish = day.wish(&path, server);
    let before = databases(server);
    run(async {
        let found = survey(&wish, &context()).await.unwrap();
        assert_eq!(found.problems, problems);
        let error = load(&wish, &found, &[], &|_| Ok(()), &context()).await.unwrap_err().to_string();
        assert_eq!(error, format!("the databases cannot be restored: {}", problems.join("; ")));
    });
    assert_eq!(databases(server), before);
}

/// A day with a tablespace, an encoding, an extension and a role of its own.
fn far_day(tablespace: &Tablespace) -> Day {
    let source = Server::start(None);
    let create = format!("CREATE TABLESPACE far LOCATION '{}'", tablespace.path().display());
    source.psql("postgres", &create);
    let sql = "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'; CREATE DATABASE shop TABLESPACE far;
               CREATE ROLE app; ALTER ROLE app SET work_mem = '4MB';
               \\connect shop
               CREATE EXTENSION hstore; CREATE TABLE t AS SELECT 1 AS a";
    source.psql("postgres", sql);
    Day::of(&source)
}

#[test]
fn directories_of_tablespaces_are_looked_at_before_anything_is_changed() {
    let tablespace = Tablespace::new();
    let day = far_day(&tablespace);
    let server = Server::start(None);
    let gone = format!(
        "directory {} of tablespace \"far\" is not there on the server: make it, for the server's user alone",
        tablespace.path().display()
    );
    std::fs::remove_file(tablespace.path()).unwrap();
    refused(&server, &day, "SELECT", &[&gone]);
    tablespace.turn();
    let real = std::fs::canonicalize(tablespace.path()).unwrap();
    std::fs::write(real.join("x"), "").unwrap();
    let full = format!(
        "directory {} of tablespace \"far\" is not empty on the server: move away what is in it",
        tablespace.path().display()
    );
    refused(&server, &day, "SELECT", &[&full]);
    std::fs::remove_file(real.join("x")).unwrap();
}

/// Changes words of a database's archive; gives how it was.
fn in_archive(day: &Path, name: &str, from: &[u8], to: &[u8]) -> (PathBuf, Vec<u8>) {
    // The table of contents stands in an archive as it is; its length must not change.
    assert_eq!(from.len(), to.len());
    let archive = day.join("database").join(name).join("rest.dump");
    let was = std::fs::read(&archive).unwrap();
    let places: Vec<usize> = (0..was.len() - from.len()).filter(|at| was[*at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "no {from:?} in {name}");
    let mut is = was.clone();
    for at in places {
        is[at..at + to.len()].copy_from_slice(to);
    }
    std::fs::write(&archive, &is).unwrap();
    (archive, was)
}

#[test]
fn what_the_server_lacks_is_told_before_anything_is_changed() {
    let tablespace = Tablespace::new();
    let day = far_day(&tablespace);
    tablespace.turn();
    let (server, path) = (Server::start(None), day.path());
    // As if the day were of a server that has more than this one.
    let archive = |name: &str, from: &[u8], to: &[u8]| in_archive(&path, name, from, to);
    let mut manifest = day.manifest.clone();
    manifest.digests.clear();
    let odd = Day { vault: day.vault, manifest };
    let (extension, was) = archive("shop", b"hstore", b"hstorm");
    refused(
        &server,
        &odd,
        "SELECT",
        &["extension \"hstorm\" is not available on the server: install the package that has it"],
    );
    std::fs::write(extension, was).unwrap();
    let (locale, was) = archive("latin", b"LOCALE = 'C'", b"LOCALE = 'x'");
    refused(
        &server,
        &odd,
        "SELECT",
        &["the server cannot make database \"latin\": ERROR: invalid locale name: \"x\" (SQLSTATE 42809)"],
    );
    std::fs::write(&locale, &was).unwrap();
    let (encoding, was) = archive("latin", b"ENCODING = 'LATIN1'", b"ENCODING = 'SJIS'  ");
    refused(
        &server,
        &odd,
        "SELECT",
        &[
            "the server cannot make database \"latin\": ERROR: SJIS is not a valid encoding name (SQLSTATE 42704)",
        ],
    );
    std::fs::write(encoding, was).unwrap();
    let globals = path.join("database/globals.sql");
    let was = std::fs::read_to_string(&globals).unwrap();
    std::fs::write(&globals, was.replace("SET work_mem TO '4MB'", "SET work_mem TO 'much'")).unwrap();
    let problem = "the roles of the day cannot be restored: cannot do \"ALTER ROLE app SET work_mem TO 'much'\": ERROR: invalid value \
                   for parameter \"work_mem\": \"much\" (SQLSTATE 22023)";
    refused(&server, &odd, "SELECT", &[problem]);
    std::fs::write(&globals, was).unwrap();

    let older = |manifest: &mut Manifest| manifest.database.as_mut().unwrap().server_version = 990_000;
    let mut newer = odd.manifest.clone();
    older(&mut newer);
    let wish = Wish { manifest: &newer, bin_dir: None, ..odd.wish(&path, &server) };
    let error = run(survey(&wish, &context())).unwrap_err().to_string();
    assert!(
        error.contains("but the server has version 99; install the client programs of version 99"),
        "{error}"
    );
}

#[test]
fn who_may_not_restore_is_told() {
    let (server, day) = small_world();
    let path = day.path();
    server.psql("postgres", "CREATE ROLE mortal LOGIN; ALTER ROLE app WITH LOGIN");
    let mut wish = day.wish(&path, &server);
    wish.target = Target::Live(daykeep::config::Server { user: Some("mortal".into()), ..server.config() });
    let found = run(survey(&wish, &context())).unwrap();
    assert_eq!(
        found.problems,
        [
            "role \"mortal\" is no superuser of the server: only a superuser can restore owners, rights and extensions"
        ]
    );
    // A fresh server is one that has nothing of the day's.
    wish.target = Target::Fresh(server.config());
    let found = run(survey(&wish, &context())).unwrap();
    assert_eq!(
        found.problems,
        ["the server has a database \"shop\" already: restore into an empty server, or drop it first"]
    );
    wish.databases = Some(vec!["shop".into(), "ship".into()]);
    let error = run(survey(&wish, &context())).unwrap_err().to_string();
    assert_eq!(
        error,
        "the day 2026-11-21T010000Z holds no database \"ship\"; it holds \"lost\", \"postgres\", \"shop\", \"template1\""
    );
}

#[test]
fn damaged_rows_change_nothing_that_is_in_use() {
    let (server, day) = small_world();
    let path = day.path();
    let wish = day.wish(&path, &server);
    let before = small(&server);
    let tables = path.join("database/shop/tables");
    let segment = std::fs::read_dir(&tables)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| std::fs::metadata(path).unwrap().len());
    let segment = segment.unwrap();
    let whole = std::fs::read(&segment).unwrap();
    // A frame that is whole and holds other rows.
    let other = zstd::encode_all(&b"1\tx\n"[..], 3).unwrap();
    for damage in [whole[..whole.len() - 5].to_vec(), other] {
        std::fs::write(&segment, damage).unwrap();
        let memory = Memory::default();
        run(async {
            let found = survey(&wish, &context()).await.unwrap();
            let error = memory.load(&wish, &found).await.unwrap_err().to_string();
            let name = segment.file_name().unwrap().to_str().unwrap();
            assert!(error.contains(name) && error.contains(" is damaged: "), "{error}");
            assert!(error.ends_with("; it holds rows of \"public\".\"t\"; see `daykeep verify`"), "{error}");
            memory.beside().discard(&server.config(), &context()).await.unwrap();
        });
        assert_eq!(small(&server), before);
    }
    std::fs::write(&segment, whole).unwrap();
    // A list that names one row more.
    let list = path.join("database/shop/tables.jsonl");
    let text = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, text.replace("\"count\":5000", "\"count\":5001")).unwrap();
    let mut manifest = day.manifest.clone();
    manifest.digests.clear();
    let wish = Wish { manifest: &manifest, ..wish };
    run(async {
        let found = survey(&wish, &context()).await.unwrap();
        let error = Memory::default().load(&wish, &found).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "database \"shop\": \"public\".\"t\" took 5000 rows, the day has 5001; see `daykeep verify`"
        );
    });
}

#[test]
fn an_index_that_the_rows_do_not_fit_is_told_with_the_rows_and_changes_nothing() {
    let server = Server::start(None);
    server.psql("postgres", SMALL);
    // What a bug of the server or another version of a collation does.
    server.psql(
        "shop",
        "CREATE TABLE twice (a int); CREATE UNIQUE INDEX twice_a ON twice (a); INSERT INTO twice VALUES (1)",
    );
    let ready = |is| format!("UPDATE pg_index SET indisready = {is} WHERE indexrelid = 'twice_a'::regclass");
    server.psql("shop", &ready(false));
    server.psql("shop", "INSERT INTO twice VALUES (1)");
    server.psql("shop", &ready(true));
    let day = Day::of(&server);
    server.psql("postgres", SMALL_HARM);
    let before = small(&server);
    let path = day.path();
    let wish = day.wish(&path, &server);
    let memory = Memory::default();
    run(async {
        let found = survey(&wish, &context()).await.unwrap();
        let error = memory.load(&wish, &found).await.unwrap_err().to_string();
        let told = "cannot do \"CREATE UNIQUE INDEX twice_a ON public.twice USING btree (a)\" for database \"shop\": \
                    ERROR: could not create unique index \"twice_a\"; Key (a)=(1) is duplicated.";
        assert!(error.contains(told), "{error}");
        memory.beside().discard(&server.config(), &context()).await.unwrap();
    });
    assert_eq!(small(&server), before);
}

#[test]
fn an_empty_server_is_filled_and_a_full_one_is_not() {
    let (server, day) = small_world();
    let path = day.path();
    let fresh = Server::start(None);
    let wish = Wish { target: Target::Fresh(fresh.config()), ..day.wish(&path, &server) };
    let found = run(fill(&wish, &context())).unwrap();
    assert_eq!(
        found.databases.iter().filter(|plan| plan.action == Action::LeaveAlone).count(),
        1,
        "template1"
    );
    assert_eq!(fresh.psql("shop", "SELECT count(*), pg_get_userbyid(relowner) FROM t, pg_class WHERE pg_class.oid = 't'::regclass GROUP BY 2"), "5000|gone");
    assert_eq!(fresh.psql("postgres", "SELECT count(*) FROM t"), "1000");
    assert_eq!(fresh.psql("postgres", "SELECT pg_has_role('app', 'gone', 'MEMBER')"), "t");
    let names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
    assert_eq!(fresh.psql("postgres", names), "lost postgres shop template0 template1");
    let error = run(fill(&wish, &context())).unwrap_err().to_string();
    assert!(error.contains("the server has a database \"shop\" already"), "{error}");
    assert_eq!(fresh.psql("postgres", names), "lost postgres shop template0 template1");
}

#[test]
fn an_archive_of_a_newer_pg_dump_is_restored_into_an_older_server() {
    let server = Server::start(15);
    server.psql("postgres", SMALL);
    let vault = tempfile::tempdir().unwrap();
    let programs = newest_bin_dir();
    let manifest = dump_by(&server, &programs, vault.path(), "day", None);
    let day = Day { vault, manifest };
    server.psql("postgres", SMALL_HARM);
    let (before, path) = (small(&server), day.path());
    let wish = Wish { bin_dir: Some(programs), ..day.wish(&path, &server) };
    run(async {
        let swap = loaded(&wish).await;
        swap.forward(&server.config(), &context()).await.unwrap();
        assert_eq!(
            server.psql(
                "shop",
                "SELECT count(*) FROM t; SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass"
            ),
            "5000\n2"
        );
        swap.back(&server.config(), &context()).await.unwrap();
    });
    assert_eq!(small(&server), before);
}
