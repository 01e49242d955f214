//! `daykeep release`

use std::io::{BufRead as _, ErrorKind, IsTerminal as _, Write as _};
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
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own on the command line")]
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository; may be left out when only one is configured.
    #[arg(value_name = "REPO")]
    repository: Option<String>,
    /// Every repository, whether it is still configured or not.
    #[arg(long, conflicts_with = "repository")]
    all: bool,
    /// Even when its run lives: the run then fails, because it no longer knows that the repository stands still. Even when a
    /// restore is half way: what is started then works on the rows and files of two days.
    #[arg(long)]
    force: bool,
    /// Forget a hold that can never be released, because what it would start is gone: nothing is started.
    #[arg(long, conflicts_with_all = ["all", "force"], requires = "repository")]
    give_up: bool,
    /// Do not ask before giving up.
    #[arg(long, short, requires = "give_up")]
    yes: bool,
    /// Where the holds are recorded, when that is not where the configuration says.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Releases what was left paused. Whatever is wrong with the configuration, this must work: the records have all it needs.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let state_dir = match &args.state_dir {
        Some(named) => named.clone(),
        None => state_dir(session)?,
    };
    if let (Some(name), true) = (&args.repository, args.give_up) {
        return give_up(name, args.yes, &state_dir, session);
    }
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

/// Takes the record away, once somebody has said that it is meant.
fn give_up(name: &str, yes: bool, state_dir: &Path, session: &Session) -> Result<(), Failure> {
    let pending = hold::pending(state_dir)?;
    let held = pending.iter().find(|record| record.repository == name);
    if let Some(record) = held.filter(|_| !yes) {
        let what = stays(&record.release);
        confirm(name, &format!("{name} is held by job {}. The hold is forgotten, and {what}.", record.run))?;
    }
    let given_up = wait_for(async { Ok(hold::give_up(state_dir, name).await?) })?;
    if session.out.json {
        let document = given_up.as_ref().map(|record| {
            let stays_paused = record.release.subject();
            json!({"repository": name, "job": record.run, "since": record.since, "stays_paused": stays_paused})
        });
        return session.out.document(&json!({"given_up": document}));
    }
    match given_up {
        Some(record) => session.out.text(&format!(
            "{name}: the hold of job {} is forgotten; {}\n",
            record.run,
            stays(&record.release)
        )),
        None => {
            session.out.say("nothing is held");
            Ok(())
        }
    }
}

fn stays(plan: &hold::ReleasePlan) -> String {
    match plan.subject() {
        Some(what) => format!("{what} stays paused: start it by hand"),
        None => "nothing was paused by it".to_owned(),
    }
}

/// Asks for the repository's name: a habit of typing "y" must not decide this.
fn confirm(name: &str, question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            Kind::Usage,
            "--give-up asks before it acts, and nobody is there to answer",
        )
        .hint("--yes answers"));
    }
    let mut answer = String::new();
    // Asked even with --quiet: it is what the command waits for.
    let asked = write!(anstream::stderr(), "{question}\nType {name} to go on: ")
        .and_then(|()| std::io::stdin().lock().read_line(&mut answer));
    match asked {
        Ok(_) if answer.trim() == name => Ok(()),
        _ => Err(Failure::new(Kind::Failed, "that is not its name: nothing was done")),
    }
}

fn state_dir(session: &Session) -> Result<PathBuf, Failure> {
    let failure = match session.config() {
        Ok(config) => return Ok(config.state_dir),
        Err(failure) => failure,
    };
    if fs::read_to_string(&session.config_path)
        .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    {
        // Who may not know where the holds are recorded cannot tell that there is none.
        return Err(failure);
    }
    let state_dir = state_dir_of(&session.config_path);
    session.out.warn(failure.text());
    session.out.say(&format!("the holds that are recorded in {} are looked at", state_dir.display()));
    Ok(state_dir)
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

fn word_of(outcome: &Outcome) -> (&'static str, Option<String>, Option<i32>) {
    match outcome {
        Outcome::Released => ("released", None, None),
        Outcome::InUse => ("in_use", None, None),
        Outcome::Kept { reason } => ("kept", Some(reason.clone()), None),
        Outcome::Waiting { error, guard } => ("waiting", Some(error.to_string()), *guard),
        Outcome::Failed { error, guard } => ("failed", Some(error.to_string()), *guard),
    }
}

fn as_json(leftover: &Leftover) -> Value {
    let (outcome, error, guard) = word_of(&leftover.outcome);
    json!({
        "repository": leftover.record.repository,
        "job": leftover.record.run,
        "since": leftover.record.since,
        "outcome": outcome,
        "error": error,
        "guard": guard,
    })
}

fn as_line(leftover: &Leftover, session: &Session) -> String {
    let record = &leftover.record;
    let since = figures::age(record.since, session.now());
    let held = format!("{}: held by job {} {since}", record.repository, record.run);
    match &leftover.outcome {
        Outcome::Released => format!("{held}, released now"),
        Outcome::InUse => format!("{held}, and in use by it: left alone"),
        Outcome::Kept { reason } => format!("{held}, and stays held: {reason}"),
        Outcome::Waiting { error, guard } => {
            let guard = guard.map(|pid| format!("; its guard (process {pid}) does that")).unwrap_or_default();
            format!("{held}, not released yet: {error}{guard}")
        }
        Outcome::Failed { error: error @ hold::Error::RecordStays { .. }, .. } => format!("{held}: {error}"),
        Outcome::Failed { error, guard } => {
            let who = match guard {
                Some(pid) => format!("its guard (process {pid}) goes on trying, {}", hold::tries()),
                None => "NOBODY goes on trying, for no guard could be started".to_owned(),
            };
            format!("{held}, NOT RELEASED, STILL PAUSED: {error}; {who}")
        }
    }
}

/// The worst of it is the exit code.
fn verdict(leftovers: &[Leftover], is_json: bool) -> Result<(), Failure> {
    let is = |wanted: fn(&Outcome) -> bool| leftovers.iter().any(|leftover| wanted(&leftover.outcome));
    let failure = if is(|outcome| matches!(outcome, Outcome::Failed { .. })) {
        Failure::new(Kind::Failed, "a repository could not be released")
            .hint("mend what the release stumbles over: `daykeep release` tries at once, and `daykeep status` shows how it stands")
            .hint("start the application by hand if that cannot wait")
            .hint("`daykeep release REPO --give-up` forgets a hold that can never be released")
    } else if is(|outcome| matches!(outcome, Outcome::Waiting { .. })) {
        Failure::new(Kind::Failed, "a repository is not released yet")
            .hint("it is released as soon as that can be done; `daykeep status` shows when it was")
    } else if is(|outcome| matches!(outcome, Outcome::Kept { .. })) {
        Failure::new(Kind::Locked, "a restore that is half way keeps a repository held").hint(
            "finish it or take it back; --force starts the repository on the rows and files of two days",
        )
    } else if is(|outcome| matches!(outcome, Outcome::InUse)) {
        Failure::new(Kind::Locked, "a run that lives holds the repository")
            .hint("cancel it (`daykeep cancel JOB`, or ctrl-C where it runs); --force releases under it, and it fails")
    } else {
        return Ok(());
    };
    // The document has told it already.
    Err(if is_json { Failure::told(failure.kind()) } else { failure })
}
