//! `daykeep release`

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::failure::{Failure, Kind};
use super::figures::{self, Page};
use super::place;
use super::session::{Session, wait_for};
use crate::fs;
use crate::hold::{self, Leftover, Outcome};

/// Where the holds are recorded when no configuration says otherwise.
const STATE_DIR: &str = "/var/lib/daykeep";

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository; may be left out when only one is configured.
    #[arg(value_name = "REPO")]
    repository: Option<String>,
    /// Every repository, whether it is still configured or not.
    #[arg(long, conflicts_with = "repository")]
    all: bool,
    /// Even when its run lives: the run then fails, because it no longer knows that the repository stands still.
    #[arg(long)]
    force: bool,
    /// Where the holds are recorded, when that is not where the configuration says.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Releases what was left paused. Whatever is wrong with the configuration, this must work: the records have all it needs.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let state_dir = args.state_dir.clone().unwrap_or_else(|| state_dir(session));
    let repository = match (&args.repository, args.all) {
        // One that is no longer configured may still be held.
        (Some(name), _) => Some(name.clone()),
        (None, true) => None,
        (None, false) => Some(the_only_one(session)?),
    };
    let context = session.context();
    let leftovers = wait_for(async {
        Ok(hold::release_leftovers(&state_dir, repository.as_deref(), args.force, &context).await?)
    })?;
    tell(&leftovers, session)
}

fn state_dir(session: &Session) -> PathBuf {
    match session.config() {
        Ok(config) => config.state_dir,
        Err(failure) => {
            let state_dir = state_dir_of(&session.config_path);
            session.out.warn(failure.text());
            session.out.say(&format!("the holds that are recorded in {} are looked at", state_dir.display()));
            state_dir
        }
    }
}

/// What a configuration that is wrong elsewhere says of the state directory.
fn state_dir_of(config: &Path) -> PathBuf {
    let text = fs::read_to_string(config).unwrap_or_default();
    // It stands before the first table, so what is broken below does not matter.
    let head: String =
        text.split_inclusive('\n').take_while(|line| !line.trim_start().starts_with('[')).collect();
    let table: toml::Table = toml::from_str(&head).unwrap_or_default();
    table.get("state_dir").and_then(toml::Value::as_str).unwrap_or(STATE_DIR).into()
}

fn the_only_one(session: &Session) -> Result<String, Failure> {
    let config = session.config()?;
    let only =
        place::configured(&config, None).map_err(|failure| failure.hint("--all releases every one"))?;
    Ok(only.name.clone())
}

fn tell(leftovers: &[Leftover], session: &Session) -> Result<(), Failure> {
    if session.out.json {
        let holds: Vec<Value> = leftovers.iter().map(as_json).collect();
        session.out.document(&json!({"holds": holds}))?;
    } else {
        let mut page = Page::default();
        if leftovers.is_empty() {
            session.out.say("nothing is held");
        }
        for leftover in leftovers {
            page.line(as_line(leftover, session));
        }
        session.out.text(&page.0)?;
    }
    verdict(leftovers, session.out.json)
}

fn word_of(outcome: &Outcome) -> (&'static str, Option<&hold::Error>) {
    match outcome {
        Outcome::Released => ("released", None),
        Outcome::InUse => ("in_use", None),
        Outcome::Waiting(error) => ("waiting", Some(error)),
        Outcome::Failed(error) => ("failed", Some(error)),
    }
}

fn as_json(leftover: &Leftover) -> Value {
    let (outcome, error) = word_of(&leftover.outcome);
    json!({
        "repository": leftover.record.repository,
        "job": leftover.record.run,
        "since": leftover.record.since,
        "outcome": outcome,
        "error": error.map(ToString::to_string),
    })
}

fn as_line(leftover: &Leftover, session: &Session) -> String {
    let record = &leftover.record;
    let since = figures::age(record.since, session.now());
    let held = format!("{}: held by job {} {since}", record.repository, record.run);
    match &leftover.outcome {
        Outcome::Released => format!("{held}, released now"),
        Outcome::InUse => format!("{held}, and in use by it: left alone"),
        Outcome::Waiting(error) => format!("{held}, not released yet: {error}"),
        Outcome::Failed(error) => format!("{held}, NOT RELEASED: {error}"),
    }
}

/// The worst of it is the exit code.
fn verdict(leftovers: &[Leftover], is_json: bool) -> Result<(), Failure> {
    let is = |wanted: fn(&Outcome) -> bool| leftovers.iter().any(|leftover| wanted(&leftover.outcome));
    let failure = if is(|outcome| matches!(outcome, Outcome::Failed(_))) {
        Failure::new(Kind::Failed, "a repository could not be released")
            .hint("its guard keeps trying; start the scheduler by hand if that cannot wait")
    } else if is(|outcome| matches!(outcome, Outcome::Waiting(_))) {
        Failure::new(Kind::Failed, "a repository is not released yet").hint("its guard keeps trying")
    } else if is(|outcome| matches!(outcome, Outcome::InUse)) {
        Failure::new(Kind::Locked, "a run that lives holds the repository")
            .hint("cancel it (`daykeep cancel JOB`, or ctrl-C where it runs); --force releases under it, and it fails")
    } else {
        return Ok(());
    };
    // The document has told it already.
    Err(if is_json { Failure::told(failure.kind()) } else { failure })
}
