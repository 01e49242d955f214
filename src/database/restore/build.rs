//! One database from its schema to its last constraint: what was there before the rows by pg_restore, then everything that
//! [`Tasks`] knows of in as many sessions as there are jobs, then the rest of the archive by pg_restore.

use std::collections::BTreeSet;
use std::path::Path;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::load::{Database, Site};
use super::plan::DatabasePlan;
use super::postdata::{self, Rest};
use super::tasks::{Task, Tasks};
use super::{RestoreError, Target, figures, program_failed, rows, session};
use crate::database::archive;
use crate::fs;
use crate::manifest::TableRecord;
use crate::postgres::Client;

/// An archive above this is restored by several processes.
const WORTH_SPLITTING: u64 = 64 * 1024 * 1024;

/// Fills an empty database. `turn` is given back when its rows are loaded or being loaded. When it ends, the database would survive a
/// crash of the server.
///
/// # Errors
/// The day is damaged, the server refuses, or the run is cancelled.
pub async fn build<T>(site: &Site<'_>, database: &Database<'_>, turn: T) -> Result<(), RestoreError> {
    let Database { plan, home, list, .. } = database;
    let archive_path = home.join("rest.dump");
    let tables = rows::tables(site.wish, home)?;
    let oids: BTreeSet<u32> = tables.iter().map(|table| table.oid).collect();
    let failed = |source| program_failed(&plan.name, source);
    let post = async {
        let Site { survey, context, .. } = site;
        let read = postdata::read(&survey.programs, &archive_path, list, &oids, &context.cancel);
        read.await.map_err(failed)
    };
    let before = restore(site, plan, &archive_path, &["--section=pre-data"], None, 1);
    let ((), mut post) = tokio::try_join!(before, post)?;

    let client = session::open(site.wish.server(), &plan.beside).await?;
    let alone = figures::alone(&client).await?;
    let gathered = |table: &TableRecord| {
        alone.contains(&of(table)) && post.rest != Rest::All && !post.unfinished.contains(&table.oid)
    };
    let done: BTreeSet<(String, String)> = tables.iter().filter(|table| gathered(table)).map(of).collect();
    let is_large = fs::look_at(&archive_path)?.len() > WORTH_SPLITTING;
    let works = rows::share(&tables, site.wish.jobs);
    let early = std::mem::take(&mut post.early);
    let tasks = Tasks::new(&tables, works, early, !is_large, |table| done.contains(&of(table)));
    perform_all(site, database, tasks, client, turn).await?;

    if is_large {
        restore(site, plan, &archive_path, &["--section=data"], None, site.wish.jobs).await?;
    }
    let list = match &post.rest {
        Rest::Nothing => None,
        Rest::All => Some(None),
        Rest::Listed(list) => Some(Some(list.as_str())),
    };
    if let Some(list) = list {
        restore(site, plan, &archive_path, &["--section=post-data"], list, site.wish.jobs).await?;
    }
    let client = session::open(site.wish.server(), &plan.beside).await?;
    let client = figures::gather_all(site, plan, client, &done).await?;
    // A commit that waits for the disk takes all before it along.
    let durable =
        "SET synchronous_commit = on; SELECT pg_catalog.pg_logical_emit_message(true, 'daykeep', 'loaded')";
    session::execute(&client, "make it durable", durable).await?;
    client.close().await;
    Ok(())
}

fn of(table: &TableRecord) -> (String, String) {
    (table.schema.clone(), table.name.clone())
}

/// Does it all, several things at a time.
async fn perform_all<T>(
    site: &Site<'_>,
    database: &Database<'_>,
    mut tasks: Tasks<'_>,
    client: Client,
    turn: T,
) -> Result<(), RestoreError> {
    let mut turn = Some(turn);
    let mut idle = vec![client];
    let mut busy = FuturesUnordered::new();
    loop {
        while busy.len() < site.wish.jobs.max(1)
            && let Some(task) = tasks.next()
        {
            busy.push(perform(site, database, idle.pop(), task));
        }
        if tasks.has_no_rows() {
            turn.take();
        }
        let Some(ended) = busy.next().await else { break };
        let (task, client) = ended?;
        tasks.done(&task);
        idle.extend(client);
    }
    for client in idle {
        client.close().await;
    }
    Ok(())
}

/// Does one thing, in this session if it needs one and there is one; gives the session back.
async fn perform<'a>(
    site: &Site<'_>,
    database: &Database<'_>,
    client: Option<Client>,
    task: Task<'a>,
) -> Result<(Task<'a>, Option<Client>), RestoreError> {
    let _slot = site.slots.acquire().await;
    let Database { plan, home, .. } = database;
    if task == Task::Data {
        // pg_restore has a connection of its own, and there are to be no more of them than jobs.
        if let Some(client) = client {
            client.close().await;
        }
        restore(site, plan, &home.join("rest.dump"), &["--section=data"], None, 1).await?;
        return Ok((task, None));
    }
    let client = match client {
        Some(client) => client,
        None => session::open(site.wish.server(), &plan.beside).await?,
    };
    match &task {
        Task::Rows(work) => rows::load(&client, plan, work, home, &site.progress).await?,
        Task::Figures(name) => figures::gather(site, plan, &client, name).await?,
        Task::Make(entry) => {
            session::execute(&client, "set the session up", parallel(site)).await?;
            for statement in &entry.statements {
                let action = format!("do {statement:?} for database {:?}", plan.name);
                session::execute(&client, &action, statement).await?;
            }
        }
        Task::Data => {}
    }
    Ok((task, Some(client)))
}

/// Whether an index is built by several processes. Where every core has something to do already, they cost more than they gain.
fn parallel(site: &Site<'_>) -> &'static str {
    let Site { wish, survey, slots, .. } = site;
    let is_here = survey.free_bytes.is_some() || matches!(wish.target, Target::Scratch { .. });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if is_here && cores <= wish.jobs && slots.available_permits() == 0 {
        "SET max_parallel_maintenance_workers = 0"
    } else {
        "RESET max_parallel_maintenance_workers"
    }
}

/// Sections of the archive, by pg_restore.
async fn restore(
    site: &Site<'_>,
    plan: &DatabasePlan,
    path: &Path,
    sections: &[&str],
    list: Option<&str>,
    jobs: usize,
) -> Result<(), RestoreError> {
    let Site { wish, survey, context, .. } = site;
    let failed = |source| program_failed(&plan.name, source);
    let environment = session::environment(wish.server())?;
    if survey.programs.version.major >= 17 && survey.server.version < 170_000 {
        let programs = &survey.programs;
        let script = archive::Script { programs, archive: path, sections, list, environment };
        return archive::through_psql(script, &plan.beside, &context.cancel).await.map_err(failed);
    }
    let mut program = archive::command(&survey.programs, path, sections)
        .arg("--exit-on-error")
        .arg("--no-password")
        .arg(format!("--jobs={jobs}"))
        // A name with `=` in it would be read as a connection string; ours has none.
        .arg(format!("--dbname={}", plan.beside));
    if list.is_some() {
        program = program.arg(archive::USE_LIST);
    }
    for (name, value) in environment {
        program = program.env(name, value);
    }
    let input = list.unwrap_or_default().as_bytes();
    archive::answer(&program, input, &context.cancel).await.map(drop).map_err(failed)
}
