//! Asking before anything is changed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::show::shown;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::restore::{Answer, Consent, Plan};

/// Shows the plan and asks on the terminal, unless `--yes` was given.
#[derive(Debug)]
pub struct Asking<'a> {
    pub out: Output,
    pub progress: &'a Progress,
    pub now: Timestamp,
    pub yes: bool,
}

impl Consent for Asking<'_> {
    fn ask<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Answer> {
        // A bar that went on turning would write over the question.
        self.progress.finish();
        self.progress.aside(|| {
            // The document of a restore is its outcome: what leads to it is talk.
            let out = Output { quiet: self.out.quiet && self.yes, ..self.out };
            out.say(shown(plan, self.now).0.trim_end());
            plan.warnings.iter().for_each(|warning| self.out.warn(warning));
        });
        if self.yes {
            return async { Answer::Yes }.boxed();
        }
        let day = plan.day.clone();
        async move {
            // A thread of its own: a signal must be heard meanwhile.
            let answer = tokio::task::spawn_blocking(move || answer(&day)).await;
            if answer.unwrap_or(false) { Answer::Yes } else { Answer::No }
        }
        .boxed()
    }
}

/// Whether somebody can be asked.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn answer(day: &str) -> bool {
    let mut stderr = anstream::stderr();
    let asked = write!(stderr, "Restore? Type yes, or the name of the day: ").and_then(|()| stderr.flush());
    let mut line = String::new();
    asked.is_ok() && io::stdin().lock().read_line(&mut line).is_ok() && is_yes(&line, day)
}

fn is_yes(line: &str, day: &str) -> bool {
    let word = line.trim();
    word.eq_ignore_ascii_case("yes") || word == day
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn only_a_whole_word_is_a_yes() {
        let day = "2026-11-21T010000Z";
        assert!(is_yes("yes\n", day) && is_yes(" YES \r\n", day) && is_yes("2026-11-21T010000Z\n", day));
        assert!(
            !is_yes("", day) && !is_yes("y\n", day) && !is_yes("2026-11-21\n", day) && !is_yes("no\n", day)
        );
    }
}
