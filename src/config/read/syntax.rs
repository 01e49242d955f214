//! What to tell of a file that is not TOML: its broken places, and of the rest only what does not follow from them.

use std::ops::Range;

use crate::config::problem::Fault;

/// The broken places, with those of the other faults that are true whatever was meant there.
pub(crate) fn faults(text: &str, broken: &[toml::de::Error], others: Vec<Fault>) -> Vec<Fault> {
    let broken: Vec<Fault> = broken.iter().map(|error| fault(text, error)).collect();
    let lines: Vec<Range<usize>> = broken.iter().map(|fault| line_of(text, fault.span.start)).collect();
    // What stands below a broken header was read as part of another table.
    let bodies: Vec<Range<usize>> = lines
        .iter()
        .filter(|line| text.get(line.start..).is_some_and(is_header))
        .map(|line| line.end..end_of_table(text, line.end))
        .collect();
    let within =
        |places: &[Range<usize>], fault: &Fault| places.iter().any(|place| place.contains(&fault.span.start));
    let others = others.into_iter().filter(|fault| !fault.of_whole && !within(&lines, fault));
    let mut all: Vec<Fault> = broken.iter().cloned().chain(others).collect();
    all.retain(|fault| !within(&bodies, fault));
    all
}

fn fault(text: &str, error: &toml::de::Error) -> Fault {
    let span = error.span().unwrap_or(text.len()..text.len());
    if error.message() == "duplicate key" {
        let name = text.get(span.clone()).unwrap_or_default();
        return Fault {
            span,
            message: format!("`{name}` is given twice"),
            help: Some("a name can be given once in a table: remove one of the two".to_owned()),
            of_whole: false,
        };
    }
    Fault { span, message: format!("not TOML: {}", error.message()), help: None, of_whole: false }
}

/// The line with its newline; for the last line, also the end of the text, where what is missing is missed.
fn line_of(text: &str, at: usize) -> Range<usize> {
    let at = at.min(text.len());
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len() + 1, |newline| at + newline + 1);
    start..end
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

fn end_of_table(text: &str, start: usize) -> usize {
    let mut at = start;
    for line in text.get(start..).unwrap_or_default().split_inclusive('\n') {
        if is_header(line) {
            break;
        }
        at += line.len();
    }
    at
}
