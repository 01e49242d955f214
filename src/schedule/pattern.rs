//! Reading a pattern so that an error has its place in the text; croner's errors have none.

use std::ops::Range;

use croner::Cron as Pattern;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::date;
use jiff::tz::TimeZone;

/// A schedule cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The pattern is wrong.
    #[error("{message}")]
    Pattern {
        /// The bytes of the pattern that are wrong.
        range: Range<usize>,
        /// What is wrong with them.
        message: String,
    },
    /// The time zone is not known.
    #[error("the time zone {name:?} is not known (an IANA name such as Europe/Berlin; is tzdata installed?)")]
    Timezone {
        /// As it was written.
        name: String,
    },
}

impl Error {
    fn at(range: Range<usize>, message: impl Into<String>) -> Self {
        Self::Pattern { range, message: message.into() }
    }
}

/// One field of a pattern.
struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    /// Words for numbers, the first for `min`.
    words: &'static [&'static str],
}

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const FIELDS: [Field; 6] = [
    Field { name: "second", min: 0, max: 59, words: &[] },
    Field { name: "minute", min: 0, max: 59, words: &[] },
    Field { name: "hour", min: 0, max: 23, words: &[] },
    Field { name: "day of month", min: 1, max: 31, words: &[] },
    Field { name: "month", min: 1, max: 12, words: MONTHS },
    Field { name: "day of week", min: 0, max: 7, words: WEEKDAYS },
];

/// Reads five or six fields.
pub fn parse(text: &str) -> Result<Pattern, Error> {
    let places = places(text);
    let (Some(first), Some(last)) = (places.first(), places.last()) else {
        return Err(Error::at(
            0..text.len(),
            "the schedule is empty: write five fields, such as \"0 1 * * *\"",
        ));
    };
    let whole = first.start..last.end;
    if text[first.clone()].starts_with('@') {
        return Err(Error::at(whole, nickname(&text[first.clone()])));
    }
    let fields = match places.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        count => {
            let fields = if count == 1 { "field" } else { "fields" };
            return Err(Error::at(
                whole,
                format!(
                    "a schedule has five fields (minute, hour, day of month, month, day of week) or six (second first), \
                     this has {count} {fields}"
                ),
            ));
        }
    };
    for (field, place) in fields.iter().zip(&places) {
        check_field(field, text, place)?;
    }
    let pattern =
        parser().parse(text).map_err(|error| Error::at(whole.clone(), plain(&error.to_string())))?;
    let days = places[places.len() - 3].start..whole.end;
    // A leap day on a chosen weekday comes at the latest after 40 years; croner looks until the year 5000.
    let some_time = date(2000, 1, 1).at(0, 0, 0, 0).to_zoned(TimeZone::UTC);
    match some_time.map(|from| pattern.find_next_occurrence(&from, true)) {
        Ok(Ok(_)) => Ok(pattern),
        _ => Err(Error::at(days, "no day ever matches this: the schedule would never run")),
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build()
}

fn nickname(word: &str) -> String {
    let fields = match word.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return format!("{word} is not a schedule: write five fields, such as \"0 1 * * *\""),
    };
    format!("words such as {word} are not taken: write {fields:?}")
}

/// Where the fields are.
fn places(text: &str) -> Vec<Range<usize>> {
    let mut places: Vec<Range<usize>> = Vec::new();
    let mut start = None;
    for (at, letter) in text.char_indices() {
        match (letter.is_whitespace(), start) {
            (true, Some(from)) => {
                places.push(from..at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    places.extend(start.map(|from| from..text.len()));
    places
}

fn check_field(field: &Field, text: &str, place: &Range<usize>) -> Result<(), Error> {
    let mut start = place.start;
    for item in text[place.clone()].split(',') {
        let range = start..start + item.len();
        start = range.end + 1;
        if item.is_empty() {
            return Err(Error::at(place.clone(), format!("the {} has an empty item", field.name)));
        }
        if is_extension(item, field) {
            check_extension(field, item, &range)?;
        } else {
            check_item(field, item, &range)?;
        }
    }
    Ok(())
}

/// Does it use what only croner knows: `L` (last), `W` (nearest weekday), `#` (which one of the month), `?`, `+`?
fn is_extension(item: &str, field: &Field) -> bool {
    match field.name {
        "day of month" => item.contains(['L', 'l', 'W', 'w', '?']),
        "day of week" => item.contains(['#', '?', '+']) || item.ends_with(['L', 'l']),
        _ => false,
    }
}

fn check_extension(field: &Field, item: &str, range: &Range<usize>) -> Result<(), Error> {
    let probe =
        if field.name == "day of month" { format!("0 0 {item} * *") } else { format!("0 0 * * {item}") };
    match parser().parse(&probe) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Error::at(range.clone(), format!("the {}: {}", field.name, plain(&error.to_string()))))
        }
    }
}

fn check_item(field: &Field, item: &str, range: &Range<usize>) -> Result<(), Error> {
    let (span, step) = match item.split_once('/') {
        Some((span, step)) => (span, Some(step)),
        None => (item, None),
    };
    let span_range = range.start..range.start + span.len();
    let (from, to) = match span.split_once('-') {
        _ if span == "*" => (field.min, field.max),
        Some((from, to)) => {
            let to_range = span_range.end - to.len()..span_range.end;
            let from_range = span_range.start..span_range.start + from.len();
            let from = number(field, from, &from_range)?;
            // A week may end with Sunday: `MON-SUN`.
            let to = match number(field, to, &to_range)? {
                0 if field.name == "day of week" && to.eq_ignore_ascii_case("sun") => 7,
                to => to,
            };
            (from, to)
        }
        None => {
            let only = number(field, span, &span_range)?;
            if let Some(step) = step {
                return Err(Error::at(
                    range.clone(),
                    format!("a step needs a range: write {only}-{}/{step} or */{step}", field.max),
                ));
            }
            (only, only)
        }
    };
    if from > to {
        return Err(Error::at(span_range, format!("the {} range {span} goes backwards", field.name)));
    }
    match step.map(str::parse::<u16>) {
        None => Ok(()),
        Some(Ok(step)) if (1..=field.max).contains(&step) => Ok(()),
        Some(_) => Err(Error::at(
            span_range.end + 1..range.end,
            format!("the step of the {} must be a number from 1 to {}", field.name, field.max),
        )),
    }
}

fn number(field: &Field, text: &str, range: &Range<usize>) -> Result<u16, Error> {
    let (name, min, max) = (field.name, field.min, field.max);
    if let Some(index) = field.words.iter().position(|word| word.eq_ignore_ascii_case(text)) {
        return Ok(min + u16::try_from(index).unwrap_or_default());
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        let words = match field.words {
            [first, .., last] => format!(", or {first} to {last}"),
            _ => String::new(),
        };
        return Err(Error::at(
            range.clone(),
            format!("{text:?} is no {name}: a number from {min} to {max}{words}, a range, a list, or *"),
        ));
    }
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(Error::at(range.clone(), format!("the {name} {text} is out of range: {min} to {max}"))),
    }
}

/// croner's sentence in the form of ours.
fn plain(message: &str) -> String {
    let message = message.trim_end_matches('.').trim_start_matches("Component error: ");
    let mut letters = message.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
