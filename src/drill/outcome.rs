//! What came of a drill.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::database::Comparison;
use crate::drill::Trees;
use crate::manifest::CheckRecord;
use crate::vault::{Proof, ProofKind, ProofSeconds};

/// How many findings a proof remembers.
const REMEMBERED: usize = 20;

/// A drill that was made.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its number in the journal.
    pub job: Option<u64>,
    /// The repository.
    pub repository: String,
    /// The day.
    pub day: String,
    /// All that is wrong with the day, a sentence each; none: it restores to what it was.
    pub findings: Vec<String>,
    /// What an admin should know and is no fault of the day.
    pub notes: Vec<String>,
    /// The server that the databases were restored into; None for a day without databases.
    pub server: Option<String>,
    /// What was compared; None for a day without databases, or when they could not be restored.
    pub comparison: Option<Comparison>,
    /// Whether a seal record outside the day was there to compare with.
    pub sealed: bool,
    /// What was done with the trees.
    pub trees: Trees,
    /// Files of the trees that were restored or read, and their bytes.
    pub files: u64,
    /// See `files`.
    pub bytes: u64,
    /// Trees that were not restored whole: a damage in its files ends a tree.
    pub trees_damaged: u64,
    /// The cross-checks that passed.
    pub checks: Vec<CheckRecord>,
    /// How long a restore took: an admin can count on that. `total` is the databases, the trees and the cross-check.
    pub recovery: ProofSeconds,
    /// How long the drill took, with all its comparing.
    pub seconds: f64,
    /// Whether it looked at all of the day: then it was recorded, and proves the day or not.
    pub whole: bool,
    /// Where what was restored was left, when that was asked for.
    pub kept: Option<PathBuf>,
}

impl Outcome {
    /// Whether nothing is wrong with what was looked at.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether the day is proven by this drill.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.whole && self.is_sound()
    }

    /// One sentence about a day that does not restore to what it was.
    #[must_use]
    pub fn sentence(&self) -> String {
        let first = self.findings.first().map(String::as_str).unwrap_or_default();
        match self.findings.len() {
            0 => format!("the day {} restores to what it was", self.day),
            1 => format!("the day {} does not restore to what it was: {first}", self.day),
            more => {
                format!(
                    "the day {} does not restore to what it was: {first}; and {} more",
                    self.day,
                    more - 1
                )
            }
        }
    }

    /// What the vault remembers of it.
    pub(super) fn proof(&self, at: Timestamp) -> Proof {
        Proof {
            at,
            kind: ProofKind::Drill,
            ok: self.is_sound(),
            sampled: None,
            seconds: self.recovery,
            damages: self.findings.len() as u64,
            first: self.findings.iter().take(REMEMBERED).cloned().collect(),
            by: format!("daykeep {}", env!("CARGO_PKG_VERSION")),
        }
    }
}
