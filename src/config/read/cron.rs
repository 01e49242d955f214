//! `schedule` and `timezone`.

use jiff::tz::TimeZone;

use crate::config::Schedule;
use crate::config::key::Key;
use crate::config::read::table::Table;
use crate::config::value::{Value, nearest};
use crate::schedule;

/// A pattern that matches some instant. Every wrong field is told: each is taken for `*` when the others are looked at.
pub(crate) fn cron(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let mut rest = text.clone();
    let mut right = true;
    while let Err(error) = schedule::Cron::parse(&rest, "UTC") {
        right = false;
        let schedule::Error::Pattern { range, message } = error else {
            return value.wrong(error.to_string(), None);
        };
        value.wrong_within::<()>(range.clone(), message, None);
        let start = rest[..range.start].rfind(char::is_whitespace).map_or(0, |space| space + 1);
        let end = rest[start..].find(char::is_whitespace).map_or(rest.len(), |space| start + space);
        let is_one_field = range.end <= end && &rest[start..end] != "*";
        if !is_one_field || !(5..=6).contains(&rest.split_whitespace().count()) {
            break;
        }
        rest.replace_range(start..end, &format!("*{}", " ".repeat(end - start - 1)));
    }
    right.then(|| text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// An IANA name that this machine knows.
pub(crate) fn timezone(value: &Value<'_>) -> Option<String> {
    let name = value.text()?;
    if let Ok(zone) = TimeZone::get(&name) {
        return Some(zone.iana_name().unwrap_or(&name).to_owned());
    }
    let known: Vec<String> = jiff::tz::db().available().map(|known| known.as_str().to_owned()).collect();
    let help = match nearest(&name, known.iter().map(String::as_str)) {
        _ if known.len() < 10 => "install the time zones of the world: the package `tzdata`".to_owned(),
        Some(known) => format!("did you mean \"{known}\"?"),
        None => "write an IANA name like \"Europe/Berlin\" or \"UTC\"".to_owned(),
    };
    value.wrong(format!("the time zone `{name}` is not known on this machine"), help)
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

/// The schedule of something beside the runs; its time zone is by default that of the repository's own schedule.
#[expect(clippy::option_option, reason = "outer None: wrong, which has been told; inner None: not there")]
pub(crate) fn own_schedule(
    table: &Table<'_>,
    schedule: &Key,
    zone: &Key,
    of_repository: Option<&Schedule>,
) -> Option<Option<Schedule>> {
    let pattern = table.get_optional(schedule, cron);
    let timezone = table.get_optional(zone, self::timezone);
    if !table.has(schedule.name) {
        if table.has(zone.name) {
            table.source.fault_of_whole(
                table.place_of(zone.name),
                "`timezone` without `schedule` does nothing".to_owned(),
                Some(format!("write {} = {}, or remove it", schedule.name, schedule.sample)),
            );
        }
        return Some(None);
    }
    let (cron, timezone) = (pattern??, timezone?);
    let timezone = match (timezone, of_repository) {
        (Some(name), _) => name,
        (None, Some(own)) => own.timezone.clone(),
        (None, None) => machine_timezone(table, zone)?,
    };
    Some(Some(Schedule { cron, timezone, catch_up: true }))
}
