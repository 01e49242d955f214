//! A day restored into a scratch server and a scratch directory, compared with what was recorded of it, and thrown away.
//!
//! A drill can only ever touch its own scratch directory. Its [`Request`] holds no server; the one that it makes is the only one
//! whose [`Empty`](crate::postgres::Empty) a restore takes; all files are made below a directory that bears a marker, and nothing without a marker
//! is removed. It changes one thing outside: it adds its outcome to the day's proofs.
//!
//! What is wrong with the day is no error: all of it is found, and told as the [`Outcome`]. An [`Error`] tells that the drill could not
//! be made; then nothing was learnt of the day, and nothing is recorded of it.
//!
//! Crash argument: killed at any moment, the scratch server ends a moment later, since it reads a pipe of ours; the scratch directory is
//! left, unlocked, for the next drill to remove; the job has no end and counts as failed; and the day has no new proof. The proof is
//! written when all is compared, before the scratch directory is removed.

mod database;
mod error;
mod outcome;
mod request;
mod room;
mod trees;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::config::{self, Check};
use crate::event::{Context, Event, Notices as _, Phase};
use crate::journal::{End, JobKind, Journal};
use crate::manifest::{TreeRecord, TreeSeal};
use crate::postgres::ScratchDir;
use crate::vault::{self, Day, ProofSeconds};
use crate::verify;

pub use error::Error;
pub use outcome::Outcome;
pub use request::{Journaled, Request, Trees};

/// Drills a day. The outcome tells whether the day restores to what it was; that it does not is no error.
///
/// # Errors
/// The drill could not be made: there is no such day, no room, no PostgreSQL server to be had, or the job is cancelled. Whatever was made for
/// it is removed.
pub async fn drill(request: &Request, context: &Context) -> Result<Outcome, Error> {
    let begin = |journaled: &Journaled| {
        let Journaled { state_dir, started_by } = journaled;
        let (repository, now) = (request.vault.repository(), context.clock.now());
        Journal::begin(state_dir, repository, JobKind::Drill, started_by, now)
    };
    let mut journal = request.journal.as_ref().map(begin).transpose()?;
    let job = journal.as_ref().map(Journal::id);
    if let Some(id) = job {
        context.observer.observe(&Event::Job { id });
    }
    let made = Box::pin(make(request, &mut Steps { journal: journal.as_mut(), context })).await;
    let made = made.map(|outcome| Outcome { job, ..outcome }).map_err(Error::settled);
    let Some(mut journal) = journal else { return made };
    let written = journal.finish(&end_of(&made), context.clock.now());
    if let (Err(_), Err(error)) = (&made, &written) {
        // Why the drill failed matters more. Without an end the job counts as failed.
        context.observer.warn(format!("the end of job {} could not be recorded: {error}", journal.id()));
        return made;
    }
    written?;
    made
}

/// What the journal says of it.
fn end_of(made: &Result<Outcome, Error>) -> End {
    match made {
        Ok(outcome) if outcome.is_sound() => End::Succeeded { day: Some(outcome.day.clone()) },
        Ok(outcome) => End::Failed { error: outcome.sentence(), detail: outcome.findings.join("\n") },
        Err(Error::Cancelled) => End::Cancelled,
        Err(error) => End::failed(error),
    }
}

/// The drill in one straight line.
async fn make(request: &Request, step: &mut Steps<'_>) -> Result<Outcome, Error> {
    let context = step.context;
    step.begin(Phase::Begin)?;
    let day = request.vault.choose(&request.day, context.clock.now())?;
    let _pin = day.pin()?;
    let (scratch, left) = ScratchDir::make(&request.directory, context.clock.now()).await?;
    if left > 0 {
        context.observer.info(format!("removed what {left} killed drills had left"));
    }
    let made = in_scratch(request, &day, &scratch, step).await;
    // Thrown away whatever came of it.
    let kept = if request.keep && made.is_ok() {
        scratch.keep().map(Some)
    } else {
        scratch.remove().await.map(|()| None)
    };
    match (made, kept) {
        (Ok(outcome), Ok(kept)) => Ok(Outcome { kept, ..outcome }),
        (Ok(_), Err(error)) => Err(Error::NotRemoved(error)),
        (Err(error), Ok(_)) => Err(error),
        (Err(error), Err(also)) => {
            context.observer.warn(format!("the scratch directory cannot be removed: {also}"));
            Err(error)
        }
    }
}

/// All that is done below the scratch directory, and the proof.
async fn in_scratch(
    request: &Request,
    day: &Day,
    scratch: &ScratchDir,
    step: &mut Steps<'_>,
) -> Result<Outcome, Error> {
    let context = step.context;
    let begun = context.clock.monotonic();
    let since = |begun: Duration| context.clock.monotonic().saturating_sub(begun).as_secs_f64();

    step.begin(Phase::Preflight)?;
    room::enough(day, scratch.path(), request.trees)?;
    let checks = checks_of(day, context);
    let mut outcome = empty_outcome(request, day);

    step.begin(Phase::Verify)?;
    look_over(request, day, &mut outcome, context).await?;
    let seal = match request.vault.seal_of(day.name()) {
        // The verify has told.
        Err(vault::Error::DamagedRecord { .. }) => None,
        seal => seal?,
    };
    outcome.sealed = seal.is_some();
    if let Some(seal) = &seal {
        outcome.compare_trees(&day.manifest().trees, &seal.trees);
    }

    let restoring = context.clock.monotonic();
    let loaded = database::load(request, day, scratch, step, &mut outcome).await?;
    outcome.recovery.database = since(restoring);

    step.begin(Phase::Stage)?;
    let staging = context.clock.monotonic();
    trees::restore(request, day, scratch, &mut outcome, context).await?;
    outcome.recovery.trees = since(staging);

    step.begin(Phase::CrossCheck)?;
    if let Some(loaded) = &loaded {
        let copied = scratch.path().join(trees::DIRECTORY);
        let roots = if request.trees == Trees::Copy { copied } else { day.trees() };
        database::cross_check(loaded, &checks, &roots, &mut outcome, context).await?;
    }
    outcome.recovery.total = since(restoring);

    step.begin(Phase::Compare)?;
    if let Some(loaded) = loaded {
        let seals = seal.as_ref().map(|seal| seal.databases.as_slice());
        database::compare(request, day, &loaded, seals, &mut outcome, context).await?;
        loaded.stop().await;
    }
    outcome.seconds = since(begun);
    if outcome.whole {
        match request.vault.add_proof(day.name(), outcome.proof(context.clock.now())) {
            // A vault alone may be a disk that is mounted for reading.
            Err(error) if request.journal.is_none() => {
                outcome.notes.push(format!("the outcome is not recorded in the vault: {error}"));
            }
            recorded => recorded?,
        }
    }
    Ok(outcome)
}

fn empty_outcome(request: &Request, day: &Day) -> Outcome {
    Outcome {
        job: None,
        repository: request.vault.repository().to_owned(),
        day: day.name().to_owned(),
        findings: Vec::new(),
        notes: Vec::new(),
        server: None,
        comparison: None,
        sealed: false,
        trees: request.trees,
        files: 0,
        trees_damaged: 0,
        bytes: 0,
        checks: Vec::new(),
        recovery: ProofSeconds::default(),
        seconds: 0.0,
        whole: request.trees != Trees::Skip || day.manifest().trees.is_empty(),
        kept: None,
    }
}

/// The cross-checks of the configuration that the day was made with.
fn checks_of(day: &Day, context: &Context) -> BTreeMap<String, Check> {
    let manifest = day.manifest();
    let parsed = config::parse(&day.path().join("manifest.json"), &manifest.configuration);
    match parsed.map(|mut config| config.repositories.remove(&manifest.repository)) {
        Ok(repository) => repository.map(|repository| repository.checks).unwrap_or_default(),
        Err(error) => {
            let text = "the configuration in the day cannot be read, and no cross-check is made";
            context.observer.warn(format!("{text}: {error}"));
            BTreeMap::new()
        }
    }
}

/// What can be known of the day without restoring it: its seal, its manifest, its records, and the names in its trees. What is in the
/// databases' files is held against its digests when it is loaded; what is in the trees' files when they are copied, or here when
/// they are not to be copied.
async fn look_over(
    request: &Request,
    day: &Day,
    outcome: &mut Outcome,
    context: &Context,
) -> Result<(), Error> {
    let trees = if request.trees == Trees::Skip { verify::Chosen::none() } else { verify::Chosen::All };
    let choice = verify::Choice {
        databases: verify::Chosen::none(),
        trees,
        tree_content: false,
        bin_dir: request.bin_dir.clone(),
        ..verify::Choice::default()
    };
    let report = verify::day(day, &choice, context).await.map_err(Error::Verify)?;
    outcome.tell_damages(&report);
    Ok(())
}

impl Outcome {
    /// What was put into the trees when the day was sealed, with what the day says now. A verify that finds the manifest changed
    /// believes neither; here both are told.
    fn compare_trees(&mut self, trees: &BTreeMap<String, TreeRecord>, sealed: &BTreeMap<String, TreeSeal>) {
        for (name, seal) in sealed {
            let Some(tree) = trees.get(name) else {
                self.findings.push(format!("tree {name} is missing"));
                continue;
            };
            let is = TreeSeal { entries: tree.entries, files: tree.files, bytes: tree.bytes };
            if is != *seal {
                self.findings.push(format!(
                    "tree {name} has {} names, {} files and {} bytes, and {}, {} and {} were recorded when the day was sealed",
                    is.entries, is.files, is.bytes, seal.entries, seal.files, seal.bytes
                ));
            }
        }
    }

    fn tell_damages(&mut self, report: &verify::Report) {
        for damage in &report.damages {
            let sentence = format!("{}: {}; {}", verify::shown(&damage.file), damage.problem, damage.means);
            if !self.findings.contains(&sentence) {
                self.findings.push(sentence);
            }
        }
        let untold = report.total.saturating_sub(report.damages.len() as u64);
        if untold > 0 {
            self.findings.push(format!("{untold} more files are damaged: `daykeep verify` tells of them"));
        }
        self.notes.extend(report.notes.iter().cloned());
    }
}

/// Writes each phase into the journal before it begins, and tells the observer.
struct Steps<'a> {
    journal: Option<&'a mut Journal>,
    context: &'a Context,
}

impl Steps<'_> {
    fn begin(&mut self, phase: Phase) -> Result<(), Error> {
        if let Some(journal) = &mut self.journal {
            journal.step(phase, self.context.clock.now())?;
        }
        self.context.observer.phase(phase);
        if self.context.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Whether a path lies in the day, so that what is wrong there is the day's fault.
fn is_in(day: &Day, path: &Path) -> bool {
    path.starts_with(day.path())
}
