//! The program `daykeep` as a person or a script meets it: the real binary as a process, its exact words (`tests/cli/snapshots`)
//! and its exit codes. After a change of the words, run with `INSTA_UPDATE=always` and read the difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and writes its own files")]

#[path = "cli/daemon.rs"]
mod daemon;
#[path = "cli/days.rs"]
mod days;
#[path = "cli/documents.rs"]
mod documents;
#[path = "cli/mistakes.rs"]
mod mistakes;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/status.rs"]
mod status;
#[path = "cli/streams.rs"]
mod streams;
#[path = "cli/world.rs"]
mod world;
