//! The example programs that tests start: built when they are first asked for.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// The path of an example program, up to date.
///
/// # Panics
/// It cannot be built.
pub fn example(name: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--example", name])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be started");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let own = std::env::current_exe().expect("this program");
    // target/debug/deps/TEST
    own.ancestors().nth(2).expect("a profile's directory").join("examples").join(name)
}
