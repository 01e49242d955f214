//! Scratch servers, for real: made, asked, ended, and found again when their maker was killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use daykeep::clock::{Clock as _, SystemClock};
use daykeep::postgres::{self, Cluster, Scratch, ScratchDir, ScratchError};
use support::postgres::default_major;
use tokio_util::sync::CancellationToken;

fn wanted(major: u32) -> Cluster<'static> {
    Cluster { major, bin_dir: None, encoding: "UTF8", locale: Some("xx_XX.UTF-8"), connections: 4 }
}

/// Processes that bear the name of the scratch directory.
fn processes_of(scratch: &Path) -> Vec<String> {
    let name = scratch.file_name().unwrap().to_str().unwrap();
    let bears = |argv: &[String]| argv.iter().any(|word| word.contains(name));
    let all = daykeep::process::all().unwrap();
    all.into_iter().filter(|process| bears(&process.argv)).map(|process| process.argv.join(" ")).collect()
}

#[tokio::test]
async fn a_scratch_server_serves_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    // Nobody but us may enter what is above, and its name is too long for a socket.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let deep = place.path().join("x".repeat(120));
    let (dir, removed) = ScratchDir::make(&deep, SystemClock::new().now()).await.unwrap();
    let at = dir.path().to_owned();
    assert_eq!(removed, 0);
    let scratch = Scratch::start(&dir, &wanted(default_major()), &CancellationToken::new()).await.unwrap();
    let client = postgres::connect(scratch.empty().server(), "postgres", "test").await.unwrap();
    let row = client.query_one("SHOW listen_addresses", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "");
    let row = client.query_one("SELECT pg_encoding_to_char(encoding)::text FROM pg_database LIMIT 1", &[]);
    assert_eq!(row.await.unwrap().get::<_, String>(0), "UTF8");
    let here = scratch.empty().tablespaces();
    client.batch_execute(&format!("CREATE TABLESPACE t LOCATION '{}'", here.display())).await.unwrap();
    client.batch_execute("CREATE TABLE in_it (a int) TABLESPACE t").await.unwrap();
    assert!(at.join("cluster/tablespaces").read_dir().unwrap().next().is_some());
    assert_ne!(processes_of(&at), [""; 0]);
    scratch.stop().await;
    dir.remove().await.unwrap();
    assert_eq!(processes_of(&at), [""; 0]);
    assert!(!at.exists());
}

#[tokio::test]
async fn a_dropped_one_ends_and_its_directory_can_be_removed_at_once() {
    let place = tempfile::tempdir().unwrap();
    let (dir, _) = ScratchDir::make(place.path(), SystemClock::new().now()).await.unwrap();
    let at = dir.path().to_owned();
    let cancel = CancellationToken::new();
    drop(Scratch::start(&dir, &wanted(default_major()), &cancel).await.unwrap());
    dir.remove().await.unwrap();
    assert_eq!(processes_of(&at), [""; 0]);
    let (dir, _) = ScratchDir::make(place.path(), SystemClock::new().now()).await.unwrap();
    cancel.cancel();
    let error = Scratch::start(&dir, &wanted(default_major()), &cancel).await.unwrap_err();
    assert!(matches!(error, ScratchError::Cancelled), "{error}");
    dir.remove().await.unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "only the lock is left");
}

#[tokio::test]
async fn without_programs_it_says_what_to_install() {
    let place = tempfile::tempdir().unwrap();
    let (dir, _) = ScratchDir::make(place.path(), SystemClock::new().now()).await.unwrap();
    let error = Scratch::start(&dir, &wanted(99), &CancellationToken::new()).await.unwrap_err().to_string();
    assert!(
        error.starts_with("no PostgreSQL server programs of version 99 or newer are on this machine, only ")
            && error.ends_with(
                "; install them (Debian: postgresql-99, Red Hat: postgresql99-server), or name their directory with bin_dir"
            ),
        "{error}"
    );
    dir.remove().await.unwrap();
}
