//! `daykeep config check`, `show` and `generate`

use serde::Serialize;
use serde_json::json;

use super::failure::{Failure, Kind};
use super::place;
use super::session::Session;
use crate::config;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Find every error of the file, then look at everything that a run will need.
    Check,
    /// Show the configuration in force, defaults and all, without secrets.
    Show(ShowArgs),
    /// Write a commented sample to stdout.
    Generate,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The repository; without it, all there is.
    #[arg(value_name = "REPO")]
    repository: Option<String>,
}

/// Does it.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    match &args.verb {
        Verb::Check => check(session),
        Verb::Show(args) => show(args, session),
        Verb::Generate => generate(session),
    }
}

/// What `check` tells a script.
#[derive(Debug, Default, Serialize)]
struct Report {
    config: String,
    ok: bool,
    problems: Vec<config::Problem>,
}

fn check(session: &Session) -> Result<(), Failure> {
    let mut report = Report { config: session.config_path.display().to_string(), ..Report::default() };
    let config = match config::load(&session.config_path) {
        Ok(config) => config,
        Err(error) if session.out.json => {
            session.out.warn(&error.to_string());
            report.problems = error.problems();
            session.out.document(&report)?;
            return Err(Failure::told(Kind::Usage));
        }
        Err(error) => return Err(super::session::invalid(&error)),
    };
    report.ok = true;
    if session.out.json {
        session.out.document(&report)?;
    } else {
        let repositories = u64::try_from(config.repositories.len()).unwrap_or(u64::MAX);
        let counted = match repositories {
            1 => "1 repository".to_owned(),
            many => format!("{many} repositories"),
        };
        session.out.text(&format!("{}: no errors, {counted}\n", report.config))?;
    }
    Ok(())
}

fn show(args: &ShowArgs, session: &Session) -> Result<(), Failure> {
    let config = session.config()?;
    let text = match &args.repository {
        Some(name) => place::repository(&config, name)?.as_toml.clone(),
        None => config.as_toml(),
    };
    if !session.out.json {
        return session.out.text(&text);
    }
    let in_force: toml::Table = toml::from_str(&text).map_err(|error| Failure::of(Kind::Failed, &error))?;
    session.out.document(&json!({"config": config.path, "in_force": in_force}))
}

fn generate(session: &Session) -> Result<(), Failure> {
    let sample = config::generate();
    if session.out.json {
        session.out.document(&json!({"sample": sample}))
    } else {
        session.out.text(&sample)
    }
}
