//! Looking at everything that a restore needs, before anything is changed: the plan, and all that stands in its way.

use jiff::Timestamp;

use crate::config::Server;
use crate::database::restore::{self as rows, Action, Wish};
use crate::event::Context;
use crate::journal::{PendingRestore, RestorePhase, sentence_of};
use crate::restore::damage;
use crate::restore::error::{damaged, is_damage_of_rows};
use crate::restore::expected::{Work, expected, newest_drill};
use crate::restore::still::{self, Holding};
use crate::restore::tables;
use crate::restore::trees::{self, Piece};
use crate::restore::{
    Chosen, DatabasePlan, Error, HoldPlan, Plan, Request, ServerPlan, Space, Target, known,
};
use crate::vault::Day;

/// What was found.
pub(super) struct Found {
    /// What the choice is of this day.
    pub(super) chosen: Chosen,
    /// The server, when databases are restored.
    pub(super) survey: Option<rows::Survey>,
    /// The single tables that are replaced.
    pub(super) tables: Vec<rows::TableSwap>,
    /// The trees and parts of trees that are restored.
    pub(super) pieces: Vec<Piece>,
    plan: Plan,
    problems: Vec<String>,
}

impl Found {
    /// The plan, if nothing stands in its way.
    pub(super) fn possible(&self) -> Result<&Plan, Error> {
        if self.problems.is_empty() {
            return Ok(&self.plan);
        }
        Err(Error::Refused { day: self.plan.day.clone(), problems: self.problems.clone() })
    }
}

/// Looks at the day, the server and the trees. `tag` is the number in the names of what will be put beside.
pub(super) async fn around(
    request: &Request,
    day: &Day,
    begun: Option<&PendingRestore>,
    tag: u64,
    context: &Context,
) -> Result<Found, Error> {
    let chosen = chosen(request, day)?;
    damage::none_in_lists(day, &chosen, request, context).await?;
    let mut found = Found {
        plan: empty_plan(request, day, begun, context.clock.now())?,
        chosen,
        survey: None,
        tables: Vec::new(),
        pieces: Vec::new(),
        problems: Vec::new(),
    };
    look_at_hold(&mut found, request, begun, context).await?;
    if begun.is_some_and(|begun| !matches!(begun.phase, RestorePhase::Loading | RestorePhase::Staged)) {
        // Half of the server is the day's already, and all that is needed is beside it: there is nothing to look at.
        return Ok(found);
    }
    if found.chosen.touches_database() && has_server(&mut found, request) {
        if !found.chosen.databases.is_empty() {
            look_at_server(&mut found, request, day, tag, context).await?;
        }
        look_at_tables(&mut found, request, day, tag, context).await?;
    }
    if found.chosen.touches_trees() {
        look_at_trees(&mut found, request, day, context).await?;
    }
    found.plan.warnings.extend(newer_in_doubt(request, day, context)?);
    let stays = stays(&found.chosen, request, day);
    found.plan.stays.extend(stays);
    found.plan.expected = forecast(request, day, &found)?;
    Ok(found)
}

/// What is chosen of the day, and has somewhere to go.
fn chosen(request: &Request, day: &Day) -> Result<Chosen, Error> {
    let mut chosen =
        Chosen::of(&request.choice, day.manifest()).map_err(|problems| Error::NotThere { problems })?;
    if let Target::Elsewhere { trees, server } = &request.target {
        let named = !request.choice.is_everything();
        let homeless = |what: &str, option: &str| {
            Err(Error::Senseless {
                problem: format!("{what} are to be restored elsewhere: name the place with {option}"),
            })
        };
        if server.is_none() {
            if named && chosen.touches_database() {
                return homeless("databases", "--to-server");
            }
            (chosen.databases, chosen.tables) = (Vec::new(), Vec::new());
        }
        if trees.is_none() {
            if named && chosen.touches_trees() {
                return homeless("trees", "--to");
            }
            (chosen.trees, chosen.paths) = (Vec::new(), Vec::new());
        }
    }
    if chosen.touches_database() || chosen.touches_trees() {
        return Ok(chosen);
    }
    Err(Error::Senseless { problem: format!("the day {} has nothing of what is to be restored", day.name()) })
}

fn empty_plan(
    request: &Request,
    day: &Day,
    begun: Option<&PendingRestore>,
    now: Timestamp,
) -> Result<Plan, Error> {
    let known = known::of(request, day, now)?;
    let hold = match &request.target {
        Target::InPlace(how) if how.hold => {
            let adapter = request.repository.hold.adapter.name().to_owned();
            Some(HoldPlan { adapter, start: how.start, runs: None })
        }
        _ => None,
    };
    let mut warnings = known.warnings;
    if let (Some(to_unpack), Target::InPlace(_)) = (&day.manifest().to_unpack, &request.target) {
        warnings.push(format!(
            "the day has gold alone: FOSSology unpacks afterwards what is missing; {to_unpack}"
        ));
    }
    Ok(Plan {
        repository: request.repository.name.clone(),
        day: day.name().to_owned(),
        freeze_point: day.manifest().freeze_point,
        standing: known.standing,
        proven: known.proven,
        finding: known.finding,
        newest_proven: known.newest_proven,
        continues: begun.cloned(),
        server: None,
        tables: Vec::new(),
        trees: Vec::new(),
        stays: Vec::new(),
        hold,
        space: Vec::new(),
        expected: None,
        warnings,
    })
}

/// Whether the repository runs now. What a broken-off restore has paused tells nothing of how it was found.
async fn look_at_hold(
    found: &mut Found,
    request: &Request,
    begun: Option<&PendingRestore>,
    context: &Context,
) -> Result<(), Error> {
    let Some(hold) = found.plan.hold.as_mut().filter(|_| request.asks_hold && begun.is_none()) else {
        return Ok(());
    };
    let Request { repository, state_dir, guard, .. } = request;
    let holding = Holding { repository, state_dir, guard, job: 0, hold: true, again: false };
    match still::runs(holding, context).await.map_err(Error::settled) {
        Ok(runs) => hold.runs = runs,
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(error) => {
            let why = sentence_of(&error);
            found.plan.warnings.push(format!("as it is now, the repository could not be held: {why}"));
        }
    }
    Ok(())
}

/// Newer days that are passed over: whoever says `latest` means them.
fn newer_in_doubt(request: &Request, day: &Day, context: &Context) -> Result<Vec<String>, Error> {
    if request.day == day.name() {
        return Ok(Vec::new());
    }
    let days = request.vault.days(context.clock.now())?;
    let newer = days.quarantined.into_iter().filter(|doubt| doubt.name.as_str() > day.name());
    let newer =
        newer.filter(|doubt| !doubt.future && doubt.name.starts_with(|first: char| first.is_ascii_digit()));
    Ok(newer.map(|doubt| format!("the newer day {} is not used: {}", doubt.name, doubt.reason)).collect())
}

/// Where the databases go.
pub(super) fn server(request: &Request) -> Server {
    match &request.target {
        Target::Elsewhere { server: Some(server), .. } => server.as_ref().clone(),
        _ => request.repository.database.as_ref().map(|database| database.server.clone()).unwrap_or_default(),
    }
}

fn has_server(found: &mut Found, request: &Request) -> bool {
    let has = request.repository.database.is_some() || matches!(request.target, Target::Elsewhere { .. });
    if !has {
        let problem =
            "the configuration has no database, and the day has: add it, or restore it with --to-server";
        found.problems.push(problem.to_owned());
    }
    has
}

async fn look_at_tables(
    found: &mut Found,
    request: &Request,
    day: &Day,
    tag: u64,
    context: &Context,
) -> Result<(), Error> {
    let seen = tables::look(request, &found.chosen, day, tag, context).await?;
    found.problems.extend(seen.problems);
    found.plan.warnings.extend(seen.warnings);
    found.plan.tables = seen.plans;
    found.tables = seen.swaps;
    Ok(())
}

/// What the databases' part is to do.
pub(super) fn wish<'a>(request: &Request, day: &'a Day, chosen: &Chosen, tag: u64) -> Wish<'a> {
    let database = request.repository.database.as_ref();
    let target = match &request.target {
        Target::Elsewhere { .. } => rows::Target::Fresh(server(request)),
        Target::InPlace(_) => rows::Target::Live(server(request)),
    };
    Wish {
        day: day.path(),
        manifest: day.manifest(),
        target,
        bin_dir: database.and_then(|database| database.bin_dir.clone()),
        databases: Some(chosen.databases.clone()),
        // Roles belong to all databases: they become the day's only with all of them.
        globals: !request.choice.names_parts(),
        jobs: request.jobs.or(database.map(|database| database.jobs)).unwrap_or(1),
        tag,
    }
}

async fn look_at_server(
    found: &mut Found,
    request: &Request,
    day: &Day,
    tag: u64,
    context: &Context,
) -> Result<(), Error> {
    let wish = wish(request, day, &found.chosen, tag);
    let survey = match rows::survey(&wish, context).await {
        Ok(survey) => survey,
        Err(rows::RestoreError::Cancelled) => return Err(Error::Cancelled),
        Err(error) if is_damage_of_rows(&error, day) => return Err(damaged(request, day, &error)),
        // What ends the looking at the server is told with what is wrong elsewhere.
        Err(error) => {
            found.problems.push(sentence_of(&error));
            return Ok(());
        }
    };
    found.problems.extend(survey.problems.iter().cloned());
    found.plan.warnings.extend(survey.notices.iter().cloned());
    found.plan.stays.extend(survey.staying.iter().map(|name| format!("the database {name}")));
    found.plan.stays.extend(
        survey.roles.staying.iter().map(|name| format!("the role {name}, which the day does not have")),
    );
    found.plan.server = Some(server_plan(&survey));
    found.plan.space.push(space_of(&survey));
    found.survey = Some(survey);
    Ok(())
}

fn server_plan(survey: &rows::Survey) -> ServerPlan {
    let databases = survey.databases.iter().map(|database| DatabasePlan {
        name: database.name.clone(),
        now_bytes: match database.action {
            Action::Replace { bytes, .. } => Some(bytes),
            Action::Create | Action::LeaveAlone => None,
        },
        is_left_alone: database.action == Action::LeaveAlone,
        sessions: survey.sessions.iter().filter(|seen| seen.database == database.name).map(session).collect(),
        rows: database.rows,
        row_bytes: database.row_bytes,
    });
    ServerPlan {
        version: survey.server.version_text.clone(),
        user: survey.server.user.clone(),
        databases: databases.collect(),
        new_roles: survey.roles.created.clone(),
        changed_roles: survey.roles.changed.clone(),
        new_tablespaces: survey
            .new_tablespaces
            .iter()
            .map(|(name, place)| format!("{name} at {place}"))
            .collect(),
    }
}

/// Who is connected, for people.
fn session(seen: &rows::SessionSeen) -> String {
    let application = if seen.application.is_empty() { "a program" } else { &seen.application };
    let from = if seen.address.is_empty() { String::new() } else { format!(" from {}", seen.address) };
    let times = if seen.count == 1 { String::new() } else { format!(", {} times", seen.count) };
    format!("{application} as {}{from}{times}", seen.user)
}

fn space_of(survey: &rows::Survey) -> Space {
    let replaced = survey.databases.iter().map(|database| match database.action {
        Action::Replace { bytes, .. } => bytes,
        Action::Create | Action::LeaveAlone => 0,
    });
    let place = survey.server.data_directory.clone().unwrap_or_else(|| "the server".to_owned());
    Space { place, needed: survey.needed_bytes, free: survey.free_bytes, old: replaced.sum() }
}

async fn look_at_trees(
    found: &mut Found,
    request: &Request,
    day: &Day,
    context: &Context,
) -> Result<(), Error> {
    let seen = match &request.target {
        Target::Elsewhere { trees: Some(directory), .. } => {
            trees::look_elsewhere(request, &found.chosen, day, directory)?
        }
        _ => {
            let (pieces, problems) = trees::pieces(request, &found.chosen, day);
            found.problems.extend(problems);
            let seen = trees::look(request, &pieces, day, context).await?;
            found.pieces = pieces;
            seen
        }
    };
    found.problems.extend(seen.problems);
    found.plan.warnings.extend(seen.warnings);
    found.plan.trees = seen.plans;
    found.plan.space.extend(seen.space);
    Ok(())
}

/// What of the repository is not restored.
fn stays(chosen: &Chosen, request: &Request, day: &Day) -> Vec<String> {
    if chosen.everything || !matches!(request.target, Target::InPlace(_)) {
        return Vec::new();
    }
    let databases =
        day.manifest().database.iter().flat_map(|of| &of.databases).map(|database| &database.name);
    let databases = databases.filter(|name| !chosen.databases.contains(name)).map(|name| {
        let of_it = chosen.tables.iter().any(|table| table.database == *name);
        if of_it { format!("the rest of the database {name}") } else { format!("the database {name}") }
    });
    let touched = chosen.touched_trees();
    let trees = day.manifest().trees.keys().filter(|name| !chosen.trees.contains(name)).map(|name| {
        if touched.contains(name.as_str()) {
            format!("the rest of the tree {name}")
        } else {
            format!("the tree {name}")
        }
    });
    let mut stays: Vec<String> = databases.chain(trees).collect();
    if chosen.touches_database() && !request.choice.names_parts() {
        return stays;
    }
    if chosen.touches_database() {
        stays.push("the roles that are there".to_owned());
    }
    stays
}

fn forecast(request: &Request, day: &Day, found: &Found) -> Result<Option<std::time::Duration>, Error> {
    let mut drills = Vec::new();
    for known in request.vault.days(day.manifest().freeze_point.max(day.manifest().sealed))?.good {
        drills.push((Work::of_day(known.manifest()), request.vault.proofs(known.name()).unwrap_or_default()));
    }
    let Some((measured, drill)) = newest_drill(drills) else { return Ok(None) };
    let databases = found.survey.iter().flat_map(|survey| &survey.databases);
    let work = Work {
        row_bytes: databases.map(|database| database.row_bytes).sum(),
        file_bytes: found.plan.trees.iter().map(|tree| tree.copy_bytes).sum(),
    };
    Ok(expected(work, measured, &drill))
}
