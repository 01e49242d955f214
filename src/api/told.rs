//! What journals, vaults and records say, in the words of the socket: the daemon and the command that does without one tell the same.

use jiff::Timestamp;

use crate::api::wire;
use crate::hold::{self, HoldRecord};
use crate::journal::{self, Job, JobState};
use crate::vault::{Days, Proof, ProofKind, Vault, proven, repaired_since_drill};

/// A job as its journal has it. How long it took is for whoever knows the time.
#[must_use]
pub fn job(job: Job) -> wire::Job {
    wire::Job {
        id: job.id,
        kind: job.kind.word().to_owned(),
        repository: job.repository,
        state: state(job.state),
        phase: job.phase,
        message: job.message,
        current: 0,
        total: None,
        unit: None,
        error: job.error,
        detail: job.detail,
        started_by: job.started_by,
        started: job.started,
        ended: job.ended,
        elapsed_seconds: 0.0,
        held: false,
        held_seconds: None,
        paused_seconds: None,
        day: job.day,
    }
}

fn state(state: JobState) -> wire::JobState {
    match state {
        JobState::Running => wire::JobState::Running,
        JobState::Succeeded => wire::JobState::Succeeded,
        JobState::Failed => wire::JobState::Failed,
        JobState::Skipped => wire::JobState::Skipped,
        JobState::Cancelled => wire::JobState::Cancelled,
    }
}

/// What the days of a vault have been put to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Proofs {
    /// The newest day that is proven.
    pub newest_proven: Option<wire::ProvenDay>,
    /// The newest verify of any day.
    pub last_verify: Option<wire::Proved>,
    /// The newest drill of any day.
    pub last_drill: Option<wire::Proved>,
}

/// Reads what is recorded of the good days. Outcomes that cannot be read prove nothing.
#[must_use]
pub fn proofs(vault: &Vault, days: &Days) -> Proofs {
    let mut found = Proofs::default();
    for day in days.good.iter().rev() {
        let Ok(outcomes) = vault.proofs(day.name()) else { continue };
        if let (None, Some(drill)) = (&found.newest_proven, proven(&outcomes)) {
            found.newest_proven = Some(wire::ProvenDay {
                name: day.name().to_owned(),
                freeze_point: day.manifest().freeze_point,
                drilled: drill.at,
                restore_seconds: drill.seconds.total,
            });
        }
        newest(&mut found.last_verify, day.name(), ProofKind::Verify, &outcomes);
        newest(&mut found.last_drill, day.name(), ProofKind::Drill, &outcomes);
    }
    found
}

fn newest(last: &mut Option<wire::Proved>, day: &str, kind: ProofKind, outcomes: &[Proof]) {
    let Some(outcome) = outcomes.iter().rev().find(|outcome| outcome.kind == kind) else { return };
    if last.as_ref().is_none_or(|last| last.at < outcome.at) {
        *last = Some(wire::Proved {
            day: day.to_owned(),
            at: outcome.at,
            ok: outcome.ok,
            database_seconds: outcome.seconds.database,
            trees_seconds: outcome.seconds.trees,
            total_seconds: outcome.seconds.total,
            damages: outcome.damages,
            first: outcome.first.first().cloned(),
            repaired_since: kind == ProofKind::Drill && repaired_since_drill(outcomes),
        });
    }
}

/// A restore that waits.
#[must_use]
pub fn pending_restore(pending: &journal::PendingRestore) -> wire::PendingRestore {
    wire::PendingRestore {
        job: pending.job,
        day: pending.day.clone(),
        phase: pending.phase.word().to_owned(),
        over: pending.is_over(),
        started: pending.started,
        text: pending.to_string(),
    }
}

/// A hold that is not released.
#[must_use]
pub fn hold(record: &HoldRecord) -> wire::Hold {
    let phase = match record.phase {
        hold::Phase::Intent | hold::Phase::Pausing => "pausing",
        hold::Phase::Paused { .. } => "paused",
        hold::Phase::Releasing { .. } | hold::Phase::Released { .. } => "releasing",
    };
    wire::Hold {
        job: record.run,
        since: record.since,
        phase: phase.to_owned(),
        attempts: record.attempts,
        error: record.last_error.clone(),
        guard: record.living_guard(),
    }
}

/// A hold that outlives its run; None when this is none.
#[must_use]
pub fn kept(record: &HoldRecord) -> Option<wire::KeptHold> {
    let reason = record.keep.clone()?;
    Some(wire::KeptHold { job: record.run, since: record.since, reason })
}

/// Whole seconds since a freeze point; a clock that went back makes nothing younger than new.
#[must_use]
pub fn age(freeze_point: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(freeze_point).as_secs()).unwrap_or(0)
}

/// The worst of all: None when one has none, or there is none.
#[must_use]
pub fn worst(ages: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    let ages: Option<Vec<u64>> = ages.into_iter().collect();
    ages.and_then(|ages| ages.into_iter().max())
}
