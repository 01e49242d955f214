//! One table of the file: its values by key, and what does not belong in it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::key::{Absent, Key, Section};
use crate::config::problem::may_be_secret;
use crate::config::source::Source;
use crate::config::value::{Value, nearest};

/// A table and what may be in it. What is not in the file is an empty table at its place.
#[derive(Debug, Clone)]
pub(crate) struct Table<'d> {
    pub source: &'d Source<'d>,
    /// Where its header stands.
    pub span: Range<usize>,
    section: &'static Section,
    /// `repository.fossology.hold`
    path: String,
    values: Option<&'d DeTable<'d>>,
}

impl<'d> Table<'d> {
    pub(crate) fn root(source: &'d Source<'d>, values: &'d DeTable<'d>, section: &'static Section) -> Self {
        Self { source, span: 0..0, section, path: String::new(), values: Some(values) }
    }

    /// `[repository.fossology.hold]`, for messages.
    pub(crate) fn header(&self) -> String {
        if self.path.is_empty() { "the file".to_owned() } else { format!("[{}]", self.path) }
    }

    /// The header of a table in this one, for messages.
    pub(crate) fn header_of(&self, name: &str) -> String {
        format!("[{}]", self.path_of(name))
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn entries(&self) -> impl Iterator<Item = (&'d Spanned<std::borrow::Cow<'d, str>>, Value<'d>)> + use<'d> {
        let source = self.source;
        self.values.into_iter().flatten().map(move |(name, value)| (name, Value::new(source, value)))
    }

    fn find(&self, name: &str) -> Option<(Range<usize>, Value<'d>)> {
        self.entries().find(|(key, _)| key.get_ref() == name).map(|(key, value)| (key.span(), value))
    }

    /// Whether the file gives this name here.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Where the name stands; the header if it is not given.
    pub(crate) fn place_of(&self, name: &str) -> Range<usize> {
        self.find(name).map_or_else(|| self.span.clone(), |(span, _)| span)
    }

    /// Where the value of a key stands; the header if it is not given.
    pub(crate) fn place_of_value(&self, key: &Key) -> Range<usize> {
        self.find(key.name).map_or_else(|| self.span.clone(), |(_, value)| value.span)
    }

    /// Tells every name that the section does not know.
    pub(crate) fn refuse_unknown(&self) {
        self.refuse_unknown_but(|_, _| false);
    }

    /// Like [`Table::refuse_unknown`]; `told` has its own words for some names, and says so.
    pub(crate) fn refuse_unknown_but(&self, told: impl Fn(&str, &Value<'d>) -> bool) {
        for (key, value) in self.entries() {
            let name = key.get_ref().as_ref();
            if self.knows(name) || told(name, &value) {
                continue;
            }
            if may_be_secret(name, self.source.text.get(value.span.clone()).unwrap_or_default()) {
                self.source.hide(value.span.clone());
            }
            let what = if value.node.is_table() { "table" } else { "key" };
            let place = if self.path.is_empty() { String::new() } else { format!(" in {}", self.header()) };
            self.source.fault(
                key.span(),
                format!("unknown {what} `{name}`{place}"),
                self.help_for_unknown(name),
            );
        }
    }

    fn help_for_unknown(&self, name: &str) -> Option<String> {
        if let Some(known) = nearest(name, self.section.names()) {
            return Some(format!("did you mean `{known}`?"));
        }
        if let Some(path) = self.source.where_is(name) {
            return Some(if path.is_empty() {
                format!("`{name}` belongs at the top of the file, before any table")
            } else {
                format!("`{name}` belongs in [{path}]")
            });
        }
        let names: Vec<_> = self.section.names().map(|known| format!("`{known}`")).collect();
        (!names.is_empty()).then(|| format!("{} may have {}", self.header(), names.join(", ")))
    }

    fn knows(&self, name: &str) -> bool {
        self.section.names().any(|known| known == name)
    }

    /// Whether something in it is not known.
    pub(crate) fn has_unknown(&self) -> bool {
        self.entries().any(|(key, _)| !self.knows(key.get_ref()))
    }

    /// The value of a key that is required or has a default; None when it is missing or wrong, which has been told.
    pub(crate) fn get<T>(&self, key: &Key, read: impl Fn(&Value<'d>) -> Option<T>) -> Option<T> {
        if let Some((_, value)) = self.find(key.name) {
            return read(&value);
        }
        match key.absent {
            Absent::Default(text) => self.source.default_of(text).and_then(|value| read(&value)),
            Absent::Refused | Absent::Means(_) => {
                self.source.fault_of_whole(
                    self.span.clone(),
                    format!("{} has no `{}`", self.header(), key.name),
                    Some(format!("write {} = {}", key.name, key.sample)),
                );
                None
            }
        }
    }

    /// The value of a key that may be left out; None when it is there and wrong, which has been told.
    #[expect(clippy::option_option, reason = "outer None: wrong, which has been told; inner None: not there")]
    pub(crate) fn get_optional<T>(
        &self,
        key: &Key,
        read: impl Fn(&Value<'d>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.find(key.name) {
            Some((_, value)) => read(&value).map(Some),
            None => Some(None),
        }
    }

    /// The table of this section, if the file has it.
    pub(crate) fn section(&self, section: &'static Section) -> Option<Table<'d>> {
        let (_, value) = self.find(section.name)?;
        self.table_in(&value, section, self.path_of(section.name))
    }

    /// The table of this section; an empty one at this table's place if the file has none.
    pub(crate) fn section_or_empty(&self, section: &'static Section) -> Table<'d> {
        self.section(section).unwrap_or_else(|| Table {
            source: self.source,
            span: self.span.clone(),
            section,
            path: self.path_of(section.name),
            values: None,
        })
    }

    /// The tables `[section.NAME]`, by name.
    pub(crate) fn named(&self, section: &'static Section) -> Vec<(String, Table<'d>)> {
        let Some((_, value)) = self.find(section.name) else {
            return Vec::new();
        };
        let path = self.path_of(section.name);
        let Some(all) = self.table_in(&value, section, path.clone()) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (key, value) in all.entries() {
            let name = key.get_ref().to_string();
            if !is_name(&name) {
                let help =
                    "a name has lower-case letters, digits, `-` and `_`, and begins with a letter or digit";
                self.source.fault(
                    key.span(),
                    format!("`{name}` cannot be a name in [{path}.NAME]"),
                    Some(help.to_owned()),
                );
                continue;
            }
            if let Some(table) = self.table_in(&value, section, format!("{path}.{name}")) {
                tables.push((name, table));
            }
        }
        tables
    }

    /// The names of the tables `[section.NAME]`, whatever is in them.
    pub(crate) fn named_keys(&self, section: &'static Section) -> Vec<String> {
        match self.find(section.name).map(|(_, value)| value.node) {
            Some(DeValue::Table(values)) => values.keys().map(|key| key.get_ref().to_string()).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the table `[section]` is there and names nothing.
    pub(crate) fn is_bare(&self, section: &'static Section) -> bool {
        let found = self.find(section.name).map(|(_, value)| value.node);
        matches!(found, Some(DeValue::Table(values)) if values.is_empty())
    }

    fn table_in(&self, value: &Value<'d>, section: &'static Section, path: String) -> Option<Table<'d>> {
        match value.node {
            DeValue::Table(values) => Some(Table {
                source: self.source,
                span: value.span.clone(),
                section,
                path,
                values: Some(values),
            }),
            DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => value.wrong(
                format!("[{path}] is a list of tables"),
                format!("write [{path}] with single brackets, once"),
            ),
            _ => {
                let header = match section.named {
                    Some(word) if path.ends_with(section.name) => format!("[{path}.{word}]"),
                    _ => format!("[{path}]"),
                };
                value.wrong(format!("`{path}` must be a table"), format!("write it as {header}"))
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    name.chars().all(allowed) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 64
}
