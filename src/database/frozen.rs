//! The databases at the freeze point: open snapshots, and what is read from them.

use std::path::Path;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;
use tokio_postgres::Row;

use super::catalog::Table;
use super::prepare::{DatabaseInfo, Report};
use super::rest::{Order, Rest};
use super::{DayBefore, Error, dump};
use crate::config;
use crate::event::Context;
use crate::manifest;
use crate::postgres::{self, Client, Programs};
use crate::process::Running;

/// Where the keeper's transaction stands after the freeze: what later asks it for rows can always come back here.
pub(super) const SAVEPOINT: &str = "daykeep";

/// Every snapshot is open and every table locked. Dropping it gives all of it up.
#[derive(Debug)]
pub struct Frozen {
    pub(super) config: config::Database,
    pub(super) report: Report,
    pub(super) programs: Programs,
    /// Kept open: it cancels nothing, but sees who waits.
    pub(super) watch: Client,
    pub(super) databases: Vec<FrozenDatabase>,
    pub(super) globals: Option<Running>,
    pub(super) instant: Timestamp,
    pub(super) wal_begin: String,
    pub(super) wal_end: String,
}

/// One database at the freeze point.
#[derive(Debug)]
pub(super) struct FrozenDatabase {
    pub info: DatabaseInfo,
    pub keeper: Client,
    pub workers: Vec<Client>,
    pub snapshot: String,
    /// The tables in the snapshot.
    pub tables: Vec<Table>,
    /// Which of them daykeep copies, by their place.
    pub ours: Vec<usize>,
    /// None: it follows in the dump.
    pub rest: Option<Rest>,
}

impl FrozenDatabase {
    /// The order for its pg_dump.
    pub fn order<'a>(
        &'a self,
        config: &'a config::Database,
        programs: &'a Programs,
        lock_wait: Duration,
    ) -> Order<'a> {
        let tables = &self.tables;
        Order {
            config,
            programs,
            dbname: &self.info.name,
            snapshot: &self.snapshot,
            ours: self.ours.iter().filter_map(|place| tables.get(*place)).collect(),
            application: format!("daykeep rest {} {}", std::process::id(), self.snapshot),
            lock_wait,
        }
    }
}

impl Frozen {
    /// The instant that the databases show.
    #[must_use]
    pub fn instant(&self) -> Timestamp {
        self.instant
    }

    /// What was found out about the server.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Writes everything below `target`, which is `<day>/database` of a day that is not sealed; what an earlier run left there is removed.
    /// From `previous`, equal segments are linked and changed ones stored as patches, after a check of what is there. With `new_base`,
    /// nothing is linked.
    ///
    /// # Errors
    /// A session was lost, pg_dump failed, a file cannot be written, or a table's rows would be missing.
    pub async fn dump(
        &mut self,
        _released: &impl manifest::Released,
        target: &Path,
        previous: Option<DayBefore<'_>>,
        new_base: bool,
        context: &Context,
    ) -> Result<dump::Dumped, Error> {
        dump::dump(self, target, previous.filter(|_| !new_base), context).await
    }

    /// The rows of a query inside the snapshot of `database`. One query at a time: a new one ends the one before. The query runs with the
    /// role's own search_path, and can change nothing.
    ///
    /// # Errors
    /// The database is not frozen here, or the server refuses the query.
    pub async fn rows(
        &self,
        database: &str,
        sql: &str,
    ) -> Result<impl Stream<Item = Result<Row, Error>> + use<'_>, Error> {
        let Some(frozen) = self.databases.iter().find(|frozen| frozen.info.name == database) else {
            let there = self.databases.iter().map(|frozen| frozen.info.name.clone()).collect();
            return Err(Error::NoDatabase { name: database.to_owned(), there });
        };
        let keeper = &frozen.keeper;
        back_to_savepoint(keeper).await?;
        let settings = "SET LOCAL search_path TO DEFAULT; SET LOCAL row_security TO DEFAULT";
        keeper.batch_execute(settings).await.map_err(|error| keeper.failed("set the session up", &error))?;
        let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
        let rows = keeper
            .query_raw(sql, none)
            .await
            .map_err(|error| keeper.failed("run the query of a check", &error))?;
        Ok(rows.map(|row| row.map_err(|error| keeper.failed("read the rows of a check", &error).into())))
    }

    /// Closes the snapshots and the connections.
    ///
    /// # Errors
    /// A session was lost: then what it read last may not be the snapshot's.
    pub async fn finish(self) -> Result<(), Error> {
        for database in self.databases {
            database.keeper.batch_execute("COMMIT").await.map_err(|error| lost(&database.keeper, &error))?;
            if let Some(rest) = database.rest {
                rest.kill().await;
            }
            database.keeper.close().await;
        }
        self.watch.close().await;
        Ok(())
    }
}

/// Undoes what was set for one use of the keeper. Its snapshot and its locks are older than the savepoint and stay.
pub(super) async fn back_to_savepoint(keeper: &Client) -> Result<(), Error> {
    keeper
        .batch_execute(&format!("ROLLBACK TO SAVEPOINT {SAVEPOINT}"))
        .await
        .map_err(|error| lost(keeper, &error))
}

pub(super) fn lost(client: &Client, error: &tokio_postgres::Error) -> Error {
    Error::Lost { dbname: client.dbname().to_owned(), cause: postgres::cause_of(error) }
}
