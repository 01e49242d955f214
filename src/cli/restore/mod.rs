//! `daykeep restore`

mod args;
mod ask;
mod conninfo;
mod detached;
mod follow;
mod origin;
mod show;
mod trust;

use serde_json::json;

pub use args::Args;

use super::failure::{Failure, Kind};
use super::figures::{self, Page};
use super::place;
use super::run;
use super::session::{Session, wait_for};
use crate::config::Server;
use crate::restore::{
    self, Ended, InPlace, Outcome, PendingRestore, Planned, Request, Restored, Settle, Settled, Target,
};
use crate::vault::Vault;
use ask::{Asking, can_ask};
use follow::until_done_or_told;
use origin::Origin;

/// Restores a day, or ends a restore.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    if args.detach {
        return detached::start(args, session);
    }
    if args.ending.undo || args.ending.confirm {
        return settle(args, session);
    }
    let origin = Origin::of_day(args, session)?;
    let request = request(args, origin)?;
    if args.plan {
        let planned = wait_for(async { Ok(restore::plan(&request, &session.context()).await?) })?;
        return tell_plan(&planned, session);
    }
    if !args.yes && !can_ask() {
        let failure = Failure::new(
            Kind::Usage,
            "a restore asks before it changes anything, and nobody can be asked here",
        );
        return Err(failure.hint("--plan shows what it would do; --yes does it without asking"));
    }
    let (yes, place) = (args.yes, request.place.options());
    let outcome = until_done_or_told(session, "the restore", |context, progress| async move {
        let (out, now, cancel) = (session.out, session.now(), context.cancel.clone());
        let asking = Asking { out, progress: &progress, now, yes, cancel };
        restore::perform(&request, &asking, &context).await
    })?;
    tell(outcome, &place, args.no_hold, session)
}

fn tell_plan(planned: &Planned, session: &Session) -> Result<(), Failure> {
    match planned {
        Planned::Done(pending) => already(pending, session),
        Planned::ToDo(plan) if session.out.json => session.out.document(&json!({"plan": plan})),
        Planned::ToDo(plan) => {
            plan.warnings.iter().for_each(|warning| session.out.warn(warning));
            session.out.text(&show::shown(plan, session.now()).0)
        }
    }
}

/// Nothing was done: a script that goes on as if the day had just been restored would be wrong.
fn already(pending: &PendingRestore, session: &Session) -> Result<(), Failure> {
    if session.out.json {
        session.out.document(&json!({"outcome": "already", "restore": pending}))?;
        return Err(Failure::told(Kind::Pending));
    }
    Err(show::done(pending, session.now()))
}

fn request(args: &Args, origin: Origin<Vault>) -> Result<Request, Failure> {
    Ok(Request {
        target: target(args)?,
        day: origin.day,
        vault: origin.vault,
        repository: origin.repository,
        state_dir: origin.state_dir,
        place: origin.place,
        asks_hold: origin.trusts_hold,
        in_use: origin.in_use,
        choice: args.parts.choice(),
        jobs: args.jobs.map(usize::from),
        guard: run::own_program()?,
        started_by: place::caller(),
    })
}

fn target(args: &Args) -> Result<Target, Failure> {
    let (trees, server) = (args.place.to.clone(), args.place.to_server.as_deref().map(server).transpose()?);
    if trees.is_none() && server.is_none() {
        let (hold, start) = (!args.no_hold, args.start);
        return Ok(Target::InPlace(InPlace { hold, start, accept_failed_check: args.accept_failed_check }));
    }
    for (given, option) in [(args.start, "--start"), (args.accept_failed_check, "--accept-failed-check")] {
        if given {
            let text = format!("{option} is for a restore in place, not for --to and --to-server");
            return Err(Failure::new(Kind::Usage, text));
        }
    }
    let server = server.map(Box::new);
    let trees = trees.map(|to| std::path::absolute(&to).unwrap_or(to));
    Ok(Target::Elsewhere { trees, server })
}

fn server(text: &str) -> Result<Server, Failure> {
    conninfo::parse(text).map_err(|problem| Failure::new(Kind::Usage, format!("--to-server: {problem}")))
}

/// `--undo` and `--confirm`.
fn settle(args: &Args, session: &Session) -> Result<(), Failure> {
    let origin = Origin::of_record(args, session)?;
    if !args.yes && !can_ask() {
        let (option, what) = if args.ending.undo {
            ("--undo", "loses what has been written since the restore")
        } else {
            ("--confirm", "drops what was there before the restore")
        };
        let text = format!("{option} {what}: it asks first, and nobody can be asked here");
        return Err(Failure::new(Kind::Usage, text).hint("--yes does it without asking"));
    }
    let order = Settle {
        repository: origin.repository,
        vault: origin.vault,
        start: args.start,
        hold: !args.no_hold,
        state_dir: origin.state_dir,
        guard: run::own_program()?,
        started_by: place::caller(),
    };
    let (undo, what) = (args.ending.undo, if args.ending.undo { "taking it back" } else { "confirming it" });
    let yes = args.yes;
    let ended = until_done_or_told(session, what, |context, progress| async move {
        let (out, now, cancel) = (session.out, session.now(), context.cancel.clone());
        let asking = Asking { out, progress: &progress, now, yes, cancel };
        if undo {
            restore::undo(&order, &asking, &context).await
        } else {
            restore::confirm(&order, &asking, &context).await
        }
    })?;
    match ended {
        Ended::Settled(settled) => tell_settled(&settled, undo, session),
        Ended::Declined { .. } => {
            Err(Failure::new(Kind::Failed, "not done, as you wish; the restore stays as it is"))
        }
    }
}

/// What came of it.
fn tell(outcome: Outcome, place: &str, no_hold: bool, session: &Session) -> Result<(), Failure> {
    let restored = match outcome {
        Outcome::Restored(restored) => restored,
        Outcome::Already { pending, .. } => return already(&pending, session),
        Outcome::Declined { .. } => {
            return Err(Failure::new(Kind::Failed, "not restored, as you wish; nothing was changed"));
        }
        Outcome::Busy { job, reason } => {
            let failure = Failure::new(Kind::Busy, format!("job {job} was skipped: {reason}"));
            return Err(failure.hint("nothing was changed: try again later, or set on_busy = \"kill\""));
        }
    };
    if session.out.json {
        return session.out.document(&json!({ "outcome": "restored", "restored": restored }));
    }
    session.out.text(&page(&restored, place, no_hold).0)
}

fn page(restored: &Restored, place: &str, no_hold: bool) -> Page {
    let Restored { job, repository, day, seconds, in_place, started, .. } = restored;
    let mut page = Page::default();
    let took = figures::length(*seconds);
    page.line(format!("{repository}: the day {day} is restored (job {job}), in {took}"));
    for check in &restored.checks {
        let rows = figures::count(check.rows, "row");
        let missing = match check.missing {
            0 => "every file is there".to_owned(),
            missing => format!("{} missing", figures::count(missing, "file")),
        };
        page.line(format!("  check {}: {rows}, {missing}", check.name));
    }
    if let Some(failed) = &restored.failed_check {
        page.line(format!("  CHECK FAILED: {failed}"));
    }
    for tree in &restored.elsewhere {
        page.line(format!("  in {}", tree.display()));
    }
    if !in_place {
        return page;
    }
    if !started && !no_hold {
        page.line("  the scheduler was found stopped, and stays so: start it yourself");
    }
    let space = if place.is_empty() { "" } else { " " };
    let command = |option: &str| format!("daykeep restore {repository} {option}{space}{place}");
    show::ways_to_end(&command("--undo"), &command("--confirm"), &mut page);
    page
}

fn tell_settled(settled: &Settled, undo: bool, session: &Session) -> Result<(), Failure> {
    if session.out.json {
        let outcome = if undo { "undone" } else { "confirmed" };
        return session.out.document(&json!({ "outcome": outcome, "settled": settled }));
    }
    let Settled { job, repository, day, .. } = settled;
    let mut text = if undo {
        format!(
            "{repository}: the restore of {day} is taken back (job {job}): everything is as it was before it\n"
        )
    } else {
        format!(
            "{repository}: the restore of {day} is confirmed (job {job}): what was there before is dropped\n"
        )
    };
    if settled.stays_stopped {
        text.push_str("  the restore had found the scheduler stopped, and it stays so: start it yourself\n");
    }
    session.out.text(&text)
}
