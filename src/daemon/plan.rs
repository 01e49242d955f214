//! When the runs of one repository begin: its schedule, the next try after a skipped run, and what happened.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::api::wire::{NextRun, NextRunReason};
use crate::config;
use crate::schedule::{Cron, Decision, Error, Why, decide};

/// The plan of one repository. Pure: it is asked with the time and told what happened.
#[derive(Debug, Clone)]
pub struct Plan {
    cron: Option<Cron>,
    catch_up: bool,
    handled: Timestamp,
    retry: Option<Retry>,
}

/// A run outside the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Retry {
    at: Timestamp,
    why: StartedBy,
}

/// Why a run begins, when nobody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartedBy {
    /// Its time has come.
    Schedule,
    /// Its time went by, or daykeep died during it.
    CatchUp,
    /// The last one was skipped.
    Retry,
}

impl StartedBy {
    /// The word in journals and answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::CatchUp => "catch-up",
            Self::Retry => "retry",
        }
    }
}

/// What is to be done at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Begin a run. When it has a due instant, that is put on disk first.
    Run {
        /// Why.
        why: StartedBy,
        /// The instant in the schedule that it is for.
        due: Option<Timestamp>,
    },
    /// Put this on disk as handled, and ask again: the stamp was from a clock that was wrong.
    Restamp(Timestamp),
    /// Ask again then, or when something happens.
    Wait(Option<Timestamp>),
}

impl Plan {
    /// The plan of a schedule that was handled up to an instant.
    ///
    /// # Errors
    /// The schedule cannot be understood, though the configuration was accepted: the zone's data was removed since.
    pub fn new(schedule: Option<&config::Schedule>, handled: Timestamp) -> Result<Self, Error> {
        let cron = schedule.map(|schedule| Cron::parse(&schedule.cron, &schedule.timezone)).transpose()?;
        let catch_up = schedule.is_some_and(|schedule| schedule.catch_up);
        Ok(Self { cron, catch_up, handled, retry: None })
    }

    /// What is to be done now, with no run of the repository going on?
    #[must_use]
    pub fn step(&self, now: Timestamp) -> Step {
        let scheduled = match &self.cron {
            None => None,
            Some(cron) => match decide(cron, now, self.handled, self.catch_up) {
                Decision::RunNow { due, why } => {
                    let why = if why == Why::Due { StartedBy::Schedule } else { StartedBy::CatchUp };
                    return Step::Run { why, due: Some(due) };
                }
                Decision::Restamp(stamp) => return Step::Restamp(stamp),
                Decision::WaitUntil(until) => Some(until),
                Decision::Never => None,
            },
        };
        match self.retry {
            Some(Retry { at, why }) if at <= now => Step::Run { why, due: None },
            Some(Retry { at, .. }) => Step::Wait(Some(scheduled.map_or(at, |until| until.min(at)))),
            None => Step::Wait(scheduled),
        }
    }

    /// An instant of the schedule was handled.
    pub fn handled(&mut self, due: Timestamp) {
        self.handled = due;
    }

    /// A run begins, whoever wanted it: the try that was waited for is had.
    pub fn begins(&mut self) {
        self.retry = None;
    }

    /// The run was skipped: another try after so long, unless the schedule is faster.
    pub fn skipped(&mut self, now: Timestamp, after: std::time::Duration) {
        let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
        self.retry = now.checked_add(after).ok().map(|at| Retry { at, why: StartedBy::Retry });
    }

    /// daykeep died during the scheduled run: it is made up for now, if missed runs are.
    pub fn died(&mut self, now: Timestamp) {
        if self.catch_up {
            self.retry = Some(Retry { at: now, why: StartedBy::CatchUp });
        }
    }

    /// What was waited for under the plan before a reload still is.
    pub fn inherit(&mut self, before: &Self) {
        self.retry = before.retry;
    }

    /// When the next run begins, as far as is known now. With a run going on that is the first instant after now.
    #[must_use]
    pub fn next_run(&self, now: Timestamp) -> Option<NextRun> {
        let zone = self.cron.as_ref().map_or(TimeZone::UTC, |cron| cron.zone().clone());
        let scheduled = self.cron.as_ref().and_then(|cron| cron.next_after(now.max(self.handled)));
        let retry = self.retry.map(|retry| retry.at.max(now));
        let (at, why) = match (scheduled, retry) {
            (scheduled, Some(retry)) if scheduled.is_none_or(|at| retry <= at) => {
                (retry, NextRunReason::Retry)
            }
            (Some(at), _) => (at, NextRunReason::Schedule),
            (None, _) => return None,
        };
        let local = at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        Some(NextRun { at, local, why })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{Plan, StartedBy, Step};
    use crate::api::wire::NextRunReason;
    use crate::config::Schedule;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn plan(catch_up: bool) -> Plan {
        let schedule =
            Schedule { cron: "0 1 * * *".to_owned(), timezone: "Europe/Berlin".to_owned(), catch_up };
        Plan::new(Some(&schedule), at("2026-11-21T00:00:00Z")).unwrap()
    }

    #[test]
    fn a_skipped_run_is_tried_again_unless_the_schedule_is_faster() {
        let mut plan = plan(true);
        let now = at("2026-11-21T00:01:00Z");
        plan.skipped(now, Duration::from_secs(900));
        let next = plan.next_run(now).unwrap();
        assert_eq!((next.local.as_str(), next.why), ("2026-11-21T01:16:00+01:00", NextRunReason::Retry));
        assert_eq!(plan.step(now), Step::Wait(Some(at("2026-11-21T00:16:00Z"))));
        let then = at("2026-11-21T00:16:00Z");
        assert_eq!(plan.step(then), Step::Run { why: StartedBy::Retry, due: None });
        plan.begins();
        assert_eq!(plan.step(then), Step::Wait(Some(at("2026-11-22T00:00:00Z"))));

        plan.skipped(at("2026-11-21T23:50:00Z"), Duration::from_secs(900));
        let due = at("2026-11-22T00:00:00Z");
        assert_eq!(plan.step(due), Step::Run { why: StartedBy::Schedule, due: Some(due) });
    }

    #[test]
    fn a_run_that_daykeep_died_in_is_made_up_for_once_where_missed_runs_are() {
        let now = at("2026-11-21T07:00:00Z");
        let mut plan = plan(true);
        plan.died(now);
        assert_eq!(plan.step(now), Step::Run { why: StartedBy::CatchUp, due: None });
        plan.begins();
        assert_eq!(plan.step(now), Step::Wait(Some(at("2026-11-22T00:00:00Z"))));

        let mut strict = self::plan(false);
        strict.died(now);
        assert_eq!(strict.step(now), Step::Wait(Some(at("2026-11-22T00:00:00Z"))));
    }

    #[test]
    fn without_a_schedule_nothing_begins_by_itself() {
        let plan = Plan::new(None, at("2026-11-21T00:00:00Z")).unwrap();
        assert_eq!(plan.step(at("2027-01-01T00:00:00Z")), Step::Wait(None));
        assert_eq!(plan.next_run(at("2027-01-01T00:00:00Z")), None);
    }
}
