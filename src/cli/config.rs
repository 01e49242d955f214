//! `daykeep config check`, `show` and `generate`

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::json;

use super::failure::{Failure, Kind};
use super::figures::Page;
use super::place;
use super::session::{Session, wait_for};
use crate::config;
use crate::run::{Finding, Verdict, probe};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Find every error of the file, then look at everything that a run will need.
    Check(CheckArgs),
    /// Show the configuration in force, defaults and all, without secrets.
    Show(ShowArgs),
    /// Write a commented sample to stdout.
    Generate,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Look at the file only, not at servers, trees and vaults.
    #[arg(long)]
    offline: bool,
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
        Verb::Check(args) => check(args, session),
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
    findings: Vec<Finding>,
}

fn check(args: &CheckArgs, session: &Session) -> Result<(), Failure> {
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
    if !args.offline {
        report.findings = wait_for(async { Ok(probe(&config, &session.context()).await) })?;
    }
    report.ok = report.findings.iter().all(|finding| finding.verdict != Verdict::Failure);
    if session.out.json {
        session.out.document(&report)?;
    } else {
        let counted = match config.repositories.len() {
            1 => "1 repository".to_owned(),
            many => format!("{many} repositories"),
        };
        session.out.text(&format!("{}: no errors, {counted}\n", report.config))?;
        session.out.text(&shown(&report.findings).0)?;
    }
    if report.ok { Ok(()) } else { Err(Failure::told(Kind::Failed)) }
}

/// The findings below the name of their repository.
fn shown(findings: &[Finding]) -> Page {
    let green = Style::new().fg_color(Some(AnsiColor::Green.into()));
    let yellow = Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()));
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let mut page = Page::default();
    let mut below = None;
    for finding in findings {
        if below != Some(&finding.repository) {
            let name = if finding.repository.is_empty() { "daykeep" } else { &finding.repository };
            page.line(name);
            below = Some(&finding.repository);
        }
        let (style, word) = match finding.verdict {
            Verdict::Ok => (green, "ok  "),
            Verdict::Warning => (yellow, "warn"),
            Verdict::Failure => (red, "FAIL"),
        };
        page.line(format!("  {style}{word}{style:#}  {}: {}", finding.subject, finding.text));
        if let Some(hint) = &finding.hint {
            page.line(format!("        {hint}"));
        }
    }
    page
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
