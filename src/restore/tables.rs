//! Single tables: each is replaced in one transaction, at the switch, and is the day's or what it was.

use serde::{Deserialize, Serialize};

use crate::config::Server;
use crate::database::restore::{self as rows, State, TableSurvey, TableSwap, TableWish};
use crate::event::Context;
use crate::restore::error::sentence_of;
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
    let mut seen = Seen::default();
    for (tag, name) in (job.saturating_mul(TABLES_A_JOB)..).zip(&chosen.tables) {
        let wish = wish(request, day, name, tag);
        match rows::survey_table(&wish, context).await {
            Ok(survey) => seen.add(request, &wish, name, &survey)?,
            Err(rows::RestoreError::Cancelled) => return Err(Error::Cancelled),
            Err(error) => seen.problems.push(format!("table {name}: {}", sentence_of(&error))),
        }
    }
    Ok(seen)
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

/// The day's rows take their place.
pub(super) async fn switch(
    request: &Request,
    day: &Day,
    durable: &Durable,
    context: &Context,
) -> Result<(), Error> {
    let tables = durable.with(|record| record.tables.clone()).unwrap_or_default();
    for swap in &tables.swaps {
        replace(request, day, swap, context).await?;
    }
    Ok(())
}

/// One of them; done already, it stays.
pub(super) async fn replace(
    request: &Request,
    day: &Day,
    swap: &TableSwap,
    context: &Context,
) -> Result<(), Error> {
    let TableSwap { database, schema, table, tag, .. } = swap.clone();
    let wish = wish(request, day, &TableName { database, schema, table }, tag);
    if swap.state(&wish.server).await? == State::After {
        return Ok(());
    }
    let survey = rows::survey_table(&wish, context).await?;
    Ok(swap.forward(&wish, &survey, context).await?)
}

/// What was there takes its place again, in the opposite order.
pub(super) async fn back(durable: &Durable, context: &Context) -> Result<(), Error> {
    let tables = durable.with(|record| record.tables.clone()).unwrap_or_default();
    for swap in tables.swaps.iter().rev() {
        swap.back(&tables.server, context).await?;
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
