//! Data on stdout, talk on stderr, colours where they are wanted, and silence when nobody reads.

use std::process::{Command, Stdio};

use crate::world::{World, assert_told};

#[test]
fn a_reader_that_went_away_is_nothing_to_talk_about() {
    let world = World::with_web();
    world.keep_days("web");
    for call in [&["completions", "bash"][..], &["list", "--json"], &["diff", "day2", "day1"], &["man"]] {
        let mut child =
            world.command(call).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(128 + 13), "{call:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{call:?}: {output:?}");
    }
}

#[test]
fn a_full_disk_behind_stdout_is_told() {
    let world = World::with_web();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = world.command(&["completions", "bash"]).stdout(full).output().expect("it ends");
    assert_told("stdout_full", &world.told(&["completions", "bash", ">/dev/full"], &output));
}

#[test]
fn quiet_keeps_talk_back_but_not_errors() {
    let world = World::with_web();
    let loud = world.output(&["status"]);
    let quiet = world.output(&["status", "--quiet"]);
    assert!(!loud.stderr.is_empty() && quiet.stderr.is_empty());
    assert_eq!(loud.stdout, quiet.stdout);
    assert!(!world.output(&["show", "latest", "--quiet"]).stderr.is_empty());
}

#[test]
fn nothing_but_one_document_is_on_stdout_for_a_script() {
    let world = World::with_web();
    world.keep_days("web");
    let calls: [&[&str]; 9] = [
        &["list"],
        &["show", "latest"],
        &["prune", "--dry-run"],
        &["release"],
        &["schedule"],
        &["status"],
        &["config", "show"],
        &["config", "generate"],
        &["show", "never"],
    ];
    for call in calls {
        let output = world.output(&[call, &["--json"]].concat());
        let document: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{call:?}: {error}: {}", String::from_utf8_lossy(&output.stdout)));
        assert_eq!(document["schema"], 1, "{call:?}");
        assert_eq!(
            document["error"]["code"].as_i64(),
            output.status.code().filter(|code| *code != 0).map(i64::from)
        );
    }
}

/// What a person sees on a terminal.
fn on_a_terminal(world: &World, arguments: &str, env: &[(&str, &str)]) -> (String, Option<i32>) {
    let call = format!("{} {arguments}", env!("CARGO_BIN_EXE_daykeep"));
    let mut script = Command::new("script");
    script
        .args(["-qec", &call, "/dev/null"])
        .stdin(Stdio::null())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    script.env("DAYKEEP_CONFIG", world.path("daykeep.toml")).envs(env.iter().copied());
    let output = script.output().expect("script (util-linux) is installed");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

#[test]
fn colours_are_for_terminals_and_can_be_had_without() {
    let world = World::with_web();
    let (coloured, code) = on_a_terminal(&world, "show latest", &[]);
    assert!(coloured.contains("\x1b[") && coloured.contains("there is no vault"), "{coloured:?}");
    assert_eq!(code, Some(10));
    for (arguments, env) in [("show latest --no-color", &[][..]), ("show latest", &[("NO_COLOR", "1")])] {
        let (plain, _) = on_a_terminal(&world, arguments, env);
        assert!(!plain.contains('\x1b') && plain.contains("error: there is no vault"), "{plain:?}");
    }
    let piped = world.output(&["show", "latest"]);
    assert!(!String::from_utf8_lossy(&piped.stderr).contains('\x1b'));
}

#[test]
fn sql_is_not_thrown_at_a_terminal() {
    let world = World::with_web();
    world.keep_days("web");
    let (told, code) = on_a_terminal(&world, "export latest --no-color", &[]);
    assert_told("export_terminal", &told.replace('\r', ""));
    assert_eq!(code, Some(2));
}
