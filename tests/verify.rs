//! Verify finds every damage, names it, says what it means, and repairs what can be repaired.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;

use daykeep::clock::SystemClock;
use daykeep::event::{Context, Recording};
use daykeep::vault::Day;
use daykeep::verify::{self, Choice, Chosen, Report, Sample};
use support::damage::{self, How, Segments};
use support::shop::Shop;
use tokio_util::sync::CancellationToken;

fn context() -> Context {
    let (observer, clock) = (Arc::new(Recording::default()), Arc::new(SystemClock::new()));
    Context { observer, cancel: CancellationToken::new(), clock }
}

fn verify_with(day: &Day, choice: &Choice) -> Report {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(verify::day(day, choice, &context())).unwrap()
}

fn verify(day: &Day) -> Report {
    verify_with(day, &Choice::default())
}

/// Every damage of a report in a line.
fn told(report: &Report) -> String {
    let line = |damage: &verify::Damage| {
        let (file, fault) = (verify::shown(&damage.file), &damage.fault);
        format!("{file}: {fault:?}: {}; {}\n", damage.problem, damage.means)
    };
    report.damages.iter().map(line).collect()
}

#[test]
fn every_damage_is_found_and_named() {
    let shop = Shop::with_two_days();
    let days = shop.days();
    let [before, day] = days.as_slice() else { panic!("two days") };
    for day in [before, day] {
        let report = verify(day);
        assert!(report.is_sound() && report.damages.is_empty(), "{}", told(&report));
        assert_eq!(report.notes, [""; 0]);
        assert!(report.files > 20 && report.bytes > 100_000, "{report:?}");
    }
    let segments = Segments::of(day.path());
    assert!(!segments.patches.is_empty() && segments.wholes.len() >= 2);
    let cases = damage::cases(day.path(), before.path());
    assert!(cases.len() > 200, "{}", cases.len());
    let mut missed = Vec::new();
    for case in &cases {
        let undo = case.inflict(day.path());
        let report = verify(day);
        let file = if case.of == "the seal record" {
            Path::new("seals").join(day.name()).with_extension("json")
        } else {
            case.file.clone()
        };
        let is_named = |damage: &verify::Damage| {
            let named = damage.file.as_path();
            // Of a directory that is gone, or is something else, it or what was in it.
            !damage.means.is_empty()
                && !damage.problem.is_empty()
                && (named == file || named.starts_with(&file))
        };
        if !report.damages.iter().any(is_named) {
            missed.push(format!("{}: {}", case.name(), told(&report)));
        }
        drop(undo);
    }
    assert!(missed.is_empty(), "{} of {} are missed:\n{}", missed.len(), cases.len(), missed.join("\n"));
    assert!(verify(day).is_sound(), "the cases leave no trace: {}", told(&verify(day)));
}
