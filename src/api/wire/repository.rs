//! Repositories as they are configured.

use serde::{Deserialize, Serialize};

/// GET /v1/repositories
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repositories {
    /// [`SCHEMA`](super::SCHEMA)
    pub schema: u32,
    /// The repositories by name.
    pub repositories: Vec<Repository>,
}

/// A repository as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// The directory of its vault.
    pub vault: String,
    /// The adapter that holds it: `fossology`, `systemd`, `command`, `http`, `none`.
    pub hold: String,
    /// Has it a database server?
    pub database: bool,
    /// The names of its trees.
    pub trees: Vec<String>,
    /// The schedule, if it has one.
    pub schedule: Option<Schedule>,
}

/// `schedule`, `timezone`, `catch_up` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The pattern.
    pub cron: String,
    /// Its zone.
    pub timezone: String,
    /// Is one run made up for those that were missed?
    pub catch_up: bool,
}
