//! How everything stands, without a daemon; and what a killed run left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

use daykeep::event::Phase;
use daykeep::journal::{End, JobKind, Journal, PendingRestore, RestorePhase};
use daykeep::vault::{Proof, ProofKind, ProofSeconds, Vault};

use crate::world::{World, assert_told, instant};

fn job(world: &World, minute: u8, end: Option<&End>) {
    let at = |second: u8| instant(&format!("2020-01-03T01:{minute:02}:{second:02}Z"));
    let begun = Journal::begin(&world.path("state"), "web", JobKind::Backup, "schedule", at(0));
    let mut journal = begun.expect("a job");
    journal.step(Phase::Warm, at(1)).expect("a step");
    if let Some(end) = end {
        journal.finish(end, at(2)).expect("an end");
    }
}

#[test]
fn before_the_first_run() {
    let world = World::new();
    world.configure(&world.web("schedule = \"0 1 * * *\"\ntimezone = \"Europe/Berlin\""));
    assert_told("status_new", &world.transcript(&["status"]));
}

#[test]
fn tells_the_newest_day_and_the_last_attempt() {
    let world = World::with_web();
    world.keep_days("web");
    job(&world, 1, Some(&End::Succeeded { day: Some("2020-01-03T010000Z".to_owned()) }));
    let well = world.transcript(&["status"]);
    let detail = "No space left on device (os error 28)".to_owned();
    job(&world, 2, Some(&End::Failed { error: "cannot write /vault/x".to_owned(), detail }));
    let failed = world.transcript(&["status", "web", "--quiet"]);
    job(&world, 3, None);
    let died = world.transcript(&["status", "--quiet"]);
    assert_told("status", &format!("{well}\n{failed}\n{died}"));
    assert_told("status_json", &world.transcript(&["status", "--json", "--quiet"]));
}

fn proof(kind: ProofKind, at: &str, ok: bool, first: &[&str]) -> Proof {
    Proof {
        at: instant(at),
        kind,
        ok,
        sampled: None,
        seconds: ProofSeconds { database: 61.0, trees: 32.0, total: 95.0 },
        damages: u64::from(!ok),
        first: first.iter().map(|first| (*first).to_owned()).collect(),
        by: "daykeep 0.1.0".to_owned(),
    }
}

#[test]
fn tells_first_how_old_the_newest_proven_day_is() {
    let world = World::with_web();
    world.keep_days("web");
    let vault = Vault::open(&world.path("vault"), "web").expect("a vault");
    let prove = |day: &str, proof| vault.add_proof(day, proof).expect("kept");
    prove("2020-01-02T010000Z", proof(ProofKind::Drill, "2020-01-02T03:00:00Z", true, &[]));
    let older = world.transcript(&["status", "--quiet"]);
    prove("2020-01-03T010000Z", proof(ProofKind::Drill, "2020-01-03T03:00:00Z", true, &[]));
    let newest = world.transcript(&["status", "--quiet"]);
    let damage = "trees/files/one was changed";
    prove("2020-01-03T010000Z", proof(ProofKind::Verify, "2020-01-03T04:00:00Z", false, &[damage]));
    let damaged = world.transcript(&["status", "--quiet"]);
    assert_told("status_proven", &format!("{older}\n{newest}\n{damaged}"));
    let json = world.output(&["status", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).expect("a document");
    let web = &json["repositories"][0];
    assert_eq!(web["newest_proven_day"]["name"], "2020-01-02T010000Z");
    assert_eq!(json["newest_proven_age_seconds"], web["newest_proven_age_seconds"]);
    assert_eq!(web["last_verify"]["first"], damage);
}

#[test]
fn tells_what_a_restore_that_was_killed_waits_for() {
    let world = World::with_web();
    let mut pending = PendingRestore {
        job: 4,
        repository: "web".to_owned(),
        day: "2020-01-02T010000Z".to_owned(),
        options: String::new(),
        place: String::new(),
        phase: RestorePhase::Switching,
        started: instant("2020-01-03T05:00:00Z"),
    };
    fs::create_dir_all(world.path("state/web")).expect("made");
    let write = |pending: &PendingRestore| {
        let path = daykeep::journal::restore_record(&world.path("state"), "web");
        fs::write(path, serde_json::to_vec(pending).expect("JSON")).expect("written");
    };
    write(&pending);
    let half_way = world.transcript(&["status", "--quiet"]);
    pending.phase = RestorePhase::Done;
    write(&pending);
    let over = world.transcript(&["status", "--quiet"]);
    assert_told("status_restore", &format!("{half_way}\n{over}"));
}

#[test]
fn a_vault_that_is_not_mounted_is_seen() {
    let world = World::with_web();
    fs::remove_dir(world.path("vault")).expect("removed");
    assert_told("status_no_vault", &world.transcript(&["status"]));
}

#[test]
fn release_has_nothing_to_do_or_says_what_it_did() {
    let world = World::with_web();
    let nothing = world.transcript(&["release"]);
    let json = world.transcript(&["release", "--all", "--json"]);
    fs::write(
        world.path("daykeep.toml"),
        format!("state_dir = \"{}\"\n[repo", world.path("state").display()),
    )
    .expect("a broken configuration");
    let broken = world.transcript(&["release", "--all"]);
    let named = world.transcript(&["release", "web", "--state-dir", "state"]);
    assert_told("release_nothing", &format!("{nothing}\n{json}\n{broken}\n{named}"));
}

/// Who may not read where the holds are recorded cannot tell that nothing is held.
#[test]
#[allow(clippy::print_stderr, reason = "a test that cannot be made says so")]
fn a_release_that_may_not_look_is_an_error() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become somebody else");
        return;
    }
    let world = World::with_web();
    fs::set_permissions(world.path("daykeep.toml"), fs::Permissions::from_mode(0o600)).expect("ours alone");
    fs::set_permissions(&world.directory, fs::Permissions::from_mode(0o755)).expect("open to all");
    let output = world.command(&["release", "--all"]).uid(65534).gid(65534).output().expect("daykeep starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("Permission denied") && !told.contains("nothing is held"), "{told}");
    assert!(told.contains("help: run as root"), "{told}");
}

#[test]
fn a_group_that_is_not_there_is_told_by_the_check() {
    let world = World::with_web();
    let text = fs::read_to_string(world.path("daykeep.toml")).expect("the configuration");
    let text = text.replace("[daemon]\n", "[daemon]\ngroup = \"no-such-group\"\n");
    fs::write(world.path("daykeep.toml"), text).expect("the configuration");
    let output = world.output(&["config", "check"]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "it is no failure: {told}");
    assert!(told.contains("warn  group: there is no group \"no-such-group\": only root and"), "{told}");
}

#[test]
fn a_record_that_nobody_understands_is_no_release() {
    let world = World::with_web();
    fs::create_dir_all(world.path("state/web")).expect("a directory");
    fs::write(world.path("state/web/hold.json"), "{}").expect("a record");
    assert_told("release_damaged", &world.transcript(&["release"]));
}

#[test]
fn a_guard_whose_record_is_gone_has_nothing_to_do() {
    let world = World::with_web();
    let output = world.output(&["guard", "/nowhere/hold.json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_configuration_is_probed() {
    let world = World::with_web();
    let well = world.transcript(&["config", "check"]);
    fs::remove_dir(world.path("files")).expect("removed");
    let failed = world.transcript(&["config", "check"]);
    let json = world.transcript(&["config", "check", "--json"]);
    let offline = world.transcript(&["config", "check", "--offline"]);
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d+(\.\d+)? [KMGT]i?B", "[SIZE]");
    settings.add_filter(r"\d+ inodes", "[N] inodes");
    settings.bind(|| assert_told("probed", &format!("{well}\n{failed}\n{json}\n{offline}")));
}
