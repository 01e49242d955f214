//! The connection in which rows are compared and jobs queued.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{Error, Site};
use crate::postgres::{self, Client};

/// What a large comparison needs: no limit of the role's ends it.
const SETTINGS: &str =
    "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0";

/// Connects, as a role with its own search_path, as FOSSology's programs do.
pub(super) async fn open(site: &Site) -> Result<Client, Error> {
    let client = postgres::connect(&site.server, &site.database, "daykeep").await?;
    run(&client, SETTINGS, "set the session up").await?;
    Ok(client)
}

/// Statements without an answer.
pub(super) async fn run(client: &Client, sql: &str, action: &str) -> Result<(), Error> {
    client.batch_execute(sql).await.map_err(|error| client.failed(action, &error).into())
}

/// The rows of an answer that is as short as the list of uploads.
pub(super) async fn rows(
    client: &Client,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
    action: &str,
) -> Result<Vec<Row>, Error> {
    client.query(sql, values).await.map_err(|error| client.failed(action, &error).into())
}
