//! One table of a day put in the place of what it is now, and back.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use daykeep::database::restore::{
    RestoreError, State, TableSurvey, TableSwap, TableWish, TableWork, prepare_tables, put_tables_back,
    survey_table,
};
use daykeep::manifest::Manifest;
use support::context::context;
use support::cut::{Cut, Last};
use support::picture::{assert_same, dump, picture};
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

async fn forward(wish: &TableWish<'_>, survey: &TableSurvey, swap: &TableSwap) -> Result<(), RestoreError> {
    match prepare_tables(&[TableWork { swap, wish, survey }], &context()).await? {
        Some(ready) => ready.commit().await,
        None => Ok(()),
    }
}

async fn back(wish: &TableWish<'_>, swap: &TableSwap) -> Result<(), RestoreError> {
    put_tables_back(std::slice::from_ref(swap), &wish.server, &context()).await
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
            forward(&wish, &found, &swap).await.unwrap();
            forward(&wish, &found, &swap).await.unwrap();
            assert_eq!(swap.state(&wish.server).await.unwrap(), State::After);
            assert_ne!(picture(&world.server).all, before.all, "{table}");
            back(&wish, &swap).await.unwrap();
            back(&wish, &swap).await.unwrap();
            assert_eq!(swap.state(&wish.server).await.unwrap(), State::Before);
            assert_same("put back", &picture(&world.server), &before);
        }
        assert_eq!(world.shop("SELECT count(*) FROM log"), "0", "no trigger acted");
        for table in ["account", "entry", "nothing", "part_1", ODD] {
            let wish = world.wish(&day, table);
            let (found, swap) = looked(&wish).await;
            forward(&wish, &found, &swap).await.unwrap();
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
            forward(&wish, &found, &swap).await.unwrap();
            back(&wish, &swap).await.unwrap();
            assert_same("dropped again", &picture(&world.server), &before);
            assert_eq!(world.schema(), schema_before);
            let (found, swap) = looked(&wish).await;
            forward(&wish, &found, &swap).await.unwrap();
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
        "the rows of \"public\".\"part\" are not in the day by themselves (it is a partitioned table or a view, or belongs to an extension): \
         restore database \"shop\"",
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
            let error = forward(&wish, &found, &swap).await.unwrap_err().to_string();
            assert_eq!(error, why);
            assert_eq!(swap.state(&wish.server).await.unwrap(), State::Before);
        });
        assert_same("refused", &picture(&world.server), &before);
    };
    // A row that the day does not have is referred to.
    failed(
        "account",
        "INSERT INTO account (id, name) VALUES (900, 'new'), (901, 'new'); INSERT INTO entry (account) VALUES (901), (900)",
        "with the rows of the day the foreign key public.entry entry_account_fkey would not hold: 2 rows of public.entry refer to what \
         public.account would lack, for example account = 900; restore public.entry with it (`--table`), or the whole database \
         (`--database`), or put the day elsewhere (`--to-server`)",
    );
    // A row of the day refers to one that is gone.
    failed(
        "entry",
        "DELETE FROM account WHERE id IN (5, 900, 901)",
        "with the rows of the day the foreign key public.entry entry_account_fkey would not hold: 6 rows of public.entry refer to what \
         public.account would lack, for example account = 5; restore public.account with it (`--table`), or the whole database \
         (`--database`), or put the day elsewhere (`--to-server`)",
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
                    forward(&wish, &found, &swap).await.unwrap();
                }
                let last = if statements % 2 == 0 { Last::Done } else { Last::Lost };
                let cut = Cut::before(&world.server, statements, last);
                let far = TableWish { server: cut.config(&world.server), ..wish.clone() };
                let outcome = if way == "forward" {
                    forward(&far, &found, &swap).await
                } else {
                    back(&far, &swap).await
                };
                assert_eq!(outcome.is_err(), cut.has_cut(), "{way} {statements}");
                // The server may still be at the last statement.
                world.shop("BEGIN; LOCK TABLE entry; COMMIT");
                let expected = match swap.state(&wish.server).await.unwrap() {
                    State::Before => "3000|3000",
                    State::After => "3000|0",
                };
                assert_eq!(world.shop(changed), expected, "{way} {statements} {last:?}");
                forward(&wish, &found, &swap).await.unwrap();
                assert_eq!(world.shop(changed), "3000|0");
                back(&wish, &swap).await.unwrap();
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

/// The child comes before the parent by its name, and each needs the day's rows of the other.
const FAMILY: &str = r"
    CREATE TABLE parent (a int, b text, best int, PRIMARY KEY (a, b));
    CREATE TABLE child (id int PRIMARY KEY, a int, b text, FOREIGN KEY (a, b) REFERENCES parent);
    INSERT INTO parent SELECT g, 'p' || g FROM generate_series(1, 50) g;
    INSERT INTO child SELECT g, g, 'p' || g FROM generate_series(1, 50) g;
    ALTER TABLE parent ADD FOREIGN KEY (best) REFERENCES child;
    COMMENT ON CONSTRAINT parent_best_fkey ON parent IS 'both ways';
    UPDATE parent SET best = a;
";

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn tables_that_need_each_other_change_places_together() {
    let server = Server::start(None);
    server.psql("postgres", "CREATE DATABASE shop");
    server.psql("shop", FAMILY);
    let vault = tempfile::tempdir().unwrap();
    let manifest = dump(&server, vault.path(), "day", None);
    let world = World { server, vault, manifest };
    let (day, source, schema) = (world.day(), picture(&world.server), world.schema());
    let wishes = || {
        let wish = |table: &str, tag| TableWish { tag, ..world.wish(&day, table) };
        [wish("child", 7), wish("parent", 8)]
    };
    for change in [
        "UPDATE parent SET best = NULL; DELETE FROM child; DELETE FROM parent; INSERT INTO parent VALUES (99, 'new'); \
         INSERT INTO child VALUES (99, 99, 'new'); UPDATE parent SET best = 99",
        "DROP TABLE child, parent",
    ] {
        world.shop(change);
        let (before, schema_before) = (picture(&world.server), world.schema());
        run(async {
            let wishes = wishes();
            let mut looked_at = Vec::new();
            for wish in &wishes {
                looked_at.push(looked(wish).await);
            }
            let (surveys, swaps): (Vec<_>, Vec<_>) = looked_at.into_iter().unzip();
            let works: Vec<_> = wishes
                .iter()
                .zip(&surveys)
                .zip(&swaps)
                .map(|((wish, survey), swap)| TableWork { swap, wish, survey })
                .collect();
            // Made ready and dropped, nothing has happened.
            drop(prepare_tables(&works, &context()).await.unwrap().expect("something is to be done"));
            world.shop("SELECT pg_sleep(0.2)");
            assert_same("dropped before the COMMIT", &picture(&world.server), &before);
            // One of them alone is refused, or cannot be made.
            let alone = prepare_tables(&works[..1], &context()).await.map(drop).unwrap_err().to_string();
            let words = if change.starts_with("DROP") {
                "does not exist"
            } else {
                "(a, b) = (1, p1); restore public.parent with it"
            };
            assert!(alone.contains(words), "{alone}");
            prepare_tables(&works, &context()).await.unwrap().unwrap().commit().await.unwrap();
            assert!(prepare_tables(&works, &context()).await.unwrap().is_none(), "it is done");
            for _ in 0..2 {
                put_tables_back(&swaps, &world.server.config(), &context()).await.unwrap();
            }
            assert_same("put back", &picture(&world.server), &before);
            assert_eq!(world.schema(), schema_before);
            prepare_tables(&works, &context()).await.unwrap().unwrap().commit().await.unwrap();
            for swap in &swaps {
                swap.drop_old(&world.server.config()).await.unwrap();
            }
        });
        assert_eq!(sorted(&picture(&world.server).all), sorted(&source.all));
        assert_eq!(sorted(&world.schema()), sorted(&schema));
    }
}
