//! What happens during a run, told to one observer. The library never prints.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The stretches of a run, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting for the vault's lock, and setting right what an earlier run left.
    Begin,
    /// Refusing early: server, rights, space.
    Preflight,
    /// Building tomorrow's day from today's while the repository runs.
    Warm,
    /// Pausing the scheduler and proving that it is idle.
    Hold,
    /// Taking the freeze point.
    Freeze,
    /// Starting the scheduler again.
    Release,
    /// Writing the database from the snapshots.
    Dump,
    /// Finishing the trees.
    Trees,
    /// Proving that every row's file is in the day.
    CrossCheck,
    /// Making the day durable and visible.
    Seal,
    /// Removing days by the keep rules.
    Prune,
    /// Holding a day against its digests and records.
    Verify,
    /// Starting a scratch server for a drill.
    Scratch,
    /// Restoring the databases, beside those that are there.
    Load,
    /// Copying out of the day what the trees lack, beside them.
    Stage,
    /// Putting what was restored in the place of what is there.
    Switch,
    /// Holding what was restored against what was recorded at the freeze point.
    Compare,
    /// Taking a restore back, or dropping what it had moved aside.
    Settle,
}

impl Phase {
    /// The word for people and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Preflight => "preflight",
            Self::Warm => "warm",
            Self::Hold => "hold",
            Self::Freeze => "freeze",
            Self::Release => "release",
            Self::Dump => "dump",
            Self::Trees => "trees",
            Self::CrossCheck => "cross_check",
            Self::Seal => "seal",
            Self::Prune => "prune",
            Self::Verify => "verify",
            Self::Scratch => "scratch",
            Self::Load => "load",
            Self::Stage => "stage",
            Self::Switch => "switch",
            Self::Compare => "compare",
            Self::Settle => "settle",
        }
    }
}

/// What `current` and `total` of a progress event count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes read from the source.
    Bytes,
    /// Files looked at.
    Files,
    /// Rows read.
    Rows,
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Something an admin should look at; the run goes on.
    Warning,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run has its number in the journal; the first event of every run.
    Job {
        /// The number.
        id: u64,
    },
    /// A phase began.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// How far the current phase is. `total` is a forecast and may be missing.
    Progress {
        /// The phase that moves.
        phase: Phase,
        /// What is counted.
        unit: Unit,
        /// How many so far.
        current: u64,
        /// How many in all, as far as is known.
        total: Option<u64>,
    },
    /// A sentence for people.
    Notice {
        /// How much it matters.
        level: Level,
        /// The sentence, without a full stop.
        text: String,
    },
    /// The repository stands still: paused and proven idle.
    Held,
    /// The hold is over.
    Released {
        /// Seconds from proven idle to the release; 0 when it never was idle.
        held_seconds: f64,
        /// Seconds from the pause to the release: with the wait for running agents.
        paused_seconds: f64,
        /// The repository runs again; false: it was found stopped, and stays so.
        #[serde(default = "as_ever")]
        runs: bool,
    },
}

/// What is released runs, as far as those knew who did not write it down.
fn as_ever() -> bool {
    true
}

/// Receives every event of a run, on whatever thread it happens; must return at once.
pub trait Observer: Send + Sync {
    /// Told of one event.
    fn observe(&self, event: &Event);
}

/// The observer as flows and parts hand it on.
pub type SharedObserver = Arc<dyn Observer>;

/// Sentences, in short.
pub trait Notices {
    /// Worth knowing.
    fn info(&self, text: impl Into<String>);
    /// Somebody should look.
    fn warn(&self, text: impl Into<String>);
    /// A phase begins.
    fn phase(&self, phase: Phase);
}

impl<T: Observer + ?Sized> Notices for T {
    fn info(&self, text: impl Into<String>) {
        self.observe(&Event::Notice { level: Level::Info, text: text.into() });
    }

    fn warn(&self, text: impl Into<String>) {
        self.observe(&Event::Notice { level: Level::Warning, text: text.into() });
    }

    fn phase(&self, phase: Phase) {
        self.observe(&Event::Phase { phase });
    }
}

/// Listens to nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: &Event) {}
}

/// Keeps every event, for tests.
#[derive(Debug, Default)]
pub struct Recording(std::sync::Mutex<Vec<Event>>);

impl Recording {
    /// What was heard so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Observer for Recording {
    fn observe(&self, event: &Event) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event.clone());
    }
}

/// What every part is handed: whom to tell, when to stop, what time it is.
#[derive(Clone)]
pub struct Context {
    /// Told of everything that happens.
    pub observer: SharedObserver,
    /// Cancelled when the run must stop; long loops look at it.
    pub cancel: tokio_util::sync::CancellationToken,
    /// The time.
    pub clock: crate::clock::SharedClock,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("cancelled", &self.cancel.is_cancelled()).finish_non_exhaustive()
    }
}
