//! The single checks of a survey. Each adds to the survey's problems or notices what it finds.

use std::collections::BTreeSet;
use std::path::Path;

use tokio_postgres::error::SqlState;

use super::apply::{self, Extent};
use super::globals::Globals;
use super::plan::{Action, ServerFacts, SessionSeen, Survey};
use super::{RestoreError, Wish, control_name, program_failed, session, sql};
use crate::event::Context;
use crate::fs;
use crate::manifest::{DatabaseEntry, DatabaseRecord};
use crate::postgres::{Client, cause_of};
use crate::process::Program;

/// What a restored database takes on the disk, of the bytes of its rows' text: heap, TOAST and indexes.
const BYTES_A_ROW_BYTE: u64 = 2;
/// What an empty database takes.
const EMPTY_DATABASE: u64 = 9 * 1024 * 1024;
/// Connections that a restore needs besides those that load.
const OTHER_CONNECTIONS: usize = 3;
/// Names that every restore of this tag uses begin so.
const OURS: &str = "daykeep_";

/// One question to the server.
pub async fn server(client: &Client) -> Result<ServerFacts, RestoreError> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_user::text, \
                 r.rolsuper, pg_is_in_recovery(), \
                 CASE WHEN r.rolsuper THEN current_setting('data_directory') END, \
                 current_setting('max_connections')::int \
                   - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int \
               FROM pg_roles r WHERE r.rolname = current_user";
    let failed = |error| client.failed("look at the server", &error);
    let row = client.query_one(sql, &[]).await.map_err(failed)?;
    let version: i32 = row.try_get(0).map_err(failed)?;
    let free: i32 = row.try_get(6).map_err(failed)?;
    Ok(ServerFacts {
        version: u32::try_from(version).unwrap_or(0),
        version_text: row.try_get(1).map_err(failed)?,
        user: row.try_get(2).map_err(failed)?,
        superuser: row.try_get(3).map_err(failed)?,
        standby: row.try_get(4).map_err(failed)?,
        data_directory: row.try_get(5).map_err(failed)?,
        free_connections: usize::try_from(free).unwrap_or(0),
    })
}

/// Whether the server is one that can take the day at all.
pub fn rights(survey: &mut Survey, record: &DatabaseRecord, wish: &Wish<'_>) {
    let server = &survey.server;
    if !server.superuser {
        survey.problems.push(format!(
            "role {:?} is no superuser of the server: only a superuser can restore owners, rights and extensions",
            server.user
        ));
    }
    if server.standby {
        survey.problems.push("the server is a standby: restore into its primary".to_owned());
    }
    let (major, day) = (server.version / 10_000, record.server_version / 10_000);
    if major < day {
        survey.problems.push(format!(
            "the server has version {major}, the day is of version {day}: databases cannot be restored into an older server"
        ));
    }
    if survey.programs.version.major >= 17 && major < 17 {
        let psql = survey.programs.path("psql");
        if !psql.is_file() {
            survey.problems.push(format!(
                "pg_restore {} cannot restore into a server of version {major} by itself, and there is no psql beside it ({})",
                survey.programs.version.text,
                psql.display()
            ));
        }
    }
    if wish.jobs == 0 {
        survey.problems.push("at least one job is needed".to_owned());
    }
}

/// A text in UTF-8, by way of the server if it is in another encoding.
pub async fn text(client: &Client, bytes: Vec<u8>, what: &str) -> Result<String, RestoreError> {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error.into_bytes(),
    };
    let line = "SET client_encoding = '";
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
    let encoding = head.lines().find_map(|text| text.strip_prefix(line)?.split('\'').next());
    let encoding = encoding.unwrap_or("SQL_ASCII").to_owned();
    let asked = client.query_one("SELECT pg_catalog.convert_from($1, $2)", &[&bytes, &encoding]).await;
    match asked.and_then(|row| row.try_get(0)) {
        Ok(text) => Ok(text),
        Err(_) => Err(RestoreError::Encoding { what: what.to_owned(), encoding }),
    }
}

/// A database of the server.
#[derive(Debug)]
pub struct Live {
    pub name: String,
    oid: u32,
    bytes: u64,
    allows_connections: bool,
}

impl Live {
    /// What happens to it when it is not left alone.
    pub fn replaced(&self) -> Action {
        Action::Replace { oid: self.oid, bytes: self.bytes, allows_connections: self.allows_connections }
    }
}

/// The databases of the server but for template0.
pub async fn databases(client: &Client) -> Result<Vec<Live>, RestoreError> {
    let sql = "SELECT datname::text, oid, pg_catalog.pg_database_size(oid), datallowconn \
               FROM pg_catalog.pg_database WHERE datname <> 'template0' ORDER BY 1";
    let failed = |error| client.failed("list the databases", &error);
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    let read = |row: &tokio_postgres::Row| {
        let bytes: i64 = row.try_get(2)?;
        Ok(Live {
            name: row.try_get(0)?,
            oid: row.try_get(1)?,
            bytes: u64::try_from(bytes).unwrap_or(0),
            allows_connections: row.try_get(3)?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| failed(error).into())
}

/// What makes the database and its properties. Of the session's settings only the one by which the texts are to be read.
pub fn creation(script: &str) -> Vec<String> {
    let makes = |statement: &&str| {
        let tokens = sql::tokens(statement);
        tokens.iter().any(|token| {
            token.is(statement, "DATABASE") || token.is(statement, "standard_conforming_strings")
        })
    };
    sql::statements(script).into_iter().filter(makes).map(str::to_owned).collect()
}

/// The extensions in an archive: lines as `4; 3079 16640 EXTENSION - btree_gist `.
pub fn extensions_of(list: &str) -> Vec<String> {
    let name = |line: &str| {
        let what = line.splitn(4, ' ').nth(3)?.strip_prefix("EXTENSION - ")?;
        Some(what.split(' ').next()?.to_owned())
    };
    list.lines().filter_map(name).collect()
}

/// Whether the archive holds nothing but the database itself.
pub fn is_bare(list: &str, entry: &DatabaseEntry) -> bool {
    const OF_ITSELF: [&str; 8] = [
        "DATABASE - ",
        "DATABASE PROPERTIES - ",
        "COMMENT - DATABASE ",
        "ACL - DATABASE ",
        "SECURITY LABEL - DATABASE ",
        "ENCODING - ",
        "STDSTRINGS - ",
        "SEARCHPATH - ",
    ];
    let kinds = list.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
    let kinds = kinds.map(|line| line.splitn(4, ' ').nth(3).unwrap_or(line));
    matches!(entry.name.as_str(), "postgres" | "template1")
        && kinds.into_iter().all(|kind| OF_ITSELF.iter().any(|of| kind.starts_with(of)))
}

/// Whether nobody has put anything into a database of the server.
pub async fn holds_nothing(wish: &Wish<'_>, live: &Live) -> Result<bool, RestoreError> {
    if !live.allows_connections {
        return Ok(false);
    }
    let client = session::open(wish.server(), &live.name).await?;
    // What initdb makes has a smaller OID.
    let sql = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid >= 16384) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE oid >= 16384) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_type WHERE oid >= 16384) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE oid >= 16384) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE oid >= 16384) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_default_acl) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_foreign_server)";
    let row = client.query_one(sql, &[]).await;
    let nothing = row.and_then(|row| row.try_get(0));
    let nothing = nothing.map_err(|error| client.failed("look into it", &error))?;
    client.close().await;
    Ok(nothing)
}

/// Whether the server's database is made by the same statements as the day's.
pub async fn same_properties(
    wish: &Wish<'_>,
    survey: &Survey,
    entry: &DatabaseEntry,
    of_the_day: &[String],
    context: &Context,
) -> Result<bool, RestoreError> {
    let mut program = Program::new([survey.programs.path("pg_dump")])
        .arg("--create")
        .arg("--schema-only")
        .arg("--no-password");
    for (name, value) in session::environment(wish.server())? {
        program = program.env(name, value);
    }
    program = program.env("PGDATABASE", Some(entry.name.clone().into()));
    let said = program.run(&context.cancel).await.map_err(|source| program_failed(&entry.name, source))?;
    let live = creation(&String::from_utf8_lossy(&said));
    Ok(live == of_the_day)
}

/// Whether a database that is there may be replaced.
pub async fn place(wish: &Wish<'_>, live: &Live, survey: &mut Survey) -> Result<(), RestoreError> {
    if wish.target.replaces() {
        return Ok(());
    }
    let initial = matches!(live.name.as_str(), "postgres" | "template1");
    if !initial || !holds_nothing(wish, live).await? {
        survey.problems.push(format!(
            "the server has a database {:?} already: restore into an empty server, or drop it first",
            live.name
        ));
    }
    Ok(())
}

/// Whether the server would make the database: its encoding, locale, tablespace. It is asked for one of a name that is taken, which it
/// refuses after it has looked at everything else (`createdb` in dbcommands.c).
pub async fn try_creation(
    client: &Client,
    entry: &DatabaseEntry,
    creation: &[String],
    survey: &mut Survey,
) -> Result<(), RestoreError> {
    let Some(statement) = creation.iter().find(|statement| is_creation(statement)) else {
        survey.problems.push(format!("rest.dump of database {:?} does not create it", entry.name));
        return Ok(());
    };
    let taken = sql::rename_database(statement, &entry.name, "template0");
    let taken = without_new_tablespace(&taken, survey);
    let Err(error) = client.batch_execute(&taken).await else {
        // Only without template0, which every server has.
        return Ok(());
    };
    if error.code() == Some(&SqlState::DUPLICATE_DATABASE) {
        return Ok(());
    }
    if error.as_db_error().is_none() {
        return Err(client.failed("try to make a database", &error).into());
    }
    survey.problems.push(format!("the server cannot make database {:?}: {}", entry.name, cause_of(&error)));
    Ok(())
}

fn is_creation(statement: &str) -> bool {
    let tokens = sql::tokens(statement);
    tokens.first().is_some_and(|token| token.is(statement, "CREATE"))
}

/// A tablespace that will be made is not there when the statement is tried.
fn without_new_tablespace(statement: &str, survey: &Survey) -> String {
    let tokens = sql::tokens(statement);
    let at = tokens.iter().rposition(|token| token.is(statement, "TABLESPACE"));
    let named = at.and_then(|at| Some((tokens[at].span.start, tokens.get(at + 2)?)));
    match named {
        Some((start, token))
            if survey.new_tablespaces.iter().any(|(name, _)| token.name(statement) == Some(name)) =>
        {
            format!("{}{}", &statement[..start], &statement[token.span.end..])
        }
        _ => statement.to_owned(),
    }
}

/// Whether every extension can be installed.
pub async fn extensions(
    client: &Client,
    wanted: &BTreeSet<String>,
    survey: &mut Survey,
) -> Result<(), RestoreError> {
    let wanted: Vec<&String> = wanted.iter().collect();
    let sql = "SELECT w FROM unnest($1::text[]) w WHERE w NOT IN (SELECT name FROM pg_catalog.pg_available_extensions) ORDER BY 1";
    let failed = |error| client.failed("look at the extensions", &error);
    for row in client.query(sql, &[&wanted]).await.map_err(failed)? {
        let name: String = row.try_get(0).map_err(failed)?;
        survey.problems.push(format!(
            "extension {name:?} is not available on the server: install the package that has it"
        ));
    }
    Ok(())
}

/// What an earlier restore of the same tag has left aside must not be in the way.
pub fn names(wish: &Wish<'_>, there: &[Live], survey: &mut Survey) {
    let aside: BTreeSet<&str> = survey.databases.iter().map(|database| database.aside.as_str()).collect();
    let in_the_way: Vec<String> = there
        .iter()
        .filter(|live| aside.contains(live.name.as_str()))
        .map(|live| {
            format!(
                "the server has a database {:?} from an earlier restore: confirm it or undo it first",
                live.name
            )
        })
        .collect();
    survey.problems.extend(in_the_way);
    let control = control_name(wish.tag);
    let others = there.iter().filter(|live| live.name.starts_with(OURS) && live.name != control);
    let others: Vec<String> = others
        .filter(|live| !live.name.ends_with(&format!("_{}", wish.tag)))
        .filter(|live| !live.name.contains(&format!("_{}_", wish.tag)))
        .map(|live| format!("database {:?} of another restore is on the server", live.name))
        .collect();
    survey.notices.extend(others);
}

/// Enough connections for those that load.
pub fn connections(survey: &mut Survey, wish: &Wish<'_>) {
    // Those that load are gone when pg_restore builds indexes; the next database's rows load meanwhile.
    let needed = 2 * wish.jobs + OTHER_CONNECTIONS;
    if survey.server.free_connections < needed {
        survey.problems.push(format!(
            "{needed} connections are needed, but only {} are free; use fewer jobs or raise max_connections",
            survey.server.free_connections
        ));
    }
}

/// Who is in the databases that are replaced, and what keeps them from being renamed or dropped.
pub async fn sessions(client: &Client, survey: &mut Survey) -> Result<(), RestoreError> {
    let replaced: Vec<&str> = survey
        .databases
        .iter()
        .filter(|database| matches!(database.action, Action::Replace { .. }))
        .map(|database| database.name.as_str())
        .collect();
    let failed = |error| client.failed("look at the sessions", &error);
    let sql = "SELECT datname::text, coalesce(usename, '')::text, coalesce(application_name, ''), \
                 coalesce(client_addr::text, ''), count(*) \
               FROM pg_catalog.pg_stat_activity \
               WHERE datname = ANY ($1) AND pid <> pg_catalog.pg_backend_pid() AND backend_type <> 'autovacuum worker' \
               GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4";
    for row in client.query(sql, &[&replaced]).await.map_err(failed)? {
        let count: i64 = row.try_get(4).map_err(failed)?;
        survey.sessions.push(SessionSeen {
            database: row.try_get(0).map_err(failed)?,
            user: row.try_get(1).map_err(failed)?,
            application: row.try_get(2).map_err(failed)?,
            address: row.try_get(3).map_err(failed)?,
            count: u64::try_from(count).unwrap_or(0),
        });
    }
    let sql = "SELECT database::text, count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = ANY ($1) GROUP BY 1 ORDER BY 1";
    for row in client.query(sql, &[&replaced]).await.map_err(failed)? {
        let (name, count): (String, i64) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        survey.problems.push(format!(
            "database {name:?} has {count} prepared transactions (pg_prepared_xacts): commit them or roll them back first"
        ));
    }
    let sql = "SELECT slot_name::text, database::text FROM pg_catalog.pg_replication_slots WHERE database = ANY ($1) ORDER BY 1";
    for row in client.query(sql, &[&replaced]).await.map_err(failed)? {
        let (slot, name): (String, String) =
            (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        survey.notices.push(format!(
            "replication slot {slot:?} belongs to database {name:?}: it stays with what is moved aside, and goes when the restore is confirmed"
        ));
    }
    Ok(())
}

/// Room on the disk of the server, when this machine has it.
pub async fn space(wish: &Wish<'_>, client: &Client, survey: &mut Survey) -> Result<(), RestoreError> {
    let mut needed = 0;
    for database in survey.databases.iter().filter(|database| database.action != Action::LeaveAlone) {
        let archive = wish.day.join("database").join(&database.directory).join("rest.dump");
        let rest = fs::look_at(&archive)?.len();
        let estimate = database.row_bytes * BYTES_A_ROW_BYTE + rest * 4 + EMPTY_DATABASE;
        needed += match database.action {
            // As large as it is now; a day of fewer rows needs less, one of more rows more.
            Action::Replace { bytes, .. } => estimate.min(bytes.max(database.row_bytes + rest)),
            _ => estimate,
        };
    }
    survey.needed_bytes = needed;
    if matches!(wish.target, super::Target::Scratch { .. }) {
        // Who made that server has looked.
        return Ok(());
    }
    let Some(directory) = survey.server.data_directory.clone() else { return Ok(()) };
    if !is_here(client, Path::new(&directory)).await {
        survey.notices.push(format!(
            "the server's disk cannot be seen from here: it must have about {} free",
            size(needed)
        ));
        return Ok(());
    }
    let free = fs::volume(Path::new(&directory))?.free_bytes;
    survey.free_bytes = Some(free);
    if free < needed {
        survey.problems.push(format!(
            "the databases need about {} on the disk of {directory}, which has {} free",
            size(needed),
            size(free)
        ));
    }
    Ok(())
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// Whether the server's data directory is this machine's: its file of the running server is the same.
async fn is_here(client: &Client, directory: &Path) -> bool {
    let Ok(Some(ours)) = fs::read_if_exists(&directory.join("postmaster.pid")) else { return false };
    let asked = client.query_one("SELECT pg_catalog.pg_read_file('postmaster.pid')", &[]).await;
    asked.and_then(|row| row.try_get::<_, String>(0)).is_ok_and(|theirs| theirs.as_bytes() == ours.as_slice())
}

/// The tablespaces that are missing, and whether their directories are there.
pub async fn tablespaces(
    wish: &Wish<'_>,
    client: &Client,
    day: &Globals,
    survey: &mut Survey,
) -> Result<(), RestoreError> {
    let failed = |error| client.failed("look at the tablespaces", &error);
    let sql = "SELECT spcname::text FROM pg_catalog.pg_tablespace";
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    let there: Vec<String> =
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(failed)?;
    for (number, (name, location)) in day.tablespaces().into_iter().enumerate() {
        if there.iter().any(|known| known == name) {
            continue;
        }
        let own = wish.target.tablespaces();
        let location = match own {
            Some(below) => below.join(format!("tablespace{number}")).display().to_string(),
            None => location.to_owned(),
        };
        survey.new_tablespaces.push((name.to_owned(), location.clone()));
        if own.is_some() {
            continue;
        }
        let sql = "SELECT coalesce((SELECT isdir FROM pg_catalog.pg_stat_file($1, true)), false), \
                     EXISTS (SELECT FROM pg_catalog.pg_ls_dir($1, true, false))";
        let asked = client.query_one(sql, &[&location]).await;
        match asked.and_then(|row| Ok((row.try_get::<_, bool>(0)?, row.try_get::<_, bool>(1)?))) {
            Ok((true, false)) => {}
            Ok((true, true)) => survey.problems.push(format!(
                "directory {location} of tablespace {name:?} is not empty on the server: move away what is in it"
            )),
            Ok((false, _)) => survey.problems.push(format!(
                "directory {location} of tablespace {name:?} is not there on the server: make it, for the server's user alone"
            )),
            Err(error) => survey.problems.push(format!(
                "directory {location} of tablespace {name:?} cannot be looked at: {}",
                cause_of(&error)
            )),
        }
    }
    Ok(())
}

/// Tries what the day says of roles, and rolls it back.
pub async fn try_globals(
    wish: &Wish<'_>,
    client: &Client,
    day: &Globals,
    survey: &mut Survey,
) -> Result<(), RestoreError> {
    let created: BTreeSet<String> = survey.roles.created.iter().cloned().collect();
    let extent = if wish.globals { Extent::All } else { Extent::Roles(&created) };
    session::execute(client, "begin", "BEGIN; SET LOCAL lock_timeout = '10s'").await?;
    let tried = apply::apply(client, day, extent).await;
    session::execute(client, "roll back", "ROLLBACK").await?;
    match tried {
        Ok(()) => {}
        Err(error @ RestoreError::Globals { .. }) => {
            survey.problems.push(format!("the roles of the day cannot be restored: {error}"));
        }
        Err(error) => return Err(error),
    }
    let kept = day.by_role().contains_key(survey.server.user.as_str());
    if kept && wish.globals && survey.roles.changed.contains(&survey.server.user) {
        survey.notices.push(format!(
            "role {:?}, as which this restore connects, keeps its attributes and its password",
            survey.server.user
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{creation, extensions_of};

    #[test]
    fn extensions_are_found_in_the_list() {
        let list = ";\n4; 3079 16640 EXTENSION - btree_gist \n4246; 0 0 COMMENT - EXTENSION btree_gist \n\
                    217; 1259 16385 TABLE public EXTENSION owner\n5; 3079 1 EXTENSION - uuid-ossp \n";
        assert_eq!(extensions_of(list), ["btree_gist", "uuid-ossp"]);
    }

    #[test]
    fn what_makes_a_database_is_told_from_the_session() {
        let script = "SET statement_timeout = 0;\nSET standard_conforming_strings = off;\nSELECT pg_catalog.set_config('search_path', '', false);\n\
                      CREATE DATABASE shop WITH TEMPLATE = template0;\n\\connect shop\nCOMMENT ON DATABASE shop IS 'x';\n";
        assert_eq!(
            creation(script),
            [
                "SET standard_conforming_strings = off",
                "CREATE DATABASE shop WITH TEMPLATE = template0",
                "COMMENT ON DATABASE shop IS 'x'"
            ]
        );
    }
}
