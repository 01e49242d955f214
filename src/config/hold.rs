//! How a repository is held still, as configured.

use std::collections::BTreeMap;
use std::time::Duration;

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

impl Adapter {
    /// The name of its table, which is that of the adapter everywhere.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fossology(_) => "fossology",
            Self::Systemd(_) => "systemd",
            Self::Command(_) => "command",
            Self::Http(_) => "http",
            Self::None => "none",
        }
    }
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
