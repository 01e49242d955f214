//! What a look at the disk has told of holds and restores.

use crate::api::wire;

/// What waits for a person in one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// A hold that is recorded.
    pub hold: Option<wire::Hold>,
    /// The same, if it outlives its run.
    pub kept: Option<wire::KeptHold>,
    /// A restore that is not finished, or not confirmed.
    pub restore: Option<wire::PendingRestore>,
    /// Why that is not known.
    pub restore_error: Option<String>,
}

/// A hold as its record told it when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenHold {
    /// What it told.
    pub hold: wire::Hold,
    /// The same, if it outlives its run.
    pub kept: Option<wire::KeptHold>,
    /// A run of ours was going on in it: that knows better when it is over.
    pub ours: bool,
}
