//! The configuration, checked: what is in these structures is possible and complete.
//!
//! [`load`] walks the TOML document (`read`) key by key (`key` says what a key is, each section's keys stand beside
//! the function that reads them), looks at what no single key can tell (`across`), and reports every error of the file
//! at once, each with its place in the text (`problem`). The same keys make the sample (`sample`) and the reference
//! (`reference`).

mod across;
mod database;
mod drill;
mod hold;
mod key;
mod problem;
mod read;
mod reference;
mod sample;
mod source;
mod tree;
mod value;
mod verify;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use database::{Database, Databases, Server};
pub use drill::{Drill, DrillTrees};
pub use hold::{
    Adapter, CommandHold, FossologyHold, Hold, HttpHold, OnBusy, Secret, SystemdAction, SystemdHold,
};
pub use problem::{Error, Problem, Report};
pub use reference::reference;
pub use sample::generate;
pub use tree::{Check, CheckQuery, Filter, Tree, fossology_paths};
pub use verify::{Verify, parse_percent};

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/daykeep/daykeep.toml";

/// Reads and checks a configuration file.
///
/// # Errors
/// It cannot be read, or is wrong: then the error has everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, Error> {
    let bytes = crate::fs::read(path).map_err(Error::Read)?;
    match String::from_utf8(bytes) {
        Ok(text) => parse(path, &text),
        Err(error) => Err(Error::Invalid(Report::not_text(path, &error))),
    }
}

/// Checks the text of a configuration file; `path` is what errors call it. Reads nothing but, for a schedule without a
/// time zone, the name of the machine's.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(path: &Path, text: &str) -> Result<Config, Error> {
    read::document(path, text).map_err(Error::Invalid)
}

/// Everything in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// Where the durable records live (hold records, job journals): `/var/lib/daykeep`.
    pub state_dir: PathBuf,
    /// The daemon's own settings.
    pub daemon: Daemon,
    /// The repositories by name.
    pub repositories: BTreeMap<String, Repository>,
}

/// `[daemon]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Where it listens: `/run/daykeep/daykeep.sock`.
    pub socket: PathBuf,
    /// The group that may start and cancel, besides root: `daykeep`.
    pub group: String,
}

/// `[repository.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Repository {
    /// Its name: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// The directory of the vault; the repository's days are in `<vault>/<name>/days`.
    pub vault: PathBuf,
    /// When to run; None: only by hand.
    pub schedule: Option<Schedule>,
    /// Which days are kept.
    pub keep: crate::retention::Rules,
    /// A new base every so many days; None: one chain for ever.
    pub new_base_every: Option<u32>,
    /// How it is held still.
    pub hold: Hold,
    /// Its database server, if it has one.
    pub database: Option<Database>,
    /// Its trees by name.
    pub trees: BTreeMap<String, Tree>,
    /// Cross-checks by name.
    pub checks: BTreeMap<String, Check>,
    /// How its days are drilled.
    pub drill: Drill,
    /// How its days are verified.
    pub verify: Verify,
    /// How much of the machine a run may use.
    pub limits: Limits,
    /// This repository's part of the file, as canonical TOML without secrets: what `config show` prints and every day
    /// carries.
    pub as_toml: String,
}

impl Repository {
    /// The time zone whose calendar days, weeks and months count: the schedule's, else the machine's.
    #[must_use]
    pub fn zone(&self) -> jiff::tz::TimeZone {
        let configured = self.schedule.as_ref().and_then(|due| jiff::tz::TimeZone::get(&due.timezone).ok());
        configured.unwrap_or_else(jiff::tz::TimeZone::system)
    }
}

/// `schedule`, `timezone`, `catch_up`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Cron, five or six fields, as written; proven to parse and to match some instant.
    pub cron: String,
    /// IANA name; `UTC` or the machine's zone when none is configured.
    pub timezone: String,
    /// Run once, late, when the machine was off at the due time.
    pub catch_up: bool,
}

/// `[repository.NAME.limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second that copying files may read; None: no limit.
    pub copy_rate: Option<u64>,
    /// Threads that walk and copy trees.
    pub tree_jobs: usize,
    /// Bytes that must stay free in the vault.
    pub min_free: u64,
    /// The share of inodes that must stay free in the vault, in percent.
    pub min_free_inodes_percent: u8,
    /// Copy files at niceness 19, and so at the lowest I/O priority, outside the hold.
    pub idle_priority: bool,
}
