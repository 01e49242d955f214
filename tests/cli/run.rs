//! `daykeep run` in the foreground: a day, a busy repository, a locked vault, signals.

use std::fs;
use std::process::{Child, Output, Stdio};

use daykeep::vault::Vault;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{World, assert_told, instant};

const IDLE: &str = "true";
const NEVER_IDLE: &str = "echo an agent runs >&2; false";

fn world(more: &str, prove: &str) -> World {
    let world = World::new();
    world.configure(&world.web_held(more, prove));
    fs::write(world.path("files/a.txt"), "content of a").expect("a file");
    world
}

/// What a run says, without what differs from run to run.
fn assert_run(name: &str, told: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\b2\d\d\d-\d\d-\d\dT\d{6}Z", "[DAY]");
    settings.add_filter(r"\b\d+\.\d+(s|ms)\b", "[SECONDS]");
    settings.add_filter(r"\b\d+(\.\d+)? ([KM]iB|B)\b", "[SIZE]");
    settings.bind(|| assert_told(name, told));
}

#[test]
fn keeps_a_day() {
    let world = world("", IDLE);
    assert_run("run", &world.transcript(&["run"]));
    assert!(!world.path("paused").exists(), "the repository runs again");
    let kept = fs::read_to_string(world.path("vault/web/current/trees/files/a.txt"));
    assert_eq!(kept.expect("the file is kept"), "content of a");

    let output = world.output(&["run", "web", "--json", "--quiet"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!(document["schema"], 1);
    assert_eq!(document["outcome"], "sealed");
    assert_eq!(document["job"], 2);
    assert_eq!(document["day"]["sequence"], 2);
    assert_eq!(document["day"]["files"], 1);
    let status = String::from_utf8(world.output(&["status"]).stdout).expect("text");
    assert!(
        status.starts_with("newest proven day: NONE of web ") && status.contains("\nweb: newest day "),
        "{status}"
    );
    assert!(status.contains("last attempt  succeeded"), "{status}");
}

#[test]
fn leaves_a_busy_repository_alone() {
    let world = world("drain = \"1s\"", NEVER_IDLE);
    assert_run("run_busy", &world.transcript(&["run"]));
    assert!(!world.path("paused").exists(), "the repository runs again");
    assert_eq!(world.output(&["run", "--json", "--quiet"]).status.code(), Some(75));
}

#[test]
fn waits_for_nobody() {
    let world = world("", IDLE);
    let vault = Vault::create(&world.path("vault"), "web").expect("a vault");
    let locked =
        vault.lock("daykeep prune, process 4711", instant("2020-01-03T02:00:00Z")).expect("the lock");
    assert_run("run_locked", &world.transcript(&["run", "--quiet"]));
    assert!(!world.path("paused").exists(), "nothing was paused");
    drop(locked);
}

#[test]
fn tells_what_went_wrong() {
    let world = world("", IDLE);
    fs::remove_dir_all(world.path("files")).expect("removed");
    assert_run("run_failed", &world.transcript(&["run", "--quiet"]));
    assert!(!world.path("paused").exists());
    let status = String::from_utf8(world.output(&["status"]).stdout).expect("text");
    assert!(status.contains("last attempt  FAILED"), "{status}");
    let why =
        format!("cannot find {}: No such file or directory (os error 2)", world.path("files").display());
    assert!(status.contains(&why), "with its cause: {status}");
}

struct Running(Child);

impl Running {
    fn start(world: &World) -> Self {
        let mut command = world.command(&["run"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("daykeep starts");
        world.wait_until("the pause", |world| world.path("paused").exists());
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).expect("a process id")), signal).expect("it is there");
    }

    fn end(self) -> Output {
        self.0.wait_with_output().expect("it ends")
    }
}

#[test]
fn releases_when_it_is_interrupted() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let world = world("drain = \"5m\"", NEVER_IDLE);
        let running = Running::start(&world);
        running.signal(signal);
        let output = running.end();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(!world.path("paused").exists(), "{signal}: the repository runs again");
        let status = String::from_utf8(world.output(&["status"]).stdout).expect("text");
        assert!(status.contains("NO DAY YET") && status.contains("last attempt  cancelled"), "{status}");
        if signal == Signal::SIGINT {
            assert_run("run_interrupted", &world.told(&["run"], &output));
        }
    }
}

#[test]
fn does_not_heed_a_second_signal_before_the_release() {
    let world = world("drain = \"5m\"", NEVER_IDLE);
    let running = Running::start(&world);
    running.signal(Signal::SIGINT);
    // The release takes a second.
    std::thread::sleep(std::time::Duration::from_millis(300));
    running.signal(Signal::SIGINT);
    let output = running.end();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("SIGINT is not heeded before the repository is released"), "{told}");
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(!world.path("paused").exists(), "the repository runs again");
}

#[test]
fn that_was_killed_is_released_by_its_guard() {
    let world = world("drain = \"5m\"", NEVER_IDLE);
    let running = Running::start(&world);
    running.signal(Signal::SIGKILL);
    running.end();
    world.wait_until("the release by the guard", |world| !world.path("paused").exists());
}

/// A guard that goes on trying is no reason for a pipe, a cron job or an ssh session to hang.
#[test]
fn whose_release_fails_says_what_goes_on_and_ends() {
    let world = world("", IDLE);
    let text = fs::read_to_string(world.path("daykeep.toml")).expect("the configuration");
    let mended = world.path("mended").display().to_string();
    let text = text.replace("sleep 1; rm -f", &format!("test -e {mended} || exit 7; rm -f"));
    fs::write(world.path("daykeep.toml"), text).expect("the configuration");
    let mut shell = std::process::Command::new("sh");
    // A descriptor more than the usual ones, which leads to the pipe, too.
    shell.args(["-c", "\"$0\" run --config \"$1\" 2>&1 9>&1 | cat"]).arg(env!("CARGO_BIN_EXE_daykeep"));
    let begun = std::time::Instant::now();
    let output = shell.arg(world.path("daykeep.toml")).output().expect("a shell");
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "it hung: {output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    let said = "error: web is STILL PAUSED: cannot release the application: sh ended with exit status: 7; its guard (process ";
    let rest = told.split_once(said).unwrap_or_else(|| panic!("{told}")).1;
    assert!(rest.contains("`daykeep release web` tries at once"), "{told}");
    let guard: u32 = rest.split_once(')').expect("a number").0.parse().expect("a number");
    let given = |number: u8| fs::read_link(format!("/proc/{guard}/fd/{number}"));
    assert_eq!(given(2).expect("it lives").to_str(), Some("/dev/null"));
    let led_to = |number| given(number).map_or_else(|_| String::new(), |to| to.display().to_string());
    assert!(!led_to(9).starts_with("pipe:"), "{}", led_to(9));

    let status = String::from_utf8(world.output(&["status", "web"]).stdout).expect("text");
    let line = status.lines().find(|line| line.starts_with("  held")).expect("a line");
    assert!(
        line.contains("YES, STILL PAUSED since ") && line.contains("sh ended with exit status: 7"),
        "{line}"
    );
    assert!(line.contains(&format!("its guard (process {guard}) goes on trying")), "{line}");
    assert!(status.contains("last attempt  FAILED") && status.contains("web is STILL PAUSED"), "{status}");
    let release = world.output(&["release"]);
    let told = String::from_utf8_lossy(&release.stdout);
    assert_eq!(release.status.code(), Some(1), "{release:?}");
    assert!(told.contains("NOT RELEASED, STILL PAUSED: cannot release the application"), "{told}");
    assert!(told.contains(&format!("its guard (process {guard}) goes on trying, after 1s")), "{told}");

    fs::write(world.path("mended"), "").expect("a file");
    let release = world.output(&["release"]);
    assert!(release.status.success(), "{release:?}");
    assert!(!world.path("paused").exists(), "the repository runs again");
    world.wait_until("the guard's end", |_| !std::path::Path::new(&format!("/proc/{guard}")).exists());
}

#[test]
fn is_not_released_under_by_mistake() {
    let world = world("drain = \"5m\"", NEVER_IDLE);
    let running = Running::start(&world);
    let in_use = world.transcript(&["release"]);
    assert!(world.path("paused").exists(), "it was left alone");
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().status.code(), Some(130));
    assert_run("release_in_use", &in_use);
}

#[test]
fn learns_that_it_was_released_by_force() {
    let world = world("drain = \"5m\"", NEVER_IDLE);
    let running = Running::start(&world);
    let forced = world.output(&["release", "--force"]);
    assert!(forced.status.success(), "{forced:?}");
    assert!(!world.path("paused").exists(), "the repository runs again");
    let output = running.end();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("the freeze is void"), "{told}");
}
