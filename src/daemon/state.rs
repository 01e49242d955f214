//! What the daemon knows, for everybody who asks: the scheduling loop and the runs write it, the socket reads it.
//!
//! One short lock; nothing waits while it is held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::api::order::Order;
use crate::api::server::Refusal;
use crate::api::wire::{self, Job, JobState, Live};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::daemon::others::Others;
use crate::daemon::routine::Routine;
use crate::daemon::seen::{SeenHold, Waiting};
use crate::daemon::shelf::Shelf;
use crate::event::{Event, Phase};

/// Ended jobs that are remembered; the journal on disk has all of them.
const REMEMBERED: usize = 500;
/// Lines of the event stream that a slow reader may be behind.
const BEHIND: usize = 1024;

/// What the socket asks of the scheduling loop.
#[derive(Debug)]
pub struct Start {
    /// Which repository.
    pub repository: String,
    /// What is to be done with it.
    pub order: Order,
    /// For whom.
    pub user: String,
    /// Told the job's number, or why there is none.
    pub reply: oneshot::Sender<Result<oneshot::Receiver<Result<u64, String>>, Refusal>>,
}

/// What the daemon knows.
#[derive(Debug)]
pub struct State {
    /// The time.
    pub clock: SharedClock,
    /// Since when it runs.
    pub started: Timestamp,
    /// The days of the vaults.
    pub shelf: Shelf,
    /// What other processes do.
    pub others: Others,
    /// To the scheduling loop.
    pub starts: mpsc::Sender<Start>,
    /// A run went a step further: the service manager's status line is no longer right.
    pub stepped: Notify,
    live: broadcast::Sender<Live>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Arc<Config>,
    loaded: Timestamp,
    config_error: Option<String>,
    stopping: bool,
    jobs: BTreeMap<u64, Job>,
    cancels: BTreeMap<u64, CancellationToken>,
    next_runs: BTreeMap<Routine, wire::NextRun>,
    /// What the records say of each repository's hold.
    holds: BTreeMap<String, SeenHold>,
    /// Restores that are not finished or not confirmed.
    restores: BTreeMap<String, Result<wire::PendingRestore, String>>,
    phases: BTreeMap<u64, Vec<(Phase, Timestamp)>>,
}

impl State {
    /// A daemon that has just read its configuration.
    #[must_use]
    pub fn new(config: Config, clock: SharedClock, starts: mpsc::Sender<Start>) -> Self {
        let now = clock.now();
        Self {
            shelf: Shelf::new(Arc::clone(&clock)),
            others: Others::default(),
            clock,
            started: now,
            starts,
            stepped: Notify::new(),
            live: broadcast::channel(BEHIND).0,
            inner: Mutex::new(Inner {
                config: Arc::new(config),
                loaded: now,
                config_error: None,
                stopping: false,
                jobs: BTreeMap::new(),
                cancels: BTreeMap::new(),
                next_runs: BTreeMap::new(),
                holds: BTreeMap::new(),
                restores: BTreeMap::new(),
                phases: BTreeMap::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.lock().config)
    }

    /// Another configuration is in force, or was refused and the one before it stays.
    pub fn configured(&self, outcome: Result<Config, String>) {
        let now = self.clock.now();
        let error = {
            let mut inner = self.lock();
            match outcome {
                Ok(config) => {
                    inner.config = Arc::new(config);
                    inner.loaded = now;
                    inner.config_error = None;
                }
                Err(error) => inner.config_error = Some(error),
            }
            inner.config_error.clone()
        };
        self.tell(Live::Config { error });
    }

    /// The configuration as the status shows it.
    #[must_use]
    pub fn config_status(&self) -> wire::ConfigStatus {
        let inner = self.lock();
        wire::ConfigStatus {
            path: inner.config.path.display().to_string(),
            loaded: inner.loaded,
            error: inner.config_error.clone(),
        }
    }

    /// From now on nothing is begun.
    pub fn stop(&self) {
        self.lock().stopping = true;
    }

    /// Is it on its way out?
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// When the next job of a kind begins.
    pub fn plan(&self, routine: &Routine, next: Option<wire::NextRun>) {
        let mut inner = self.lock();
        match next {
            Some(next) => inner.next_runs.insert(routine.clone(), next),
            None => inner.next_runs.remove(routine),
        };
    }

    /// See [`State::plan`].
    #[must_use]
    pub fn next(&self, routine: &Routine) -> Option<wire::NextRun> {
        self.lock().next_runs.get(routine).cloned()
    }

    /// What the records say of the holds that are not released, by repository.
    pub fn holds(&self, mut holds: BTreeMap<String, SeenHold>) {
        let mut inner = self.lock();
        for seen in holds.values_mut() {
            seen.ours |= inner.cancels.contains_key(&seen.hold.job);
        }
        inner.holds = holds;
    }

    /// The restore of a repository that waits, if one does; or why that is not known.
    pub fn restore_waits(&self, repository: &str, pending: Option<Result<wire::PendingRestore, String>>) {
        let mut inner = self.lock();
        match pending {
            Some(pending) => inner.restores.insert(repository.to_owned(), pending),
            None => inner.restores.remove(repository),
        };
    }

    /// What waits for a person.
    #[must_use]
    pub fn waiting(&self, repository: &str) -> Waiting {
        let inner = self.lock();
        let restore = inner.restores.get(repository).cloned().transpose();
        let seen = inner.hold_of(repository);
        Waiting {
            hold: seen.map(|seen| seen.hold.clone()),
            // A restore that goes on keeps its hold, too: that waits for nobody.
            kept: seen.filter(|seen| !seen.ours).and_then(|seen| seen.kept.clone()),
            restore_error: restore.as_ref().err().cloned(),
            restore: restore.unwrap_or_default(),
        }
    }

    /// Is it held by a run of ours, by another process, or still from an earlier life?
    #[must_use]
    pub fn is_held(&self, repository: &str) -> bool {
        let inner = self.lock();
        inner.hold_of(repository).is_some()
            || inner.jobs.values().any(|job| job.held && job.repository == repository)
    }

    /// Jobs of earlier lives and of other processes, as their journals tell them. What this process does itself, it knows
    /// better.
    pub fn remember(&self, jobs: impl IntoIterator<Item = Job>) {
        let now = self.clock.now();
        let mut news = Vec::new();
        let mut inner = self.lock();
        for job in jobs {
            if inner.phases.contains_key(&job.id) {
                continue;
            }
            let told = timed(&job, now);
            let is_news = match inner.jobs.insert(job.id, job) {
                Some(before) => before.state != told.state,
                None => told.state == JobState::Running || told.started >= self.started,
            };
            if is_news {
                news.push(told);
            }
        }
        inner.forget_oldest();
        drop(inner);
        if !news.is_empty() {
            // The loop looks after others' jobs only once it knows of them.
            self.stepped.notify_one();
        }
        for job in news {
            if job.ended.is_some() {
                self.shelf.forget(&job.repository);
            }
            self.tell(Live::Job { job: Box::new(job) });
        }
    }

    /// Does another process do a job?
    #[must_use]
    pub fn others_run(&self) -> bool {
        let inner = self.lock();
        let running = inner.jobs.values().filter(|job| job.state == JobState::Running);
        running.into_iter().any(|job| !inner.cancels.contains_key(&job.id))
    }

    /// A job has its number, and can be stopped by it.
    pub fn job_begins(&self, id: u64, routine: &Routine, started_by: &str, cancel: CancellationToken) {
        let job = Job {
            id,
            kind: routine.kind.word().to_owned(),
            repository: routine.repository.clone(),
            state: JobState::Running,
            phase: None,
            message: None,
            current: 0,
            total: None,
            unit: None,
            error: None,
            detail: None,
            started_by: started_by.to_owned(),
            started: self.clock.now(),
            ended: None,
            elapsed_seconds: 0.0,
            held: false,
            held_seconds: None,
            paused_seconds: None,
            day: None,
        };
        let mut inner = self.lock();
        inner.jobs.insert(id, job.clone());
        inner.phases.insert(id, Vec::new());
        inner.cancels.insert(id, cancel);
        inner.forget_oldest();
        drop(inner);
        self.tell(Live::Job { job: Box::new(job) });
    }

    /// Something happened in a run.
    pub fn job_hears(&self, id: u64, event: &Event) {
        let now = self.clock.now();
        let mut inner = self.lock();
        if let (Event::Phase { phase }, Some(phases)) = (event, inner.phases.get_mut(&id))
            && phases.last().is_none_or(|(last, _)| last != phase)
        {
            phases.push((*phase, now));
        }
        if let Some(job) = inner.jobs.get_mut(&id) {
            hear(job, event);
        }
        drop(inner);
        if !matches!(event, Event::Progress { .. } | Event::Notice { .. }) {
            self.stepped.notify_one();
        }
    }

    /// A run has ended.
    pub fn job_ends(&self, id: u64, end: End) {
        let now = self.clock.now();
        let mut inner = self.lock();
        inner.cancels.remove(&id);
        let Some(job) = inner.jobs.get_mut(&id) else {
            return;
        };
        job.state = end.state;
        job.error = end.error;
        job.detail = end.detail;
        job.day = end.day;
        job.held = false;
        job.ended = Some(now);
        let job = timed(job, now);
        drop(inner);
        self.tell(Live::Job { job: Box::new(job) });
    }

    /// Asks a run to stop; nothing happens to one that has ended. True: it is a run of ours that goes on. None: there is no
    /// such job.
    pub fn cancel(&self, id: u64) -> Option<(Job, bool)> {
        let inner = self.lock();
        let cancel = inner.cancels.get(&id);
        if let Some(cancel) = cancel {
            cancel.cancel();
        }
        inner.jobs.get(&id).map(|job| (inner.shown(job, self.clock.now()), cancel.is_some()))
    }

    /// One job, as it stands.
    #[must_use]
    pub fn job(&self, id: u64) -> Option<Job> {
        let inner = self.lock();
        inner.jobs.get(&id).map(|job| inner.shown(job, self.clock.now()))
    }

    /// All jobs that are remembered, newest first.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        let now = self.clock.now();
        let inner = self.lock();
        inner.jobs.values().rev().map(|job| inner.shown(job, now)).collect()
    }

    /// The numbers of our jobs that run.
    #[must_use]
    pub fn running_jobs(&self) -> Vec<u64> {
        self.lock().cancels.keys().copied().collect()
    }

    /// How long each phase of a job took, in seconds; the last one until the job's end, or until now.
    #[must_use]
    pub fn phases(&self, id: u64) -> Vec<(Phase, f64)> {
        let inner = self.lock();
        let phases = inner.phases.get(&id).map_or(&[][..], Vec::as_slice);
        let end = inner.jobs.get(&id).and_then(|job| job.ended).unwrap_or_else(|| self.clock.now());
        let ends = phases.iter().skip(1).map(|(_, begin)| *begin).chain([end]);
        let lengths = phases.iter().zip(ends);
        lengths.map(|((phase, begin), end)| (*phase, end.duration_since(*begin).as_secs_f64())).collect()
    }

    /// The jobs that run, and what happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> (Vec<Job>, broadcast::Receiver<Live>) {
        let live = self.live.subscribe();
        let running = self.jobs().into_iter().filter(|job| job.state == JobState::Running).collect();
        (running, live)
    }

    /// A line for every reader of the event stream.
    pub fn tell(&self, live: Live) {
        // Nobody listens: nobody misses it.
        let _ = self.live.send(live);
    }
}

impl Inner {
    /// The hold of a repository, unless its run has told since that it is over.
    fn hold_of(&self, repository: &str) -> Option<&SeenHold> {
        let seen = self.holds.get(repository)?;
        let goes_on = |job: &Job| job.state == JobState::Running && job.held_seconds.is_none();
        (!seen.ours || self.jobs.get(&seen.hold.job).is_some_and(goes_on)).then_some(seen)
    }

    /// A job as it stands; the hold's record tells whether one that is not proven idle yet, or of another process, holds.
    fn shown(&self, job: &Job, now: Timestamp) -> Job {
        let by_record = self.hold_of(&job.repository).is_some_and(|seen| seen.hold.job == job.id);
        let held = job.held || (job.state == JobState::Running && by_record);
        Job { held, ..timed(job, now) }
    }

    fn forget_oldest(&mut self) {
        while self.jobs.len() > REMEMBERED {
            let ended = self.jobs.iter().find(|(_, job)| job.state != JobState::Running).map(|(id, _)| *id);
            let Some(oldest) = ended else { break };
            self.jobs.remove(&oldest);
            self.phases.remove(&oldest);
        }
    }
}

/// How a run ended, in the words of the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// How.
    pub state: JobState,
    /// Why, one sentence.
    pub error: Option<String>,
    /// The chain of causes.
    pub detail: Option<String>,
    /// The day that it sealed, or was about.
    pub day: Option<String>,
}

fn hear(job: &mut Job, event: &Event) {
    match event {
        Event::Job { .. } => {}
        Event::Phase { phase } => {
            job.phase = Some(*phase);
            (job.current, job.total, job.unit) = (0, None, None);
        }
        Event::Progress { phase, unit, current, total } => {
            job.phase = Some(*phase);
            (job.current, job.total, job.unit) = (*current, *total, Some(*unit));
        }
        Event::Notice { text, .. } => job.message = Some(text.clone()),
        Event::Held => job.held = true,
        Event::Released { held_seconds, paused_seconds, .. } => {
            job.held = false;
            job.held_seconds = Some(*held_seconds);
            job.paused_seconds = Some(*paused_seconds);
        }
    }
}

fn timed(job: &Job, now: Timestamp) -> Job {
    let end = job.ended.unwrap_or(now);
    Job { elapsed_seconds: end.duration_since(job.started).as_secs_f64().max(0.0), ..job.clone() }
}
