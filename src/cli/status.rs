//! `daykeep status`

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;

use super::failure::Failure;
use super::figures::{self, Page};
use super::offline;
use super::session::{Session, wait_for};
use crate::api::client::{Client, Error};
use crate::api::told;
use crate::api::wire::{ConfigStatus, Hold, Job, JobState, RepositoryStatus, Status};
use crate::fs;

/// Where the daemon listens when no configuration says otherwise.
const SOCKET: &str = "/run/daykeep/daykeep.sock";

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this repository.
    #[arg(value_name = "REPO")]
    repository: Option<String>,
}

/// Shows how everything stands: from the daemon, or without one from the vaults and the journal.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let config = match session.config() {
        Ok(config) => config,
        Err(failure) => return beside_a_mistake(args, session, failure),
    };
    if let Some(name) = &args.repository {
        super::place::repository(&config, name)?;
    }
    let client = Client::new(&config.daemon.socket);
    let answer = wait_for(async { Ok(client.status().await) })?;
    let is_down = matches!(answer, Err(Error::NotRunning { .. }));
    let (mut repositories, daemon, reloaded) = match answer {
        Ok(Status { repositories, daemon, config, .. }) => (repositories, Some(daemon), Some(config)),
        Err(error @ (Error::NotRunning { .. } | Error::Denied { .. })) => {
            let without = if is_down {
                "no daemon is running, so nothing starts by schedule".to_owned()
            } else {
                error.to_string()
            };
            session.out.say(&format!("{without}; this is from the vaults and the journal"));
            (offline::repositories(&config, session.now())?, None, None)
        }
        Err(error) => return Err(error.into()),
    };
    repositories.retain(|repository| args.repository.as_ref().is_none_or(|name| *name == repository.name));
    if session.out.json {
        return session.out.document(&json!({
            "newest_proven_age_seconds": told::worst(ages(&repositories)),
            "now": session.now(),
            "held": repositories.iter().any(|repository| repository.held),
            "repositories": repositories,
            "daemon": daemon,
            "config": reloaded,
        }));
    }
    let mut page = Page::default();
    page.line(proven(&repositories));
    for repository in &repositories {
        show(repository, is_down, session.now(), &mut page);
    }
    if let Some(ConfigStatus { error: Some(error), .. }) = reloaded {
        session.out.warn(&format!("the daemon still runs with an older configuration: {error}"));
    }
    session.out.text(&page.0)
}

/// The daemon goes on with the configuration that it has read, and what it does is to be seen; so is the mistake.
fn beside_a_mistake(args: &Args, session: &Session, failure: Failure) -> Result<(), Failure> {
    let client = Client::new(socket_of(&session.config_path));
    let answer = wait_for(async { Ok(client.status().await) })?;
    // Of two documents a script would understand neither.
    if let (Ok(Status { mut repositories, .. }), false) = (answer, session.out.json) {
        repositories
            .retain(|repository| args.repository.as_ref().is_none_or(|name| *name == repository.name));
        let mut page = Page::default();
        page.line(proven(&repositories));
        for repository in &repositories {
            show(repository, false, session.now(), &mut page);
        }
        session.out.text(&page.0)?;
        session.out.warn("the daemon still runs with an older configuration:");
    }
    Err(failure)
}

/// What a configuration that is wrong elsewhere says of the daemon's socket.
fn socket_of(config: &Path) -> PathBuf {
    let text = fs::read_to_string(config).unwrap_or_default();
    let mut lines = text.lines().skip_while(|line| line.trim() != "[daemon]").skip(1);
    let own = lines.by_ref().take_while(|line| !line.trim_start().starts_with('['));
    let table: toml::Table = toml::from_str(&own.collect::<Vec<_>>().join("\n")).unwrap_or_default();
    table.get("socket").and_then(toml::Value::as_str).unwrap_or(SOCKET).into()
}

fn ages(repositories: &[RepositoryStatus]) -> impl Iterator<Item = Option<u64>> {
    repositories.iter().map(|repository| repository.newest_proven_age_seconds)
}

/// What an admin wants to know before everything else: how much would be lost if only what is proven came back.
fn proven(repositories: &[RepositoryStatus]) -> String {
    let nothing: Vec<&str> = repositories
        .iter()
        .filter(|repository| repository.newest_proven_day.is_none())
        .map(|repository| repository.name.as_str())
        .collect();
    if let [first, ..] = nothing.as_slice() {
        return format!(
            "newest proven day: NONE of {} (`daykeep drill {first}` proves one)",
            nothing.join(", ")
        );
    }
    let oldest = repositories.iter().max_by_key(|repository| repository.newest_proven_age_seconds);
    let Some((repository, day)) =
        oldest.and_then(|repository| Some((repository, repository.newest_proven_day.as_ref()?)))
    else {
        return "newest proven day: NONE (no repository is configured)".to_owned();
    };
    let age = figures::seconds_ago(repository.newest_proven_age_seconds.unwrap_or_default());
    format!("newest proven day: {age} ({} of {})", day.name, repository.name)
}

fn show(repository: &RepositoryStatus, is_down: bool, now: Timestamp, page: &mut Page) {
    let name = &repository.name;
    page.line(match &repository.newest_day {
        Some(day) => format!("{name}: newest day {} ({})", figures::age(day.freeze_point, now), day.name),
        None => format!("{name}: NO DAY YET"),
    });
    if let Some(error) = &repository.vault_error {
        page.line(format!("  vault         {error}"));
    }
    if let Some(day) = &repository.newest_proven_day {
        page.line(format!(
            "  proven        {} ({}), restored in {} by a drill {}",
            figures::age(day.freeze_point, now),
            day.name,
            figures::length(day.restore_seconds),
            figures::age(day.drilled, now)
        ));
    }
    for (verb, last) in [("verify", &repository.last_verify), ("drill", &repository.last_drill)] {
        if let Some(last) = last.as_ref().filter(|last| !last.ok) {
            let why = last.first.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            let (when, day) = (figures::age(last.at, now), &last.day);
            page.line(if last.repaired_since {
                format!(
                    "  {verb:<13} {day} failed its drill {when}, repaired since; drill it again: `daykeep drill {name} {day}`"
                )
            } else {
                format!("  {verb:<13} FAILED {when} ({day}){why}")
            });
        }
    }
    page.line(format!("  held          {}", held(repository, now)));
    if let Some(pending) = repository.pending_restore.as_ref().filter(|_| repository.kept_hold.is_none()) {
        page.line(format!("  restore       {}", pending.text));
    }
    if let Some(error) = &repository.restore_error {
        page.line(format!("  restore       RECORD DAMAGED: {error}"));
    }
    match (&repository.running, &repository.last_attempt) {
        (Some(job), _) => page.line(format!("  running       {}", running(job, now))),
        (None, Some(job)) => page.line(format!("  last attempt  {}", attempt(job, now))),
        (None, None) => page.line("  last attempt  none"),
    }
    for job in &repository.other_jobs {
        page.line(format!("  {:<13} {}", job.kind, running(job, now)));
    }
    page.line(match &repository.next_run {
        Some(next) => {
            let when = next.local.replacen('T', " ", 1);
            let unless = if is_down { ", if a daemon runs by then: NONE RUNS NOW" } else { "" };
            format!("  next run      {when}, {}{unless}", figures::age(next.at, now))
        }
        None => "  next run      only by hand".to_owned(),
    });
}

fn held(repository: &RepositoryStatus, now: Timestamp) -> String {
    if let Some(kept) = &repository.kept_hold {
        let since = figures::age(kept.since, now);
        return format!("YES, since {since} and until this is ended: {}", kept.reason);
    }
    let Some(Hold { job, since, phase, attempts, error, guard }) = &repository.hold else {
        return if repository.held { "YES".to_owned() } else { "no".to_owned() };
    };
    let since = format!("since {} by job {job}", figures::age(*since, now));
    match (phase.as_str(), error) {
        ("pausing", _) => format!("YES, it is being paused {since}, and not idle yet"),
        ("releasing", Some(error)) => {
            let failed = match attempts {
                // To wait for what was told to stop is not to fail.
                0 => String::new(),
                1 => "its release has failed: ".to_owned(),
                _ => format!("its release has failed {attempts} times: "),
            };
            let who = match guard {
                Some(pid) => format!("its guard (process {pid}) goes on trying"),
                None => "NOBODY goes on trying".to_owned(),
            };
            let name = &repository.name;
            format!(
                "YES, STILL PAUSED {since}: {failed}{error}; {who}, `daykeep release {name}` tries at once"
            )
        }
        ("releasing", None) => format!("YES, {since}, being released"),
        _ => format!("YES, {since}"),
    }
}

fn running(job: &Job, now: Timestamp) -> String {
    let phase = job.phase.map(|phase| format!(", {}", super::progress::title(phase))).unwrap_or_default();
    let so_far = match (job.current, job.total) {
        (current, Some(total)) if total > 0 => {
            format!(" ({}%)", u128::from(current) * 100 / u128::from(total))
        }
        _ => String::new(),
    };
    format!("job {} since {}, by {}{phase}{so_far}", job.id, figures::age(job.started, now), job.started_by)
}

fn attempt(job: &Job, now: Timestamp) -> String {
    let word = match job.state {
        JobState::Failed => "FAILED",
        state => state.word(),
    };
    let when = figures::age(job.ended.unwrap_or(job.started), now);
    let error = job.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("{word} {when} (job {}, by {}){error}", job.id, job.started_by)
}
