//! Every table and its rows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::future::{FutureExt as _, try_join_all};

use super::objects::Listing;
use super::{CompareError, Comparison, Difference, Site};
use crate::database::catalog::{self, Table};
use crate::database::copy::RowSum;
use crate::database::{Error, load, session};
use crate::event::{Context, Event, Phase, SharedObserver, Unit};
use crate::manifest::{DatabaseSeal, Rows, TableReader};
use crate::postgres::{self, Client};

/// Rows between two events.
const STEP: u64 = 100_000;

/// Schema and name.
type Name = (String, String);

/// Counts rows over all databases.
pub(super) struct Progress {
    observer: SharedObserver,
    current: AtomicU64,
    total: u64,
}

impl Progress {
    pub fn new(context: &Context, total: u64) -> Self {
        Self { observer: context.observer.clone(), current: AtomicU64::new(0), total }
    }

    fn add(&self, rows: u64) {
        let before = self.current.fetch_add(rows, Ordering::Relaxed);
        if before / STEP != (before + rows) / STEP {
            let (phase, unit, current) = (Phase::Compare, Unit::Rows, before + rows);
            self.observer.observe(&Event::Progress { phase, unit, current, total: Some(self.total) });
        }
    }
}

/// What must be there.
struct Expected {
    /// Tables with the rows that were recorded.
    counted: BTreeMap<Name, Rows>,
    /// The columns in which their text was recorded, as far as the day tells.
    columns: BTreeMap<Name, Vec<String>>,
    /// All other tables that were recorded by name. None: no record names them.
    uncounted: Option<BTreeSet<Name>>,
}

impl Expected {
    fn read(site: &Site<'_>, seal: Option<&DatabaseSeal>) -> Result<Self, CompareError> {
        let (mut counted, mut columns) = (BTreeMap::new(), BTreeMap::new());
        for record in TableReader::open(&site.home.join("tables.jsonl"))? {
            let record = record?;
            let name = (record.schema, record.name);
            counted.insert(name.clone(), record.rows);
            columns.insert(name, record.columns);
        }
        let Some(seal) = seal else { return Ok(Self { counted, columns, uncounted: None }) };
        // What was recorded outside the day counts, whatever the day says.
        let name = |schema: &String, name: &String| (schema.clone(), name.clone());
        let counted =
            seal.tables.iter().map(|table| (name(&table.schema, &table.name), table.rows)).collect();
        let uncounted = seal.rest_tables.iter().map(|table| name(&table.schema, &table.name)).collect();
        Ok(Self { counted, columns, uncounted: Some(uncounted) })
    }

    /// Whether a table may be there: by its name, or, without a record, because the archive makes it.
    fn knows(&self, name: &Name, table: &Table, is_made: &dyn Fn() -> bool) -> bool {
        self.counted.contains_key(name)
            // An extension makes its own tables.
            || table.member
            || self.uncounted.as_ref().map_or_else(is_made, |uncounted| uncounted.contains(name))
    }
}

/// One table to be summed.
struct Task {
    name: Name,
    sql: String,
    recorded: Rows,
}

pub(super) async fn compare(
    site: &Site<'_>,
    seal: Option<&DatabaseSeal>,
    listing: &Listing,
    progress: &Progress,
    comparison: &mut Comparison,
) -> Result<(), CompareError> {
    let expected = Expected::read(site, seal)?;
    let client = site.live.session(&site.entry.name).await?;
    begin(&client).await?;
    let tables = catalog::tables(&client, site.live.version()).await?;
    let there: BTreeMap<Name, &Table> =
        tables.iter().map(|table| ((table.schema.clone(), table.name.clone()), table)).collect();
    let database = || site.entry.name.clone();
    let shown = |name: &Name| postgres::qualified(&name.0, &name.1);
    let missing = expected.counted.keys().chain(expected.uncounted.iter().flatten());
    for name in missing.filter(|name| !there.contains_key(*name)) {
        comparison.differences.push(Difference::MissingTable { database: database(), table: shown(name) });
    }
    for (name, table) in &there {
        let is_made = || listing.makes_table(&table.schema, &table.name, &site.entry.encoding);
        if !expected.knows(name, table, &is_made) {
            comparison.differences.push(Difference::ExtraTable { database: database(), table: shown(name) });
        }
    }
    comparison.uncounted +=
        there.iter().filter(|(name, table)| table.plain && !expected.counted.contains_key(*name)).count()
            as u64;
    let tasks = tasks(site, &client, &expected, &there).await?;
    client.close().await;
    comparison.tables += tasks.len() as u64;
    sum_all(site, tasks, progress, comparison).await
}

/// The largest first, so that no connection is left alone with one at the end.
async fn tasks(
    site: &Site<'_>,
    client: &Client,
    expected: &Expected,
    there: &BTreeMap<Name, &Table>,
) -> Result<VecDeque<Task>, CompareError> {
    let mut found: Vec<(&Name, Rows, u32)> = expected
        .counted
        .iter()
        .filter_map(|(name, rows)| there.get(name).map(|table| (name, *rows, table.oid)))
        .collect();
    found.sort_by_key(|(_, rows, _)| std::cmp::Reverse(rows.count));
    let oids: Vec<u32> = found.iter().map(|(_, _, oid)| *oid).collect();
    let shapes = catalog::shapes(client, &oids).await?;
    let task = |((name, recorded, _), shape): (&(&Name, Rows, u32), catalog::Shape)| {
        // The order of the columns is part of the text. A restore may give a child of an inheritance another one.
        let named = expected.columns.get(*name).filter(|columns| {
            columns.iter().collect::<BTreeSet<_>>() == shape.columns.iter().collect::<BTreeSet<_>>()
        });
        let columns = named.unwrap_or(&shape.columns);
        let sql = load::copy_out(&name.0, &name.1, columns, (0, None), &site.entry.encoding);
        Task { name: (*name).clone(), sql, recorded: *recorded }
    };
    Ok(found.iter().zip(shapes).map(task).collect())
}

async fn sum_all(
    site: &Site<'_>,
    tasks: VecDeque<Task>,
    progress: &Progress,
    comparison: &mut Comparison,
) -> Result<(), CompareError> {
    let connections = site.jobs.clamp(1, tasks.len().max(1));
    let (queue, summed) = (Mutex::new(tasks), Mutex::new(Vec::new()));
    try_join_all((0..connections).map(|_| work(site, &queue, &summed, progress).boxed())).await?;
    let mut summed = summed.into_inner().unwrap_or_else(PoisonError::into_inner);
    summed.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    for (task, found) in summed {
        comparison.rows += found.count;
        let table = postgres::qualified(&task.name.0, &task.name.1);
        comparison.differences.extend(Difference::of_rows(&site.entry.name, table, task.recorded, found));
    }
    Ok(())
}

/// One connection sums what is next, until nothing is left.
async fn work(
    site: &Site<'_>,
    queue: &Mutex<VecDeque<Task>>,
    summed: &Mutex<Vec<(Task, Rows)>>,
    progress: &Progress,
) -> Result<(), CompareError> {
    let client = site.live.session(&site.entry.name).await?;
    begin(&client).await?;
    session::speak_server_encoding(&client).await?;
    loop {
        let task = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(task) = task else { break };
        let rows = sum(&client, &task, progress).await?;
        summed.lock().unwrap_or_else(PoisonError::into_inner).push((task, rows));
    }
    client.close().await;
    Ok(())
}

async fn sum(client: &Client, task: &Task, progress: &Progress) -> Result<Rows, CompareError> {
    let failed = |error: tokio_postgres::Error| {
        let action = format!("read table {}", postgres::qualified(&task.name.0, &task.name.1));
        Error::from(client.failed(action, &error))
    };
    let mut stream = Box::pin(client.copy_out(task.sql.as_str()).await.map_err(failed)?);
    let mut sum = RowSum::default();
    let mut told = 0;
    while let Some(piece) = stream.next().await {
        sum.add(&piece.map_err(failed)?);
        if sum.count() - told >= STEP {
            progress.add(sum.count() - told);
            told = sum.count();
        }
    }
    let rows = sum.finish();
    progress.add(rows.count - told);
    Ok(rows)
}

pub(super) async fn begin(client: &Client) -> Result<(), Error> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client.batch_execute(begin).await.map_err(|error| client.failed("begin", &error).into())
}
