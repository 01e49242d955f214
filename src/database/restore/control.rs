//! The session from which databases are made, renamed and dropped. A database cannot be renamed by a session in it, and any of them
//! may be renamed: so the session is in a small database of its own.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::{RestoreError, control_name, session};
use crate::config;
use crate::postgres::{self, Client};

/// Databases that may be there to make the control database from.
const USUAL: [&str; 2] = ["postgres", "template1"];

/// How often the control database is tried to be made, and the pause between two tries.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// The only session in the control database, which is made if it is missing. What a killed daykeep has left running in it is ended,
/// and has ended when this returns: it cannot commit any more.
///
/// # Errors
/// The server cannot be reached, or does not make it.
pub async fn open(server: &config::Server, tag: u64) -> Result<Client, RestoreError> {
    let name = control_name(tag);
    let mut tries = 0;
    loop {
        let opened = match session::open(server, &name).await {
            Ok(client) => alone(client).await,
            Err(_) => make(server, tag).await.map(|()| None),
        };
        match opened {
            Ok(Some(client)) => return Ok(client),
            Ok(None) if tries < TRIES => {}
            // A killed daykeep's last statement may still be at work, and be the one that ends us.
            Err(error) if is_conflict(&error) && tries < TRIES => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error),
            // It is made, and does not let us in: the error says why.
            Ok(None) => return session::open(server, &name).await,
        }
        tries += 1;
    }
}

/// A session from which these databases can be renamed. Where nothing is ever gone on with, a session in any other database will do: to
/// drop a control database costs the server a checkpoint of all that was loaded.
///
/// # Errors
/// As [`open`].
pub async fn open_for<'a>(
    server: &config::Server,
    tag: u64,
    resumable: bool,
    mut renamed: impl Iterator<Item = &'a str>,
) -> Result<Client, RestoreError> {
    if !resumable {
        let client = anywhere(server, tag).await?;
        if renamed.all(|name| name != client.dbname()) {
            return Ok(client);
        }
        client.close().await;
    }
    open(server, tag).await
}

async fn alone(client: Client) -> Result<Option<Client>, RestoreError> {
    let client = durable(client).await?;
    let alone = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_catalog.pg_backend_pid(); \
                 SELECT pg_catalog.pg_advisory_lock(1)";
    session::execute(&client, "end what an earlier restore left running", alone).await?;
    Ok(Some(client))
}

async fn make(server: &config::Server, tag: u64) -> Result<(), RestoreError> {
    let (client, name) = (anywhere(server, tag).await?, control_name(tag));
    // A drop of it that was cut off (a killed server, a power cut) leaves the name of a database that lets nobody in.
    let sql = "SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1 AND datconnlimit = -2";
    let half_dropped = client.query_opt(sql, &[&name]).await;
    if half_dropped.map_err(|error| client.failed(format!("look at database {name:?}"), &error))?.is_some() {
        drop_database(&client, &name).await?;
    }
    let sql = format!("CREATE DATABASE {} TEMPLATE template0", postgres::identifier(&name));
    session::execute(&client, "make a database to rename others from", &sql).await?;
    client.close().await;
    Ok(())
}

/// Whether somebody else does the same at this moment: the name is taken, template0 is being copied, or we were ended as we would
/// have ended him.
fn is_conflict(error: &RestoreError) -> bool {
    let RestoreError::Postgres(error) = error else { return false };
    let postgres::Error::Statement { code: Some(code), .. } = &**error else { return false };
    let conflicts = [
        SqlState::DUPLICATE_DATABASE,
        SqlState::UNIQUE_VIOLATION,
        SqlState::OBJECT_IN_USE,
        SqlState::ADMIN_SHUTDOWN,
    ];
    conflicts.iter().any(|conflict| conflict.code() == code)
}

/// A session in whatever database of the server lets us in: the control database, the configured one, one of the usual ones.
///
/// # Errors
/// None does; the error is that of the configured one.
pub async fn anywhere(server: &config::Server, tag: u64) -> Result<Client, RestoreError> {
    let configured = postgres::maintenance_database(server)?;
    let first = match session::open(server, &configured).await {
        Ok(client) => return durable(client).await,
        Err(error) => error,
    };
    let control = control_name(tag);
    for name in [control.as_str()].into_iter().chain(USUAL) {
        if name != configured
            && let Ok(client) = session::open(server, name).await
        {
            return durable(client).await;
        }
    }
    Err(first)
}

/// Ends the session; if it was in the control database, drops that from anywhere else.
///
/// # Errors
/// The server cannot be reached, or does not drop it.
pub async fn close(server: &config::Server, tag: u64, client: Client) -> Result<(), RestoreError> {
    let name = control_name(tag);
    let is_control = client.dbname() == name;
    client.close().await;
    if !is_control {
        return Ok(());
    }
    let client = anywhere(server, tag).await?;
    if client.dbname() == name {
        // No other database lets us in: it stays, empty, and goes with the next step.
        return Ok(());
    }
    drop_database(&client, &name).await?;
    client.close().await;
    Ok(())
}

/// Drops a database, if it is there, with the sessions in it.
///
/// # Errors
/// The server refuses.
pub async fn drop_database(client: &Client, name: &str) -> Result<(), RestoreError> {
    // One that is a template cannot be dropped; one that was half dropped cannot be altered.
    let sql = "SELECT datistemplate AND datconnlimit <> -2 FROM pg_catalog.pg_database WHERE datname = $1";
    let row = client.query_opt(sql, &[&name]).await;
    let template = row.and_then(|row| row.map_or(Ok(false), |row| row.try_get(0)));
    if template.map_err(|error| client.failed(format!("look at database {name:?}"), &error))? {
        let sql = format!("ALTER DATABASE {} IS_TEMPLATE false", postgres::identifier(name));
        session::execute(client, &format!("drop database {name:?}"), &sql).await?;
    }
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", postgres::identifier(name));
    session::execute(client, &format!("drop database {name:?}"), &sql).await
}

/// What is renamed and granted is durable when it is done, and nobody is waited for without end.
async fn durable(client: Client) -> Result<Client, RestoreError> {
    session::execute(&client, "set the session up", "SET synchronous_commit = on; SET lock_timeout = '60s'")
        .await?;
    Ok(client)
}

/// The databases whose name begins so.
///
/// # Errors
/// The server refuses.
pub async fn databases_of(client: &Client, beginning: &str) -> Result<Vec<String>, RestoreError> {
    let sql = "SELECT datname::text FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname::text, $1) ORDER BY 1";
    let failed = |error| client.failed("list the databases", &error);
    let rows = client.query(sql, &[&beginning]).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get(0).map_err(|error| failed(error).into())).collect()
}
