//! When a run is due: every time zone trick, and a machine that is off, early, late and wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use daykeep::clock::{Clock as _, FakeClock};
use daykeep::schedule::{Cron, Decision, Error, Why, decide};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Zones with gaps and overlaps of an hour and of half an hour, at 01:00, 02:00, 03:00 and midnight, in both hemispheres, and
/// one without.
const ZONES: [&str; 10] = [
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/Santiago",
    "America/Havana",
    "Africa/Cairo",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Asia/Kolkata",
];

fn cron(text: &str, zone: &str) -> Cron {
    Cron::parse(text, zone).expect("a good schedule")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

#[test]
fn a_daily_job_runs_once_on_every_civil_day_of_ten_years_in_ten_zones() {
    for zone in ZONES {
        for text in ["30 2 * * *", "30 0 * * *", "0 1 * * *"] {
            let cron = cron(text, zone);
            let tz = TimeZone::get(zone).expect("the zone");
            let mut now = at("2024-12-30T12:00:00Z");
            let end = at("2035-01-02T12:00:00Z");
            let mut runs: BTreeMap<Date, u32> = BTreeMap::new();
            while let Some(due) = cron.next_after(now).filter(|due| *due < end) {
                assert!(due > now, "{zone} {text}: time goes on");
                assert_eq!(cron.previous_at_or_before(due), Some(due), "{zone} {text}: there and back");
                *runs.entry(tz.to_datetime(due).date()).or_default() += 1;
                now = due;
            }
            let mut day = Date::constant(2025, 1, 1);
            while day < Date::constant(2035, 1, 1) {
                assert_eq!(runs.get(&day), Some(&1), "{zone} {text} on {day}");
                day = day.tomorrow().expect("a day");
            }
        }
    }
}

#[test]
fn the_previous_instant_is_the_next_one_read_backwards() {
    for zone in ZONES {
        for text in ["30 2 * * *", "*/20 1,2,3 * * *", "0 * * * *", "*/7 * * * *", "15 0 * * 1-5"] {
            let cron = cron(text, zone);
            let tz = TimeZone::get(zone).expect("the zone");
            // Two days around each change of a year's offsets; a zone without any is looked at around New Year.
            let mut changes: Vec<Timestamp> =
                tz.following(at("2026-01-01T00:00:00Z")).take(2).map(|change| change.timestamp()).collect();
            changes.push(at("2027-01-01T00:00:00Z"));
            for change in changes.into_iter().filter(|change| *change < at("2028-01-01T00:00:00Z")) {
                let (from, to) =
                    (change - SignedDuration::from_hours(26), change + SignedDuration::from_hours(26));
                let mut forward = Vec::new();
                let mut now = from;
                while let Some(due) = cron.next_after(now).filter(|due| *due <= to) {
                    forward.push(due);
                    now = due;
                }
                let mut backward = Vec::new();
                let mut now = to;
                while let Some(due) = cron.previous_at_or_before(now).filter(|due| *due > from) {
                    backward.push(due);
                    now = due - SignedDuration::from_nanos(1);
                }
                backward.reverse();
                assert_eq!(forward, backward, "{zone} {text} around {change}");
                assert!(!forward.is_empty());
            }
        }
    }
}

#[test]
fn a_gap_puts_the_run_behind_it_and_an_overlap_runs_the_first_time_only() {
    let daily = cron("30 2 * * *", "Europe/Berlin");
    // 2026-03-29 02:00 CET becomes 03:00 CEST.
    assert_eq!(daily.next_after(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
    // 2026-10-25 03:00 CEST becomes 02:00 CET.
    assert_eq!(daily.next_after(at("2026-10-24T12:00:00Z")), Some(at("2026-10-25T00:30:00Z")));
    assert_eq!(daily.next_after(at("2026-10-25T00:30:00Z")), Some(at("2026-10-26T01:30:00Z")));
    // In the second 02:45 the first 02:30 is behind.
    assert_eq!(daily.previous_at_or_before(at("2026-10-25T01:10:00Z")), Some(at("2026-10-25T00:30:00Z")));

    // What croner alone would skip in the gap and run twice in the overlap.
    let twice_a_day = cron("30 2,14 * * *", "Europe/Berlin");
    assert_eq!(twice_a_day.next_after(at("2026-03-28T14:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
    assert_eq!(twice_a_day.next_after(at("2026-10-25T00:30:00Z")), Some(at("2026-10-25T13:30:00Z")));

    // Several times in one gap are one run.
    let quarters = cron("*/15 2 * * *", "Europe/Berlin");
    assert_eq!(quarters.next_after(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
    assert_eq!(quarters.next_after(at("2026-03-29T01:00:00Z")), Some(at("2026-03-30T00:00:00Z")));
}

#[test]
fn an_hourly_job_goes_by_elapsed_time() {
    for (zone, from) in [
        ("Europe/Berlin", "2026-03-28T20:00:00Z"),
        ("Europe/Berlin", "2026-10-24T20:00:00Z"),
        ("Africa/Cairo", "2026-04-23T12:00:00Z"),
        ("America/New_York", "2026-11-01T00:00:00Z"),
    ] {
        let cron = cron("0 * * * *", zone);
        let mut now = at(from);
        for _ in 0..20 {
            let due = cron.next_after(now).expect("an hour");
            assert_eq!(due.duration_since(now), SignedDuration::from_hours(1), "{zone} after {now}");
            now = due;
        }
    }
}

#[test]
fn a_day_that_a_zone_left_out_has_its_run_behind_it() {
    // Samoa went from the end of 29 December 2011 straight to the 31st.
    let daily = cron("0 3 * * *", "Pacific/Apia");
    let before = daily.next_after(at("2011-12-29T12:00:00Z")).expect("the 29th");
    assert_eq!(before, at("2011-12-29T13:00:00Z"));
    assert_eq!(
        daily.next_after(before),
        Some(at("2011-12-30T10:00:00Z")),
        "the 30th, at the first instant after"
    );
    assert_eq!(daily.next_after(at("2011-12-30T10:00:00Z")), Some(at("2011-12-30T13:00:00Z")), "the 31st");
}

#[test]
fn seconds_come_first_when_there_are_six_fields() {
    let every_second = cron("* * * * * *", "UTC");
    assert_eq!(every_second.next_after(at("2026-11-21T10:00:00.25Z")), Some(at("2026-11-21T10:00:01Z")));
    assert_eq!(
        every_second.previous_at_or_before(at("2026-11-21T10:00:00.25Z")),
        Some(at("2026-11-21T10:00:00Z"))
    );
    let leap = cron("0 1 29 2 *", "UTC");
    assert_eq!(leap.next_after(at("2096-03-01T00:00:00Z")), Some(at("2104-02-29T01:00:00Z")));
    let either = cron("0 1 13 * FRI", "UTC");
    assert_eq!(either.next_after(at("2026-11-01T00:00:00Z")), Some(at("2026-11-06T01:00:00Z")), "a Friday");
}

#[test]
fn an_error_points_at_what_is_wrong() {
    let cases = [
        ("", "", "the schedule is empty: write five fields, such as \"0 1 * * *\""),
        ("0 25 * * *", "25", "the hour 25 is out of range: 0 to 23"),
        ("0 1 * * * 8", "8", "the day of week 8 is out of range: 0 to 7"),
        ("61 1 * * *", "61", "the minute 61 is out of range: 0 to 59"),
        ("0 1 0 * *", "0", "the day of month 0 is out of range: 1 to 31"),
        ("0 1-30 * * *", "30", "the hour 30 is out of range: 0 to 23"),
        ("0 5-1 * * *", "5-1", "the hour range 5-1 goes backwards"),
        (
            "0 1 * JANUARY *",
            "JANUARY",
            "\"JANUARY\" is no month: a number from 1 to 12, or JAN to DEC, a range, a list, or *",
        ),
        ("0 1,,2 * * *", "1,,2", "the hour has an empty item"),
        ("0 */0 * * *", "0", "the step of the hour must be a number from 1 to 23"),
        ("5/10 * * * *", "5/10", "a step needs a range: write 5-59/10 or */10"),
        (
            "0 1 * *",
            "0 1 * *",
            "a schedule has five fields (minute, hour, day of month, month, day of week) or six (second first), this has 4 fields",
        ),
        ("@daily", "@daily", "words such as @daily are not taken: write \"0 0 * * *\""),
        ("0 1 30 2 *", "30 2 *", "no day ever matches this: the schedule would never run"),
        ("0 1 * * 1#7", "1#7", "the day of week: nth specifier out of bounds"),
        ("ü 1 * * *", "ü", "\"ü\" is no minute: a number from 0 to 59, a range, a list, or *"),
    ];
    for (text, place, expected) in cases {
        let Err(Error::Pattern { range, message }) = Cron::parse(text, "UTC") else {
            panic!("{text:?} is taken");
        };
        assert_eq!(message, expected, "{text:?}");
        assert_eq!(&text[range.clone()], place, "{text:?}");
        if text == "0 1 0 * *" {
            assert_eq!(range, 4..5);
        }
    }
    let error = Cron::parse("0 1 * * *", "Europe/Atlantis").expect_err("no such zone");
    assert_eq!(
        error.to_string(),
        "the time zone \"Europe/Atlantis\" is not known (an IANA name such as Europe/Berlin; is tzdata installed?)"
    );
    for good in [
        "0 1 * * MON-SUN",
        "0 1 L * *",
        "0 1 15W * *",
        "0 1 * * 5L",
        "0 1 * * fri#2",
        "*/5 0-6,22-23 1-31/2 JAN,jul 7",
    ] {
        assert!(Cron::parse(good, "UTC").is_ok(), "{good}");
    }
}

/// A machine with a schedule: what ran, and which instants it ran for.
struct Machine {
    cron: Cron,
    clock: FakeClock,
    handled: Timestamp,
    catch_up: bool,
    runs: Vec<(Timestamp, Why)>,
}

impl Machine {
    fn new(text: &str, now: &str, catch_up: bool) -> Self {
        Self {
            cron: cron(text, "Europe/Berlin"),
            clock: FakeClock::at(at(now)),
            handled: at(now),
            catch_up,
            runs: Vec::new(),
        }
    }

    /// Decides until there is nothing to do but to wait; gives until when.
    fn settle(&mut self) -> Timestamp {
        for _ in 0..10 {
            match decide(&self.cron, self.clock.now(), self.handled, self.catch_up) {
                Decision::RunNow { due, why } => {
                    self.handled = due;
                    self.runs.push((due, why));
                }
                Decision::Restamp(stamp) => self.handled = stamp,
                Decision::WaitUntil(until) => return until,
                Decision::Never => panic!("a daily job is due again"),
            }
        }
        panic!("it runs without end");
    }

    /// The machine stays on for so long.
    fn live(&mut self, hours: i64) {
        let end = self.clock.now() + SignedDuration::from_hours(hours);
        loop {
            let until = self.settle();
            if until > end {
                break;
            }
            let wait = until.duration_since(self.clock.now()).unsigned_abs();
            self.clock.advance(wait);
        }
        self.clock.set_wall(end);
        self.settle();
    }

    fn dues(&self) -> Vec<String> {
        self.runs.iter().map(|(due, _)| due.to_string()).collect()
    }

    fn assert_no_instant_twice(&self) {
        let mut dues = self.dues();
        dues.sort();
        dues.dedup();
        assert_eq!(dues.len(), self.runs.len(), "an instant ran twice: {:?}", self.runs);
    }
}

#[test]
fn twelve_years_on_one_machine_are_one_run_a_day() {
    let mut machine = Machine::new("30 2 * * *", "2026-01-01T12:00:00Z", true);
    machine.live(24 * (365 * 12 + 3));
    assert_eq!(machine.runs.len(), 365 * 12 + 3);
    assert!(machine.runs.iter().all(|(_, why)| *why == Why::Due));
    machine.assert_no_instant_twice();
}

#[test]
fn a_month_off_is_one_late_run_or_none() {
    for (catch_up, expected) in [(true, 1), (false, 0)] {
        let mut machine = Machine::new("0 1 * * *", "2026-01-10T12:00:00Z", catch_up);
        machine.live(48);
        let before = machine.runs.len();
        assert_eq!(before, 2);
        machine.clock.advance(Duration::from_secs(30 * 24 * 3600));
        machine.settle();
        assert_eq!(machine.runs.len() - before, expected, "catch_up = {catch_up}");
        if catch_up {
            assert_eq!(
                machine.runs.last(),
                Some(&(at("2026-02-11T00:00:00Z"), Why::Missed)),
                "for the last one missed"
            );
        }
        machine.live(24);
        assert_eq!(machine.runs.len() - before, expected + 1, "and then as ever");
        machine.assert_no_instant_twice();
    }
}

#[test]
fn a_run_that_begins_within_the_grace_is_in_time() {
    let cron = cron("0 1 * * *", "UTC");
    let handled = at("2026-11-20T01:00:00Z");
    let due = at("2026-11-21T01:00:00Z");
    for catch_up in [true, false] {
        let decision = decide(&cron, at("2026-11-21T01:01:29Z"), handled, catch_up);
        assert_eq!(decision, Decision::RunNow { due, why: Why::Due });
    }
    let late = at("2026-11-21T01:02:00Z");
    assert_eq!(decide(&cron, late, handled, false), Decision::WaitUntil(at("2026-11-22T01:00:00Z")));
    assert_eq!(decide(&cron, late, handled, true), Decision::RunNow { due, why: Why::Missed });
}

#[test]
fn a_clock_that_jumps_a_day_back_runs_no_instant_twice() {
    let mut machine = Machine::new("0 1 * * *", "2026-11-19T12:00:00Z", true);
    machine.live(40);
    assert_eq!(machine.dues(), ["2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"]);
    let back = machine.clock.now() - SignedDuration::from_hours(24);
    machine.clock.set_wall(back);
    assert_eq!(machine.settle(), at("2026-11-22T00:00:00Z"), "the 21st was had");
    machine.live(48);
    assert_eq!(machine.runs.len(), 3);
    machine.assert_no_instant_twice();
}

#[test]
fn a_clock_that_jumps_a_day_ahead_and_back_runs_late_once() {
    let mut machine = Machine::new("0 1 * * *", "2026-11-19T12:00:00Z", true);
    machine.live(4);
    let right = machine.clock.now();
    machine.clock.set_wall(right + SignedDuration::from_hours(24));
    machine.settle();
    assert_eq!(machine.runs, [(at("2026-11-20T00:00:00Z"), Why::Missed)]);
    machine.clock.set_wall(right);
    machine.live(72);
    machine.assert_no_instant_twice();
    assert_eq!(machine.dues(), ["2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"]);
}

#[test]
fn a_stamp_from_a_clock_years_ahead_does_not_stop_the_runs() {
    let mut machine = Machine::new("0 1 * * *", "2026-11-19T12:00:00Z", true);
    machine.handled = at("2031-01-01T00:00:00Z");
    machine.live(48);
    assert_eq!(machine.dues(), ["2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"]);
    machine.assert_no_instant_twice();
}
