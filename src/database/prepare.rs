//! Before the hold: everything that can fail early or takes time is done here, so that the freeze has only locks and snapshots
//! left to take.

use futures_util::future::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio_postgres::types::Type;

use super::catalog::{self, Table};
use super::{Error, session};
use crate::config;
use crate::event::{Context, Notices as _};
use crate::postgres::{self, Client, Programs};

/// A database of at least this size gets more than one connection that copies.
const WORTH_WORKERS: u64 = 64 * 1024 * 1024;
/// How many connections are made at the same time.
const CONNECT_AT_ONCE: usize = 8;
/// Connections left to others.
const LEFT_FREE: usize = 2;

/// What was found out about the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// `server_version_num`.
    pub server_version: u32,
    /// The version that the server shows.
    pub server_version_text: String,
    /// The version of the pg_dump that will be used.
    pub pg_dump_version: String,
    /// The role.
    pub user: String,
    /// The server is a standby.
    pub standby: bool,
    /// `pg_control_system().system_identifier`, if readable.
    pub system_identifier: Option<u64>,
    /// The databases that will be dumped, the largest first.
    pub databases: Vec<DatabaseInfo>,
    /// Sentences for the admin: what works, but not as he may think.
    pub warnings: Vec<String>,
    /// The role may read the passwords of roles.
    pub reads_passwords: bool,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// `pg_database.oid`.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Its encoding.
    pub encoding: String,
    /// `pg_database_size`.
    pub bytes: u64,
}

/// Every connection is made; nothing is locked yet.
#[derive(Debug)]
pub struct Prepared {
    pub(super) config: config::Database,
    pub(super) report: Report,
    pub(super) programs: Programs,
    pub(super) watch: Client,
    pub(super) databases: Vec<PreparedDatabase>,
    /// How many pg_dump processes may be connected at the same time.
    pub(super) dumps_at_once: usize,
}

impl Prepared {
    /// How large the databases are on the server, indexes and all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.databases.iter().map(|database| database.info.bytes).sum()
    }
}

/// One database's connections.
#[derive(Debug)]
pub(super) struct PreparedDatabase {
    pub info: DatabaseInfo,
    /// Holds the snapshot.
    pub keeper: Client,
    /// Its process on the server.
    pub keeper_pid: i32,
    /// Copy rows beside the keeper.
    pub workers: Vec<Client>,
    /// The tables as they were a moment ago.
    pub tables: Vec<Table>,
}

impl Prepared {
    /// What was found out.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The types of the columns that a query yields; it is not run.
    ///
    /// # Errors
    /// The database is not among those that are dumped, or the server does not understand the query.
    pub async fn columns_of(&self, dbname: &str, sql: &str) -> Result<Vec<Type>, Error> {
        let Some(database) = self.databases.iter().find(|database| database.info.name == dbname) else {
            let there = self.databases.iter().map(|database| database.info.name.clone()).collect();
            return Err(Error::NoDatabase { name: dbname.to_owned(), there });
        };
        let keeper = &database.keeper;
        // In a transaction of its own, with the role's own search_path, as the check will run it.
        let begin = "BEGIN READ ONLY; SET LOCAL search_path TO DEFAULT";
        keeper.batch_execute(begin).await.map_err(|error| keeper.failed("begin", &error))?;
        let query =
            keeper.prepare(sql).await.map_err(|error| keeper.failed("prepare the query of a check", &error));
        keeper.batch_execute("ROLLBACK").await.map_err(|error| keeper.failed("roll back", &error))?;
        Ok(query?.columns().iter().map(|column| column.type_().clone()).collect())
    }
}

/// Connects to every database, looks at versions, rights and programs, and refuses what cannot work.
///
/// # Errors
/// The server cannot be reached, pg_dump is missing or too old, a configured database is not there, the role may not read everything, or
/// there are not enough free connections. Warnings go to the report, and to the observer.
pub async fn prepare(config: &config::Database, context: &Context) -> Result<Prepared, Error> {
    let work = prepare_all(config);
    let prepared = tokio::select! {
        outcome = work => outcome?,
        () = context.cancel.cancelled() => return Err(Error::Cancelled),
    };
    for warning in &prepared.report.warnings {
        context.observer.warn(warning.clone());
    }
    Ok(prepared)
}

async fn prepare_all(config: &config::Database) -> Result<Prepared, Error> {
    let maintenance = postgres::maintenance_database(&config.server)?;
    let watch = postgres::connect(&config.server, &maintenance, "daykeep").await?;
    let server = ask_server(&watch).await?;
    let programs = postgres::find_programs(config.bin_dir.as_deref(), server.version / 10_000).await?;
    let infos = choose(&config.databases, list_databases(&watch).await?)?;
    let plan = plan_connections(config.jobs, &infos, server.free)?;
    let opening: Vec<_> = infos
        .iter()
        .zip(plan.workers)
        .map(|(info, workers)| open_database(config, info.clone(), workers, &server).boxed())
        .collect();
    let databases = stream::iter(opening).buffered(CONNECT_AT_ONCE).try_collect().await?;
    let mut warnings = server.warnings(config.globals);
    if plan.dumps_at_once < infos.len() {
        warnings.push(format!(
            "only {} of {} databases can have their pg_dump connected inside the hold; the others follow after it, and fail if \
             somebody alters their tables meanwhile: raise max_connections by {}",
            plan.dumps_at_once,
            infos.len(),
            infos.len() - plan.dumps_at_once
        ));
    }
    let report = Report {
        server_version: server.version,
        server_version_text: server.version_text.clone(),
        pg_dump_version: programs.version.text.clone(),
        user: server.user.clone(),
        standby: server.standby,
        system_identifier: system_identifier(&watch).await,
        databases: infos,
        warnings,
        reads_passwords: server.reads_passwords,
    };
    Ok(Prepared {
        config: config.clone(),
        report,
        programs,
        watch,
        databases,
        dumps_at_once: plan.dumps_at_once,
    })
}

/// What one question to the server tells.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "these are facts that do not depend on each other")]
struct Server {
    version: u32,
    version_text: String,
    user: String,
    superuser: bool,
    standby: bool,
    feedback: bool,
    reads_passwords: bool,
    prepared_transactions: i64,
    free: usize,
}

async fn ask_server(watch: &Client) -> Result<Server, Error> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_user::text, \
                 (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), pg_is_in_recovery(), \
                 current_setting('hot_standby_feedback')::bool, \
                 has_table_privilege('pg_catalog.pg_authid', 'SELECT'), \
                 (SELECT count(*) FROM pg_prepared_xacts), \
                 current_setting('max_connections')::int \
                   - CASE WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN 0 \
                     ELSE current_setting('superuser_reserved_connections')::int \
                       + coalesce(current_setting('reserved_connections', true), '0')::int END \
                   - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int";
    let read = |row: tokio_postgres::Row| -> Result<Server, tokio_postgres::Error> {
        let version: i32 = row.try_get(0)?;
        let free: i32 = row.try_get(8)?;
        Ok(Server {
            version: u32::try_from(version).unwrap_or(0),
            version_text: row.try_get(1)?,
            user: row.try_get(2)?,
            superuser: row.try_get(3)?,
            standby: row.try_get(4)?,
            feedback: row.try_get(5)?,
            reads_passwords: row.try_get(6)?,
            prepared_transactions: row.try_get(7)?,
            free: usize::try_from(free).unwrap_or(0),
        })
    };
    let row = watch.query_one(sql, &[]).await.and_then(read);
    row.map_err(|error| watch.failed("look at the server", &error).into())
}

impl Server {
    fn warnings(&self, globals: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        if globals && !self.reads_passwords {
            warnings.push(format!(
                "role {:?} may not read pg_authid: globals.sql will hold the roles without their passwords",
                self.user
            ));
        }
        if self.standby && !self.feedback {
            warnings.push(
                "the server is a standby without hot_standby_feedback: it may cancel the dump when the primary cleans up"
                    .to_owned(),
            );
        }
        if self.prepared_transactions > 0 {
            warnings.push(format!(
                "{} prepared transactions are open (pg_prepared_xacts): what they changed is in no dump",
                self.prepared_transactions
            ));
        }
        warnings
    }
}

async fn system_identifier(watch: &Client) -> Option<u64> {
    let row =
        watch.query_one("SELECT system_identifier FROM pg_catalog.pg_control_system()", &[]).await.ok()?;
    row.try_get::<_, i64>(0).ok().map(i64::cast_unsigned)
}

/// As pg_dumpall: what accepts connections and is not half removed (`datconnlimit = -2`), but for template0.
async fn list_databases(watch: &Client) -> Result<Vec<DatabaseInfo>, Error> {
    let sql = "SELECT oid, datname, pg_encoding_to_char(encoding)::text, \
                 CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END \
               FROM pg_database WHERE datallowconn AND datconnlimit <> -2 AND datname <> 'template0'";
    let rows = watch.query(sql, &[]).await.map_err(|error| watch.failed("list the databases", &error))?;
    let read = |row: &tokio_postgres::Row| -> Result<DatabaseInfo, tokio_postgres::Error> {
        let bytes: i64 = row.try_get(3)?;
        Ok(DatabaseInfo {
            oid: row.try_get(0)?,
            name: row.try_get(1)?,
            encoding: row.try_get(2)?,
            bytes: u64::try_from(bytes).unwrap_or(0),
        })
    };
    rows.iter()
        .map(|row| read(row).map_err(|error| watch.failed("list the databases", &error).into()))
        .collect()
}

/// The configured ones, the largest first.
fn choose(wanted: &config::Databases, there: Vec<DatabaseInfo>) -> Result<Vec<DatabaseInfo>, Error> {
    let (config::Databases::AllBut(named) | config::Databases::Only(named)) = wanted;
    let only = matches!(wanted, config::Databases::Only(_));
    let is_there = |name: &String| there.iter().any(|info| info.name == *name);
    // One that is left out by name may be gone.
    if only && let Some(name) = named.iter().find(|name| !is_there(name)) {
        let there = there.iter().map(|info| info.name.clone()).collect();
        return Err(Error::NoDatabase { name: name.clone(), there });
    }
    let mut chosen: Vec<DatabaseInfo> =
        there.into_iter().filter(|info| named.contains(&info.name) == only).collect();
    chosen.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    Ok(chosen)
}

/// How the free connections are used.
#[derive(Debug, PartialEq, Eq)]
struct Connections {
    /// Connections that copy beside the keeper, a database.
    workers: Vec<usize>,
    dumps_at_once: usize,
}

/// Every database needs a keeper, then its pg_dump, then the large ones more connections that copy.
fn plan_connections(jobs: usize, databases: &[DatabaseInfo], free: usize) -> Result<Connections, Error> {
    let keepers = databases.len();
    // pg_dumpall and at least one pg_dump.
    let needed = keepers + 2;
    if free < needed {
        return Err(Error::Connections { databases: keepers, needed, free });
    }
    let mut left = free - keepers - 1;
    let dumps_at_once = keepers.min(left);
    left = (left - dumps_at_once).saturating_sub(LEFT_FREE);
    let mut workers = Vec::with_capacity(keepers);
    for database in databases {
        let wanted = if database.bytes >= WORTH_WORKERS { jobs.saturating_sub(1) } else { 0 };
        let given = wanted.min(left);
        left -= given;
        workers.push(given);
    }
    Ok(Connections { workers, dumps_at_once })
}

async fn open_database(
    config: &config::Database,
    info: DatabaseInfo,
    workers: usize,
    server: &Server,
) -> Result<PreparedDatabase, Error> {
    let keeper = session::open(&config.server, &info.name, server.version).await?;
    check_rights(&keeper, server).await?;
    let keeper_pid = session::backend_pid(&keeper).await?;
    let tables = catalog::tables(&keeper, server.version).await?;
    let mut open = Vec::with_capacity(workers);
    for _ in 0..workers {
        open.push(session::open(&config.server, &info.name, server.version).await?);
    }
    Ok(PreparedDatabase { info, keeper, keeper_pid, workers: open, tables })
}

/// Everything that pg_dump and we read can be read, and no policy hides rows.
async fn check_rights(client: &Client, server: &Server) -> Result<(), Error> {
    if server.superuser {
        return Ok(());
    }
    let sql = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), \
                 CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN 'schema ' \
                      WHEN c.relkind = 'S' AND NOT has_sequence_privilege(c.oid, 'SELECT') THEN 'sequence ' \
                      WHEN c.relkind <> 'S' AND NOT has_table_privilege(c.oid, 'SELECT') THEN 'table ' \
                      ELSE 'every row (row security) of table ' END \
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' \
                 AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
                 AND (NOT has_schema_privilege(n.oid, 'USAGE') \
                   OR CASE c.relkind WHEN 'S' THEN NOT has_sequence_privilege(c.oid, 'SELECT') \
                        ELSE NOT has_table_privilege(c.oid, 'SELECT') \
                          OR (c.relrowsecurity AND NOT (SELECT rolbypassrls FROM pg_catalog.pg_roles \
                                                         WHERE rolname = current_user) \
                              AND NOT (pg_has_role(c.relowner, 'USAGE') AND NOT c.relforcerowsecurity)) END) \
               ORDER BY 1 LIMIT 1";
    let row =
        client.query_opt(sql, &[]).await.map_err(|error| client.failed("look at the rights", &error))?;
    let Some(row) = row else { return Ok(()) };
    let read =
        |place| row.try_get::<_, String>(place).map_err(|error| client.failed("look at the rights", &error));
    Err(Error::Rights {
        user: server.user.clone(),
        dbname: client.dbname().to_owned(),
        what: format!("{}{}", read(1)?, read(0)?),
    })
}

#[cfg(test)]
mod tests {
    use super::{Connections, DatabaseInfo, choose, plan_connections};
    use crate::config::Databases;

    fn database(name: &str, bytes: u64) -> DatabaseInfo {
        DatabaseInfo { oid: 1, name: name.into(), encoding: "UTF8".into(), bytes }
    }

    #[test]
    fn databases_are_chosen_and_the_largest_comes_first() {
        let there = || vec![database("a", 1), database("b", 3), database("c", 2)];
        let names = |wanted: &Databases| -> Vec<String> {
            choose(wanted, there()).unwrap().into_iter().map(|info| info.name).collect()
        };
        assert_eq!(names(&Databases::AllBut(vec![])), ["b", "c", "a"]);
        assert_eq!(names(&Databases::AllBut(vec!["b".into(), "gone".into()])), ["c", "a"]);
        assert_eq!(names(&Databases::Only(vec!["a".into()])), ["a"]);
        let error = choose(&Databases::Only(vec!["x".into()]), there()).unwrap_err();
        assert_eq!(error.to_string(), "there is no database \"x\" on the server; it has a, b, c");
    }

    #[test]
    fn connections_go_to_keepers_then_dumps_then_workers() {
        let three = [database("a", 1 << 40), database("b", 1 << 30), database("c", 1)];
        let plan = |free| plan_connections(3, &three, free);
        assert_eq!(plan(100).unwrap(), Connections { workers: vec![2, 2, 0], dumps_at_once: 3 });
        assert_eq!(plan(10).unwrap(), Connections { workers: vec![1, 0, 0], dumps_at_once: 3 });
        assert_eq!(plan(5).unwrap(), Connections { workers: vec![0, 0, 0], dumps_at_once: 1 });
        assert_eq!(
            plan(4).unwrap_err().to_string(),
            "3 databases need at least 5 connections at once, but only 4 are free; raise max_connections"
        );
    }
}
