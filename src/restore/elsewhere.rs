//! A restore to another place: trees to a directory, databases to a server, neither of which has them. Nothing is held, and the repository is
//! not touched.
//!
//! Killed, it leaves what it made beside the place: directories, and databases whose names begin with `daykeep_new_`. The next restore to
//! that place takes both away, and one that fails does so itself, so that the same command can be said again. Nothing has the name of a tree
//! or of a database before all trees are made; then the databases get theirs, and the trees by a rename each.

use crate::database::restore::{self as rows, Beside, Made, Survey, Swap, Wish};
use crate::event::{Context, Phase};
use crate::restore::abroad::{self, Abroad};
use crate::restore::damage;
use crate::restore::look::{self, Found};
use crate::restore::ready::Ready;
use crate::restore::steps::{Job, uncancelled};
use crate::restore::{Consent, Error, Outcome, Request, Restored, Target, outcome, tables};
use crate::vault::Day;

/// The restore in one straight line.
pub(super) async fn restore(
    request: &Request,
    consent: &dyn Consent,
    job: &mut Job,
    context: &Context,
) -> Result<Outcome, Error> {
    job.step(Phase::Begin)?;
    let day = request.vault.choose(&request.day, context.clock.now())?;
    let _pin = day.pin()?;

    job.may_stop_before(Phase::Preflight)?;
    if let Target::Elsewhere { server: Some(server), .. } = &request.target {
        abroad::sweep(&request.state_dir, &request.repository.name, server, context).await?;
    }
    let found = look::around(request, &day, None, job.id(), context).await?;
    if !outcome::agreed(consent.ask(found.possible()?), context).await? {
        return Ok(Outcome::Declined { job: job.id() });
    }
    let begun = context.clock.monotonic();

    job.may_stop_before(Phase::Verify)?;
    damage::none_in_bytes(&day, &found.chosen, request, context).await?;

    let mut trees = None;
    if let Target::Elsewhere { trees: Some(directory), .. } = &request.target {
        job.may_stop_before(Phase::Stage)?;
        trees = Some(Ready::make(request, &found, &day, directory, context).await?);
    }
    let placed = match (all_rows(request, &found, &day, job, context).await, trees) {
        (Ok(()), Some(trees)) => trees.place(context).await?,
        (Ok(()), None) => Vec::new(),
        (Err(error), Some(trees)) => return Err(trees.discard(error, context).await),
        (Err(error), None) => return Err(error),
    };
    Ok(Outcome::Restored(Box::new(Restored {
        job: job.id(),
        repository: request.repository.name.clone(),
        day: day.name().to_owned(),
        in_place: false,
        started: false,
        elsewhere: placed,
        checks: Vec::new(),
        failed_check: None,
        unpacking: 0,
        seconds: context.clock.monotonic().saturating_sub(begun).as_secs_f64(),
    })))
}

/// The databases and the tables, whole or not at all.
async fn all_rows(
    request: &Request,
    found: &Found,
    day: &Day,
    job: &mut Job,
    context: &Context,
) -> Result<(), Error> {
    if let Some(survey) = &found.survey {
        job.may_stop_before(Phase::Load)?;
        let wish = look::wish(request, day, &found.chosen, job.id());
        databases(request, &wish, survey, context).await?;
    }
    for ready in tables::prepare(request, day, &found.tables, context).await? {
        ready.commit().await?;
    }
    for swap in &found.tables {
        // There was none: what is kept of it is empty.
        swap.drop_old(&look::server(request)).await?;
    }
    Ok(())
}

/// Loads them under other names, and gives all of them theirs at once. What fails is removed.
async fn databases(
    request: &Request,
    wish: &Wish<'_>,
    survey: &Survey,
    context: &Context,
) -> Result<(), Error> {
    let server = wish.target.server();
    let abroad = Abroad::begin(&request.state_dir, &request.repository.name, wish.tag, server).await?;
    let record = |told: &Made| abroad.add(told).map_err(Into::into);
    let loaded = rows::load(wish, survey, &[], &record, context).await;
    let swapped = async {
        let Beside { roles, tablespaces, .. } = abroad.beside();
        let swap = Swap::plan(wish, survey, &loaded?, roles, tablespaces, context).await?;
        let calm = uncancelled(context);
        abroad.swap(&swap)?;
        swap.forward(server, &calm).await?;
        // What a new server has of itself, an empty `postgres`, was all that could be replaced.
        Ok(swap.drop_old(server, &calm).await?)
    };
    let swapped: Result<(), Error> = swapped.await;
    let Err(error) = swapped else { return abroad.end() };
    let cleared = abroad.clear(server, &uncancelled(context)).await;
    match cleared.and_then(|()| abroad.end()) {
        Ok(()) => Err(error),
        Err(left) => Err(Error::NotDiscarded { error: Box::new(error), discard: Box::new(left) }),
    }
}
