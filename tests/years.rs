//! Ten years of a machine whose clock is set wrong and right again, which is off for a month and dies in the middle of runs: what the
//! daemon begins, and what a prune after each run removes, in ten zones. What is due and what must stay is reckoned here anew, from
//! offsets and days since 1970 alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use daykeep::config::Schedule;
use daykeep::daemon::plan::{Plan, StartedBy, Step};
use daykeep::retention::{Candidate, Rules, plan_with_doubts};
use daykeep::vault::{AHEAD, name_of};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Changes of an hour, of half an hour and of two, at midnight, one, two and three, in both hemispheres; one that changes around
/// Ramadan, and one that never does.
const ZONES: [&str; 10] = [
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "America/Havana",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
];

/// A time of day, as a schedule names it.
const TIMES: [(i8, i8); 3] = [(0, 0), (1, 30), (2, 45)];

const BEGIN: &str = "2026-01-01T12:00:00Z";
const END: &str = "2036-01-02T00:00:00Z";
const DAY: SignedDuration = SignedDuration::from_hours(24);
const QUARTER: SignedDuration = SignedDuration::from_mins(15);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What happens to the machine, other than time.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Blow {
    /// The clock is set: so far from the right time.
    Clock(SignedDuration),
    /// The power goes, for so long.
    Off(SignedDuration),
    /// Only the daemon is killed, and comes back.
    Killed,
    /// The next run finds the repository busy.
    Busy,
}

/// The same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.0 >> 33) % sides).unwrap()
    }

    /// Blows of ten years, in their order: apart from each other, so that each can be told by what comes of it.
    fn blows(&mut self) -> Vec<(Timestamp, Blow)> {
        let mut blows = Vec::new();
        let mut now = at(BEGIN);
        while now < at(END) {
            now +=
                DAY * i32::try_from(6 + self.roll(40)).unwrap() + SignedDuration::from_mins(self.roll(1440));
            let some_hours = SignedDuration::from_mins(1 + self.roll(40 * 60));
            match self.roll(6) {
                0 => blows.push((now, Blow::Clock(DAY))),
                1 => blows.push((now, Blow::Clock(-DAY))),
                2 => blows.push((now, Blow::Off(DAY * 30))),
                3 => blows.push((now, Blow::Off(some_hours))),
                4 => blows.push((now, Blow::Killed)),
                _ => blows.push((now, Blow::Busy)),
            }
            match blows.last() {
                Some((_, Blow::Clock(_))) => {
                    now += some_hours;
                    blows.push((now, Blow::Clock(SignedDuration::ZERO)));
                }
                Some((_, Blow::Off(length))) => now += *length,
                _ => {}
            }
        }
        blows
    }
}

/// The first instant whose civil time is at or after the one that the schedule names, on each date: what a gap and an overlap mean.
fn due_instants(zone: &TimeZone, (hour, minute): (i8, i8)) -> Vec<Timestamp> {
    let mut dues = Vec::new();
    let mut date = Date::constant(2025, 12, 1);
    while date < Date::constant(2036, 2, 1) {
        let civil = date.at(hour, minute, 0, 0);
        let nominal = TimeZone::UTC.to_timestamp(civil).unwrap();
        // Early enough for any change of the offset, and late enough not to be the same time of the day before.
        let about = nominal - SignedDuration::from_secs(zone.to_offset(nominal).seconds().into());
        let mut instant = about - SignedDuration::from_hours(4);
        while zone.to_offset(instant).to_datetime(instant) < civil {
            instant += QUARTER;
        }
        dues.push(instant);
        date = date.tomorrow().unwrap();
    }
    dues.sort();
    dues.dedup();
    dues
}

/// Its hour with its offset, day, ISO week, month and year, by numbers that count up.
fn periods(instant: Timestamp, zone: &TimeZone) -> [i64; 5] {
    let offset = i64::from(zone.to_offset(instant).seconds());
    let local = instant.as_second() + offset;
    let days = local.div_euclid(86_400);
    // Howard Hinnant's days_to_civil, for the month and the year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years + years / 4 - years / 100);
    let turned = (5 * of_year + 2) / 153;
    let month = if turned < 10 { turned + 3 } else { turned - 9 };
    let year = years + era * 400 + i64::from(month <= 2);
    [(local.div_euclid(3600)) * 100_000 + offset, days, (days + 3).div_euclid(7), year * 12 + month, year]
}

/// The names of the days that rules of numbers must keep, reckoned one day at a time; the rest may go.
fn must_stay(rules: &Rules, days: &[Candidate], zone: &TimeZone) -> BTreeSet<String> {
    let mut newest_first: Vec<&Candidate> = days.iter().collect();
    newest_first.sort_by_key(|day| std::cmp::Reverse((day.freeze_point, day.sequence)));
    let counts = [rules.hourly, rules.daily, rules.weekly, rules.monthly, rules.yearly];
    let mut seen: [BTreeSet<i64>; 5] = Default::default();
    let mut stay = BTreeSet::new();
    for (index, day) in newest_first.iter().enumerate() {
        let age = newest_first[0].freeze_point.duration_since(day.freeze_point);
        let young = rules.within.is_some_and(|within| age <= SignedDuration::try_from(within).unwrap());
        let mut keep = index == 0 || index < rules.last as usize || young;
        for ((seen, period), count) in seen.iter_mut().zip(periods(day.freeze_point, zone)).zip(counts) {
            keep |= seen.len() < count as usize && seen.insert(period);
        }
        if keep {
            stay.insert(day.name.clone());
        }
    }
    stay
}

/// A run that goes on.
#[derive(Debug, Clone, Copy)]
struct Running {
    why: StartedBy,
    begun: Timestamp,
    ends: Timestamp,
    freeze_point: Timestamp,
    skipped: bool,
}

/// A machine with a daemon, as the daemon's loop drives its plan: what is on disk outlives it.
struct Machine {
    schedule: Schedule,
    zone: TimeZone,
    rules: Rules,
    dues: Vec<Timestamp>,
    dice: Dice,
    /// The time that really is, and how far the clock is from it.
    now: Timestamp,
    wrong_by: SignedDuration,
    off_until: Option<Timestamp>,
    busy_next: bool,
    stamp: Timestamp,
    plan: Plan,
    running: Option<Running>,
    /// Instants of the schedule that had a run, and when that was.
    handled: BTreeMap<Timestamp, Timestamp>,
    begun: Vec<Timestamp>,
    days: Vec<Candidate>,
    /// Every day that ever was.
    history: Vec<Candidate>,
    names: BTreeSet<String>,
    sequence: u64,
    removed: usize,
}

impl Machine {
    fn new(zone_name: &str, time: (i8, i8), catch_up: bool, seed: u64) -> Self {
        let cron = format!("{} {} * * *", time.1, time.0);
        let schedule = Schedule { cron, timezone: zone_name.to_owned(), catch_up };
        let zone = TimeZone::get(zone_name).unwrap();
        let month = Duration::from_secs(30 * 86_400);
        let mut rules = Rules { daily: 7, weekly: 5, monthly: 12, yearly: 4, ..Rules::default() };
        match seed % 3 {
            0 => {}
            1 => rules = Rules { last: 3, within: Some(month), monthly: 3, ..Rules::default() },
            _ => rules = Rules { hourly: 4, last: 2, ..rules },
        }
        let begin = at(BEGIN);
        Self {
            plan: Plan::new(Some(&schedule), begin).unwrap(),
            dues: due_instants(&zone, time),
            schedule,
            zone,
            rules,
            dice: Dice(seed),
            now: begin,
            wrong_by: SignedDuration::ZERO,
            off_until: None,
            busy_next: false,
            stamp: begin,
            running: None,
            handled: BTreeMap::new(),
            begun: Vec::new(),
            days: Vec::new(),
            history: Vec::new(),
            names: BTreeSet::new(),
            sequence: 0,
            removed: 0,
        }
    }

    fn clock(&self) -> Timestamp {
        self.now + self.wrong_by
    }

    fn is_idle(&self) -> bool {
        self.off_until.is_none() && self.running.is_none()
    }

    /// One turn of the daemon's loop; gives when it wakes by itself, in real time.
    fn turn(&mut self) -> Option<Timestamp> {
        match self.plan.step(self.clock()) {
            Step::Wait(until) => {
                self.check_idle();
                until.map(|until| until - self.wrong_by)
            }
            Step::Restamp(stamp) => panic!("{}: restamped to {stamp}, {self}", self.now),
            Step::Run { why, due } => {
                if let Some(due) = due {
                    let before = self.handled.insert(due, self.now);
                    assert_eq!(before, None, "{due} was handled before, {self}");
                    assert!(
                        self.dues.binary_search(&due).is_ok(),
                        "{due} is no instant of the schedule, {self}"
                    );
                    self.stamp = due;
                    self.plan.handled(due);
                }
                self.plan.begins();
                self.begin(why);
                None
            }
        }
    }

    fn begin(&mut self, why: StartedBy) {
        let long = SignedDuration::from_mins(if self.dice.roll(50) == 0 {
            26 * 60
        } else {
            1 + self.dice.roll(180)
        });
        let skipped = std::mem::take(&mut self.busy_next);
        self.begun.push(self.now);
        self.running = Some(Running {
            why,
            begun: self.now,
            ends: self.now + if skipped { SignedDuration::from_mins(1) } else { long },
            freeze_point: self.clock() + SignedDuration::from_secs(20),
            skipped,
        });
    }

    /// A run ends: its day is sealed, and what the rules do not keep goes.
    fn end(&mut self) {
        let run = self.running.take().unwrap();
        if run.skipped {
            self.plan.skipped(self.clock(), Duration::from_secs(900));
            return;
        }
        self.sequence += 1;
        let day = Candidate {
            name: name_of(run.freeze_point),
            freeze_point: run.freeze_point,
            sequence: self.sequence,
        };
        assert!(self.names.insert(day.name.clone()), "two days of one instant, {self}");
        self.days.push(day.clone());
        self.history.push(day);
        self.prune();
    }

    fn prune(&mut self) {
        let now = self.clock();
        let (ahead, good): (Vec<_>, Vec<_>) =
            self.days.iter().cloned().partition(|day| day.freeze_point.duration_since(now) > AHEAD);
        let plan =
            plan_with_doubts(&self.rules, &good, ahead.first().map(|day| day.name.as_str()), &self.zone);
        let removed: BTreeSet<&str> = plan.removed().collect();
        let stay = must_stay(&self.rules, &good, &self.zone);
        for name in &removed {
            assert!(!stay.contains(*name), "the rules keep {name}, which is removed, {self}");
            assert!(ahead.is_empty(), "{name} is removed under a clock that is wrong, {self}");
        }
        self.removed += removed.len();
        self.days.retain(|day| !removed.contains(day.name.as_str()));
        assert!(self.days.iter().any(|day| day.sequence == self.sequence), "the newest day stays, {self}");
        // What went day by day is not missed by what the rules say of all the days that ever were.
        if self.sequence.is_multiple_of(100) {
            let there: BTreeSet<&String> = self.days.iter().map(|day| &day.name).collect();
            for name in must_stay(&self.rules, &self.history, &self.zone) {
                assert!(there.contains(&name), "{name} should still be there, {self}");
            }
        }
    }

    /// The daemon has nothing to do: then the newest instant that its clock has passed had its run, or a later one had.
    fn check_idle(&self) {
        let passed = self.dues.partition_point(|due| *due <= self.clock());
        let newest = self.dues[passed - 1];
        let had = newest <= at(BEGIN) || self.handled.range(newest..).next().is_some();
        assert!(had || !self.schedule.catch_up, "{newest} has passed and had no run, {self}");
    }

    fn strike(&mut self, blow: Blow) {
        match blow {
            Blow::Clock(wrong_by) => self.wrong_by = wrong_by,
            Blow::Busy => self.busy_next = true,
            Blow::Killed => {
                self.lose_run();
            }
            Blow::Off(length) => {
                self.lose_run();
                self.off_until = Some(self.now + length);
            }
        }
    }

    /// The daemon dies, and begins anew with what is on disk.
    fn lose_run(&mut self) {
        self.plan = Plan::new(Some(&self.schedule), self.stamp).unwrap();
        if let Some(run) = self.running.take()
            && run.why == StartedBy::Schedule
        {
            // Told at the next start.
            self.plan.died(self.clock());
        }
    }

    fn live(&mut self, blows: &[(Timestamp, Blow)]) {
        let mut blows = blows.iter().peekable();
        while self.now < at(END) {
            let wakes = if self.is_idle() { self.turn() } else { None };
            let ends = self.running.map(|run| run.ends);
            let blow = blows.peek().map(|(at, _)| *at);
            let next =
                [wakes, ends, self.off_until, blow, Some(at(END))].into_iter().flatten().min().unwrap();
            self.now = next.max(self.now);
            if blow == Some(next) {
                let (_, blow) = blows.next().unwrap();
                self.strike(*blow);
            } else if ends == Some(next) {
                self.end();
            } else if self.off_until == Some(next) {
                self.off_until = None;
            }
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Schedule { cron, timezone, catch_up } = &self.schedule;
        write!(
            f,
            "at {} ({} by the clock): {cron} in {timezone}, catch_up {catch_up}, begun {:?}",
            self.now,
            self.clock(),
            self.running.map(|run| run.begun)
        )
    }
}

/// Is there nothing within so many days of an instant?
fn is_quiet(blows: &[(Timestamp, Blow)], instant: Timestamp, days: i32) -> bool {
    let far = |(at, blow): &(Timestamp, Blow)| {
        let end = if let Blow::Off(length) = blow { *at + *length } else { *at };
        end + DAY * days < instant || *at - DAY * days > instant
    };
    blows.iter().all(far)
}

fn ten_years(zone: &str, seed: u64) {
    for (time, number) in TIMES.into_iter().zip(0..) {
        // Without it there is less to go wrong.
        for catch_up in if number == 0 { [true, false].as_slice() } else { &[true] } {
            let (catch_up, seed) = (*catch_up, seed * 10 + number);
            let blows = Dice(seed).blows();
            let mut machine = Machine::new(zone, time, catch_up, seed);
            machine.live(&blows);
            assert!(machine.removed > 2500, "{} removed, {machine}", machine.removed);
            let long = machine.begun.windows(2).map(|pair| pair[1].duration_since(pair[0]));
            let off = DAY * 30 + SignedDuration::from_hours(50);
            let most = if catch_up { off } else { off + DAY };
            assert!(long.clone().all(|gap| gap <= most), "{:?} without a run, {machine}", long.max());
            // Where nothing happens for days around, each instant has one run, in time but for a run that lasts longer than a day.
            let quiet =
                machine.dues.iter().filter(|due| **due > at(BEGIN) + DAY * 3 && **due < at(END) - DAY * 3);
            let mut checked = 0;
            for due in quiet.filter(|due| is_quiet(&blows, **due, 3)) {
                checked += 1;
                match machine.handled.get(due) {
                    Some(begun) => {
                        assert!(*begun >= *due && *begun <= *due + DAY, "{due} ran at {begun}, {machine}");
                    }
                    None => assert!(!catch_up, "{due} was missed, {machine}"),
                }
            }
            assert!(checked > 1500, "{checked} quiet days, {machine}");
        }
    }
}

#[test]
fn ten_years_in_ten_zones() {
    std::thread::scope(|scope| {
        for (zone, seed) in ZONES.into_iter().zip(1..) {
            scope.spawn(move || ten_years(zone, seed));
        }
    });
}
