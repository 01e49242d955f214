//! From one TOML value to what it means, with the fault at its place when it means nothing.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::key::Kind;
use crate::config::source::Source;

/// One value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Value<'d> {
    pub source: &'d Source<'d>,
    pub node: &'d DeValue<'d>,
    pub span: Range<usize>,
}

impl<'d> Value<'d> {
    pub(crate) fn new(source: &'d Source<'d>, spanned: &'d Spanned<DeValue<'d>>) -> Self {
        Self { source, node: spanned.get_ref(), span: spanned.span() }
    }

    /// This value is wrong.
    pub(crate) fn wrong<T>(&self, message: impl Into<String>, help: impl Into<Option<String>>) -> Option<T> {
        self.source.fault(self.span.clone(), message, help.into());
        None
    }

    /// A stretch of this text value is wrong, counted in bytes of its content.
    pub(crate) fn wrong_within<T>(
        &self,
        part: Range<usize>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> Option<T> {
        self.source.fault(self.within(part), message, help.into());
        None
    }

    /// Where a stretch of the content stands in the file; the whole value when it is written with escapes.
    fn within(&self, part: Range<usize>) -> Range<usize> {
        let raw = self.source.text.get(self.span.clone()).unwrap_or_default();
        let as_written = self
            .node
            .as_str()
            .filter(|content| raw.len() == content.len() + 2 && raw.get(1..raw.len() - 1) == Some(*content));
        match as_written {
            Some(_) => self.span.start + 1 + part.start..self.span.start + 1 + part.end,
            None => self.span.clone(),
        }
    }

    fn mistyped<T>(&self, kind: Kind) -> Option<T> {
        let found = match self.node {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.wrong(format!("expected {}, found {found}", kind.expected()), None)
    }

    /// The text, as it is; the empty text is refused.
    pub(crate) fn text(&self) -> Option<String> {
        self.text_of(Kind::Text).map(str::to_owned)
    }

    /// The text, which may be empty.
    pub(crate) fn any_text(&self) -> Option<String> {
        match self.node.as_str() {
            Some(text) => Some(text.to_owned()),
            None => self.mistyped(Kind::Text),
        }
    }

    fn text_of(&self, kind: Kind) -> Option<&'d str> {
        match self.node.as_str() {
            None => self.mistyped(kind),
            Some("") => self.wrong("this must not be empty", None),
            Some(text) if text.contains('\0') => {
                self.wrong("a text must not have the character 0 in it", None)
            }
            Some(text) => Some(text),
        }
    }

    pub(crate) fn switch(&self) -> Option<bool> {
        match self.node.as_bool() {
            Some(value) => Some(value),
            None => self.mistyped(Kind::Switch),
        }
    }

    /// A whole number between two limits, both allowed.
    pub(crate) fn number(&self, least: u64, most: u64) -> Option<u64> {
        let kind = Kind::Number(least, most);
        let Some(digits) = self.node.as_integer() else {
            return self.mistyped(kind);
        };
        match i128::from_str_radix(digits.as_str(), digits.radix()).ok().and_then(|n| u64::try_from(n).ok()) {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => self.wrong(format!("{digits} is not {}", kind.expected()), None),
        }
    }

    pub(crate) fn word(&self, words: &'static [&'static str]) -> Option<&'static str> {
        let kind = Kind::Word(words);
        let Some(text) = self.node.as_str() else {
            return self.mistyped(kind);
        };
        if let Some(word) = words.iter().find(|word| **word == text) {
            return Some(word);
        }
        self.wrong(
            format!("`{text}` is not {}", kind.expected()),
            nearest(text, words.iter().copied()).map(|word| format!("did you mean \"{word}\"?")),
        )
    }

    /// An absolute path without `.`, `..`, doubled or trailing slashes.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        let text = self.text_of(Kind::Path)?;
        let path = Path::new(text);
        if text.starts_with('~') {
            return self.wrong(
                format!("`{text}` is not an absolute path"),
                "`~` means nothing here: write the whole path".to_owned(),
            );
        }
        if !path.is_absolute() {
            return self.wrong(format!("`{text}` is not an absolute path"), "start it with `/`".to_owned());
        }
        if path.components().any(|component| component == Component::ParentDir) {
            return self.wrong(
                format!("the path `{text}` has `..` in it"),
                "write where it leads: with symbolic links, `..` may not lead where it seems to".to_owned(),
            );
        }
        Some(path.components().collect())
    }

    /// More than nothing.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let text = self.text_of(Kind::Duration)?;
        match parse_duration(text) {
            Ok(Duration::ZERO) => self.wrong("this duration must be longer than zero", None),
            Ok(duration) => Some(duration),
            Err(reason) => self.wrong(
                format!("`{text}` is not a duration: {reason}"),
                "write it like \"45s\", \"5m\", \"2h 30m\" or \"30d\"".to_owned(),
            ),
        }
    }

    /// Bytes.
    pub(crate) fn size(&self) -> Option<u64> {
        let text = self.text_of(Kind::Size)?;
        let size = text.trim().parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64());
        match size.filter(|_| text.ends_with(|last: char| last.is_ascii_alphabetic())) {
            Some(size) => Some(size),
            None => self.wrong(
                format!("`{text}` is not a size"),
                "write it like \"500 MB\", \"2 GB\" (powers of 1000) or \"2 GiB\" (powers of 1024)"
                    .to_owned(),
            ),
        }
    }

    fn items(&self, kind: Kind) -> Option<Vec<Value<'d>>> {
        match self.node.as_array() {
            None => self.mistyped(kind),
            Some(items) => Some(items.iter().map(|item| Value::new(self.source, item)).collect()),
        }
    }

    /// Each item by `read`; every wrong item is told.
    pub(crate) fn list<T>(&self, kind: Kind, read: impl Fn(&Value<'d>) -> Option<T>) -> Option<Vec<T>> {
        let items = self.items(kind)?;
        let read: Vec<Option<T>> = items.iter().map(read).collect();
        read.into_iter().collect()
    }

    /// Texts, none empty, none twice.
    pub(crate) fn texts(&self) -> Option<Vec<String>> {
        let texts = self.list(Kind::Texts, Value::text)?;
        let items = self.items(Kind::Texts)?;
        let mut whole = true;
        for (at, text) in texts.iter().enumerate() {
            if texts[..at].contains(text) {
                items[at].wrong::<()>(format!("`{text}` is in this list twice"), None);
                whole = false;
            }
        }
        whole.then_some(texts)
    }

    /// A program and its arguments.
    pub(crate) fn command(&self) -> Option<Vec<String>> {
        if self.node.is_str() {
            return self.wrong(
                format!("expected {}, found a text", Kind::Command.expected()),
                "no shell is used: write the program and each argument as a text of its own; \
                 for a shell, [\"/bin/sh\", \"-c\", \"...\"]"
                    .to_owned(),
            );
        }
        let items = self.items(Kind::Command)?;
        let Some(program) = items.first() else {
            return self.wrong("this command is empty", format!("write {}", Kind::Command.expected()));
        };
        let words: Vec<Option<String>> = items
            .iter()
            .enumerate()
            .map(|(at, item)| if at == 0 { item.text() } else { item.any_text() })
            .collect();
        let words: Vec<String> = words.into_iter().collect::<Option<_>>()?;
        let name = &words[0];
        if name.contains('/') && !name.starts_with('/') {
            return program.wrong(
                format!("the program `{name}` has a relative path"),
                "write its absolute path, or only its name to have it looked for in PATH".to_owned(),
            );
        }
        if words.len() == 1 && name.contains(char::is_whitespace) {
            return program.wrong(
                format!("the program `{name}` has a space in its name"),
                "write each argument as a text of its own".to_owned(),
            );
        }
        Some(words)
    }

    /// The name of a file below `$CREDENTIALS_DIRECTORY`.
    pub(crate) fn credential(&self) -> Option<String> {
        let name = self.text()?;
        if name.contains('/') || name == "." || name == ".." {
            return self.wrong(
                format!("`{name}` is not the name of a systemd credential"),
                "write the name that LoadCredential= gives it, not a path".to_owned(),
            );
        }
        Some(name)
    }

    /// As JSON.
    pub(crate) fn document(&self) -> Option<serde_json::Value> {
        match self.node {
            DeValue::Table(_) | DeValue::String(_) => self.json(),
            _ => self.mistyped(Kind::Document),
        }
    }

    fn json(&self) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        match self.node {
            DeValue::String(text) => Some(Json::String(text.to_string())),
            DeValue::Boolean(value) => Some(Json::Bool(*value)),
            DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(number) => Some(Json::from(number)),
                Err(_) => self.wrong(format!("{digits} is too large"), None),
            },
            DeValue::Float(digits) => {
                let number = digits.as_str().parse().ok().and_then(serde_json::Number::from_f64);
                match number {
                    Some(number) => Some(Json::Number(number)),
                    None => self.wrong(format!("JSON has no {}", digits.as_str()), None),
                }
            }
            DeValue::Datetime(_) => {
                self.wrong("JSON has no dates", "write it as a text, in quotes".to_owned())
            }
            DeValue::Array(_) => self.list(Kind::Document, Value::json).map(Json::Array),
            DeValue::Table(table) => {
                let members: Vec<Option<(String, Json)>> = table
                    .iter()
                    .map(|(name, value)| {
                        Some((name.get_ref().to_string(), Value::new(self.source, value).json()?))
                    })
                    .collect();
                members.into_iter().collect::<Option<_>>().map(Json::Object)
            }
        }
    }
}

/// Days are 24 hours and weeks seven days: a duration has no calendar.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let span: jiff::Span = text.trim().parse().map_err(|_| {
        if text.trim().parse::<f64>().is_ok() {
            "it has no unit".to_owned()
        } else {
            "it is not a number and a unit".to_owned()
        }
    })?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err("months and years have no fixed length".to_owned());
    }
    let duration = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| "it is too long".to_owned())?;
    Duration::try_from(duration).map_err(|_| "it is negative".to_owned())
}

/// The one of `words` that was most probably meant.
pub(crate) fn nearest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    words
        .map(|word| (strsim::damerau_levenshtein(text, word), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{nearest, parse_duration};

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in
            [("5m", 300), ("2h 30m", 9000), ("2h30m", 9000), ("30d", 2_592_000), ("2 weeks", 1_209_600)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "m", "-5m", "1 month", "1y", "5 parsecs"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_too_far_is_not_suggested() {
        assert_eq!(nearest("shedule", ["schedule", "vault"].into_iter()), Some("schedule"));
        assert_eq!(nearest("colour", ["schedule", "vault"].into_iter()), None);
    }
}
