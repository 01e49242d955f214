//! What a job is asked to do: the bodies of the questions that start one.

use serde::{Deserialize, Serialize};

use crate::journal::JobKind;

/// What is to be done with a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Keep a day.
    Backup,
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
            Self::Verify(_) => JobKind::Verify,
            Self::Drill(_) => JobKind::Drill,
        }
    }
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
