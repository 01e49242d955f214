//! What every session is set to, so that equal rows make equal text whatever the role's and the database's settings are: what
//! pg_dump sets (`setup_connection` in pg_dump.c), and what it leaves to chance.

use super::Error;
use crate::config;
use crate::postgres::{self, Client};

/// The settings of a session that reads.
fn settings(server_version: u32) -> String {
    let mut sql = String::from(
        "SELECT pg_catalog.set_config('search_path', '', false); \
         SET DateStyle = ISO; SET IntervalStyle = postgres; SET extra_float_digits = 3; SET TimeZone = 'UTC'; \
         SET bytea_output = hex; SET synchronize_seqscans = off; SET row_security = off; \
         SET standard_conforming_strings = on; \
         SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
         SET max_parallel_workers_per_gather = 0; SET jit = off;",
    );
    if server_version >= 140_000 {
        sql.push_str(" SET idle_session_timeout = 0;");
    }
    if server_version >= 170_000 {
        sql.push_str(" SET transaction_timeout = 0;");
        // Its owner could run code of his own as us when a view stands where a table stood.
        sql.push_str(" SET restrict_nonsystem_relation_kind = 'view, foreign-table';");
    }
    sql
}

/// Connects and sets the session up.
///
/// # Errors
/// The server cannot be reached or refuses a setting.
pub async fn open(server: &config::Server, dbname: &str, server_version: u32) -> Result<Client, Error> {
    let client = postgres::connect(server, dbname, "daykeep").await?;
    client
        .batch_execute(&settings(server_version))
        .await
        .map_err(|error| client.failed("set the session up", &error))?;
    Ok(client)
}

/// A session's process on the server.
///
/// # Errors
/// The server refuses.
pub async fn backend_pid(client: &Client) -> Result<i32, Error> {
    client
        .query_one("SELECT pg_catalog.pg_backend_pid()", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| client.failed("ask for the session's process", &error).into())
}

/// Text comes as the server has it: tokio-postgres asks for UTF-8, and the bytes of a SQL_ASCII database need not be that.
///
/// # Errors
/// The server refuses.
pub async fn speak_server_encoding(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(
            "SELECT pg_catalog.set_config('client_encoding', pg_catalog.current_setting('server_encoding'), true)",
        )
        .await
        .map_err(|error| client.failed("set the session's encoding", &error).into())
}
