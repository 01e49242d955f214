//! Asking before anything is changed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::show;
use crate::cli::figures::Page;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::restore::{Answer, Consent, EndPlan, Plan};

/// Shows the plan and asks on the terminal, unless `--yes` was given.
#[derive(Debug)]
pub struct Asking<'a> {
    pub out: Output,
    pub progress: &'a Progress,
    pub now: Timestamp,
    pub yes: bool,
    /// Somebody who presses ctrl-C at the question has answered.
    pub cancel: CancellationToken,
}

impl Asking<'_> {
    fn show(&self, page: &Page, warnings: &[String]) {
        // A bar that went on turning would write over the question.
        self.progress.finish();
        self.progress.aside(|| {
            // The document of a restore is its outcome: what leads to it is talk.
            let out = Output { quiet: self.out.quiet && self.yes, ..self.out };
            out.say(page.0.trim_end());
            for warning in warnings {
                self.out.warn(warning);
            }
        });
    }

    /// The answer to a question that names the day.
    fn answer(&self, question: &'static str, day: &str) -> BoxFuture<'_, Answer> {
        if self.yes {
            return async { Answer::Yes }.boxed();
        }
        let day = day.to_owned();
        async move {
            // A thread of its own: a signal must be heard meanwhile.
            let asked = tokio::task::spawn_blocking(move || is_agreed(question, &day));
            tokio::select! {
                agreed = asked => if agreed.unwrap_or(false) { Answer::Yes } else { Answer::No },
                () = self.cancel.cancelled() => Answer::No,
            }
        }
        .boxed()
    }
}

impl Consent for Asking<'_> {
    fn ask<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Answer> {
        self.show(&show::shown(plan, self.now), &plan.warnings);
        self.answer("Restore? Type yes, or the name of the day: ", &plan.day)
    }

    fn ask_to_end<'a>(&'a self, plan: &'a EndPlan) -> BoxFuture<'a, Answer> {
        self.show(&show::ending(plan, self.now), &[]);
        let question = if plan.undo {
            "Take the restore back? Type yes, or the name of the day: "
        } else {
            "Drop what was there before? Type yes, or the name of the day: "
        };
        self.answer(question, &plan.restore.day)
    }
}

/// Whether somebody can be asked.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn is_agreed(question: &str, day: &str) -> bool {
    let mut stderr = anstream::stderr();
    let asked = write!(stderr, "{question}").and_then(|()| stderr.flush());
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
