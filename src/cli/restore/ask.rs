//! Asking before anything is changed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::show;
use crate::cli::figures::{self, Page};
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

    fn answer(&self, question: &'static str) -> BoxFuture<'_, Answer> {
        if self.yes {
            return async { Answer::Yes }.boxed();
        }
        async move {
            // A thread of its own: a signal must be heard meanwhile.
            let asked = tokio::task::spawn_blocking(move || asked(question));
            tokio::select! {
                answer = asked => answer.unwrap_or(Answer::No),
                () = self.cancel.cancelled() => Answer::No,
            }
        }
        .boxed()
    }
}

impl Consent for Asking<'_> {
    fn ask<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Answer> {
        self.show(&show::shown(plan, self.now), &plan.warnings);
        self.answer("Restore? Type yes or no: ")
    }

    fn ask_to_end<'a>(&'a self, plan: &'a EndPlan) -> BoxFuture<'a, Answer> {
        self.show(&show::ending(plan, self.now), &[]);
        self.answer(if plan.undo {
            "Take the restore back? Type yes or no: "
        } else {
            "Drop what was there before? Type yes or no: "
        })
    }
}

/// Whether somebody can be asked.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks until there is an answer.
fn asked(question: &str) -> Answer {
    let mut stderr = anstream::stderr();
    loop {
        let mut line = String::new();
        let shown = write!(stderr, "{question}").and_then(|()| stderr.flush());
        if shown.and_then(|()| io::stdin().lock().read_line(&mut line)).is_err() {
            return Answer::No;
        }
        match answer_in(&line) {
            Ok(answer) => return answer,
            // What cannot be told to anybody is asked in vain.
            Err(word)
                if writeln!(stderr, "`{word}` is neither: type the whole word yes to go on").is_err() =>
            {
                return Answer::No;
            }
            Err(_) => {}
        }
    }
}

/// The answer, or the word that is none. An empty line, or the end of the input, is a no.
fn answer_in(line: &str) -> Result<Answer, String> {
    let word = line.trim();
    let is = |known: &str| word.eq_ignore_ascii_case(known);
    if is("yes") {
        Ok(Answer::Yes)
    } else if is("no") || is("n") || word.is_empty() {
        Ok(Answer::No)
    } else {
        Err(figures::name(word.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::answer_in;
    use crate::restore::Answer;

    #[test]
    fn only_a_whole_word_is_a_yes_and_what_is_neither_is_asked_again() {
        let [yes, no] = [Ok(Answer::Yes), Ok(Answer::No)];
        assert!(["yes\n", " YES \r\n"].iter().all(|line| answer_in(line) == yes));
        assert!(["no\n", "N\n", "\n", ""].iter().all(|line| answer_in(line) == no));
        assert_eq!(answer_in("y\n"), Err("y".to_owned()));
        assert_eq!(answer_in("2026-11-21T010000Z\n"), Err("2026-11-21T010000Z".to_owned()));
    }
}
