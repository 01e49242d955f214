//! What a command says: data on stdout, talk on stderr.

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::json;

use super::failure::{Failure, Kind};

/// The version of every JSON document (`docs/cli.md`).
pub const SCHEMA: u32 = 1;

/// SIGPIPE's number: a reader that went away ends the command as the signal would.
const SIGPIPE: u8 = 13;

/// A JSON document: its version first, then what it says.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// The two streams, and how they are to be used.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Data is JSON.
    pub json: bool,
    /// No talk but errors.
    pub quiet: bool,
}

#[expect(clippy::unused_self, reason = "one value has all the ways to speak")]
impl Output {
    /// Text for people on stdout, as it is.
    pub fn text(self, text: &str) -> Result<(), Failure> {
        written(anstream::stdout().lock().write_all(text.as_bytes()))
    }

    /// One document on stdout, laid out for reading.
    pub fn document(self, body: &impl Serialize) -> Result<(), Failure> {
        self.json_line(serde_json::to_string_pretty(&Document { schema: SCHEMA, body }))
    }

    /// One document of a stream on stdout, on a line of its own, at once.
    pub fn line(self, body: &impl Serialize) -> Result<(), Failure> {
        self.json_line(serde_json::to_string(&Document { schema: SCHEMA, body }))
    }

    fn json_line(self, json: serde_json::Result<String>) -> Result<(), Failure> {
        let json = json.map_err(|error| Failure::of(Kind::Failed, &error))?;
        let mut stdout = io::stdout().lock();
        written(writeln!(stdout, "{json}").and_then(|()| stdout.flush()))
    }

    /// Bytes on stdout.
    pub fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        written(io::stdout().lock().write_all(bytes))
    }

    /// A sentence for people on stderr, unless they want quiet.
    pub fn say(self, text: &str) {
        if !self.quiet {
            tell(&format!("{text}\n"));
        }
    }

    /// A warning on stderr: told even when quiet was asked for.
    pub fn warn(self, text: &str) {
        let yellow = Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()));
        tell(&format!("{yellow}warning:{yellow:#} {text}\n"));
    }

    /// Tells how the command failed: on stderr for people, and as a document on stdout for a script.
    pub fn failure(self, failure: &Failure) {
        if failure.is_told() {
            return;
        }
        tell(&failure.render());
        if self.json {
            // The code still tells when stdout is gone.
            let _ = self.document(&json!({"error": failure.as_json()}));
        }
    }
}

/// Says this on stderr, with its colours where they are shown. In one piece: a guard or a program that was started may say something too.
fn tell(text: &str) {
    let shows_colours = anstream::stderr().current_choice() != anstream::ColorChoice::Never;
    let text = if shows_colours { text.to_owned() } else { anstream::adapter::strip_str(text).to_string() };
    // Nobody hears: no reason to stop working.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| gone(&error))
}

/// What becomes of a write to stdout that failed: a reader that has seen enough (`| head`) is nothing to talk about.
pub fn gone(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::told(Kind::Signal(SIGPIPE)),
        _ => Failure::new(Kind::Failed, format!("cannot write to stdout: {error}")),
    }
}

/// Flushes what is left at the end of the command.
pub fn finish() -> Result<(), Failure> {
    written(io::stdout().lock().flush())
}
