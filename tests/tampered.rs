//! Vaults in which somebody has written who should not: a restore or a drill of them writes nothing outside of its target and runs nothing.
//! Records that lead out of a tree are in `tree_restore.rs`; here are manifests, configurations, names and scripts.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use daykeep::manifest::{RecordReader, RecordWriter};
use serde_json::{Value, json};
use support::forger::Forger;
use support::postgres::Server;
use support::shop::{NAME, Shop, said};

/// `daykeep` on a machine that has the vault and nothing else.
fn elsewhere(shop: &Shop, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
    command.args(["--config", "/nonexistent/daykeep.toml"]).args(arguments);
    command.args(["--vault".as_ref(), shop.path("vault").as_os_str()]);
    command.envs(shop.server.environment()).env_remove("DAYKEEP_CONFIG").current_dir(shop.home.path());
    command.output().unwrap()
}

fn restore(shop: &Shop, arguments: &[&str]) -> Output {
    let state = shop.path("new-state").display().to_string();
    elsewhere(shop, &[&["restore", "--state-dir", &state], arguments].concat())
}

/// Gives the tree another name, in the manifest, in the records and on the disk.
fn rename_tree(forger: &mut Forger, to: &str) {
    let trees = forger.manifest["trees"].as_object_mut().unwrap();
    let tree = trees.remove("files").unwrap();
    trees.insert(to.to_owned(), tree);
    let (records, changed) = (forger.day.join("files.jsonl.zst"), forger.day.join("files.new"));
    let mut writer = RecordWriter::create(&changed).unwrap();
    for mut record in RecordReader::open(&records).unwrap().map(Result::unwrap) {
        to.clone_into(&mut record.tree);
        writer.write(&record).unwrap();
    }
    writer.finish().unwrap();
    fs::rename(changed, records).unwrap();
}

/// What is changed in a day.
type Change = fn(&mut Forger);

#[test]
fn a_day_whose_names_lead_out_of_it_is_none() {
    let shop = Shop::new("");
    shop.run();
    let changes: [(&str, Change); 5] = [
        ("../../../escaped", |forger| rename_tree(forger, "../../../escaped")),
        ("/tmp/daykeep-escaped", |forger| rename_tree(forger, "/tmp/daykeep-escaped")),
        ("..", |forger| rename_tree(forger, "..")),
        ("../../other", |forger| {
            forger.manifest["database"]["databases"][0]["directory"] = json!("../../other");
        }),
        ("../../.lock", |forger| forger.manifest["digests"]["../../.lock"] = json!("00".repeat(32))),
    ];
    let day = shop.days()[0].path().to_owned();
    let whole = ["manifest.json", "manifest.blake3", "files.jsonl.zst"]
        .map(|name| (name, fs::read(day.join(name)).unwrap()));
    for (name, change) in changes {
        let mut forger = Forger::of(&shop);
        change(&mut forger);
        forger.seal_with_record();
        let (to, scratch) = (shop.path("to/deep/er"), shop.path("scratch"));
        for output in [
            restore(&shop, &["latest", "--to", to.to_str().unwrap(), "--yes"]),
            restore(&shop, &["latest", "--yes", "--no-hold"]),
            elsewhere(&shop, &["drill", "latest", "--scratch", scratch.to_str().unwrap()]),
            elsewhere(&shop, &["verify", "latest"]),
        ] {
            assert!(!output.status.success(), "{name}: {}", said(&output));
        }
        let told = said(&elsewhere(&shop, &["list"]));
        let reason = format!(
            "its manifest.json has the name {name:?}, which leads out of the day: somebody tampered with it"
        );
        assert!(told.contains(&reason), "{name}: {told}");
        for escaped in
            [shop.path("escaped"), shop.path("to/escaped"), "/tmp/daykeep-escaped".into(), to.clone()]
        {
            assert!(!escaped.exists(), "{name}: {}", escaped.display());
        }
        // Whole again for the next.
        fs::set_permissions(&day, fs::Permissions::from_mode(0o750)).unwrap();
        for (name, content) in &whole {
            fs::write(day.join(name), content).unwrap();
        }
    }
}

/// A directory with programs of PostgreSQL's names that leave a trace when they are run.
fn false_programs(directory: &Path, trace: &Path) {
    fs::create_dir(directory).unwrap();
    for name in ["pg_dump", "pg_dumpall", "pg_restore", "psql", "initdb", "postgres"] {
        let script = format!("#!/bin/sh\ntouch {}\necho 'pg_dump (PostgreSQL) 99.1'\n", trace.display());
        fs::write(directory.join(name), script).unwrap();
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn nothing_that_the_configuration_of_a_day_names_is_run_without_a_yes() {
    let shop = Shop::new("");
    shop.run();
    let (by_hold, by_bin_dir) = (shop.path("hold-ran"), shop.path("program-ran"));
    false_programs(&shop.path("false-bin"), &by_bin_dir);
    let mut forger = Forger::of(&shop);
    let text = forger.manifest["configuration"].as_str().unwrap().to_owned();
    let touch = format!("[\"touch\", \"{}\"]", by_hold.display());
    let hold = format!(
        "[repository.{NAME}.hold.command]\nis_running = {touch}\npause = {touch}\nprove = {touch}\nrelease = {touch}\n"
    );
    let text = text.replace(&format!("[repository.{NAME}.hold.none]\n"), &hold);
    let own = shop.server.bin_dir().display().to_string();
    assert!(text.contains(&own) && text.contains("hold.command"), "{text}");
    forger.manifest["configuration"] =
        json!(text.replace(&own, &shop.path("false-bin").display().to_string()));
    forger.seal_with_record();
    let nothing_ran = |when: &str| assert!(!by_hold.exists() && !by_bin_dir.exists(), "{when}");

    let refused = restore(&shop, &["latest", "--yes"]);
    let told = said(&refused);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(
        told.contains("the configuration of the day names what is to be run: runs [\"touch\", "),
        "{told}"
    );
    assert!(told.contains("--trust-day runs it, --no-hold runs none of it"), "{told}");
    nothing_ran("--yes");
    let plan = restore(&shop, &["latest", "--plan"]);
    assert!(plan.status.success(), "{}", said(&plan));
    assert!(
        said(&plan).contains("the configuration of the day says that a restore runs [\"touch\", "),
        "{}",
        said(&plan)
    );
    nothing_ran("--plan");
    let to = shop.path("to").display().to_string();
    let output = restore(&shop, &["latest", "--to", &to, "--yes"]);
    assert!(output.status.success(), "{}", said(&output));
    nothing_ran("--to");
    let output = elsewhere(&shop, &["verify", "latest"]);
    assert!(output.status.success(), "{}", said(&output));
    nothing_ran("verify");

    let output = restore(&shop, &["latest", "--yes", "--no-hold"]);
    assert!(output.status.success(), "{}", said(&output));
    nothing_ran("--no-hold");
    // What is recorded of that restore is the configuration of the day, too.
    let output = restore(&shop, &["--undo", "--yes"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    nothing_ran("--undo");
    let output = restore(&shop, &["--undo", "--yes", "--no-hold"]);
    assert!(output.status.success(), "{}", said(&output));
    nothing_ran("--undo --no-hold");

    // Whoever trusts the day gets what it says.
    let output = restore(&shop, &["latest", "--yes", "--trust-day"]);
    assert!(by_bin_dir.exists(), "{}", said(&output));
}

/// What makes the server run something if a name is taken for more than a name.
const INJECTED: &str = "x\"; CREATE ROLE pwned SUPERUSER; CREATE TABLE pwned (); --";

fn nothing_was_injected(server: &Server, when: &str) {
    assert_eq!(
        server.psql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'pwned'"),
        "0",
        "{when}"
    );
    let databases = server.psql("postgres", "SELECT datname FROM pg_database WHERE datallowconn");
    for database in databases.lines() {
        let tables = "SELECT count(*) FROM pg_class WHERE relname = 'pwned'";
        assert_eq!(server.psql(database, tables), "0", "{when}: {database}");
    }
}

/// What is changed in a day, with what that needs.
type BoxedChange = Box<dyn Fn(&mut Forger)>;

#[test]
#[allow(clippy::too_many_lines, reason = "a list of changes, and what each must not do")]
fn names_in_the_lists_are_names_and_no_statements() {
    let shop = Shop::new("");
    shop.run();
    let day = shop.days()[0].path().to_owned();
    let keep = ["manifest.json", "manifest.blake3", "database/shop/tables.jsonl", "database/globals.sql"];
    let whole = keep.map(|name| (name, fs::read(day.join(name)).unwrap()));
    let in_table = |change: fn(&mut Value)| {
        move |forger: &mut Forger| {
            forger.edit("tables.jsonl", |list| {
                let mut lines: Vec<Value> =
                    list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                let table = lines.iter_mut().find(|record| record["name"] == "stock").unwrap();
                change(table);
                lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + "\n"
            });
        }
    };
    let changes: [(&str, BoxedChange); 5] = [
        ("table", Box::new(in_table(|table| table["name"] = json!(INJECTED)))),
        ("schema", Box::new(in_table(|table| table["schema"] = json!(INJECTED)))),
        ("column", Box::new(in_table(|table| table["columns"][0] = json!(INJECTED)))),
        (
            "database",
            Box::new(|forger: &mut Forger| {
                let entry = forger.entry();
                *forger.manifest.pointer_mut(&format!("{entry}/name")).unwrap() = json!(INJECTED);
            }),
        ),
        (
            "psql",
            Box::new(|forger: &mut Forger| {
                // A command of psql's, which restore.sh would run: here no psql reads it.
                let path = forger.day.join("database/globals.sql");
                let trace = forger.day.join("../../../../psql-ran");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, format!("{text}\n\\! touch {}\n", trace.display())).unwrap();
            }),
        ),
    ];
    for (what, change) in changes {
        let mut server = Server::start(None);
        let mut forger = Forger::of(&shop);
        change(&mut forger);
        forger.seal_with_record();
        let target = format!("host={} port=5432 user=postgres", server.socket_dir().display());
        let output = restore(&shop, &["latest", "--to-server", &target, "--yes"]);
        // Names that nothing has are refused; one that a database can have, it gets.
        assert!(
            what == "database" || what == "psql" || !output.status.success(),
            "{what}: {}",
            said(&output)
        );
        nothing_was_injected(&server, what);
        assert!(!shop.path("psql-ran").exists(), "{what}");
        let output =
            elsewhere(&shop, &["drill", "latest", "--scratch", shop.path("scratch").to_str().unwrap()]);
        assert!(
            what == "database" || what == "psql" || !output.status.success(),
            "{what}: {}",
            said(&output)
        );
        nothing_was_injected(&shop.server, what);
        server.stop();
        fs::set_permissions(&day, fs::Permissions::from_mode(0o750)).unwrap();
        for (name, content) in &whole {
            fs::write(day.join(name), content).unwrap();
        }
    }
}

/// The days of a vault are read by their names in it: a link in the place of a tree brings nothing of where it leads.
#[test]
fn links_in_a_day_bring_nothing_from_outside() {
    let shop = Shop::new("");
    shop.run();
    let day = shop.days()[0].path().to_owned();
    let tree = day.join("trees/files");
    let secret = shop.path("secret");
    fs::create_dir_all(secret.join("deep/er")).unwrap();
    for name in ["one", "two", "changing", "deep/er/file"] {
        fs::write(secret.join(name), "the secret of somebody else").unwrap();
    }
    let to = shop.path("to").display().to_string();
    let leaks = |when: &str| {
        let found =
            Command::new("grep").args(["-rlas", "the secret of somebody else", &to]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{when}");
    };
    for directory in [&day, &day.join("trees"), &tree] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o750)).unwrap();
    }
    for name in ["one", "deep", ""] {
        let (place, away) = (tree.join(name), day.join("away"));
        // Without a `/` at its end a link is a link.
        let place = Path::new(place.to_str().unwrap().trim_end_matches('/')).to_owned();
        fs::rename(&place, &away).unwrap();
        std::os::unix::fs::symlink(secret.join(name), &place).unwrap();
        let output = restore(&shop, &["latest", "--to", &to, "--yes"]);
        assert!(!output.status.success(), "{name}: {}", said(&output));
        leaks(name);
        fs::remove_file(&place).unwrap();
        fs::rename(&away, &place).unwrap();
    }
}
