//! Refusing early: what can be known before anything is held.

use bytesize::ByteSize;

use crate::config::{Limits, Repository};
use crate::database;
use crate::event::Context;
use crate::journal;
use crate::manifest::Manifest;

use crate::run::{Error, Request};
use crate::vault::{Day, DayWriter, Probe, Used, Vault, overlap};

/// A day may need this many times what the last one needed before the forecast is wrong.
const MARGIN: u64 = 2;

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

/// Whether the vault has room for a day like the last one, without what an interrupted run has put there already.
pub(super) fn space(vault: &Vault, writer: &DayWriter, limits: &Limits) -> Result<(), Error> {
    let room = vault.probe()?;
    enough(vault, &room, writer.taken()?, writer.previous().map(Day::manifest), limits)
}

fn enough(
    vault: &Vault,
    room: &Probe,
    taken: Used,
    previous: Option<&Manifest>,
    limits: &Limits,
) -> Result<(), Error> {
    let expected = previous.map_or(0, |last| bytes_of(last).saturating_mul(MARGIN));
    let expected = expected.saturating_sub(taken.bytes);
    if room.free_bytes < expected.saturating_add(limits.min_free) {
        return Err(Error::Space {
            vault: vault.path().to_owned(),
            free: ByteSize(room.free_bytes),
            expected: ByteSize(expected),
            reserve: ByteSize(limits.min_free),
        });
    }
    // File systems without a fixed number of inodes (btrfs) say 0 of 0.
    if room.total_inodes == 0 {
        return Ok(());
    }
    let expected = previous.map_or(0, |last| inodes_of(last).saturating_mul(MARGIN));
    let expected = expected.saturating_sub(taken.inodes);
    let reserve = room.total_inodes / 100 * u64::from(limits.min_free_inodes_percent);
    if room.free_inodes < expected.saturating_add(reserve) {
        return Err(Error::Inodes {
            vault: vault.path().to_owned(),
            free: room.free_inodes,
            expected,
            reserve,
        });
    }
    Ok(())
}

/// What a day took anew: a base tells what its successors will not need again.
fn bytes_of(day: &Manifest) -> u64 {
    if day.base {
        return 0;
    }
    let database = day.database.as_ref().map_or(0, |database| database.new_bytes);
    database + day.trees.values().map(|tree| tree.copied_bytes).sum::<u64>()
}

/// Every directory of a day is an inode of its own, and so is every file that was copied.
fn inodes_of(day: &Manifest) -> u64 {
    day.trees.values().map(|tree| tree.entries.saturating_sub(tree.linked_files)).sum()
}
