//! What gold alone does not bring back: FOSSology is told to unpack it again, before its scheduler is started.
//!
//! Killed in here, the phase is still that of the check: the same command asks again, and what is queued is not queued twice. Taken back, the
//! jobs go with the database that they are in.

use bytesize::ByteSize;

use crate::config::Repository;
use crate::event::{Context, Notices as _};
use crate::restore::Error;
use crate::reunpack::{self, Site};

/// Queues what is missing in a repository whose days have gold alone; how many uploads that are.
pub(super) async fn queue(repository: &Repository, context: &Context) -> Result<u64, Error> {
    if !reunpack::keeps_gold_only(repository) {
        return Ok(0);
    }
    let site = Site::of(repository)?;
    let plan = reunpack::plan(&site, context).await?;
    if plan.uploads.is_empty() {
        return Ok(0);
    }
    let outcome = reunpack::queue(&site, &plan, &[], context).await?;
    let uploads = outcome.queued.len() as u64;
    let time =
        plan.seconds.map_or_else(String::new, |seconds| format!(" in about {} minutes", minutes(seconds)));
    context.observer.info(format!(
        "{uploads} uploads will be unpacked again: {} files, {} more{time}; `daykeep reunpack --plan` shows how far it is",
        plan.missing_files,
        ByteSize(plan.missing_bytes),
    ));
    if !outcome.without_gold.is_empty() {
        context.observer.warn(format!(
            "{} uploads have no gold either, and cannot be unpacked again: `daykeep reunpack --plan` names them",
            outcome.without_gold.len()
        ));
    }
    Ok(uploads)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a forecast; saturates")]
fn minutes(seconds: f64) -> u64 {
    (seconds / 60.0).ceil() as u64
}
