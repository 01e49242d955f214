//! Asking the databases of a server that runs: one that a day was restored to.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use tokio_postgres::Row;

use super::{Error, session};
use crate::config;
use crate::postgres;

/// A server that answers.
#[derive(Debug)]
pub struct Live {
    server: config::Server,
    version: u32,
}

impl Live {
    /// Reaches the server once, to learn what it is.
    ///
    /// # Errors
    /// It cannot be reached or refuses.
    pub async fn connect(server: &config::Server) -> Result<Self, Error> {
        let maintenance = postgres::maintenance_database(server)?;
        let client = postgres::connect(server, &maintenance, "daykeep").await?;
        let version = client
            .query_one("SELECT pg_catalog.current_setting('server_version_num')::int", &[])
            .await
            .and_then(|row| row.try_get::<_, i32>(0))
            .map_err(|error| client.failed("ask for its version", &error))?;
        client.close().await;
        Ok(Self { server: server.clone(), version: u32::try_from(version).unwrap_or(0) })
    }

    /// `server_version_num`.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The databases that accept connections, but for template0.
    pub(super) async fn databases(&self) -> Result<BTreeSet<String>, Error> {
        let maintenance = postgres::maintenance_database(&self.server)?;
        let client = self.session(&maintenance).await?;
        let sql =
            "SELECT datname::text FROM pg_catalog.pg_database WHERE datallowconn AND datname <> 'template0'";
        let failed = |error: tokio_postgres::Error| client.failed("list the databases", &error);
        let rows = client.query(sql, &[]).await.map_err(failed)?;
        let names = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(failed)?;
        client.close().await;
        Ok(names)
    }

    /// A session in `database` that is set up for reading, as those that dump are.
    pub(super) async fn session(&self, database: &str) -> Result<postgres::Client, Error> {
        session::open(&self.server, database, self.version).await
    }

    /// The rows of a query in `database`, in a connection and a read-only transaction of its own, which end with the stream. The query
    /// runs with the role's own search_path.
    ///
    /// # Errors
    /// The database cannot be reached, or the server refuses the query.
    pub async fn rows(
        &self,
        database: &str,
        sql: &str,
    ) -> Result<impl Stream<Item = Result<Row, Error>> + Send + use<>, Error> {
        let client = Arc::new(self.session(database).await?);
        let settings = "BEGIN READ ONLY; SET LOCAL search_path TO DEFAULT; SET LOCAL row_security TO DEFAULT";
        client.batch_execute(settings).await.map_err(|error| client.failed("set the session up", &error))?;
        let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
        let rows = client
            .query_raw(sql, none)
            .await
            .map_err(|error| client.failed("run the query of a check", &error))?;
        // The stream keeps its connection: it must not be closed before the last row.
        Ok(rows.map(move |row| row.map_err(|error| client.failed("read the rows of a check", &error).into())))
    }
}
