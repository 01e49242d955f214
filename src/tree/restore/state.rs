//! How far a plan has come, on disk before the effect that it allows.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::fs;
use crate::tree::restore::{Error, Plan};

const STATE: &str = "state.json";

/// How far a plan has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is changed; something may be staged. So it is as long as nothing else is said.
    Planned,
    /// Everything is staged and on the disk; nothing is changed.
    Staged,
    /// The tree is partly the day's.
    Switching,
    /// The tree is the day's; the old one is aside.
    Switched,
    /// The tree is partly as it was before.
    GoingBack,
    /// The tree is as it was before; what was staged is aside.
    Back,
    /// The tree is as it was before, and what was staged is being removed: [plan](crate::tree::restore::plan) anew.
    Discarding,
    /// The tree is the day's, and the old one is being removed: there is no way back.
    Dropping,
}

#[derive(Serialize, Deserialize)]
struct Form {
    state: State,
}

impl State {
    pub(crate) fn write(self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(STATE);
        let text = serde_json::to_vec(&Form { state: self })
            .map_err(|error| Error::BadPlan { path: path.clone(), problem: error.to_string() })?;
        Ok(fs::write_durable(&path, &text)?)
    }

    fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(STATE);
        let Some(text) = fs::read_if_exists(&path)? else { return Ok(Self::Planned) };
        let form: Form = serde_json::from_slice(&text)
            .map_err(|error| Error::BadPlan { path, problem: error.to_string() })?;
        Ok(form.state)
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Staged => "staged",
            Self::Switching => "half switched",
            Self::Switched => "switched",
            Self::GoingBack => "half taken back",
            Self::Back => "taken back",
            Self::Discarding => "discarded",
            Self::Dropping => "confirmed",
        }
    }
}

/// Makes sure that nothing is said of how far a plan has come, before there is one.
pub(crate) fn forget(directory: &Path) -> Result<(), Error> {
    let path = directory.join(STATE);
    if fs::exists(&path)? {
        fs::remove_file_durable(&path)?;
    }
    Ok(())
}

impl Plan {
    /// How far it has come.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn state(&self) -> Result<State, Error> {
        State::read(&self.directory)
    }
}
