//! What other processes do with the repositories: `daykeep run` in the foreground holds them and writes journals, as earlier
//! lives of the daemon did. It is read when somebody asks, so that what the daemon shows is what is on the disk, and never
//! on a thread that answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::api::told;
use crate::daemon::seen::SeenHold;
use crate::daemon::state::State;
use crate::{hold, journal};

/// So old a look may be that is not repeated.
const FRESH: Duration = Duration::from_millis(500);
/// How long whoever asks waits for a look; then what was seen before is shown.
const PATIENCE: Duration = Duration::from_millis(300);

/// What was seen of the others.
#[derive(Debug, Default)]
pub struct Others {
    /// Locked by the one who looks.
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When; None before the first look, which is the start's.
    at: Option<Duration>,
    news: journal::News,
    /// What was wrong at the last look: told once, not with every question.
    wrong: Option<String>,
}

/// The first look, once the journals of earlier lives are settled.
///
/// # Errors
/// The journals cannot be read.
pub async fn begin(state: &State) -> Result<(), journal::Error> {
    let mut seen = state.others.seen.lock().await;
    let jobs = seen.news.look(&state.config().state_dir)?;
    state.remember(jobs.into_iter().map(told::job));
    seen.at = Some(state.clock.monotonic());
    Ok(())
}

/// Looks again, unless somebody just did. A disk that hangs keeps nobody: the look goes on, and whoever asks next has it.
pub async fn refresh(state: &Arc<State>) {
    let look = async {
        let mut seen = Arc::clone(&state.others.seen).lock_owned().await;
        let now = state.clock.monotonic();
        if seen.at.is_some_and(|at| now.saturating_sub(at) > FRESH) {
            let state = Arc::clone(state);
            // A panic in it is logged by the panic itself.
            let _ = tokio::task::spawn_blocking(move || seen.look(&state)).await;
        }
    };
    // Late is as good as an older look.
    let _ = tokio::time::timeout(PATIENCE, look).await;
}

impl Seen {
    fn look(&mut self, state: &State) {
        let holds = look_at_holds(state).err().map(|error| error.to_string());
        let restores = look_at_restores(state).err().map(|error| error.to_string());
        let jobs = match self.news.look(&state.config().state_dir) {
            Ok(jobs) => {
                state.remember(jobs.into_iter().map(told::job));
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let wrong = holds.or(restores).or(jobs);
        if let Some(error) = wrong.as_ref().filter(|_| wrong != self.wrong) {
            tracing::warn!("what other processes do cannot be seen: {error}");
        }
        self.wrong = wrong;
        self.at = Some(state.clock.monotonic());
    }
}

/// Puts the restores that wait into the status.
///
/// # Errors
/// A record cannot be read; the status says so.
pub fn look_at_restores(state: &State) -> Result<(), journal::Error> {
    let config = state.config();
    let mut first = None;
    for name in config.repositories.keys() {
        match journal::pending_restore(&config.state_dir, name) {
            Ok(pending) => {
                state.restore_waits(name, pending.as_ref().map(|pending| Ok(told::pending_restore(pending))));
            }
            Err(error) => {
                state.restore_waits(name, Some(Err(error.to_string())));
                first.get_or_insert(error);
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// Puts the holds on disk into the status.
///
/// # Errors
/// A record cannot be read; the status keeps what it has.
pub fn look_at_holds(state: &State) -> Result<(), hold::Error> {
    // Before the look: a run of ours that ends meanwhile has left no hold, only an older look at it.
    let before = state.running_jobs();
    let records = hold::pending(&state.config().state_dir)?;
    let seen = records.into_iter().map(|record| {
        let ours = before.contains(&record.run);
        let seen = SeenHold { hold: told::hold(&record), kept: told::kept(&record), ours };
        (record.repository, seen)
    });
    state.holds(seen.collect());
    Ok(())
}
