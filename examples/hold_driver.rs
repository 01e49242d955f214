//! Holds a repository as a run does, step by step as its stdin says, so that a test can kill it at any of them.
//!
//! `hold_driver hold|restore|resume CONFIG REPOSITORY STATE_DIR` says one JSON line after each step; `guard RECORD` is the guard;
//! `leftovers STATE_DIR [--force]` is the release by somebody else; `give-up STATE_DIR REPOSITORY` forgets; `probe CONFIG REPOSITORY` looks.
#![allow(clippy::disallowed_methods, reason = "a driver of tests has doors of its own")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a driver fails loudly")]
#![allow(clippy::print_stdout, reason = "its answers are lines on stdout")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daykeep::clock::SystemClock;
use daykeep::config::{self, Repository};
use daykeep::event::{Context, Event, Observer};
use daykeep::hold::{self, Error, Held, Purpose, Request};
use serde_json::json;

struct Tell;

impl Observer for Tell {
    fn observe(&self, event: &Event) {
        say(&json!({ "step": "event", "event": event }));
    }
}

fn say(line: &serde_json::Value) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}

fn failed(error: &Error) {
    let debug = format!("{error:?}");
    let kind = debug.split([' ', '(', '{']).next().unwrap_or_default();
    say(&json!({ "step": "error", "kind": kind, "text": error.to_string() }));
}

fn context() -> Context {
    Context {
        observer: Arc::new(Tell),
        cancel: tokio_util::sync::CancellationToken::new(),
        clock: Arc::new(SystemClock::new()),
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["guard", record] => hold::guard(Path::new(record)).await.expect("the record can be read"),
        [verb @ ("hold" | "restore" | "resume"), file, name, state_dir] => {
            let guard = std::env::var_os("GUARD").map_or_else(own, PathBuf::from);
            Box::pin(run(verb, &repository(file, name), Path::new(state_dir), &guard)).await;
        }
        ["give-up", state_dir, name] => match hold::give_up(Path::new(state_dir), name).await {
            Ok(Some(record)) => say(&json!({ "step": "given_up", "stays": record.release.subject() })),
            Ok(None) => say(&json!({ "step": "done" })),
            Err(error) => failed(&error),
        },
        ["leftovers", state_dir, force @ ..] => leftovers(Path::new(state_dir), !force.is_empty()).await,
        ["probe", file, name] => {
            let repository = repository(file, name);
            for finding in hold::probe(&repository.hold, server_of(&repository)).await {
                say(&json!({ "step": "finding", "ok": finding.ok, "text": finding.text }));
            }
        }
        other => panic!("unknown: {other:?}"),
    }
}

fn own() -> PathBuf {
    std::env::current_exe().expect("this program")
}

fn repository(file: &str, name: &str) -> Repository {
    let mut config = config::load(Path::new(file)).unwrap_or_else(|error| panic!("{error}"));
    config.repositories.remove(name).expect("the repository is configured")
}

fn server_of(repository: &Repository) -> Option<&config::Server> {
    repository.database.as_ref().map(|database| &database.server)
}

async fn run(verb: &str, repository: &Repository, state_dir: &Path, guard: &Path) {
    let context = context();
    let mut lines = lines_of_stdin();
    let request = Request {
        repository: &repository.name,
        run: 7,
        purpose: if verb == "hold" { Purpose::Backup } else { Purpose::Restore },
        hold: &repository.hold,
        server: server_of(repository),
        state_dir,
        guard,
    };
    let outcome = {
        let pausing = async {
            if verb == "resume" {
                hold::resume(request, &context).await
            } else {
                hold::pause(request, &context).await
            }
        };
        tokio::pin!(pausing);
        loop {
            tokio::select! {
                outcome = &mut pausing => break outcome,
                Some(line) = lines.recv() => match line.as_str() {
                    "cancel" => context.cancel.cancel(),
                    // The future is dropped in the middle of the pause.
                    "drop" => { say(&json!({ "step": "dropped" })); break Err(Error::Cancelled) }
                    other => panic!("cannot {other} while pausing"),
                },
            }
        }
    };
    let held = match outcome {
        Ok(held) => held,
        Err(error) => {
            failed(&error);
            // The process lives on, as a daemon does after a failed run.
            while lines.recv().await.is_some() {}
            return;
        }
    };
    say(&json!({ "step": "held", "evidence": held.evidence() }));
    follow(held, &mut lines).await;
}

/// Does what stdin says with a hold.
async fn follow(mut held: Held, lines: &mut tokio::sync::mpsc::UnboundedReceiver<String>) {
    while let Some(line) = lines.recv().await {
        held = match line.as_str() {
            "keep" => {
                match held.keep("a restore is half way").await {
                    Ok(()) => say(&json!({ "step": "kept" })),
                    Err(error) => failed(&error),
                }
                held
            }
            "release" | "start" | "stop" => {
                let done = match line.as_str() {
                    "start" => held.release_and_start().await,
                    "stop" => held.release_to_stopped().await,
                    _ => held.release().await,
                };
                match done {
                    Ok(released) => say(&json!({ "step": "released", "evidence": released.evidence() })),
                    Err(error) => failed(&error),
                }
                break;
            }
            "drop" => {
                drop(held);
                say(&json!({ "step": "dropped" }));
                break;
            }
            "panic" => {
                let panicked = tokio::spawn(async move { fails(&held) }).await;
                assert!(panicked.is_err(), "it panicked");
                break;
            }
            "still" => {
                match held.still_idle().await {
                    Ok(()) => say(&json!({ "step": "still", "evidence": held.evidence() })),
                    Err(error) => failed(&error),
                }
                held
            }
            "expired" => {
                held.expired().await;
                say(&json!({ "step": "expired" }));
                held
            }
            other => panic!("unknown step {other}"),
        };
    }
    // As above; the end of stdin ends it.
    while lines.recv().await.is_some() {}
}

fn fails(_held: &Held) {
    panic!("a bug in the freeze");
}

async fn leftovers(state_dir: &Path, force: bool) {
    let found =
        hold::release_leftovers(state_dir, None, force, &context()).await.expect("records can be read");
    for leftover in found {
        let outcome = format!("{:?}", leftover.outcome);
        let name = outcome.split(['(', ' ']).next().unwrap_or_default();
        say(&json!({ "step": "leftover", "outcome": name, "text": outcome, "run": leftover.record.run }));
    }
    say(&json!({ "step": "done" }));
}

fn lines_of_stdin() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}
