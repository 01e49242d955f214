//! `daykeep diff`

use serde::Serialize;
use serde_json::json;

use super::failure::{Failure, Kind};
use super::figures;
use super::output::Output;
use super::place::{self, VaultArg};
use super::session::Session;
use crate::manifest::{FileRecord, Rows};
use crate::vault::{self, Difference};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(override_usage = "daykeep diff [OPTIONS] [REPO] <A> <B>")]
pub struct Args {
    /// The repository (may be left out when there is only one), the earlier day and the later day.
    #[arg(value_name = "DAY", num_args = 0..=3)]
    words: Vec<String>,
    #[command(flatten)]
    vault: VaultArg,
}

/// How many of each kind.
#[derive(Debug, Default, Serialize)]
struct Totals {
    added: u64,
    removed: u64,
    changed: u64,
    tables: u64,
}

/// Shows what differs between two days, as it is found: nothing is gathered in memory.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let (repository, words) = place::split(&args.words, 2);
    let [earlier, later] = words else {
        let failure = Failure::new(
            Kind::Usage,
            "which days? `daykeep diff [REPO] A B` needs the earlier and the later one",
        );
        return Err(failure.hint("`daykeep list` shows the days there are"));
    };
    let place = args.vault.place(session, repository)?;
    let (earlier, later) = (place.day(earlier, session)?, place.day(later, session)?);
    let mut totals = Totals::default();
    let mut told = Ok(());
    vault::diff(&earlier, &later, &mut |difference| {
        totals.count(&difference);
        // The walk cannot be stopped: once nobody reads, it only counts.
        if told.is_ok() {
            told = tell(&difference, session.out);
        }
    })?;
    told?;
    if session.out.json {
        return session.out.line(&json!({"difference": "totals", "totals": totals}));
    }
    let Totals { added, removed, changed, tables } = totals;
    session.out.say(&format!(
        "from {} to {}: {added} added, {removed} removed, {changed} changed, {} with other rows",
        earlier.name(),
        later.name(),
        figures::count(tables, "table")
    ));
    Ok(())
}

impl Totals {
    fn count(&mut self, difference: &Difference) {
        let count = match difference {
            Difference::Added(_) => &mut self.added,
            Difference::Removed(_) => &mut self.removed,
            Difference::Changed { .. } => &mut self.changed,
            Difference::Table { .. } => &mut self.tables,
        };
        *count += 1;
    }
}

fn tell(difference: &Difference, out: Output) -> Result<(), Failure> {
    if out.json { out.line(&as_json(difference)) } else { out.text(&format!("{}\n", as_line(difference))) }
}

fn as_json(difference: &Difference) -> serde_json::Value {
    match difference {
        Difference::Added(file) => json!({"difference": "added", "file": file}),
        Difference::Removed(file) => json!({"difference": "removed", "file": file}),
        Difference::Changed { before, after, what } => {
            json!({"difference": "changed", "what": what, "before": before, "after": after})
        }
        Difference::Table { database, schema, name, before, after } => json!({
            "difference": "table",
            "table": {"database": database, "schema": schema, "name": name},
            "before": before,
            "after": after,
        }),
    }
}

fn as_line(difference: &Difference) -> String {
    match difference {
        Difference::Added(file) => format!("+ {}", path_of(file)),
        Difference::Removed(file) => format!("- {}", path_of(file)),
        Difference::Changed { after, what, .. } => format!("~ {}  ({})", path_of(after), what.join(", ")),
        Difference::Table { database, schema, name, before, after } => {
            let table = format!("{database}.{schema}.{name}");
            format!("# {}  ({})", figures::name(table.as_bytes()), rows(*before, *after))
        }
    }
}

fn path_of(file: &FileRecord) -> String {
    format!("{}/{}", file.tree, figures::name(&file.path.0))
}

fn rows(before: Option<Rows>, after: Option<Rows>) -> String {
    match (before, after) {
        (Some(before), Some(after)) if before.count == after.count => {
            format!("{}, of which some are others", figures::count(after.count, "row"))
        }
        (Some(before), Some(after)) => format!("{} -> {} rows", before.count, after.count),
        (None, Some(after)) => format!("new table, {}", figures::count(after.count, "row")),
        (Some(before), None) => format!("table is gone, {}", figures::count(before.count, "row")),
        (None, None) => "no rows".to_owned(),
    }
}
