//! Dropping what bears a restore's tag.

use serde::{Deserialize, Serialize};

use super::{RestoreError, control, session};
use crate::config;
use crate::event::{Context, Notices as _};
use crate::postgres::{self, Client, identifier};

/// What [`load`](super::load) has made and nobody uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The tag of the databases.
    pub tag: u64,
    /// The roles that it told it would make.
    pub roles: Vec<String>,
    /// The tablespaces that it told it would make.
    pub tablespaces: Vec<String>,
}

impl Beside {
    /// Drops all of it, and the control database. What is gone already is gone; a role or tablespace that somebody uses by now
    /// stays, and is told.
    ///
    /// # Errors
    /// The server cannot be reached or refuses to drop a database. It can be said again.
    pub async fn discard(&self, server: &config::Server, context: &Context) -> Result<(), RestoreError> {
        let client = control::open(server, self.tag).await?;
        for name in control::databases_of(&client, &format!("daykeep_new_{}_", self.tag)).await? {
            let oid = oid_of(&client, &name).await?;
            if let Some(oid) = oid {
                drop_with_subscriptions(server, &client, &name, oid, context).await?;
            }
        }
        for (kind, names) in [("TABLESPACE", &self.tablespaces), ("ROLE", &self.roles)] {
            for name in names {
                drop_if_unused(&client, kind, name, context).await?;
            }
        }
        control::close(server, self.tag, client).await
    }
}

impl Beside {
    /// Whether somebody is connected to a database that bears the tag.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn is_in_use(&self, server: &config::Server) -> Result<bool, RestoreError> {
        let client = control::anywhere(server, self.tag).await?;
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pg_catalog.starts_with(datname::text, $1))";
        let row = client.query_one(sql, &[&format!("daykeep_new_{}_", self.tag)]).await;
        let used = row.and_then(|row| row.try_get(0));
        let used = used.map_err(|error| client.failed("look at the sessions", &error))?;
        client.close().await;
        Ok(used)
    }
}

/// What tells a server from every other one, however it is reached: `pg_control_system().system_identifier`.
///
/// # Errors
/// The server cannot be asked.
pub async fn system_of(server: &config::Server, tag: u64) -> Result<i64, RestoreError> {
    let client = control::anywhere(server, tag).await?;
    let row = client.query_one("SELECT system_identifier FROM pg_catalog.pg_control_system()", &[]).await;
    let system = row.and_then(|row| row.try_get(0));
    let system = system.map_err(|error| client.failed("ask which server it is", &error))?;
    client.close().await;
    Ok(system)
}

async fn oid_of(client: &Client, name: &str) -> Result<Option<u32>, RestoreError> {
    let sql = "SELECT oid FROM pg_catalog.pg_database WHERE datname = $1";
    let row = client.query_opt(sql, &[&name]).await;
    row.and_then(|row| row.map(|row| row.try_get(0)).transpose())
        .map_err(|error| client.failed(format!("look at database {name:?}"), &error).into())
}

async fn drop_if_unused(
    client: &Client,
    kind: &str,
    name: &str,
    context: &Context,
) -> Result<(), RestoreError> {
    let sql = format!("DROP {kind} IF EXISTS {}", identifier(name));
    let Err(error) = client.batch_execute(&sql).await else { return Ok(()) };
    if client.is_closed() || error.as_db_error().is_none() {
        return Err(client.failed(format!("drop {name:?}"), &error).into());
    }
    let kind = kind.to_lowercase();
    let cause = postgres::cause_of(&error);
    context.observer.warn(format!("{kind} {name:?} was made by the restore and stays: {cause}"));
    Ok(())
}

/// Drops the database with this name and OID, if it is there. Subscriptions in it would keep it; they are dropped without a word to
/// the publisher.
///
/// # Errors
/// The server refuses.
pub async fn drop_with_subscriptions(
    server: &config::Server,
    client: &Client,
    name: &str,
    oid: u32,
    context: &Context,
) -> Result<(), RestoreError> {
    if oid_of(client, name).await? != Some(oid) {
        return Ok(());
    }
    let sql = "SELECT count(*) FROM pg_catalog.pg_subscription WHERE subdbid = $1";
    let row = client.query_one(sql, &[&oid]).await;
    let subscriptions: i64 = row
        .and_then(|row| row.try_get(0))
        .map_err(|error| client.failed("look at the subscriptions", &error))?;
    if subscriptions > 0 {
        drop_subscriptions(server, client, name, context).await?;
    }
    control::drop_database(client, name).await
}

async fn drop_subscriptions(
    server: &config::Server,
    client: &Client,
    name: &str,
    context: &Context,
) -> Result<(), RestoreError> {
    let open = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", identifier(name));
    session::execute(client, &format!("open database {name:?}"), &open).await?;
    let inside = session::open(server, name).await?;
    let failed = |error| inside.failed("look at the subscriptions", &error);
    let sql = "SELECT subname::text, subslotname::text FROM pg_catalog.pg_subscription \
               WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())";
    for row in inside.query(sql, &[]).await.map_err(failed)? {
        let subscription: String = row.try_get(0).map_err(failed)?;
        let slot: Option<String> = row.try_get(1).map_err(failed)?;
        let quoted = identifier(&subscription);
        let sql = format!(
            "ALTER SUBSCRIPTION {quoted} DISABLE; ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE); DROP SUBSCRIPTION {quoted}"
        );
        session::execute(&inside, &format!("drop subscription {subscription:?}"), &sql).await?;
        if let Some(slot) = slot {
            context.observer.warn(format!(
                "subscription {subscription:?} is dropped with what was replaced; if nothing else uses it, drop slot {slot:?} at its publisher"
            ));
        }
    }
    inside.close().await;
    Ok(())
}
