//! Which days there are, and which of them a word means.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::fs;
use crate::vault::day::{Day, Doubt, parse_name};
use crate::vault::{Error, Vault};

/// How many names an error offers.
const OFFERED: usize = 3;

/// Everything that stands among the days.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Days {
    /// Whole days, oldest first.
    pub good: Vec<Day>,
    /// What is never listed as good, never linked from and never removed by the keep rules.
    pub quarantined: Vec<Quarantined>,
}

/// A directory among the days that is not a good day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its name.
    pub name: String,
    /// Why, one sentence without full stop.
    pub reason: String,
    /// Its sequence number, if it could be read.
    pub sequence: Option<u64>,
    /// Only its date is wrong: it lies in the future.
    pub future: bool,
}

/// A directory that is to be a day, to be looked into whatever is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// What its manifest says; None when that cannot be read.
    pub day: Option<Day>,
    /// Why it is not a good day, if it is none.
    pub doubt: Option<String>,
}

impl Candidate {
    fn good(day: Day) -> Self {
        Self { name: day.name().to_owned(), day: Some(day), doubt: None }
    }
}

impl Days {
    /// The newest good day.
    #[must_use]
    pub fn newest(&self) -> Option<&Day> {
        self.good.last()
    }

    /// The number of the next day: above that of every day that can be read, good or not.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        let good = self.good.iter().map(|day| day.manifest().sequence);
        let others = self.quarantined.iter().filter_map(|day| day.sequence);
        good.chain(others).max().map_or(1, |last| last.saturating_add(1))
    }
}

impl Vault {
    /// The days, looked at on the disk. What is dated more than an hour after `now` is quarantined.
    ///
    /// # Errors
    /// The directory of the days cannot be read. An unreadable day is no error: it is quarantined.
    pub fn days(&self, now: Timestamp) -> Result<Days, Error> {
        let mut days = Days::default();
        let directory = self.days_path();
        if !fs::exists(&directory)? {
            return Ok(days);
        }
        for name in fs::names_in(&directory)? {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let path = directory.join(&name);
            match Day::read(path.clone(), &name, self.repository(), now) {
                Ok(day) => days.good.push(day),
                // It is being removed right now by the one who has the lock.
                Err(_) if !fs::exists(&path)? => {}
                Err(Doubt { reason, sequence, future }) => {
                    days.quarantined.push(Quarantined { name, reason, sequence, future });
                }
            }
        }
        Ok(days)
    }

    /// The newest good day.
    ///
    /// # Errors
    /// See [`Vault::days`].
    pub fn newest_good(&self, now: Timestamp) -> Result<Option<Day>, Error> {
        Ok(self.days(now)?.good.pop())
    }

    /// All that is to be a day, oldest first: the good ones and those that were given up by daykeep, but not what never had
    /// a day's name.
    ///
    /// # Errors
    /// See [`Vault::days`].
    pub fn candidates(&self, now: Timestamp) -> Result<Vec<Candidate>, Error> {
        let days = self.days(now)?;
        let doubtful = days.quarantined.into_iter().filter(|day| parse_name(&day.name).is_some());
        let mut all: Vec<Candidate> = doubtful.map(|day| self.doubtful(day)).collect();
        all.extend(days.good.into_iter().map(Candidate::good));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn doubtful(&self, Quarantined { name, reason, .. }: Quarantined) -> Candidate {
        let day = Day::read_doubtful(self.days_path().join(&name), &name, self.repository());
        Candidate { name, day, doubt: Some(reason) }
    }

    /// Like [`Vault::choose`], but a day that is quarantined can be named too.
    ///
    /// # Errors
    /// No directory is called that.
    pub fn choose_any(&self, which: &str, now: Timestamp) -> Result<Candidate, Error> {
        match self.choose(which, now) {
            Ok(day) => Ok(Candidate::good(day)),
            Err(Error::Quarantined { name, reason }) => {
                Ok(self.doubtful(Quarantined { name, reason, sequence: None, future: false }))
            }
            Err(error) => Err(error),
        }
    }

    /// The day that a word means: `latest` or `current`; `dayN`, N days before it; `2026-11-21`, the newest of that UTC date;
    /// or a full name.
    ///
    /// # Errors
    /// No day is called that (the error names near ones), or it is quarantined.
    pub fn choose(&self, which: &str, now: Timestamp) -> Result<Day, Error> {
        let days = self.days(now)?;
        if let Some(day) = chosen(&days.good, which) {
            return Ok(day.clone());
        }
        if let Some(Quarantined { name, reason, .. }) = days.quarantined.iter().find(|day| day.name == which)
        {
            return Err(Error::Quarantined { name: name.clone(), reason: reason.clone() });
        }
        let near = near(&days.good, which);
        Err(Error::NoSuchDay { path: self.path().to_owned(), wanted: which.to_owned(), near })
    }
}

fn chosen<'a>(good: &'a [Day], which: &str) -> Option<&'a Day> {
    if matches!(which, "latest" | "current") {
        return good.last();
    }
    if let Some(back) = which.strip_prefix("day").and_then(|number| number.parse::<usize>().ok()) {
        return good.iter().rev().nth(back);
    }
    if let Ok(date) = which.parse::<Date>()
        && which.len() == 10
    {
        return good.iter().rev().find(|day| date_of(day) == date);
    }
    good.iter().find(|day| day.name() == which)
}

fn date_of(day: &Day) -> Date {
    day.manifest().freeze_point.to_zoned(TimeZone::UTC).date()
}

/// The days nearest in time when a date or an instant was meant, the nearest names when one was mistyped; none when it was neither.
fn near(good: &[Day], which: &str) -> Vec<String> {
    if !which.starts_with(|first: char| first.is_ascii_digit()) {
        return Vec::new();
    }
    let meant = which
        .parse::<Date>()
        .ok()
        .and_then(|date| date.to_zoned(TimeZone::UTC).ok())
        .map(|start| start.timestamp())
        .or_else(|| parse_name(which));
    let mut by_distance: Vec<(i128, &str)> = good
        .iter()
        .map(|day| {
            let distance = meant.map_or_else(
                || i128::from(distance_of_names(day.name(), which)),
                |meant| day.manifest().freeze_point.duration_since(meant).as_nanos().abs(),
            );
            (distance, day.name())
        })
        .collect();
    // Equal distance: the newer one first.
    by_distance.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(a.1)));
    by_distance.into_iter().take(OFFERED).map(|(_, name)| name.to_owned()).collect()
}

fn distance_of_names(name: &str, which: &str) -> u32 {
    u32::try_from(strsim::damerau_levenshtein(name, which)).unwrap_or(u32::MAX)
}
