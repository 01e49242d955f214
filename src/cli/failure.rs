//! How a command fails: one shape for every error of the library, with an exit code and what to do.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};

use anstyle::{AnsiColor, Style};
use serde_json::json;

/// What went wrong, as a script sees it. The codes are promised in `docs/cli.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for was tried and failed.
    Failed,
    /// The command line or the configuration is wrong; nothing was tried.
    Usage,
    /// No such repository, day or job.
    NotFound,
    /// Another process has the vault.
    Locked,
    /// A day was looked at, and is not what it was.
    Damaged,
    /// A restore that is done waits to be confirmed or taken back: nothing was restored.
    Pending,
    /// The repository was busy: it was left alone and can be tried again.
    Busy,
    /// Ended by the signal of this number.
    Signal(u8),
}

impl Kind {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 10,
            Self::Locked => 11,
            Self::Damaged => 12,
            Self::Pending => 13,
            Self::Busy => 75,
            Self::Signal(number) => 128 + number,
        }
    }

    /// The word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Locked => "locked",
            Self::Damaged => "damaged",
            Self::Pending => "pending",
            Self::Busy => "busy",
            Self::Signal(_) => "signal",
        }
    }
}

/// A command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    error: String,
    causes: Vec<String>,
    hints: Vec<String>,
    /// A text that takes the place of `error`, already laid out (a configuration's errors with their carets).
    laid_out: Option<String>,
    /// The command has told everything, or nobody listens any more: only the code is left to give.
    told: bool,
}

impl Failure {
    /// A failure that this face finds itself.
    #[must_use]
    pub fn new(kind: Kind, error: impl Into<String>) -> Self {
        let (causes, hints) = (Vec::new(), Vec::new());
        Self { kind, error: error.into(), causes, hints, laid_out: None, told: false }
    }

    /// A failure of the library, with its chain of causes.
    #[must_use]
    pub fn of(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::new(kind, error.to_string());
        let mut cause = error.source();
        while let Some(next) = cause {
            let text = next.to_string();
            // Some libraries repeat their cause in their own text: say it once.
            if !failure.error.contains(&text)
                && failure.causes.last().is_none_or(|last| !last.contains(&text))
            {
                failure.causes.push(text);
            }
            let hint = next.downcast_ref::<io::Error>().and_then(advice).map(str::to_owned);
            failure.hints.extend(hint.filter(|hint| !failure.hints.contains(hint)));
            cause = next.source();
        }
        // What several parts of a job met is told in one text, without a chain.
        let hint = advice_on(&failure.error).map(str::to_owned);
        failure.hints.extend(hint.filter(|hint| !failure.hints.contains(hint)));
        failure
    }

    /// One that has nothing more to say than its code.
    #[must_use]
    pub fn told(kind: Kind) -> Self {
        Self { told: true, ..Self::new(kind, "") }
    }

    /// What is behind it, when that comes as text; what the sentence has already is left out.
    #[must_use]
    pub fn caused_by<'a>(mut self, causes: impl IntoIterator<Item = &'a str>) -> Self {
        let more = causes.into_iter().filter(|cause| !self.error.contains(cause));
        self.causes.extend(more.map(str::to_owned));
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Shows `text` to people in place of "error: ...".
    #[must_use]
    pub fn shown_as(mut self, text: impl Into<String>) -> Self {
        self.laid_out = Some(text.into());
        self
    }

    /// What went wrong, as a script sees it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The sentence.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.error
    }

    /// The sentence with what is behind it, in one line.
    #[must_use]
    pub fn text_with_causes(&self) -> String {
        std::iter::once(self.error.as_str())
            .chain(self.causes.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(": ")
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn text_with_hints(&self) -> String {
        let hints = self.hints.iter().map(|hint| format!("; {hint}"));
        self.text_with_causes() + &hints.collect::<String>()
    }

    /// Whether there is nothing left to say.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// For people, with colours that `anstream` strips where they are not wanted.
    #[must_use]
    pub fn render(&self) -> String {
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let cyan = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
        let mut text = match &self.laid_out {
            Some(laid_out) => format!("{}\n", laid_out.trim_end()),
            None => format!("{red}error:{red:#} {}\n", indented(&self.error)),
        };
        for cause in &self.causes {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{red}caused by:{red:#} {}", indented(cause));
        }
        for hint in &self.hints {
            let _ = writeln!(text, "{cyan}hint:{cyan:#} {}", indented(hint));
        }
        text
    }

    /// For scripts: the value of `error` in the document.
    #[must_use]
    pub fn as_json(&self) -> serde_json::Value {
        json!({
            "kind": self.kind.word(),
            "code": self.kind.code(),
            "message": self.error,
            "causes": self.causes,
            "hints": self.hints,
        })
    }
}

/// What to do about a disk that is full or fails, wherever an error of it comes from.
fn advice(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::StorageFull => Some(
            "make room there (`df -h` and `df -i` show it); `daykeep prune` removes days, on a full disk too",
        ),
        ErrorKind::QuotaExceeded => Some("make room there or raise the quota; `daykeep prune` removes days"),
        _ if error.raw_os_error() == Some(nix::libc::EIO) => {
            Some("the disk or its file system fails: the kernel's log (`dmesg`) tells more")
        }
        _ => None,
    }
}

/// The same for errors that are told in a text.
fn advice_on(text: &str) -> Option<&'static str> {
    use nix::libc::{EDQUOT, EIO, ENOSPC};
    let told = [ENOSPC, EDQUOT, EIO].into_iter().map(io::Error::from_raw_os_error);
    told.filter(|error| text.contains(&error.to_string())).find_map(|error| advice(&error))
}

/// Lines after the first stand a little to the right, so that they are seen to belong to it.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ")
}

#[cfg(test)]
mod tests {
    use crate::cli::failure::{Failure, Kind};

    #[derive(Debug, thiserror::Error)]
    #[error("cannot seal the day")]
    struct Outer(#[source] crate::fs::Error);

    fn full_disk() -> crate::fs::Error {
        crate::fs::Error {
            action: "write",
            path: "/vault/x".into(),
            source: std::io::Error::from_raw_os_error(nix::libc::ENOSPC),
        }
    }

    fn plain(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.render()).to_string()
    }

    #[test]
    fn a_failure_tells_its_causes_and_what_to_do() {
        let failure = Failure::of(Kind::Failed, &Outer(full_disk())).hint("or ask\nsomebody");
        insta::assert_snapshot!(plain(&failure), @r"
        error: cannot seal the day
        caused by: cannot write /vault/x
        caused by: No space left on device (os error 28)
        hint: make room there (`df -h` and `df -i` show it); `daykeep prune` removes days, on a full disk too
        hint: or ask
          somebody
        ");
        insta::assert_snapshot!(failure.as_json(), @r#"{"causes":["cannot write /vault/x","No space left on device (os error 28)"],"code":1,"hints":["make room there (`df -h` and `df -i` show it); `daykeep prune` removes days, on a full disk too","or ask\nsomebody"],"kind":"failed","message":"cannot seal the day"}"#);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the day cannot be restored:\n- {}: {}", .0, .0.source)]
    struct Listed(crate::fs::Error);

    #[test]
    fn what_to_do_is_told_of_errors_in_a_list_too() {
        let failure = Failure::of(Kind::Failed, &Listed(full_disk()));
        insta::assert_snapshot!(plain(&failure), @r"
        error: the day cannot be restored:
          - cannot write /vault/x: No space left on device (os error 28)
        hint: make room there (`df -h` and `df -i` show it); `daykeep prune` removes days, on a full disk too
        ");
    }

    #[test]
    fn codes_are_the_promised_ones() {
        let codes = [Kind::Failed, Kind::Usage, Kind::NotFound, Kind::Locked, Kind::Damaged];
        assert_eq!(codes.map(Kind::code), [1, 2, 10, 11, 12]);
        assert_eq!([Kind::Pending, Kind::Busy, Kind::Signal(2)].map(Kind::code), [13, 75, 130]);
    }
}
