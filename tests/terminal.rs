//! What daykeep asks on a terminal, and what becomes of each answer.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/daemon.rs"]
mod harness;
#[path = "support/terminal.rs"]
mod terminal;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use harness::Place;
use terminal::Terminal;

/// `daykeep` in the configuration of a place.
fn daykeep(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
    command.arg("--config").arg(place.path("daykeep.toml")).args(arguments);
    command.current_dir(place.dir.path());
    command
}

/// Without a terminal.
fn output(place: &Place, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = daykeep(place, arguments).output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned() + &String::from_utf8_lossy(&stdout))
}

fn on_terminal(place: &Place, arguments: &[&str]) -> Terminal {
    Terminal::start(&daykeep(place, arguments))
}

/// A place with a day, whose tree has changed since; and the day's name.
fn changed() -> (Place, String) {
    let place = Place::new();
    let (code, told) = output(&place, &["run"]);
    assert_eq!(code, Some(0), "{told}");
    fs::write(place.path("tree/one"), "changed\n").unwrap();
    fs::write(place.path("tree/two"), "2\n").unwrap();
    let days = fs::read_dir(place.path("vault/small/days")).unwrap();
    let names = days.map(|day| day.unwrap().file_name().into_string().unwrap());
    let day = names.filter(|name| name.starts_with("20")).max().unwrap();
    (place, day)
}

fn is_the_day(place: &Place) -> bool {
    fs::read_to_string(place.path("tree/one")).unwrap() == "1\n" && !place.path("tree/two").exists()
}

fn record(place: &Place) -> bool {
    place.path("state/small/restore.json").exists()
}

#[test]
fn a_restore_shows_its_plan_and_asks() {
    let (place, day) = changed();
    for no in ["no", "n", ""] {
        let mut terminal = on_terminal(&place, &["restore", "latest"]);
        let plan = terminal.until("Restore? Type yes or no: ");
        assert!(plan.contains(&format!("small: the day {day}")), "{plan}");
        assert!(plan.contains("changes    1 name replaced, 1 name removed"), "{plan}");
        let warning = format!("warning: the day {day} is not proven");
        assert!(plan.find(&warning) > plan.find("tree files at"), "it stands above the question: {plan}");
        terminal.types(no);
        let (code, told) = terminal.ends();
        assert_eq!(code, 1, "{no:?}: {told}");
        assert!(told.contains("not restored, as you wish; nothing was changed"), "{told}");
        assert!(!is_the_day(&place) && !record(&place), "{no:?}");
    }
    let mut terminal = on_terminal(&place, &["restore", "latest"]);
    for neither in ["y", &day] {
        terminal.until("Restore? Type yes or no: ");
        terminal.types(neither);
        terminal.until(&format!("`{neither}` is neither: type the whole word yes to go on"));
        assert!(!is_the_day(&place), "{neither}");
    }
    terminal.until("Restore? Type yes or no: ");
    terminal.types("yes");
    let (code, told) = terminal.ends();
    assert_eq!(code, 0, "{told}");
    assert!(is_the_day(&place));
    // The commands that it shows are those that work.
    let config = place.path("daykeep.toml").display().to_string();
    for option in ["--undo", "--confirm"] {
        assert!(told.contains(&format!("    daykeep restore small {option} --config {config}")), "{told}");
    }
}

#[test]
fn ctrl_c_at_a_question_ends_it_and_changes_nothing() {
    let (place, _) = changed();
    let mut terminal = on_terminal(&place, &["restore", "latest"]);
    terminal.until("Restore? ");
    terminal.interrupts();
    let (code, told) = terminal.ends();
    assert_eq!(code, 130, "{told}");
    assert!(told.contains("SIGINT: the restore stops, and has changed nothing"), "{told}");
    assert!(told.contains("error: stopped by SIGINT: nothing was changed"), "{told}");
    assert!(!told.contains("held") && !told.contains("beside"), "nothing was: {told}");
    assert!(!is_the_day(&place) && !record(&place));

    let (code, told) = output(&place, &["restore", "latest", "--yes"]);
    assert_eq!(code, Some(0), "{told}");
    let mut terminal = on_terminal(&place, &["restore", "--undo"]);
    terminal.until("Take the restore back? ");
    terminal.interrupts();
    let (code, told) = terminal.ends();
    assert_eq!(code, 130, "{told}");
    assert!(is_the_day(&place) && record(&place));
}

#[test]
fn taking_a_restore_back_is_asked_for() {
    let (place, day) = changed();
    assert_eq!(output(&place, &["restore", "latest", "--yes"]).0, Some(0));
    // Nobody can be asked without a terminal.
    let (code, told) = output(&place, &["restore", "--undo"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("--undo loses what has been written since the restore"), "{told}");
    assert!(told.contains("hint: --yes does it without asking"), "{told}");
    assert!(is_the_day(&place) && record(&place));

    let mut terminal = on_terminal(&place, &["restore", "--undo"]);
    let plan = terminal.until("Take the restore back? Type yes or no: ");
    assert!(plan.contains(&format!("small: the restore of the day {day} (job 2, begun ")), "{plan}");
    assert!(plan.contains("trees      files"), "{plan}");
    assert!(plan.contains("LOST IS    what has been written into them since the restore"), "{plan}");
    terminal.types("no");
    let (code, told) = terminal.ends();
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("not done, as you wish; the restore stays as it is"), "{told}");
    assert!(is_the_day(&place) && record(&place));

    let mut terminal = on_terminal(&place, &["restore", "--undo"]);
    terminal.until("Take the restore back? ");
    terminal.types("yes");
    let (code, told) = terminal.ends();
    assert_eq!(code, 0, "{told}");
    assert!(!is_the_day(&place) && !record(&place));
}

#[test]
fn confirming_a_restore_is_asked_for() {
    let (place, _) = changed();
    assert_eq!(output(&place, &["restore", "latest", "--yes"]).0, Some(0));
    let (code, told) = output(&place, &["restore", "--confirm"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("--confirm drops what was there before the restore"), "{told}");
    let mut terminal = on_terminal(&place, &["restore", "--confirm"]);
    let plan = terminal.until("Drop what was there before? Type yes or no: ");
    assert!(plan.contains("no --undo brings it back"), "{plan}");
    terminal.types("");
    assert_eq!(terminal.ends().0, 1);
    assert!(record(&place));
    let mut terminal = on_terminal(&place, &["restore", "--confirm"]);
    terminal.until("Drop what was there before? ");
    terminal.types("YES");
    let (code, told) = terminal.ends();
    assert_eq!(code, 0, "{told}");
    assert!(is_the_day(&place) && !record(&place));
    let kept: Vec<_> =
        fs::read_dir(place.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!kept.iter().any(|name| name.to_string_lossy().starts_with(".daykeep")), "{kept:?}");
}

/// Damages a file of the day, of which the live tree has a whole copy.
fn damage(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    let same_time = filetime::FileTime::from_last_modification_time(&fs::metadata(file).unwrap());
    fs::write(file, "X\n").unwrap();
    filetime::set_file_mtime(file, same_time).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn a_repair_asks_for_each_file() {
    let place = Place::new();
    for name in ["one", "two", "three"] {
        fs::write(place.path("tree").join(name), format!("{}\n", name.len())).unwrap();
    }
    assert_eq!(output(&place, &["run"]).0, Some(0));
    let (_, listed) = output(&place, &["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let day = listed["repositories"][0]["days"][0]["name"].as_str().unwrap();
    let in_day = |name: &str| place.path("vault/small/days").join(day).join("trees/files").join(name);
    for name in ["one", "two", "three"] {
        damage(&in_day(name));
    }
    let (code, told) = output(&place, &["verify", "--repair"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("nobody is there to be asked"), "{told}");

    let mut terminal = on_terminal(&place, &["verify", "--repair"]);
    terminal.until("repair it? [y]es, [n]o, [a]ll: ");
    terminal.interrupts();
    let (code, told) = terminal.ends();
    assert_eq!(code, 130, "{told}");

    let is_whole = |name: &str| fs::read_to_string(in_day(name)).unwrap() != "X\n";
    let mut terminal = on_terminal(&place, &["verify", "--repair"]);
    terminal.until("repair it? [y]es, [n]o, [a]ll: ");
    terminal.types("n");
    terminal.until("repair it? ");
    terminal.types("y");
    terminal.until("repair it? ");
    terminal.types("");
    let (code, told) = terminal.ends();
    assert_eq!(code, 12, "some are left: {told}");
    assert!(told.contains("1 file repaired; looking again"), "{told}");
    assert_eq!(["one", "two", "three"].iter().filter(|name| is_whole(name)).count(), 1, "{told}");

    let mut terminal = on_terminal(&place, &["verify", "--repair"]);
    terminal.until("repair it? ");
    terminal.types("a");
    let (code, told) = terminal.ends();
    assert_eq!(code, 0, "{told}");
    assert!(["one", "two", "three"].iter().all(|name| is_whole(name)), "{told}");
    assert_eq!(told.matches("repair it? ").count(), 1, "{told}");
}

#[test]
fn giving_up_a_hold_asks_for_the_name_of_the_repository() {
    let place = Place::new();
    // The guard cannot release it, and goes on trying.
    place.configure(&place.small("", "prove = [\"false\"]").replace("echo release", "exit 1; echo release"));
    let mut run = daykeep(&place, &["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = std::time::Instant::now();
    while place.trace().is_empty() {
        assert!(begun.elapsed() < harness::SOON, "it is never paused");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    let hold = place.path("state/small/hold.json");
    let question = "Type small to go on: ";
    for no in ["yes", ""] {
        let mut terminal = on_terminal(&place, &["release", "small", "--give-up"]);
        let told = terminal.until(question);
        assert!(told.contains("small is held by job 1. The hold is forgotten"), "{told}");
        terminal.types(no);
        let (code, told) = terminal.ends();
        assert_eq!(code, 1, "{told}");
        assert!(told.contains("that is not its name: nothing was done"), "{told}");
        assert!(hold.exists());
    }
    let mut terminal = on_terminal(&place, &["release", "small", "--give-up"]);
    terminal.until(question);
    terminal.types("small");
    let (code, told) = terminal.ends();
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("stays paused: start it by hand"), "{told}");
    assert!(!hold.exists());
    // Its guard goes, too, as soon as it sees that.
    let is_guard = |process: fs::DirEntry| {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(&format!("guard\0{}", hold.display()))
    };
    let begun = std::time::Instant::now();
    while fs::read_dir("/proc").unwrap().any(|process| process.is_ok_and(is_guard)) {
        assert!(begun.elapsed() < harness::SOON, "its guard stays");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
