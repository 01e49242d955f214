//! Which days are kept: properties over random days and rules, and ten simulated years.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use daykeep::retention::{Candidate, Plan, Rules, order_doubt, plan};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use proptest::prelude::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn candidate(freeze_point: Timestamp, sequence: u64) -> Candidate {
    Candidate { name: freeze_point.to_string(), freeze_point, sequence }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn kept(plan: &Plan) -> BTreeSet<String> {
    plan.decisions.iter().filter(|day| day.keep).map(|day| day.name.clone()).collect()
}

fn subset(days: &[Candidate], names: &BTreeSet<String>) -> Vec<Candidate> {
    days.iter().filter(|day| names.contains(&day.name)).cloned().collect()
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

prop_compose! {
    /// Gaps from minutes to months, so that every rule meets days that share and days that lack its period.
    fn days()(gaps in prop::collection::vec(
        prop_oneof![1u64..7200, 3600u64..200_000, 80_000u64..90_000, 500_000u64..20_000_000], 1..60,
    ), start in 0i64..2_000_000_000) -> Vec<Candidate> {
        let mut at = Timestamp::from_second(start).unwrap();
        gaps.iter().zip(1..).map(|(gap, sequence)| {
            at += SignedDuration::from_secs(i64::try_from(*gap).unwrap());
            candidate(at, sequence)
        }).collect()
    }
}

prop_compose! {
    fn rules()(counts in prop::array::uniform6(prop_oneof![Just(0u32), 0u32..20]),
               within in prop::option::of(0u64..100)) -> Rules {
        let [last, hourly, daily, weekly, monthly, yearly] = counts;
        Rules { last, hourly, daily, weekly, monthly, yearly, within: within.map(|days| DAY * u32::try_from(days).unwrap()) }
    }
}

fn zones() -> impl Strategy<Value = TimeZone> {
    // Half hours, a day that was skipped (Apia 2011), both hemispheres.
    prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "Asia/Kolkata",
        "Pacific/Apia",
        "Australia/Lord_Howe",
        "America/St_Johns",
    ])
    .prop_map(zone)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_newest_always_stays_and_every_day_has_one_reasoned_decision(days in days(), rules in rules(), zone in zones()) {
        let plan = plan(&rules, &days, &zone);
        prop_assert!(kept(&plan).contains(&days.last().unwrap().name));
        prop_assert_eq!(plan.decisions.len(), days.len());
        prop_assert!(plan.decisions.iter().all(|day| !day.reasons.is_empty()));
        prop_assert_eq!(plan.removed().count() + kept(&plan).len(), days.len());
    }

    #[test]
    fn the_order_of_the_days_does_not_matter(days in days(), rules in rules(), zone in zones(), turn in 0usize..60) {
        let mut turned = days.clone();
        turned.rotate_left(turn % days.len());
        turned.reverse();
        prop_assert_eq!(plan(&rules, &days, &zone), plan(&rules, &turned, &zone));
    }

    #[test]
    fn what_was_kept_is_kept_again(days in days(), rules in rules(), zone in zones()) {
        let first = kept(&plan(&rules, &days, &zone));
        let second = kept(&plan(&rules, &subset(&days, &first), &zone));
        prop_assert_eq!(first, second);
    }

    #[test]
    fn more_of_a_rule_never_removes_more(days in days(), rules in rules(), zone in zones(), more in rules()) {
        prop_assume!(!rules.is_empty());
        let larger = Rules {
            last: rules.last + more.last,
            hourly: rules.hourly + more.hourly,
            daily: rules.daily + more.daily,
            weekly: rules.weekly + more.weekly,
            monthly: rules.monthly + more.monthly,
            yearly: rules.yearly + more.yearly,
            within: rules.within.max(more.within),
        };
        let (few, many) = (kept(&plan(&rules, &days, &zone)), kept(&plan(&larger, &days, &zone)));
        prop_assert!(few.is_subset(&many), "{:?}", few.difference(&many));
    }

    #[test]
    fn counts_bound_what_is_kept(days in days(), mut rules in rules(), zone in zones()) {
        rules.within = None;
        prop_assume!(!rules.is_empty());
        let most = rules.last + rules.hourly + rules.daily + rules.weekly + rules.monthly + rules.yearly;
        prop_assert!(kept(&plan(&rules, &days, &zone)).len() <= most.max(1) as usize);
    }

    #[test]
    fn within_keeps_every_young_day(days in days(), zone in zones(), within in 1u32..60) {
        let rules = Rules { within: Some(DAY * within), ..Rules::default() };
        let newest = days.last().unwrap().freeze_point;
        let kept = kept(&plan(&rules, &days, &zone));
        for day in &days {
            if newest.duration_since(day.freeze_point) <= SignedDuration::try_from(DAY * within).unwrap() {
                prop_assert!(kept.contains(&day.name));
            }
        }
    }
}

#[test]
fn no_rule_removes_nothing() {
    let days = [candidate(at("2026-01-01T00:00:00Z"), 1), candidate(at("2026-01-02T00:00:00Z"), 2)];
    let plan = plan(&Rules::default(), &days, &TimeZone::UTC);
    assert_eq!(plan.removed().count(), 0);
    assert_eq!(plan.refused.as_deref(), Some("no keep rule is configured"));
}

/// Nightly runs, pruned after each, for ten years across every change of the clocks.
#[test]
fn a_decade_of_nights() {
    let berlin = zone("Europe/Berlin");
    let rules = Rules { daily: 7, weekly: 4, monthly: 6, yearly: 10, ..Rules::default() };
    let mut kept_days: Vec<Candidate> = Vec::new();
    let mut night = jiff::civil::date(2020, 1, 1).at(2, 30, 0, 0).to_zoned(berlin.clone()).unwrap();
    let mut most = 0;
    for sequence in 1..=3653 {
        kept_days.push(candidate(night.timestamp(), sequence));
        let names = kept(&plan(&rules, &kept_days, &berlin));
        kept_days = subset(&kept_days, &names);
        most = most.max(kept_days.len());
        night = night.checked_add(1.day()).unwrap();
    }
    assert!(most <= 7 + 4 + 6 + 10, "{most}");
    insta::assert_snapshot!(shown(&plan(&rules, &kept_days, &berlin)), @r"
    2029-12-31T02:30:00Z keep: daily 2029-12-31 #1, weekly 2030-W01 #1, monthly 2029-12 #1, yearly 2029 #1
    2029-12-30T02:30:00Z keep: daily 2029-12-30 #2, weekly 2029-W52 #2
    2029-12-29T02:30:00Z keep: daily 2029-12-29 #3
    2029-12-28T02:30:00Z keep: daily 2029-12-28 #4
    2029-12-27T02:30:00Z keep: daily 2029-12-27 #5
    2029-12-26T02:30:00Z keep: daily 2029-12-26 #6
    2029-12-25T02:30:00Z keep: daily 2029-12-25 #7
    2029-12-23T02:30:00Z keep: weekly 2029-W51 #3
    2029-12-16T02:30:00Z keep: weekly 2029-W50 #4
    2029-11-30T02:30:00Z keep: monthly 2029-11 #2
    2029-10-31T02:30:00Z keep: monthly 2029-10 #3
    2029-09-30T01:30:00Z keep: monthly 2029-09 #4
    2029-08-31T01:30:00Z keep: monthly 2029-08 #5
    2029-07-31T01:30:00Z keep: monthly 2029-07 #6
    2028-12-31T02:30:00Z keep: yearly 2028 #2
    2027-12-31T02:30:00Z keep: yearly 2027 #3
    2026-12-31T02:30:00Z keep: yearly 2026 #4
    2025-12-31T02:30:00Z keep: yearly 2025 #5
    2024-12-31T02:30:00Z keep: yearly 2024 #6
    2023-12-31T02:30:00Z keep: yearly 2023 #7
    2022-12-31T02:30:00Z keep: yearly 2022 #8
    2021-12-31T02:30:00Z keep: yearly 2021 #9
    2020-12-31T02:30:00Z keep: yearly 2020 #10
    ");
}

fn shown(plan: &Plan) -> String {
    plan.decisions.iter().fold(String::new(), |mut text, day| {
        let keep = if day.keep { "keep" } else { "remove" };
        writeln!(text, "{} {keep}: {}", day.name, day.reasons.join(", ")).unwrap();
        text
    })
}

#[test]
fn calendar_days_are_those_of_the_zone_and_the_clock_changes_make_no_second_day() {
    let berlin = zone("Europe/Berlin");
    // 2026-10-25: 02:30 comes twice; the second one is the newest of that calendar day.
    let days = [
        candidate(at("2026-10-24T21:59:00Z"), 1),
        candidate(at("2026-10-25T00:30:00Z"), 2),
        candidate(at("2026-10-25T01:30:00Z"), 3),
        candidate(at("2026-10-25T22:59:00Z"), 4),
        candidate(at("2026-10-25T23:01:00Z"), 5),
    ];
    let daily = Rules { daily: 9, ..Rules::default() };
    insta::assert_snapshot!(shown(&plan(&daily, &days, &berlin)), @r"
    2026-10-25T23:01:00Z keep: daily 2026-10-26 #1
    2026-10-25T22:59:00Z keep: daily 2026-10-25 #2
    2026-10-25T01:30:00Z remove: no rule keeps it
    2026-10-25T00:30:00Z remove: no rule keeps it
    2026-10-24T21:59:00Z keep: daily 2026-10-24 #3
    ");
    let hourly = Rules { hourly: 9, ..Rules::default() };
    assert_eq!(kept(&plan(&hourly, &days, &berlin)).len(), 5, "the hour that comes twice is two hours");
}

#[test]
fn weeks_are_iso_weeks_across_the_new_year() {
    let weekly = Rules { weekly: 9, ..Rules::default() };
    let days = [
        candidate(at("2026-12-27T12:00:00Z"), 1),
        candidate(at("2026-12-28T12:00:00Z"), 2),
        candidate(at("2027-01-03T12:00:00Z"), 3),
        candidate(at("2027-01-04T12:00:00Z"), 4),
    ];
    insta::assert_snapshot!(shown(&plan(&weekly, &days, &TimeZone::UTC)), @r"
    2027-01-04T12:00:00Z keep: weekly 2027-W01 #1
    2027-01-03T12:00:00Z keep: weekly 2026-W53 #2
    2026-12-28T12:00:00Z remove: no rule keeps it
    2026-12-27T12:00:00Z keep: weekly 2026-W52 #3
    ");
}

#[test]
fn a_clock_that_jumped_ahead_removes_nothing_by_age() {
    let rules = Rules { within: Some(DAY * 30), ..Rules::default() };
    let mut days: Vec<Candidate> = (0..30)
        .map(|n| {
            candidate(
                at("2026-11-01T01:00:00Z") + SignedDuration::from_hours(24 * n),
                u64::try_from(n).unwrap(),
            )
        })
        .collect();
    for later in 0..3 {
        days.push(candidate(
            at("2031-01-01T01:00:00Z") + SignedDuration::from_hours(24 * later),
            30 + u64::try_from(later).unwrap(),
        ));
    }
    let plan = plan(&rules, &days, &TimeZone::UTC);
    let removed: Vec<&str> = plan.removed().collect();
    // 29 days before the jump and 2 after it: the first one is 31 days old by the days themselves.
    assert_eq!(removed, ["2026-11-01T01:00:00Z"]);
}

#[test]
fn a_day_that_is_newest_by_number_but_not_by_date_is_doubted_and_stays() {
    let days = [candidate(at("2026-11-20T01:00:00Z"), 8), candidate(at("2026-11-19T01:00:00Z"), 9)];
    let doubt = order_doubt(&days).unwrap();
    insta::assert_snapshot!(doubt, @"the day 2026-11-19T01:00:00Z was made after 2026-11-20T01:00:00Z but is dated before it: a clock stood wrong; remove the day whose date is wrong by hand");
    let rules = Rules { last: 1, ..Rules::default() };
    assert_eq!(plan(&rules, &days, &TimeZone::UTC).removed().count(), 0);
    assert_eq!(order_doubt(&days[..1]), None);
    assert_eq!(order_doubt(&[]), None);
}
