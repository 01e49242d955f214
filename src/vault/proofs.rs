//! What was proven of a day: `<vault>/<repository>/proofs/<day>.json`, the outcomes of its verifies and drills, oldest first.
//!
//! An outcome is added by writing the whole file anew, durably, under a lock that is held for that moment: killed at any time, the
//! file has the outcome or has it not. It goes with the day as its seal record does.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fs;
use crate::manifest::{FORMAT, LONGEST_PAGE};
use crate::vault::{Error, Vault};

/// How many outcomes of a day are remembered.
const REMEMBERED: usize = 200;

/// What was done with a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofKind {
    /// Held against its digests and records.
    Verify,
    /// Restored into a scratch server and a scratch directory, and compared.
    Drill,
}

/// The outcome of one verify or drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// When it ended.
    pub at: Timestamp,
    /// What was done.
    pub kind: ProofKind,
    /// The day is what it was when it was sealed.
    pub ok: bool,
    /// How much of the content was read, in percent; None: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<f64>,
    /// How long it took.
    pub seconds: ProofSeconds,
    /// How many damages were found.
    #[serde(default)]
    pub damages: u64,
    /// The first of them, a sentence each; or why a drill failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
    /// The daykeep that did it: `daykeep 0.1.0`.
    pub by: String,
}

/// Seconds by part. For a drill, the time in which an admin can have the day back.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ProofSeconds {
    /// The databases.
    pub database: f64,
    /// The trees.
    pub trees: f64,
    /// From beginning to end.
    pub total: f64,
}

#[derive(Serialize, Deserialize)]
struct Form {
    format: u32,
    day: String,
    proofs: Vec<Proof>,
}

impl Vault {
    pub(super) fn proofs_path(&self, day: &str) -> PathBuf {
        self.path().join("proofs").join(format!("{day}.json"))
    }

    /// The outcomes of a day, oldest first.
    ///
    /// # Errors
    /// They cannot be read, or are damaged.
    pub fn proofs(&self, day: &str) -> Result<Vec<Proof>, Error> {
        let path = self.proofs_path(day);
        let Some(bytes) = fs::read_regular(&path, LONGEST_PAGE)? else { return Ok(Vec::new()) };
        let form: Form = serde_json::from_slice(&bytes)
            .map_err(|error| Error::DamagedRecord { path: path.clone(), problem: error.to_string() })?;
        if form.day != day {
            let problem = format!("it is that of the day {}", form.day);
            return Err(Error::DamagedRecord { path, problem });
        }
        Ok(form.proofs)
    }

    /// Adds an outcome, durably. A file of outcomes that is damaged is begun anew.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add_proof(&self, day: &str, proof: Proof) -> Result<(), Error> {
        let path = self.proofs_path(day);
        let directory = fs::parent_of(&path);
        fs::create_dir_durable(directory).map_err(|error| Error::of_write(self.path(), error))?;
        let _one_at_a_time = fs::wait_for_lock(&directory.join(".lock"))?;
        let mut proofs = match self.proofs(day) {
            Err(Error::DamagedRecord { .. }) => Vec::new(),
            proofs => proofs?,
        };
        proofs.push(proof);
        proofs.drain(..proofs.len().saturating_sub(REMEMBERED));
        let form = Form { format: FORMAT, day: day.to_owned(), proofs };
        let text = serde_json::to_vec_pretty(&form)
            .map_err(|source| Error::Manifest { path: path.clone(), source })?;
        Ok(fs::write_durable(&path, &text)?)
    }

    /// The drill that proves a day, see [`proven`].
    ///
    /// # Errors
    /// As [`Vault::proofs`].
    pub fn proven(&self, day: &str) -> Result<Option<Proof>, Error> {
        Ok(proven(&self.proofs(day)?).cloned())
    }
}

/// A day is proven by its newest drill, if that succeeded and no verify has found damage since. Damage that a later verify
/// of everything no longer finds was repaired.
#[must_use]
pub fn proven(proofs: &[Proof]) -> Option<&Proof> {
    let at = proofs.iter().rposition(|proof| proof.kind == ProofKind::Drill)?;
    let (drill, later) = (&proofs[at], &proofs[at + 1..]);
    let deciding = later.iter().rev().find(|proof| !proof.ok || proof.sampled.is_none());
    (drill.ok && deciding.is_none_or(|proof| proof.ok)).then_some(drill)
}

/// Whether a day's newest drill failed, and damage that was known was mended since: a verify found some, and a later one of everything,
/// made after the drill, finds none. Whether the day restores now nobody knows before it is drilled again.
#[must_use]
pub fn repaired_since_drill(proofs: &[Proof]) -> bool {
    let Some(at) = proofs.iter().rposition(|proof| proof.kind == ProofKind::Drill) else { return false };
    let decides = |proof: &&Proof| proof.kind == ProofKind::Verify && (!proof.ok || proof.sampled.is_none());
    let deciding: Vec<(usize, &Proof)> =
        proofs.iter().enumerate().filter(|(_, proof)| decides(proof)).collect();
    let is_repair = |pair: &[(usize, &Proof)]| !pair[0].1.ok && pair[1].1.ok && pair[1].0 > at;
    !proofs[at].ok && deciding.last().is_some_and(|(_, last)| last.ok) && deciding.windows(2).any(is_repair)
}

/// How a day stands by what was proven of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing was tried yet.
    Unknown,
    /// A part of its content was read and was right.
    Sampled,
    /// All of its content was read and was right.
    Verified,
    /// It was restored and compared.
    Proven,
    /// A verify found damage, which is not known to be repaired.
    Damaged,
    /// Its newest drill failed.
    DrillFailed,
    /// Its newest drill failed, and what was damaged was repaired since: it is to be drilled again.
    Repaired,
}

impl Standing {
    /// The word for people; empty when nothing is known.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Sampled => "sampled",
            Self::Verified => "verified",
            Self::Proven => "proven",
            Self::Damaged => "DAMAGED",
            Self::DrillFailed => "DRILL FAILED",
            Self::Repaired => "repaired",
        }
    }

    /// Of the outcomes of a day, oldest first.
    #[must_use]
    pub fn of(proofs: &[Proof]) -> Self {
        let whole = |proof: &&Proof| proof.sampled.is_none();
        let verifies = || proofs.iter().filter(|proof| proof.kind == ProofKind::Verify);
        let damaged = verifies().rev().find(|proof| !proof.ok || whole(proof)).is_some_and(|proof| !proof.ok);
        let drill = proofs.iter().rev().find(|proof| proof.kind == ProofKind::Drill);
        if proven(proofs).is_some() {
            Self::Proven
        } else if damaged {
            Self::Damaged
        } else if repaired_since_drill(proofs) {
            Self::Repaired
        } else if drill.is_some_and(|drill| !drill.ok) {
            Self::DrillFailed
        } else if verifies().any(|proof| whole(&proof)) {
            Self::Verified
        } else if proofs.is_empty() {
            Self::Unknown
        } else {
            Self::Sampled
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Proof, ProofKind, ProofSeconds, Standing, proven};

    fn proof(kind: ProofKind, ok: bool, sampled: Option<f64>) -> Proof {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let (seconds, first, by) = (ProofSeconds::default(), Vec::new(), String::new());
        Proof { at, kind, ok, sampled, seconds, damages: u64::from(!ok), first, by }
    }

    #[test]
    fn a_day_stands_as_its_outcomes_say() {
        let drill = |ok| proof(ProofKind::Drill, ok, None);
        let verify = |ok, sampled| proof(ProofKind::Verify, ok, sampled);
        let word = |proofs: &[Proof]| Standing::of(proofs).word();
        assert_eq!(word(&[]), "");
        assert_eq!(word(&[verify(true, Some(5.0))]), "sampled");
        assert_eq!(word(&[verify(true, None), verify(true, Some(5.0))]), "verified");
        assert_eq!(word(&[verify(false, None), verify(true, Some(5.0))]), "DAMAGED");
        assert_eq!(word(&[verify(false, Some(5.0)), verify(true, None)]), "verified");
        assert_eq!(word(&[drill(false), verify(true, None)]), "DRILL FAILED");
        assert_eq!(word(&[drill(true), verify(true, Some(5.0))]), "proven");
        assert_eq!(word(&[drill(true), verify(false, None)]), "DAMAGED");
    }

    #[test]
    fn a_failed_drill_is_to_be_made_again_when_damage_was_repaired_since() {
        let drill = |ok| proof(ProofKind::Drill, ok, None);
        let verify = |ok, sampled| proof(ProofKind::Verify, ok, sampled);
        let word = |proofs: &[Proof]| Standing::of(proofs).word();
        let (found, mended) = (verify(false, None), verify(true, None));
        assert_eq!(word(&[drill(false), found.clone(), mended.clone()]), "repaired");
        assert_eq!(word(&[verify(false, Some(5.0)), drill(false), mended.clone()]), "repaired");
        assert_eq!(word(&[drill(false), found.clone(), verify(true, Some(5.0)), mended.clone()]), "repaired");
        // Nothing was found to be repaired, not all of it was looked at, the drill came later, or there is new damage.
        assert_eq!(word(&[mended.clone(), drill(false), mended.clone()]), "DRILL FAILED");
        assert_eq!(word(&[drill(false), found.clone(), verify(true, Some(5.0))]), "DAMAGED");
        assert_eq!(word(&[found.clone(), mended.clone(), drill(false), mended.clone()]), "DRILL FAILED");
        assert_eq!(word(&[drill(false), found.clone(), mended.clone(), found.clone()]), "DAMAGED");
        assert_eq!(word(&[drill(false), found.clone(), mended.clone(), drill(false)]), "DRILL FAILED");
        assert_eq!(word(&[drill(false), found, mended, drill(true)]), "proven");
    }

    #[test]
    fn a_drill_proves_until_damage_is_found_and_again_after_its_repair() {
        let drill = |ok| proof(ProofKind::Drill, ok, None);
        let verify = |ok, sampled| proof(ProofKind::Verify, ok, sampled);
        let is_proven = |proofs: &[Proof]| proven(proofs).is_some();
        assert!(!is_proven(&[]));
        assert!(!is_proven(&[verify(true, None)]), "a verify is no drill");
        assert!(is_proven(&[drill(false), drill(true)]));
        assert!(!is_proven(&[drill(true), drill(false)]));
        assert!(is_proven(&[verify(false, None), drill(true)]), "the drill came later");
        assert!(!is_proven(&[drill(true), verify(false, None)]));
        assert!(
            !is_proven(&[drill(true), verify(false, None), verify(true, Some(5.0))]),
            "a sample may miss it"
        );
        assert!(is_proven(&[drill(true), verify(false, None), verify(true, None)]), "it was repaired");
    }
}
