//! Verifying days of a repository: chosen, pinned, held against what is known of them, and the outcome recorded.

use std::path::PathBuf;

use super::report::{Damage, Fault, Part, Report, Sample, shown};
use super::{Choice, Error, day};
use crate::config::Repository;
use crate::event::{Context, Event, Notices as _, Phase};
use crate::journal::{End, JobKind, Journal};
use crate::manifest::PathBytes;
use crate::vault::{Candidate, Proof, ProofKind, ProofSeconds, Vault};

/// So many damages go into the record of an outcome.
const RECORDED: usize = 10;

/// Which days are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The newest good one, and what came after it and is not good.
    Newest,
    /// What this word means: `day1`, a date, a full name.
    Named(String),
    /// All, those that are quarantined too.
    All,
}

/// A verify of a configured repository.
#[derive(Debug, Clone)]
pub struct Request {
    /// The repository.
    pub repository: Repository,
    /// Where its journal is.
    pub state_dir: PathBuf,
    /// Which days.
    pub which: Which,
    /// How much of the content is read, in percent; None: all of it.
    pub sample: Option<f64>,
    /// Who asked: `schedule` or a user.
    pub started_by: String,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The job's number.
    pub job: u64,
    /// One for each day, oldest first.
    pub reports: Vec<Report>,
}

/// Verifies days as a job with a journal. Damage does not fail this function, but it fails the job.
///
/// # Errors
/// There is no such day, the journal cannot be written, or the job was cancelled.
pub async fn run(request: &Request, context: &Context) -> Result<Outcome, Error> {
    let repository = &request.repository;
    let now = || context.clock.now();
    let mut journal =
        Journal::begin(&request.state_dir, &repository.name, JobKind::Verify, &request.started_by, now())?;
    context.observer.observe(&Event::Job { id: journal.id() });
    journal.step(Phase::Verify, now())?;
    let done = match Vault::open(&repository.vault, &repository.name) {
        Ok(vault) => {
            let bin_dir = repository.database.as_ref().and_then(|database| database.bin_dir.clone());
            let choice = Choice { bin_dir, ..Choice::default() }.sampled(request.sample, context);
            Box::pin(days(&vault, &request.which, &choice, context)).await
        }
        Err(error) => Err(error.into()),
    };
    journal.finish(&end_of(&done), now())?;
    Ok(Outcome { job: journal.id(), reports: done? })
}

fn end_of(done: &Result<Vec<Report>, Error>) -> End {
    match done {
        Err(Error::Cancelled) => End::Cancelled,
        Err(error) => End::failed(error),
        Ok(reports) => {
            let damaged: Vec<&Report> = reports.iter().filter(|report| !report.is_sound()).collect();
            match damaged.as_slice() {
                [] => End::Succeeded { day: None },
                damaged => End::Failed {
                    error: format!(
                        "damage was found in {}",
                        damaged.iter().map(|report| report.day.as_str()).collect::<Vec<_>>().join(", ")
                    ),
                    detail: damaged
                        .iter()
                        .flat_map(|report| sentences(report))
                        .collect::<Vec<_>>()
                        .join("\n"),
                },
            }
        }
    }
}

/// Verifies days of a vault, with or without a configuration, and records each outcome beside its day.
///
/// # Errors
/// There is no such day, or the run was cancelled.
pub async fn days(
    vault: &Vault,
    which: &Which,
    choice: &Choice,
    context: &Context,
) -> Result<Vec<Report>, Error> {
    let now = context.clock.now();
    let chosen = match which {
        Which::Newest => newest(vault, now)?,
        Which::Named(which) => vec![vault.choose_any(which, now)?],
        Which::All => vault.candidates(now)?,
    };
    context.observer.phase(Phase::Verify);
    let mut reports = Vec::with_capacity(chosen.len());
    for candidate in chosen {
        if context.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        reports.push(one(vault, &candidate, choice, context).await?);
    }
    Ok(reports)
}

/// The newest good day, and what came after it and is none: that is what an admin wants to hear of first.
fn newest(vault: &Vault, now: jiff::Timestamp) -> Result<Vec<Candidate>, Error> {
    let mut chosen = vec![vault.choose_any("latest", now)?];
    let later = vault.candidates(now)?.into_iter().filter(|other| other.name > chosen[0].name);
    let later: Vec<Candidate> = later.collect();
    chosen.extend(later);
    Ok(chosen)
}

/// One day, which stays as long as it is read.
pub(super) async fn one(
    vault: &Vault,
    candidate: &Candidate,
    choice: &Choice,
    context: &Context,
) -> Result<Report, Error> {
    let mut report = match &candidate.day {
        Some(found) => {
            let _pin = found.pin()?;
            day(found, choice, context).await?
        }
        None => undescribed(candidate),
    };
    if let (Some(doubt), true) = (&candidate.doubt, report.is_sound()) {
        // What no file is to blame for: a date in the future.
        report.notes.push(format!("the day is not used: {doubt}"));
    }
    if let Err(error) = vault.add_proof(&candidate.name, proof(&report, context)) {
        // A vault that is read only can be verified all the same.
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        context.observer.warn(format!("the outcome is not recorded beside the day: {error}{cause}"));
    }
    Ok(report)
}

/// Without its manifest nothing else of a day can be told to be right or wrong.
fn undescribed(candidate: &Candidate) -> Report {
    let problem = candidate.doubt.clone().unwrap_or_else(|| "it cannot be read".to_owned());
    let damage = Damage {
        part: Part::Manifest,
        file: PathBytes(b"manifest.json".to_vec()),
        fault: Fault::Unreadable,
        also: Vec::new(),
        problem,
        means: "nothing of the day can be verified, and daykeep does not restore it; its rows and files may be whole all the same"
            .to_owned(),
        record: None,
    };
    Report {
        day: candidate.name.clone(),
        files: 0,
        bytes: 0,
        sampled: None,
        damages: vec![damage],
        total: 1,
        notes: Vec::new(),
        seconds: ProofSeconds::default(),
    }
}

fn proof(report: &Report, context: &Context) -> Proof {
    Proof {
        at: context.clock.now(),
        kind: ProofKind::Verify,
        ok: report.is_sound(),
        sampled: report.sampled.map(|sample| sample.percent),
        seconds: report.seconds,
        damages: report.total,
        first: sentences(report).take(RECORDED).collect(),
        by: format!("daykeep {}", env!("CARGO_PKG_VERSION")),
    }
}

fn sentences(report: &Report) -> impl Iterator<Item = String> {
    let sentence = |damage: &Damage| format!("{}: {}; {}", shown(&damage.file), damage.problem, damage.means);
    report.damages.iter().map(sentence)
}

impl Choice {
    /// The same with a sample of so many percent, of another choice each time; None reads everything.
    #[must_use]
    pub fn sampled(self, percent: Option<f64>, context: &Context) -> Self {
        let seed = context.clock.now().as_nanosecond().unsigned_abs();
        #[expect(clippy::cast_possible_truncation, reason = "the lower half changes the most")]
        let seed = seed as u64;
        Self { sample: percent.map(|percent| Sample { percent, seed }), ..self }
    }
}
