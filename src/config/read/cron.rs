//! `schedule` and `timezone`. The cron library tells no place, so the wrong field is looked for here.

use std::ops::Range;
use std::str::FromStr as _;

use croner::Cron;
use jiff::tz::TimeZone;

use crate::config::key::Key;
use crate::config::read::table::Table;
use crate::config::value::{Value, nearest};

/// Five or six fields that match some instant.
pub(crate) fn cron(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let fields = fields_of(&text);
    let names: &[(&str, &str)] = match fields.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS,
        count => {
            let help = if text.trim_start().starts_with('@') {
                "write the fields: \"0 0 * * *\" is every day at midnight"
            } else {
                "write minute, hour, day of month, month and day of week, like \"0 1 * * *\" for every day at one"
            };
            let plural = if count == 1 { "" } else { "s" };
            return value.wrong(
                format!(
                    "a schedule has five fields, or six with seconds first; this has {count} field{plural}"
                ),
                help.to_owned(),
            );
        }
    };
    let mut right = true;
    for (at, ((name, allowed), range)) in names.iter().zip(&fields).enumerate() {
        let field = &text[range.clone()];
        let mut alone = vec!["*"; names.len()];
        alone[at] = field;
        if Cron::from_str(&alone.join(" ")).is_err() {
            value.wrong_within::<()>(
                range.clone(),
                format!("`{field}` cannot be the {name} of a schedule"),
                format!("the {name} is {allowed}; lists `1,15`, ranges `1-5` and steps `*/10` are allowed"),
            );
            right = false;
        }
    }
    if !right {
        return None;
    }
    let parsed = match Cron::from_str(&text) {
        Ok(parsed) => parsed,
        Err(error) => return value.wrong(format!("`{text}` is not a schedule: {error}"), None),
    };
    // Whether it ever matches does not depend on when one begins to look: the calendar repeats after 400 years.
    let some_time = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    if parsed.find_next_occurrence(&some_time, false).is_err() {
        return value.wrong(
            format!("the schedule `{text}` never comes"),
            "no month has such a day: look at the day of month and the month".to_owned(),
        );
    }
    Some(fields.into_iter().map(|range| &text[range]).collect::<Vec<_>>().join(" "))
}

const FIELDS: [(&str, &str); 6] = [
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of month", "1 to 31, or L for the last"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of week", "0 to 7 (0 and 7 are Sunday) or SUN to SAT"),
];

fn fields_of(text: &str) -> Vec<Range<usize>> {
    let offset = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    text.split_whitespace().map(|part| offset(part)..offset(part) + part.len()).collect()
}

/// An IANA name that this machine knows.
pub(crate) fn timezone(value: &Value<'_>) -> Option<String> {
    let name = value.text()?;
    match TimeZone::get(&name) {
        Ok(zone) => Some(zone.iana_name().unwrap_or(&name).to_owned()),
        Err(_) => {
            let known: Vec<String> =
                jiff::tz::db().available().map(|known| known.as_str().to_owned()).collect();
            let help = nearest(&name, known.iter().map(String::as_str)).map_or_else(
                || "write an IANA name like \"Europe/Berlin\" or \"UTC\"".to_owned(),
                |known| format!("did you mean \"{known}\"?"),
            );
            value.wrong(format!("the time zone `{name}` is not known on this machine"), help)
        }
    }
}

/// The machine's own zone; without one set, machines are on UTC (localtime(5)).
pub(crate) fn machine_timezone(table: &Table<'_>, key: &Key) -> Option<String> {
    let Ok(zone) = TimeZone::try_system() else {
        return Some("UTC".to_owned());
    };
    let name = zone.iana_name().map(str::to_owned);
    if name.is_none() {
        table.source.fault_of_whole(
            table.span.clone(),
            format!("{} has a schedule, but the machine's time zone has no name", table.header()),
            Some(format!("write {} = {}", key.name, key.sample)),
        );
    }
    name
}
