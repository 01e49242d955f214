//! `<state>/<repository>/restore.json`, as far as everybody must know it: that a restore waits, and for what. The flow that
//! restores writes the rest of it, and knows what that means.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fs;
use crate::journal::Error;

/// How far a restore in place is. Each is on the disk before what it announces is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestorePhase {
    /// Databases and files are put beside what is there; nothing that is there has changed.
    Loading,
    /// All of it is beside, and the repository is about to be told to stay held.
    Staged,
    /// What is beside takes the place of what is there.
    Switching,
    /// The day is in its place; its rows are held against its files, and the repository is released.
    Checking,
    /// The repository runs on the day. What was there before waits to be dropped or put back.
    Done,
    /// What was there before is put back.
    Undoing,
    /// What was there before is dropped.
    Confirming,
}

impl RestorePhase {
    /// The word for people and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Staged => "staged",
            Self::Switching => "switching",
            Self::Checking => "checking",
            Self::Done => "done",
            Self::Undoing => "undoing",
            Self::Confirming => "confirming",
        }
    }
}

/// A restore whose old state has not been dropped or put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRestore {
    /// The job that began it: its number is in the names of what was put beside or moved aside.
    pub job: u64,
    /// The repository.
    pub repository: String,
    /// The day.
    pub day: String,
    /// What of the day, as options of the command; empty for all of it.
    pub options: String,
    /// Where vault, records and configuration are, as options of the command; empty when it finds them by itself.
    #[serde(default)]
    pub place: String,
    /// How far it is.
    pub phase: RestorePhase,
    /// When it began.
    pub started: Timestamp,
}

impl PendingRestore {
    /// Whether it came to an end and only its old state is left. While it is half way no day may be kept: it would be the day of
    /// a repository that never was.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, RestorePhase::Done | RestorePhase::Confirming)
    }

    /// The command that goes on with it.
    #[must_use]
    pub fn command(&self) -> String {
        spaced(&["daykeep restore", &self.repository, &self.day, &self.options, &self.place])
    }

    /// The command that takes it back.
    #[must_use]
    pub fn undo(&self) -> String {
        spaced(&["daykeep restore", &self.repository, "--undo", &self.place])
    }

    /// The command that drops what was there before.
    #[must_use]
    pub fn confirm(&self) -> String {
        spaced(&["daykeep restore", &self.repository, "--confirm", &self.place])
    }
}

fn spaced(words: &[&str]) -> String {
    let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// What waits, and the commands for it.
impl fmt::Display for PendingRestore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, day, phase, .. } = self;
        let (undo, confirm) = (self.undo(), self.confirm());
        match phase {
            RestorePhase::Done => write!(
                f,
                "the restore of {day} (job {job}) is not confirmed: `{confirm}` drops what was there before, \
                 `{undo}` puts it back"
            ),
            RestorePhase::Confirming => write!(
                f,
                "the restore of {day} (job {job}) is not confirmed to the end: `{confirm}` drops the rest of what \
                 was there before"
            ),
            RestorePhase::Undoing => write!(
                f,
                "the restore of {day} (job {job}) is not taken back to the end: `{undo}` goes on with that"
            ),
            _ => write!(
                f,
                "the restore of {day} (job {job}) is not finished: `{}` goes on, `{undo}` takes it back",
                self.command()
            ),
        }
    }
}

/// The restore of the repository that waits to be finished, confirmed or taken back.
///
/// # Errors
/// The record is there and cannot be read.
pub fn pending_restore(state_dir: &Path, repository: &str) -> Result<Option<PendingRestore>, Error> {
    let path = restore_record(state_dir, repository);
    let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(None) };
    let read = serde_json::from_slice(&bytes);
    Ok(Some(read.map_err(|source| Error::DamagedRestore { path, source })?))
}

/// Where the record is.
#[must_use]
pub fn restore_record(state_dir: &Path, repository: &str) -> PathBuf {
    state_dir.join(repository).join("restore.json")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{PendingRestore, RestorePhase};

    #[test]
    fn what_waits_is_told_with_its_commands() {
        let mut pending = PendingRestore {
            job: 7,
            repository: "shop".to_owned(),
            day: "2026-11-21T010000Z".to_owned(),
            options: "--only trees".to_owned(),
            place: String::new(),
            phase: RestorePhase::Switching,
            started: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(
            pending.to_string(),
            "the restore of 2026-11-21T010000Z (job 7) is not finished: `daykeep restore shop 2026-11-21T010000Z \
             --only trees` goes on, `daykeep restore shop --undo` takes it back"
        );
        assert!(!pending.is_over());
        pending.phase = RestorePhase::Done;
        assert_eq!(
            pending.to_string(),
            "the restore of 2026-11-21T010000Z (job 7) is not confirmed: `daykeep restore shop --confirm` drops what \
             was there before, `daykeep restore shop --undo` puts it back"
        );
        assert!(pending.is_over());
        pending.place = "--vault /mnt/vault --state-dir /var/tmp/state".to_owned();
        assert_eq!(
            pending.undo(),
            "daykeep restore shop --undo --vault /mnt/vault --state-dir /var/tmp/state",
            "the command finds what it needs"
        );
    }
}
