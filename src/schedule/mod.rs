//! When a run is due: pure functions of the pattern, the zone and the time.
//!
//! croner knows the pattern; what a gap or an overlap of the civil clock does to it is decided here, because croner 4.0.3 does
//! it for patterns with a single time of day only: `30 2,14 * * *` would be skipped in a gap and run twice in an overlap.
//! The rules, after Vixie cron:
//!
//! * A pattern that names hours runs **once for each civil time that it names**: in a gap (02:30 does not exist) at the
//!   first instant after it, in an overlap (02:30 comes twice) at the first of the two. Several times in one gap are
//!   one run.
//! * A pattern that takes every hour runs at **every instant whose civil time matches**: it goes by elapsed time, skips
//!   the hour that does not exist and runs in both that are called the same.

mod decide;
mod pattern;

use croner::Cron as Pattern;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

pub use decide::{Decision, FUTURE_TRUSTED, GRACE, Why, decide};
pub use pattern::Error;

/// A cron pattern in a time zone.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    pattern: Pattern,
    zone: TimeZone,
    every_hour: bool,
}

impl Cron {
    /// Reads five fields (minute, hour, day of month, month, day of week) or six (second first), to be understood in an
    /// IANA time zone. A day matches when day of month **or** day of week does, if both are restricted.
    ///
    /// # Errors
    /// A field is wrong ([`Error::Pattern`] tells where), no day ever matches, or the zone is not known.
    pub fn parse(text: &str, timezone: &str) -> Result<Self, Error> {
        let zone = TimeZone::get(timezone).map_err(|_| Error::Timezone { name: timezone.to_owned() })?;
        let pattern = pattern::parse(text)?;
        let every_hour = pattern.pattern.hours.values().len() == 24;
        Ok(Self { text: text.trim().to_owned(), pattern, zone, every_hour })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The zone in which it is understood.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first due instant after `instant`. None after the year 4999 only.
    #[must_use]
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        if self.every_hour { self.next_elapsed(instant) } else { self.next_civil(instant) }
    }

    /// The last due instant not later than `instant`. None before the year 1 only.
    #[must_use]
    pub fn previous_at_or_before(&self, instant: Timestamp) -> Option<Timestamp> {
        if self.every_hour { self.previous_elapsed(instant) } else { self.previous_civil(instant) }
    }

    /// Once for each civil time: the first whose instant lies after `instant`. More than one is looked at only in the
    /// second half of an overlap, where the civil times that come were had in the first.
    fn next_civil(&self, instant: Timestamp) -> Option<Timestamp> {
        let mut civil = self.zone.to_datetime(instant);
        loop {
            civil = self.civil_after(civil)?;
            let due = self.once(civil)?;
            if due > instant {
                return Some(due);
            }
        }
    }

    fn previous_civil(&self, instant: Timestamp) -> Option<Timestamp> {
        // In the second half of an overlap the civil times of the whole overlap lie behind.
        let here = self.zone.to_datetime(instant);
        let mut civil = match self.zone.to_ambiguous_timestamp(here).offset() {
            AmbiguousOffset::Fold { before, .. } => before.to_datetime(instant),
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => here,
        };
        let mut found = self.civil_at_or_before(civil)?;
        loop {
            let due = self.once(found)?;
            if due <= instant {
                return Some(due);
            }
            civil = found.checked_sub(SignedDuration::from_secs(1)).ok()?;
            found = self.civil_at_or_before(civil)?;
        }
    }

    /// The one instant at which a civil time is due.
    fn once(&self, civil: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok(),
            // The old offset puts the missing time after the gap: the transition is the last one before that.
            AmbiguousOffset::Gap { before, .. } => {
                let beyond = before.to_timestamp(civil).ok()?;
                let just_after = beyond.checked_add(SignedDuration::from_nanos(1)).ok()?;
                self.zone.preceding(just_after).next().map(|transition| transition.timestamp())
            }
        }
    }

    /// Every matching instant, from one change of the offset to the next.
    fn next_elapsed(&self, instant: Timestamp) -> Option<Timestamp> {
        let mut from = instant;
        loop {
            let offset = self.zone.to_offset(from);
            let due =
                self.civil_after(offset.to_datetime(from)).and_then(|civil| offset.to_timestamp(civil).ok());
            let Some(change) = self.zone.following(from).next().map(|change| change.timestamp()) else {
                return due;
            };
            match due {
                Some(due) if due < change => return Some(due),
                None => return None,
                Some(_) => {}
            }
            if self.matches(self.zone.to_offset(change), change) {
                return Some(change);
            }
            from = change;
        }
    }

    fn previous_elapsed(&self, instant: Timestamp) -> Option<Timestamp> {
        let mut from = instant;
        loop {
            let offset = self.zone.to_offset(from);
            let due = offset.to_timestamp(self.civil_at_or_before(offset.to_datetime(from))?).ok()?;
            let just_after = from.checked_add(SignedDuration::from_nanos(1)).ok()?;
            match self.zone.preceding(just_after).next().map(|change| change.timestamp()) {
                Some(change) if due < change => {
                    from = change.checked_sub(SignedDuration::from_nanos(1)).ok()?;
                }
                Some(_) | None => return Some(due),
            }
        }
    }

    fn matches(&self, offset: Offset, instant: Timestamp) -> bool {
        let civil = offset.to_datetime(instant);
        civil.subsec_nanosecond() == 0 && self.civil_at_or_before(civil) == Some(civil)
    }

    /// The first civil time after `civil` that the pattern names; UTC stands for a clock without gaps.
    fn civil_after(&self, civil: DateTime) -> Option<DateTime> {
        let from = whole_second(civil).to_zoned(TimeZone::UTC).ok()?;
        self.pattern.find_next_occurrence(&from, false).ok().map(|found| found.datetime())
    }

    fn civil_at_or_before(&self, civil: DateTime) -> Option<DateTime> {
        let from = whole_second(civil).to_zoned(TimeZone::UTC).ok()?;
        self.pattern.find_previous_occurrence(&from, true).ok().map(|found| found.datetime())
    }
}

fn whole_second(civil: DateTime) -> DateTime {
    civil.with().subsec_nanosecond(0).build().unwrap_or(civil)
}
