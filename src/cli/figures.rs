//! Figures for people: ages, lengths of time, sizes, instants, tables.

use comfy_table::{CellAlignment, ContentArrangement, Table};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How long ago `then` is: `12s ago`, `34m ago`, `27h ago`, `3d ago`; `in 5m` when it is still to come.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - then.as_second();
    let span = rough(seconds.unsigned_abs());
    if seconds < 0 { format!("in {span}") } else { format!("{span} ago") }
}

/// An age in seconds: `27h ago`.
pub fn seconds_ago(seconds: u64) -> String {
    format!("{} ago", rough(seconds))
}

/// One unit is enough to be worried by.
fn rough(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        // "27h ago" tells that last night's run is missing; "1d ago" would not.
        HOUR.. if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        _ => format!("{}d", seconds / DAY),
    }
}

/// A length of time that is only expected: `less than a second`, `about 12s`, `about 3m`, `about 2h 07m`.
pub fn about(seconds: f64) -> String {
    match seconds {
        _ if seconds < 1.0 => "less than a second".to_owned(),
        _ if seconds < 60.0 => format!("about {:.0}s", seconds.min(59.0)),
        _ if seconds < 3600.0 => format!("about {:.0}m", (seconds / 60.0).min(59.0)),
        _ => format!("about {}", length(seconds)),
    }
}

/// A length of time: `0.42s`, `12.3s`, `3m 05s`, `2h 07m`. What took any time took a hundredth of a second.
pub fn length(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shown in whole seconds; saturates"
    )]
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds <= 0.0 => "0s".to_owned(),
        _ if seconds < 10.0 => format!("{:.2}s", seconds.max(0.01)),
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole % 3600 / 60),
    }
}

/// A size: `12.3 MiB`.
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

/// An instant in a time zone, with its UTC offset: `2026-11-22 01:00:00+01:00`.
pub fn instant(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string()
}

/// A name as a terminal can show it: what is not text or would move the cursor is escaped.
pub fn name(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown
}

/// A count with its noun: `1 day`, `3 days`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Text in lines.
#[derive(Debug, Default)]
pub struct Page(pub String);

impl Page {
    /// One more.
    pub fn line(&mut self, text: impl AsRef<str>) {
        self.0.push_str(text.as_ref());
        self.0.push('\n');
    }
}

/// Columns without lines: a heading, then the rows. `right` are the columns that hold figures.
pub fn table(heading: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        if right.contains(&column.index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut page = Page::default();
    table.lines().for_each(|line| page.line(line.trim_end()));
    page.0
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use crate::cli::figures::{about, age, instant, length, name, table};

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    #[test]
    fn ages() {
        let now = at("2026-11-21T12:00:00Z");
        let told = |then| age(at(then), now);
        assert_eq!(told("2026-11-21T11:59:48Z"), "12s ago");
        assert_eq!(told("2026-11-21T11:26:00Z"), "34m ago");
        assert_eq!(told("2026-11-20T09:00:00Z"), "27h ago");
        assert_eq!(told("2026-11-18T09:00:00Z"), "3d ago");
        assert_eq!(told("2026-11-21T12:05:30Z"), "in 5m");
    }

    #[test]
    fn lengths() {
        assert_eq!([0.416, 12.34, 185.0, 7620.0].map(length), ["0.42s", "12.3s", "3m 05s", "2h 07m"]);
        assert_eq!([-1.0, 0.001].map(length), ["0s", "0.01s"]);
        let expected = ["less than a second", "about 12s", "about 59s", "about 3m", "about 2h 07m"];
        assert_eq!([0.2, 12.34, 59.9, 185.0, 7620.0].map(about), expected);
        assert_eq!(length(59.96), "1m 00s");
    }

    #[test]
    fn instants_have_their_offset() {
        let zone = TimeZone::get("Europe/Berlin").expect("a zone");
        assert_eq!(instant(at("2026-07-01T00:00:00Z"), &zone), "2026-07-01 02:00:00+02:00");
        assert_eq!(instant(at("2026-11-21T00:00:00Z"), &zone), "2026-11-21 01:00:00+01:00");
    }

    #[test]
    fn names_cannot_drive_a_terminal() {
        assert_eq!(name(b"caf\xc3\xa9 \x1b[2J\n\xff"), "caf\u{e9} \\u{1b}[2J\\n\\xff");
    }

    #[test]
    fn tables_have_no_trailing_blanks() {
        let rows = vec![vec!["a".to_owned(), "5".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "SIZE", "MARK"], &[1], rows), "NAME  SIZE  MARK\na        5\n");
    }
}
