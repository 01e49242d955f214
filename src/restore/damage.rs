//! Damage of the day, and whether it is in the way of what is restored.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Context, Notices as _};
use crate::restore::{Chosen, Error, Request, TableName, Target};
use crate::vault::Day;
use crate::verify::{self, Damage, Fault, Part};

/// How many damages an error tells one by one.
const TOLD: usize = 10;

/// Holds what is chosen of the day against its digests, records and seal: every byte of it, but for those that are held against their
/// digests on their way, before anything of them has its name.
pub(super) async fn none_in_bytes(
    day: &Day,
    chosen: &Chosen,
    request: &Request,
    context: &Context,
) -> Result<(), Error> {
    let report = verify::day(day, &needed(chosen, request), context).await?;
    let (hurts, passes): (Vec<&Damage>, Vec<&Damage>) =
        report.damages.iter().partition(|damage| is_in_the_way(damage, chosen));
    for damage in passes {
        context
            .observer
            .warn(format!("the day is damaged, though not what is restored: {}", sentence(damage)));
    }
    if hurts.is_empty() && report.total <= report.damages.len() as u64 {
        return Ok(());
    }
    Err(in_the_way(day, request, &hurts, report.total))
}

fn in_the_way(day: &Day, request: &Request, hurts: &[&Damage], total: u64) -> Error {
    let problems = hurts.iter().take(TOLD).map(|damage| sentence(damage)).collect();
    let day = day.name().to_owned();
    Error::Damaged { verify: request.verify_command(&day), day, total, problems }
}

/// What of the day is needed for what is chosen.
fn needed(chosen: &Chosen, request: &Request) -> verify::Choice {
    let databases = chosen.databases.iter().chain(chosen.tables.iter().map(|table| &table.database));
    let mut tables: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for TableName { database, schema, table } in &chosen.tables {
        tables.entry(database.clone()).or_default().insert((schema.clone(), table.clone()));
    }
    verify::Choice {
        databases: verify::Chosen::Only(databases.cloned().collect()),
        tables,
        trees: verify::Chosen::Only(chosen.touched_trees().into_iter().map(str::to_owned).collect()),
        bin_dir: request.repository.database.as_ref().and_then(|database| database.bin_dir.clone()),
        sample: is_one_piece_elsewhere(chosen, request).then_some(verify::Sample { percent: 0.0, seed: 0 }),
        ..verify::Choice::default()
    }
}

/// What is read before the day is verified: what says what it is, and its lists. What of it is not in the way is told later.
pub(super) async fn none_in_lists(
    day: &Day,
    chosen: &Chosen,
    request: &Request,
    context: &Context,
) -> Result<(), Error> {
    let report = verify::lists(day, &needed(chosen, request), context).await?;
    let hurts: Vec<&Damage> = report.damages.iter().filter(|damage| is_in_the_way(damage, chosen)).collect();
    if hurts.is_empty() {
        return Ok(());
    }
    Err(in_the_way(day, request, &hurts, report.total))
}

/// A restore that replaces nothing, holds nothing and puts what it brings in place at once: the databases, or one tree. Damage that is met while
/// it is brought costs nobody anything.
fn is_one_piece_elsewhere(chosen: &Chosen, request: &Request) -> bool {
    let trees = chosen.trees.len() + chosen.paths.len();
    let pieces = usize::from(!chosen.databases.is_empty()) + chosen.tables.len() + trees;
    matches!(request.target, Target::Elsewhere { .. }) && pieces == 1
}

/// The guide is not read by a restore, and what does not belong to the day is passed over by it. Single tables bring no roles, and need
/// nothing of what restore.sh loads all tables by.
fn is_in_the_way(damage: &Damage, chosen: &Chosen) -> bool {
    match &damage.part {
        _ if damage.fault == Fault::Foreign => false,
        Part::Guide => false,
        Part::Globals => !chosen.databases.is_empty(),
        Part::Database { name } => {
            chosen.databases.contains(name) || damage.file.as_path().file_name() != Some("load.txt".as_ref())
        }
        _ => true,
    }
}

fn sentence(damage: &Damage) -> String {
    format!("{}: {}; {}", verify::shown(&damage.file), damage.problem, damage.means)
}
