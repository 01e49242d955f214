//! What a key of the file is: name, kind of value, default, meaning. Reading, the sample and the reference all use
//! these, so that they cannot differ.

/// The upper limit of a number that has none worth telling.
pub(crate) const MANY: u64 = u32::MAX as u64;

/// What a value must look like, in the words of messages and of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// An absolute path.
    Path,
    /// `"2h 30m"`
    Duration,
    /// `"50 MB"`
    Size,
    /// A whole number between these.
    Number(u64, u64),
    /// true or false
    Switch,
    /// A list of texts.
    Texts,
    /// A program and its arguments.
    Command,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A table or text that becomes JSON.
    Document,
    /// Names to texts or credentials.
    Headers,
}

impl Kind {
    /// For a message: "expected ...".
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Text => "a text in quotes".to_owned(),
            Self::Path => "an absolute path in quotes".to_owned(),
            Self::Duration => "a duration in quotes, like \"2h 30m\"".to_owned(),
            Self::Size => "a size in quotes, like \"50 MB\" or \"2 GiB\"".to_owned(),
            Self::Number(least, MANY) => format!("a whole number, {least} or more"),
            Self::Number(least, most) => format!("a whole number from {least} to {most}"),
            Self::Switch => "true or false".to_owned(),
            Self::Texts => "a list of texts, like [\"one\", \"two\"]".to_owned(),
            Self::Command => {
                "a program and its arguments, like [\"systemctl\", \"start\", \"app\"]".to_owned()
            }
            Self::Word([only]) => format!("\"{only}\""),
            Self::Word(words) => format!("one of {}", quoted(words)),
            Self::Document => "a document: a table or a text".to_owned(),
            Self::Headers => "a table of header names and their values".to_owned(),
        }
    }

    /// For the reference.
    pub(crate) fn in_short(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::Size => "size".to_owned(),
            Self::Number(least, MANY) => format!("number, {least} or more"),
            Self::Number(least, most) => format!("number from {least} to {most}"),
            Self::Switch => "true or false".to_owned(),
            Self::Texts => "list of texts".to_owned(),
            Self::Command => "command".to_owned(),
            Self::Word(words) => format!("`{}`", quoted(words).replace(", ", "`, `")),
            Self::Document => "document".to_owned(),
            Self::Headers => "table of headers".to_owned(),
        }
    }
}

/// `"a", "b", "c"`
fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// What happens when a key is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// It must be there.
    Refused,
    /// This value, written as TOML, is in force.
    Default(&'static str),
    /// What it would do is not done; in the words of the reference.
    Means(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// When it is not there.
    pub absent: Absent,
    /// A value as TOML, for the sample.
    pub sample: &'static str,
    /// What it is for: whole sentences.
    pub doc: &'static str,
}

impl Key {
    /// Must be there.
    pub(crate) const fn required(
        name: &'static str,
        kind: Kind,
        sample: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, kind, absent: Absent::Refused, sample, doc }
    }

    /// Has a default, which is the sample's value too.
    pub(crate) const fn defaulted(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, kind, absent: Absent::Default(default), sample: default, doc }
    }

    /// May be left out; `means` says what is then.
    pub(crate) const fn optional(
        name: &'static str,
        kind: Kind,
        means: &'static str,
        sample: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, kind, absent: Absent::Means(means), sample, doc }
    }
}

/// One table of the file.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its name in the table above it.
    pub name: &'static str,
    /// For `[name.SOMETHING]`, the word for SOMETHING.
    pub named: Option<&'static str>,
    /// What it is for.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// The tables in it.
    pub sections: &'static [&'static Section],
}

impl Section {
    /// Every name that may stand in it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name).chain(self.sections.iter().map(|section| section.name))
    }

    /// Visits this section and those in it, each with its path (`repository.NAME.hold`).
    pub(crate) fn visit(&'static self, above: &str, visit: &mut dyn FnMut(&str, &'static Section)) {
        let own = match (above.is_empty(), self.name.is_empty()) {
            (_, true) => String::new(),
            (true, false) => self.name.to_owned(),
            (false, false) => format!("{above}.{}", self.name),
        };
        let own = self.named.map_or_else(|| own.clone(), |word| format!("{own}.{word}"));
        visit(&own, self);
        for section in self.sections {
            section.visit(&own, visit);
        }
    }
}
