//! `daykeep check`

use std::collections::BTreeSet;

use serde_json::json;

use super::failure::{Failure, Kind};
use super::figures::{self, Page};
use super::place;
use super::session::{Session, wait_for};
use crate::config::Repository;
use crate::crosscheck;
use crate::database::Live;
use crate::event::Context;
use crate::manifest::CheckRecord;
use crate::tree::DayTree;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository; may be left out when only one is configured.
    #[arg(value_name = "REPO")]
    repository: Option<String>,
}

/// Looks for the file of every row of the live repository. Every check is made, however the one before it ended.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let config = session.config()?;
    let repository = place::configured(&config, args.repository.as_deref())?;
    let Some(database) = repository.database.as_ref().filter(|_| !repository.checks.is_empty()) else {
        let failure = Failure::new(Kind::Usage, format!("{} has no cross-check", repository.name));
        return Err(failure.hint("[repository.NAME.check.CHECK] says which rows have files"));
    };
    let context = session.context();
    let outcomes = wait_for(async {
        let live = Live::connect(&database.server)
            .await
            .map_err(|error| Failure::of(Kind::Failed, &error).hint(hint(&error.into(), &repository.name)))?;
        Ok(made(repository, &live, &context).await)
    })?;
    tell(repository, outcomes, session)
}

type Outcome = (String, Result<CheckRecord, crosscheck::Error>);

async fn made(repository: &Repository, live: &Live, context: &Context) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for check in repository.checks.values() {
        let tree = repository.trees.get(&check.tree).map(|tree| DayTree::open(&tree.path));
        let outcome = match tree {
            Some(Ok(tree)) => crosscheck::cross_check(check, live, &tree, context).await,
            Some(Err(error)) => Err(error.into()),
            // The configuration was checked: a check has its tree.
            None => continue,
        };
        outcomes.push((check.name.clone(), outcome));
    }
    outcomes
}

fn tell(repository: &Repository, outcomes: Vec<Outcome>, session: &Session) -> Result<(), Failure> {
    let mut page = Page::default();
    let (mut records, mut failed) = (Vec::new(), Vec::new());
    for (name, outcome) in outcomes {
        match outcome {
            Ok(record) => {
                let rows = figures::count(record.rows, "row");
                page.line(format!("check {name}: {rows}, {} without a file", record.missing));
                records.push(record);
            }
            Err(error) => failed.push((name, error)),
        }
    }
    if session.out.json {
        let failed: Vec<_> =
            failed.iter().map(|(name, error)| json!({"check": name, "error": error.to_string()})).collect();
        session.out.document(&json!({"repository": repository.name, "checks": records, "failed": failed}))?;
    } else {
        session.out.text(&page.0)?;
    }
    let hints: BTreeSet<String> = failed.iter().map(|(_, error)| hint(error, &repository.name)).collect();
    let mut failed = failed.into_iter();
    let Some((_, first)) = failed.next() else { return Ok(()) };
    // What keeps one check from being made keeps others, too: it is told once.
    let mut told = BTreeSet::from([first.to_string()]);
    let rest: Vec<String> =
        failed.map(|(_, error)| error.to_string()).filter(|error| told.insert(error.clone())).collect();
    if session.out.json {
        return Err(Failure::told(Kind::Failed));
    }
    let failure = Failure::of(Kind::Failed, &first).caused_by(rest.iter().map(String::as_str));
    Err(hints.into_iter().fold(failure, Failure::hint))
}

/// What to do about a check that failed: a file that is missing is another thing than a question that nobody answered.
fn hint(error: &crosscheck::Error, repository: &str) -> String {
    let lost = |what: &str, part: &str| {
        format!(
            "no row was looked at: {what}; if it is lost, `daykeep restore {repository} latest --only {part} --plan` shows what the \
             newest day brings back"
        )
    };
    match error {
        crosscheck::Error::FilesMissing { .. } | crosscheck::Error::Cancelled => {
            "what changes while it is looked at may be told wrongly: check again before you restore"
                .to_owned()
        }
        crosscheck::Error::CheckQuery { check, .. } => {
            format!("mend the query of [repository.{repository}.check.{check}]")
        }
        crosscheck::Error::Database(_) => lost("the database does not answer", "database"),
        crosscheck::Error::Tree(_) => lost("the tree cannot be read", "trees"),
    }
}
