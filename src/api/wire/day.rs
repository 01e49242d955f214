//! Days.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::manifest::Manifest;

/// GET /v1/repositories/{name}/days, newest first
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Days {
    /// [`SCHEMA`](super::SCHEMA)
    pub schema: u32,
    /// The repository.
    pub repository: String,
    /// Its days.
    pub days: Vec<Day>,
    /// What stands among the days and is not a good one.
    #[serde(default)]
    pub quarantined: Vec<Quarantined>,
}

/// A directory among the days that is not a good day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its name.
    pub name: String,
    /// Why, one sentence.
    pub reason: String,
}

/// A day in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Day {
    /// Its name.
    pub name: String,
    /// Counts up by one with every day.
    pub sequence: u64,
    /// The instant that it shows.
    pub freeze_point: Timestamp,
    /// When it was sealed.
    pub sealed: Timestamp,
    /// Does it begin a chain?
    pub base: bool,
    /// The base of its chain.
    pub base_day: String,
    /// Regular files in its trees.
    pub files: u64,
    /// Bytes of its trees and of its database files.
    pub bytes: u64,
    /// Bytes that it needed anew.
    pub new_bytes: u64,
    /// Seconds for which the repository stood still for it.
    pub held_seconds: f64,
}

impl From<&Manifest> for Day {
    fn from(manifest: &Manifest) -> Self {
        let trees = manifest.trees.values();
        let (stored, new) =
            manifest.database.as_ref().map_or((0, 0), |database| (database.stored_bytes, database.new_bytes));
        Self {
            name: manifest.day.clone(),
            sequence: manifest.sequence,
            freeze_point: manifest.freeze_point,
            sealed: manifest.sealed,
            base: manifest.base,
            base_day: manifest.base_day.clone(),
            files: trees.clone().map(|tree| tree.files).sum(),
            bytes: trees.clone().map(|tree| tree.bytes).sum::<u64>() + stored,
            new_bytes: trees.map(|tree| tree.copied_bytes).sum::<u64>() + new,
            held_seconds: manifest.hold.held_seconds,
        }
    }
}

/// GET /v1/repositories/{name}/days/{day}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneDay {
    /// [`SCHEMA`](super::SCHEMA)
    pub schema: u32,
    /// What the day says of itself.
    pub manifest: Manifest,
}
