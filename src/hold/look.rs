//! Whether a repository runs, before it is held.

use super::adapter::{Before, adapter_of};
use super::ours::token;
use super::pause::cancellable;
use super::plan::ReleasePlan;
use super::record::{HoldRecord, path_of};
use super::{Error, Request};
use crate::event::Context;

/// Whether it runs now. None: that cannot be told, as it is held, has no hold, or nothing tells. Pauses nothing; the adapter `command` runs
/// `is_running`.
///
/// # Errors
/// A hold would be refused, for this reason; or the job is cancelled.
pub async fn runs(request: Request<'_>, context: &Context) -> Result<Option<bool>, Error> {
    let held = HoldRecord::read(&path_of(request.state_dir, request.repository))?;
    if held.is_some_and(|held| held.is_pending()) {
        return Ok(None);
    }
    let mut adapter = adapter_of(&request, &token(request.run)?)?;
    Ok(match cancellable(context, adapter.look()).await? {
        Before::Running(ReleasePlan::Nothing) | Before::Presumed(_) => None,
        Before::Running(_) => Some(true),
        Before::Stopped { .. } => Some(false),
    })
}
