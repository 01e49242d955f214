//! Databases of a day put into real servers: beside what is there, in its place, and back.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use daykeep::database::restore::{
    Beside, Loaded, Made, RestoreError, State, Survey, Swap, Target, Wish, load, survey,
};
use daykeep::manifest::Manifest;
use support::cut::{Cut, Last};
use support::picture::{Picture, Tablespace, assert_same, comparable, context, dump, load_dump, picture};
use support::postgres::{Server, check};
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
        let (mut statements, mut uncut) = (0, false);
        while !uncut {
            for last in [Last::Lost, Last::Done] {
                // Forward, cut off, then on or back.
                let cut = Cut::before(&server, statements, last);
                let outcome = swap.forward(&cut.config(&server), &context()).await;
                assert_eq!(outcome.is_err(), cut.has_cut(), "{statements} {last:?}: {outcome:?}");
                uncut = !cut.has_cut();
                let state = swap.state(&server.config()).await;
                assert!(state.is_ok(), "{statements} {last:?}: {state:?}");
                if statements % 2 == 0 || uncut {
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
            statements += if statements < 8 { 1 } else { 2 };
        }
        assert!(statements > 30, "only {statements} statements");
    });
}

fn lines_without(text: &str, part: &str) -> String {
    text.lines().filter(|line| !line.contains(part)).collect::<Vec<_>>().join("\n")
}
