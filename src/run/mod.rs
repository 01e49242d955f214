//! The backup of a repository: one readable function.
//!
//! Crash argument, step by step. Before `Hold` nothing of the repository was touched: a killed run leaves a building
//! directory that is not a day (the next run picks it up) and a job without an end (shown failed). From the moment
//! `hold::pause` begins, a record on disk and the guard process answer for the release, whatever becomes of this
//! process. After `Release` the run only writes into the building directory, until `seal` makes it a day by one
//! rename. Pruning comes last and only after a seal.

mod day;
mod error;
mod freeze;
mod preflight;
mod probe;
mod room;

use std::path::PathBuf;

use crate::config::Repository;
use crate::crosscheck;
use crate::database;
use crate::event::{Context, Event, Notices as _, Phase};
use crate::hold;
use crate::journal::{End, JobKind, Journal, sentence_of};
use crate::manifest::Manifest;
use crate::reunpack;
use crate::vault::{self, Day, Locked, Vault};

pub use error::Error;
pub use probe::{Finding, Verdict, probe};

/// What is to be backed up, and for whom.
#[derive(Debug, Clone)]
pub struct Request {
    /// The repository, as configured.
    pub repository: Repository,
    /// Where the durable records live.
    pub state_dir: PathBuf,
    /// The `daykeep` program, started as the guard that outlives this process.
    pub guard: PathBuf,
    /// Who asked: `schedule`, `catch-up`, or a user.
    pub started_by: String,
}

/// How a run that did not fail ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A day was sealed.
    Sealed {
        /// The job's number.
        job: u64,
        /// What the day says of itself.
        manifest: Box<Manifest>,
        /// Days removed by the keep rules.
        pruned: Vec<String>,
    },
    /// The scheduler was busy: it was released and nothing was kept.
    Skipped {
        /// The job's number.
        job: u64,
        /// Why, one sentence.
        reason: String,
    },
}

/// Backs a repository up: from the lock to the sealed day, all of it in the job's journal.
///
/// # Errors
/// Any step failed. The repository has been released (or its guard is doing it), no half day is listed, and no kept day
/// was touched.
pub async fn backup(request: &Request, context: &Context) -> Result<Outcome, Error> {
    let mut journal = Journal::begin(
        &request.state_dir,
        &request.repository.name,
        JobKind::Backup,
        &request.started_by,
        context.clock.now(),
    )?;
    context.observer.observe(&Event::Job { id: journal.id() });
    let kept = Box::pin(keep_a_day(request, &mut journal, context)).await.map_err(Error::settled);
    let end = match &kept {
        Ok((day, _)) => End::Succeeded { day: Some(day.name().to_owned()) },
        Err(error) => error.end(),
    };
    let written = journal.finish(&end, context.clock.now());
    if let (Err(_), Err(error)) = (&kept, &written) {
        // Why the run failed matters more. Without an end the job counts as failed.
        context.observer.warn(format!(
            "the end of job {} could not be recorded: {}",
            journal.id(),
            sentence_of(error)
        ));
    }
    match (kept, end) {
        (Ok((day, pruned)), _) => {
            written?;
            Ok(Outcome::Sealed { job: journal.id(), manifest: Box::new(day.manifest().clone()), pruned })
        }
        (Err(_), End::Skipped { reason }) => Ok(Outcome::Skipped { job: journal.id(), reason }),
        (Err(error), _) => Err(error),
    }
}

/// The run in one straight line.
async fn keep_a_day(
    request: &Request,
    journal: &mut Journal,
    context: &Context,
) -> Result<(Day, Vec<String>), Error> {
    let repository = &request.repository;
    let started = context.clock.now();
    let mut step = Steps { journal, context };

    step.begin(Phase::Begin)?;
    // Before all else: a vault that is not there must not keep the repository paused.
    hold::release_leftovers(&request.state_dir, Some(&repository.name), false, context).await?;
    let vault = Vault::create(&repository.vault, &repository.name)?;
    let holder = format!("daykeep run, process {}, job {}", std::process::id(), step.journal.id());
    let vault = vault.lock(&holder, started).map_err(|error| locked(error, repository))?;
    preflight::nothing_half_restored(request)?;
    let writer = vault.begin(step.journal.id(), repository.new_base_every, started, &context.cancel)?;

    step.begin(Phase::Preflight)?;
    preflight::apart(repository)?;
    let database = preflight::database(repository, context).await?;
    crosscheck::ask_all(repository, database.as_ref()).await?;
    if let Some(database) = &database {
        reunpack::ask(repository, database).await?;
    }
    let on_server = database.as_ref().map_or(0, database::Prepared::bytes);
    room::before(&vault, &writer, on_server, &repository.limits, context)?;

    step.begin(Phase::Warm)?;
    let warm = async |context: &Context| freeze::warm(repository, &writer, context).await;
    let trees = room::watched(&vault, &repository.limits, context, warm).await?;

    step.begin(Phase::Hold)?;
    let mut held = hold::pause(
        hold::Request {
            repository: &repository.name,
            run: step.journal.id(),
            purpose: hold::Purpose::Backup,
            hold: &repository.hold,
            server: repository.database.as_ref().map(|database| &database.server),
            state_dir: &request.state_dir,
            guard: &request.guard,
        },
        context,
    )
    .await?;
    let marked = match step.begin(Phase::Freeze) {
        Ok(()) => freeze::mark(&mut held, database, trees, context).await,
        Err(error) => Err(error),
    };
    let recorded = step.begin(Phase::Release);
    let released = held.release().await;
    let frozen = freeze::Frozen::after(marked, recorded, released)?;

    step.begin(Phase::Dump)?;
    let contents = day::fill(frozen, repository, &writer, context).await?;

    step.begin(Phase::CrossCheck)?;
    let contents = day::cross_checked(contents, repository, &writer, context).await?;

    step.begin(Phase::Seal)?;
    let (manifest, seals) = contents.into_manifest(repository, &writer, step.journal.id(), started, context);
    let sealed = writer.seal(manifest, seals)?;

    step.begin(Phase::Prune)?;
    let pruned = prune(&vault, repository, context);
    Ok((sealed, pruned))
}

fn locked(error: vault::Error, repository: &Repository) -> Error {
    match error {
        source @ vault::Error::Locked { .. } => Error::Locked { repository: repository.name.clone(), source },
        other => Error::Vault(other),
    }
}

/// Removes what the keep rules no longer keep. The day is sealed by now: what goes wrong here is a warning.
fn prune(vault: &Locked, repository: &Repository, context: &Context) -> Vec<String> {
    let plan = vault.plan_prune(&repository.keep, &repository.zone(), context.clock.now());
    let pruned = plan.and_then(|plan| vault.prune(&plan, context));
    pruned.unwrap_or_else(|error| {
        let why = sentence_of(&error);
        context.observer.warn(format!("the day is kept, but old days could not be removed: {why}"));
        Vec::new()
    })
}

/// Writes each phase into the journal before it begins, and tells the observer.
struct Steps<'a> {
    journal: &'a mut Journal,
    context: &'a Context,
}

impl Steps<'_> {
    fn begin(&mut self, phase: Phase) -> Result<(), Error> {
        self.journal.step(phase, self.context.clock.now())?;
        self.context.observer.phase(phase);
        // The release is never left out, and what is sealed is kept: removing old days ends by itself.
        let may_stop = !matches!(phase, Phase::Release | Phase::Prune);
        if self.context.cancel.is_cancelled() && may_stop {
            return Err(Error::Cancelled);
        }
        Ok(())
    }
}
