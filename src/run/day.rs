//! Filling the day after the release: the dump from the snapshots, and what is left of the trees.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::config::Repository;
use crate::crosscheck;
use crate::database::{self, DayBefore};
use crate::event::Context;
use crate::manifest::{
    CheckRecord, DatabaseSeal, FORMAT, Manifest, RecordWriter, ToUnpack, TreeRecord, UnfinishedJobs,
};
use crate::reunpack;
use crate::run::Error;
use crate::run::freeze::{Frozen, blocking};
use crate::vault::DayWriter;

/// A day whose database and trees are complete, but not yet checked against each other.
pub(super) struct Filled {
    snapshots: Option<database::Frozen>,
    pub(super) trees: BTreeMap<String, TreeRecord>,
    pub(super) database: Option<database::Dumped>,
    instant: Timestamp,
    hold: crate::manifest::HoldEvidence,
}

/// A day that is complete and cross-checked.
pub(super) struct Contents {
    filled: Filled,
    checks: Vec<CheckRecord>,
    unfinished_jobs: Option<UnfinishedJobs>,
    to_unpack: Option<ToUnpack>,
}

/// Dumps from the snapshots and finishes the trees, both at once.
pub(super) async fn fill(
    frozen: Frozen,
    repository: &Repository,
    writer: &DayWriter,
    context: &Context,
) -> Result<Filled, Error> {
    let Frozen { mut database, trees, instant, released } = frozen;
    let hold = released.evidence().clone();
    let stop = context.cancel.child_token();
    let context = &Context { cancel: stop.clone(), ..context.clone() };

    let records = writer.records();
    let finishing = {
        let (released, context) = (released.clone(), context.clone());
        let names: Vec<String> = repository.trees.keys().cloned().collect();
        blocking(move || -> Result<BTreeMap<String, TreeRecord>, Error> {
            let mut records = RecordWriter::create(&records)?;
            let mut finished = BTreeMap::new();
            for (name, tree) in names.into_iter().zip(trees) {
                finished.insert(name, tree.finish(released.as_ref(), &mut records, &context)?);
            }
            records.finish()?;
            Ok(finished)
        })
    };
    let dumping = async {
        let Some(frozen) = database.as_mut() else { return Ok(None) };
        let directory = writer.previous().map(|day| day.path().join("database"));
        let previous = writer.previous().zip(directory.as_deref());
        let previous =
            previous.map(|(day, directory)| DayBefore { directory, digests: &day.manifest().digests });
        let target = writer.database();
        let dump = frozen.dump(released.as_ref(), &target, previous, writer.is_base(), context);
        Ok::<_, Error>(Some(dump.await?))
    };
    // Both are waited for: what a thread still wrote after the lock is gone would be in the next run's way.
    let (trees, dumped) = tokio::join!(or_stop(finishing, &stop), or_stop(dumping, &stop));
    let (trees, dumped) = both(trees, dumped)?;
    Ok(Filled { snapshots: database, trees, database: dumped, instant, hold })
}

/// Waits for the work, and stops its sibling when it fails.
async fn or_stop<T>(
    work: impl Future<Output = Result<T, Error>>,
    stop: &CancellationToken,
) -> Result<T, Error> {
    let done = work.await;
    if done.is_err() {
        stop.cancel();
    }
    done
}

/// Of two failures the one that was not made by stopping the other.
fn both<A, B>(one: Result<A, Error>, other: Result<B, Error>) -> Result<(A, B), Error> {
    match (one.map_err(Error::settled), other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(Error::Cancelled) | Ok(_), Err(error)) | (Err(error), _) => Err(error),
    }
}

/// Reads what was unfinished, and runs every configured check in the snapshots and the trees of the day; the first that finds a row
/// without its file fails the run.
pub(super) async fn cross_checked(
    mut filled: Filled,
    repository: &Repository,
    writer: &DayWriter,
    context: &Context,
) -> Result<Contents, Error> {
    let (mut records, mut unfinished_jobs, mut to_unpack) = (Vec::new(), None, None);
    if let Some(snapshots) = filled.snapshots.take() {
        unfinished_jobs = reunpack::unfinished_at(repository, &snapshots, context).await?;
        to_unpack = reunpack::to_unpack_at(repository, &snapshots).await?;
        let root_of = |tree: &str| writer.trees().join(tree);
        records =
            crosscheck::every_row_has_its_file(&repository.checks, &snapshots, &root_of, context).await?;
        snapshots.finish().await?;
    }
    Ok(Contents { filled, checks: records, unfinished_jobs, to_unpack })
}

impl Contents {
    /// What the day will say of itself, and what its seal will say of its databases. The vault adds the digests when it
    /// seals.
    pub(super) fn into_manifest(
        self,
        repository: &Repository,
        writer: &DayWriter,
        run: u64,
        started: Timestamp,
        context: &Context,
    ) -> (Manifest, Vec<DatabaseSeal>) {
        let Self { filled, checks, unfinished_jobs, to_unpack } = self;
        let (database, seals) = match filled.database {
            Some(database::Dumped { record, seals }) => (Some(record), seals),
            None => (None, Vec::new()),
        };
        let manifest = Manifest {
            format: FORMAT,
            made_by: format!("daykeep {}", env!("CARGO_PKG_VERSION")),
            repository: repository.name.clone(),
            day: String::new(),
            sequence: writer.sequence(),
            base: writer.is_base(),
            base_day: String::new(),
            run,
            started,
            sealed: context.clock.now(),
            freeze_point: filled.instant,
            hold: filled.hold,
            database,
            trees: filled.trees,
            checks,
            unfinished_jobs,
            to_unpack,
            digests: BTreeMap::new(),
            configuration: repository.as_toml.clone(),
        };
        (manifest, seals)
    }
}

#[cfg(test)]
mod tests {
    use super::{both, or_stop};
    use crate::run::Error;
    use crate::run::freeze::blocking;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn when_one_half_fails_the_other_is_stopped_and_waited_for() {
        let (stop, ended) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let trees = {
            let (stop, ended) = (stop.clone(), Arc::clone(&ended));
            blocking(move || {
                while !stop.is_cancelled() {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
                ended.store(true, Ordering::Relaxed);
                Err::<(), _>(crate::tree::Error::Cancelled)
            })
        };
        let dump = async { Err::<(), _>(Error::Panicked) };
        let (trees, dump) = tokio::join!(or_stop(trees, &stop), or_stop(dump, &stop));
        assert!(ended.load(Ordering::Relaxed));
        assert!(matches!(both(trees, dump), Err(Error::Panicked)));
    }
}
