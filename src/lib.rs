//! daykeep keeps every day of a repository: a PostgreSQL server, the file trees that its rows point
//! to, and a scheduler that changes both.
//!
//! The modules stand in layers; imports go down only (ARCHITECTURE.md has the table, and
//! `tests/architecture.rs` enforces it).
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")
)]

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crosscheck;
pub mod daemon;
pub mod database;
pub mod drill;
pub mod event;
pub mod fs;
pub mod hold;
pub mod journal;
pub mod manifest;
pub mod postgres;
pub mod process;
pub mod restore;
pub mod retention;
pub mod reunpack;
pub mod run;
pub mod schedule;
pub mod tree;
pub mod vault;
pub mod verify;
