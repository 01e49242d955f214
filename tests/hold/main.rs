//! Holding a repository still and letting it go again, whatever happens.
//!
//! `conformance` is what every adapter has to do; the other modules test what is each adapter's own. A run is a process of its own
//! (`examples/hold_driver.rs`), so that it can be killed at any step.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test that fails shows how far it came")]

mod command;
mod conformance;
mod driver;
mod fossology;
mod http;
mod kept;
mod lost;
mod nothing;
mod systemd;

#[path = "../support/mod.rs"]
mod support;
