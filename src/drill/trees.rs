//! The trees of a day, restored below the scratch directory, or read where they are.

use std::sync::Arc;

use crate::drill::{Error, Outcome, Request, Trees, is_in, room};
use crate::event::Context;
use crate::postgres::ScratchDir;
use crate::tree::restore::{self, Elsewhere, Source};
use crate::vault::Day;
use crate::verify;

/// Where they are put, below the scratch directory.
pub(super) const DIRECTORY: &str = "trees";

/// Restores or reads every tree; what is wrong with one is told in the outcome, and the next one follows.
pub(super) async fn restore(
    request: &Request,
    day: &Day,
    scratch: &ScratchDir,
    outcome: &mut Outcome,
    context: &Context,
) -> Result<(), Error> {
    let before = std::mem::take(&mut outcome.findings);
    match request.trees {
        Trees::Skip => {}
        Trees::Hash => read(request, day, outcome, context).await?,
        Trees::Copy => copy(request, day, scratch, outcome, context).await?,
    }
    let of_content = std::mem::take(&mut outcome.findings);
    outcome.findings = in_order(before, of_content);
    Ok(())
}

/// Lost content is worse news than the time or the mode of the same file, which was found before: it goes first, behind what concerns the whole
/// day.
fn in_order(before: Vec<String>, of_content: Vec<String>) -> Vec<String> {
    let (of_names, of_day): (Vec<_>, Vec<_>) =
        before.into_iter().partition(|finding| finding.starts_with("trees/"));
    let mut findings = of_day;
    for finding in of_content.into_iter().chain(of_names) {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

async fn copy(
    request: &Request,
    day: &Day,
    scratch: &ScratchDir,
    outcome: &mut Outcome,
    context: &Context,
) -> Result<(), Error> {
    for (name, tree) in &day.manifest().trees {
        let wish = Elsewhere {
            source: Source { tree_dir: day.trees().join(name), records: day.records(), tree: name.clone() },
            path: None,
            target: scratch.path().join(DIRECTORY).join(name),
            jobs: request.tree_jobs,
            durable: false,
            expected: Some(tree.entries),
        };
        let context = Arc::new(context.clone());
        let built = tokio::task::spawn_blocking(move || restore::elsewhere(&wish, &context));
        match built.await.map_err(|_| Error::Panicked)? {
            Ok(built) => {
                outcome.files += built.files;
                outcome.bytes += built.bytes;
            }
            Err(error) if is_of_the_day(&error, day) => {
                outcome.trees_damaged += 1;
                outcome.findings.push(format!("tree {name}: {}", with_cause(&error)));
            }
            Err(error) => {
                let cause = with_cause(&error);
                if room::is_full(scratch.path(), &cause) {
                    return Err(Error::Full { directory: request.directory.clone(), cause });
                }
                return Err(Error::Trees(error));
            }
        }
    }
    Ok(())
}

fn is_of_the_day(error: &restore::Error, day: &Day) -> bool {
    match error {
        restore::Error::Damaged { .. }
        | restore::Error::BadRecord { .. }
        | restore::Error::NoTree { .. }
        | restore::Error::Records(_) => true,
        restore::Error::File(error) => is_in(day, &error.path),
        _ => false,
    }
}

fn with_cause(error: &restore::Error) -> String {
    match error {
        restore::Error::File(error) => format!("{error}: {}", error.source),
        error => error.to_string(),
    }
}

/// Every file against its digest.
async fn read(request: &Request, day: &Day, outcome: &mut Outcome, context: &Context) -> Result<(), Error> {
    let choice = verify::Choice {
        databases: verify::Chosen::none(),
        bin_dir: request.bin_dir.clone(),
        ..verify::Choice::default()
    };
    let report = verify::day(day, &choice, context).await.map_err(Error::Verify)?;
    outcome.files += report.files;
    outcome.bytes += report.bytes;
    outcome.tell_damages(&report);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::in_order;

    #[test]
    fn lost_content_comes_before_the_times_of_names() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let before = words(&["manifest.json: changed", "trees/t/a: mtime", "trees/t/b: mode"]);
        let found = in_order(before, words(&["tree t: a: digest", "trees/t/b: mode"]));
        let wanted = ["manifest.json: changed", "tree t: a: digest", "trees/t/b: mode", "trees/t/a: mtime"];
        assert_eq!(found, words(&wanted));
    }
}
