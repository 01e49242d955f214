//! Every mistake gets one clear answer and the promised code.

use crate::world::{World, assert_told};

#[test]
fn the_command_line() {
    let world = World::with_web();
    let calls: [&[&str]; 12] = [
        &["frobnicate"],
        &["rnu"],
        &["verify", "--sample", "5"],
        &["lst"],
        &["list", "--al"],
        &["show"],
        &["diff", "latest"],
        &["diff", "web", "a", "b", "c"],
        &["cancel", "seven"],
        &["schedule", "--count", "0"],
        &["release", "web", "--all"],
        &["completions", "tcsh"],
    ];
    let told: Vec<String> = calls.iter().map(|call| world.transcript(call)).collect();
    assert_told("command_line", &told.join("\n"));
}

#[test]
fn the_command_line_for_a_script() {
    let world = World::with_web();
    assert_told("command_line_json", &world.transcript(&["--json", "cancel", "seven"]));
}

#[test]
fn no_verb_shows_the_verbs() {
    let world = World::with_web();
    let output = world.output(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert_told("help", &world.transcript(&["--help"]));
}

#[test]
fn the_configuration() {
    let world = World::new();
    let missing = world.transcript(&["status"]);
    world.configure("[repository.web]\nvault = \"vault\"\nschedul = \"0 1 * * *\"\n");
    let calls: [&[&str]; 5] = [
        &["list"],
        &["config", "check"],
        &["config", "check", "--json"],
        &["schedule", "--json"],
        &["config", "show", "--config", "/nowhere/daykeep.toml"],
    ];
    let told: Vec<String> = calls.iter().map(|call| world.transcript(call)).collect();
    assert_told("configuration", &format!("{missing}\n{}", told.join("\n")));
}

#[test]
fn no_such_repository_or_day() {
    let world = World::with_web();
    world.keep_days("web");
    let calls: [&[&str]; 9] = [
        &["list", "wbe"],
        &["run", "gold"],
        &["schedule", "gold"],
        &["status", "gold"],
        &["show", "day3"],
        &["show", "web", "2020-02-30"],
        &["diff", "2020-01-02", "2020-01-09"],
        &["export", "web", "yesterday"],
        &["show", "gold", "latest", "--json"],
    ];
    let told: Vec<String> = calls.iter().map(|call| world.transcript(call)).collect();
    assert_told("no_such", &told.join("\n"));
}

#[test]
fn which_of_two_repositories() {
    let world = World::new();
    let gold =
        world.web("").replace("repository.web", "repository.gold").replace("/files", "/vault/../files2");
    std::fs::create_dir(world.path("files2")).expect("a directory");
    world.configure(&format!("{}{}", world.web(""), gold.replace("vault/../", "")));
    let calls: [&[&str]; 4] = [&["run"], &["prune"], &["show", "latest"], &["release"]];
    let told: Vec<String> = calls.iter().map(|call| world.transcript(call)).collect();
    assert_told("which_of_two", &told.join("\n"));
}

#[test]
fn no_daemon() {
    let world = World::with_web();
    let calls: [&[&str]; 4] = [&["watch"], &["watch", "7"], &["run", "--detach"], &["cancel", "7", "--json"]];
    let told: Vec<String> = calls.iter().map(|call| world.transcript(call)).collect();
    assert_told("no_daemon", &told.join("\n"));
}
