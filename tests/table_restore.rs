//! One table of a day put in the place of what it is now, and back.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use daykeep::database::restore::{State, TableSurvey, TableSwap, TableWish, survey_table};
use daykeep::manifest::Manifest;
use support::cut::{Cut, Last};
use support::picture::{assert_same, context, dump, picture};
use support::postgres::{Server, check};
use tempfile::TempDir;

const SHOP: &str = r#"
    CREATE ROLE clerk;
    CREATE DATABASE shop;
    ALTER DATABASE shop SET IntervalStyle = 'sql_standard';
    \connect shop
    CREATE TABLE account (id serial PRIMARY KEY, name text NOT NULL, span interval, twice int GENERATED ALWAYS AS (id * 2) STORED);
    INSERT INTO account (name, span) SELECT 'a' || g, make_interval(days => -g, hours => g) FROM generate_series(1, 500) g;
    CREATE TABLE entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int NOT NULL REFERENCES account ON DELETE CASCADE, note text);
    INSERT INTO entry (account, note) SELECT 1 + g % 500, md5(g::text) FROM generate_series(1, 3000) g;
    CREATE TABLE log (what text);
    CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES (TG_OP); RETURN NULL; END $$;
    CREATE TRIGGER noted AFTER INSERT OR DELETE ON entry FOR EACH ROW EXECUTE FUNCTION noted();
    CREATE TABLE "odd ""t"" %
x" ("c o" text CHECK ("c o" <> ''), n numeric(9,3) DEFAULT 7);
    INSERT INTO "odd ""t"" %
x" VALUES (E'tab\tnl\n\\', 1.5), (NULL, NULL);
    CREATE INDEX "odd i" ON "odd ""t"" %
x" (n);
    COMMENT ON COLUMN entry.note IS 'noted';
    COMMENT ON INDEX "odd i" IS 'an index';
    GRANT SELECT ON entry TO clerk;
    ALTER TABLE entry ENABLE ROW LEVEL SECURITY;
    CREATE POLICY mine ON entry FOR SELECT TO clerk USING (account = 1);
    CREATE INDEX by_note ON entry (note) WHERE note > 'm';
    CREATE STATISTICS both_of ON account, note FROM entry;
    CREATE TABLE part (k int, v text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
    CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200);
    INSERT INTO part SELECT g, 'v' FROM generate_series(0, 199) g;
    CREATE TABLE of_part (id int PRIMARY KEY, k int REFERENCES part);
    INSERT INTO of_part SELECT g, g FROM generate_series(0, 199) g;
    CREATE TABLE nothing ();
    INSERT INTO nothing DEFAULT VALUES;
"#;
const ODD: &str = "odd \"t\" %\nx";

struct World {
    server: Server,
    vault: TempDir,
    manifest: Manifest,
}

impl World {
    fn new() -> Self {
        let server = Server::start(None);
        server.psql("postgres", SHOP);
        let vault = tempfile::tempdir().unwrap();
        let manifest = dump(&server, vault.path(), "day", None);
        Self { server, vault, manifest }
    }

    fn day(&self) -> PathBuf {
        self.vault.path().join("day")
    }

    fn wish<'a>(&'a self, day: &'a Path, table: &str) -> TableWish<'a> {
        TableWish {
            day,
            manifest: &self.manifest,
            server: self.server.config(),
            bin_dir: Some(self.server.bin_dir().to_owned()),
            database: "shop".to_owned(),
            schema: "public".to_owned(),
            table: table.to_owned(),
            tag: 7,
        }
    }

    fn shop(&self, sql: &str) -> String {
        self.server.psql("shop", sql)
    }

    /// The schema of the database: what a transaction that is rolled back, or taken back, must leave as it was.
    fn schema(&self) -> String {
        let mut dump = self.server.client("pg_dump");
        let said = check(dump.args(["--schema-only", "--restrict-key=x", "shop"]), "pg_dump");
        String::from_utf8(said).unwrap()
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

async fn looked(wish: &TableWish<'_>) -> (TableSurvey, TableSwap) {
    let found = survey_table(wish, &context()).await.unwrap();
    assert!(found.is_possible(), "{:#?}", found.problems);
    let swap = TableSwap::plan(wish, &found).unwrap();
    (found, serde_json::from_str(&serde_json::to_string(&swap).unwrap()).unwrap())
}

#[test]
fn rows_are_replaced_and_put_back() {
    let world = World::new();
    let (day, source) = (world.day(), picture(&world.server));
    // Everything that can happen to rows, but nothing that breaks what refers to them.
    world.shop(
        "UPDATE account SET name = 'changed' WHERE id % 2 = 0; UPDATE entry SET note = 'changed', account = 2 WHERE id % 3 = 0;
         INSERT INTO nothing DEFAULT VALUES; UPDATE part SET v = 'w' WHERE k < 100; TRUNCATE log;",
    );
    world.shop(&format!("DELETE FROM {}", daykeep::postgres::identifier(ODD)));
    let before = picture(&world.server);
    run(async {
        for table in ["account", "entry", "nothing", "part_1", ODD] {
            let wish = world.wish(&day, table);
            let (found, swap) = looked(&wish).await;
            assert_eq!(swap.state(&wish.server).await.unwrap(), State::Before);
            swap.forward(&wish, &found, &context()).await.unwrap();
            swap.forward(&wish, &found, &context()).await.unwrap();
            assert_eq!(swap.state(&wish.server).await.unwrap(), State::After);
            assert_ne!(picture(&world.server).all, before.all, "{table}");
            swap.back(&wish.server, &context()).await.unwrap();
            swap.back(&wish.server, &context()).await.unwrap();
            assert_eq!(swap.state(&wish.server).await.unwrap(), State::Before);
            assert_same("put back", &picture(&world.server), &before);
        }
        assert_eq!(world.shop("SELECT count(*) FROM log"), "0", "no trigger acted");
        for table in ["account", "entry", "nothing", "part_1", ODD] {
            let wish = world.wish(&day, table);
            let (found, swap) = looked(&wish).await;
            swap.forward(&wish, &found, &context()).await.unwrap();
            swap.drop_old(&wish.server).await.unwrap();
            swap.drop_old(&wish.server).await.unwrap();
        }
        // The triggers had written 3000 rows into the log of the day; it is not what was restored.
        world.shop("INSERT INTO log SELECT 'INSERT' FROM generate_series(1, 0)");
    });
    assert_same("restored", &picture(&world.server), &source);
}

#[test]
fn a_table_that_is_missing_is_made_with_all_that_belongs_to_it() {
    let world = World::new();
    let (day, source, schema) = (world.day(), picture(&world.server), world.schema());
    world.shop(&format!("DROP TABLE entry; DROP TABLE {}", daykeep::postgres::identifier(ODD)));
    run(async {
        for table in ["entry", ODD] {
            let (before, schema_before) = (picture(&world.server), world.schema());
            let wish = world.wish(&day, table);
            let (found, swap) = looked(&wish).await;
            assert_eq!((found.live_rows, swap.created), (None, true));
            swap.forward(&wish, &found, &context()).await.unwrap();
            swap.back(&wish.server, &context()).await.unwrap();
            assert_same("dropped again", &picture(&world.server), &before);
            assert_eq!(world.schema(), schema_before);
            let (found, swap) = looked(&wish).await;
            swap.forward(&wish, &found, &context()).await.unwrap();
            swap.drop_old(&wish.server).await.unwrap();
        }
    });
    let sorted = |schema: &str| {
        let mut lines: Vec<String> = schema.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&world.schema()), sorted(&schema));
    assert_eq!(sorted(&picture(&world.server).all), sorted(&source.all));
    assert_eq!(
        world.shop("INSERT INTO entry (account) VALUES (1) RETURNING id"),
        "3001",
        "the identity goes on"
    );
}

#[test]
fn what_cannot_be_one_table_is_refused() {
    let world = World::new();
    let day = world.day();
    let refused = |table: &str, change: &str, why: &str| {
        if !change.is_empty() {
            world.shop(change);
        }
        let found = run(survey_table(&world.wish(&day, table), &context())).unwrap();
        assert_eq!(found.problems.join("; "), why);
    };
    refused(
        "part",
        "",
        "the rows of \"public\".\"part\" are not in the day by themselves (it is not there, is a partitioned table or a view, or belongs \
         to an extension): restore database \"shop\"",
    );
    refused(
        "log",
        "ALTER TABLE log RENAME what TO which; ALTER TABLE log ADD \"more \"\"x\" int",
        "the columns of \"public\".\"log\" differ: the server's lacks \"what\", and the day's lacks \"which\", \"more \\\"x\"",
    );
    refused(
        "account",
        "ALTER TABLE account ALTER twice DROP EXPRESSION",
        "the columns of \"public\".\"account\" differ: the day's lacks \"twice\"",
    );
    refused(
        "entry",
        "ALTER TABLE entry ENABLE ALWAYS TRIGGER noted",
        "trigger \"noted\" of \"public\".\"entry\" is enabled ALWAYS or on a REPLICA and would act on the rows that come and go: disable it first",
    );
    refused(
        "nothing",
        "DROP TABLE nothing; CREATE VIEW nothing AS SELECT 1",
        "\"public\".\"nothing\" is no plain table on the server",
    );
}

#[test]
fn a_broken_reference_or_another_type_changes_nothing() {
    let world = World::new();
    let day = world.day();
    let failed = |table: &str, change: &str, why: &str| {
        world.shop(change);
        let before = picture(&world.server);
        run(async {
            let wish = world.wish(&day, table);
            let (found, swap) = looked(&wish).await;
            let error = swap.forward(&wish, &found, &context()).await.unwrap_err().to_string();
            assert_eq!(error, why);
            assert_eq!(swap.state(&wish.server).await.unwrap(), State::Before);
        });
        assert_same("refused", &picture(&world.server), &before);
    };
    let broken = |table: &str, key: &str| {
        format!(
            "with these rows of \"public\".\"{table}\", the foreign key {key} would not hold: restore the other table too, or the whole database"
        )
    };
    // A row that the day does not have is referred to.
    failed(
        "account",
        "INSERT INTO account (id, name) VALUES (900, 'new'); INSERT INTO entry (account) VALUES (900)",
        &broken("account", "public.entry entry_account_fkey"),
    );
    // A row of the day refers to one that is gone.
    failed(
        "entry",
        "DELETE FROM account WHERE id IN (5, 900)",
        &broken("entry", "public.entry entry_account_fkey"),
    );
    // A partition's rows are referred to through its root.
    failed(
        "part_1",
        "ALTER TABLE of_part DROP CONSTRAINT of_part_k_fkey; ALTER TABLE of_part ADD CONSTRAINT again FOREIGN KEY (k) REFERENCES part;
         DELETE FROM of_part WHERE k = 7; DELETE FROM part WHERE k = 7; ALTER TABLE part_1 ADD CONSTRAINT small CHECK (k <> 7)",
        "database \"shop\" on socket SOCKET: cannot load the rows of \"public\".\"part_1\": ERROR: new row for relation \"part_1\" violates \
         check constraint \"small\"; Failing row contains (7, v).; COPY part_1, line 8: \"7\tv\" (SQLSTATE 23514)"
            .replace("SOCKET", &format!("{}/.s.PGSQL.5432", world.server.socket_dir().display()))
            .as_str(),
    );
    failed(
        ODD,
        &format!(
            "ALTER TABLE {0} ALTER n TYPE numeric(9,1); ALTER TABLE {0} ALTER n DROP DEFAULT",
            daykeep::postgres::identifier(ODD)
        ),
        "\"public\".U&\"odd \"\"t\"\" %\\000Ax\" does not keep the day's rows as they are: a column has another type than in the day; \
         restore the whole database",
    );
}

#[test]
fn cut_off_at_any_statement_it_has_happened_or_not() {
    let world = World::new();
    let day = world.day();
    world.shop("UPDATE entry SET note = 'changed'");
    let changed = "SELECT count(*), count(*) FILTER (WHERE note = 'changed') FROM entry";
    run(async {
        let wish = world.wish(&day, "entry");
        for way in ["forward", "back"] {
            let mut statements = 0;
            loop {
                let (found, swap) = looked(&wish).await;
                if way == "back" {
                    swap.forward(&wish, &found, &context()).await.unwrap();
                }
                let last = if statements % 2 == 0 { Last::Done } else { Last::Lost };
                let cut = Cut::before(&world.server, statements, last);
                let far = TableWish { server: cut.config(&world.server), ..wish.clone() };
                let outcome = if way == "forward" {
                    swap.forward(&far, &found, &context()).await
                } else {
                    swap.back(&far.server, &context()).await
                };
                assert_eq!(outcome.is_err(), cut.has_cut(), "{way} {statements}");
                // The server may still be at the last statement.
                world.shop("BEGIN; LOCK TABLE entry; COMMIT");
                let expected = match swap.state(&wish.server).await.unwrap() {
                    State::Before => "3000|3000",
                    State::After => "3000|0",
                };
                assert_eq!(world.shop(changed), expected, "{way} {statements} {last:?}");
                swap.forward(&wish, &found, &context()).await.unwrap();
                assert_eq!(world.shop(changed), "3000|0");
                swap.back(&wish.server, &context()).await.unwrap();
                assert_eq!(world.shop(changed), "3000|3000");
                if !cut.has_cut() {
                    break;
                }
                statements += 1;
            }
            assert!(statements > 6, "{way}: only {statements} statements");
        }
    });
}
