//! The hold's durable record.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use super::plan::ReleasePlan;
use crate::{fs, process};

/// The version of the record's form.
const FORMAT: u32 = 1;

/// How far a hold is. Each is on disk before what it announces is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// A pause is meant; nothing has been done.
    Intent,
    /// The pause may have been asked for.
    Pausing,
    /// Paused and proven idle.
    Paused {
        /// Since when.
        idle_at: Timestamp,
    },
    /// The run is done with the hold, or gave it up: whoever comes first completes the release.
    Releasing {
        /// Since when.
        releasing_since: Timestamp,
    },
    /// Somebody else than the run released it while the run lives; the run takes the record away when it learns it.
    Released {
        /// Who, and why.
        by: String,
        /// When.
        at: Timestamp,
    },
}

/// `<state_dir>/<repository>/hold.json`: all that is needed to release without the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// The form's version.
    pub format: u32,
    /// The repository.
    pub repository: String,
    /// The run that holds it.
    pub run: u64,
    /// Tells this hold from every other one.
    pub token: String,
    /// The adapter's name.
    pub adapter: String,
    /// How far it is.
    #[serde(flatten)]
    pub phase: Phase,
    /// When the hold began.
    pub since: Timestamp,
    /// The process that holds.
    pub holder: process::Identity,
    /// The program that is started as the guard.
    pub guard: PathBuf,
    /// The guard that releases when its run does not, and goes on trying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarded_by: Option<process::Identity>,
    /// The longest time from the pause to proven idle: `hold.drain` and what the adapter's own steps may take.
    pub pausing_limit: Duration,
    /// `hold.max`; None for a restore, which is not released by time.
    pub max: Option<Duration>,
    /// When the guard releases on its own, by the wall clock; for people, the guard counts by itself.
    pub deadline: Option<Timestamp>,
    /// Why it outlives its run: nobody releases it but a run that takes it over, or a person with force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
    /// Its run has ended, and left it kept, although the process lives: a daemon's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
    /// How to release.
    pub release: ReleasePlan,
    /// Releases that were tried and failed.
    #[serde(default)]
    pub attempts: u32,
    /// What the last of them said.
    #[serde(default)]
    pub last_error: Option<String>,
}

impl HoldRecord {
    /// The form that this program writes.
    #[must_use]
    pub const fn format() -> u32 {
        FORMAT
    }

    /// Whether there is something left to release.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !matches!(self.phase, Phase::Released { .. })
    }

    /// The process id of its guard, if that lives.
    #[must_use]
    pub fn living_guard(&self) -> Option<i32> {
        let guard = self.guarded_by.as_ref()?;
        guard.is_alive().unwrap_or(false).then_some(guard.pid)
    }

    /// Whether its run may still be using the hold.
    pub(super) fn is_in_use(&self) -> Result<bool, Error> {
        let using = matches!(self.phase, Phase::Intent | Phase::Pausing | Phase::Paused { .. });
        if !using || self.left || !self.holder.is_alive()? {
            return Ok(false);
        }
        // A daemon lives on after a run that failed: it knows which of its holds are in use.
        if self.holder == process::Identity::own()? {
            return Ok(super::live::is_live(&self.token));
        }
        Ok(true)
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::Record { path: path.to_owned(), reason: error.to_string() })?;
        Ok(fs::write_durable(path, &text)?)
    }

    /// None: there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Error> {
        let Some(bytes) = fs::read_if_exists(path)? else { return Ok(None) };
        let record: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Record { path: path.to_owned(), reason: error.to_string() })?;
        if record.format > FORMAT {
            let reason = format!("it has form {}, this program knows {FORMAT}", record.format);
            return Err(Error::Record { path: path.to_owned(), reason });
        }
        Ok(Some(record))
    }
}

/// Where a repository's record is.
#[must_use]
pub(super) fn path_of(state_dir: &Path, repository: &str) -> PathBuf {
    state_dir.join(repository).join("hold.json")
}

/// The records of all repositories, in the order of their names.
pub(super) fn paths_in(state_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    if !fs::exists(state_dir)? {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for name in fs::names_in(state_dir)? {
        let path = state_dir.join(name).join("hold.json");
        match fs::exists(&path) {
            Ok(true) => paths.push(path),
            Ok(false) => {}
            // A plain file among the repositories' directories is none of ours.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{HoldRecord, Phase};
    use crate::hold::plan::ReleasePlan;
    use crate::process;

    fn kept(phase: Phase) -> HoldRecord {
        HoldRecord {
            format: HoldRecord::format(),
            repository: "app".to_owned(),
            run: 1,
            token: "token".to_owned(),
            adapter: "command".to_owned(),
            phase,
            since: Timestamp::UNIX_EPOCH,
            holder: process::Identity::own().expect("/proc"),
            guard: "/usr/bin/daykeep".into(),
            guarded_by: process::Identity::own().ok(),
            pausing_limit: Duration::from_secs(1),
            max: Some(Duration::from_millis(1500)),
            deadline: Some(Timestamp::UNIX_EPOCH),
            keep: Some("a restore".to_owned()),
            left: true,
            release: ReleasePlan::Nothing,
            attempts: 2,
            last_error: Some("no".to_owned()),
        }
    }

    #[test]
    fn a_record_in_any_phase_is_read_as_it_was_written() {
        let at = Timestamp::UNIX_EPOCH;
        let by = "the guard".to_owned();
        for phase in [
            Phase::Intent,
            Phase::Pausing,
            Phase::Paused { idle_at: at },
            Phase::Releasing { releasing_since: at },
            Phase::Released { by, at },
        ] {
            let record = kept(phase);
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("hold.json");
            record.write(&path).expect("is written");
            assert_eq!(HoldRecord::read(&path).expect("is read"), Some(record));
        }
    }

    /// `docs/holds.md`: a scheduler's unit is not started where a line matches `^  .keep.:`.
    #[test]
    fn what_is_kept_has_a_line_that_a_shell_can_find() {
        let mut record = kept(Phase::Pausing);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hold.json");
        let has_line = |record: &HoldRecord| {
            record.write(&path).expect("is written");
            let text = crate::fs::read_to_string(&path).expect("is read");
            text.lines().any(|line| line.starts_with("  \"keep\":"))
        };
        assert!(has_line(&record));
        record.keep = None;
        record.last_error = Some("\n  \"keep\": ".to_owned());
        assert!(!has_line(&record));
    }

    #[test]
    fn a_record_that_is_no_record_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hold.json");
        crate::fs::write_durable(&path, b"{").expect("is written");
        let text = HoldRecord::read(&path).expect_err("is no record").to_string();
        assert!(text.contains("hold.json is not a hold record that this daykeep understands"), "{text}");
    }
}
