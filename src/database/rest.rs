//! `rest.dump`: pg_dump, started inside the hold, read after it.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;
use tokio_util::sync::CancellationToken;

use super::catalog::Table;
use super::toc::Contents;
use super::{Error, globals};
use crate::config;
use crate::postgres::{self, Client, Programs};
use crate::process::{self, Program, Running};

/// How often is looked whether pg_dump has its locks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// So many looks in a row that see it waiting for a lock mean that it will not get it.
const STUCK: u32 = 5;

/// What pg_dump is asked for.
#[derive(Debug)]
pub struct Order<'a> {
    /// How to reach the server.
    pub config: &'a config::Database,
    /// Where pg_dump is.
    pub programs: &'a Programs,
    /// The database.
    pub dbname: &'a str,
    /// The exported snapshot.
    pub snapshot: &'a str,
    /// The tables whose rows daykeep copies.
    pub ours: Vec<&'a Table>,
    /// The name by which its session is found.
    pub application: String,
    /// How long it may wait for a lock.
    pub lock_wait: Duration,
}

/// A pg_dump that was started. It writes into a pipe and waits when that is full, so that nothing of it is in a file
/// before [`Rest::write`]. Dropping it kills it.
#[derive(Debug)]
pub struct Rest {
    running: Running,
    pipe: Option<ChildStdout>,
    /// What was read of it already.
    first: Vec<u8>,
    dbname: String,
    application: String,
}

impl Rest {
    /// Starts pg_dump.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(order: &Order<'_>) -> Result<Self, Error> {
        let mut program = Program::new([order.programs.path("pg_dump")]);
        for arg in ["--format=custom", "--compress=4", "--no-password"] {
            program = program.arg(arg);
        }
        program = program
            .arg(format!("--snapshot={}", order.snapshot))
            .arg(format!("--lock-wait-timeout={}", order.lock_wait.as_millis().max(1)));
        for table in &order.ours {
            let pattern =
                format!("{}.{}", postgres::identifier(&table.schema), postgres::identifier(&table.name));
            program = program.arg(format!("--exclude-table-data={pattern}"));
        }
        for (name, value) in postgres::libpq_env(&order.config.server, &order.application)? {
            program = program.env(name, value);
        }
        // By the environment: as an argument, a name with `=` in it would be read as a connection string.
        program = program.env("PGDATABASE", Some(OsString::from(order.dbname)));
        let mut running = program.start().map_err(|source| program_failed(order.dbname, source))?;
        let pipe = running.take_stdout();
        Ok(Self {
            running,
            pipe,
            first: Vec::new(),
            dbname: order.dbname.to_owned(),
            application: order.application.clone(),
        })
    }

    /// Waits until its session has its lock on each of these tables: from then on nobody can change them under it. When it writes,
    /// it has read the catalogs to their end and waits for no lock any more, whichever it took. Gives false when it has to wait for a lock: whoever changes a table stands between the keeper and it.
    ///
    /// # Errors
    /// It ended instead; the watch was lost.
    pub async fn locked(&mut self, watch: &Client, database: u32, tables: &[u32]) -> Result<bool, Error> {
        let mut chunk = [0; 4096];
        let writes = async {
            match &mut self.pipe {
                Some(pipe) => match pipe.read(&mut chunk).await {
                    Ok(count) if count > 0 => count,
                    // Its end is told by the branch that waits for it.
                    _ => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = wait_for_locks(watch, &self.application, database, tables) => outcome,
            count = writes => {
                self.first.extend_from_slice(&chunk[..count]);
                Ok(true)
            }
            ended = self.running.finish() => match ended {
                Err(source) => Err(program_failed(&self.dbname, source)),
                // A small database: it has read all that it wanted, and what it wrote waits in the pipe.
                Ok(()) => Ok(true),
            },
        }
    }

    /// Reads it to its end into a new file; gives the bytes.
    ///
    /// # Errors
    /// It failed, or the file cannot be written.
    pub async fn write(mut self, path: &Path, cancel: &CancellationToken) -> Result<u64, Error> {
        globals::write_out(&mut self.running, &self.first, self.pipe.take(), &self.dbname, path, cancel).await
    }

    /// Ends it.
    pub async fn kill(mut self) {
        self.running.kill().await;
    }
}

/// Waits until the session of this name is inside its snapshot (a database without tables has no lock to wait for) and has all
/// its locks.
async fn wait_for_locks(
    watch: &Client,
    application: &str,
    database: u32,
    tables: &[u32],
) -> Result<bool, Error> {
    let sql = "SELECT count(DISTINCT l.relation), count(DISTINCT a.pid), \
                   coalesce(bool_or(a.wait_event_type = 'Lock'), false) \
                 FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_locks l ON l.pid = a.pid \
                  AND l.database = $2 AND l.locktype = 'relation' AND l.mode = 'AccessShareLock' AND l.granted \
                  AND l.relation = ANY ($3::oid[]) \
                WHERE a.application_name = $1 AND a.backend_xmin IS NOT NULL";
    let failed = |error| watch.failed("look at the locks of pg_dump", &error);
    let mut seen_waiting = 0;
    loop {
        let row = watch.query_one(sql, &[&application, &database, &tables]).await.map_err(failed)?;
        let (locks, sessions): (i64, i64) =
            (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        if sessions > 0 && usize::try_from(locks).is_ok_and(|locks| locks >= tables.len()) {
            return Ok(true);
        }
        let waits: bool = row.try_get(2).map_err(failed)?;
        // Everybody waits for a moment now and then; who is seen waiting again and again is stuck.
        seen_waiting = if waits { seen_waiting + 1 } else { 0 };
        if seen_waiting >= STUCK {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is in the archive.
///
/// # Errors
/// pg_restore cannot read it.
pub async fn contents(
    programs: &Programs,
    dbname: &str,
    path: &Path,
    cancel: &CancellationToken,
) -> Result<Contents, Error> {
    let program = Program::new([programs.path("pg_restore")]).arg("--list").arg(path.as_os_str());
    let listing = program.run(cancel).await.map_err(|source| program_failed(dbname, source))?;
    Ok(Contents::parse(&String::from_utf8_lossy(&listing)))
}

/// Names the database that a program failed on.
pub fn program_failed(dbname: &str, source: process::Error) -> Error {
    match source {
        process::Error::Cancelled { .. } => Error::Cancelled,
        source => Error::Program { dbname: dbname.to_owned(), source: Box::new(source) },
    }
}
