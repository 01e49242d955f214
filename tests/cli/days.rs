//! Days: list, show, diff, prune, export.

use std::fs;
use std::process::Command;

use daykeep::vault::Vault;

use crate::world::{World, assert_told, instant};

fn told(world: &World, calls: &[&[&str]]) -> String {
    calls.iter().map(|call| world.transcript(call)).collect::<Vec<_>>().join("\n")
}

#[test]
fn are_listed() {
    let world = World::with_web();
    let empty = told(&world, &[&["list"], &["list", "web"]]);
    world.keep_days("web");
    let days = world.path("vault/web/days");
    fs::create_dir(days.join("2020-01-04T010000Z")).expect("half a day");
    let listed = told(&world, &[&["list"], &["list", "web", "--json"]]);
    assert_told("list", &format!("{empty}\n{listed}"));
}

#[test]
fn are_shown_by_every_word_that_chooses_one() {
    let world = World::with_web();
    world.keep_days("web");
    assert_told("show", &told(&world, &[&["show", "latest"], &["show", "web", "day2"]]));
    let words = [
        ("latest", "2020-01-03T010000Z"),
        ("current", "2020-01-03T010000Z"),
        ("day0", "2020-01-03T010000Z"),
        ("day1", "2020-01-02T010000Z"),
        ("2020-01-01", "2020-01-01T010000Z"),
        ("2020-01-02T010000Z", "2020-01-02T010000Z"),
    ];
    for (word, day) in words {
        let output = world.output(&["show", word, "--json"]);
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
        assert_eq!(document["manifest"]["day"], day, "{word}");
        assert_eq!(document["schema"], 1);
    }
}

#[test]
fn are_compared() {
    let world = World::with_web();
    world.keep_days("web");
    let calls: [&[&str]; 4] = [
        &["diff", "day2", "day1"],
        &["diff", "web", "day1", "day2", "--quiet"],
        &["diff", "day1", "latest"],
        &["diff", "day2", "day1", "--json"],
    ];
    assert_told("diff", &told(&world, &calls));
}

#[test]
fn are_pruned_for_a_reason() {
    let world = World::with_web();
    world.keep_days("web");
    let before = told(&world, &[&["prune", "--dry-run"], &["prune", "--dry-run", "--json"]]);
    assert!(world.path("vault/web/days/2020-01-01T010000Z").exists(), "a dry run removes nothing");
    let pruned = told(&world, &[&["prune"]]);
    assert!(!world.path("vault/web/days/2020-01-01T010000Z").exists());
    let again = told(&world, &[&["prune", "web", "--json"]]);
    assert_told("prune", &format!("{before}\n{pruned}\n{again}"));
}

#[test]
fn are_not_pruned_while_somebody_else_has_the_vault() {
    let world = World::with_web();
    world.keep_days("web");
    let vault = Vault::open(&world.path("vault"), "web").expect("the vault");
    let locked =
        vault.lock("daykeep run, process 4711, job 7", instant("2020-01-03T02:00:00Z")).expect("the lock");
    assert_told(
        "locked",
        &told(&world, &[&["prune"], &["prune", "--json"], &["prune", "--dry-run", "--quiet"]]),
    );
    drop(locked);
    assert_eq!(world.output(&["prune"]).status.code(), Some(0));
}

#[test]
fn are_there_without_any_configuration() {
    let world = World::new();
    world.keep_days("web");
    let calls: [&[&str]; 6] = [
        &["list", "--vault", "vault"],
        &["show", "latest", "--vault", "vault/web", "--quiet"],
        &["diff", "web", "day2", "day1", "--vault", "vault"],
        &["list", "gold", "--vault", "vault"],
        &["list", "--vault", "files"],
        &["list", "--vault", "nowhere"],
    ];
    assert_told("without_configuration", &told(&world, &calls));
}

#[test]
fn that_are_in_doubt_are_not_used() {
    let world = World::with_web();
    world.keep_days("web");
    let day = world.path("vault/web/days/2020-01-03T010000Z");
    let manifest = fs::read_to_string(day.join("manifest.json")).expect("the manifest");
    Command::new("chmod").arg("u+w").arg(&day).status().expect("chmod");
    fs::write(day.join("manifest.json"), manifest.replace("\"web\"", "\"gold\"")).expect("written");
    assert_told("in_doubt", &told(&world, &[&["list"], &["show", "2020-01-03T010000Z"], &["status"]]));
}

#[test]
fn that_have_no_such_database_are_not_exported() {
    let world = World::with_web();
    world.keep_days("web");
    let calls: [&[&str]; 2] =
        [&["export", "latest", "--database", "zabbix"], &["export", "latest", "--json"]];
    assert_told("export", &told(&world, &calls));
}
