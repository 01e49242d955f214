//! What is wrong with a configuration file, and where.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{0}: {cause}", cause = .0.source)]
    Read(crate::fs::Error),
    /// What is in it is wrong.
    #[error("{0}")]
    Invalid(Report),
}

impl Error {
    /// Everything that is wrong, in the order of the file.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Read(error) => {
                vec![Problem { line: 0, column: 0, message: self.to_string(), help: help_for(error) }]
            }
            Self::Invalid(report) => report.problems(),
        }
    }

    /// Everything that is wrong, for a person: each with the line of the file, a caret below what is wrong, and what to
    /// do. With `coloured`, for a terminal.
    #[must_use]
    pub fn render(&self, coloured: bool) -> String {
        match self {
            Self::Read(error) => {
                // No line of it can be shown, so each sentence stands alone.
                let alone = |title| renderer(coloured).render(&[Group::with_title(title)]) + "\n";
                let help = help_for(error).map(|help| alone(Level::HELP.primary_title(help)));
                alone(Level::ERROR.primary_title(self.to_string())) + &help.unwrap_or_default()
            }
            Self::Invalid(report) => report.render(coloured),
        }
    }
}

fn help_for(error: &crate::fs::Error) -> Option<String> {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Some("write one with `daykeep config generate`, or name another file with --config".to_owned())
        }
        std::io::ErrorKind::PermissionDenied => {
            Some("run as root, or as the user that the daemon runs as".to_owned())
        }
        _ => None,
    }
}

fn renderer(coloured: bool) -> Renderer {
    let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
    renderer.decor_style(DecorStyle::Ascii)
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Line, from 1; 0 when the file could not be read at all.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Something wrong, by its place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Only true of a file that could be read whole: not told when the syntax is broken.
    pub of_whole: bool,
}

/// Everything that is wrong with a file's content, with the text to show it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    path: PathBuf,
    text: String,
    faults: Vec<Fault>,
}

impl Report {
    /// Sorts the faults by their place; what stands at the `hidden` places is not shown. `broken`: the text is not TOML.
    pub(crate) fn new(
        path: &Path,
        text: &str,
        mut faults: Vec<Fault>,
        hidden: &[Range<usize>],
        broken: bool,
    ) -> Self {
        // What is missing at the end of the file is missed at the end of what is there.
        let end = text.trim_end_matches(['\n', '\r']).len();
        for fault in &mut faults {
            fault.span =
                fault.span.start.min(end)..fault.span.end.min(text.len()).max(fault.span.start.min(end));
        }
        faults.sort_by_key(|fault| (fault.span.start, fault.span.end));
        faults.dedup();
        Self { path: path.to_owned(), text: masked(text, hidden, broken), faults }
    }

    /// The file is not UTF-8.
    pub(crate) fn not_text(path: &Path, error: &std::string::FromUtf8Error) -> Self {
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let start = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(start).copied().unwrap_or_default();
        let fault = Fault {
            span: start..start + char::REPLACEMENT_CHARACTER.len_utf8(),
            message: format!("the file is not UTF-8: the byte 0x{byte:02x} is no part of a character here"),
            help: Some("save the file as UTF-8".to_owned()),
            of_whole: false,
        };
        Self::new(path, &text, vec![fault], &[], true)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything that is wrong, in the order of the file.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.faults
            .iter()
            .map(|fault| {
                let (line, column) = place_of(&self.text, fault.span.start);
                Problem { line, column, message: fault.message.clone(), help: fault.help.clone() }
            })
            .collect()
    }

    /// See [`Error::render`].
    #[must_use]
    pub fn render(&self, coloured: bool) -> String {
        let path = self.path.display().to_string();
        let renderer = renderer(coloured);
        let mut all = String::new();
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                all.push('\n');
            }
            let group = Level::ERROR
                .primary_title(&fault.message)
                .element(
                    Snippet::source(&self.text)
                        .path(&path)
                        .annotation(AnnotationKind::Primary.span(visible(&self.text, &fault.span))),
                )
                .elements(fault.help.iter().map(|help| Level::HELP.message(help)));
            all.push_str(&renderer.render(&[group]));
            all.push('\n');
        }
        // One was told already; of many, how many there are must not need scrolling up.
        if let count @ 2.. = self.faults.len() {
            // Writing to a String cannot fail.
            let _ = writeln!(all, "\n{path} has {count} errors");
        }
        all
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        let Some(first) = self.problems().into_iter().next() else {
            return write!(f, "{path} is wrong");
        };
        let (line, column, message) = (first.line, first.column, first.message);
        match self.faults.len() {
            1 => write!(f, "{path}:{line}:{column}: {message}"),
            count => write!(f, "{path} has {count} errors, the first at {line}:{column}: {message}"),
        }
    }
}

impl std::error::Error for Report {}

/// Only the first line of what is wrong is underlined: a table of twenty lines would hide its error.
fn visible(text: &str, span: &Range<usize>) -> Range<usize> {
    let end = span.end.min(text.len());
    let start = span.start.min(end);
    let first_line = text.get(start..end).and_then(|part| part.find('\n')).map_or(end, |at| start + at);
    start..first_line.max(start)
}

/// Words behind which a secret may stand, where a file is too broken, or a key too strange, to tell.
const SECRETS: [&str; 4] = ["pass", "token", "secret", "auth"];

/// Whether the value of a key that nobody knows may be a secret: by the key's name, which may be a misspelt one, or as an address with a
/// password in it.
pub(crate) fn may_be_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRETS.iter().any(|word| name.contains(word)) || (value.contains("://") && value.contains('@'))
}

/// The text with stars for what is secret, byte by byte, so that all places stay what they are. In a file that is too
/// `broken` to know what is a value, whatever looks like a secret is one.
fn masked(text: &str, hidden: &[Range<usize>], broken: bool) -> String {
    let mut secrets = hidden.to_vec();
    let mut start = 0;
    for line in text.split_inclusive('\n').filter(|_| broken) {
        secrets.extend(behind_secret_name(line).map(|at| start + at..start + line.len()));
        start += line.len();
    }
    text.char_indices()
        .flat_map(|(at, c)| {
            let is_secret = c != '\n' && secrets.iter().any(|secret| secret.contains(&at));
            let (shown, count) = if is_secret { ('*', c.len_utf8()) } else { (c, 1) };
            std::iter::repeat_n(shown, count)
        })
        .collect()
}

/// Where in a line the quoted value of a secret begins, as far as one can tell without understanding the line.
fn behind_secret_name(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    let name = SECRETS.iter().filter_map(|word| lower.find(word)).min()?;
    let equals = name + lower[name..].find('=')?;
    let value = equals + 1 + lower[equals + 1..].find(|c: char| !c.is_whitespace())?;
    let is_named = ["passfile", "password_credential"].iter().any(|key| lower[name..].starts_with(key));
    let is_text = lower[value..].starts_with(['"', '\'']);
    (is_text && !is_named && !lower.trim_start().starts_with('#')).then_some(value)
}

fn place_of(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
