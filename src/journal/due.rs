//! `<state>/<repository>/schedule.json`, and `schedule-verify.json` and `schedule-drill.json`: the last due instant that was handled. Comparing it with the schedule finds the
//! runs that were missed while the machine was off. It carries the schedule that it is for, and says nothing under another
//! one: a change from 01:00 to 03:00 at noon is no missed run.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fs;
use crate::journal::{Error, JobKind};

#[derive(Serialize, Deserialize)]
struct Handled {
    last_due: Timestamp,
    #[serde(default)]
    schedule: String,
}

/// The last due instant of a kind of job of the repository that was handled under this schedule (its pattern and zone);
/// None when there was none yet.
///
/// # Errors
/// The file is there and cannot be read.
pub fn last_due(
    state_dir: &Path,
    repository: &str,
    kind: JobKind,
    schedule: &str,
) -> Result<Option<Timestamp>, Error> {
    let path = path(state_dir, repository, kind);
    let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(None) };
    let handled: Handled =
        serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path, source })?;
    Ok((handled.schedule == schedule).then_some(handled.last_due))
}

/// Remembers that the run due at `due` is being handled: durable before the run begins, so that a run that crashes the
/// machine is not tried again and again.
///
/// # Errors
/// It cannot be written.
pub fn set_last_due(
    state_dir: &Path,
    repository: &str,
    kind: JobKind,
    schedule: &str,
    due: Timestamp,
) -> Result<(), Error> {
    let path = path(state_dir, repository, kind);
    fs::create_dir_durable(fs::parent_of(&path))?;
    let text = serde_json::to_vec(&Handled { last_due: due, schedule: schedule.to_owned() })
        .map_err(|source| Error::Write { path: path.clone(), source })?;
    Ok(fs::write_durable(&path, &text)?)
}

fn path(state_dir: &Path, repository: &str, kind: JobKind) -> PathBuf {
    let name = match kind {
        JobKind::Backup => "schedule.json".to_owned(),
        kind => format!("schedule-{}.json", kind.word()),
    };
    state_dir.join(repository).join(name)
}
