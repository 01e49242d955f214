//! From the TOML document to the checked structures, one section a file.

mod cron;
mod database;
mod drill;
mod filter;
mod hold;
mod http;
mod repository;
mod syntax;
mod table;
mod tree;
mod verify;

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;

use crate::config::key::{Key, Kind, Section};
use crate::config::problem::Report;
use crate::config::source::Source;
use crate::config::value::Value;
use crate::config::{Config, Daemon, across};
pub(crate) use database::DATABASE;
pub(crate) use drill::DRILL;
pub(crate) use hold::{COMMAND, FOSSOLOGY, HOLD, NONE, SYSTEMD};
pub(crate) use http::HTTP;
pub(crate) use repository::{KEEP, LIMITS, REPOSITORY};
use table::Table;
pub(crate) use tree::{CHECK, TREE};
pub(crate) use verify::VERIFY;

const STATE_DIR: Key = Key::defaulted(
    "state_dir",
    Kind::Path,
    "\"/var/lib/daykeep\"",
    "Where the durable records live: who holds what, and the journals of the jobs. Not on the vault's disk.",
);
const SOCKET: Key = Key::defaulted(
    "socket",
    Kind::Path,
    "\"/run/daykeep/daykeep.sock\"",
    "The unix socket that the daemon listens on.",
);
/// `sun_path` of unix(7), without the byte that ends it.
const LONGEST_SOCKET: usize = 107;
const GROUP: Key = Key::defaulted(
    "group",
    Kind::Text,
    "\"daykeep\"",
    "The group whose members may start and cancel runs, besides root. Others who can connect may only look.",
);

/// `[daemon]`
pub(crate) static DAEMON: Section = Section {
    name: "daemon",
    named: None,
    doc: "The daemon's own settings.",
    keys: &[SOCKET, GROUP],
    sections: &[],
};

/// The whole file.
pub(crate) static ROOT: Section = Section {
    name: "",
    named: None,
    doc: "At the top of the file, before any table.",
    keys: &[STATE_DIR],
    sections: &[&DAEMON, &REPOSITORY],
};

/// Reads the whole file.
pub(crate) fn document(path: &Path, text: &str) -> Result<Config, Report> {
    let (document, broken) = DeTable::parse_recoverable(text);
    let source = Source::new(text, &ROOT);
    let root = Table::root(&source, document.get_ref(), &ROOT);
    let config = whole(path, &root);
    let (mut faults, hidden) = source.into_findings();
    if !broken.is_empty() {
        faults = syntax::faults(text, &broken, faults);
    }
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(Report::new(path, text, faults, &hidden, !broken.is_empty())),
    }
}

fn whole(path: &Path, root: &Table<'_>) -> Option<Config> {
    root.refuse_unknown();
    let state_dir = root.get(&STATE_DIR, Value::path);
    let daemon = daemon(&root.section_or_empty(&DAEMON));
    let tables = root.named(&REPOSITORY);
    let is_given = root.has(REPOSITORY.name);
    if !is_given || root.is_bare(&REPOSITORY) {
        root.source.fault_of_whole(
            if is_given { root.place_of(REPOSITORY.name) } else { 0..0 },
            "no repository is configured",
            Some("write a table [repository.NAME]; `daykeep config generate` shows one".to_owned()),
        );
    }
    let mut claims = Vec::new();
    let read: Vec<_> = tables
        .iter()
        .map(|(name, table)| (name.clone(), repository::repository(name, table, &mut claims)))
        .collect();
    across::refuse_shared(root.source, &mut claims);
    let repositories: Option<BTreeMap<_, _>> =
        read.into_iter().map(|(name, repository)| Some((name, repository?))).collect();
    Some(Config {
        path: path.to_owned(),
        state_dir: state_dir?,
        daemon: daemon?,
        repositories: repositories?,
    })
}

fn daemon(table: &Table<'_>) -> Option<Daemon> {
    table.refuse_unknown();
    let socket = table.get(&SOCKET, |value| match value.path()? {
        path if path.as_os_str().len() > LONGEST_SOCKET => value.wrong(
            format!(
                "the path of a socket can have {LONGEST_SOCKET} bytes, this has {}",
                path.as_os_str().len()
            ),
            "put it into a directory with a shorter name".to_owned(),
        ),
        path => Some(path),
    });
    let group = table.get(&GROUP, Value::text);
    Some(Daemon { socket: socket?, group: group? })
}
