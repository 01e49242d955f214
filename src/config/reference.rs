//! The reference of the configuration: every table and key, as Markdown. `docs/configuration.md` carries it.

use std::fmt::Write as _;

use crate::config::key::{Absent, Section};
use crate::config::read::ROOT;

/// Every table with its keys: what a value looks like, what is in force without it, what it means.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    ROOT.visit("", &mut |path, section| describe(&mut text, path, section));
    text
}

fn describe(text: &mut String, path: &str, section: &'static Section) {
    let title = if path.is_empty() { "The top of the file".to_owned() } else { format!("`[{path}]`") };
    // Writing to a String cannot fail.
    let _ = write!(text, "### {title}\n\n{}\n\n", section.doc);
    if section.keys.is_empty() {
        return;
    }
    text.push_str("| key | value | left out | meaning |\n| --- | --- | --- | --- |\n");
    for key in section.keys {
        let absent = match key.absent {
            Absent::Refused => "required".to_owned(),
            Absent::Default(default) => format!("`{default}`"),
            Absent::Means(means) => means.to_owned(),
        };
        let _ = writeln!(text, "| `{}` | {} | {absent} | {} |", key.name, key.kind.in_short(), key.doc);
    }
    text.push('\n');
}
