//! The way to a PostgreSQL server: the same server, for the same parameters, as libpq's programs reach.
//!
//! `resolve` and `lookup` look where libpq looks (explicit parameters, service file, PG* environment, defaults), `passfile` reads
//! `.pgpass`, `tls` does what `sslmode` asks for, `client` holds the connection (`socket`, `recut` and `pieces` make it fast),
//! `programs` finds pg_dump and its kin, and [`libpq_env`] hands those programs the parameters that were found. A password never
//! stands in an argument list, an error or a log.

mod client;
#[cfg(fuzzing)]
pub mod fuzzing;
mod lookup;
mod passfile;
mod pieces;
mod programs;
mod quote;
mod recut;
mod resolve;
mod scratch;
mod service;
mod socket;
mod sslmode;
mod tls;

use std::ffi::OsString;
use std::path::PathBuf;

pub use client::{Canceller, Client, cause_of};
pub use lookup::Environment;
pub use programs::{Programs, Version, find_programs, find_server_programs};
pub use quote::{ascii_identifier, identifier, literal, one_line_identifier, qualified};
pub use resolve::Resolved;
pub use scratch::{Cluster, Empty, Scratch, ScratchDir, ScratchError};
pub use sslmode::SslMode;

use crate::config;

/// The server cannot be reached, or not with these parameters.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused, or nothing listens there.
    #[error("cannot connect to database {dbname:?} on {place} as {user:?}: {cause}{note}")]
    Connect {
        /// Host and port.
        place: String,
        /// Role.
        user: String,
        /// Database.
        dbname: String,
        /// What was said.
        cause: String,
        /// What may explain it: a password file that was passed over.
        note: String,
        /// Nobody was there to refuse: no server, no such database, or one that is closed to everybody.
        absent: bool,
    },
    /// A parameter makes no sense, or means what daykeep cannot do.
    #[error("{origin}: {what}")]
    Parameter {
        /// Where it stands: `sslmode`, `PGHOST`, `service "x"`.
        origin: String,
        /// What is wrong with it.
        what: String,
    },
    /// The section is in no service file.
    #[error("service {name:?} is in no service file (looked in {})", looked(places))]
    NoService {
        /// The section.
        name: String,
        /// The files that were read.
        places: Vec<PathBuf>,
    },
    /// A service file cannot be understood.
    #[error("service file {}, line {line}: {what}", path.display())]
    ServiceFile {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A file cannot be read.
    #[error("{0}: {cause}", cause = .0.source)]
    File(#[from] crate::fs::Error),
    /// No certificates to check the server's against.
    #[error("no CA certificates to check the server's certificate against: {what}")]
    Certificates {
        /// Why.
        what: String,
    },
    /// A statement failed on a connection that stands.
    #[error("database {dbname:?} on {place}: cannot {action}: {cause}")]
    Statement {
        /// Host and port.
        place: String,
        /// Database.
        dbname: String,
        /// The verb.
        action: String,
        /// What was said.
        cause: String,
        /// The SQLSTATE, when the server said it.
        code: Option<String>,
    },
    /// pg_dump or another client program is not there.
    #[error(
        "cannot find {program} (looked in {}); install the PostgreSQL client programs or set bin_dir",
        looked(places)
    )]
    NoProgram {
        /// The program.
        program: &'static str,
        /// The directories that were looked through.
        places: Vec<PathBuf>,
    },
    /// initdb and postgres are not there, or only older ones.
    #[error(
        "no PostgreSQL server programs of version {major} or newer are on this machine{}; install them (Debian: postgresql-{major}, Red \
         Hat: postgresql{major}-server), or name their directory with bin_dir",
        instead(found, places)
    )]
    NoServerPrograms {
        /// The server's major version.
        major: u32,
        /// The versions that are there.
        found: Vec<String>,
        /// The directories that were looked through.
        places: Vec<PathBuf>,
    },
    /// It cannot be used with this server.
    #[error(
        "the newest {program} is {} of version {found}, but the server has version {server}; install the client programs of version {server}",
        path.display()
    )]
    OldProgram {
        /// The program.
        program: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Its version.
        found: String,
        /// The server's major version.
        server: u32,
    },
}

/// Classes of SQLSTATE: the connection broke, an operator or a crash ended it.
const ENDED: [&str; 4] = ["08", "57P01", "57P02", "57P03"];

impl Error {
    /// Whether the server answered no to a statement, on a connection that went on: what the statement had begun has ended.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let Self::Statement { code: Some(code), .. } = self else { return false };
        !ENDED.iter().any(|ended| code.starts_with(ended))
    }
}

/// `undefined_table`, `admin_shutdown`, `crash_shutdown`
const GONE: [&str; 3] = ["42P01", "57P01", "57P02"];

impl Error {
    /// Whether what was asked for is not there at all (the server, the database, the table), as after a disaster. A server that is there and
    /// refuses is no absence.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Connect { absent, .. } => *absent,
            Self::Statement { code, .. } => code.as_deref().is_some_and(|code| GONE.contains(&code)),
            _ => false,
        }
    }
}

fn looked(places: &[PathBuf]) -> String {
    if places.is_empty() {
        return "no place".to_owned();
    }
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn instead(found: &[String], places: &[PathBuf]) -> String {
    if found.is_empty() {
        format!(" (looked for initdb and postgres in {})", looked(places))
    } else {
        format!(", only {}", found.join(", "))
    }
}

/// Connects to one database of the server.
///
/// # Errors
/// The parameters make no sense, or the server cannot be reached or refuses; the text says where, as whom and why.
pub async fn connect(server: &config::Server, dbname: &str, application_name: &str) -> Result<Client, Error> {
    let resolved = Resolved::new(server, &Environment::of_process())?;
    client::connect(&resolved, dbname, application_name).await
}

/// The database for what concerns the whole server: configured, of the service, of the environment, or `postgres`.
///
/// # Errors
/// The parameters make no sense.
pub fn maintenance_database(server: &config::Server) -> Result<String, Error> {
    Ok(Resolved::new(server, &Environment::of_process())?.dbname)
}

/// The environment that makes a libpq program reach the same server as [`connect`] does: set over the inherited one, with
/// None for what must not be inherited. It may hold the password, for the child alone.
///
/// # Errors
/// The parameters make no sense.
pub fn libpq_env(
    server: &config::Server,
    application_name: &str,
) -> Result<Vec<(OsString, Option<OsString>)>, Error> {
    let resolved = Resolved::new(server, &Environment::of_process())?;
    Ok(resolved.libpq_env(application_name))
}
