//! What is put beside what is there: databases under other names, files in directories of their own. Nothing that is there
//! changes but that roles and tablespaces which were missing are made, of no use to anybody.

use crate::database::restore::{self as rows, Made, ReadyTables, Swap, Wish};
use crate::event::{Context, Notices as _, Phase};
use crate::journal::RestorePhase;
use crate::restore::look::Found;
use crate::restore::record::Durable;
use crate::restore::steps::{Job, uncancelled};
use crate::restore::still::{After, Stillness};
use crate::restore::{Error, Request, look, tables, trees};
use crate::vault::Day;

/// Loads the databases, stages the files, and makes the single tables ready, which are locked from then on. The record knows of each before
/// it is made.
async fn put(
    request: &Request,
    day: &Day,
    found: &Found,
    durable: &Durable,
    job: &mut Job,
    context: &Context,
) -> Result<Vec<ReadyTables>, Error> {
    // With trees alone the first thing that is recorded is where their plans are.
    if found.survey.is_some() || !found.tables.is_empty() || found.pieces.is_empty() {
        durable.advance(RestorePhase::Loading)?;
    }
    if let Some(survey) = &found.survey {
        job.may_stop_before(Phase::Load)?;
        let wish = look::wish(request, day, &found.chosen, durable.tag());
        load(&wish, survey, durable, context).await?;
    }
    if !found.pieces.is_empty() {
        job.may_stop_before(Phase::Stage)?;
        trees::stage(request, &found.pieces, durable, context).await?;
    }
    let mut ready = Vec::new();
    if !found.tables.is_empty() {
        job.may_stop_before(Phase::Load)?;
        tables::record(request, &found.tables, durable)?;
        ready = tables::prepare(request, day, &found.tables, context).await?;
    }
    durable.advance(RestorePhase::Staged)?;
    Ok(ready)
}

/// The same; then the repository stays held whoever dies, and the record says that the switch begins.
pub(super) async fn put_and_keep(
    request: &Request,
    day: &Day,
    found: &Found,
    durable: &Durable,
    still: &mut Stillness,
    job: &mut Job,
    context: &Context,
) -> Result<Vec<ReadyTables>, Error> {
    // Nothing has been replaced yet: how it is found now counts, whatever a killed restore had found.
    durable.note_stopped(still.was_stopped());
    let ready = put(request, day, found, durable, job, context).await?;
    still.keep(&durable.head()).await?;
    durable.advance(RestorePhase::Switching)?;
    Ok(ready)
}

async fn load(
    wish: &Wish<'_>,
    survey: &rows::Survey,
    durable: &Durable,
    context: &Context,
) -> Result<(), Error> {
    durable
        .change(|record| record.databases.get_or_insert_default().server = wish.target.server().clone())?;
    let done =
        durable.with(|record| record.databases.as_ref().map(|made| made.loaded.clone())).unwrap_or_default();
    let record = |made: &Made| {
        durable.change(|record| record.databases.get_or_insert_default().add(made)).map_err(Into::into)
    };
    let loaded = rows::load(wish, survey, &done, &record, context).await?;
    let made = durable.with(|record| record.databases.clone()).unwrap_or_default();
    let swap = Swap::plan(wish, survey, &loaded, made.roles, made.tablespaces, context).await?;
    durable.change(|record| record.databases.get_or_insert_default().swap = Some(swap))
}

/// The restore failed before anything was replaced: what was put beside goes, and the repository is released.
pub(super) async fn give_up(error: Error, durable: Durable, still: Stillness, context: &Context) -> Error {
    // What is cleared up is cleared up, even when the job is to stop.
    let calm = uncancelled(context);
    calm.observer.info("what was put beside is removed");
    let error = match discard(&durable, &calm).await {
        Ok(()) => match durable.remove() {
            Ok(()) => error,
            Err(left) => Error::NotDiscarded { error: Box::new(error), discard: Box::new(left) },
        },
        Err(left) => Error::NotDiscarded { error: Box::new(error), discard: Box::new(left) },
    };
    match still.release(After::AsFound).await {
        Ok(_) => error,
        Err(release) => Error::NotReleased { error: Box::new(error), release: Box::new(release) },
    }
}

/// Removes what stands beside. It can be done again.
pub(super) async fn discard(durable: &Durable, context: &Context) -> Result<(), Error> {
    if let Some(made) = durable.with(|record| record.databases.clone()) {
        let tag = durable.tag();
        let beside = rows::Beside { tag, roles: made.roles, tablespaces: made.tablespaces };
        beside.discard(&made.server, context).await?;
    }
    trees::discard(durable, context).await
}
