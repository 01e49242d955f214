//! A server held against what was recorded of it: nothing differs, and then one thing after the other does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test looks at files and starts programs itself")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use daykeep::config::{Database, Databases};
use daykeep::database::{Comparison, Live, Recorded, compare, prepare};
use daykeep::event::Context;
use daykeep::manifest::{DatabaseRecord, DatabaseSeal, Released, Still};
use daykeep::postgres::{self, Programs};
use support::context::context;
use support::postgres::{Server, default_major, majors};
use tempfile::TempDir;

struct Held;
impl Still for Held {}
struct Free;
impl Released for Free {}

/// Everything that a table of contents can name, with names that cannot be cut out of a line.
const SHOP: &str = r#"
    CREATE ROLE "shop owner";
    CREATE SCHEMA "odd schema" AUTHORIZATION "shop owner";
    CREATE TABLE customers (id int PRIMARY KEY, name varchar(40) NOT NULL CHECK (name <> ''));
    CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, note text,
        UNIQUE (id, customer), CONSTRAINT "a note" CHECK (note IS DISTINCT FROM 'bad'));
    CREATE TABLE "odd schema"."line ""item"
        (order_id int, customer int, "at time" timestamptz DEFAULT '2026-01-02 03:04:05+00', price numeric, bytes bytea,
         total numeric GENERATED ALWAYS AS (price * 2) STORED,
         FOREIGN KEY (order_id, customer) REFERENCES orders (id, customer) MATCH FULL);
    ALTER TABLE "odd schema"."line ""item" OWNER TO "shop owner";
    CREATE INDEX "odd
index" ON "odd schema"."line ""item" ("at time");
    CREATE TABLE parts (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE parts_one PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-06-01');
    CREATE TABLE parts_two PARTITION OF parts FOR VALUES FROM ('2026-06-01') TO ('2027-01-01');
    CREATE TABLE uses_parts (id int, at date, FOREIGN KEY (id, at) REFERENCES parts);
    CREATE TABLE old_rows (id int);
    INSERT INTO old_rows VALUES (-1);
    ALTER TABLE old_rows ADD CONSTRAINT positive CHECK (id > 0) NOT VALID;
    CREATE TABLE parent (a int, b text);
    CREATE TABLE child (c int) INHERITS (parent);
    ALTER TABLE parent ADD COLUMN d int;
    CREATE VIEW seen AS SELECT id FROM orders;
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM customers;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER "on touch" BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE RULE quiet AS ON DELETE TO old_rows DO INSTEAD NOTHING;
    CREATE POLICY own ON customers USING (true);
    ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
    CREATE SEQUENCE numbers;
    CREATE DOMAIN positive_number AS int CHECK (VALUE > 0);
    CREATE TABLE texts (t text COLLATE "C" PRIMARY KEY);
    CREATE TABLE text_users (t text COLLATE "POSIX" REFERENCES texts);
    SELECT lo_from_bytea(0, 'large');
    INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 100) n;
    INSERT INTO orders SELECT n, 1 + n % 100, repeat('x', n % 50) FROM generate_series(1, 1000) n;
    INSERT INTO "odd schema"."line ""item" (order_id, customer, price, bytes)
        SELECT n, 1 + n % 100, n * 1.5, '\x00ff' FROM generate_series(1, 500) n;
    INSERT INTO parts SELECT n, date '2026-01-01' + n FROM generate_series(1, 300) n;
    INSERT INTO uses_parts SELECT n, date '2026-01-01' + n FROM generate_series(1, 300) n;
    INSERT INTO child VALUES (1, 'b', 3, 4);
    INSERT INTO texts VALUES ('a'), ('b');
    INSERT INTO text_users VALUES ('a'), (NULL);
"#;

struct World {
    server: Server,
    day: TempDir,
    record: DatabaseRecord,
    seals: Vec<DatabaseSeal>,
    programs: Programs,
    context: Context,
}

impl World {
    async fn new() -> Self {
        Self::of(default_major()).await
    }

    async fn of(major: u32) -> Self {
        let server = Server::start(major);
        server.psql("postgres", "CREATE DATABASE shop");
        server.psql("postgres", "CREATE DATABASE caf ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
        server.psql("shop", SHOP);
        server.psql("caf", "CREATE TABLE \"café\" (\"prix é\" text); INSERT INTO \"café\" VALUES ('1 é')");
        let context = context();
        let config = Database {
            server: server.config(),
            databases: Databases::AllBut(vec![]),
            globals: true,
            jobs: 2,
            compression: 1,
            bin_dir: Some(server.bin_dir().to_owned()),
            lock_timeout: Duration::from_secs(5),
        };
        let day = TempDir::new().unwrap();
        let mut frozen = prepare(&config, &context).await.unwrap().freeze(&Held, &context).await.unwrap();
        let dumped = frozen.dump(&Free, &day.path().join("database"), None, false, &context).await.unwrap();
        frozen.finish().await.unwrap();
        let programs = postgres::find_server_programs(Some(server.bin_dir()), server.major()).await.unwrap();
        Self { server, day, record: dumped.record, seals: dumped.seals, programs, context }
    }

    async fn compare_with(&self, seal: Option<&[DatabaseSeal]>) -> Comparison {
        let live = Live::connect(&self.server.config()).await.unwrap();
        let recorded = Recorded { day: self.day.path(), databases: &self.record.databases, seal, only: None };
        compare(&live, &recorded, &self.programs, 2, &self.context).await.unwrap()
    }

    async fn differences(&self) -> Vec<String> {
        let found = self.compare_with(Some(&self.seals)).await;
        found.differences.iter().map(ToString::to_string).collect()
    }

    /// What differs after a change, which is taken back.
    async fn after(&self, change: &str, back: &str) -> Vec<String> {
        self.server.psql("shop", change);
        let found = self.differences().await;
        self.server.psql("shop", back);
        found
    }

    fn tables_of(&self, database: &str) -> PathBuf {
        self.day.path().join("database").join(database).join("tables.jsonl")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dumped_is_what_is_there() {
    for major in majors().into_keys() {
        let world = World::of(major).await;
        for seal in [Some(world.seals.as_slice()), None] {
            let found = world.compare_with(seal).await;
            assert_eq!(found.differences, [], "PostgreSQL {major}");
            assert!(found.databases == 4 && found.rows >= 2204 && found.tables == 11, "{found:?}");
            assert!(found.objects > 25 && found.constraints == 6, "{found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_difference_is_named() {
    let world = World::new().await;
    let cases = [
        (
            "DELETE FROM customers WHERE false; INSERT INTO texts VALUES ('c')",
            "DELETE FROM texts WHERE t = 'c'",
            "database \"shop\": table \"public\".\"texts\" has 3 rows, and 2 were recorded at the freeze point",
        ),
        (
            "UPDATE child SET d = 5",
            "UPDATE child SET d = 4",
            "database \"shop\": table \"public\".\"child\" has 1 rows as recorded, but not the same rows",
        ),
        (
            "ALTER TABLE text_users RENAME TO other",
            "ALTER TABLE other RENAME TO text_users",
            "database \"shop\": table \"public\".\"text_users\" is missing\n\
             database \"shop\": table \"public\".\"other\" was not recorded at the freeze point\n\
             database \"shop\": FK CONSTRAINT public text_users text_users_t_fkey postgres is missing or has another owner\n\
             database \"shop\": TABLE public text_users postgres is missing or has another owner",
        ),
        (
            "DROP TRIGGER \"on touch\" ON orders",
            "CREATE TRIGGER \"on touch\" BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touch()",
            "database \"shop\": TRIGGER public orders on touch postgres is missing or has another owner",
        ),
        (
            "ALTER TABLE customers DISABLE ROW LEVEL SECURITY; ALTER POLICY own ON customers RENAME TO mine",
            "ALTER TABLE customers ENABLE ROW LEVEL SECURITY; ALTER POLICY mine ON customers RENAME TO own",
            "database \"shop\": POLICY public customers own postgres is missing or has another owner\n\
             database \"shop\": ROW SECURITY public customers postgres is missing or has another owner",
        ),
        (
            "ALTER SEQUENCE numbers OWNER TO \"shop owner\"",
            "ALTER SEQUENCE numbers OWNER TO postgres",
            "database \"shop\": SEQUENCE public numbers postgres is missing or has another owner",
        ),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_pkey'::regclass",
            "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'orders_pkey'::regclass",
            "database \"shop\": index public.orders_pkey is not valid",
        ),
        (
            "UPDATE pg_constraint SET convalidated = false WHERE conname = 'a note'",
            "UPDATE pg_constraint SET convalidated = true WHERE conname = 'a note'",
            "database \"shop\": constraint \"a note\" of public.orders is not valid",
        ),
    ];
    for (change, back, expected) in cases {
        assert_eq!(world.after(change, back).await.join("\n"), expected, "{change}");
        assert_eq!(world.differences().await, [""; 0], "taken back: {change}");
    }
    let numbers = "SELECT lo_unlink(oid) FROM pg_largeobject_metadata";
    world.server.psql("shop", numbers);
    let found = world.differences().await;
    assert!(found.len() == 1 && found[0].contains(": large object "), "{found:?}");
    world.server.psql("postgres", "DROP DATABASE caf; CREATE DATABASE new");
    let found = world.differences().await;
    assert!(found.contains(&"database \"caf\" is missing".to_owned()), "{found:?}");
    assert!(found.contains(&"database \"new\" was not in the day".to_owned()), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_break_a_constraint_are_counted() {
    let world = World::new().await;
    let unguarded = |sql: &str| format!("SET session_replication_role = replica; {sql}");
    let rows_differ = |found: &str| !found.contains(" rows, and ") && !found.contains(" as recorded");
    let found: Vec<String> = world
        .after(
            &unguarded("DELETE FROM customers WHERE id = 7; DELETE FROM parts WHERE id = 9"),
            "SET session_replication_role = replica; INSERT INTO customers VALUES (7, 'customer 7'); \
         INSERT INTO parts VALUES (9, '2026-01-10')",
        )
        .await
        .into_iter()
        .filter(|found| rows_differ(found))
        .collect();
    assert_eq!(
        found,
        [
            "database \"shop\": foreign key orders_customer_fkey of public.orders: 10 rows break it",
            "database \"shop\": foreign key uses_parts_id_at_fkey of public.uses_parts: 1 rows break it",
        ]
    );
    let found: Vec<String> = world
        .after(
            &unguarded("INSERT INTO \"odd schema\".\"line \"\"item\" (order_id, customer) VALUES (1, NULL)"),
            "DELETE FROM \"odd schema\".\"line \"\"item\" WHERE customer IS NULL",
        )
        .await
        .into_iter()
        .filter(|found| rows_differ(found))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("\"line \"\"item\": 1 rows break it"), "MATCH FULL: {found:?}");
    let swap = |from: &str, to: &str| {
        format!(
            "ALTER TABLE customers DROP CONSTRAINT customers_name_check; UPDATE customers SET name = '{to}' WHERE name = '{from}'; \
             ALTER TABLE customers ADD CONSTRAINT customers_name_check CHECK (name <> '') NOT VALID; \
             UPDATE pg_constraint SET convalidated = true WHERE conname = 'customers_name_check'"
        )
    };
    let found = world.after(&swap("customer 3", ""), &swap("", "customer 3")).await;
    assert!(
        found.contains(
            &"database \"shop\": CHECK customers_name_check of public.customers: 1 rows break it".to_owned()
        ),
        "{found:?}"
    );
    assert_eq!(world.differences().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_lost_a_table_together_with_its_records_is_told_by_the_seal() {
    let world = World::new().await;
    let path = world.tables_of("shop");
    let text = std::fs::read_to_string(&path).unwrap();
    let kept: String = text.split_inclusive('\n').filter(|line| !line.contains("\"texts\"")).collect();
    assert_ne!(kept, text);
    std::fs::write(&path, kept).unwrap();
    world.server.psql("shop", "DROP TABLE text_users, texts");
    let found = world.differences().await;
    for table in ["texts", "text_users"] {
        let missing = format!("database \"shop\": table \"public\".\"{table}\" is missing");
        assert!(found.contains(&missing), "{found:?}");
    }
}
