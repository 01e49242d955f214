//! The transactions that replace a table's rows and put them back.

use super::look::shown;
use super::pieces::Pieces;
use super::{ReadyTables, TableSurvey, TableSwap, TableWork, references};
use crate::config;
use crate::database::archive;
use crate::database::copy::RowSum;
use crate::database::load::copy_out_encoded;
use crate::database::restore::rows::{self, Progress};
use crate::database::restore::{RestoreError, State, check, program_failed, session, sql};
use crate::event::Context;
use crate::manifest::{Rows, TableRecord};
use crate::postgres::{Client, identifier, qualified};
use futures_util::StreamExt as _;

/// How long users of the table are waited for.
const PATIENCE: &str = "60s";
/// Rows come and go past triggers, rules and foreign keys; these are asked for at the end.
const BEGIN: &str = "SET synchronous_commit = on; SET extra_float_digits = 3; SET bytea_output = hex; BEGIN; \
                     SET LOCAL session_replication_role = replica; SET LOCAL lock_timeout = ";

/// See [`prepare`](super::prepare).
pub async fn prepare(
    tables: &[TableWork<'_>],
    context: &Context,
) -> Result<Option<ReadyTables>, RestoreError> {
    let Some(first) = tables.first() else { return Ok(None) };
    let client = session::open(&first.wish.server, &first.swap.database).await?;
    let mut left = Vec::new();
    for table in tables {
        if table.swap.ask_state(&client).await? == State::Before {
            left.push(Replacing::of(*table, &client, context)?);
        }
    }
    if left.is_empty() {
        client.close().await;
        return Ok(None);
    }
    // An error leaves the transaction to its end, which comes with the session's.
    begin(&client).await?;
    for table in &left {
        table.make_room().await?;
    }
    for table in &left {
        table.fill().await?;
    }
    for pieces in [after as fn(&Pieces) -> &str, keys] {
        for table in left.iter().filter(|table| table.work.swap.created) {
            table.script(table.work.survey.pieces.as_ref().map_or("", pieces)).await?;
        }
    }
    let mut filled = Vec::new();
    for table in &left {
        filled.push((table.shown(), oid_of(table.work.swap, &client).await?));
    }
    let oids: Vec<u32> = filled.iter().map(|(_, oid)| *oid).collect();
    let broken = references::broken(&client, &oids).await?;
    if !broken.is_empty() {
        return Err(RestoreError::References { broken });
    }
    drop(left);
    Ok(Some(ReadyTables { client, filled }))
}

fn after(pieces: &Pieces) -> &str {
    &pieces.after
}

fn keys(pieces: &Pieces) -> &str {
    &pieces.keys
}

/// See [`ReadyTables::commit`].
pub async fn commit(ready: ReadyTables) -> Result<(), RestoreError> {
    let ReadyTables { client, filled } = ready;
    for (table, oid) in &filled {
        sequences(&client, table, *oid).await?;
    }
    session::execute(&client, "commit", "COMMIT").await?;
    for (table, _) in &filled {
        session::execute(&client, &format!("analyze {table}"), &format!("ANALYZE {table}")).await?;
    }
    client.close().await;
    Ok(())
}

/// See [`put_back`](super::put_back).
pub async fn back(swaps: &[TableSwap], server: &config::Server) -> Result<(), RestoreError> {
    let Some(first) = swaps.first() else { return Ok(()) };
    let client = session::open(server, &first.database).await?;
    let mut left = Vec::new();
    for swap in swaps.iter().rev() {
        if swap.ask_state(&client).await? == State::After {
            left.push(swap);
        }
    }
    if left.is_empty() {
        client.close().await;
        return Ok(());
    }
    begin(&client).await?;
    // Together, since they may refer to each other.
    let made = left.iter().filter(|swap| swap.created).map(|swap| qualified(&swap.schema, &swap.table));
    let made: Vec<String> = made.collect();
    if !made.is_empty() {
        let made = made.join(", ");
        session::execute(&client, &format!("drop {made}"), &format!("DROP TABLE {made}")).await?;
    }
    let mut oids = Vec::new();
    for swap in left {
        oids.extend(put_back(swap, &client).await?);
    }
    let broken = references::broken(&client, &oids).await?;
    if !broken.is_empty() {
        return Err(RestoreError::ReferencesBack { broken });
    }
    session::execute(&client, "commit", "COMMIT").await?;
    client.close().await;
    Ok(())
}

/// Gives the table whose rows were put back; None: it was made, and has been dropped.
async fn put_back(swap: &TableSwap, client: &Client) -> Result<Option<u32>, RestoreError> {
    let table = qualified(&swap.schema, &swap.table);
    let action = format!("put back {table}");
    let mut oid = None;
    if !swap.created {
        lock(client, &table).await?;
        let there = oid_of(swap, client).await?;
        oid = Some(there);
        remove_rows(client, &table, there).await?;
        let columns = column_list(&swap.columns);
        let aside = format!("{}.rows", identifier(&swap.aside()));
        let insert = if swap.columns.is_empty() {
            // Rows without columns are only counted.
            format!("INSERT INTO {table} SELECT FROM {aside}")
        } else {
            format!("INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {aside}")
        };
        session::execute(client, &action, &insert).await?;
    }
    let drop = format!("DROP SCHEMA {} CASCADE", identifier(&swap.aside()));
    session::execute(client, &action, &drop).await?;
    Ok(oid)
}

async fn begin(client: &Client) -> Result<(), RestoreError> {
    session::execute(client, "begin", &format!("{BEGIN}'{PATIENCE}'")).await
}

async fn lock(client: &Client, table: &str) -> Result<(), RestoreError> {
    let sql = format!("LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE");
    session::execute(client, &format!("lock {table}"), &sql).await
}

fn column_list(columns: &[String]) -> String {
    columns.iter().map(|column| identifier(column)).collect::<Vec<_>>().join(", ")
}

/// The rows that are there, in a table of their own.
async fn set_aside(swap: &TableSwap, client: &Client) -> Result<(), RestoreError> {
    let table = qualified(&swap.schema, &swap.table);
    lock(client, &table).await?;
    let sql = format!(
        "CREATE TABLE {}.rows AS SELECT {} FROM ONLY {table}",
        identifier(&swap.aside()),
        column_list(&swap.columns)
    );
    session::execute(client, &format!("set the rows of {table} aside"), &sql).await
}

/// What others refer to cannot be truncated, whatever is asked for afterwards.
async fn remove_rows(client: &Client, table: &str, oid: u32) -> Result<(), RestoreError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid = $1 AND conrelid <> $1)";
    let failed = |error| client.failed(format!("look at the foreign keys to {table}"), &error);
    let row = client.query_one(sql, &[&oid]).await.map_err(failed)?;
    let referenced: bool = row.try_get(0).map_err(failed)?;
    let verb = if referenced { "DELETE FROM ONLY" } else { "TRUNCATE ONLY" };
    session::execute(client, &format!("remove the rows of {table}"), &format!("{verb} {table}")).await
}

async fn oid_of(swap: &TableSwap, client: &Client) -> Result<u32, RestoreError> {
    let sql = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2";
    let row = client.query_one(sql, &[&swap.schema, &swap.table]).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| client.failed("find the table", &error).into())
}

/// Sequences of the table's columns go on behind its rows. They take no part in the transaction: what is too far ahead does no harm.
async fn sequences(client: &Client, table: &str, oid: u32) -> Result<(), RestoreError> {
    let sql = "SELECT pg_catalog.format('SELECT pg_catalog.setval(%L, m) FROM (SELECT pg_catalog.max(%I)::bigint AS m FROM ONLY %s) t, %s s \
                 WHERE m > s.last_value', d.objid::regclass, a.attname, $1::oid::regclass, d.objid::regclass) \
               FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_sequence q ON q.seqrelid = d.objid AND q.seqincrement > 0 \
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
               WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
                 AND d.refobjid = $1 AND d.deptype IN ('a', 'i')";
    let failed = |error| client.failed(format!("look at the sequences of {table}"), &error);
    for row in client.query(sql, &[&oid]).await.map_err(failed)? {
        let sql: String = row.try_get(0).map_err(failed)?;
        session::execute(client, &format!("set a sequence of {table}"), &sql).await?;
    }
    Ok(())
}

struct Replacing<'a> {
    work: TableWork<'a>,
    record: &'a TableRecord,
    client: &'a Client,
    context: &'a Context,
}

impl<'a> Replacing<'a> {
    fn of(work: TableWork<'a>, client: &'a Client, context: &'a Context) -> Result<Self, RestoreError> {
        let refused = || RestoreError::Refused { problems: work.survey.problems.clone() };
        let record = work.survey.record.as_ref().filter(|_| work.survey.is_possible()).ok_or_else(refused)?;
        Ok(Self { work, record, client, context })
    }

    fn shown(&self) -> String {
        shown(self.work.wish)
    }

    /// An empty table, made or emptied.
    async fn make_room(&self) -> Result<(), RestoreError> {
        let TableWork { swap, survey, .. } = self.work;
        let aside = identifier(&swap.aside());
        let made = format!(
            "CREATE SCHEMA {aside}; COMMENT ON SCHEMA {aside} IS 'what a restore by daykeep replaced'"
        );
        session::execute(self.client, "make a schema for what is replaced", &made).await?;
        if swap.created {
            return self.script(survey.pieces.as_ref().map_or("", |pieces| &pieces.before)).await;
        }
        set_aside(swap, self.client).await?;
        remove_rows(self.client, &self.shown(), oid_of(swap, self.client).await?).await
    }

    /// The day's rows, counted and compared: what the table gives is what the day has.
    async fn fill(&self) -> Result<(), RestoreError> {
        let TableSurvey { encoding, home, .. } = self.work.survey;
        let table = self.shown();
        let progress = Progress::new(self.context.observer.clone(), self.record.rows.count);
        rows::fill(self.client, encoding, self.record, home, &progress).await?;
        if self.rows_of(&table).await? == self.record.rows {
            return Ok(());
        }
        Err(RestoreError::OtherRows { table })
    }

    async fn rows_of(&self, table: &str) -> Result<Rows, RestoreError> {
        let failed = |error| self.client.failed(format!("read the rows of {table}"), &error);
        let sql = copy_out_encoded(self.record, &self.work.survey.encoding);
        let mut stream = Box::pin(self.client.copy_out(sql.as_str()).await.map_err(failed)?);
        let mut sum = RowSum::default();
        while let Some(piece) = stream.next().await {
            sum.add(&piece.map_err(failed)?);
        }
        Ok(sum.finish())
    }

    /// Entries of the archive, one statement after the other.
    async fn script(&self, list: &str) -> Result<(), RestoreError> {
        if list.is_empty() {
            return Ok(());
        }
        let TableSurvey { programs, home, .. } = self.work.survey;
        let archive = home.join("rest.dump");
        let args = ["--file=-", "--use-list=/dev/stdin"];
        let said = archive::ask(programs, &archive, &args, list.as_bytes(), &self.context.cancel).await;
        let said = said.map_err(|source| program_failed(&self.work.swap.database, source))?;
        let what = format!("what rest.dump says of {}", self.shown());
        let script = check::text(self.client, said, &what).await?;
        let action = format!("make {}", self.shown());
        for statement in sql::statements(&script) {
            // It has been set, for this encoding and for this server.
            if !["SET client_encoding", "SET transaction_timeout"]
                .iter()
                .any(|set| statement.starts_with(set))
            {
                session::execute(self.client, &action, statement).await?;
            }
        }
        Ok(())
    }
}
