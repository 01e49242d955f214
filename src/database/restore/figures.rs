//! Figures for the planner. They are no part of what is restored: a table that cannot be analyzed stops nothing.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::load::Site;
use super::plan::DatabasePlan;
use super::{RestoreError, session};
use crate::event::Notices as _;
use crate::postgres::{self, Client};

/// Gathers those of one table.
///
/// # Errors
/// The server has ended the session.
pub async fn gather(
    site: &Site<'_>,
    plan: &DatabasePlan,
    client: &Client,
    table: &str,
) -> Result<(), RestoreError> {
    let Err(error) = client.batch_execute(&format!("ANALYZE {table}")).await else { return Ok(()) };
    if client.is_closed() {
        return Err(client.failed(format!("analyze {table}"), &error).into());
    }
    let cause = postgres::cause_of(&error);
    site.context
        .observer
        .warn(format!("table {table} of database {:?} has no figures for the planner: {cause}", plan.name));
    Ok(())
}

/// Gathers those of all tables of a database but `done`, given by schema and name.
///
/// # Errors
/// The server cannot be asked, or has ended a session.
pub async fn gather_all(
    site: &Site<'_>,
    plan: &DatabasePlan,
    client: Client,
    done: &BTreeSet<(String, String)>,
) -> Result<Client, RestoreError> {
    let mut tables = Vec::new();
    for (of, table) in list(&client, ANALYZED).await? {
        if !done.contains(&of) {
            tables.push(table);
        }
    }
    let sessions = site.wish.jobs.min(tables.len()).saturating_sub(1);
    let left = Mutex::new(tables.into_iter());
    let others = (0..sessions).map(|_| async {
        let client = session::open(site.wish.server(), &plan.beside).await?;
        gather_left(site, plan, &client, &left).await?;
        client.close().await;
        Ok::<_, RestoreError>(())
    });
    let others = futures_util::future::try_join_all(others);
    tokio::try_join!(others, gather_left(site, plan, &client, &left))?;
    Ok(client)
}

async fn gather_left(
    site: &Site<'_>,
    plan: &DatabasePlan,
    client: &Client,
    left: &Mutex<std::vec::IntoIter<String>>,
) -> Result<(), RestoreError> {
    loop {
        let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(table) = next else { return Ok(()) };
        gather(site, plan, client, &table).await?;
    }
}

/// Tables whose figures are of their own rows alone: no parents, no children. By schema and name.
///
/// # Errors
/// The server cannot be asked.
pub async fn alone(client: &Client) -> Result<BTreeSet<(String, String)>, RestoreError> {
    Ok(list(client, ALONE).await?.into_iter().map(|(of, _)| of).collect())
}

/// Schema and name, and both in SQL.
async fn list(client: &Client, sql: &str) -> Result<Vec<((String, String), String)>, RestoreError> {
    let failed = |error| client.failed("list its tables", &error);
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    let read = |row: &tokio_postgres::Row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?));
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| failed(error).into())
}

const ALONE: &str = "SELECT n.nspname::text, c.relname::text, '' \
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind = 'r' AND c.oid >= 16384 AND n.nspname !~ '^pg_' \
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid OR i.inhrelid = c.oid)";

/// Largest first. A partitioned table or a parent brings its children along; one that has a foreign table among them is left out, as its
/// server may be anywhere.
const ANALYZED: &str = "WITH RECURSIVE below AS ( \
        SELECT inhparent AS top, inhrelid AS oid FROM pg_catalog.pg_inherits \
        UNION SELECT b.top, i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid), \
      far AS (SELECT DISTINCT b.top FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.oid WHERE c.relkind = 'f') \
    SELECT n.nspname::text, c.relname::text, pg_catalog.format('%I.%I', n.nspname, c.relname) \
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'm', 'p') AND c.oid >= 16384 AND n.nspname !~ '^pg_' AND c.oid NOT IN (SELECT top FROM far) \
       AND NOT EXISTS (SELECT FROM below b JOIN pg_catalog.pg_class p ON p.oid = b.top \
                        WHERE b.oid = c.oid AND p.relkind = 'p' AND p.oid NOT IN (SELECT top FROM far)) \
       AND (c.relkind <> 'm' OR c.relispopulated) \
     ORDER BY pg_catalog.pg_table_size(c.oid) DESC, 1, 2";
