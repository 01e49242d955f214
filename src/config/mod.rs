//! The configuration, checked: what is in these structures is possible and complete.
//!
//! `load` reads the TOML into what a person may write (`raw`), then checks it into these, and
//! reports every error of the file at once, each with its place in the text (`diagnostic`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

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
    /// How much of the machine a run may use.
    pub limits: Limits,
    /// This repository's part of the file, as canonical TOML without secrets: what `config show` prints and every day
    /// carries.
    pub as_toml: String,
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

/// `[repository.NAME.hold]`
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    /// The longest time from proven idle to release; when it passes, the repository is released and the run fails.
    pub max: Duration,
    /// How long running agents may take to finish after the pause.
    pub drain: Duration,
    /// What to do with agents that still run when `drain` has passed.
    pub on_busy: OnBusy,
    /// How long after a skipped run the next try comes; None: the next scheduled time.
    pub retry_after: Option<Duration>,
    /// How.
    pub adapter: Adapter,
}

/// `on_busy`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBusy {
    /// Release, mark the run skipped, try again later.
    Skip,
    /// Kill them; their jobs fail.
    Kill,
}

/// Exactly one of the tables below `[repository.NAME.hold]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Adapter {
    /// `[hold.fossology]`
    Fossology(FossologyHold),
    /// `[hold.systemd]`
    Systemd(SystemdHold),
    /// `[hold.command]`
    Command(CommandHold),
    /// `[hold.http]`
    Http(HttpHold),
    /// `[hold.none]`
    None,
}

/// FOSSology's scheduler over its TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FossologyHold {
    /// `host:port`, 127.0.0.1:24693.
    pub address: String,
    /// The command that starts the scheduler, e.g. `["systemctl", "start", "fossology-scheduler"]`.
    pub start: Vec<String>,
    /// The database that holds `jobqueue`.
    pub database: String,
    /// The longest `start` may take until the port answers.
    pub start_timeout: Duration,
    /// Only processes whose command line contains this word too are agents of this installation (beside
    /// `--scheduler_start`); empty: every one on this host.
    pub agent_match: String,
    /// Roles whose sessions are agents' or the scheduler's (`pg_stat_activity`); empty: any session on `database`
    /// with an empty application_name.
    pub roles: Vec<String>,
}

/// systemd units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdHold {
    /// The units, stopped in this order and started in the opposite one.
    pub units: Vec<String>,
    /// `stop` (the default) or `freeze`.
    pub action: SystemdAction,
}

/// How units are paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemdAction {
    /// `systemctl stop` / `start`
    Stop,
    /// `systemctl freeze` / `thaw`
    Freeze,
}

/// Plain commands, each an argument list run without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandHold {
    /// Exits 0 when the application runs (and so is to be paused and released); None: always pause.
    pub is_running: Option<Vec<String>>,
    /// Pauses.
    pub pause: Vec<String>,
    /// Exits 0 when the application is idle; asked again until `drain` has passed. None: the pause command's exit is
    /// the proof.
    pub prove: Option<Vec<String>>,
    /// Kills what is still busy, for `on_busy = "kill"`.
    pub kill: Option<Vec<String>>,
    /// Releases.
    pub release: Vec<String>,
    /// The longest one command may take.
    pub timeout: Duration,
}

/// A maintenance switch behind HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpHold {
    /// Where the switch is read (GET) and set (PUT).
    pub url: String,
    /// The document that pauses.
    pub pause: serde_json::Value,
    /// The document that releases.
    pub release: serde_json::Value,
    /// The field that tells the state in the answer to GET (a JSON pointer, `/status`).
    pub field: String,
    /// Headers for every request; a value may be `{ credential = "NAME" }` in the file.
    pub headers: BTreeMap<String, Secret>,
    /// The longest one request may take.
    pub timeout: Duration,
}

/// A text that is in the file, or the name of a systemd credential (`$CREDENTIALS_DIRECTORY/NAME`) that holds it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// Plain, for what is not secret.
    Plain(String),
    /// Read when needed, never kept.
    Credential(String),
}

/// `[repository.NAME.database]`
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// How to reach the server.
    pub server: crate::config::Server,
    /// Which databases.
    pub databases: Databases,
    /// Dump roles, memberships and tablespaces.
    pub globals: bool,
    /// Connections that copy rows, over all databases.
    pub jobs: usize,
    /// zstd level of the rows.
    pub compression: i32,
    /// Where pg_dump and pg_dumpall are; None: the newest found on this machine.
    pub bin_dir: Option<PathBuf>,
    /// How long the freeze may wait for a table's lock.
    pub lock_timeout: Duration,
}

/// Which databases of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Databases {
    /// Every one that accepts connections, but for template0 and these.
    AllBut(Vec<String>),
    /// These.
    Only(Vec<String>),
}

/// libpq's parameters as far as daykeep takes them. What is None is looked for where libpq looks: the service file,
/// the PG* environment, the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Server {
    /// Host name, address, or directory of a unix socket.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Role.
    pub user: Option<String>,
    /// Database for what concerns the whole server (`postgres`).
    pub dbname: Option<String>,
    /// Section of the service file.
    pub service: Option<String>,
    /// Service file.
    pub servicefile: Option<PathBuf>,
    /// Password file.
    pub passfile: Option<PathBuf>,
    /// Name of the systemd credential that holds the password.
    pub password_credential: Option<String>,
    /// `disable`, `prefer`, `require`, `verify-ca`, `verify-full`.
    pub sslmode: Option<String>,
    /// CA certificates.
    pub sslrootcert: Option<PathBuf>,
}

/// `[repository.NAME.tree.TREE]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Its name.
    pub name: String,
    /// Its root.
    pub path: PathBuf,
    /// Filter rules in order; the first that matches decides; none: included.
    pub filters: Vec<Filter>,
    /// File names are their content: a name of equal size is unchanged whatever its times say.
    pub content_named: bool,
    /// Do not descend into mount points.
    pub one_file_system: bool,
}

/// One filter rule, with rsync's anchoring: a leading `/` anchors at the tree's root, a trailing `/` means directories only, `*`
/// stops at `/`, `**` does not, a pattern with a `/` inside is matched against the path's end, else against the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Include or exclude.
    pub include: bool,
    /// The pattern.
    pub pattern: String,
}

/// `[repository.NAME.check.CHECK]`: every row's file is in the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The database that is asked.
    pub database: String,
    /// The tree that must hold the files.
    pub tree: String,
    /// What is asked.
    pub query: CheckQuery,
}

/// The rows that name files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckQuery {
    /// Yields `path` (text, relative to the tree), and if there are more columns `size` (bytes, may be NULL) and
    /// `owner` (text: what is hurt when the file is missing, for the message).
    Sql(String),
    /// FOSSology's `pfile` against `files` and `upload` against `gold`.
    Fossology {
        /// Directory levels in the repository (`depth` in fossology.conf).
        depth: u32,
        /// Host directories below the tree, in which a file may be.
        hosts: Vec<String>,
        /// Check `files` too; false for a repository that keeps only gold.
        files: bool,
    },
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
    /// Run the bulk work at idle I/O priority and raised niceness.
    pub idle_priority: bool,
}
