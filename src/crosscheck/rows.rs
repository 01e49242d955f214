//! Where the rows of a check come from.

use std::future::Future;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio_postgres::Row;

use crate::database::{self, Frozen, Live};

/// Databases that answer a check's query: the snapshots of a freeze point, or a server that runs.
pub trait Rows: Sync {
    /// The rows of a query in `database`; it can change nothing, and runs with the role's own search_path. A new query may end the
    /// one before.
    ///
    /// # Errors
    /// The database is not there, or the server refuses the query.
    fn rows(
        &self,
        database: &str,
        sql: &str,
    ) -> impl Future<Output = Result<BoxStream<'_, Result<Row, database::Error>>, database::Error>> + Send;
}

impl Rows for Frozen {
    async fn rows(
        &self,
        database: &str,
        sql: &str,
    ) -> Result<BoxStream<'_, Result<Row, database::Error>>, database::Error> {
        Ok(Self::rows(self, database, sql).await?.boxed())
    }
}

impl Rows for Live {
    async fn rows(
        &self,
        database: &str,
        sql: &str,
    ) -> Result<BoxStream<'_, Result<Row, database::Error>>, database::Error> {
        Ok(Self::rows(self, database, sql).await?.boxed())
    }
}
