//! The single checks of a survey. Each adds to the survey's problems or notices what it finds.

use std::collections::BTreeSet;
use std::path::Path;

use super::apply::{self, Extent};
use super::databases::Live;
use super::globals::Globals;
use super::plan::{Action, ServerFacts, SessionSeen, Survey};
use super::{RestoreError, Target, Wish, control_name, session};
use crate::fs;
use crate::manifest::DatabaseRecord;
use crate::postgres::{Client, cause_of};

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
        if !survey.programs.version.restricts_psql() {
            survey.problems.push(format!(
                "pg_restore {} cannot keep psql from running commands that are hidden in an archive (CVE-2025-8714), and a restore into \
                 a server of version {major} would go through psql: install its newest minor version, or programs of version {major}",
                survey.programs.version.text
            ));
        }
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
    // Two databases are built at a time: the last indexes of one while the rows of the next load.
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
    // A server that is thrown away has a role of its own, of which nobody need hear.
    if survey.roles.keeps_own && !matches!(wish.target, Target::Scratch { .. }) {
        survey.notices.push(format!(
            "role {:?}, as which this restore connects, is not changed to what it was: it keeps its attributes and its password",
            survey.server.user
        ));
    }
    Ok(())
}
