//! What `daykeep restore` tells before and after it does something: its plan is what it would do, and changes nothing; its commands work when
//! they are typed; what stands in the way is one clear sentence.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/daemon.rs"]
mod harness;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use daykeep::vault::{Proof, ProofKind, ProofSeconds, Vault};
use serde_json::{Value, json};

use harness::Place;
use support::shop::Shop;

fn said(output: &Output) -> (i32, String) {
    let said = [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text).into_owned());
    (output.status.code().expect("it was not killed"), said.concat())
}

/// `daykeep` with the configuration of a place.
fn daykeep(place: &Place, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
    command.arg("--config").arg(place.path("daykeep.toml")).args(arguments);
    said(&command.output().unwrap())
}

#[track_caller]
fn must(place: &Place, arguments: &[&str]) -> String {
    let (code, told) = daykeep(place, arguments);
    assert_eq!(code, 0, "{arguments:?}: {told}");
    told
}

#[track_caller]
fn has(told: &str, words: &[&str]) {
    for words in words {
        assert!(told.contains(words), "no {words:?} in: {told}");
    }
}

/// The days of a place, oldest first.
fn days(place: &Place) -> Vec<String> {
    let vault = Vault::open(&place.path("vault"), "small").unwrap();
    let days = vault.days(jiff::Timestamp::now()).unwrap().good;
    days.iter().map(|day| day.name().to_owned()).collect()
}

/// A place with a day, whose tree has changed since; and the day's name.
fn changed() -> (Place, String) {
    let place = Place::new();
    must(&place, &["run"]);
    fs::write(place.path("tree/one"), "changed\n").unwrap();
    fs::write(place.path("tree/two"), "2\n").unwrap();
    let day = days(&place).remove(0);
    (place, day)
}

fn is_the_day(place: &Place) -> bool {
    fs::read_to_string(place.path("tree/one")).unwrap() == "1\n" && !place.path("tree/two").exists()
}

fn record(place: &Place) -> PathBuf {
    place.path("state/small/restore.json")
}

fn rewrite(record: &Path, change: impl FnOnce(&mut Value)) {
    let mut document: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    change(&mut document);
    fs::write(record, document.to_string()).unwrap();
}

/// Every name below a directory, with its time of change.
fn names(root: &Path) -> String {
    let found = Command::new("find").arg(root).args(["-printf", "%p %C@ %T@\n"]).output().unwrap();
    let mut lines: Vec<String> =
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn a_plan_makes_no_directory_and_no_record() {
    let (place, day) = changed();
    let vault = place.path("vault").display().to_string();
    let (state, temporary) = (place.path("new/state"), place.path("tmp"));
    fs::create_dir(&temporary).unwrap();
    let before = names(place.dir.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
    command.env("DAYKEEP_CONFIG", "/nonexistent/daykeep.toml").env("TMPDIR", &temporary);
    command.args(["restore", "--vault", &vault, "--plan", "latest", "--state-dir"]).arg(&state);
    let (code, plan) = said(&command.output().unwrap());
    assert_eq!(code, 0, "{plan}");
    has(&plan, &[&format!("small: the day {day}"), "changes    1 name replaced, 1 name removed"]);
    assert!(!place.path("new").exists(), "the state directory is not made");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "nothing is left among the temporary files");
    let without = |names: &str| -> Vec<String> {
        let temporary = format!("{} ", temporary.display());
        names.lines().filter(|line| !line.starts_with(&temporary)).map(str::to_owned).collect()
    };
    assert_eq!(without(&names(place.dir.path())), without(&before), "nothing is touched");
}

#[test]
fn a_plan_tells_how_the_day_stands_and_which_is_the_newest_that_is_proven() {
    let (place, day) = changed();
    must(&place, &["run"]);
    let newest = days(&place).remove(1);
    let vault = Vault::open(&place.path("vault"), "small").unwrap();
    let found = |kind, ok, first: &str| Proof {
        at: jiff::Timestamp::now(),
        kind,
        ok,
        sampled: None,
        seconds: ProofSeconds::default(),
        damages: 2 * u64::from(!ok),
        first: if ok { Vec::new() } else { vec![first.to_owned()] },
        by: String::new(),
    };
    let plan = must(&place, &["restore", "latest", "--plan"]);
    has(&plan, &["NOT PROVEN: no drill has restored it", "no other day of small is proven"]);

    vault.add_proof(&day, found(ProofKind::Drill, true, "")).unwrap();
    vault.add_proof(&newest, found(ProofKind::Verify, false, "trees/files/one is torn")).unwrap();
    let plan = must(&place, &["restore", "latest", "--plan"]);
    let config = place.path("daykeep.toml").display().to_string();
    has(
        &plan,
        &[
            &format!("small: the day {newest}"),
            "s ago found 2 damages",
            &format!("warning: the day {newest} was found DAMAGED by the verify of "),
            ": trees/files/one is torn; it is verified once more",
            &format!(
                "the newest day that is proven is {day}: `daykeep restore small {day} --config {config}`"
            ),
            &format!("  proven is  {day} ("),
        ],
    );
    let json = daykeep(&place, &["restore", "latest", "--plan", "--json"]).1;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["plan"]["standing"], "damaged");
    assert_eq!(json["plan"]["finding"]["first"], "trees/files/one is torn");
    assert_eq!(json["plan"]["newest_proven"]["day"], day.as_str());

    vault.add_proof(&newest, found(ProofKind::Verify, true, "")).unwrap();
    vault.add_proof(&newest, found(ProofKind::Drill, false, "a row is lost")).unwrap();
    let plan = must(&place, &["restore", "latest", "--plan"]);
    has(&plan, &["NOT PROVEN: its drill FAILED ", "FAILED the drill of ", ": a row is lost"]);
    has(&must(&place, &["restore", &day, "--plan"]), &["s ago by a drill of"]);
    // What is not known does not keep anybody from a restore.
    fs::write(place.path("vault/small/proofs").join(&newest).with_extension("json"), "torn").unwrap();
    let plan = must(&place, &["restore", "latest", "--plan"]);
    has(&plan, &["warning: what verifies and drills found of this day cannot be read", "NOT PROVEN"]);
    must(&place, &["restore", "latest", "--yes"]);
}

#[test]
fn the_commands_that_are_shown_work_when_they_are_typed() {
    let (place, _) = changed();
    let state = place.path("my state");
    let program = Path::new(env!("CARGO_BIN_EXE_daykeep"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    fs::remove_dir_all(place.path("state")).unwrap();
    let shell = |script: &str, directory: &Path| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(directory).env("PATH", &path);
        command.env_remove("DAYKEEP_CONFIG");
        said(&command.output().unwrap())
    };
    for (ending, is_day) in [("--undo", false), ("--confirm", true)] {
        // Whatever was given as it is reached from here.
        let script = "daykeep restore --vault vault --state-dir 'my state' --config none.toml latest --trust-day --yes";
        let (code, said) = shell(script, place.dir.path());
        assert_eq!(code, 0, "{said}");
        assert!(is_the_day(&place) && state.join("small/restore.json").exists(), "{said}");
        let shown =
            said.lines().find(|line| line.starts_with("    daykeep restore") && line.contains(ending));
        let shown = shown.unwrap_or_else(|| panic!("no command in: {said}"));
        let command = shown.trim().split("   ").next().unwrap();
        has(command, &["--vault /", "--state-dir '/", "--trust-day"]);
        let (code, again) = shell(script, place.dir.path());
        assert_eq!(code, 13, "{again}");
        has(
            &again,
            &["small: nothing was restored now: the day", command, "then type `daykeep restore small "],
        );
        let (code, said) = shell(&format!("{command} --yes"), Path::new("/"));
        assert_eq!(code, 0, "{command}: {said}");
        assert_eq!(is_the_day(&place), is_day, "{said}");
        assert!(!state.join("small/restore.json").exists());
    }
}

#[test]
fn a_plan_says_that_it_goes_on_or_what_it_waits_for() {
    let (place, day) = changed();
    must(&place, &["restore", "latest", "--yes"]);
    let left = fs::read(record(&place)).unwrap();
    must(&place, &["restore", "--undo", "--yes"]);
    // As after a kill while it loaded.
    fs::write(record(&place), left).unwrap();
    rewrite(&record(&place), |left| left["phase"] = json!("loading"));
    let undo = format!("daykeep restore small --undo --config {}", place.path("daykeep.toml").display());

    let plan = must(&place, &["restore", "latest", "--plan"]);
    has(&plan, &["  goes on    with job 2, broken off while it loaded", &format!("`{undo}` takes it back")]);
    let (code, other) = daykeep(&place, &["restore", "latest", "--path", "files:one", "--plan"]);
    assert_eq!(code, 1, "{other}");
    has(
        &other,
        &[
            &format!("the restore of {day} (job 2) is not finished: `daykeep restore small {day} --config "),
            &format!("` goes on, `{undo}` takes it back"),
        ],
    );
    let (code, performed) = daykeep(&place, &["restore", "latest", "--path", "files:one", "--yes"]);
    assert_eq!((code, performed.lines().last()), (1, other.lines().last()), "as the plan said");
    // Elsewhere nothing of it is in the way, and nothing goes on.
    let to = place.path("elsewhere").display().to_string();
    let plan = must(&place, &["restore", "latest", "--to", &to, "--plan"]);
    assert!(!plan.contains("goes on"), "{plan}");

    must(&place, &["restore", "latest", "--yes"]);
    assert!(is_the_day(&place));
    rewrite(&record(&place), |left| left["phase"] = json!("checking"));
    let plan = must(&place, &["restore", "latest", "--plan"]);
    has(&plan, &["broken off before its end", "takes      moments"]);
    rewrite(&record(&place), |left| left["phase"] = json!("undoing"));
    let (code, told) = daykeep(&place, &["restore", "latest", "--plan"]);
    assert_eq!(code, 1, "{told}");
    has(&told, &["is not taken back to the end", &undo]);
}

#[test]
fn the_databases_of_a_restore_that_is_gone_on_with_are_its_own() {
    let shop = Shop::new("");
    shop.run();
    shop.change();
    let day = shop.days().remove(0).name().to_owned();
    shop.server.psql("postgres", "CREATE DATABASE daykeep_new_7_1");
    let plan = || said(&shop.output(&["restore", "latest", "--plan"]));
    let (code, strange) = plan();
    assert_eq!(code, 0, "{strange}");
    has(&strange, &["database \"daykeep_new_7_1\" of another restore is on the server"]);
    let record = shop.path("state/shop/restore.json");
    let choice = json!({"only": null, "databases": [], "tables": [], "trees": [], "paths": []});
    let left = json!({
        "format": 1, "job": 7, "repository": "shop", "day": day, "options": "", "phase": "loading",
        "started": "2026-11-21T01:00:00Z", "choice": choice, "configuration": "", "databases": null, "trees": [],
    });
    fs::write(record, left.to_string()).unwrap();
    let (code, own) = plan();
    assert_eq!(code, 0, "{own}");
    has(&own, &["goes on    with job 7", "database   shop: replaced"]);
    assert!(!own.contains("of another restore"), "{own}");
}

#[test]
fn nobody_is_told_that_a_repository_was_started_when_that_is_not_known() {
    let asks = "is_running = [\"sh\", \"-c\", \"exit 0\"]";
    for (hold, is_known) in [("", false), (asks, true)] {
        let (place, _) = changed();
        must(&place, &["restore", "latest", "--yes"]);
        rewrite(&record(&place), |left| left["phase"] = json!("switching"));
        place.configure(&place.small("", hold));
        place.leave_a_kept_hold();
        let told = must(&place, &["restore", "--undo", "--yes"]);
        assert_eq!(told.contains("was started while the restore was half way"), is_known, "{told}");
        assert!(!is_the_day(&place), "{told}");
        let trace = place.trace();
        assert!(trace.contains("pause\npause\n"), "it is paused all the same: {trace}");
    }
}

#[test]
fn what_goes_elsewhere_is_counted_and_goes_into_nothing_that_is_in_use() {
    let place = Place::new();
    fs::create_dir_all(place.path("tree/sub/deep")).unwrap();
    fs::write(place.path("tree/sub/a"), "four").unwrap();
    fs::write(place.path("tree/sub/deep/b"), "sixsix").unwrap();
    must(&place, &["run"]);
    let at = |name: &str| place.path(name).display().to_string();
    for left in ["files", "another"] {
        fs::create_dir_all(place.path(&format!("new/.daykeep-restore-{left}/left"))).unwrap();
    }
    let plan = must(&place, &["restore", "latest", "--to", &at("new"), "--plan"]);
    has(&plan, &["changes    6 names created"]);
    assert!(place.path("new/.daykeep-restore-files/left").exists(), "a plan removes nothing");
    let plan = must(&place, &["restore", "latest", "--to", &at("new"), "--path", "files:sub", "--plan"]);
    // The root, sub, and what is in it.
    has(&plan, &["only       sub", "changes    5 names created; 10 B to copy", "8.0 KiB needed"]);
    let told = must(&place, &["restore", "latest", "--to", &at("new"), "--path", "files:sub", "--yes"]);
    has(&told, &[&format!("  in {}", at("new/files"))]);
    assert!(place.path("new/.daykeep-restore-another/left").exists(), "it is not its own");
    assert!(!place.path("new/.daykeep-restore-files").exists(), "it is");
    let found = Command::new("find").arg(at("new/files")).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap().lines().count(), 5, "as the plan said");

    fs::create_dir_all(place.path("other/files")).unwrap();
    let more = format!(
        "[repository.second]\nvault = \"{}\"\n[repository.second.hold.none]\n[repository.second.tree.files]\npath = \"{}\"\n",
        at("vault"),
        at("other/files")
    );
    place.configure(&(place.small("", "") + &more));
    std::os::unix::fs::symlink(place.path("tree"), place.path("link")).unwrap();
    for (to, words) in [
        ("vault/x", "/files is inside the vault"),
        ("tree/x", "/files is inside the tree files at"),
        ("link/x", "/files is inside the tree files at"),
        ("other", "/files is the place of the tree files of second itself"),
    ] {
        for option in ["--plan", "--yes"] {
            let before = names(&place.path("tree"));
            let (code, told) = daykeep(&place, &["restore", "small", "latest", "--to", &at(to), option]);
            assert_eq!(code, 1, "{to}: {told}");
            has(&told, &[words, "name "]);
            assert!(!place.path(to).join("files/one").exists(), "{told}");
            assert_eq!(names(&place.path("tree")), before, "{told}");
        }
    }
}

#[test]
fn without_a_day_the_days_are_told_and_none_is_chosen() {
    let (place, day) = changed();
    must(&place, &["run"]);
    let newest = days(&place).remove(1);
    let config = place.path("daykeep.toml").display().to_string();
    for words in [
        &["restore"][..],
        &["restore", "small"],
        &["restore", "small", "--yes"],
        &["restore", "small", "--plan"],
    ] {
        let (code, told) = daykeep(&place, words);
        assert_eq!(code, 2, "{told}");
        has(
            &told,
            &[
                &format!("error: which day of small? `daykeep restore small DAY --config {config}`"),
                "small has 2 days; the newest are:",
                &day,
                &newest,
                "none of them is proven",
            ],
        );
        assert!(!is_the_day(&place));
    }
    must(&place, &["drill", "small", &day]);
    let (code, told) = daykeep(&place, &["restore", "small"]);
    assert_eq!(code, 2, "{told}");
    has(
        &told,
        &["proven\n", &format!("the newest that is proven: `daykeep restore small {day} --config {config}`")],
    );
    has(&daykeep(&place, &["restore", "small", "--detach", "--yes"]).1, &["which day of small?"]);
    let mut bare = Command::new(env!("CARGO_BIN_EXE_daykeep"));
    bare.env("DAYKEEP_CONFIG", "/nonexistent/daykeep.toml")
        .arg("restore")
        .arg("--vault")
        .arg(place.path("vault"));
    let (code, told) = said(&bare.output().unwrap());
    assert_eq!(code, 2, "{told}");
    has(&told, &[&format!("`daykeep restore small {day} --vault {}`", place.path("vault").display())]);
}

#[test]
fn without_a_configuration_the_vault_is_to_be_named() {
    for (arguments, words) in [
        (
            &["restore", "latest"][..],
            "hint: on a machine without a configuration, name the vault: `daykeep restore --vault DIR",
        ),
        (&["list"], "hint: without a configuration, name the vault: `--vault DIR`"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
        let (code, told) = said(
            &command.env("DAYKEEP_CONFIG", "/nonexistent/daykeep.toml").args(arguments).output().unwrap(),
        );
        assert_eq!(code, 2, "{told}");
        has(&told, &[words]);
    }
}

#[test]
fn a_damaged_record_is_one_clear_problem() {
    let (place, day) = changed();
    must(&place, &["restore", "latest", "--yes"]);
    let whole = fs::read(record(&place)).unwrap();
    fs::write(record(&place), &whole[..whole.len() / 2]).unwrap();
    fs::create_dir(place.path("other")).unwrap();
    let more = format!(
        "[repository.other]\nvault = \"{0}\"\n[repository.other.hold.none]\n[repository.other.tree.files]\npath = \"{1}\"\n",
        place.path("vault").display(),
        place.path("other").display()
    );
    place.configure(&(place.small("", "") + &more));
    must(&place, &["run", "other"]);
    let status = must(&place, &["status"]);
    let path = record(&place).display().to_string();
    has(
        &status,
        &[
            &format!("  restore       RECORD DAMAGED: {path} is damaged, so it is not known how far"),
            "see \"When the record is damaged\" in docs/restore.md",
            &format!("({day})"),
            "other: newest day ",
        ],
    );
    assert_eq!(status.matches("RECORD DAMAGED").count(), 1, "{status}");
    let refused: [&[&str]; 4] = [
        &["restore", "small", "latest", "--plan"],
        &["restore", "small", "latest", "--yes"],
        &["restore", "small", "--undo", "--yes"],
        &["run", "small"],
    ];
    for arguments in refused {
        let (code, told) = daykeep(&place, arguments);
        assert_eq!(code, 1, "{arguments:?}: {told}");
        assert_eq!(told.matches(&format!("error: {path} is damaged")).count(), 1, "{arguments:?}: {told}");
    }
    must(&place, &["restore", "other", "latest", "--plan"]);
    let daemon = place.start();
    let told = |answer: &Value| {
        let all = answer["repositories"].as_array().unwrap();
        all.iter().any(|one| {
            one["name"] == "small" && one["restore_error"].as_str().is_some_and(|why| why.contains(&path))
        }) && all.iter().any(|one| one["name"] == "other" && one["restore_error"].is_null())
    };
    daemon.until("/v1/status", "the damaged record", told);
}

/// A hold that tells whether the repository runs: it does when its last word is `release`.
fn tells(place: &Place) -> String {
    let asks = "is_running = [\"sh\", \"-c\", \"echo asked >> $T/asked; test \\\"$(tail -n 1 $T/trace)\\\" = release\"]";
    let root = place.dir.path().display().to_string();
    place.small("", &asks.replace("$T", &root))
}

fn asked(place: &Place) -> bool {
    let asked = place.path("asked");
    let is_asked = asked.exists();
    let _ = fs::remove_file(asked);
    is_asked
}

#[test]
fn what_was_found_stopped_stays_so_and_is_stopped_again_by_undo() {
    let place = Place::new();
    place.configure(&tells(&place));
    fs::write(place.path("trace"), "").unwrap();
    let run = must(&place, &["run"]);
    has(&run, &["the scheduler is not started: it was found stopped"]);
    assert!(!run.contains("runs again"), "{run}");
    fs::write(place.path("tree/one"), "changed\n").unwrap();

    let plan = must(&place, &["restore", "latest", "--plan"]);
    has(&plan, &["is STOPPED now and stays so: add --start to start it afterwards"]);
    let told = must(&place, &["restore", "latest", "--yes"]);
    has(&told, &["the scheduler is not started: it was found stopped", "was found stopped, and stays so"]);
    assert!(!told.contains("runs again"), "{told}");
    assert_eq!(place.trace(), "");
    must(&place, &["restore", "--undo", "--yes"]);
    assert_eq!(place.trace(), "");

    // What --start had started stands still again with what was there before.
    let told = must(&place, &["restore", "latest", "--yes", "--start"]);
    has(&told, &["is STOPPED now, and started afterwards", "the repository runs again"]);
    assert_eq!(place.trace(), "release\n");
    let told = must(&place, &["restore", "--undo", "--yes"]);
    has(
        &told,
        &[
            "stays stopped, as the restore found it: add --start",
            "found the scheduler stopped, and it stays so",
        ],
    );
    assert!(!told.contains("runs again"), "{told}");
    assert_eq!(place.trace(), "release\npause\n");
    assert!(!place.path("state/small/hold.json").exists());

    // Killed while it put back, it is the same.
    must(&place, &["restore", "latest", "--yes", "--start"]);
    rewrite(&record(&place), |left| left["phase"] = json!("undoing"));
    place.leave_a_kept_hold();
    assert!(place.trace().ends_with("release\npause\n"), "{}", place.trace());
    must(&place, &["restore", "--undo", "--yes"]);
    assert!(place.trace().ends_with("release\npause\n"), "{}", place.trace());
    assert!(!place.path("state/small/hold.json").exists());

    must(&place, &["restore", "latest", "--yes", "--start"]);
    let told = must(&place, &["restore", "--undo", "--yes", "--start"]);
    assert!(!told.contains("stays stopped") && place.trace().ends_with("release\n"), "{told}");

    let told = must(&place, &["restore", "latest", "--yes"]);
    has(&told, &["runs now: it is paused, and started afterwards", "the repository runs again"]);
    must(&place, &["restore", "--undo", "--yes"]);
    assert!(place.trace().ends_with("pause\nrelease\n"), "{}", place.trace());
}

#[test]
fn nothing_that_a_day_names_is_run_to_tell_whether_the_repository_runs() {
    let place = Place::new();
    place.configure(&tells(&place));
    must(&place, &["run"]);
    must(&place, &["restore", "latest", "--plan"]);
    assert!(asked(&place), "the configuration is the machine's own");
    let vault = place.path("vault").display().to_string();
    let plan = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
        command.env("DAYKEEP_CONFIG", "/nonexistent/daykeep.toml").args(["restore", "--vault", &vault]);
        command.args(["latest", "--plan", "--state-dir"]).arg(place.path("other")).args(more);
        let (code, plan) = said(&command.output().unwrap());
        assert_eq!(code, 0, "{plan}");
        plan
    };
    has(&plan(&[]), &["is paused, and started afterwards if it runs now"]);
    assert!(!asked(&place), "nobody has agreed to what the day names");
    has(&plan(&["--trust-day"]), &["is STOPPED now"]);
    assert!(asked(&place));
}
