//! `globals.sql`: what belongs to no database. pg_dumpall knows no snapshot, so it is started inside the hold and read after it.

use std::path::Path;

use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdout;
use tokio_util::sync::CancellationToken;

use super::rest::program_failed;
use super::{Error, Report};
use crate::config;
use crate::fs::{self, OnPath as _};
use crate::postgres::{self, Programs};
use crate::process::{self, Program, Running};

/// Stands for a database's name in messages.
pub const GLOBALS: &str = "(globals)";

/// Starts pg_dumpall.
///
/// # Errors
/// It cannot be started.
pub fn start(config: &config::Database, programs: &Programs, report: &Report) -> Result<Running, Error> {
    let mut program = command(&config.server, programs)?;
    if !report.reads_passwords {
        program = program.arg("--no-role-passwords");
    }
    program.start().map_err(|source| program_failed(GLOBALS, source))
}

/// pg_dumpall, asked for what belongs to no database.
///
/// # Errors
/// The parameters make no sense.
pub fn command(server: &config::Server, programs: &Programs) -> Result<Program, postgres::Error> {
    let maintenance = postgres::maintenance_database(server)?;
    let quoted = maintenance.replace('\\', "\\\\").replace('\'', "\\'");
    let mut program = Program::new([programs.path("pg_dumpall")])
        .arg("--globals-only")
        .arg("--no-password")
        .arg(format!("--dbname=dbname='{quoted}'"));
    for (name, value) in postgres::libpq_env(server, "daykeep")? {
        program = program.env(name, value);
    }
    Ok(program)
}

/// Writes what was read of a program's stdout, and the rest of it to its end, into a new file; gives the bytes.
///
/// # Errors
/// The program failed, or the file cannot be written.
pub async fn write_out(
    running: &mut Running,
    first: &[u8],
    pipe: Option<ChildStdout>,
    dbname: &str,
    path: &Path,
    cancel: &CancellationToken,
) -> Result<u64, Error> {
    let mut file = tokio::fs::File::from_std(fs::create_new(path)?);
    let copy = async {
        let mut bytes = first.len() as u64;
        file.write_all(first).await.on("write", path)?;
        if let Some(mut pipe) = pipe {
            bytes += tokio::io::copy(&mut pipe, &mut file).await.on("write", path)?;
        }
        file.flush().await.on("write", path)?;
        running.finish().await.map_err(|source| program_failed(dbname, source))?;
        Ok(bytes)
    };
    tokio::select! {
        outcome = copy => outcome,
        () = cancel.cancelled() => Err(program_failed(dbname, process::Error::Cancelled { program: String::new() })),
    }
}
