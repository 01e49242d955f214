//! The adapter `none`: nothing is paused; the proof is an instant without an open write transaction.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::adapter::{Adapter, Before, Proof};
use super::plan::ReleasePlan;
use super::{Error, Purpose};
use crate::{config, postgres};

/// A transaction gets a `backend_xid` with its first write; a prepared one has no session any more. Those who may not read
/// other roles' activity still see `backend_xid`.
const WRITERS: &str = "\
    SELECT format('session %s of %s in database %s', pid, usename, datname) \
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() \
    UNION ALL \
    SELECT format('prepared transaction %L of %s in database %s', gid, owner, database) FROM pg_prepared_xacts";

pub(super) struct Nothing {
    server: Option<config::Server>,
    client: Option<postgres::Client>,
    proven: bool,
    purpose: Purpose,
}

/// How long the server may take for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

impl Nothing {
    pub(super) fn new(server: Option<config::Server>, purpose: Purpose) -> Self {
        Self { server, client: None, proven: false, purpose }
    }

    async fn prove_now(&mut self) -> Result<Proof, Error> {
        match self.ask().await {
            Err(error) if self.purpose == Purpose::Restore && error.is_absence() => {
                self.client = None;
                Ok(Proof::Idle(vec![format!("nothing was paused; no writer was looked for: {error}")]))
            }
            answer => answer,
        }
    }

    async fn ask(&mut self) -> Result<Proof, Error> {
        let Some(server) = &self.server else {
            return Ok(Proof::Idle(vec!["nothing was paused, and there is no database to ask".to_owned()]));
        };
        let database = |source| Error::Database { source: Box::new(source) };
        let client = match &self.client {
            Some(client) if !client.is_closed() => client,
            _ => {
                let dbname = postgres::maintenance_database(server).map_err(database)?;
                let client = postgres::connect(server, &dbname, "daykeep hold").await.map_err(database)?;
                self.client.insert(client)
            }
        };
        let Ok(answer) = tokio::time::timeout(ANSWER_LIMIT, client.query(WRITERS, &[])).await else {
            let what = format!("database {}, asked to look for open write transactions", client.dbname());
            // The question is still open on this connection.
            self.client = None;
            return Err(Error::DatabaseSilent { what, limit: ANSWER_LIMIT });
        };
        let rows =
            answer.map_err(|error| database(client.failed("look for open write transactions", &error)))?;
        let writers: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        if writers.is_empty() {
            self.proven = true;
            return Ok(Proof::Idle(vec!["no write transaction was open; nothing was paused".to_owned()]));
        }
        if self.proven {
            // Nothing keeps an application that is not paused from writing: the freeze point is the instant of the snapshots.
            let seen = format!("nothing was paused: {} wrote at the end of the freeze", writers.join(", "));
            return Ok(Proof::Idle(vec![seen]));
        }
        Ok(Proof::Busy(writers))
    }
}

impl Adapter for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn look(&mut self) -> BoxFuture<'_, Result<Before, Error>> {
        Box::pin(async { Ok(Before::Running(ReleasePlan::Nothing)) })
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn prove(&mut self) -> BoxFuture<'_, Result<Proof, Error>> {
        Box::pin(self.prove_now())
    }

    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn pause_limit(&self) -> Duration {
        Duration::from_secs(30)
    }
}
