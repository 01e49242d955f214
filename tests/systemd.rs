//! `daykeepd` under a real systemd: `systemd/run.sh` boots a container, installs the program and its unit there, and does to them
//! what an admin, a crash and a hang would.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what the script says belongs to the test's output"
)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};

/// What the script ends with where no container can be booted.
const CANNOT: i32 = 77;

#[test]
fn the_unit_keeps_its_promises_under_systemd() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = Path::new(env!("CARGO_BIN_EXE_daykeepd")).parent().unwrap();
    let ran = Command::new(top.join("tests/systemd/run.sh"))
        .arg(programs)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    print!("{told}");
    match ran.status.code() {
        Some(0) => assert!(told.ends_with("systemd: ok\n"), "it ended early"),
        Some(CANNOT) => eprintln!("not tested here: {}", told.trim_end()),
        _ => panic!("{}", ran.status),
    }
}
