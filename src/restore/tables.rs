//! Single tables: those of a database are replaced in one transaction, made ready in the hold and ended by a COMMIT at the switch; each is
//! the day's or what it was.

use serde::{Deserialize, Serialize};

use crate::config::Server;
use crate::database::restore::{self as rows, ReadyTables, TableSurvey, TableSwap, TableWish, TableWork};
use crate::event::Context;
use crate::journal::sentence_of;
use crate::restore::error::{damaged, is_damage_of_rows};
use crate::restore::record::Durable;
use crate::restore::{Chosen, Error, Request, TableChange, TableName, Target, look};
use crate::vault::Day;

/// Tags of the tables of a job: its number, and theirs.
const TABLES_A_JOB: u64 = 1000;

/// What changes places, and on which server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tables {
    server: Server,
    swaps: Vec<TableSwap>,
}

/// What was seen of all of them.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) swaps: Vec<TableSwap>,
    pub(super) plans: Vec<TableChange>,
    pub(super) problems: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Looks at each of the chosen tables, in the day and on the server, and changes nothing.
pub(super) async fn look(
    request: &Request,
    chosen: &Chosen,
    day: &Day,
    job: u64,
    context: &Context,
) -> Result<Seen, Error> {
    let (mut seen, mut unknown) = (Seen::default(), Vec::new());
    for (tag, name) in (job.saturating_mul(TABLES_A_JOB)..).zip(&chosen.tables) {
        let wish = wish(request, day, name, tag);
        match rows::survey_table(&wish, context).await {
            Ok(survey) => seen.add(request, &wish, name, &survey)?,
            Err(rows::RestoreError::Cancelled) => return Err(Error::Cancelled),
            Err(error @ rows::RestoreError::NoSuchTable { .. }) => unknown.push(error.to_string()),
            Err(error) if is_damage_of_rows(&error, day) => return Err(damaged(request, day, &error)),
            Err(error) => seen.problems.push(format!("table {name}: {}", sentence_of(&error))),
        }
    }
    if unknown.is_empty() { Ok(seen) } else { Err(Error::NotThere { problems: unknown }) }
}

impl Seen {
    fn add(
        &mut self,
        request: &Request,
        wish: &TableWish<'_>,
        name: &TableName,
        survey: &TableSurvey,
    ) -> Result<(), Error> {
        let told = |text: &String| format!("table {name}: {text}");
        self.problems.extend(survey.problems.iter().map(told));
        self.warnings.extend(survey.notices.iter().map(told));
        if survey.live_rows.is_some() && matches!(request.target, Target::Elsewhere { .. }) {
            self.problems
                .push(format!("table {name} is on that server already, and nothing is written over there"));
        }
        self.plans.push(TableChange {
            name: name.to_string(),
            now_rows: survey.live_rows,
            rows: survey.rows,
            row_bytes: survey.row_bytes,
        });
        if survey.is_possible() {
            self.swaps.push(TableSwap::plan(wish, survey)?);
        }
        Ok(())
    }
}

fn wish<'a>(request: &Request, day: &'a Day, name: &TableName, tag: u64) -> TableWish<'a> {
    TableWish {
        day: day.path(),
        manifest: day.manifest(),
        server: look::server(request),
        bin_dir: request.repository.database.as_ref().and_then(|database| database.bin_dir.clone()),
        database: name.database.clone(),
        schema: name.schema.clone(),
        table: name.table.clone(),
        tag,
    }
}

impl Tables {
    /// `DATABASE.SCHEMA.TABLE` of each.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.swaps.iter().map(|swap| {
            let TableSwap { database, schema, table, .. } = swap.clone();
            TableName { database, schema, table }.to_string()
        })
    }
}

/// The record knows of them before they are touched.
pub(super) fn record(request: &Request, swaps: &[TableSwap], durable: &Durable) -> Result<(), Error> {
    let tables = Tables { server: look::server(request), swaps: swaps.to_vec() };
    durable.change(|record| record.tables = Some(tables))
}

/// All of it but the COMMITs, so that what stands in the way is known before anything is changed. Sessions that are dropped take
/// everything with them.
pub(super) async fn prepare(
    request: &Request,
    day: &Day,
    swaps: &[TableSwap],
    context: &Context,
) -> Result<Vec<ReadyTables>, Error> {
    let mut ready = Vec::new();
    for swaps in by_database(swaps) {
        let wishes: Vec<TableWish<'_>> = swaps.iter().map(|swap| wish_of(request, day, swap)).collect();
        let mut surveys = Vec::new();
        for wish in &wishes {
            surveys.push(rows::survey_table(wish, context).await?);
        }
        let works = swaps.iter().zip(&wishes).zip(&surveys);
        let works: Vec<_> = works.map(|((swap, wish), survey)| TableWork { swap, wish, survey }).collect();
        match rows::prepare_tables(&works, context).await {
            Ok(tables) => ready.extend(tables),
            Err(error @ rows::RestoreError::References { .. }) => {
                let problems = vec![format!("table {}: {error}", named(swaps))];
                return Err(Error::Refused { day: day.name().to_owned(), problems });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ready)
}

/// Tables of one database change places at once. They are in the order of their names, that of the database first.
fn by_database(swaps: &[TableSwap]) -> impl Iterator<Item = &[TableSwap]> {
    swaps.chunk_by(|one, next| one.database == next.database)
}

fn wish_of<'a>(request: &Request, day: &'a Day, swap: &TableSwap) -> TableWish<'a> {
    wish(request, day, &name_of(swap), swap.tag)
}

fn name_of(swap: &TableSwap) -> TableName {
    let TableSwap { database, schema, table, .. } = swap.clone();
    TableName { database, schema, table }
}

fn named(swaps: &[TableSwap]) -> String {
    swaps.iter().map(|swap| name_of(swap).to_string()).collect::<Vec<_>>().join(", ")
}

/// The day's rows take their place. What is not ready is made so: a killed restore is gone on with.
pub(super) async fn switch(
    request: &Request,
    day: &Day,
    durable: &Durable,
    ready: Vec<ReadyTables>,
    context: &Context,
) -> Result<(), Error> {
    for tables in ready {
        tables.commit().await?;
    }
    let tables = durable.with(|record| record.tables.clone()).unwrap_or_default();
    for tables in prepare(request, day, &tables.swaps, context).await? {
        tables.commit().await?;
    }
    Ok(())
}

/// What was there takes its place again.
pub(super) async fn back(durable: &Durable, context: &Context) -> Result<(), Error> {
    let tables = durable.with(|record| record.tables.clone()).unwrap_or_default();
    for swaps in by_database(&tables.swaps) {
        rows::put_tables_back(swaps, &tables.server, context).await?;
    }
    Ok(())
}

/// What was there before goes.
pub(super) async fn drop_old(durable: &Durable) -> Result<(), Error> {
    let tables = durable.with(|record| record.tables.clone()).unwrap_or_default();
    for swap in &tables.swaps {
        swap.drop_old(&tables.server).await?;
    }
    Ok(())
}
