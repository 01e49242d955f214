//! `daykeep schedule`

use serde::Serialize;
use serde_json::json;

use super::failure::{Failure, Kind};
use super::figures::{self, Page};
use super::place;
use super::session::Session;
use crate::config::Repository;
use crate::schedule::Cron;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository; without it, every one.
    #[arg(value_name = "REPO")]
    repository: Option<String>,
    /// How many runs of each repository.
    #[arg(long, short = 'n', default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
}

/// What is due in one repository.
#[derive(Debug, Serialize)]
struct Due {
    repository: String,
    /// None: only by hand.
    schedule: Option<String>,
    timezone: Option<String>,
    catch_up: Option<bool>,
    next: Vec<Instant>,
}

#[derive(Debug, Serialize)]
struct Instant {
    /// UTC.
    at: jiff::Timestamp,
    /// In the schedule's zone, with its offset.
    local: String,
}

/// Shows the next runs.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let config = session.config()?;
    let repositories = match &args.repository {
        Some(name) => vec![place::repository(&config, name)?],
        None => config.repositories.values().collect(),
    };
    let due = repositories
        .into_iter()
        .map(|repository| due(repository, usize::from(args.count), session.now()))
        .collect::<Result<Vec<_>, _>>()?;
    if session.out.json {
        return session.out.document(&json!({"repositories": due}));
    }
    let mut page = Page::default();
    for due in &due {
        show(due, session.now(), &mut page);
    }
    session.out.text(&page.0)
}

fn due(repository: &Repository, count: usize, now: jiff::Timestamp) -> Result<Due, Failure> {
    let name = repository.name.clone();
    let Some(schedule) = &repository.schedule else {
        return Ok(Due {
            repository: name,
            schedule: None,
            timezone: None,
            catch_up: None,
            next: Vec::new(),
        });
    };
    let cron =
        Cron::parse(&schedule.cron, &schedule.timezone).map_err(|error| Failure::of(Kind::Usage, &error))?;
    let next = std::iter::successors(cron.next_after(now), |at| cron.next_after(*at))
        .take(count)
        .map(|at| Instant { at, local: figures::instant(at, cron.zone()) })
        .collect();
    Ok(Due {
        repository: name,
        schedule: Some(schedule.cron.clone()),
        timezone: Some(schedule.timezone.clone()),
        catch_up: Some(schedule.catch_up),
        next,
    })
}

fn show(due: &Due, now: jiff::Timestamp, page: &mut Page) {
    let (Some(schedule), Some(timezone)) = (&due.schedule, &due.timezone) else {
        return page.line(format!("{}: no schedule, runs only by hand", due.repository));
    };
    page.line(format!("{}: {schedule} ({timezone})", due.repository));
    for instant in &due.next {
        page.line(format!("  {}  {}", instant.local, figures::age(instant.at, now)));
    }
}
