//! Sessions that write: whatever the role's and the database's settings are, equal text makes equal rows, nothing is read only and
//! nothing times out.

use std::ffi::OsString;
use std::fmt::Write as _;

use super::RestoreError;
use crate::config;
use crate::postgres::{self, Client};

/// What is asked for by every program and session: a database that is read only by default must be written all the same. Indexes
/// are built faster with more memory than the default.
const OPTIONS: [(&str, &str); 3] = [
    ("default_transaction_read_only", "off"),
    ("synchronous_commit", "off"),
    ("maintenance_work_mem", "256MB"),
];

/// What a script of pg_dump sets, and what it leaves to chance.
const SETTINGS: &str = "SELECT pg_catalog.set_config('search_path', '', false); \
    SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; \
    SET row_security = off; SET standard_conforming_strings = on; SET check_function_bodies = false; \
    SET xmloption = content; SET client_min_messages = warning; \
    SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;";
/// Those that only newer servers have.
const NEWER_SETTINGS: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
    WHERE name IN ('idle_session_timeout', 'transaction_timeout');";
/// Roles come with the hashes of their passwords, which belong in no log; who may not say so is no superuser, and goes no further.
const UNLOGGED: &str = "SELECT pg_catalog.set_config('log_statement', 'none', false), \
      pg_catalog.set_config('log_min_error_statement', 'panic', false) \
    FROM pg_catalog.pg_roles WHERE rolname = current_user AND rolsuper";

/// Connects and sets the session up.
///
/// # Errors
/// The server cannot be reached or refuses a setting.
pub async fn open(server: &config::Server, dbname: &str) -> Result<Client, RestoreError> {
    let client = postgres::connect(server, dbname, "daykeep restore").await?;
    let mut settings = SETTINGS.to_owned();
    for (name, value) in OPTIONS {
        // Writing to a String cannot fail.
        let _ = write!(settings, " SET {name} = '{value}';");
    }
    settings.push_str(NEWER_SETTINGS);
    settings.push_str(UNLOGGED);
    execute(&client, "set the session up", &settings).await?;
    Ok(client)
}

/// Runs statements whose failure is told by what they do.
///
/// # Errors
/// The server refuses.
pub async fn execute(client: &Client, action: &str, sql: &str) -> Result<(), RestoreError> {
    client.batch_execute(sql).await.map_err(|error| client.failed(action, &error).into())
}

/// The environment of pg_restore and its kin.
///
/// # Errors
/// The parameters make no sense.
pub fn environment(server: &config::Server) -> Result<Vec<(OsString, Option<OsString>)>, RestoreError> {
    let mut environment = postgres::libpq_env(server, "daykeep restore")?;
    for (name, value) in &mut environment {
        if name == "PGOPTIONS" {
            let mut options = value.take().unwrap_or_default();
            for (setting, to) in OPTIONS {
                options.push(format!(" -c {setting}={to}"));
            }
            *value = Some(options);
        }
    }
    Ok(environment)
}
