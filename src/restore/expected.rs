//! How long a restore will take, by the newest drill of any day: its seconds for the databases and for the trees, each scaled
//! by how much there is to do now.

use std::time::Duration;

use crate::manifest::Manifest;
use crate::vault::{Proof, ProofKind};

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Work {
    /// Bytes of rows.
    pub(super) row_bytes: u64,
    /// Bytes of files.
    pub(super) file_bytes: u64,
}

impl Work {
    /// All that a drill of this day does.
    pub(super) fn of_day(day: &Manifest) -> Self {
        let databases = day.database.iter().flat_map(|of| &of.databases);
        Self {
            row_bytes: databases.map(|database| database.row_bytes).sum(),
            file_bytes: day.trees.values().map(|tree| tree.bytes).sum(),
        }
    }
}

/// The newest drill that succeeded: what it did, and what came of it.
pub(super) fn newest_drill(drills: Vec<(Work, Vec<Proof>)>) -> Option<(Work, Proof)> {
    let good =
        drills.into_iter().flat_map(|(work, proofs)| proofs.into_iter().map(move |proof| (work, proof)));
    good.filter(|(_, proof)| proof.kind == ProofKind::Drill && proof.ok).max_by_key(|(_, proof)| proof.at)
}

/// How long `work` takes if a drill that did `measured` took so long. None: a drill of nothing measures nothing.
pub(super) fn expected(work: Work, measured: Work, drill: &Proof) -> Option<Duration> {
    let database = scaled(drill.seconds.database, work.row_bytes, measured.row_bytes)?;
    let trees = scaled(drill.seconds.trees, work.file_bytes, measured.file_bytes)?;
    Duration::try_from_secs_f64(database + trees).ok()
}

/// A drill of little tells nothing of much more: most of its seconds went to beginning and ending.
const FARTHEST: u64 = 10;

#[expect(clippy::cast_precision_loss, reason = "a forecast need not be exact")]
fn scaled(seconds: f64, wanted: u64, measured: u64) -> Option<f64> {
    match (wanted, measured) {
        (0, _) => Some(0.0),
        (_, 0) => None,
        _ if wanted / measured >= FARTHEST => None,
        _ => Some(seconds * wanted as f64 / measured as f64),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{Work, expected, newest_drill};
    use crate::vault::{Proof, ProofKind, ProofSeconds};

    fn drill(at: i64, ok: bool, database: f64, trees: f64) -> Proof {
        Proof {
            at: Timestamp::from_second(at).unwrap(),
            kind: ProofKind::Drill,
            ok,
            sampled: None,
            seconds: ProofSeconds { database, trees, total: database + trees },
            damages: 0,
            first: Vec::new(),
            by: String::new(),
        }
    }

    #[test]
    fn a_drill_is_scaled_by_what_there_is_to_do() {
        let measured = Work { row_bytes: 100, file_bytes: 1000 };
        let took = drill(1, true, 10.0, 20.0);
        let of = |row_bytes, file_bytes| expected(Work { row_bytes, file_bytes }, measured, &took);
        assert_eq!(of(200, 500), Some(Duration::from_secs(30)));
        assert_eq!(of(0, 1000), Some(Duration::from_secs(20)));
        assert_eq!(expected(measured, Work { row_bytes: 0, file_bytes: 1000 }, &took), None);
        assert_eq!(of(1000, 1000), None, "ten times as much is beyond what it can tell");
    }

    #[test]
    fn the_newest_drill_that_succeeded_counts() {
        let work = |row_bytes| Work { row_bytes, file_bytes: 0 };
        let drills = vec![
            (work(1), vec![drill(5, true, 1.0, 1.0), drill(9, false, 1.0, 1.0)]),
            (work(2), vec![drill(7, true, 2.0, 2.0)]),
        ];
        assert_eq!(newest_drill(drills), Some((work(2), drill(7, true, 2.0, 2.0))));
        assert_eq!(newest_drill(Vec::new()), None);
    }
}
