//! A server that fails while a day is kept or restored: at every stage a clear error or a right day, the repository released, no half
//! day, and the next one succeeds.
//!
//! A socket in front of the server counts the statements of daykeep and of its pg_dump and keeps one of them back while something is done to
//! the server: so each stage is hit exactly, from the first question to the last.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what was hit is worth knowing")]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

mod support;

use support::cut::{Cut, Last};
use support::shop::{NAME, Shop, said};
use support::state::State;

/// A database that comes and goes.
const SPARE: &str = "spare";
/// So many statements pass before one that never comes.
const NEVER: i64 = 1 << 40;
/// How long a run may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(150);

/// A shop that is held by commands which leave traces.
fn held_shop(more: &str) -> Shop {
    let shop = Shop::new(more);
    let trace = shop.path("trace").display().to_string();
    shop.reconfigure(
        &format!("[repository.{NAME}.hold.none]"),
        &format!(
            "[repository.{NAME}.hold]\nmax = \"60s\"\n[repository.{NAME}.hold.command]\n\
             pause = [\"sh\", \"-c\", \"echo pause >> {trace}\"]\nrelease = [\"sh\", \"-c\", \"echo release >> {trace}\"]"
        ),
    );
    shop
}

/// From now on daykeep meets the server through this socket.
fn through(shop: &Shop, cut: &Cut) -> (String, String) {
    let real = format!("host = \"{}\"", shop.server.socket_dir().display());
    let front = format!("host = \"{}\"", cut.host().display());
    shop.reconfigure(&real, &front);
    (front, real)
}

/// How a run ended, and the step that it had reached when the statement came.
struct Ended {
    good: bool,
    said: String,
    step: String,
}

/// The last step in the newest job's journal.
fn last_step(shop: &Shop) -> String {
    let jobs = fs::read_dir(shop.path("state").join(NAME).join("jobs")).unwrap();
    let number = |path: &std::path::PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let newest = jobs.map(|entry| entry.unwrap().path()).max_by_key(number).unwrap();
    let text = fs::read_to_string(newest).unwrap();
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().find_map(|line| Some(line.get("step")?.as_str()?.to_owned())).unwrap_or_default()
}

/// Starts `daykeep` through the socket; when the statement has come, `blow` is done to the server, and the statement goes on.
fn struck(shop: &mut Shop, arguments: &[&str], cut: &Cut, blow: impl FnOnce(&mut Shop)) -> Ended {
    let (front, real) = through(shop, cut);
    let ended = struck_there(shop, arguments, cut, blow);
    shop.reconfigure(&front, &real);
    ended
}

/// The same, where the configuration names the socket already.
fn struck_there(shop: &mut Shop, arguments: &[&str], cut: &Cut, blow: impl FnOnce(&mut Shop)) -> Ended {
    let log = fs::File::create(shop.path("said")).unwrap();
    let mut command = shop.daykeep(arguments);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut child = Killed(command.spawn().unwrap());
    let begun = Instant::now();
    let mut blow = Some(blow);
    let mut step = String::new();
    let status = loop {
        if cut.has_cut()
            && let Some(blow) = blow.take()
        {
            step = last_step(shop);
            blow(shop);
            cut.open();
        }
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "it hangs at {step}: {}",
            fs::read_to_string(shop.path("said")).unwrap()
        );
        std::thread::sleep(Duration::from_millis(5));
    };
    let said = fs::read_to_string(shop.path("said")).unwrap();
    assert!(!said.contains("panicked") && status.code().is_some_and(|code| code != 101), "{status}: {said}");
    Ended { good: status.success(), said, step }
}

/// A process that does not outlive a test that fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_arguments() -> [&'static str; 3] {
    ["--quiet", "run", NAME]
}

/// The rows of every table, as the server sent them for this day: outside the day, and made on the way.
fn rows_of(shop: &Shop, day: &str) -> Value {
    let path = shop.path("vault").join(NAME).join("seals").join(format!("{day}.json"));
    let text = fs::read(&path).unwrap();
    // Its own digest follows it.
    let mut values = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
    let seal = values.next().unwrap().unwrap();
    let mut rows = seal["databases"].as_array().expect("databases").clone();
    rows.retain(|database| database["name"] != SPARE);
    assert!(rows.len() > 2, "{seal:#}");
    Value::Array(rows)
}

/// Nothing is held, nobody waits for anything, and no half day stands there. Gives the days.
fn assert_clean(shop: &Shop, when: &str) -> Vec<String> {
    let trace = fs::read_to_string(shop.path("trace")).unwrap_or_default();
    // Who finds it held by a restore that failed pauses it once more, and releases it once.
    let last = trace.lines().next_back();
    assert!(!shop.path("state").join(NAME).join("hold.json").exists(), "{when}: it is held");
    assert!(last.is_none_or(|last| last == "release"), "{when}: not released: {trace}");
    let days = shop.vault().days(jiff::Timestamp::now()).unwrap();
    assert_eq!(days.quarantined, [], "{when}");
    days.good.iter().map(|day| day.name().to_owned()).collect()
}

/// How many statements a run takes.
fn statements(shop: &mut Shop, arguments: &[&str]) -> i64 {
    let cut = Cut::gate(&shop.server, NEVER);
    let ended = struck(shop, arguments, &cut, |_| {});
    assert!(ended.good, "{}", ended.said);
    NEVER - cut.left()
}

/// Does something to the server at so many points of a run, and looks at what comes of each.
fn at_points(points: i64, cut: impl Fn(&Shop, i64) -> Cut, mut blow: impl FnMut(&mut Shop)) {
    let mut shop = held_shop("");
    shop.run();
    let all = statements(&mut shop, &run_arguments());
    assert!(all > 30, "{all} statements");
    let mut days = assert_clean(&shop, "before");
    let rows = rows_of(&shop, &days[0]);
    let mut seen: BTreeMap<String, [u32; 2]> = BTreeMap::new();
    let mut told = BTreeMap::new();
    let steps = ["preflight", "freeze", "dump"];
    let evenly: Vec<i64> = (0..points).map(|point| point * (all - 1) / (points - 1)).collect();
    // Sessions speak at the same time, so that a statement is not the same in every run: what no point has hit is looked for.
    let others = (0..all).rev().filter(|statement| !evenly.contains(statement));
    for (point, statement) in (0..).zip(evenly.iter().copied().chain(others)) {
        if point >= points && steps.iter().all(|step| seen.contains_key(*step)) {
            break;
        }
        let cut = cut(&shop, statement);
        let ended = struck(&mut shop, &run_arguments(), &cut, &mut blow);
        let when = format!("statement {statement} of {all} at {}: {}", ended.step, ended.said);
        if !shop.server.answers() {
            shop.server.run();
        }
        let now = assert_clean(&shop, &when);
        seen.entry(ended.step).or_default()[usize::from(ended.good)] += 1;
        if ended.good {
            assert_eq!(rows_of(&shop, now.last().unwrap()), rows, "{when}");
        } else {
            assert_eq!(now, days, "a run that failed keeps no day and costs none: {when}");
            let words = ["server", "database", "connection", "session", "pg_dump"];
            assert!(words.iter().any(|word| ended.said.contains(word)), "nobody understands this: {when}");
            told.entry(ended.said.lines().next().unwrap_or_default().to_owned()).or_insert(statement);
        }
        if point % 4 == 3 || point >= points - 1 {
            shop.run();
        }
        days = assert_clean(&shop, "the next run");
        assert_eq!(rows_of(&shop, days.last().unwrap()), rows, "the next run");
    }
    eprintln!("failed and kept, by step: {seen:?}\n{told:#?}");
    for step in steps {
        assert!(seen.contains_key(step), "nothing hit the step {step}: {seen:?}");
    }
    assert!(seen.values().any(|[failed, _]| *failed > 0), "{seen:?}");
    let verified = shop.output(&["verify", NAME, "--all"]);
    assert!(verified.status.success(), "{}", said(&verified));
}

const SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

#[test]
fn a_run_whose_sessions_are_terminated_at_any_point_fails_clearly_or_keeps_a_right_day() {
    at_points(
        14,
        |shop, statement| Cut::gate(&shop.server, statement),
        |shop| {
            shop.server.psql("postgres", SESSIONS);
        },
    );
}

#[test]
fn a_run_that_loses_a_database_at_any_point_fails_clearly_or_keeps_a_right_day() {
    let spare = format!("CREATE DATABASE {SPARE}");
    let again = |shop: &Shop, statement| {
        let there = format!("SELECT count(*) FROM pg_database WHERE datname = '{SPARE}'");
        if shop.server.psql("postgres", &there) == "0" {
            shop.server.psql("postgres", &spare);
            shop.server.psql(SPARE, "CREATE TABLE t AS SELECT generate_series(1, 5000) AS a");
        }
        Cut::gate(&shop.server, statement)
    };
    at_points(12, again, |shop| {
        shop.server.psql("postgres", &format!("DROP DATABASE {SPARE} WITH (FORCE)"));
    });
}

#[test]
fn a_run_whose_server_restarts_at_any_point_fails_clearly_or_keeps_a_right_day() {
    at_points(10, |shop, statement| Cut::gate(&shop.server, statement), |shop| shop.server.restart());
}

#[test]
fn a_run_whose_server_crashes_at_any_point_fails_clearly_or_keeps_a_right_day() {
    at_points(
        10,
        |shop, statement| Cut::gate(&shop.server, statement),
        |shop| {
            shop.server.pull_the_plug();
            shop.server.run();
        },
    );
}

#[test]
fn a_run_whose_server_stays_away_fails_clearly() {
    at_points(8, |shop, statement| Cut::gate(&shop.server, statement), |shop| shop.server.pull_the_plug());
}

#[test]
fn a_run_whose_connections_are_cut_at_any_statement_fails_clearly_or_keeps_a_right_day() {
    at_points(14, |shop, statement| Cut::before(&shop.server, statement, Last::Lost), |_| {});
}

/// A bad day: rows and a table go, a role changes, a file goes.
fn damage(shop: &Shop) {
    shop.server
        .psql("shop", "DELETE FROM item WHERE id > 3000; DROP TABLE stock; CREATE TABLE intruder (a int)");
    shop.server.psql("other", "TRUNCATE page");
    fs::remove_file(shop.tree().join("deep/er/file")).unwrap();
    fs::write(shop.tree().join("changing"), "damaged").unwrap();
}

#[test]
fn a_restore_whose_server_fails_at_any_point_goes_on_with_the_same_command() {
    let mut shop = held_shop("");
    shop.run();
    let day = shop.days()[0].name().to_owned();
    let trees = shop.tree();
    let now = |shop: &Shop| State::of(&shop.server, &[&trees]);
    let then = now(&shop);
    let restore = ["--quiet", "restore", NAME, &day, "--yes"];
    // A restore remembers where the server is: it is the same place all the time.
    let cut = Cut::gate(&shop.server, NEVER);
    through(&shop, &cut);
    damage(&shop);
    let undisturbed = struck_there(&mut shop, &restore, &cut, |_| {});
    assert!(undisturbed.good, "{}", undisturbed.said);
    let all = NEVER - cut.left();
    let settle = |shop: &Shop, how: &str| {
        let output = shop.output(&["--quiet", "restore", NAME, how, "--yes"]);
        assert!(output.status.success(), "{how}: {}", said(&output));
    };
    now(&shop).assert_is(&then, "an undisturbed restore");
    settle(&shop, "--confirm");
    let mut seen: BTreeMap<String, [u32; 2]> = BTreeMap::new();
    let points = 6;
    for point in 0..points {
        damage(&shop);
        let damaged = now(&shop);
        let statement = 1 + point * (all - 2) / (points - 1);
        cut.close(statement);
        let ended = struck_there(&mut shop, &restore, &cut, |shop| match point % 3 {
            0 => drop(shop.server.psql("postgres", SESSIONS)),
            1 => shop.server.restart(),
            _ => {
                shop.server.pull_the_plug();
                shop.server.run();
            }
        });
        cut.close(NEVER);
        seen.entry(ended.step.clone()).or_default()[usize::from(ended.good)] += 1;
        let when = format!("statement {statement} of {all} at {}: {}", ended.step, ended.said);
        if !ended.good && point % 2 == 1 {
            // Back, if there is anything to take back; else it is as it was.
            let output = shop.output(&["--quiet", "restore", NAME, "--undo", "--yes"]);
            let nothing = said(&output).contains("no restore of shop waits");
            assert!(output.status.success() || nothing, "{when}\n--undo: {}", said(&output));
            now(&shop).assert_is(&damaged, &format!("{when}\nafter --undo: {}", said(&output)));
            assert_clean(&shop, &when);
        }
        if !ended.good {
            let output = shop.output(&restore);
            assert!(output.status.success(), "{when}\nthe same command: {}", said(&output));
        }
        now(&shop).assert_is(&then, &when);
        settle(&shop, "--confirm");
        assert_clean(&shop, &when);
        let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'daykeep%'";
        assert_eq!(shop.server.psql("postgres", left), "0", "{when}: databases are left");
    }
    eprintln!("failed and done, by step: {seen:?}");
    shop.run();
    assert_clean(&shop, "the next run");
}

/// Writers that change the shape of tables and empty them, each transaction of which leaves something true.
const STORMS: [&str; 4] = [
    // All rows have one number, and there are 500.
    "DO $$ BEGIN FOR n IN 1..100000 LOOP
         TRUNCATE wave; INSERT INTO wave SELECT n, repeat('x', 200) FROM generate_series(1, 500); COMMIT; PERFORM pg_sleep(random() * 0.8);
     END LOOP; END $$",
    // 300 rows, whatever columns they have and however often they are rewritten.
    "DO $$ BEGIN FOR n IN 1..100000 LOOP
         EXECUTE 'ALTER TABLE shape ADD COLUMN c' || n || ' int DEFAULT ' || n; COMMIT;
         EXECUTE 'ALTER TABLE shape ALTER COLUMN id TYPE ' || CASE n % 2 WHEN 0 THEN 'int' ELSE 'bigint' END; COMMIT;
         EXECUTE 'ALTER TABLE shape DROP COLUMN c' || n; COMMIT; PERFORM pg_sleep(random());
     END LOOP; END $$",
    // Every table that is there has ten rows, and there are three.
    "DO $$ BEGIN FOR n IN 4..100000 LOOP
         EXECUTE 'CREATE TABLE come' || n || ' AS SELECT generate_series(1, 10) AS a';
         EXECUTE 'DROP TABLE come' || n - 3; COMMIT; PERFORM pg_sleep(random() * 0.8);
     END LOOP; END $$",
    // Two tables that are always swapped together.
    "DO $$ BEGIN FOR turn IN 1..100000 LOOP
         ALTER TABLE left_hand RENAME TO other_hand; ALTER TABLE right_hand RENAME TO left_hand;
         ALTER TABLE other_hand RENAME TO right_hand;
         UPDATE left_hand SET n = n + 1; UPDATE right_hand SET n = n + 1; COMMIT; PERFORM pg_sleep(random());
     END LOOP; END $$",
];

const CALM: &str = "
    CREATE TABLE wave AS SELECT 0 AS n, repeat('x', 200) AS body FROM generate_series(1, 500);
    CREATE TABLE shape AS SELECT generate_series(1, 300) AS id;
    CREATE TABLE come1 AS SELECT generate_series(1, 10) AS a; CREATE TABLE come2 AS TABLE come1; CREATE TABLE come3 AS TABLE come1;
    CREATE TABLE left_hand AS SELECT 0 AS n; CREATE TABLE right_hand AS TABLE left_hand";

/// What is true after each transaction of the storms.
const TRUE: &str = "SELECT (SELECT count(*) = 500 AND count(DISTINCT n) = 1 FROM wave) AND (SELECT count(*) = 300 FROM shape)
    AND (SELECT l.n = r.n FROM left_hand l, right_hand r)
    AND (SELECT count(*) = 3 AND bool_and((xpath('/row/count/text()',
        query_to_xml('SELECT count(*) FROM ' || relname, false, true, '')))[1]::text = '10') FROM pg_class WHERE relname ~ '^come')";

#[test]
fn storms_of_truncate_and_ddl_never_get_into_a_day() {
    let shop = held_shop("");
    shop.reconfigure("port = 5432", "port = 5432\nlock_timeout = \"10s\"");
    shop.server.psql("postgres", &format!("CREATE DATABASE {SPARE}"));
    shop.server.psql(SPARE, CALM);
    assert_eq!(shop.server.psql(SPARE, TRUE), "t");
    shop.run();
    let storms: Vec<Killed> = STORMS
        .iter()
        .map(|sql| {
            let mut psql = shop.server.client("psql");
            psql.args(["-X", "-q", "-c", sql])
                .env("PGDATABASE", SPARE)
                .stdin(Stdio::null())
                .stderr(Stdio::null());
            Killed(psql.spawn().unwrap())
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        let before = assert_clean(&shop, "in the storm");
        let output = shop.output(&run_arguments());
        let days = assert_clean(&shop, &said(&output));
        outcomes.push(output.status.success());
        if output.status.success() {
            assert_restored_is_true(&shop, days.last().unwrap());
        } else {
            assert_eq!(days, before);
            let told = ["did not stay as they are", "stayed locked"];
            assert!(told.iter().any(|words| said(&output).contains(words)), "{}", said(&output));
        }
    }
    eprintln!("kept in the storm: {outcomes:?}");
    drop(storms);
    shop.server.psql("postgres", SESSIONS);
    shop.run();
    assert_restored_is_true(&shop, assert_clean(&shop, "after it").last().unwrap());
}

/// The day's database, restored into a server of its own, is what some transaction left.
fn assert_restored_is_true(shop: &Shop, day: &str) {
    let server = support::postgres::Server::start(None);
    let target = format!("host={} port=5432 user=postgres", server.socket_dir().display());
    let output =
        shop.output(&["--quiet", "restore", NAME, day, "--database", SPARE, "--to-server", &target, "--yes"]);
    assert!(output.status.success(), "{}", said(&output));
    let shapes = server
        .psql(SPARE, "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = 'r' AND oid > 16384");
    assert_eq!(server.psql(SPARE, TRUE), "t", "{shapes}");
}

/// As many tables, databases and large objects as an old application has, and bytes that are no text in any encoding.
const MANY: &str = r"
    CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
    \connect ascii
    SET client_encoding = 'SQL_ASCII';
    CREATE TABLE raw (id int, t text);
    INSERT INTO raw SELECT g, 'x' || chr(128 + g % 128) || E'\xC3\xFF\xFE' || g FROM generate_series(1, 3000) g;
    CREATE INDEX ON raw (t);
    \connect shop
    DO $$ BEGIN FOR n IN 1..2000 LOOP
        EXECUTE 'CREATE TABLE many_' || n || ' (a int PRIMARY KEY, b text)';
        EXECUTE 'INSERT INTO many_' || n || ' SELECT g, md5(g::text) FROM generate_series(1, ' || n % 7 || ') g';
        IF n % 100 = 0 THEN COMMIT; END IF;
    END LOOP; END $$;
    DO $$ BEGIN FOR n IN 1..10000 LOOP
        PERFORM lo_from_bytea(0, convert_to(repeat(md5(n::text), 1 + n % 90), 'UTF8')); IF n % 1000 = 0 THEN COMMIT; END IF;
    END LOOP; END $$";

#[test]
fn two_thousand_tables_twenty_databases_ten_thousand_large_objects_and_bytes_that_are_no_text() {
    let shop = held_shop("");
    shop.server.psql("postgres", MANY);
    for number in 1..=20 {
        let name = format!("many{number}");
        shop.server.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE other"));
    }
    shop.run();
    shop.server.psql("shop", "UPDATE many_1500 SET b = 'changed'");
    shop.run();
    let days = assert_clean(&shop, "two days");
    let server = support::postgres::Server::start(None);
    let target = format!("host={} port=5432 user=postgres", server.socket_dir().display());
    let output = shop.output(&["--quiet", "restore", NAME, &days[1], "--to-server", &target, "--yes"]);
    assert!(output.status.success(), "{}", said(&output));
    State::of_server(&server).assert_is(&State::of_server(&shop.server), "restored");
}
