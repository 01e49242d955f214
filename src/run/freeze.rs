//! The freeze point: the warm pass before it, the instant itself, and what may be done only after the release.

use std::sync::Arc;

use crate::config::Repository;
use crate::database;
use crate::event::Context;
use crate::hold::{Held, ReleasedHold};
use crate::run::Error;
use crate::tree;
use crate::vault::DayWriter;

/// The fence gets small enough when this much is left to bring over inside the hold.
const SMALL_ENOUGH: u64 = 8 * 1024 * 1024;
/// How many times the trees are brought up to date before the hold, at the most.
const CATCH_UPS: usize = 5;

/// Builds tomorrow's trees from today's while the repository runs, and catches up until little is left.
pub(super) async fn warm(
    repository: &Repository,
    writer: &DayWriter,
    context: &Context,
) -> Result<Vec<tree::Warm>, Error> {
    let mut warmed = Vec::new();
    for tree in repository.trees.values() {
        let previous = writer.previous().map(|day| tree::Previous {
            tree_dir: day.path().join("trees").join(&tree.name),
            records: day.path().join("files.jsonl.zst"),
        });
        let job = tree::Job {
            tree: tree.clone(),
            target: writer.trees().join(&tree.name),
            previous,
            new_base: writer.is_base(),
            jobs: repository.limits.tree_jobs,
            copy_rate: repository.limits.copy_rate,
            idle: repository.limits.idle_priority,
        };
        let context = context.clone();
        warmed.push(blocking(move || tree::warm(&job, &context)).await?);
    }
    let context = context.clone();
    blocking(move || {
        for _ in 0..CATCH_UPS {
            let mut left = 0;
            for tree in &mut warmed {
                left += tree.catch_up(&context)?.bytes;
            }
            if left <= SMALL_ENOUGH {
                break;
            }
        }
        Ok::<_, tree::Error>(warmed)
    })
    .await
}

/// What the freeze point holds: every database snapshot open, every tree fenced.
pub(super) struct Marked {
    database: Option<database::Frozen>,
    trees: Vec<tree::Fenced>,
    instant: jiff::Timestamp,
}

/// Takes the freeze point. The database comes first: a file that appears meanwhile is one too many, never one too few.
pub(super) async fn mark(
    held: &mut Held,
    database: Option<database::Prepared>,
    trees: Vec<tree::Warm>,
    context: &Context,
) -> Result<Marked, Error> {
    let limit = Limit::start(held, context);
    let marked = async {
        let database = match database {
            Some(prepared) => Some(prepared.freeze(&*held, &limit.context).await?),
            None => None,
        };
        let instant = database.as_ref().map_or_else(|| context.clock.now(), database::Frozen::instant);
        let trees = fence(held, trees, &limit.context)?;
        held.still_idle().await?;
        Ok(Marked { database, trees, instant })
    }
    .await;
    if limit.passed() { Err(Error::HoldTooLong { max: limit.max, released: false }) } else { marked }
}

/// Fences all trees at once, each on a thread of its own.
fn fence(held: &Held, trees: Vec<tree::Warm>, context: &Context) -> Result<Vec<tree::Fenced>, Error> {
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let fencing: Vec<_> =
                trees.into_iter().map(|tree| scope.spawn(move || tree.fence(held, context))).collect();
            fencing
                .into_iter()
                .map(|thread| thread.join().map_err(|_| Error::Panicked)?.map_err(Error::from))
                .collect()
        })
    })
}

/// Cancels what runs inside the hold when `hold.max` passes.
struct Limit {
    context: Context,
    max: std::time::Duration,
    timer: tokio::task::JoinHandle<()>,
}

impl Limit {
    fn start(held: &Held, context: &Context) -> Self {
        let (left, max) = (held.remaining(context.clock.as_ref()), held.max());
        let cancel = context.cancel.child_token();
        let at_the_end = cancel.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(left).await;
            at_the_end.cancel();
        });
        Self { context: Context { cancel, ..context.clone() }, max, timer }
    }

    fn passed(&self) -> bool {
        self.timer.is_finished()
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

/// A freeze point whose repository has been released. Only from this can a day be filled.
pub(super) struct Frozen {
    pub(super) database: Option<database::Frozen>,
    pub(super) trees: Vec<tree::Fenced>,
    pub(super) instant: jiff::Timestamp,
    pub(super) released: Arc<ReleasedHold>,
}

impl Frozen {
    /// The mark, the journal's line of the release and the release must all have gone well; a failed release is told beside the first
    /// failure before it.
    pub(super) fn after(
        marked: Result<Marked, Error>,
        recorded: Result<(), Error>,
        released: Result<ReleasedHold, crate::hold::Error>,
    ) -> Result<Self, Error> {
        let marked = marked.and_then(|marked| recorded.map(|()| marked));
        match (marked, released) {
            (Ok(marked), Ok(released)) => Ok(Self {
                database: marked.database,
                trees: marked.trees,
                instant: marked.instant,
                released: Arc::new(released),
            }),
            // It is the guard that releases when the limit has passed, unless the run is quicker.
            (
                Err(Error::HoldTooLong { max, .. }),
                Ok(_) | Err(crate::hold::Error::ReleasedByGuard { .. }),
            ) => Err(Error::HoldTooLong { max, released: true }),
            (Err(error), Ok(_)) => Err(error),
            (Ok(_), Err(release)) => Err(Error::Hold(release)),
            (Err(error), Err(release)) => {
                Err(Error::NotReleased { error: Box::new(error), release: Box::new(release) })
            }
        }
    }
}

/// Runs what blocks on a thread that may.
pub(super) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Error>
where
    T: Send + 'static,
    E: Send + 'static,
    Error: From<E>,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Error::Panicked),
    }
}

#[cfg(test)]
mod tests {
    use super::{Frozen, Marked};
    use crate::hold;
    use crate::journal;
    use crate::run::Error;

    fn marked() -> Marked {
        Marked { database: None, trees: Vec::new(), instant: jiff::Timestamp::UNIX_EPOCH }
    }

    fn unrecorded() -> Result<(), Error> {
        Err(Error::Journal(journal::Error::NoSuchJob { id: 7 }))
    }

    #[test]
    fn a_failed_release_is_told_whatever_failed_before_it() {
        let failed = || Err(hold::Error::GuardNotReady { program: "guard".into() });
        let told = |error: Option<Error>| error.map(|error| error.to_string()).unwrap_or_default();
        let error = told(Frozen::after(Ok(marked()), unrecorded(), failed()).err());
        assert!(
            error.contains("there is no job 7; and then the repository could not be released"),
            "{error}"
        );
        let error = told(Frozen::after(Err(Error::Panicked), unrecorded(), failed()).err());
        assert!(error.contains("panicked"), "{error}");
        assert!(error.contains("could not be released"), "{error}");
        let error = Frozen::after(Ok(marked()), Ok(()), failed()).err();
        assert!(matches!(error, Some(Error::Hold(_))));
    }

    #[test]
    fn whether_it_was_released_is_told_of_a_hold_that_took_too_long() {
        let too_long =
            || Err(Error::HoldTooLong { max: std::time::Duration::from_millis(1500), released: false });
        let told =
            |released| Frozen::after(too_long(), Ok(()), Err(released)).err().map(|error| error.to_string());
        let by = "the guard".to_owned();
        assert_eq!(
            told(hold::Error::ReleasedByGuard { by, at: jiff::Timestamp::UNIX_EPOCH }).as_deref(),
            Some("the freeze point was not reached within hold.max (1.5s); the repository was released")
        );
        let release = Box::new(hold::Error::Cancelled);
        let paused = hold::Error::StillPaused { repository: "app".to_owned(), guard: None, release };
        assert_eq!(
            told(paused).as_deref(),
            Some(
                "the freeze point was not reached within hold.max (1.5s); and app is STILL PAUSED: the run was \
                 cancelled while the repository was being paused; NOBODY goes on trying, for no guard could be \
                 started: run `daykeep release app`"
            )
        );
    }
}
