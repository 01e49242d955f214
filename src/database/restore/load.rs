//! Databases made beside those that are there, and filled: rows through parallel COPYs, everything else by pg_restore.
//!
//! While the indexes of one database are built, the rows of the next are loaded.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::globals::{About, Globals};
use super::plan::{Action, DatabasePlan, Survey};
use super::rows::{self, Progress};
use super::{RestoreError, Wish, control, program_failed, session, sql};
use crate::database::archive;
use crate::event::{Context, Notices as _};
use crate::fs;
use crate::postgres::{self, Client};

/// What was made or is about to be made, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// These roles will be made now, without the right to log in.
    Roles(Vec<String>),
    /// These tablespaces will be made now.
    Tablespaces(Vec<String>),
    /// This database is loaded completely, and would survive a crash of the server.
    Database(Loaded),
}

/// A database that was loaded completely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Its name in the day.
    pub name: String,
    /// What it is called now.
    pub beside: String,
    /// Its `pg_database.oid`.
    pub oid: u32,
}

/// Told of everything that is made. An error ends the loading.
pub type Record<'a> = dyn Fn(&Made) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Sync + 'a;

/// Loads the databases of the survey beside those that are there. `done` is what was told as loaded by an earlier call with the
/// same tag: it is kept when it is still there. Gives all that is loaded now.
///
/// # Errors
/// Something stands in the way, the day is damaged, the server refuses, or the run is cancelled. What was made until then stands
/// beside, for [`Beside::discard`](super::Beside::discard) or for the next call; what is in use is as it was.
pub async fn load(
    wish: &Wish<'_>,
    survey: &Survey,
    done: &[Loaded],
    record: &Record<'_>,
    context: &Context,
) -> Result<Vec<Loaded>, RestoreError> {
    if !survey.is_possible() {
        return Err(RestoreError::Refused { problems: survey.problems.clone() });
    }
    let outcome = tokio::select! {
        outcome = load_all(wish, survey, done, record, context) => outcome,
        () = context.cancel.cancelled() => Err(RestoreError::Cancelled),
    };
    if outcome.is_err() {
        // What the server still does for us is of no use to anybody any more.
        end_sessions(wish, survey).await;
    }
    outcome
}

/// One database on its way.
struct Database<'a> {
    plan: &'a DatabasePlan,
    /// Its directory in the day.
    home: PathBuf,
    oid: u32,
}

struct Site<'a> {
    wish: &'a Wish<'a>,
    survey: &'a Survey,
    record: &'a Record<'a>,
    context: &'a Context,
    progress: Progress,
}

async fn load_all(
    wish: &Wish<'_>,
    survey: &Survey,
    done: &[Loaded],
    record: &Record<'_>,
    context: &Context,
) -> Result<Vec<Loaded>, RestoreError> {
    let moving = survey.databases.iter().zip(&survey.creations);
    let moving: Vec<_> = moving.filter(|(plan, _)| plan.action != Action::LeaveAlone).collect();
    let rows = moving.iter().map(|(plan, _)| plan.rows).sum();
    let site =
        Site { wish, survey, record, context, progress: Progress::new(context.observer.clone(), rows) };
    let names = moving.iter().map(|(plan, _)| plan.name.as_str());
    let client = control::open_for(wish.server(), wish.tag, wish.target.is_resumable(), names).await?;
    make_roles(&site, &client).await?;
    make_tablespaces(&site, &client).await?;
    let mut loaded = still_there(&client, done).await?;
    drop_leftovers(&client, wish.tag, &loaded).await?;
    let kept: BTreeSet<String> = loaded.iter().map(|loaded| loaded.name.clone()).collect();
    for (plan, _) in moving.iter().filter(|(plan, _)| kept.contains(&plan.name)) {
        site.progress.add(plan.rows);
    }
    let mut left: Vec<_> = moving.into_iter().filter(|(plan, _)| !kept.contains(&plan.name)).collect();
    // The largest first: what comes behind its rows is done while others load.
    left.sort_by_key(|(plan, _)| std::cmp::Reverse(plan.row_bytes));
    let (sender, mut filled) = mpsc::channel::<Database<'_>>(1);
    let first = async {
        for (plan, creation) in left {
            let database = fill(&site, &client, plan, creation).await?;
            if sender.send(database).await.is_err() {
                break;
            }
        }
        drop(sender);
        Ok::<_, RestoreError>(())
    };
    let second = async {
        let mut finished = Vec::new();
        while let Some(database) = filled.recv().await {
            finished.push(finish(&site, database).await?);
        }
        Ok::<_, RestoreError>(finished)
    };
    let ((), finished) = tokio::try_join!(first, second)?;
    loaded.extend(finished);
    site.progress.finish();
    client.close().await;
    Ok(loaded)
}

impl Site<'_> {
    fn tell(&self, made: &Made) -> Result<(), RestoreError> {
        (self.record)(made).map_err(RestoreError::Record)
    }

    /// Where the tablespace is to be.
    fn location(&self, name: &str) -> Option<&str> {
        let found = self.survey.new_tablespaces.iter().find(|(known, _)| known == name);
        found.map(|(_, location)| location.as_str())
    }
}

async fn make_roles(site: &Site<'_>, client: &Client) -> Result<(), RestoreError> {
    let missing = &site.survey.roles.created;
    if missing.is_empty() {
        return Ok(());
    }
    site.tell(&Made::Roles(missing.clone()))?;
    for role in missing {
        let make = format!("CREATE ROLE {} NOLOGIN", postgres::identifier(role));
        session::execute(client, &format!("make role {role:?}"), &make).await?;
    }
    Ok(())
}

async fn make_tablespaces(site: &Site<'_>, client: &Client) -> Result<(), RestoreError> {
    let missing: Vec<String> = site.survey.new_tablespaces.iter().map(|(name, _)| name.clone()).collect();
    let Some(script) = site.survey.globals.as_ref().filter(|_| !missing.is_empty()) else { return Ok(()) };
    site.tell(&Made::Tablespaces(missing))?;
    for statement in Globals::parse(script).statements {
        let About::CreateTablespace { name, owner, .. } = &statement.about else { continue };
        let Some(location) = site.location(name) else { continue };
        if let Some(below) = site.wish.target.tablespaces() {
            make_directory(below, Path::new(location))?;
        }
        let make = format!(
            "CREATE TABLESPACE {} OWNER {} LOCATION {}",
            postgres::identifier(name),
            postgres::identifier(owner),
            postgres::literal(location)
        );
        session::execute(client, &format!("make tablespace {name:?}"), &make).await?;
    }
    Ok(())
}

/// A directory that belongs to whom the one above it belongs: the server's user.
fn make_directory(above: &Path, directory: &Path) -> Result<(), RestoreError> {
    fs::create_dir_durable(directory)?;
    let owner = fs::look_at(above)?;
    fs::give_to(directory, owner.uid(), owner.gid())?;
    fs::set_mode(directory, 0o700)?;
    Ok(())
}

/// Those that are still what they were when they were told.
async fn still_there(client: &Client, done: &[Loaded]) -> Result<Vec<Loaded>, RestoreError> {
    let sql = "SELECT oid, datname::text FROM pg_catalog.pg_database WHERE datconnlimit <> -2";
    let failed = |error| client.failed("list the databases", &error);
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    let there = rows.iter().map(|row| Ok((row.try_get::<_, u32>(0)?, row.try_get::<_, String>(1)?)));
    let there: BTreeSet<(u32, String)> = there.collect::<Result<_, _>>().map_err(failed)?;
    Ok(done.iter().filter(|done| there.contains(&(done.oid, done.beside.clone()))).cloned().collect())
}

/// What a killed restore of this tag has left half loaded.
async fn drop_leftovers(client: &Client, tag: u64, kept: &[Loaded]) -> Result<(), RestoreError> {
    let kept: Vec<&str> = kept.iter().map(|loaded| loaded.beside.as_str()).collect();
    for name in control::databases_of(client, &format!("daykeep_new_{tag}_")).await? {
        if !kept.contains(&name.as_str()) {
            control::drop_database(client, &name).await?;
        }
    }
    Ok(())
}

/// Makes the database, its schema and its rows.
async fn fill<'a>(
    site: &Site<'_>,
    client: &Client,
    plan: &'a DatabasePlan,
    creation: &[String],
) -> Result<Database<'a>, RestoreError> {
    let home = site.wish.day.join("database").join(&plan.directory);
    for statement in creation {
        let statement = sql::rename_database(statement, &plan.name, &plan.beside);
        session::execute(client, &format!("make database {:?}", plan.name), &statement).await?;
    }
    session::execute(client, "set the session up", "SET standard_conforming_strings = on").await?;
    let sql = "SELECT oid FROM pg_catalog.pg_database WHERE datname = $1";
    let row = client.query_one(sql, &[&plan.beside]).await;
    let oid = row.and_then(|row| row.try_get(0));
    let oid = oid.map_err(|error| client.failed("find the database that was made", &error))?;
    let database = Database { plan, home, oid };
    sections(site, &database, &["--section=pre-data"], 1).await?;
    rows::load(site.wish, plan, &database.home, &site.progress).await?;
    Ok(database)
}

/// What comes behind the rows: large objects, sequences, indexes, constraints, triggers, figures for the planner.
async fn finish(site: &Site<'_>, database: Database<'_>) -> Result<Loaded, RestoreError> {
    let Database { plan, oid, .. } = database;
    sections(site, &database, &["--section=data", "--section=post-data"], site.wish.jobs).await?;
    analyze(site, plan).await?;
    let client = session::open(site.wish.server(), &plan.beside).await?;
    // A commit that waits for the disk takes all before it along.
    let durable =
        "SET synchronous_commit = on; SELECT pg_catalog.pg_logical_emit_message(true, 'daykeep', 'loaded')";
    session::execute(&client, "make it durable", durable).await?;
    client.close().await;
    let loaded = Loaded { name: plan.name.clone(), beside: plan.beside.clone(), oid };
    site.tell(&Made::Database(loaded.clone()))?;
    Ok(loaded)
}

/// Sections of the archive, by pg_restore.
async fn sections(
    site: &Site<'_>,
    database: &Database<'_>,
    sections: &[&str],
    jobs: usize,
) -> Result<(), RestoreError> {
    let Site { wish, survey, context, .. } = site;
    let plan = database.plan;
    let archive_path = database.home.join("rest.dump");
    let failed = |source| program_failed(&plan.name, source);
    let environment = session::environment(wish.server())?;
    if survey.programs.version.major >= 17 && survey.server.version < 170_000 {
        let script =
            archive::Script { programs: &survey.programs, archive: &archive_path, sections, environment };
        return archive::through_psql(script, &plan.beside, &context.cancel).await.map_err(failed);
    }
    let mut program = archive::command(&survey.programs, &archive_path, sections)
        .arg("--exit-on-error")
        .arg("--no-password")
        .arg(format!("--jobs={jobs}"))
        // A name with `=` in it would be read as a connection string; ours has none.
        .arg(format!("--dbname={}", plan.beside));
    for (name, value) in environment {
        program = program.env(name, value);
    }
    program.run(&context.cancel).await.map(drop).map_err(failed)
}

/// Figures for the planner. They are no part of what is restored: a foreign table that cannot be reached stops nothing.
async fn analyze(site: &Site<'_>, plan: &DatabasePlan) -> Result<(), RestoreError> {
    let client = session::open(site.wish.server(), &plan.beside).await?;
    let failed = |error| client.failed("list its tables", &error);
    let mut tables = Vec::new();
    for row in client.query(ANALYZED, &[]).await.map_err(failed)? {
        tables.push(row.try_get::<_, String>(0).map_err(failed)?);
    }
    client.close().await;
    let left = std::sync::Mutex::new(tables.into_iter());
    let worker = async || {
        let client = session::open(site.wish.server(), &plan.beside).await?;
        loop {
            let next = left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
            let Some(table) = next else { break };
            if let Err(error) = client.batch_execute(&format!("ANALYZE {table}")).await {
                if client.is_closed() {
                    return Err(client.failed(format!("analyze {table}"), &error).into());
                }
                let cause = postgres::cause_of(&error);
                site.context.observer.warn(format!(
                    "table {table} of database {:?} has no figures for the planner: {cause}",
                    plan.name
                ));
            }
        }
        client.close().await;
        Ok::<_, RestoreError>(())
    };
    futures_util::future::try_join_all((0..site.wish.jobs).map(|_| worker())).await?;
    Ok(())
}

/// Largest first. A partitioned table or a parent brings its children along; one that has a foreign table among them is left out, as its
/// server may be anywhere.
const ANALYZED: &str = "WITH RECURSIVE below AS ( \
        SELECT inhparent AS top, inhrelid AS oid FROM pg_catalog.pg_inherits \
        UNION SELECT b.top, i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid), \
      far AS (SELECT DISTINCT b.top FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.oid WHERE c.relkind = 'f') \
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) \
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'm', 'p') AND c.oid >= 16384 AND n.nspname !~ '^pg_' AND c.oid NOT IN (SELECT top FROM far) \
       AND NOT EXISTS (SELECT FROM below b JOIN pg_catalog.pg_class p ON p.oid = b.top \
                        WHERE b.oid = c.oid AND p.relkind = 'p' AND p.oid NOT IN (SELECT top FROM far)) \
       AND (c.relkind <> 'm' OR c.relispopulated) \
     ORDER BY pg_catalog.pg_table_size(c.oid) DESC, 1";

/// Ends what the server does in the databases that are being loaded.
async fn end_sessions(wish: &Wish<'_>, survey: &Survey) {
    let names: Vec<&str> = survey.databases.iter().map(|plan| plan.beside.as_str()).collect();
    let Ok(client) = control::anywhere(wish.server(), wish.tag).await else { return };
    let sql = "SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
               WHERE datname = ANY ($1) AND pid <> pg_catalog.pg_backend_pid() AND application_name = 'daykeep restore'";
    // The error that ended the loading is the one to be told.
    let _ = client.query(sql, &[&names]).await;
    client.close().await;
}
