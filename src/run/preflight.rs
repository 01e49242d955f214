//! Refusing early: what can be known before anything is held.

use crate::config::Repository;
use crate::database;
use crate::event::Context;
use crate::journal;

use crate::run::{Error, Request};
use crate::vault::overlap;

/// Connects to every database, so that the hold need not wait for it, and tells what is doubtful.
pub(super) async fn database(
    repository: &Repository,
    context: &Context,
) -> Result<Option<database::Prepared>, Error> {
    let Some(database) = &repository.database else { return Ok(None) };
    Ok(Some(database::prepare(database, context).await?))
}

/// A restore that was killed half way leaves rows and files of two days: nothing to be kept. Asked for with the vault locked, which a
/// restore has for as long as it lives.
pub(super) fn nothing_half_restored(request: &Request) -> Result<(), Error> {
    let pending = journal::pending_restore(&request.state_dir, &request.repository.name)?;
    match pending.filter(|restore| !restore.is_over()) {
        Some(pending) => Err(Error::HalfRestored { pending: Box::new(pending) }),
        None => Ok(()),
    }
}

/// No tree holds the vault, and the vault no tree, wherever symbolic links lead.
pub(super) fn apart(repository: &Repository) -> Result<(), Error> {
    for tree in repository.trees.values() {
        if let Some(together) = overlap(&repository.vault, &tree.path)? {
            return Err(Error::Overlap { tree: tree.name.clone(), source: together });
        }
    }
    Ok(())
}
