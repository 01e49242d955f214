//! The loop that everything of the daemon passes through: time, signals, questions that change something, runs that end.
//!
//! It never waits for anything else, so that its sign of life to the watchdog means what it says.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::api::order::{self, Order};
use crate::api::server::Refusal;
use crate::api::wire::JobState;
use crate::config::{self, Config};
use crate::daemon::conflict::already_running;
use crate::daemon::job::{Ended, Task, carry_out};
use crate::daemon::plan::{Plan, StartedBy, Step};
use crate::daemon::reload::{brief, warn_of_what_stays};
use crate::daemon::routine::{Routine, SCHEDULED, schedule_of};
use crate::daemon::signals::{Asked, Signals};
use crate::daemon::stamp::{first_stamp, words};
use crate::daemon::state::{Start, State};
use crate::daemon::timer::{Fired, Timer};
use crate::daemon::work::Work;
use crate::daemon::{leftover, notify, others};
use crate::journal::{self, JobKind};
use crate::restore;

/// How often the status line follows a run.
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// How long runs may take to release their repository and end, once the daemon is to stop. The unit's TimeoutStopSec is
/// longer.
const STOP_PATIENCE: Duration = Duration::from_secs(240);
/// How often a hold of an earlier life that could not be released is looked at again.
const LEFTOVERS_EVERY: Duration = Duration::from_secs(60);
/// How long to wait before a stamp that could not be written is tried again.
const STAMP_AGAIN: Duration = Duration::from_secs(30);

/// The loop's own state.
#[derive(Debug)]
pub struct Scheduler {
    state: Arc<State>,
    guard: PathBuf,
    timer: Timer,
    starts: mpsc::Receiver<Start>,
    plans: BTreeMap<Routine, Plan>,
    running: BTreeMap<Routine, CancellationToken>,
    runs: JoinSet<Ended>,
    leftovers: leftover::Leftovers,
    status: String,
    /// How often the watchdog wants a sign of life, and when it had the last one.
    heartbeat: Option<Duration>,
    last_sign: Option<Duration>,
}

impl Scheduler {
    /// A loop for the configuration in `state`. `died` are the scheduled jobs that were going on when daykeep died.
    ///
    /// # Errors
    /// The kernel gives no timer.
    pub fn new(
        state: Arc<State>,
        guard: PathBuf,
        starts: mpsc::Receiver<Start>,
        leftovers: leftover::Leftovers,
        died: &[Routine],
    ) -> io::Result<Self> {
        let mut scheduler = Self {
            timer: Timer::new()?,
            state,
            guard,
            starts,
            plans: BTreeMap::new(),
            running: BTreeMap::new(),
            runs: JoinSet::new(),
            leftovers,
            status: String::new(),
            heartbeat: notify::watchdog(),
            last_sign: None,
        };
        scheduler.make_plans();
        let now = scheduler.state.clock.now();
        for routine in died {
            if let Some(plan) = scheduler.plans.get_mut(routine) {
                plan.died(now);
            }
        }
        Ok(scheduler)
    }

    /// Turns until a signal says stop and every run has ended; false when some had not after [`STOP_PATIENCE`].
    ///
    /// # Errors
    /// The kernel's timer fails.
    pub async fn turn(mut self, mut signals: Signals) -> io::Result<bool> {
        // They keep their time over the turns: a pause would begin anew with each sign of life.
        let mut look_at_leftovers = every(LEFTOVERS_EVERY);
        let mut look_at_others = every(STATUS_EVERY);
        loop {
            let wait = self.begin_what_is_due();
            self.timer.set(wait)?;
            self.show();
            let next_sign = self.sign();
            tokio::select! {
                fired = self.timer.fired() => {
                    if fired? == Fired::ClockSet {
                        tracing::info!("the clock was set: what is due is looked at anew");
                    }
                }
                asked = signals.next() => match asked {
                    Asked::Reload { sender } => self.reload(&sender),
                    Asked::Stop { signal, sender } => {
                        tracing::info!("{signal}{sender}: stopping");
                        return Ok(self.wind_up(signals).await);
                    }
                },
                Some(start) = self.starts.recv() => self.asked_to_start(start),
                Some(ended) = self.runs.join_next() => self.ended(ended),
                () = self.state.stepped.notified() => {}
                () = pause(next_sign) => {}
                () = pause((!self.running.is_empty()).then_some(STATUS_EVERY)) => {}
                _ = look_at_leftovers.tick(), if self.leftovers.is_any() => {
                    self.leftovers.try_again(&self.state);
                }
                _ = look_at_others.tick(), if self.state.others_run() => {
                    let state = Arc::clone(&self.state);
                    tokio::spawn(async move { others::refresh(&state).await });
                }
            }
        }
    }

    /// Begins the runs whose time has come; gives the instant of the next.
    fn begin_what_is_due(&mut self) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        let routines: Vec<Routine> = self.plans.keys().cloned().collect();
        for routine in routines {
            // What is in its way ends, and then it is looked at again.
            let wait = if self.in_the_way_of(&routine).is_some() { None } else { self.step(&routine) };
            next = [next, wait].into_iter().flatten().min();
            let planned = self.plans.get(&routine).and_then(|plan| plan.next_run(self.state.clock.now()));
            self.state.plan(&routine, planned);
        }
        next
    }

    /// A job of ours that must end before this may begin.
    fn in_the_way_of(&self, routine: &Routine) -> Option<&Routine> {
        self.running.keys().find(|running| running.excludes(routine))
    }

    fn step(&mut self, routine: &Routine) -> Option<Timestamp> {
        let name = routine.name();
        let now = self.state.clock.now();
        loop {
            let step = self.plans.get(routine)?.step(now);
            match step {
                Step::Wait(until) => return until,
                Step::Restamp(stamp) => {
                    tracing::warn!(
                        "{name}: the clock ran ahead when the last run was made; scheduling from now"
                    );
                    if !self.stamp(routine, stamp) {
                        return now.checked_add(STAMP_AGAIN).ok();
                    }
                }
                Step::Run { why, due } => {
                    if due.is_some_and(|due| !self.stamp(routine, due)) {
                        return now.checked_add(STAMP_AGAIN).ok();
                    }
                    if let (StartedBy::CatchUp, Some(due)) = (why, due) {
                        tracing::warn!("{name}: the run due at {due} was missed and begins now");
                    }
                    if let Some(order) = by_schedule(routine.kind) {
                        self.begin(routine, order, why.word().to_owned(), None);
                    }
                    return None;
                }
            }
        }
    }

    /// Puts an instant on disk as handled. False when the disk refuses: then nothing is begun, or it might come twice.
    fn stamp(&mut self, routine: &Routine, handled: Timestamp) -> bool {
        let config = self.state.config();
        let Routine { repository: name, kind } = routine;
        let Some(schedule) = config.repositories.get(name).and_then(|found| schedule_of(found, *kind)) else {
            return false;
        };
        match journal::set_last_due(&config.state_dir, name, *kind, &words(schedule), handled) {
            Ok(()) => {
                if let Some(plan) = self.plans.get_mut(routine) {
                    plan.handled(handled);
                }
                true
            }
            Err(error) => {
                tracing::error!("{}: nothing is begun: {error}", routine.name());
                false
            }
        }
    }

    fn begin(
        &mut self,
        routine: &Routine,
        order: Order,
        started_by: String,
        asker: Option<oneshot::Sender<Result<u64, String>>>,
    ) {
        let config = self.state.config();
        let Some(repository) = config.repositories.get(&routine.repository) else {
            return;
        };
        if let Some(plan) = self.plans.get_mut(routine) {
            plan.begins();
        }
        let cancel = CancellationToken::new();
        self.running.insert(routine.clone(), cancel.clone());
        let work = Work {
            order,
            repository: repository.clone(),
            state_dir: config.state_dir.clone(),
            place: restore::Place::of_config(&config.path),
            guard: self.guard.clone(),
            started_by,
        };
        self.runs.spawn(carry_out(Task { work, cancel, asker }, Arc::clone(&self.state)));
    }

    fn asked_to_start(&mut self, start: Start) {
        let Start { repository, order, user, reply } = start;
        let routine = Routine::new(&repository, order.kind());
        let answer = if self.state.is_stopping() {
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the daemon is stopping"))
        } else if !self.state.config().repositories.contains_key(&repository) {
            Err(Refusal::no_such_repository(&repository))
        } else if let Some(refusal) = already_running(&self.state, &routine, self.in_the_way_of(&routine)) {
            Err(refusal)
        } else {
            let (asker, number) = oneshot::channel();
            tracing::info!("{repository}: {user} starts a {}", routine.kind.word());
            self.begin(&routine, order, user, Some(asker));
            Ok(number)
        };
        // Whoever asked went away: the job goes on.
        let _ = reply.send(answer);
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ended { routine, number, end } = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!("a run's task broke off: {error}");
                return;
            }
        };
        self.running.remove(&routine);
        let skipped = end.state == JobState::Skipped;
        if let Some(number) = number {
            self.state.job_ends(number, end);
        }
        self.state.shelf.forget(&routine.repository);
        let config = self.state.config();
        let retry = config.repositories.get(&routine.repository).and_then(|found| found.hold.retry_after);
        if let (true, Some(after), Some(plan)) = (skipped, retry, self.plans.get_mut(&routine)) {
            plan.skipped(self.state.clock.now(), after);
        }
    }

    fn reload(&mut self, sender: &str) {
        tracing::info!("SIGHUP{sender}: reading the configuration");
        notify::reloading();
        let before = self.state.config();
        match config::load(&before.path) {
            Ok(config) => {
                warn_of_what_stays(&before, &config);
                // The sockets and records of this life stay where they are.
                let daemon = config::Daemon { socket: before.daemon.socket.clone(), ..config.daemon.clone() };
                let state_dir = before.state_dir.clone();
                self.state.configured(Ok(Config { state_dir, daemon, ..config }));
                self.make_plans();
                tracing::info!("the new configuration is in force");
            }
            Err(error) => {
                tracing::error!(
                    "the configuration is refused, the one before it stays in force:\n{}",
                    error.render(false)
                );
                self.state.configured(Err(brief(&error)));
            }
        }
        notify::ready();
    }

    /// Plans for the configuration in force; what was waited for still is.
    fn make_plans(&mut self) {
        let config = self.state.config();
        let now = self.state.clock.now();
        let mut plans = BTreeMap::new();
        for (name, repository) in &config.repositories {
            for kind in SCHEDULED {
                let routine = Routine::new(name, kind);
                let schedule = schedule_of(repository, kind);
                let handled = schedule.map_or(now, |schedule| first_stamp(&config, &routine, schedule, now));
                match Plan::new(schedule, handled) {
                    Ok(mut plan) => {
                        if let Some(before) = self.plans.get(&routine) {
                            plan.inherit(before);
                        }
                        plans.insert(routine, plan);
                    }
                    Err(error) => tracing::error!("{}: nothing is scheduled: {error}", routine.name()),
                }
            }
        }
        for routine in self.plans.keys().filter(|routine| !plans.contains_key(*routine)) {
            self.state.plan(routine, None);
        }
        self.plans = plans;
    }

    /// A sign of life, if one is due; gives the time until the next. Nothing but the turning loop gives it.
    fn sign(&mut self) -> Option<Duration> {
        let heartbeat = self.heartbeat?;
        let now = self.state.clock.monotonic();
        let next = self.last_sign.map_or(now, |last| last + heartbeat);
        if let Some(left) = next.checked_sub(now).filter(|left| !left.is_zero()) {
            return Some(left);
        }
        notify::alive();
        self.last_sign = Some(now);
        Some(heartbeat)
    }

    /// The status line of the service manager, when it changes.
    fn show(&mut self) {
        let jobs = self.state.jobs();
        let runs = self.plans.keys().filter(|routine| routine.kind == JobKind::Backup);
        let next = runs.filter_map(|routine| Some((routine.repository.as_str(), self.state.next(routine)?)));
        let next = next.min_by_key(|(_, next)| next.at);
        let config_error = self.state.config_status().error;
        let next = next.as_ref().map(|(name, next)| (*name, next));
        let mut line = notify::summary(&jobs, next, config_error.as_deref());
        if self.state.is_stopping() {
            line = format!("stopping; {line}");
        }
        if line != self.status {
            notify::status(&line);
            self.status = line;
        }
    }

    /// Stops: every run is cancelled and waited for, so that its repository is released before the process ends.
    async fn wind_up(&mut self, mut signals: Signals) -> bool {
        self.state.stop();
        notify::stopping();
        for cancel in self.running.values() {
            cancel.cancel();
        }
        let begun = self.state.clock.monotonic();
        while !self.runs.is_empty() {
            self.show();
            let next_sign = self.sign();
            let left = STOP_PATIENCE.saturating_sub(self.state.clock.monotonic().saturating_sub(begun));
            tokio::select! {
                Some(ended) = self.runs.join_next() => self.ended(ended),
                Some(start) = self.starts.recv() => self.asked_to_start(start),
                _ = signals.next() => {}
                () = self.state.stepped.notified() => {}
                () = pause(next_sign) => {}
                () = pause(Some(STATUS_EVERY)) => {}
                () = tokio::time::sleep(left) => {
                    tracing::error!("a run did not end in time; the guard of its hold releases the repository");
                    return false;
                }
            }
        }
        true
    }
}

/// What a schedule asks for.
fn by_schedule(kind: JobKind) -> Option<Order> {
    match kind {
        JobKind::Backup => Some(Order::Backup),
        JobKind::Verify => Some(Order::Verify(order::Verify::default())),
        JobKind::Drill => Some(Order::Drill(order::Drill::default())),
        JobKind::Prune | JobKind::Restore | JobKind::Settle => None,
    }
}

/// A beat that begins one period from now, and that nothing makes faster.
fn every(period: Duration) -> Interval {
    let mut beat = tokio::time::interval(period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    beat
}

/// A pause, or for ever.
async fn pause(length: Option<Duration>) {
    match length {
        Some(length) => tokio::time::sleep(length).await,
        None => std::future::pending().await,
    }
}
