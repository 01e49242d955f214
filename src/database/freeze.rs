//! The freeze point of the databases, inside the hold.
//!
//! For each database, all at once:
//!
//! 1. The keeper begins a transaction and locks every table (ACCESS SHARE) *before* its snapshot exists: a LOCK takes none. So no TRUNCATE or ALTER
//!    can come between the snapshot and the lock, which would make a table silently empty.
//! 2. It exports its snapshot and lists the tables again, inside it. A table that was not locked is new: everything is undone and
//!    tried again.
//! 3. Its workers import the snapshot and lock too, without waiting long: when somebody's ALTER TABLE stands in the queue behind the keeper,
//!    a worker would wait for it, and it for the keeper, which PostgreSQL cannot see. Then everything is undone, the ALTER goes through, and all is
//!    tried again.
//! 4. pg_dump is started with the snapshot, and is waited for until it holds its locks, for the same reason.
//!
//! After this nobody can change a table under a connection that will read it, and the repository can be released.

use std::time::Duration;

use futures_util::future::{FutureExt as _, try_join_all};
use tokio::sync::Semaphore;

use super::catalog::{self, Table};
use super::claim::{self, Circumstances};
use super::frozen::{Frozen, FrozenDatabase, SAVEPOINT};
use super::prepare::{Prepared, PreparedDatabase, Report};
use super::rest::Rest;
use super::{Error, blockers, globals};
use crate::clock::SharedClock;
use crate::config;
use crate::event::Context;
use crate::manifest;
use crate::postgres::{self, Client, Programs};

/// However little of `lock_timeout` is left, a lock is waited for this long.
const LEAST_WAIT: Duration = Duration::from_millis(100);
/// pg_dump that ends with the same words so many times does not end because of what others do meanwhile.
const SAME_WORDS: u32 = 3;
/// How long a worker or pg_dump may wait for a lock that the keeper has already: only somebody's queued change keeps it from them.
const FOLLOWER_WAIT: Duration = Duration::from_millis(100);
/// pg_dump's own limit: it is ended long before, when it is seen waiting.
const REST_WAIT: Duration = Duration::from_secs(5);
/// How many pg_dump processes start at the same time.
const STARTS_AT_ONCE: usize = 8;

impl Prepared {
    /// Takes the freeze point: see the head of this module.
    ///
    /// # Errors
    /// A table stayed locked for longer than `lock_timeout` (the error names who has it), tables kept changing, pg_dump could not be
    /// started, or a session was lost.
    pub async fn freeze(self, _still: &impl manifest::Still, context: &Context) -> Result<Frozen, Error> {
        tokio::select! {
            outcome = self.freeze_all(context) => outcome,
            () = context.cancel.cancelled() => Err(Error::Cancelled),
        }
    }

    async fn freeze_all(self, context: &Context) -> Result<Frozen, Error> {
        let Self { config, report, programs, watch, databases, dumps_at_once } = self;
        let wal_begin = wal_position(&watch).await?;
        let globals = config.globals.then(|| globals::start(&config, &programs, &report)).transpose()?;
        let site = Site {
            config: &config,
            report: &report,
            programs: &programs,
            watch: &watch,
            clock: context.clock.clone(),
            starts: Semaphore::new(STARTS_AT_ONCE),
        };
        let all = databases.into_iter().enumerate();
        let databases = try_join_all(
            all.map(|(place, database)| freeze_one(&site, database, place < dumps_at_once).boxed()),
        )
        .await?;
        let instant = context.clock.now();
        let wal_end = wal_position(&watch).await?;
        Ok(Frozen { config, report, programs, watch, databases, globals, instant, wal_begin, wal_end })
    }
}

async fn wal_position(watch: &Client) -> Result<String, Error> {
    let sql = "SELECT coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text, '')";
    let row = watch.query_one(sql, &[]).await.and_then(|row| row.try_get(0));
    row.map_err(|error| watch.failed("ask for the WAL position", &error).into())
}

/// What the freeze of each database shares.
struct Site<'a> {
    config: &'a config::Database,
    report: &'a Report,
    programs: &'a Programs,
    watch: &'a Client,
    clock: SharedClock,
    starts: Semaphore,
}

/// What keeps a follower from its locks.
const SOMEBODY: &str = "somebody waits to change a table that is locked already";

/// Why an attempt came to nothing.
enum Failed {
    /// Somebody changed the tables: once more.
    Again(String),
    /// pg_dump failed: because somebody changed what it looked at, or for good.
    Program(Error),
    /// It cannot be done.
    ForGood(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::ForGood(error)
    }
}

async fn freeze_one(
    site: &Site<'_>,
    prepared: PreparedDatabase,
    with_rest: bool,
) -> Result<FrozenDatabase, Error> {
    let PreparedDatabase { info, keeper, keeper_pid, workers, tables } = prepared;
    let mut database = FrozenDatabase {
        info,
        keeper,
        workers,
        snapshot: String::new(),
        tables,
        ours: Vec::new(),
        rest: None,
    };
    // `lock_timeout` is for all attempts together: the repository stands still meanwhile.
    let limit = site.clock.monotonic() + site.config.lock_timeout;
    let mut attempts = 0;
    let (mut words, mut repeated) = (String::new(), 0);
    loop {
        attempts += 1;
        let wait = limit.saturating_sub(site.clock.monotonic()).max(LEAST_WAIT);
        let last = match attempt_freeze(site, &mut database, keeper_pid, with_rest, wait).await {
            Ok(()) => return Ok(database),
            Err(Failed::ForGood(error)) => return Err(error),
            Err(Failed::Program(error)) => {
                let now = error.to_string();
                repeated = if now == words { repeated + 1 } else { 1 };
                if repeated >= SAME_WORDS {
                    return Err(error);
                }
                words.clone_from(&now);
                now
            }
            Err(Failed::Again(why)) => why,
        };
        undo(&mut database, &last).await?;
        if site.clock.monotonic() > limit {
            return Err(Error::Restless { dbname: database.info.name, attempts, last });
        }
        database.tables = catalog::tables(&database.keeper, site.report.server_version).await?;
    }
}

/// Gives up what an attempt has. When the session is gone, why the attempt came to nothing is what tells who ended it.
async fn undo(database: &mut FrozenDatabase, why: &str) -> Result<(), Error> {
    if let Some(rest) = database.rest.take() {
        rest.kill().await;
    }
    for client in database.workers.iter().chain([&database.keeper]) {
        client.batch_execute("ROLLBACK").await.map_err(|error| Error::Lost {
            dbname: client.dbname().to_owned(),
            cause: format!("{}, after: {why}", postgres::cause_of(&error)),
        })?;
    }
    Ok(())
}

async fn attempt_freeze(
    site: &Site<'_>,
    database: &mut FrozenDatabase,
    keeper_pid: i32,
    with_rest: bool,
    wait: Duration,
) -> Result<(), Failed> {
    lock_first(site, database, keeper_pid, wait).await?;
    let keeper = &database.keeper;
    let row = keeper.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]).await;
    database.snapshot = row
        .and_then(|row| row.try_get(0))
        .map_err(|error| Error::from(keeper.failed("export its snapshot", &error)))?;
    let seen = catalog::tables(keeper, site.report.server_version).await?;
    if seen.iter().map(|table| table.oid).ne(database.tables.iter().map(|table| table.oid)) {
        return Err(Failed::Again("tables were created or dropped".to_owned()));
    }
    if changed_before_the_lock(keeper, &unspeakable(&seen)).await? {
        return Err(Failed::Again("a table was truncated or rewritten".to_owned()));
    }
    let circumstances = Circumstances {
        server_version: site.report.server_version,
        standby: site.report.standby,
        encoding: &database.info.encoding,
    };
    database.ours = claim::claimed(&seen, circumstances);
    database.tables = seen;
    let ours: Vec<&Table> = database.ours.iter().filter_map(|place| database.tables.get(*place)).collect();
    try_join_all(database.workers.iter().map(|worker| follow(worker, &database.snapshot, &ours).boxed()))
        .await?;
    if with_rest {
        start_rest(site, database).await?;
    }
    let settle = format!("SET LOCAL lock_timeout = 0; SAVEPOINT {SAVEPOINT}");
    let keeper = &database.keeper;
    keeper
        .batch_execute(&settle)
        .await
        .map_err(|error| Error::from(keeper.failed("set a savepoint", &error)))?;
    Ok(())
}

fn lock_statement(tables: &[&Table]) -> String {
    if tables.is_empty() {
        return String::new();
    }
    let names: Vec<String> = tables
        .iter()
        .map(|table| {
            format!("ONLY {}.{}", postgres::identifier(&table.schema), postgres::identifier(&table.name))
        })
        .collect();
    format!("LOCK TABLE {} IN ACCESS SHARE MODE;", names.join(", "))
}

fn unspeakable(tables: &[Table]) -> Vec<u32> {
    tables.iter().filter(|table| !table.speakable).map(|table| table.oid).collect()
}

/// Locks tables whose names cannot be sent. This takes a snapshot first: [`changed_before_the_lock`] tells what came between.
fn lock_by_oid(oids: &[u32]) -> String {
    if oids.is_empty() {
        return String::new();
    }
    let list = oids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "DO $$ DECLARE t pg_catalog.oid; BEGIN FOREACH t IN ARRAY ARRAY[{list}]::pg_catalog.oid[] LOOP \
           EXECUTE 'LOCK TABLE ONLY ' || t::pg_catalog.regclass || ' IN ACCESS SHARE MODE'; END LOOP; END $$;"
    )
}

/// Whether a table was truncated or rewritten between the snapshot and its lock: it would be empty in the dump.
async fn changed_before_the_lock(keeper: &Client, oids: &[u32]) -> Result<bool, Error> {
    if oids.is_empty() {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1::oid[]) \
                 AND c.relfilenode <> coalesce(pg_catalog.pg_relation_filenode(c.oid), 0))";
    let row = keeper.query_one(sql, &[&oids]).await.and_then(|row| row.try_get(0));
    row.map_err(|error| keeper.failed("look at its tables", &error).into())
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;";

/// The keeper's locks, before its snapshot.
async fn lock_first(
    site: &Site<'_>,
    database: &FrozenDatabase,
    keeper_pid: i32,
    wait: Duration,
) -> Result<(), Failed> {
    let keeper = &database.keeper;
    let sql = format!(
        "{BEGIN} SET LOCAL lock_timeout = {}; {} {}",
        wait.as_millis().max(1),
        lock_statement(&database.tables.iter().filter(|table| table.speakable).collect::<Vec<_>>()),
        lock_by_oid(&unspeakable(&database.tables))
    );
    let (outcome, blockers) = blockers::watched(site.watch, keeper_pid, keeper.batch_execute(&sql)).await;
    let Err(error) = outcome else { return Ok(()) };
    match error.code().map(tokio_postgres::error::SqlState::code) {
        // undefined_table, invalid_schema_name, deadlock_detected
        Some("42P01" | "3F000" | "40P01") => Err(Failed::Again(postgres::cause_of(&error))),
        Some("55P03") => Err(Error::Locked {
            dbname: database.info.name.clone(),
            waited: site.config.lock_timeout,
            blockers,
        }
        .into()),
        _ => Err(Error::from(keeper.failed("lock its tables", &error)).into()),
    }
}

/// A worker's snapshot and locks.
async fn follow(worker: &Client, snapshot: &str, ours: &[&Table]) -> Result<(), Failed> {
    let sql = format!(
        "{BEGIN} SET TRANSACTION SNAPSHOT {}; SET LOCAL lock_timeout = {}; {} SET LOCAL lock_timeout = 0",
        postgres::literal(snapshot),
        FOLLOWER_WAIT.as_millis(),
        lock_statement(ours)
    );
    let Err(error) = worker.batch_execute(&sql).await else { return Ok(()) };
    match error.code().map(tokio_postgres::error::SqlState::code) {
        Some("55P03" | "40P01") => Err(Failed::Again(SOMEBODY.to_owned())),
        _ => Err(Error::from(worker.failed("take over the snapshot", &error)).into()),
    }
}

async fn start_rest(site: &Site<'_>, database: &mut FrozenDatabase) -> Result<(), Failed> {
    // The semaphore is never closed.
    let _one_of_few = site.starts.acquire().await;
    let locked: Vec<u32> =
        database.tables.iter().filter(|table| !table.member).map(|table| table.oid).collect();
    if blockers::somebody_waits(site.watch, database.info.oid, &locked).await? {
        // pg_dump takes its time to start: it would only come to stand behind them.
        return Err(Failed::Again(SOMEBODY.to_owned()));
    }
    let mut rest = Rest::start(&database.order(site.config, site.programs, REST_WAIT))?;
    let outcome = rest.locked(site.watch, database.info.oid, &locked).await;
    match outcome {
        Ok(true) => {
            database.rest = Some(rest);
            Ok(())
        }
        Ok(false) => {
            rest.kill().await;
            Err(Failed::Again(SOMEBODY.to_owned()))
        }
        // Somebody's change stood in the queue, or a view was dropped while pg_dump looked at it.
        Err(error @ Error::Program { .. }) => Err(Failed::Program(error)),
        Err(error) => Err(error.into()),
    }
}
