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
