//! Restores a tree by itself, for the tests that kill it and for the benches: `tree_restore_driver DIR VERB` keeps `DIR/live` as the tree
//! `files` of the day `DIR/day` (`keep`), restores that onto `DIR/live` (`forward`), takes it back (`back`), confirms it (`confirm`), or puts
//! the tree to `DIR/new` (`elsewhere`).
#![allow(clippy::print_stderr, reason = "a program of its own")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use daykeep::clock::SystemClock;
use daykeep::config::Tree;
use daykeep::event::{Context, Silent};
use daykeep::manifest::{RecordWriter, Released, Still};
use daykeep::tree::restore::{Elsewhere, Error, Plan, Source, State, Wish, elsewhere, plan};
use daykeep::tree::{Job, warm};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, verb] = args.as_slice() else {
        eprintln!("usage: tree_restore_driver DIR keep|forward|back|confirm|elsewhere");
        return ExitCode::from(2);
    };
    match restore(Path::new(dir), verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tree_restore_driver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn restore(dir: &Path, verb: &str) -> Result<(), Box<dyn std::error::Error>> {
    let context = Context {
        observer: Arc::new(Silent),
        cancel: tokio_util::sync::CancellationToken::new(),
        clock: Arc::new(SystemClock::new()),
    };
    let source = Source {
        tree_dir: dir.join("day/trees/files"),
        records: dir.join("day/files.jsonl.zst"),
        tree: "files".into(),
    };
    let directory = dir.join("state/restore/files");
    let there = Plan::open(&directory, 2)?;
    match (verb, there) {
        ("forward", there) => {
            let plan = match there {
                Some(plan) if plan.state()? != State::Discarding => plan,
                _ => plan_it(dir, source, &context)?,
            };
            if plan.state()? == State::Planned {
                plan.stage(&context)?;
            }
            Ok(plan.execute(&context)?)
        }
        ("keep", _) => Ok(keep(dir, source, &context)?),
        ("back", Some(plan)) => {
            plan.back(&context)?;
            Ok(plan.discard(&context)?)
        }
        ("confirm", Some(plan)) => Ok(plan.drop_aside(&context)?),
        ("elsewhere", _) => {
            let target = dir.join("new");
            let wish = Elsewhere { source, path: None, target, jobs: 2, durable: false, expected: None };
            Ok(elsewhere(&wish, &context).map(drop)?)
        }
        _ => Ok(()),
    }
}

fn plan_it(dir: &Path, source: Source, context: &Context) -> Result<Plan, Error> {
    let directory = dir.join("state/restore/files");
    plan(&Wish { source, tree: live(dir), path: None, directory, tag: "7".into(), jobs: 2 }, context)
}

fn live(dir: &Path) -> Tree {
    Tree {
        name: "files".into(),
        path: dir.join("live"),
        filters: Vec::new(),
        content_named: false,
        one_file_system: true,
    }
}

struct Witness;
impl Still for Witness {}
impl Released for Witness {}

fn keep(dir: &Path, source: Source, context: &Context) -> Result<(), Box<dyn std::error::Error>> {
    let (tree, target) = (live(dir), source.tree_dir);
    let job = Job { tree, target, previous: None, new_base: true, jobs: 2, copy_rate: None, idle: false };
    let fenced = warm(&job, context)?.fence(&Witness, context)?;
    let mut writer = RecordWriter::create(&source.records)?;
    fenced.finish(&Witness, &mut writer, context)?;
    writer.finish()?;
    Ok(())
}
