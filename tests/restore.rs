//! `daykeep restore`: a repository is brought back to a day, and back again; parts of it; elsewhere; from the vault alone. Everything that
//! stands in the way is told before anything is changed (promise 7).
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use support::postgres::Server;
use support::repository::NAME;
use support::restored::{Kept, said};
use support::scheduler::DATABASE;
use support::state::State;

#[test]
fn a_whole_repository_comes_back_and_can_be_taken_back_and_confirmed() {
    let kept = Kept::new();
    let damaged = kept.damage();
    assert!(damaged.difference(&kept.then).is_some());

    let told = kept.must(&[&kept.day, "--yes"]);
    kept.now().assert_is(&kept.then, "after the restore");
    assert!(kept.repository.fossology.pid().is_some(), "the scheduler runs");
    assert!(!kept.repository.is_held());
    assert!(told.contains("tree repository at"), "the plan is told: {told}");
    assert!(told.contains("puts it back"), "{told}");
    // The scheduler is started only after the cross-check.
    let steps = steps(&kept);
    let order = ["begin", "preflight", "verify", "hold", "load", "stage", "switch", "cross_check", "release"];
    assert_eq!(steps, order);

    for done in [&["--yes"][..], &["--plan"], &[]] {
        let arguments = [&[kept.day.as_str()][..], done].concat();
        if done.is_empty() {
            kept.refused(&arguments, 2, "nobody can be asked here");
            continue;
        }
        let told = kept.refused(&arguments, 13, "fossology: nothing was restored now: the day");
        assert!(told.contains("daykeep restore fossology --undo") && told.contains("--confirm"), "{told}");
        assert!(
            told.contains("to restore it once more, over all that has changed since, end it first"),
            "{told}"
        );
    }
    kept.refused(&[&kept.day, "--only", "trees", "--yes"], 13, "this one can begin after that");
    kept.now().assert_is(&kept.then, "after the same command again");
    let told = kept.must(&["--undo"]);
    assert!(told.contains("  databases  ") && !told.contains("databases  shop"), "{told}");
    assert!(told.contains("  dropped    database shop, which the restore created"), "{told}");
    kept.now().assert_is(&damaged, "after --undo");
    assert!(kept.repository.fossology.pid().is_some(), "the scheduler runs");
    kept.assert_nothing_left();
    kept.refused(&["--undo"], 10, "no restore of fossology waits to be confirmed or taken back");

    kept.must(&[&kept.day, "--yes"]);
    let told = kept.must(&["--confirm"]);
    assert!(told.contains("  stays      database shop, which the restore created"), "{told}");
    kept.now().assert_is(&kept.then, "after --confirm");
    kept.assert_nothing_left();
    kept.refused(&["--confirm"], 10, "no restore of fossology waits");
    kept.repository.assert_dispatching();
}

#[test]
fn backups_go_on_before_it_is_confirmed_and_leave_the_old_state_out() {
    let kept = Kept::new();
    kept.damage();
    kept.must(&["latest", "--yes"]);
    let day = kept.repository.run();
    let manifest = fs::read_to_string(kept.repository.days_dir().join(&day).join("manifest.json")).unwrap();
    assert!(!manifest.contains("daykeep_old"), "{manifest}");
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let before = fs::read_to_string(kept.day_dir().join("manifest.json")).unwrap();
    let before: Value = serde_json::from_str(&before).unwrap();
    for tree in ["repository", "configuration"] {
        assert_eq!(manifest["trees"][tree]["entries"], before["trees"][tree]["entries"], "{tree}");
    }
    kept.refused(&[&day, "--yes"], 13, "is not confirmed");
    kept.must(&["--confirm"]);
    kept.assert_nothing_left();
}

#[test]
fn one_side_one_database_one_tree_and_one_path() {
    let kept = Kept::new();
    let server = &kept.repository.fossology.server;
    let trees = kept.trees();
    let trees: Vec<&Path> = trees.iter().map(PathBuf::as_path).collect();
    let files_now = || State::of_trees(&trees);
    let (files_then, rows_then) = (files_now(), State::of_server(server));
    let configuration_then = State::of_trees(&trees[1..]);

    let damaged = kept.damage();
    let files_damaged = files_now();
    kept.must(&[&kept.day, "--only", "database", "--yes", "--accept-failed-check"]);
    State::of_server(server).assert_is(&rows_then, "the databases");
    files_now().assert_is(&files_damaged, "the trees stay");
    kept.must(&["--undo"]);
    kept.now().assert_is(&damaged, "after --undo");

    kept.must(&[&kept.day, "--only", "trees", "--yes"]);
    files_now().assert_is(&files_then, "the trees");
    kept.must(&["--undo"]);
    kept.now().assert_is(&damaged, "after --undo");

    kept.must(&[&kept.day, "--database", "shop", "--yes", "--accept-failed-check"]);
    assert_eq!(server.psql("shop", "SELECT count(*) FROM app.item"), "500");
    assert_eq!(server.psql(DATABASE, "SELECT count(*) FROM uploadtree"), "0", "the other database stays");
    let role = "SELECT rolcreatedb FROM pg_roles WHERE rolname = 'readers'";
    assert_eq!(server.psql("postgres", role), "t", "roles that are there stay");
    kept.must(&["--undo"]);
    kept.now().assert_is(&damaged, "after --undo");

    kept.must(&[&kept.day, "--tree", "configuration", "--yes", "--accept-failed-check"]);
    State::of_trees(&trees[1..]).assert_is(&configuration_then, "the tree");
    assert_eq!(fs::read_to_string(trees[1].join("fossology.conf")).unwrap(), "[FOSSOLOGY]\ndepth=3\n");
    assert!(trees[0].join("intruder").exists(), "the other tree stays");
    kept.must(&["--undo"]);
    kept.now().assert_is(&damaged, "after --undo");

    kept.must(&[&kept.day, "--path", "configuration:fossology.conf", "--yes"]);
    assert_eq!(fs::read_to_string(trees[1].join("fossology.conf")).unwrap(), "[FOSSOLOGY]\ndepth=3\n");
    assert_eq!(fs::metadata(trees[1]).unwrap().permissions().mode() & 0o7777, 0o700, "the root stays");
    kept.must(&["--undo"]);
    kept.now().assert_is(&damaged, "after --undo");
    kept.assert_nothing_left();
}

#[test]
fn a_plan_changes_nothing_and_tells_everything() {
    let kept = Kept::new();
    let damaged = kept.damage();
    let plan = kept.must(&[&kept.day, "--plan"]);
    for words in [
        format!("fossology: the day {}", kept.day),
        "NOT PROVEN".to_owned(),
        "hold       fossology runs now: it is paused, and started afterwards".to_owned(),
        "database   shop: created".to_owned(),
        "database   fossology: replaced".to_owned(),
        "roles      changed to what they were: readers".to_owned(),
        "tree repository at".to_owned(),
        "takes      unknown".to_owned(),
    ] {
        assert!(plan.contains(&words), "no {words:?} in: {plan}");
    }
    let output = kept.restore(&[&kept.day, "--plan", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!(document["plan"]["day"], kept.day.as_str());
    assert_eq!(document["plan"]["trees"][1]["name"], "repository");
    kept.now().assert_is(&damaged, "after --plan");
    kept.assert_nothing_left();
    // Nobody can be asked here.
    kept.refused(&[&kept.day], 2, "nobody can be asked here");
    kept.now().assert_is(&damaged, "after that");
}

#[test]
fn what_is_wrong_is_told_and_nothing_changed() {
    let kept = Kept::new();
    let damaged = kept.damage();
    let day = kept.day.as_str();
    kept.refused(&["2020-01-01", "--yes"], 10, "there is no day 2020-01-01");
    kept.refused(&[day, "--database", "nope", "--tree", "neither", "--yes"], 10, "has no database nope");
    kept.refused(&[day, "--database", "nope", "--tree", "neither", "--yes"], 10, "has no tree neither");
    kept.refused(&[day, "--path", "repository:nope/nothing", "--yes"], 10, "has no nope/nothing");
    kept.refused(&[day, "--path", "repository:../x", "--yes"], 2, "leads out of its tree");
    kept.refused(&[day, "--table", "shop", "--yes"], 2, "is not DATABASE.SCHEMA.TABLE");
    let without_day = kept.repository.daykeep(&["restore", "--yes"]).output().unwrap();
    assert_eq!(without_day.status.code(), Some(2));
    assert!(said(&without_day).contains("which day of fossology?"), "{}", said(&without_day));
    kept.refused(&["--undo", "extra"], 2, "take no day");
    let told = kept.refused(&[day, "--to-server", "host=/x password=hush", "--yes"], 2, "PGPASSFILE");
    assert!(!told.contains("hush"), "{told}");
    kept.now().assert_is(&damaged, "after all of it");
    kept.assert_nothing_left();
    assert!(kept.repository.fossology.pid().is_some(), "the scheduler runs");
}

#[test]
fn a_damaged_day_is_not_restored() {
    let kept = Kept::new();
    let damaged = kept.damage();
    let pid = kept.repository.fossology.pid();
    // Every kind of damage to every kind of thing: tests/restore_damage.rs. Here the repository is a whole one.
    let found = Command::new("find").arg(kept.day_dir()).args(["-type", "f"]).output().unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    for end in ["rest.dump", "/tables/", "trees/configuration/b"] {
        let path = PathBuf::from(found.lines().find(|line| line.contains(end)).unwrap());
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        in_place(&path, &flipped);
        kept.refused(&[&kept.day, "--yes"], 12, "is damaged, and nothing was changed");
        in_place(&path, &whole);
    }
    kept.now().assert_is(&damaged, "after all of it");
    kept.assert_nothing_left();
    assert_eq!(kept.repository.fossology.pid(), pid, "it was never paused");
    kept.must(&[&kept.day, "--yes"]);
    kept.now().assert_is(&kept.then, "the day was set right again");
}

/// Writes through the name, as damage does, and leaves everything else of it alone.
fn in_place(path: &Path, bytes: &[u8]) {
    let found = fs::metadata(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, found.permissions()).unwrap();
    let times = filetime::FileTime::from_last_modification_time(&found);
    filetime::set_file_mtime(path, times).unwrap();
}

#[test]
fn elsewhere_the_repository_is_not_touched() {
    let kept = Kept::new();
    let damaged = kept.damage();
    let other = Server::start(None);
    let to = kept.repository.path("elsewhere");
    let directory = to.display().to_string();
    let server = format!("host={} port=5432 user=postgres", other.socket_dir().display());
    kept.must(&[&kept.day, "--to", &directory, "--to-server", &server, "--yes"]);
    kept.now().assert_is(&damaged, "the repository");
    assert_eq!(other.psql("shop", "SELECT count(*) FROM app.item"), "500");
    assert_eq!(other.psql(DATABASE, "SELECT count(*) > 0 FROM uploadtree"), "t");
    let databases = "SELECT string_agg(datname, ', ') FROM pg_database WHERE datname LIKE 'daykeep%'";
    assert_eq!(other.psql("postgres", databases), "");
    assert_eq!(
        fs::read_to_string(to.join("configuration/fossology.conf")).unwrap(),
        "[FOSSOLOGY]\ndepth=3\n"
    );

    // What is there is never written over.
    kept.refused(&[&kept.day, "--to", &directory, "--yes"], 1, "is not empty");
    kept.refused(&[&kept.day, "--to-server", &server, "--yes"], 1, "nothing was changed");
    let part = kept.repository.path("part");
    kept.must(&[&kept.day, "--to", &part.display().to_string(), "--path", "configuration:b", "--yes"]);
    assert_eq!(fs::read_to_string(part.join("configuration/b")).unwrap(), "content");
    assert!(!part.join("configuration/link").exists());
    kept.refused(&[&kept.day, "--to", &directory, "--database", "shop", "--yes"], 2, "--to-server");
    kept.assert_nothing_left();
}

#[test]
fn what_a_killed_restore_left_on_another_server_is_swept_by_the_next() {
    let kept = Kept::new();
    let [other, third] = [Server::start(None), Server::start(None)];
    let conninfo =
        |server: &Server| format!("host={} port=5432 user=postgres", server.socket_dir().display());
    let [to_other, to_third] = [&other, &third].map(conninfo);
    let state = kept.repository.path("state").join(NAME);
    let records = || {
        let names =
            fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("restore-to-")).collect::<Vec<_>>()
    };
    let left = |server: &Server| {
        server.psql(
            "postgres",
            "SELECT string_agg(datname, ',' ORDER BY 1) FROM pg_database WHERE datname LIKE 'daykeep%'",
        )
    };
    let mut killed_in_the_midst = 0;
    for wait in [0, 60, 200, 500] {
        let order = [kept.day.as_str(), "--to-server", &to_other, "--yes"];
        let jobs = kept.repository.journal_file();
        let mut restore = kept.repository.start(&mut kept.command(&order));
        kept.repository.until("databases are being loaded", || {
            let is_loading = steps(&kept).iter().any(|seen| seen == "load");
            kept.repository.journal_file() != jobs && is_loading && !left(&other).is_empty()
        });
        std::thread::sleep(std::time::Duration::from_millis(wait));
        restore.kill().unwrap();
        restore.wait().unwrap();
        if left(&other).is_empty() {
            break;
        }
        killed_in_the_midst += 1;
        // Another server is another matter.
        if wait == 0 {
            kept.must(&[&kept.day, "--to-server", &to_third, "--yes"]);
            assert!(!left(&other).is_empty() && !records().is_empty());
        }
    }
    assert!(killed_in_the_midst >= 1, "every kill came too late");
    // Somebody else's database with such a name stays.
    other.psql("postgres", "CREATE DATABASE daykeep_new_999_1");
    let databases = "SELECT count(*) FROM pg_database WHERE datname IN ('shop', 'fossology')";
    if other.psql("postgres", databases) == "0" {
        let told = kept.must(&[&kept.day, "--to-server", &to_other, "--yes"]);
        assert!(told.contains("is removed"), "{told}");
    }
    assert_eq!(left(&other), "daykeep_new_999_1");
    assert_eq!(other.psql("shop", "SELECT count(*) FROM app.item"), "500");
    assert_eq!(other.psql("postgres", "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'keeper'"), "t");
    kept.assert_nothing_left();
}

#[test]
fn a_machine_that_never_saw_daykeep_needs_nothing_but_the_vault() {
    let kept = Kept::new();
    let mut new = Server::start(None);
    let [files, etc] = kept.trees();
    // Everything is lost: the server, the trees, the state, the configuration.
    let fossology = &kept.repository.fossology;
    fossology.crash();
    for gone in [&files, &etc, &kept.repository.path("state")] {
        fs::remove_dir_all(gone).unwrap();
    }
    fs::remove_file(kept.repository.config_file()).unwrap();
    let vault = kept.repository.path("vault");
    let state = kept.repository.path("new state");
    let mut restore = Command::new(env!("CARGO_BIN_EXE_daykeep"));
    kept.repository.surround(&mut restore);
    restore.env("PGHOST", new.socket_dir()).env("PGPORT", "5432");
    restore.args(["--config", "/nonexistent/daykeep.toml", "restore", "--vault"]).arg(&vault);
    restore.arg("--state-dir").arg(&state).args(["latest", "--yes", "--no-hold"]);
    let output = restore.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("that of the day is in force"), "{}", said(&output));
    State::of(&new, &[&files, &etc]).assert_is(&kept.then, "the new machine");

    let mut confirm = Command::new(env!("CARGO_BIN_EXE_daykeep"));
    kept.repository.surround(&mut confirm);
    confirm
        .args(["--config", "/nonexistent/daykeep.toml", "restore", "--confirm", "--yes", "--state-dir"])
        .arg(&state);
    let output = confirm.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    new.stop();
}

#[test]
fn by_hand_it_is_the_same() {
    let kept = Kept::new();
    kept.damage();
    kept.must(&[&kept.day, "--yes"]);
    let restored = kept.now();
    let server = Server::start(None);
    let to = kept.repository.path("by hand");
    let path = format!("{}:{}", server.bin_dir().display(), std::env::var("PATH").unwrap());
    let mut script = Command::new(kept.day_dir().join("restore.sh"));
    script.args(["--files".as_ref(), to.as_os_str()]).envs(server.environment()).env("PATH", path);
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // Its places have other names.
    let by_hand = [to.join("repository"), to.join("configuration")];
    let [files, etc] = kept.trees();
    for (by_hand, restored) in by_hand.iter().zip([&files, &etc]) {
        let away = restored.with_extension("away");
        fs::rename(restored, &away).unwrap();
        fs::rename(by_hand, restored).unwrap();
    }
    State::of(&server, &[&files, &etc]).assert_is(&restored, "restore.sh");
}

#[test]
fn a_signal_before_the_switch_leaves_everything_as_it_was() {
    let kept = Kept::new();
    let damaged = kept.damage();
    for step in ["verify", "hold", "load", "stage"] {
        let jobs = kept.repository.journal_file();
        let mut restore = kept.repository.start(&mut kept.command(&[&kept.day, "--yes"]));
        kept.repository.until(step, || {
            kept.repository.journal_file() != jobs && steps(&kept).iter().any(|seen| seen == step)
        });
        kill(Pid::from_raw(i32::try_from(restore.id()).unwrap()), Signal::SIGTERM).unwrap();
        let status = restore.wait().unwrap();
        kept.repository.wait_until_released();
        if status.success() {
            // It was past the point where it can stop.
            kept.must(&["--undo"]);
        } else {
            assert_eq!(status.code(), Some(143), "{step}: {}", kept.repository.surroundings());
        }
        kept.now().assert_is(&damaged, step);
        kept.assert_nothing_left();
    }
}

#[test]
fn a_failed_check_keeps_it_held_until_somebody_decides() {
    let kept = Kept::new();
    let damaged = kept.damage();
    let day = kept.day.as_str();
    // Files of the day's rows are not in the trees.
    let told = kept.refused(&[day, "--only", "database", "--yes"], 1, "have no file, ");
    assert!(told.contains("stays held") && told.contains("--accept-failed-check"), "{told}");
    assert!(kept.repository.is_held());
    assert_eq!(kept.repository.fossology.pid(), None, "the scheduler is paused");
    // Nobody else lets it go, and no day is kept of it.
    let release = kept.repository.daykeep(&["release", NAME]).output().unwrap();
    assert!(!release.status.success(), "{}", said(&release));
    assert!(said(&release).contains("--undo"), "{}", said(&release));
    let run = kept.repository.daykeep(&Vec::from(["run", NAME])).output().unwrap();
    assert_eq!(run.status.code(), Some(1), "{}", said(&run));
    assert!(said(&run).contains("is not finished"), "{}", said(&run));
    assert!(kept.repository.is_held());

    kept.must(&["--undo"]);
    kept.now().assert_is(&damaged, "after --undo");
    kept.repository.wait_until_released();
    kept.assert_nothing_left();

    kept.refused(&[day, "--only", "database", "--yes"], 1, "have no file, ");
    let accepted = kept.must(&[day, "--only", "database", "--yes", "--accept-failed-check"]);
    assert!(accepted.contains("CHECK FAILED"), "{accepted}");
    assert!(kept.repository.fossology.pid().is_some(), "the scheduler runs");
    kept.must(&["--confirm"]);
    kept.assert_nothing_left();
}

#[test]
fn what_an_operator_stopped_is_started_only_if_that_is_asked_for() {
    let kept = Kept::new();
    kept.damage();
    kept.repository.fossology.ask("stop", "CLOSE").expect("it runs");
    kept.repository.until("the scheduler has stopped", || kept.repository.fossology.pid().is_none());
    let told = kept.must(&[&kept.day, "--yes"]);
    assert!(told.contains("was found stopped, and stays so"), "{told}");
    assert_eq!(kept.repository.fossology.pid(), None, "it stays stopped");
    kept.must(&["--undo", "--start"]);
    assert!(kept.repository.fossology.pid().is_some(), "it was asked for");
    kept.repository.fossology.ask("stop", "CLOSE").expect("it runs");
    kept.repository.until("the scheduler has stopped", || kept.repository.fossology.pid().is_none());
    kept.must(&[&kept.day, "--yes", "--start"]);
    assert!(kept.repository.fossology.pid().is_some(), "it was asked for");
    kept.now().assert_is(&kept.then, "after the restore");
}

/// The steps of the newest job.
fn steps(kept: &Kept) -> Vec<String> {
    let journal = kept.repository.journal();
    let lines = journal.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| Some(line.get("step")?.as_str()?.to_owned())).collect()
}

#[test]
fn one_table_comes_back_alone() {
    let kept = Kept::new();
    let server = &kept.repository.fossology.server;
    server.psql("shop", "DELETE FROM app.sale; UPDATE app.item SET name = 'wrong'");
    let damaged = kept.now();
    let plan = kept.must(&[&kept.day, "--table", "shop.app.sale", "--plan"]);
    assert!(plan.contains("table shop.app.sale: replaced"), "{plan}");
    assert!(plan.contains("stays      the rest of the database shop"), "{plan}");
    kept.must(&[&kept.day, "--table", "shop.app.sale", "--yes"]);
    assert_eq!(server.psql("shop", "SELECT count(*) FROM app.sale"), "300");
    assert_eq!(server.psql("shop", "SELECT DISTINCT name FROM app.item"), "wrong", "the other table stays");
    kept.must(&["--undo"]);
    kept.now().assert_is(&damaged, "after --undo");

    kept.must(&[&kept.day, "--table", "shop.app.sale", "--table", "shop.app.item", "--yes"]);
    kept.must(&["--confirm"]);
    kept.now().assert_is(&kept.then, "both tables");
    kept.assert_nothing_left();
    kept.refused(&[&kept.day, "--table", "shop.app.nope", "--yes"], 10, "has no table");
}

#[test]
fn rows_in_the_way_of_a_table_are_foreseen() {
    let kept = Kept::new();
    let server = &kept.repository.fossology.server;
    server.psql("shop", "INSERT INTO app.item VALUES (900, 'new', 1); INSERT INTO app.sale VALUES (900), (900); DELETE FROM app.item WHERE id = 400");
    let damaged = kept.now();
    let plan = kept.must(&[&kept.day, "--table", "shop.app.item", "--plan"]);
    assert!(plan.contains("app.sale sale_item_fkey"), "{plan}");
    let told = kept.refused(
        &[&kept.day, "--table", "shop.app.item", "--yes"],
        1,
        "cannot be restored, and nothing was changed",
    );
    for words in [
        "the foreign key app.sale sale_item_fkey would not hold: 2 rows of app.sale refer to what app.item would lack, for example item = 900",
        "restore app.sale with it",
    ] {
        assert!(told.contains(words), "no {words:?} in {told}");
    }
    assert!(!steps(&kept).contains(&"switch".to_owned()), "{:?}", steps(&kept));
    kept.now().assert_is(&damaged, "after it was refused");
    assert!(kept.repository.fossology.pid().is_some(), "the scheduler runs");
    kept.assert_nothing_left();

    // As it was advised.
    let both = [kept.day.as_str(), "--table", "shop.app.sale", "--table", "shop.app.item", "--yes"];
    kept.must(&both);
    kept.must(&["--undo"]);
    kept.now().assert_is(&damaged, "after --undo");
    kept.must(&both);
    kept.must(&["--confirm"]);
    kept.now().assert_is(&kept.then, "both tables");
    kept.assert_nothing_left();
}

/// The day's rows need a number that the sequence cannot give any more: that is met in the switch, when everything else is ready.
fn refuse_in_the_switch(kept: &Kept) -> State {
    let server = &kept.repository.fossology.server;
    server.psql(
        "shop",
        "DELETE FROM app.sale; DELETE FROM app.item WHERE id > 300; ALTER SEQUENCE app.item_id_seq MAXVALUE 400 RESTART WITH 301",
    );
    kept.now()
}

#[test]
fn what_the_switch_refuses_is_taken_back_at_once() {
    let kept = Kept::new();
    let server = &kept.repository.fossology.server;
    server.psql(DATABASE, "CREATE TABLE intruder (a int)");
    let damaged = refuse_in_the_switch(&kept);
    // A database, which is renamed before the table is refused, and files.
    let day = kept.day.as_str();
    let all = [day, "--table", "shop.app.item", "--database", DATABASE, "--tree", "configuration", "--yes"];
    let told = kept.refused(&all, 1, "is out of bounds for sequence");
    assert!(told.contains("what was there before is in its place, and nothing else is"), "{told}");
    assert!(steps(&kept).contains(&"switch".to_owned()), "{:?}", steps(&kept));
    kept.now().assert_is(&damaged, "after it was refused");
    assert!(kept.repository.fossology.pid().is_some(), "the scheduler runs");
    kept.assert_nothing_left();
    kept.repository.run();

    // The renaming itself: a name is taken between the look and the switch.
    let jobs = kept.repository.journal_file();
    let mut restore = kept.repository.start(&mut kept.command(&[
        day,
        "--database",
        DATABASE,
        "--yes",
        "--accept-failed-check",
    ]));
    kept.repository.until("it loads", || {
        kept.repository.journal_file() != jobs && steps(&kept).iter().any(|seen| seen == "load")
    });
    let job = kept.repository.journal_file().unwrap();
    let taken = format!("daykeep_old_{}_1", job.file_stem().unwrap().to_str().unwrap());
    server.psql("postgres", &format!("CREATE DATABASE {taken}"));
    assert_eq!(restore.wait().unwrap().code(), Some(1), "{}", kept.repository.surroundings());
    server.psql("postgres", &format!("DROP DATABASE {taken}"));
    let log = fs::read_to_string(kept.repository.path("run.log")).unwrap();
    assert!(log.contains("already exists") && log.contains("is in its place, and nothing else is"), "{log}");
    kept.now().assert_is(&damaged, "after that");
    kept.assert_nothing_left();
    kept.repository.assert_dispatching();
}

#[test]
fn killed_while_it_takes_itself_back_it_is_taken_back_by_undo() {
    let kept = Kept::new();
    let damaged = refuse_in_the_switch(&kept);
    let record = kept.repository.path("state").join(NAME).join("restore.json");
    let mut in_the_midst = 0;
    for wait in [0, 10, 40, 90, 160, 300] {
        let order = [kept.day.as_str(), "--table", "shop.app.item", "--database", DATABASE, "--yes"];
        let restore = RefCell::new(kept.repository.start(&mut kept.command(&order)));
        let has_ended = || restore.borrow_mut().try_wait().unwrap().is_some();
        let is_going_back = || fs::read_to_string(&record).is_ok_and(|text| text.contains("\"undoing\""));
        kept.repository.until("it takes itself back", || is_going_back() || has_ended());
        std::thread::sleep(std::time::Duration::from_millis(wait));
        restore.borrow_mut().kill().unwrap();
        restore.borrow_mut().wait().unwrap();
        if record.exists() {
            in_the_midst += 1;
            kept.refused(&order, 1, "is not taken back to the end");
            kept.must(&["--undo"]);
        }
        kept.repository.wait_until_released();
        kept.now().assert_is(&damaged, "after the kill");
        kept.repository.wait_until_alone();
        kept.assert_nothing_left();
    }
    assert!(in_the_midst >= 2, "only {in_the_midst} kills came in time");
}
