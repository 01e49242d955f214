//! A damaged day is not restored: whatever kind of damage is done to whatever a day is made of, a restore in place refuses before anything
//! of the repository is touched, and before it is paused; what concerns nothing that is restored is told (promise 7).
//!
//! The repository's pause fails and leaves a mark: a restore that came so far has found nothing in its way.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;
#[path = "support/terminal.rs"]
mod terminal;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use daykeep::vault::Day;
use support::damage::{self, Case, How, Segments};
use support::postgres::Server;
use support::shop::{NAME, Shop, said};
use support::state::State;
use terminal::Terminal;

/// The matrix is done by so many tests.
const PARTS: usize = 4;

#[test]
fn no_damaged_day_is_restored_1() {
    matrix(0);
}

#[test]
fn no_damaged_day_is_restored_2() {
    matrix(1);
}

#[test]
fn no_damaged_day_is_restored_3() {
    matrix(2);
}

#[test]
fn no_damaged_day_is_restored_4() {
    matrix(3);
}

/// Every fourth case.
fn matrix(part: usize) {
    let world = World::new();
    let [before, day] = world.days();
    let cases = damage::cases(day.path(), before.path());
    assert!(cases.len() > 200, "{}", cases.len());
    let there = State::of(&world.shop.server, &[&world.shop.tree()]);
    let mut wrong = Vec::new();
    for case in cases.iter().skip(part).step_by(PARTS) {
        let undo = case.inflict(day.path());
        wrong.extend(world.problem_with(case, &day));
        drop(undo);
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    State::of(&world.shop.server, &[&world.shop.tree()]).assert_is(&there, "after all of it");
}

struct World {
    shop: Shop,
}

impl World {
    fn new() -> Self {
        let shop = Shop::with_two_days();
        let config = shop.path("daykeep.toml");
        let text = fs::read_to_string(&config).unwrap();
        let mark = shop.path("paused").display().to_string();
        let hold = format!(
            "[repository.{NAME}.hold.command]\nis_running = [\"true\"]\npause = [\"sh\", \"-c\", \"touch '{mark}'; exit 1\"]\n\
             prove = [\"true\"]\nrelease = [\"true\"]"
        );
        fs::write(config, text.replace(&format!("[repository.{NAME}.hold.none]"), &hold)).unwrap();
        Self { shop }
    }

    fn days(&self) -> [Day; 2] {
        self.shop.days().try_into().expect("two days")
    }

    /// What a restore of the damaged day does that it should not.
    fn problem_with(&self, case: &Case, day: &Day) -> Option<String> {
        let vault = listing(&self.shop.path("vault"));
        let output = self.shop.output(&["restore", NAME, day.name(), "--yes"]);
        let told = said(&output);
        let mark = self.shop.path("paused");
        let was_paused = mark.exists();
        let _ = fs::remove_file(mark);
        let mut wrong = Vec::new();
        if is_only_told(case) {
            let file = case.file.display().to_string();
            let warned =
                told.lines().any(|line| line.contains("not what is restored") && line.contains(&file));
            if !warned || !was_paused || output.status.code() != Some(1) {
                wrong.push("it is to be told, and not to be in the way");
            }
        } else {
            if output.status.code() != Some(12) || !told.contains(day.name()) {
                wrong.push("it is to be refused as damaged");
            }
            if was_paused {
                wrong.push("the repository is paused");
            }
        }
        let state = self.shop.path("state").join(NAME);
        if ["hold.json", "restore.json", "restore"].iter().any(|name| state.join(name).exists()) {
            wrong.push("a record is left");
        }
        if listing(&self.shop.path("vault")) != vault {
            wrong.push("the vault is changed");
        }
        let databases = "SELECT count(*) FROM pg_database WHERE datname LIKE 'daykeep%'";
        if self.shop.server.psql("postgres", databases) != "0" {
            wrong.push("databases are left");
        }
        (!wrong.is_empty()).then(|| format!("{}: {}: {told}", case.name(), wrong.join(", ")))
    }
}

/// What no restore by daykeep reads: the script and the guide for people, and what is no part of the day.
fn is_only_told(case: &Case) -> bool {
    matches!(case.of, "the script" | "the guide" | "what was added")
}

/// Every name with its inode, size and time. The lock is not the day's, and the links to the days follow those that can be used: whoever
/// takes the vault points them anew.
fn listing(root: &Path) -> Vec<(PathBuf, u64, u64, i64, i64)> {
    let (mut listed, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            if found.is_dir() {
                open.push(path.clone());
            }
            if path == root.join(NAME) {
                // Its time is that of its links.
                listed.push((path, found.ino(), 0, 0, 0));
            } else if path.file_name().is_none_or(|name| name != "lock" && name != ".lock")
                && !(found.is_symlink() && directory == root.join(NAME))
            {
                listed.push((path, found.ino(), found.size(), found.mtime(), found.mtime_nsec()));
            }
        }
    }
    listed.sort();
    listed
}

/// A file of this shop's newest day, damaged.
fn hurt(day: &Day, file: impl Into<PathBuf>, how: How) -> damage::Undo {
    Case { file: file.into(), how, of: "" }.inflict(day.path())
}

#[test]
fn a_piece_is_restored_when_only_the_rest_is_damaged() {
    let shop = Shop::with_two_days();
    let day = shop.days().pop().unwrap();
    let call = |arguments: &[&str], code: i32, words: &str| {
        let output = shop.output(&[&["restore", NAME], arguments].concat());
        let told = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(words), "no {words:?} in {told}");
    };
    let list = fs::read_to_string(day.path().join("database/shop/tables.jsonl")).unwrap();
    let segment_of = |table: &str| {
        let record = list
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .find(|record| record["name"] == table)
            .unwrap();
        let digest = record["segments"][0]["blake3"].as_str().unwrap().to_owned();
        let end = if record["segments"][0]["base"].is_null() { "zst" } else { "patch.zst" };
        PathBuf::from(format!("database/shop/tables/{digest}.{end}"))
    };
    shop.server.psql("shop", "UPDATE stock SET body = 'wrong'; UPDATE price SET amount = 0");
    let rows = "SELECT count(*) FROM stock WHERE body = 'wrong'";
    let stock = [day.name(), "--table", "shop.public.stock", "--yes"];
    let undos = [
        (hurt(&day, segment_of("price"), How::Flip(0.5)), "the rows of another table"),
        (hurt(&day, Segments::of(day.path()).bases[0].clone(), How::Delete), "a base of another table"),
        (hurt(&day, "database/globals.sql", How::Append), "the roles"),
        (hurt(&day, "database/shop/load.txt", How::Cut(9)), "what restore.sh loads by"),
        (hurt(&day, "trees/files/one", How::Flip(0.5)), "a file"),
    ];
    call(&stock, 0, "");
    assert_eq!(shop.server.psql("shop", rows), "0");
    call(&["--undo", "--yes"], 0, "");
    assert_eq!(shop.server.psql("shop", rows), "300");
    // The other table, its database, and all of it are damaged.
    call(&[day.name(), "--table", "shop.public.price", "--yes"], 12, "of \"public\".\"price\"");
    call(&[day.name(), "--database", "shop", "--yes"], 12, "is damaged, and nothing was changed");
    call(&[day.name(), "--yes"], 12, "is damaged, and nothing was changed");
    drop(undos);

    // What it is made of itself.
    for file in [segment_of("stock"), "database/shop/tables.jsonl".into(), "database/shop/rest.dump".into()] {
        let undo = hurt(&day, &file, How::Flip(0.5));
        call(&stock, 12, &file.display().to_string());
        drop(undo);
    }
    for (names, words) in [
        (["--table", "shop.public.nope"], "has no table \"public\".\"nope\" in database \"shop\""),
        (["--table", "shop.other.STOCK"], "was \"public\".\"stock\" meant?"),
        (["--table", "nope.public.stock"], "has no database nope"),
        (["--database", "nope"], "has no database nope"),
        (["--tree", "nope"], "has no tree nope"),
        (["--path", "files:nope"], "has no nope"),
    ] {
        call(&[&[day.name()], &names[..], &["--yes"]].concat(), 10, words);
    }
    assert_eq!(shop.server.psql("shop", rows), "300");
}

/// A CREATE DATABASE that nobody waits for any more goes on in the server: it must have ended before what is left is looked for.
#[test]
fn what_an_ended_restore_was_making_elsewhere_is_not_made() {
    let shop = Shop::with_two_days();
    let other = Server::start(None);
    let conninfo = format!("host={} port=5432 user=postgres", other.socket_dir().display());
    let mut restore = Terminal::start(&shop.daykeep(&["restore", NAME, "latest", "--to-server", &conninfo]));
    restore.until("Type yes or no: ");
    // Nobody makes a database of template0 from now on.
    let hold = "BEGIN; COMMENT ON DATABASE template0 IS 'held'; SELECT pg_sleep(600)";
    let mut holder =
        other.client("psql").args(["-X", "-q", "-c", hold]).stderr(Stdio::null()).spawn().unwrap();
    let count =
        |of: &str| other.psql("postgres", &format!("SELECT count(*) FROM pg_stat_activity WHERE {of}"));
    until("it is held", || count("wait_event = 'PgSleep'") == "1");
    restore.types("yes");
    let making = "query LIKE 'CREATE DATABASE%daykeep_new%' AND wait_event_type = 'Lock'";
    until("a database is being made", || count(making) == "1");
    restore.interrupts();
    until("nobody makes it any more", || count(making) == "0");
    other.psql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
    );
    holder.wait().unwrap();
    let (code, told) = restore.ends();
    assert_eq!(code, 130, "{told}");
    assert_eq!(other.psql("postgres", DATABASES), "1", "{told}");
}

/// Those of a server, but for the templates.
const DATABASES: &str = "SELECT count(*) FROM pg_database WHERE datname NOT LIKE 'template%'";

fn until(what: &str, is_so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < limit, "not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn elsewhere_a_damaged_day_leaves_nothing() {
    let shop = Shop::with_two_days();
    let [before, day]: [Day; 2] = shop.days().try_into().unwrap();
    let other = Server::start(None);
    let conninfo = format!("host={} port=5432 user=postgres", other.socket_dir().display());
    let segments = Segments::of(day.path());
    let files = [segments.wholes[0].clone(), segments.bases[0].clone(), "database/other/rest.dump".into()];
    for file in files {
        let undo = hurt(&day, &file, How::Flip(0.5));
        let output = shop.output(&["restore", NAME, day.name(), "--to-server", &conninfo, "--yes"]);
        assert_eq!(output.status.code(), Some(12), "{}: {}", file.display(), said(&output));
        assert_eq!(other.psql("postgres", DATABASES), "1", "{}", file.display());
        assert_eq!(other.psql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'keeper'"), "0");
        drop(undo);
    }
    let to = shop.path("elsewhere").display().to_string();
    let undo = hurt(&day, "trees/files/one", How::Flip(0.5));
    let output = shop.output(&["restore", NAME, day.name(), "--to", &to, "--yes"]);
    assert_eq!(output.status.code(), Some(12), "{}", said(&output));
    drop(undo);

    // Whoever says `latest` is told that it is not the newest.
    let undo = hurt(&day, "manifest.json", How::Cut(9));
    let output = shop.output(&["restore", NAME, "latest", "--plan"]);
    let told = said(&output);
    assert!(output.status.success() && told.contains(before.name()), "{told}");
    assert!(
        told.contains(&format!("the newer day {} is not used: its manifest.json is damaged", day.name())),
        "{told}"
    );
    drop(undo);
}
