//! `[repository.NAME.verify]`

use crate::config::key::{Key, Kind, Section};
use crate::config::read::cron;
use crate::config::read::table::Table;
use crate::config::value::Value;
use crate::config::{Schedule, Verify};

const SCHEDULE: Key = Key::optional(
    "schedule",
    Kind::Text,
    "days are verified only by hand",
    "\"0 12 * * *\"",
    "When the newest day is held against its digests, records and seal, as a cron pattern.",
);
const TIMEZONE: Key = Key::optional(
    "timezone",
    Kind::Text,
    "that of the repository's own schedule, else the machine's",
    "\"Europe/Berlin\"",
    "The time zone of the verify's schedule.",
);
const SAMPLE: Key = Key::defaulted(
    "sample",
    Kind::Text,
    "\"100%\"",
    "How much of the content is read, chosen at random each time. Names, attributes, numbers and lists are looked at in any case.",
);

/// `[repository.NAME.verify]`
pub(crate) static VERIFY: Section = Section {
    name: "verify",
    named: None,
    doc: "How days are verified: every file against its digest, every number against what it counts.",
    keys: &[SCHEDULE, TIMEZONE, SAMPLE],
    sections: &[],
};

/// Reads it; `of_repository` is the repository's own schedule.
pub(crate) fn verify(table: &Table<'_>, of_repository: Option<&Schedule>) -> Option<Verify> {
    table.refuse_unknown();
    let schedule = cron::own_schedule(table, &SCHEDULE, &TIMEZONE, of_repository);
    let sample = table.get(&SAMPLE, percent);
    Some(Verify { schedule: schedule?, sample: sample? })
}

/// `5%`; inner None: everything.
#[expect(clippy::option_option, reason = "outer None: wrong, which has been told; inner None: all of it")]
fn percent(value: &Value<'_>) -> Option<Option<f64>> {
    let text = value.text()?;
    match crate::config::parse_percent(&text) {
        Some(percent) => Some(Some(percent).filter(|percent| *percent < 100.0)),
        None => value.wrong(
            format!("`{text}` is no share of the content"),
            "write a percentage above 0% and up to 100%, as \"5%\" or \"0.5%\"".to_owned(),
        ),
    }
}
