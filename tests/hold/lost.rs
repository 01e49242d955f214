//! Holds whose record is lost while they last: the state directory is removed, moved, made anew, unmounted, read-only or unreadable. The
//! guard releases from memory, and never what another hold or an unfinished restore needs still.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::mount::{UnmountFlags, unmount};

use crate::command::App;
use crate::conformance::Subject;
use crate::driver::{PATIENCE, Run, wait_until};
use crate::support::small::{Small, own_mounts};

impl App {
    /// A run whose guard can be read; it holds.
    fn heard(&self, verb: &str) -> Run {
        let run = self.heard_from_the_start(verb);
        run.expect("held");
        assert!(!self.runs(), "it is paused");
        run
    }

    fn heard_from_the_start(&self, verb: &str) -> Run {
        let said = File::options().create(true).append(true).open(self.said_path()).unwrap();
        self.place().start(verb, |command| {
            command.stderr(said);
        })
    }

    fn said_path(&self) -> PathBuf {
        self.place().path("said")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.said_path()).unwrap_or_default()
    }

    fn lose_state(&self) {
        fs::remove_dir_all(self.place().state_dir()).unwrap();
    }

    fn wait_for_no_guard(&self) {
        wait_until("no guard is left", || self.place().guards().is_empty());
    }

    /// Released by the guard without its record, and the guard has gone.
    fn assert_released_from_memory(&self) {
        wait_until("it is released", || self.runs());
        self.wait_for_no_guard();
        let said = self.said();
        assert!(
            said.contains("app (run 7): released from memory by the guard, when the run had ended"),
            "{said}"
        );
        assert_eq!(self.log(), ["pause", "release"], "{said}");
    }
}

#[test]
fn a_state_directory_that_was_removed() {
    let app = App::new();
    let mut run = app.heard("hold");
    app.lose_state();
    run.kill();
    app.assert_released_from_memory();
    assert!(app.said().contains("hold.lock: No such file or directory"), "{}", app.said());
    assert!(!app.place().state_dir().exists(), "nothing was made in its place");
}

#[test]
fn a_state_directory_that_was_made_anew() {
    let app = App::new();
    let mut run = app.heard("hold");
    app.lose_state();
    fs::create_dir_all(app.place().state_dir().join("app")).unwrap();
    run.kill();
    app.assert_released_from_memory();
    assert!(app.said().contains("its record is gone with the directory that "), "{}", app.said());
    assert!(!app.place().has_record());
}

#[test]
fn a_state_directory_that_is_being_removed() {
    let app = App::new();
    let mut run = app.heard("hold");
    // In the order in which `rm -r` may meet them.
    fs::remove_file(app.place().record()).unwrap();
    run.kill();
    std::thread::sleep(Duration::from_millis(100));
    app.lose_state();
    app.assert_released_from_memory();
}

#[test]
fn a_state_directory_that_was_moved_away_and_comes_back() {
    let app = App::new();
    let mut run = app.heard("hold");
    fs::rename(app.place().state_dir(), app.place().path("elsewhere")).unwrap();
    run.kill();
    app.assert_released_from_memory();
    fs::rename(app.place().path("elsewhere"), app.place().state_dir()).unwrap();
    assert_eq!(app.place().leftovers(false)[0]["outcome"], "Released", "once more, which does no harm");
    assert!(app.runs() && !app.place().has_record());
}

#[test]
fn a_file_in_the_place_of_the_directory_and_a_record_that_cannot_be_read() {
    let app = App::new();
    let mut run = app.heard("hold");
    app.lose_state();
    fs::write(app.place().state_dir(), "").unwrap();
    run.kill();
    app.assert_released_from_memory();

    let app = App::new();
    let mut run = app.heard("hold");
    fs::remove_file(app.place().record()).unwrap();
    fs::create_dir(app.place().record()).unwrap();
    run.kill();
    app.assert_released_from_memory();
    assert!(app.said().contains("hold.json: Is a directory"), "{}", app.said());
}

#[test]
fn a_run_that_loses_its_record_while_it_pauses() {
    for pause in [
        "echo pause >>log; rm -r state; kill -9 $PPID; sleep 1; rm running",
        "echo pause >>log; rm running; rm -r state; kill -9 $PPID",
    ] {
        let app = App::new();
        app.script("pause", pause);
        app.heard_from_the_start("hold").wait_killed();
        app.assert_released_from_memory();
    }
}

#[test]
fn a_run_that_lives_fails_and_its_guard_releases() {
    let app = App::new();
    let mut run = app.heard("hold");
    app.lose_state();
    run.tell("release");
    let text = run.expect_error("File");
    assert!(text.contains("hold.lock: No such file or directory"), "{text}");
    app.assert_released_from_memory();
}

#[test]
fn hold_max_counts_without_a_record() {
    let app = App::new();
    app.configure("max = \"1s\"\ndrain = \"20s\"");
    let mut run = app.heard("hold");
    app.lose_state();
    run.signal(Signal::SIGSTOP);
    wait_until("hold.max has passed", || app.runs());
    run.signal(Signal::SIGCONT);
    app.wait_for_no_guard();
    assert!(app.said().contains("released from memory by the guard, when hold.max (1s) had passed"));
    run.tell("still");
    run.expect_error("ReleasedByGuard");
}

#[test]
fn a_kept_hold_is_never_released_from_memory() {
    let app = App::new();
    let mut run = app.heard("restore");
    run.tell("keep");
    run.expect("kept");
    app.lose_state();
    run.kill();
    app.wait_for_no_guard();
    let said = app.said();
    assert!(said.contains("stays held: a restore is half way"), "{said}");
    assert!(said.contains("when all is whole, start what `") && said.contains("by hand"), "{said}");
    assert!(!app.runs());
    assert_eq!(app.log(), ["pause"]);
}

#[test]
fn a_kept_hold_that_was_taken_over_is_known_to_the_new_guard() {
    let app = App::new();
    let mut run = app.heard("restore");
    run.tell("keep");
    run.expect("kept");
    run.kill();
    app.wait_for_no_guard();
    let mut run = app.heard("resume");
    app.lose_state();
    run.kill();
    app.wait_for_no_guard();
    assert!(!app.runs());
}

#[test]
fn a_guard_that_was_killed_before_a_hold_is_kept_gets_a_successor_that_knows() {
    let app = App::new();
    let mut run = app.heard("restore");
    crate::conformance::kill_guards(&app);
    run.tell("keep");
    run.expect("kept");
    assert_eq!(app.place().guards().len(), 1);
    app.lose_state();
    run.kill();
    app.wait_for_no_guard();
    assert!(!app.runs());
}

#[test]
fn a_restore_that_is_through_is_released_though_it_was_kept() {
    let app = App::new();
    app.script(
        "release",
        "test -f begun || { touch begun; rm -r state; kill -9 $PPID; exit 1; }; echo release >>log; touch running",
    );
    let mut run = app.heard("restore");
    run.tell("keep");
    run.expect("kept");
    run.tell("release");
    run.wait_killed();
    app.assert_released_from_memory();
}

#[test]
fn who_has_begun_to_release_is_waited_for() {
    let app = App::new();
    app.script("release", "echo release >>log; sleep 1; touch running; echo released >>log");
    let mut run = app.heard("hold");
    let mut other = app.place().command();
    let mut other = other.arg("leftovers").arg(app.place().state_dir()).arg("--force").spawn().unwrap();
    wait_until("it releases", || app.log().len() == 2);
    app.lose_state();
    run.kill();
    wait_until("both have", || app.log().len() == 5);
    assert_eq!(app.log(), ["pause", "release", "released", "release", "released"], "one after the other");
    other.wait().unwrap();
    app.wait_for_no_guard();
}

#[test]
fn who_hangs_with_a_lock_that_was_removed_is_killed() {
    let app = App::new();
    app.configure("max = \"2s\"\ndrain = \"2s\"");
    let settings = fs::read_to_string(app.place().path("daykeep.toml")).unwrap();
    fs::write(app.place().path("daykeep.toml"), settings.replace("timeout = \"5s\"", "timeout = \"1s\""))
        .unwrap();
    app.script(
        "release",
        "test -f stopped || { touch stopped; rm -r state; kill -STOP $PPID; exit 1; }; echo release >>log; touch running",
    );
    let mut run = app.heard("hold");
    run.tell("release");
    run.wait_killed();
    wait_until("it is released", || app.runs());
    app.wait_for_no_guard();
    assert!(app.said().contains("hangs with the hold's lock: killing it"), "{}", app.said());
}

#[test]
fn a_hold_that_has_begun_at_the_same_place_since_is_not_disturbed() {
    let app = App::new();
    let mut run = app.heard("hold");
    app.lose_state();
    let mut restore = app.place().restoring("restore");
    restore.tell("keep");
    restore.expect("kept");
    run.kill();
    wait_until("the guard waits", || app.said().contains("job 7 holds app now, and is waited for"));
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!app.runs(), "not under a restore");
    let record = fs::read_to_string(app.place().record()).unwrap();
    assert!(record.contains("a restore is half way"), "{record}");
    restore.tell("release");
    restore.expect("released");
    app.assert_released_from_memory();
}

/// Where stderr is no log, the guard has syslog.
#[test]
fn a_guard_without_a_log_tells_syslog() {
    if let Err(reason) = own_mounts() {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let app = App::new();
    let null = File::options().write(true).open("/dev/null").unwrap();
    let _devices = devices_of_our_own(&app);
    let syslog = UnixDatagram::bind("/dev/log").unwrap();
    syslog.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut run = app.place().start("hold", |command| {
        command.stderr(null);
    });
    run.expect("held");
    run.kill();
    let mut buffer = [0; 1024];
    let length = syslog.recv(&mut buffer).unwrap();
    let line = String::from_utf8_lossy(&buffer[..length]);
    assert!(line.starts_with("<28>") && line.contains(" daykeep["), "{line}");
    assert!(line.ends_with("]: app (run 7): released by the guard, when the run had ended"), "{line}");
}

/// An empty /dev but for what every program needs. The real one is never below a directory of the test, which is removed at its end.
fn devices_of_our_own(app: &App) -> Small {
    let place = app.place().path("dev");
    let devices = Small::tmpfs(&place).unwrap();
    let does = |command: &mut Command| {
        let done = command.output().unwrap();
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    for (name, minor) in [("null", "3"), ("urandom", "9")] {
        does(Command::new("mknod").args(["-m", "666"]).arg(place.join(name)).args(["c", "1", minor]));
    }
    does(Command::new("mount").arg("--bind").arg(&place).arg("/dev"));
    devices
}

// --- disks that fail -------------------------------------------------------------------------------------------------------

/// With the state directory on a small disk of its own.
fn app_on_a_disk() -> Option<(App, Small)> {
    if let Err(reason) = own_mounts() {
        eprintln!("SKIPPED: {reason}");
        return None;
    }
    let app = App::new();
    let disk = Small::tmpfs(&app.place().state_dir()).unwrap();
    Some((app, disk))
}

fn remount(app: &App, how: &str) {
    let options = format!("remount,{how}");
    let done = Command::new("mount").args(["-o", &options]).arg(app.place().state_dir()).output().unwrap();
    assert!(done.status.success(), "{options}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_state_directory_that_has_become_read_only() {
    let Some((app, _disk)) = app_on_a_disk() else { return };
    let mut run = app.heard("hold");
    remount(&app, "ro");
    run.kill();
    wait_until("it is released", || app.runs());
    app.wait_for_no_guard();
    let said = app.said();
    assert!(said.contains("released by the guard, when the run had ended"), "{said}");
    assert!(said.contains("the record stays, and whoever meets it releases once more"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert_eq!(app.log(), ["pause", "release"], "once, however long the disk stays as it is");
    assert!(app.place().has_record());
    // A person can release, too.
    app.operator_stops();
    assert_eq!(app.place().leftovers(false)[0]["outcome"], "Failed", "the record cannot be taken away");
    assert!(app.runs());
    app.wait_for_no_guard();
    remount(&app, "rw");
    assert_eq!(app.place().leftovers(false)[0]["outcome"], "Released");
    assert!(!app.place().has_record());
}

#[test]
fn a_run_on_a_read_only_state_directory_releases_itself() {
    let Some((app, _disk)) = app_on_a_disk() else { return };
    let mut run = app.heard("hold");
    remount(&app, "ro");
    run.tell("release");
    let text = run.expect_error("File");
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(app.runs(), "it was released before the error came");
    app.wait_for_no_guard();
    assert_eq!(
        app.log(),
        ["pause", "release"],
        "the guard knows that it was begun, and asks whether it runs"
    );
}

#[test]
fn a_limit_that_passes_on_a_read_only_disk_is_told_as_soon_as_it_can_be() {
    let Some((app, _disk)) = app_on_a_disk() else { return };
    app.configure("max = \"1s\"\ndrain = \"20s\"");
    let mut run = app.heard("hold");
    run.signal(Signal::SIGSTOP);
    remount(&app, "ro");
    wait_until("hold.max has passed", || app.runs());
    wait_until("it cannot be told", || app.said().contains("its run cannot be told, trying again"));
    remount(&app, "rw");
    app.place().wait_for_phase("released");
    app.wait_for_no_guard();
    run.signal(Signal::SIGCONT);
    run.tell("release");
    let text = run.expect_error("ReleasedByGuard");
    assert!(text.contains("hold.max (1s) had passed"), "{text}");
    assert_eq!(app.log(), ["pause", "release"]);
}

#[test]
fn a_kept_hold_on_a_read_only_disk_stays_held() {
    let Some((app, _disk)) = app_on_a_disk() else { return };
    let mut run = app.heard("restore");
    run.tell("keep");
    run.expect("kept");
    remount(&app, "ro");
    run.kill();
    app.wait_for_no_guard();
    assert!(!app.runs());
    remount(&app, "rw");
    assert_eq!(app.place().leftovers(false)[0]["outcome"], "Kept");
    assert_eq!(app.place().leftovers(true)[0]["outcome"], "Released");
    assert!(app.runs());
}

#[test]
fn a_hold_that_could_not_be_kept_is_released() {
    let Some((app, disk)) = app_on_a_disk() else { return };
    let mut run = app.heard("restore");
    disk.fill();
    run.tell("keep");
    let text = run.expect_error("File");
    assert!(text.contains("No space left on device"), "{text}");
    disk.make_room();
    run.tell("drop");
    run.expect("dropped");
    app.place().wait_for_no_record();
    assert!(app.runs());
}

#[test]
fn a_state_directory_that_was_unmounted() {
    let Some((app, disk)) = app_on_a_disk() else { return };
    // It need not be unmounted twice.
    std::mem::forget(disk);
    let mut run = app.heard("hold");
    unmount(app.place().state_dir(), UnmountFlags::DETACH).unwrap();
    run.kill();
    app.assert_released_from_memory();
}
