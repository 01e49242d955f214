//! What a job is asked to do: the bodies of the questions that start one.

use serde::{Deserialize, Serialize};

use crate::journal::JobKind;
use crate::restore::{Choice, Side, TreePath};

/// What is to be done with a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Keep a day.
    Backup,
    /// Put a day in the place of what is there.
    Restore(Restore),
    /// Take a restore back.
    Undo(Settle),
    /// Drop what was there before a restore.
    Confirm(Settle),
    /// Hold a day against its digests and records.
    Verify(Verify),
    /// Restore a day into a scratch place and compare it.
    Drill(Drill),
}

impl Order {
    /// What the job is called in the journal.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Backup => JobKind::Backup,
            Self::Restore(_) => JobKind::Restore,
            Self::Undo(_) | Self::Confirm(_) => JobKind::Settle,
            Self::Verify(_) => JobKind::Verify,
            Self::Drill(_) => JobKind::Drill,
        }
    }

    /// Where it is posted, below `/v1/repositories/{name}`.
    #[must_use]
    pub fn place(&self) -> &'static str {
        match self {
            Self::Backup => "runs",
            Self::Restore(_) => "restores",
            Self::Undo(_) => "restores/undo",
            Self::Confirm(_) => "restores/confirm",
            Self::Verify(_) => "verifies",
            Self::Drill(_) => "drills",
        }
    }

    /// What is posted there.
    ///
    /// # Errors
    /// Never for what is in an order: text, numbers and truths.
    pub fn body(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Self::Backup => Ok(Vec::new()),
            Self::Restore(order) => serde_json::to_vec(order),
            Self::Undo(order) | Self::Confirm(order) => serde_json::to_vec(order),
            Self::Verify(order) => serde_json::to_vec(order),
            Self::Drill(order) => serde_json::to_vec(order),
        }
    }

    /// Whether somebody has said that it is meant. True for what replaces and drops nothing.
    #[must_use]
    pub fn is_meant(&self) -> bool {
        match self {
            Self::Restore(order) => order.yes,
            Self::Undo(order) | Self::Confirm(order) => order.yes,
            Self::Backup | Self::Verify(_) | Self::Drill(_) => true,
        }
    }
}

/// POST /v1/repositories/{name}/restores; words as those of `daykeep restore`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct Restore {
    /// The day.
    pub day: String,
    /// One side only: `database` or `trees`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// These databases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// These tables: `DATABASE.SCHEMA.TABLE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// These trees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trees: Vec<String>,
    /// These parts of trees: `TREE:PATH`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Connections and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<usize>,
    /// Start the scheduler at the end, even if it was found stopped.
    #[serde(default)]
    pub start: bool,
    /// Do not hold the repository.
    #[serde(default)]
    pub no_hold: bool,
    /// Release it although a cross-check fails.
    #[serde(default)]
    pub accept_failed_check: bool,
    /// It is meant: the plan was seen.
    #[serde(default)]
    pub yes: bool,
}

impl Restore {
    /// What of the day is restored.
    ///
    /// # Errors
    /// A word that means nothing: which, and what it should be.
    pub fn choice(&self) -> Result<Choice, String> {
        let only = match self.only.as_deref() {
            None => None,
            Some("database") => Some(Side::Database),
            Some("trees") => Some(Side::Trees),
            Some(other) => {
                return Err(format!("\"only\" is {other:?}, and must be \"database\" or \"trees\""));
            }
        };
        Ok(Choice {
            only,
            databases: self.databases.iter().cloned().collect(),
            tables: self.tables.iter().map(|table| table.parse()).collect::<Result<_, _>>()?,
            trees: self.trees.iter().cloned().collect(),
            paths: self
                .paths
                .iter()
                .map(|path| TreePath::parse(path.as_bytes()))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The same order for a choice.
    ///
    /// # Errors
    /// A path that is no text cannot be ordered so.
    pub fn choosing(self, choice: &Choice) -> Result<Self, String> {
        let only = choice.only.map(|side| match side {
            Side::Database => "database".to_owned(),
            Side::Trees => "trees".to_owned(),
        });
        let order = Self {
            only,
            databases: choice.databases.iter().cloned().collect(),
            tables: choice.tables.iter().map(ToString::to_string).collect(),
            trees: choice.trees.iter().cloned().collect(),
            paths: choice.paths.iter().map(ToString::to_string).collect(),
            ..self
        };
        match order.choice() {
            Ok(same) if same == *choice => Ok(order),
            _ => Err("a path that is no text cannot be given to the daemon: restore it without --detach"
                .to_owned()),
        }
    }
}

/// POST /v1/repositories/{name}/restores/undo and .../confirm
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// Start the scheduler at the end, even if it was found stopped.
    #[serde(default)]
    pub start: bool,
    /// Do not hold the repository.
    #[serde(default)]
    pub no_hold: bool,
    /// It is meant.
    #[serde(default)]
    pub yes: bool,
}

/// POST /v1/repositories/{name}/verifies
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// The day; None: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// Every day.
    #[serde(default)]
    pub all: bool,
    /// A random part of the content: `5%`; None: what the configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
}

/// POST /v1/repositories/{name}/drills
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// The day; None: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
}
