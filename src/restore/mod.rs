//! Restoring a day: one readable function.
//!
//! # The crash argument
//!
//! A restore in place has a record, `<state>/<repository>/restore.json`, whose phase is on the disk before what it announces is done, and
//! a hold, whose record is that of any hold. Before the switch nothing that is there has changed: the guard may release the
//! repository at any time. From the moment that the hold is told to stay until the release at the end, the repository may be half a day and half what
//! was there: it stays held whoever dies, until one of two commands ends it.
//!
//! | killed | phase | the hold | the same command | `--undo` |
//! | --- | --- | --- | --- | --- |
//! | before the record | none | none | begins anew | nothing to take back |
//! | before the hold | loading | none | begins anew | removes the record |
//! | loading databases, copying files | loading | the guard releases | begins anew; databases that were complete are kept | removes what is beside |
//! | before the hold is told to stay | staged | the guard releases | begins anew, likewise | removes what is beside |
//! | before the switch | staged | stays | likewise, in the same hold; it releases | removes what is beside, releases |
//! | in the switch | switching | stays | switches the rest, checks, releases | puts back what was switched, releases |
//! | in the check | checking | stays | checks again, releases | puts everything back, releases |
//! | after the release, before `done` | checking | none | holds again, checks, releases | holds again, puts everything back, releases |
//! | after `done` | done | none | does nothing, and tells that it waits to be ended | holds again, puts everything back, releases |
//! | taking itself back, since the switch was refused | undoing | stays | refused: it is being taken back | goes on putting back, releases |
//! | putting back | undoing | stays | refused: it is being taken back | goes on putting back, releases |
//! | dropping the old state | confirming | none | refused until it is confirmed | refused: it is too late |
//!
//! Every effect of the switch can be done again: a database that has its name, a file that is in its place, is passed over; the
//! renames of the databases are one transaction. Where nothing was paused (no hold, or a scheduler that an operator had stopped), nothing
//! is held and nothing is released; the rest of the table stands.
//!
//! No two restores meet: a lock beside the record. No run meets one: the vault's lock, and after a kill the record, which a run refuses to
//! pass.

mod abroad;
mod beside;
mod check;
mod choice;
mod damage;
mod elsewhere;
mod error;
mod expected;
mod known;
mod look;
mod outcome;
mod place;
mod plan;
mod ready;
mod record;
mod request;
mod settle;
mod steps;
mod still;
mod switch;
mod tables;
mod trees;
mod unpack;

use crate::event::{Context, Notices as _, Phase};
use crate::hold;
use crate::journal::{JobKind, RestorePhase};
use crate::manifest::CheckRecord;

pub use choice::{Choice, Chosen, Side, TableName, TreePath, quoted};
pub use error::Error;
pub use known::{Finding, NewestProven};
pub use outcome::{Answer, Consent, Ended, Outcome, Restored, Settled, Unasked};
pub use place::Place;
pub use plan::{
    DatabasePlan, EndPlan, HoldPlan, Plan, Planned, Proven, ServerPlan, Space, TableChange, TreePlan,
};
pub use record::recorded_configuration;
pub use request::{InPlace, Request, Settle, Target};
pub use settle::{confirm, undo};

pub use crate::journal::PendingRestore;

use check::Checked;
use look::Found;
use record::{Durable, Met};
use steps::Job;
use still::{After, Holding};

/// What [`perform`] would do. Nothing is changed, and no byte of the day is read that the plan does not need.
///
/// # Errors
/// Something stands in the way: all of it is told at once.
pub async fn plan(request: &Request, context: &Context) -> Result<Planned, Error> {
    let day = request.vault.choose(&request.day, context.clock.now())?;
    let _pin = day.pin()?;
    let begun = match &request.target {
        Target::InPlace(_) => match record::met(request, &day)? {
            Some(Met::Done(pending)) => return Ok(Planned::Done(pending)),
            Some(Met::GoesOn(pending)) => Some(pending),
            None => None,
        },
        // Whatever waits here, nothing of it is touched.
        Target::Elsewhere { .. } => None,
    };
    let tag = begun.as_ref().map_or(0, |begun| begun.job);
    let found = look::around(request, &day, begun.as_deref(), tag, context).await.map_err(Error::settled)?;
    found.possible().map(|plan| Planned::ToDo(Box::new(plan.clone())))
}

/// Restores a day, in the place of what is there or elsewhere, all of it in the job's journal. `consent` is asked when everything has been
/// looked at and nothing changed.
///
/// # Errors
/// Any step failed. Unless the error says that the repository is half way and stays held, everything is as it was before.
pub async fn perform(request: &Request, consent: &dyn Consent, context: &Context) -> Result<Outcome, Error> {
    let name = &request.repository.name;
    let mut job = Job::begin(&request.state_dir, name, JobKind::Restore, &request.started_by, context)?;
    let id = job.id();
    let done = match &request.target {
        Target::InPlace(how) => Box::pin(in_place(request, *how, consent, &mut job, context)).await,
        Target::Elsewhere { .. } => Box::pin(elsewhere::restore(request, consent, &mut job, context)).await,
    };
    match job.end(done, Outcome::end) {
        Err(Error::Hold(busy @ hold::Error::Busy { .. })) => {
            Ok(Outcome::Busy { job: id, reason: busy.to_string() })
        }
        ended => ended,
    }
}

/// The restore in place, in one straight line.
async fn in_place(
    request: &Request,
    how: InPlace,
    consent: &dyn Consent,
    job: &mut Job,
    context: &Context,
) -> Result<Outcome, Error> {
    job.step(Phase::Begin)?;
    let lock = record::Lock::take(&request.state_dir, &request.repository.name)?;
    hold::release_leftovers(&request.state_dir, Some(&request.repository.name), false, context).await?;
    let _vault = record::lock_vault(&request.vault, job.id(), context)?;
    let day = request.vault.choose(&request.day, context.clock.now())?;
    let _pin = day.pin()?;
    let durable = match Durable::begun_or_new(request, &day, job.id(), &lock, context)? {
        Ok(durable) => durable,
        Err(pending) => return Ok(Outcome::Already { job: job.id(), pending }),
    };

    job.may_stop_before(Phase::Preflight)?;
    let found = look::around(request, &day, durable.begun().as_ref(), durable.tag(), context).await?;
    if !outcome::agreed(consent.ask(found.possible()?), context).await? {
        return Ok(Outcome::Declined { job: job.id() });
    }
    let begun = context.clock.monotonic();
    if !durable.is_switching() {
        job.may_stop_before(Phase::Verify)?;
        damage::none_in_bytes(&day, &found.chosen, request, context).await?;
    }

    job.may_stop_before(Phase::Hold)?;
    let mut still = still::hold(holding(request, how, &durable, job), context).await?;
    let mut ready = Vec::new();
    if !durable.is_switching() {
        match beside::put_and_keep(request, &day, &found, &durable, &mut still, job, context).await {
            Ok(tables) => ready = tables,
            Err(error) => {
                return Err(Box::pin(beside::give_up(error.settled(), durable, still, context)).await);
            }
        }
    }

    // From here on it goes to the end, or back: half of a day is worse than either whole.
    let calm = &steps::uncancelled(context);
    job.step(Phase::Switch).map_err(|error| settle::half_way(error, &durable))?;
    if let Err(error) = switch::forward(request, &day, &durable, ready, calm).await {
        return Err(Box::pin(settle::refused(error.settled(), durable, still, job, calm)).await);
    }

    let half_way = |error| settle::half_way(error, &durable);
    durable.advance(RestorePhase::Checking).map_err(half_way)?;
    job.step(Phase::CrossCheck).map_err(half_way)?;
    let (checks, failed_check) = checked(request, how, &found, &durable, calm).await?;
    let unpacking = unpacked(request, &found, calm).await.map_err(half_way)?;

    job.step(Phase::Release).map_err(half_way)?;
    let after = if how.start { After::Started } else { After::AsFound };
    let started = still.release(after).await.map_err(|error| half_way(error.into()))?;
    durable.advance(RestorePhase::Done)?;
    Ok(Outcome::Restored(Box::new(Restored {
        job: job.id(),
        repository: request.repository.name.clone(),
        day: day.name().to_owned(),
        in_place: true,
        started,
        elsewhere: Vec::new(),
        checks,
        failed_check,
        unpacking,
        seconds: context.clock.monotonic().saturating_sub(begun).as_secs_f64(),
    })))
}

/// How many uploads are to be unpacked again.
async fn unpacked(request: &Request, found: &Found, context: &Context) -> Result<u64, Error> {
    if found.chosen.is_a_piece() { Ok(0) } else { unpack::queue(&request.repository, context).await }
}

fn holding<'a>(request: &'a Request, how: InPlace, durable: &Durable, job: &Job) -> Holding<'a> {
    Holding {
        repository: &request.repository,
        state_dir: &request.state_dir,
        guard: &request.guard,
        job: job.id(),
        hold: how.hold,
        again: durable.begun().is_some(),
    }
}

/// Whether the rows have their files. A check that fails leaves the repository held, for an admin to decide, unless that was decided
/// already; single tables and paths cannot make a repository whole, so what they lack is only told.
async fn checked(
    request: &Request,
    how: InPlace,
    found: &Found,
    durable: &Durable,
    context: &Context,
) -> Result<(Vec<CheckRecord>, Option<String>), Error> {
    let checked = check::rows_against_files(&request.repository, context).await;
    let failed = match checked.map_err(|error| settle::half_way(error, durable))? {
        Checked::Passed(records) => return Ok((records, None)),
        Checked::Failed(failed) => failed,
    };
    if how.accept_failed_check || found.chosen.is_a_piece() {
        let text = failed.to_string();
        context.observer.warn(text.clone());
        return Ok((Vec::new(), Some(text)));
    }
    let pending = Box::new(durable.head());
    let accept = format!("{} --accept-failed-check", pending.command());
    Err(Error::CheckFailed { source: failed, pending, accept })
}

#[cfg(test)]
mod tests {
    use super::{Request, Settle, Unasked, perform, undo};
    use crate::event::Context;

    /// A daemon does its jobs on any thread.
    #[expect(dead_code, reason = "it is enough that it compiles")]
    fn goes_to_any_thread(request: &Request, order: &Settle, context: &Context) {
        fn is_send(_: impl Send) {}
        is_send(perform(request, &Unasked, context));
        is_send(undo(order, &Unasked, context));
    }
}
