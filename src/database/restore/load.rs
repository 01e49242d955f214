//! Databases made beside those that are there, and filled.
//!
//! While the last indexes of one database are built, the rows of the next are loaded.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::globals::{About, Globals};
use super::plan::{Action, Creation, DatabasePlan, Survey};
use super::rows::Progress;
use super::{RestoreError, Wish, build, control, session, sql};
use crate::event::Context;
use crate::fs;
use crate::postgres::{self, Client};

/// How often, and after which time each, is looked whether the sessions have ended that were told to.
const LOOKS: usize = 600;
const PAUSE: Duration = Duration::from_millis(50);

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
    let maker = AtomicI32::new(0);
    let outcome = tokio::select! {
        // On the heap: it is large, and whoever waits for it would carry it along.
        outcome = Box::pin(load_all(wish, survey, done, record, &maker, context)) => outcome,
        () = context.cancel.cancelled() => Err(RestoreError::Cancelled),
    };
    if outcome.is_err() {
        // What the server still does for us is of no use to anybody any more.
        end_sessions(wish, survey, maker.into_inner()).await;
    }
    outcome
}

/// One database on its way.
pub(super) struct Database<'a> {
    pub(super) plan: &'a DatabasePlan,
    /// Its directory in the day.
    pub(super) home: PathBuf,
    /// The list of its archive.
    pub(super) list: &'a str,
    oid: u32,
}

/// What all databases share.
pub(super) struct Site<'a> {
    pub(super) wish: &'a Wish<'a>,
    pub(super) survey: &'a Survey,
    record: &'a Record<'a>,
    pub(super) context: &'a Context,
    pub(super) progress: Progress,
    /// As many things are done at a time.
    pub(super) slots: Semaphore,
    /// Whose rows are loaded.
    turn: tokio::sync::Mutex<()>,
}

async fn load_all(
    wish: &Wish<'_>,
    survey: &Survey,
    done: &[Loaded],
    record: &Record<'_>,
    maker: &AtomicI32,
    context: &Context,
) -> Result<Vec<Loaded>, RestoreError> {
    let moving = survey.databases.iter().zip(&survey.creations);
    let moving: Vec<_> = moving.filter(|(plan, _)| plan.action != Action::LeaveAlone).collect();
    let rows = moving.iter().map(|(plan, _)| plan.rows).sum();
    let site = Site {
        wish,
        survey,
        record,
        context,
        progress: Progress::new(context.observer.clone(), rows),
        slots: Semaphore::new(wish.jobs.max(1)),
        turn: tokio::sync::Mutex::new(()),
    };
    let names = moving.iter().map(|(plan, _)| plan.name.as_str());
    let client = control::open_for(wish.server(), wish.tag, wish.target.is_resumable(), names).await?;
    maker.store(process_of(&client).await?, Ordering::Relaxed);
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
    let left = Mutex::new(VecDeque::from(left));
    let line = || build_in_turn(&site, &client, &left);
    let (one, other) = tokio::try_join!(line(), line())?;
    loaded.extend(one.into_iter().chain(other));
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

/// Takes one database after the other, beside somebody who does the same: the next is begun when the rows of the last are loaded or
/// being loaded.
async fn build_in_turn(
    site: &Site<'_>,
    client: &Client,
    left: &Mutex<VecDeque<(&DatabasePlan, &Creation)>>,
) -> Result<Vec<Loaded>, RestoreError> {
    let mut built = Vec::new();
    loop {
        let turn = site.turn.lock().await;
        let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((plan, creation)) = next else { return Ok(built) };
        let database = make(site, client, plan, creation).await?;
        build::build(site, &database, turn).await?;
        let loaded = Loaded { name: plan.name.clone(), beside: plan.beside.clone(), oid: database.oid };
        site.tell(&Made::Database(loaded.clone()))?;
        built.push(loaded);
    }
}

/// Makes an empty database.
async fn make<'a>(
    site: &Site<'_>,
    client: &Client,
    plan: &'a DatabasePlan,
    creation: &'a Creation,
) -> Result<Database<'a>, RestoreError> {
    let home = site.wish.day.join("database").join(&plan.directory);
    for statement in &creation.statements {
        let statement = sql::rename_database(statement, &plan.name, &plan.beside);
        session::execute(client, &format!("make database {:?}", plan.name), &statement).await?;
    }
    session::execute(client, "set the session up", "SET standard_conforming_strings = on").await?;
    let sql = "SELECT oid FROM pg_catalog.pg_database WHERE datname = $1";
    let row = client.query_one(sql, &[&plan.beside]).await;
    let oid = row.and_then(|row| row.try_get(0));
    let oid = oid.map_err(|error| client.failed("find the database that was made", &error))?;
    Ok(Database { plan, home, list: &creation.list, oid })
}

/// The server's process of a session.
async fn process_of(client: &Client) -> Result<i32, RestoreError> {
    let row = client.query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await;
    let process = row.and_then(|row| row.try_get(0));
    process.map_err(|error| client.failed("ask for the session's process", &error).into())
}

/// Ends what the server does in the databases that are being loaded, and in the session that makes them, and waits until it has
/// ended: a CREATE DATABASE that nobody waits for any more would leave its database behind whoever looks for what is left.
async fn end_sessions(wish: &Wish<'_>, survey: &Survey, maker: i32) {
    let names: Vec<&str> = survey.databases.iter().map(|plan| plan.beside.as_str()).collect();
    let Ok(client) = control::anywhere(wish.server(), wish.tag).await else { return };
    let sql = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
               WHERE (datname = ANY ($1) OR pid = $2) AND pid <> pg_catalog.pg_backend_pid() \
                 AND application_name = 'daykeep restore'";
    for _ in 0..LOOKS {
        // The error that ended the loading is the one to be told.
        match client.query(sql, &[&names, &maker]).await {
            Ok(ended) if !ended.is_empty() => tokio::time::sleep(PAUSE).await,
            _ => break,
        }
    }
    client.close().await;
}
