//! Which days are kept, and why: a pure function of the rules, the days and the time.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The keep rules. A day is kept when any rule keeps it; a rule of 0 (or None) keeps nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The newest so many days.
    pub last: u32,
    /// The newest day of each of the last so many hours that have one.
    pub hourly: u32,
    /// Of each of the last so many calendar days that have one.
    pub daily: u32,
    /// Of each ISO week.
    pub weekly: u32,
    /// Of each month.
    pub monthly: u32,
    /// Of each year.
    pub yearly: u32,
    /// Every day younger than this, counted back from the newest good day (so that a jump of the clock removes nothing).
    pub within: Option<Duration>,
}

impl Rules {
    /// True when no rule keeps anything: then nothing is ever removed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A day as far as the rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// The instant that it shows.
    pub freeze_point: Timestamp,
    /// Its number, which no clock makes go back.
    pub sequence: u64,
}

/// What is to become of every day, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for each day.
    pub decisions: Vec<Decision>,
    /// Why nothing is removed whatever the rules say, if so.
    pub refused: Option<String>,
}

/// What is to become of one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its name.
    pub name: String,
    /// Whether it stays.
    pub keep: bool,
    /// Why: `last #1`, `daily 2026-11-21 #3`, `weekly 2026-W47 #1`.
    pub reasons: Vec<String>,
}

impl Plan {
    /// Every day stays, for this reason.
    #[must_use]
    pub fn keep_all(days: &[Candidate], reason: String) -> Self {
        let keep =
            |day: &Candidate| Decision { name: day.name.clone(), keep: true, reasons: vec![reason.clone()] };
        Self { decisions: newest_first(days).into_iter().map(keep).collect(), refused: Some(reason) }
    }

    /// This day stays, for this reason, if nothing else keeps it.
    pub fn spare(&mut self, name: &str, reason: &str) {
        let goes = |decision: &&mut Decision| decision.name == name && !decision.keep;
        if let Some(decision) = self.decisions.iter_mut().find(goes) {
            *decision = Decision { keep: true, reasons: vec![reason.to_owned()], ..decision.clone() };
        }
    }

    /// The names of the days that go, oldest first.
    pub fn removed(&self) -> impl Iterator<Item = &str> {
        self.decisions.iter().rev().filter(|decision| !decision.keep).map(|decision| decision.name.as_str())
    }

    /// Whether this day goes.
    #[must_use]
    pub fn removes(&self, name: &str) -> bool {
        self.removed().any(|removed| removed == name)
    }
}

/// Applies the rules. Calendar hours, days, weeks, months and years are those of `zone`, so a day of 23 or 25 hours is one
/// day. The newest day, by date and by number, always stays. The result depends on the days alone, not on their order and
/// not on the time: a plan made late, or by a clock that jumped, is the same plan.
#[must_use]
pub fn plan(rules: &Rules, days: &[Candidate], zone: &TimeZone) -> Plan {
    if rules.is_empty() {
        return Plan::keep_all(days, "no keep rule is configured".to_owned());
    }
    let days = newest_first(days);
    let mut reasons: Vec<Vec<String>> = vec![Vec::new(); days.len()];
    for (reasons, nth) in reasons.iter_mut().zip(1..=rules.last) {
        reasons.push(format!("last #{nth}"));
    }
    let local: Vec<Zoned> = days.iter().map(|day| day.freeze_point.to_zoned(zone.clone())).collect();
    for period in PERIODS {
        let mut seen = BTreeSet::new();
        for (reasons, instant) in reasons.iter_mut().zip(&local) {
            if seen.len() as u64 >= u64::from((period.count)(rules)) {
                break;
            }
            let key = (period.key)(instant);
            if seen.insert(key.clone()) {
                reasons.push(format!("{} {key} #{}", period.word, seen.len()));
            }
        }
    }
    if let Some(within) = rules.within {
        for (reasons, age) in reasons.iter_mut().zip(ages(&days)) {
            if age <= within {
                reasons.push("within".to_owned());
            }
        }
    }
    protect_newest(&days, &mut reasons);
    let decide = |(day, reasons): (&Candidate, Vec<String>)| Decision {
        name: day.name.clone(),
        keep: !reasons.is_empty(),
        reasons: if reasons.is_empty() { vec!["no rule keeps it".to_owned()] } else { reasons },
    };
    Plan { decisions: days.into_iter().zip(reasons).map(decide).collect(), refused: None }
}

/// What a prune goes by: the rules, unless the clock or the dates of the days cannot be trusted. `ahead` is a day that is dated
/// in the future: either it was made with a wrong clock, or the clock is wrong now, and then everything that the rules would say is
/// wrong too.
#[must_use]
pub fn plan_with_doubts(rules: &Rules, days: &[Candidate], ahead: Option<&str>, zone: &TimeZone) -> Plan {
    let ahead = ahead.map(|name| {
        format!(
            "the day {name} is dated in the future: set the clock right, or remove that day by hand if its date is wrong"
        )
    });
    match ahead.or_else(|| order_doubt(days)) {
        Some(reason) => Plan::keep_all(days, reason),
        None => plan(rules, days, zone),
    }
}

/// Why the days' dates cannot be trusted, if they cannot: the newest by number is not the newest by date, so a clock stood
/// wrong when one of the two was made.
#[must_use]
pub fn order_doubt(days: &[Candidate]) -> Option<String> {
    let by_date = newest_first(days).into_iter().next()?;
    let by_number = days.iter().max_by_key(|day| day.sequence)?;
    (by_number.sequence != by_date.sequence).then(|| {
        format!(
            "the day {} was made after {} but is dated before it: a clock stood wrong; remove the day whose date is wrong \
             by hand",
            by_number.name, by_date.name
        )
    })
}

struct Period {
    word: &'static str,
    count: fn(&Rules) -> u32,
    key: fn(&Zoned) -> String,
}

const PERIODS: [Period; 5] = [
    // With the offset: when the clocks go back, the hour that comes twice is two hours.
    Period {
        word: "hourly",
        count: |rules| rules.hourly,
        key: |at| at.strftime("%Y-%m-%d %H:00%:z").to_string(),
    },
    Period { word: "daily", count: |rules| rules.daily, key: |at| at.date().to_string() },
    Period { word: "weekly", count: |rules| rules.weekly, key: |at| at.strftime("%G-W%V").to_string() },
    Period { word: "monthly", count: |rules| rules.monthly, key: |at| at.strftime("%Y-%m").to_string() },
    Period { word: "yearly", count: |rules| rules.yearly, key: |at| at.strftime("%Y").to_string() },
];

fn newest_first(days: &[Candidate]) -> Vec<&Candidate> {
    let mut sorted: Vec<&Candidate> = days.iter().collect();
    sorted.sort_by(|a, b| (b.freeze_point, b.sequence, &b.name).cmp(&(a.freeze_point, a.sequence, &a.name)));
    sorted
}

/// Longer than this is a gap only for a repository that is backed up less than weekly.
const LONG_GAP: Duration = Duration::from_secs(7 * 24 * 3600);
/// And then only if it is so many times as long as any gap since.
const JUMP: u32 = 4;

/// How old each day is, newest first, counted from the newest day. A gap that is longer than a week and more than four times
/// as long as every gap since does not count: the clock jumped, or the machine stood still, and neither makes a day old.
/// The first such gap of a chain of monthly days is not counted either, which keeps one month more.
fn ages(days: &[&Candidate]) -> Vec<Duration> {
    let mut age = Duration::ZERO;
    let mut longest_since = Duration::ZERO;
    let mut ages = vec![age; days.len().min(1)];
    for pair in days.windows(2) {
        let gap = pair[0].freeze_point.duration_since(pair[1].freeze_point);
        let gap = Duration::try_from(gap).unwrap_or_default();
        if gap <= LONG_GAP.max(longest_since.saturating_mul(JUMP)) {
            age = age.saturating_add(gap);
        }
        longest_since = longest_since.max(gap);
        ages.push(age);
    }
    ages
}

fn protect_newest(days: &[&Candidate], reasons: &mut [Vec<String>]) {
    let by_number = (0..days.len()).max_by_key(|at| days[*at].sequence);
    for at in [(!days.is_empty()).then_some(0), by_number].into_iter().flatten() {
        if reasons[at].is_empty() {
            reasons[at].push("the newest day always stays".to_owned());
        }
    }
}
