//! Tables of a day, put in the place of what they are now: all those of a database in one transaction, so that their foreign keys are
//! asked when all of them are the day's.
//!
//! The schema `daykeep_old_7` (for the tag 7) is made in the same transaction and holds the rows that were there: when it is there, the
//! table is the day's; when it is not, nothing has happened. Killed at any moment, the transaction has happened or it has not, and
//! [`TableSwap::state`] tells which. [`prepare`] does all of it but the COMMIT: whatever could be refused is refused there, and the session
//! that it gives takes everything with it when it ends.

mod look;
mod pieces;
mod references;
mod replace;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use look::look;
pub use references::Broken;

use crate::config;
use crate::database::restore::session;
use crate::database::restore::{RestoreError, State};
use crate::event::Context;
use crate::manifest::{Manifest, TableRecord};
use crate::postgres::{Client, Programs, identifier};

/// Which table of which day, and where it goes.
#[derive(Debug, Clone)]
pub struct TableWish<'a> {
    /// The day's directory.
    pub day: &'a Path,
    /// What it says of itself.
    pub manifest: &'a Manifest,
    /// The server.
    pub server: config::Server,
    /// Where pg_restore is; None: the newest of this machine.
    pub bin_dir: Option<PathBuf>,
    /// The database, in the day and on the server.
    pub database: String,
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Names the schema that keeps what was replaced: the number of the job, apart from that of another table of the same job.
    pub tag: u64,
}

/// What a look at the table finds.
#[derive(Debug, Clone)]
pub struct TableSurvey {
    /// Rows of the day's table.
    pub rows: u64,
    /// Bytes of their text.
    pub row_bytes: u64,
    /// Rows of the table that is there, about; None: there is none, and it will be made.
    pub live_rows: Option<u64>,
    /// The foreign keys, from it and to it, that must hold afterwards.
    pub references: Vec<String>,
    /// All that stands in the way; empty: it can be done.
    pub problems: Vec<String>,
    /// What an admin should know.
    pub notices: Vec<String>,
    programs: Programs,
    record: Option<TableRecord>,
    /// Its database's directory in the day, and its encoding.
    home: PathBuf,
    encoding: String,
    pieces: Option<pieces::Pieces>,
}

/// All that it takes to replace the table and to take that back. It is to be recorded before [`ReadyTables::commit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSwap {
    /// See [`TableWish::tag`].
    pub tag: u64,
    /// The database.
    pub database: String,
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The columns of its rows.
    pub columns: Vec<String>,
    /// There was none: it was made.
    pub created: bool,
}

/// A table that is to be replaced, with all that is known of it.
#[derive(Debug, Clone, Copy)]
pub struct TableWork<'a> {
    /// What is done.
    pub swap: &'a TableSwap,
    /// Whereof.
    pub wish: &'a TableWish<'a>,
    /// What was found.
    pub survey: &'a TableSurvey,
}

/// Tables that are replaced but for the COMMIT. Dropped, nothing has happened.
#[derive(Debug)]
pub struct ReadyTables {
    client: Client,
    /// The tables by name and OID.
    filled: Vec<(String, u32)>,
}

impl ReadyTables {
    /// From here on the tables are the day's.
    ///
    /// # Errors
    /// The server refuses: nothing has happened. The session was lost: [`TableSwap::state`] tells.
    pub async fn commit(self) -> Result<(), RestoreError> {
        replace::commit(self).await
    }
}

/// Puts the day's rows in the place of those that are there, or makes the tables, all but the COMMIT. `tables` are of one database; those
/// that are the day's already are left alone, and None is given when all are. The tables are locked from here on.
///
/// # Errors
/// The day is damaged, the server refuses, a foreign key would not hold, or the run is cancelled: then nothing has happened.
pub async fn prepare(
    tables: &[TableWork<'_>],
    context: &Context,
) -> Result<Option<ReadyTables>, RestoreError> {
    tokio::select! {
        outcome = replace::prepare(tables, context) => outcome,
        () = context.cancel.cancelled() => Err(RestoreError::Cancelled),
    }
}

/// Takes tables of one database back: the rows are those that were there, and what was made is dropped. What was done to them since is
/// lost. Done already, it does nothing.
///
/// # Errors
/// The server refuses, a foreign key would not hold, or the run is cancelled: then nothing has happened.
pub async fn put_back(
    swaps: &[TableSwap],
    server: &config::Server,
    context: &Context,
) -> Result<(), RestoreError> {
    tokio::select! {
        outcome = replace::back(swaps, server) => outcome,
        () = context.cancel.cancelled() => Err(RestoreError::Cancelled),
    }
}

impl TableSurvey {
    /// Whether nothing stands in the way.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.problems.is_empty()
    }
}

impl TableSwap {
    /// What will be done, for the record.
    ///
    /// # Errors
    /// Something stands in the way.
    pub fn plan(wish: &TableWish<'_>, survey: &TableSurvey) -> Result<Self, RestoreError> {
        let refused = || RestoreError::Refused { problems: survey.problems.clone() };
        let record = survey.record.as_ref().filter(|_| survey.is_possible()).ok_or_else(refused)?;
        Ok(Self {
            tag: wish.tag,
            database: wish.database.clone(),
            schema: wish.schema.clone(),
            table: wish.table.clone(),
            columns: record.columns.clone(),
            created: survey.live_rows.is_none(),
        })
    }

    /// Whether the table is the day's.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn state(&self, server: &config::Server) -> Result<State, RestoreError> {
        let client = session::open(server, &self.database).await?;
        let state = self.ask_state(&client).await?;
        client.close().await;
        Ok(state)
    }

    /// Drops what was replaced: from here on there is no way back.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn drop_old(&self, server: &config::Server) -> Result<(), RestoreError> {
        let client = session::open(server, &self.database).await?;
        let sql = format!(
            "SET synchronous_commit = on; DROP SCHEMA IF EXISTS {} CASCADE",
            identifier(&self.aside())
        );
        session::execute(&client, "drop what was replaced", &sql).await?;
        client.close().await;
        Ok(())
    }

    /// The schema that holds what was replaced.
    #[must_use]
    pub fn aside(&self) -> String {
        format!("daykeep_old_{}", self.tag)
    }

    async fn ask_state(&self, client: &Client) -> Result<State, RestoreError> {
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)";
        let row = client.query_one(sql, &[&self.aside()]).await;
        let done = row
            .and_then(|row| row.try_get(0))
            .map_err(|error| client.failed("look at its schemas", &error))?;
        Ok(if done { State::After } else { State::Before })
    }
}
