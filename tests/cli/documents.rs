//! What others read: completions, manual pages, the samples, the reference.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::world::{World, assert_told};

#[test]
fn completions_are_taken_by_their_shells() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.output(&["completions", shell]);
        assert!(script.status.success() && script.stdout.len() > 1000, "{shell}");
        let text = String::from_utf8(script.stdout).expect("text");
        assert!(!text.contains("guard"), "{shell}: what is hidden is not completed");
        let file = world.path(shell);
        fs::write(&file, text).expect("the script is written");
        // A shell that is not on this machine is not asked.
        if let Ok(checked) = Command::new(shell).arg("-n").arg(&file).output()
            && ["bash", "zsh", "fish"].contains(&shell)
        {
            assert!(checked.status.success() && checked.stderr.is_empty(), "{shell}: {checked:?}");
        }
    }
}

#[test]
fn every_verb_has_a_manual_page_without_mistakes() {
    let world = World::new();
    assert_told("man", &world.transcript(&["man", "--out", "man/man1"]));
    let pages = daykeep::fs::names_in(&world.path("man/man1")).expect("the pages");
    let pages: Vec<String> = pages.into_iter().map(|name| name.to_string_lossy().into_owned()).collect();
    for verb in verbs(&world) {
        assert!(pages.contains(&format!("daykeep-{verb}.1")), "{verb} has no page: {pages:?}");
    }
    for page in &pages {
        let path = world.path("man/man1").join(page);
        let rendered = Command::new("groff").args(["-man", "-ww", "-Tutf8", "-Kutf8"]).arg(&path).output();
        let rendered = rendered.expect("groff is installed");
        assert!(rendered.status.success(), "{page}: {rendered:?}");
        assert!(rendered.stderr.is_empty(), "{page}: {}", String::from_utf8_lossy(&rendered.stderr));
        let first = fs::read_to_string(&path).expect("the page");
        assert!(first.contains(".SH SYNOPSIS"), "{page}");
    }
    let one = world.output(&["man"]);
    assert_eq!(one.stdout, fs::read(world.path("man/man1/daykeep.1")).expect("the page"));
}

/// The verbs as the help lists them.
fn verbs(world: &World) -> Vec<String> {
    let help = String::from_utf8(world.output(&["--help"]).stdout).expect("text");
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let verbs = list.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    verbs.filter(|verb| *verb != "help").map(str::to_owned).collect()
}

#[test]
fn the_reference_has_every_verb_option_and_code() {
    let world = World::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let reference = fs::read_to_string(path).expect("docs/cli.md");
    for verb in verbs(&world) {
        assert!(reference.contains(&format!("## daykeep {verb}\n")), "docs/cli.md has no heading for {verb}");
        let help = String::from_utf8(world.output(&[&verb, "--help"]).stdout).expect("text");
        for option in help.split_whitespace().filter(|word| word.starts_with("--")) {
            let option = option.trim_end_matches([',', '.', ')', ']']);
            assert!(
                reference.contains(&format!("`{option}")),
                "docs/cli.md does not tell {option} of {verb}"
            );
        }
    }
    for code in ["0", "1", "2", "10", "11", "75", "128+N"] {
        assert!(reference.contains(&format!("\n| {code} |")), "docs/cli.md does not tell exit code {code}");
    }
}

#[test]
fn the_sample_tells_what_can_be_configured() {
    let world = World::new();
    let sample = world.output(&["config", "generate"]);
    assert!(sample.status.success() && sample.stderr.is_empty());
    let text = String::from_utf8(sample.stdout).expect("text");
    assert!(text.contains("[repository.") && text.contains("vault ="), "{text}");
}

#[test]
fn what_is_in_force_is_a_configuration_that_says_the_same() {
    let world = World::with_web();
    let shown = world.output(&["config", "show"]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let again = world.path("shown.toml");
    fs::write(&again, &shown.stdout).expect("written");
    let twice = world.output(&["config", "show", "--config", &again.to_string_lossy()]);
    assert_eq!(twice.stdout, shown.stdout);
}

#[test]
fn the_configuration_in_force() {
    let world = World::new();
    world.configure(&world.web("schedule = \"0 1 * * *\"\ntimezone = \"Europe/Berlin\""));
    let calls: [&[&str]; 3] =
        [&["config", "show"], &["config", "show", "web", "--json"], &["schedule", "-n", "1"]];
    let told: Vec<String> = calls.iter().map(|call| world.transcript(call)).collect();
    assert_told("in_force", &told.join("\n"));
}

#[test]
fn the_next_runs_have_their_offsets() {
    let world = World::new();
    world.configure(&world.web("schedule = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\""));
    let output = world.output(&["schedule", "--json", "--count", "400"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    let next = document["repositories"][0]["next"].as_array().expect("instants").clone();
    assert_eq!(next.len(), 400);
    let offsets =
        |offset: &str| next.iter().filter(|run| run["local"].as_str().unwrap().ends_with(offset)).count();
    assert!(offsets("+01:00") > 100 && offsets("+02:00") > 100, "a year has both");
}
