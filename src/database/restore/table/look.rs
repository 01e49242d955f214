//! What stands in the way of replacing a table, found out before anything is changed.

use super::{TableSurvey, TableWish, pieces, references};
use crate::database::archive;
use crate::database::restore::{RestoreError, program_failed, session, survey};
use crate::event::Context;
use crate::manifest::{TableReader, TableRecord};
use crate::postgres::{self, Client, qualified};

/// Tables of a like name that an error tells.
const ALIKE: usize = 3;

/// Looks at the table, in the day and on the server. Changes nothing.
///
/// # Errors
/// The day has no such database or table, cannot be read, the server cannot be reached, or the run is cancelled.
pub async fn look(wish: &TableWish<'_>, context: &Context) -> Result<TableSurvey, RestoreError> {
    tokio::select! {
        outcome = look_at(wish, context) => outcome,
        () = context.cancel.cancelled() => Err(RestoreError::Cancelled),
    }
}

async fn look_at(wish: &TableWish<'_>, context: &Context) -> Result<TableSurvey, RestoreError> {
    let day = &wish.manifest.day;
    let record =
        wish.manifest.database.as_ref().ok_or_else(|| RestoreError::NoDatabase { day: day.clone() })?;
    let entry = record.databases.iter().find(|entry| entry.name == wish.database).ok_or_else(|| {
        let held = record.databases.iter().map(|entry| format!("{:?}", entry.name)).collect();
        RestoreError::NoSuchDatabase { day: day.clone(), name: wish.database.clone(), held }
    })?;
    let home = wish.day.join("database").join(&entry.directory);
    let client = session::open(&wish.server, &wish.database).await?;
    let dumper = archive::major_of(&record.pg_dump_version).unwrap_or(0).max(record.server_version / 10_000);
    let mut survey = TableSurvey {
        rows: 0,
        row_bytes: 0,
        live_rows: None,
        references: Vec::new(),
        problems: Vec::new(),
        notices: Vec::new(),
        programs: postgres::find_programs(wish.bin_dir.as_deref(), dumper).await?,
        record: None,
        home,
        encoding: entry.encoding.clone(),
        pieces: None,
    };
    look_at_role(&client, &mut survey).await?;
    let Some(table) = find(wish, &survey)? else {
        known_otherwise(wish, &survey, context).await?;
        survey.problems.push(format!(
            "the rows of {} are not in the day by themselves (it is a partitioned table or a view, or belongs to an extension): restore \
             database {:?}",
            shown(wish),
            wish.database
        ));
        return Ok(survey);
    };
    survey.rows = table.rows.count;
    survey.row_bytes = table.segments.iter().map(|segment| segment.bytes).sum();
    match find_live(wish, &client).await? {
        Some(live) => compare(wish, &client, &table, live, &mut survey).await?,
        None => find_pieces(wish, &table, &mut survey, context).await?,
    }
    survey.record = Some(table);
    client.close().await;
    Ok(survey)
}

/// The table for people.
pub fn shown(wish: &TableWish<'_>) -> String {
    qualified(&wish.schema, &wish.table)
}

async fn look_at_role(client: &Client, survey: &mut TableSurvey) -> Result<(), RestoreError> {
    let sql = "SELECT rolname::text, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let failed = |error| client.failed("look at the role", &error);
    let row = client.query_one(sql, &[]).await.map_err(failed)?;
    let (user, superuser): (String, bool) =
        (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    if !superuser {
        survey.problems.push(format!(
            "role {user:?} is no superuser of the server: only a superuser can put rows past triggers and foreign keys"
        ));
    }
    Ok(())
}

/// The day's record of it.
fn find(wish: &TableWish<'_>, survey: &TableSurvey) -> Result<Option<TableRecord>, RestoreError> {
    let list = survey.home.join("tables.jsonl");
    survey::check_digest(wish.day, wish.manifest, &list)?;
    for table in TableReader::open(&list)? {
        let table = table?;
        if table.schema == wish.schema && table.name == wish.table {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// What is no table with rows of its own is in the archive, or in none.
async fn known_otherwise(
    wish: &TableWish<'_>,
    survey: &TableSurvey,
    context: &Context,
) -> Result<(), RestoreError> {
    let path = survey.home.join("rest.dump");
    survey::check_digest(wish.day, wish.manifest, &path)?;
    let failed = |source| program_failed(&wish.database, source);
    let list = archive::list(&survey.programs, &path, &context.cancel).await.map_err(failed)?;
    if pieces::names_relation(&list, &wish.schema, &wish.table) {
        return Ok(());
    }
    let mut alike = Vec::new();
    for table in TableReader::open(&survey.home.join("tables.jsonl"))? {
        let table = table?;
        if table.name.eq_ignore_ascii_case(&wish.table) && alike.len() < ALIKE {
            alike.push(qualified(&table.schema, &table.name));
        }
    }
    let (day, dbname) = (wish.manifest.day.clone(), wish.database.clone());
    Err(RestoreError::NoSuchTable { day, dbname, name: shown(wish), alike })
}

/// The table on the server.
struct Live {
    oid: u32,
    kind: String,
    rows: u64,
}

/// The table of this name, if there is one.
async fn find_live(wish: &TableWish<'_>, client: &Client) -> Result<Option<Live>, RestoreError> {
    let sql = "SELECT c.oid, c.relkind::text, greatest(c.reltuples, 0)::bigint \
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2";
    let failed = |error| client.failed(format!("look for {}", shown(wish)), &error);
    let Some(row) = client.query_opt(sql, &[&wish.schema, &wish.table]).await.map_err(failed)? else {
        return Ok(None);
    };
    let rows: i64 = row.try_get(2).map_err(failed)?;
    Ok(Some(Live {
        oid: row.try_get(0).map_err(failed)?,
        kind: row.try_get(1).map_err(failed)?,
        rows: u64::try_from(rows).unwrap_or(0),
    }))
}

async fn compare(
    wish: &TableWish<'_>,
    client: &Client,
    table: &TableRecord,
    live: Live,
    survey: &mut TableSurvey,
) -> Result<(), RestoreError> {
    survey.live_rows = Some(live.rows);
    if live.kind != "r" {
        survey.problems.push(format!("{} is no plain table on the server", shown(wish)));
        return Ok(());
    }
    let failed = |error| client.failed(format!("look at {}", shown(wish)), &error);
    let sql = "SELECT attname::text FROM pg_catalog.pg_attribute \
               WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum";
    let rows = client.query(sql, &[&live.oid]).await.map_err(failed)?;
    let columns: Vec<String> =
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(failed)?;
    let quoted =
        |names: Vec<&String>| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let missing: Vec<&String> = table.columns.iter().filter(|name| !columns.contains(name)).collect();
    let new: Vec<&String> = columns.iter().filter(|name| !table.columns.contains(name)).collect();
    if !missing.is_empty() || !new.is_empty() {
        let mut how = Vec::new();
        if !missing.is_empty() {
            how.push(format!("the server's lacks {}", quoted(missing)));
        }
        if !new.is_empty() {
            how.push(format!("the day's lacks {}", quoted(new)));
        }
        survey.problems.push(format!("the columns of {} differ: {}", shown(wish), how.join(", and ")));
    }
    always_in_force(wish, client, live.oid, survey).await?;
    for reference in references::of_table(client, live.oid).await? {
        if reference.question.is_none() {
            survey.problems.push(format!(
                "the foreign key {} is over periods, which cannot be checked here: restore the whole database",
                reference.name
            ));
        }
        survey.references.push(reference.name);
    }
    if !survey.references.is_empty() {
        survey.notices.push(format!(
            "its rows and those of other tables are held against each other before anything is changed, by {}",
            survey.references.join(", ")
        ));
    }
    Ok(())
}

/// Triggers and rules that act even on a replica would act on the rows that come and go.
async fn always_in_force(
    wish: &TableWish<'_>,
    client: &Client,
    oid: u32,
    survey: &mut TableSurvey,
) -> Result<(), RestoreError> {
    let sql = "SELECT 'trigger', tgname::text FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND tgenabled IN ('A', 'R') AND NOT tgisinternal \
               UNION ALL SELECT 'rule', rulename::text FROM pg_catalog.pg_rewrite WHERE ev_class = $1 AND ev_enabled IN ('A', 'R') ORDER BY 1, 2";
    let failed = |error| client.failed(format!("look at {}", shown(wish)), &error);
    for row in client.query(sql, &[&oid]).await.map_err(failed)? {
        let (kind, name): (String, String) =
            (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        survey.problems.push(format!(
            "{kind} {name:?} of {} is enabled ALWAYS or on a REPLICA and would act on the rows that come and go: disable it first",
            shown(wish)
        ));
    }
    Ok(())
}

/// Of what the table that is missing is made.
async fn find_pieces(
    wish: &TableWish<'_>,
    table: &TableRecord,
    survey: &mut TableSurvey,
    context: &Context,
) -> Result<(), RestoreError> {
    let path = survey.home.join("rest.dump");
    survey::check_digest(wish.day, wish.manifest, &path)?;
    let failed = |source| program_failed(&wish.database, source);
    let args = ["--list", "--verbose"];
    let list = archive::ask(&survey.programs, &path, &args, &[], &context.cancel).await.map_err(failed)?;
    let list = String::from_utf8_lossy(&list);
    match pieces::of_table(&list, table.oid, &table.schema, &table.name) {
        None => survey.problems.push(format!("rest.dump does not make {}", shown(wish))),
        Some(pieces) => {
            for key in &pieces.of_others {
                survey.notices.push(format!(
                    "a foreign key of another table to {} is not made again: {key}",
                    shown(wish)
                ));
            }
            survey.pieces = Some(pieces);
        }
    }
    Ok(())
}
