//! What is known of a day before it is restored: what its verifies and drills found, and which day is the newest that is proven.

use jiff::Timestamp;
use serde::Serialize;

use crate::restore::{Error, Proven, Request, Target};
use crate::vault::{Day, Proof, ProofKind, Standing, proven};

/// Why a day is not sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// When it was found.
    pub at: Timestamp,
    /// How many damages or differences there are.
    pub damages: u64,
    /// The first of them, or why the drill failed.
    pub first: Option<String>,
}

/// A day that is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewestProven {
    /// Its name.
    pub day: String,
    /// The instant that it shows.
    pub freeze_point: Timestamp,
}

/// All of it.
pub(super) struct Known {
    pub(super) standing: Standing,
    pub(super) proven: Option<Proven>,
    pub(super) finding: Option<Finding>,
    pub(super) newest_proven: Option<NewestProven>,
    /// For an admin, before the question.
    pub(super) warnings: Vec<String>,
}

/// Reads the outcomes. Those that cannot be read prove nothing, and stop no restore.
pub(super) fn of(request: &Request, day: &Day, now: Timestamp) -> Result<Known, Error> {
    let mut warnings = Vec::new();
    let proofs = request.vault.proofs(day.name()).unwrap_or_else(|error| {
        warnings.push(format!("what verifies and drills found of this day cannot be read: {error}"));
        Vec::new()
    });
    let standing = Standing::of(&proofs);
    let drill = proven(&proofs).map(|drill| Proven { at: drill.at, seconds: drill.seconds.total });
    let finding = finding(standing, &proofs);
    let newest_proven =
        if standing == Standing::Proven { None } else { newest_proven(request, day.name(), now)? };
    warnings.extend(warning(day.name(), standing, finding.as_ref()));
    if standing != Standing::Proven {
        warnings.push(match &newest_proven {
            Some(newest) => {
                // Elsewhere has its own options, which whoever typed them knows.
                let command = match request.target {
                    Target::InPlace(_) => format!(": `{}`", request.command(&newest.day)),
                    Target::Elsewhere { .. } => String::new(),
                };
                format!("the newest day that is proven is {}{command}", newest.day)
            }
            None => format!("no other day of {} is proven", request.repository.name),
        });
    }
    Ok(Known { standing, proven: drill, finding, newest_proven, warnings })
}

/// The outcome that decides how the day stands, if that is badly.
fn finding(standing: Standing, proofs: &[Proof]) -> Option<Finding> {
    let kind = match standing {
        Standing::Damaged => ProofKind::Verify,
        Standing::DrillFailed | Standing::Repaired => ProofKind::Drill,
        Standing::Unknown | Standing::Sampled | Standing::Verified | Standing::Proven => return None,
    };
    let found = proofs.iter().rev().find(|proof| proof.kind == kind && !proof.ok)?;
    Some(Finding { at: found.at, damages: found.damages, first: found.first.first().cloned() })
}

fn warning(day: &str, standing: Standing, finding: Option<&Finding>) -> Option<String> {
    let told = |what: &str| {
        let when = finding.map(|found| format!(" of {:.0}", found.at)).unwrap_or_default();
        let why = finding.and_then(|found| found.first.as_deref()).unwrap_or("no reason was kept");
        format!("the day {day} {what}{when}: {why}")
    };
    match standing {
        Standing::Proven => None,
        Standing::Damaged => Some(format!(
            "{}; it is verified once more, and nothing is changed if what is to be restored is damaged",
            told("was found DAMAGED by the verify")
        )),
        Standing::DrillFailed => Some(told("FAILED the drill")),
        Standing::Repaired => {
            Some(told("was repaired since and not drilled again; before, it failed the drill"))
        }
        Standing::Unknown | Standing::Sampled | Standing::Verified => {
            Some(format!("the day {day} is not proven: no drill has restored it and found it right"))
        }
    }
}

fn newest_proven(request: &Request, but: &str, now: Timestamp) -> Result<Option<NewestProven>, Error> {
    for known in request.vault.days(now)?.good.iter().rev().filter(|known| known.name() != but) {
        let proofs = request.vault.proofs(known.name()).unwrap_or_default();
        if proven(&proofs).is_some() {
            return Ok(Some(NewestProven {
                day: known.name().to_owned(),
                freeze_point: known.manifest().freeze_point,
            }));
        }
    }
    Ok(None)
}
