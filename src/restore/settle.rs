//! The two ways in which a restore in place is ended: taken back, or confirmed.

use crate::event::{Context, Notices as _, Phase};
use crate::hold;
use crate::journal::{JobKind, RestorePhase};
use crate::restore::record::{Durable, Lock, lock_vault};
use crate::restore::steps::{Job, uncancelled};
use crate::restore::still::{self, Holding, Stillness};
use crate::restore::{Consent, Ended, Error, Settle, Settled, beside, outcome, switch};

/// Takes a restore back, however far it came: what was there before it is there again, and what it had put beside is gone.
///
/// # Errors
/// There is none, it is being confirmed, or a step failed: then what was begun goes on with the same command, and the repository
/// stays held if it is half way.
pub async fn undo(order: &Settle, consent: &dyn Consent, context: &Context) -> Result<Ended, Error> {
    settle(order, Ending::Undo, consent, context).await
}

/// Drops what was there before a restore, which can then no longer be taken back.
///
/// # Errors
/// There is none, it has not come to its end, or a step failed: the same command goes on.
pub async fn confirm(order: &Settle, consent: &dyn Consent, context: &Context) -> Result<Ended, Error> {
    settle(order, Ending::Confirm, consent, context).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Undo,
    Confirm,
}

async fn settle(
    order: &Settle,
    ending: Ending,
    consent: &dyn Consent,
    context: &Context,
) -> Result<Ended, Error> {
    let name = &order.repository.name;
    let mut job = Job::begin(&order.state_dir, name, JobKind::Settle, &order.started_by, context)?;
    let done = Box::pin(end_it(order, ending, consent, &mut job, context)).await;
    job.end(done, Ended::end)
}

async fn end_it(
    order: &Settle,
    ending: Ending,
    consent: &dyn Consent,
    job: &mut Job,
    context: &Context,
) -> Result<Ended, Error> {
    let name = &order.repository.name;
    job.step(Phase::Begin)?;
    let lock = Lock::take(&order.state_dir, name)?;
    hold::release_leftovers(&order.state_dir, Some(name), false, context).await?;
    let _vault = match &order.vault {
        Some(vault) => lock_vault(vault, job.id(), context)?,
        None => None,
    };
    let Some(durable) = Durable::read(&order.state_dir, name, &lock)? else {
        return Err(Error::NothingPending { repository: name.clone() });
    };
    let head = durable.head();
    let is_possible = match ending {
        Ending::Confirm => head.is_over(),
        Ending::Undo => head.phase != RestorePhase::Confirming,
    };
    if !is_possible {
        return Err(Error::NotNow { pending: Box::new(head) });
    }
    let plan = durable.end_plan(ending == Ending::Undo, order.start);
    if !outcome::agreed(consent.ask_to_end(&plan), context).await? {
        return Ok(Ended::Declined { job: job.id() });
    }
    let started = match ending {
        Ending::Confirm => drop_old(durable, job, context).await?,
        Ending::Undo => Box::pin(take_back(order, durable, job, context)).await?,
    };
    Ok(Ended::Settled(Settled {
        job: job.id(),
        repository: name.clone(),
        day: head.day,
        restored_by: head.job,
        started,
        stays_stopped: plan.stays_stopped && order.hold,
    }))
}

async fn drop_old(durable: Durable, job: &mut Job, context: &Context) -> Result<bool, Error> {
    job.may_stop_before(Phase::Settle)?;
    durable.advance(RestorePhase::Confirming)?;
    switch::drop_old(&durable, context).await?;
    durable.remove()?;
    Ok(true)
}

/// Before the switch there is nothing to be put back. From the switch on the repository is held, by whoever held it before or anew, and stays so
/// until everything is back.
async fn take_back(
    order: &Settle,
    durable: Durable,
    job: &mut Job,
    context: &Context,
) -> Result<bool, Error> {
    job.may_stop_before(Phase::Hold)?;
    let holding = Holding {
        repository: &order.repository,
        state_dir: &order.state_dir,
        guard: &order.guard,
        job: job.id(),
        // What is only beside is removed while the repository runs, unless it was left held.
        hold: order.hold && (durable.is_switching() || is_held(order)?),
        again: true,
    };
    let mut still = still::hold(holding, context).await?;
    let calm = &uncancelled(context);
    if durable.is_switching() {
        begin_back(&durable, &mut still, job).await?;
        switch::back(&durable, calm).await.map_err(|error| half_way(error, &durable))?;
    } else {
        job.step(Phase::Settle)?;
        beside::discard(&durable, calm).await?;
    }
    Box::pin(end_back(durable, still, order.start, job)).await
}

/// From here on only `--undo` goes on.
async fn begin_back(durable: &Durable, still: &mut Stillness, job: &mut Job) -> Result<(), Error> {
    let mut going_back = durable.head();
    going_back.phase = RestorePhase::Undoing;
    still.keep(&going_back).await?;
    durable.advance(RestorePhase::Undoing)?;
    job.step(Phase::Settle)
}

/// Everything is back.
async fn end_back(durable: Durable, still: Stillness, start: bool, job: &mut Job) -> Result<bool, Error> {
    job.step(Phase::Release)?;
    let runs = still.release(durable.after_undo(start)).await?;
    // The record goes last: killed before that, the same command finds everything back, and releases once more.
    durable.remove()?;
    Ok(runs)
}

/// The switch failed. What was refused is taken back at once, since it would be refused again: what was there before takes its place, what
/// was beside goes, the repository is released. Where the server went away, both ways stay open.
pub(super) async fn refused(
    error: Error,
    durable: Durable,
    mut still: Stillness,
    job: &mut Job,
    calm: &Context,
) -> Error {
    if !error.is_refusal() {
        return half_way(error, &durable);
    }
    calm.observer.warn("the switch is refused: what was there before is put back");
    let back = async {
        begin_back(&durable, &mut still, job).await?;
        switch::back(&durable, calm).await
    };
    let back: Result<(), Error> = back.await;
    let mut pending = Box::new(durable.head());
    let ended = match back {
        Ok(()) => {
            // Whatever fails now, it is `--undo` that goes on.
            pending.phase = RestorePhase::Undoing;
            Box::pin(end_back(durable, still, false, job)).await.map(drop)
        }
        Err(back) => Err(back),
    };
    match ended {
        Ok(()) => Error::TakenBack { source: Box::new(error) },
        Err(back) => Error::NotTakenBack { error: Box::new(error), back: Box::new(back), pending },
    }
}

fn is_held(order: &Settle) -> Result<bool, Error> {
    let holds = hold::pending(&order.state_dir)?;
    Ok(holds.iter().any(|held| held.repository == order.repository.name))
}

/// What failed from the switch on leaves the repository half way, and held.
pub(super) fn half_way(error: Error, durable: &Durable) -> Error {
    Error::HalfWay { source: Box::new(error.settled()), pending: Box::new(durable.head()) }
}
