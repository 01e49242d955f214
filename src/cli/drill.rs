//! `daykeep drill`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::failure::{Failure, Kind};
use super::figures::{self, Page};
use super::place::{self, VaultArg};
use super::remote;
use super::session::Session;
use super::signals::{Signal, Signals};
use crate::api::order::{self, Order};
use crate::drill::{self, Outcome, Request, Trees, drill};
use crate::event::Observer;

/// How many findings are told one by one.
const TOLD: usize = 50;

/// The arguments.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct Args {
    /// The repository (may be left out when there is only one) and the day (the newest if it is left out).
    #[arg(value_name = "REPO DAY", num_args = 0..=2)]
    words: Vec<String>,
    /// Where the scratch server and trees are made and removed again; the configuration's otherwise.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Read the files of the trees where they are, and copy none.
    #[arg(long)]
    hash_trees: bool,
    /// Leave the trees alone, but for the files that rows ask for: quicker, and no proof of the day.
    #[arg(long, conflicts_with = "hash_trees")]
    no_trees: bool,
    /// Ask the daemon to do it, as configured, and return at once.
    #[arg(long, conflicts_with_all = ["scratch", "hash_trees", "no_trees", "keep", "bin_dir", "vault"])]
    detach: bool,
    /// Leave what was restored where it is, without a server, for you to look at and to remove.
    #[arg(long)]
    keep: bool,
    /// Where initdb, postgres and pg_restore are; the best of this machine otherwise.
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    #[command(flatten)]
    vault: VaultArg,
}

/// Restores a day into a scratch place, compares it, and throws it away.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    if args.detach {
        let (place, day) = args.vault.place_and_day(&args.words, session)?;
        let order = Order::Drill(order::Drill { day });
        return remote::start(&place.name, &order, session);
    }
    let request = request(args, session)?;
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(Kind::Failed, format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(until_done_or_told(&request, session));
    runtime.shutdown_timeout(Duration::from_secs(1));
    tell(&outcome?, session)
}

fn request(args: &Args, session: &Session) -> Result<Request, Failure> {
    let (place, day) = args.vault.place_and_day(&args.words, session)?;
    let day = day.unwrap_or_else(|| "latest".to_owned());
    let mut request = if args.vault.is_given() {
        let place = &place;
        let directory = std::env::temp_dir().join(format!("daykeep-drill-{}", nix::unistd::geteuid()));
        Request::of_vault(place.open()?, &day, directory, None)
    } else {
        let config = session.config()?;
        let repository = place::repository(&config, &place.name)?;
        Request::of(repository, &config.state_dir, &day, &place::caller())?
    };
    if let Some(scratch) = &args.scratch {
        request.directory = std::path::absolute(scratch).unwrap_or_else(|_| scratch.clone());
    }
    if args.hash_trees {
        request.trees = Trees::Hash;
    }
    if args.no_trees {
        request.trees = Trees::Skip;
    }
    request.bin_dir = args.bin_dir.clone().or(request.bin_dir);
    request.keep = args.keep;
    Ok(request)
}

/// The first signal cancels the drill, which removes what it made; the next one ends the program at once: then the next drill removes
/// it.
async fn until_done_or_told(request: &Request, session: &Session) -> Result<Outcome, Failure> {
    let mut signals = Signals::listen()?;
    let progress = Arc::new(session.progress(""));
    let cancel = CancellationToken::new();
    let context = session.context_with(Arc::clone(&progress) as Arc<dyn Observer>, cancel.clone());
    let mut work = std::pin::pin!(drill(request, &context));
    let mut caught: Option<Signal> = None;
    let ended = loop {
        let signal = tokio::select! {
            biased;
            ended = &mut work => break ended,
            signal = signals.next() => signal,
        };
        cancel.cancel();
        if caught.replace(signal).is_some() {
            progress.finish();
            return Err(Failure::new(Kind::Signal(signal.number), format!("ended by a second {signal}")));
        }
        session.out.say(&format!("{signal}: the drill stops, and its scratch directory is removed"));
    };
    progress.finish();
    ended.map_err(|error| match caught {
        Some(signal) if matches!(error, drill::Error::Cancelled) => {
            Failure::new(Kind::Signal(signal.number), format!("the drill was stopped by {signal}"))
        }
        _ => Failure::from(error),
    })
}

fn tell(outcome: &Outcome, session: &Session) -> Result<(), Failure> {
    if session.out.json {
        session.out.document(&document(outcome))?;
    } else {
        session.out.text(&page(outcome).0)?;
    }
    if outcome.is_sound() { Ok(()) } else { Err(Failure::told(Kind::Damaged)) }
}

fn document(outcome: &Outcome) -> serde_json::Value {
    let compared = outcome.comparison.as_ref().map(|comparison| {
        json!({
            "databases": comparison.databases,
            "tables": comparison.tables,
            "rows": comparison.rows,
            "uncounted_tables": comparison.uncounted,
            "objects": comparison.objects,
            "constraints": comparison.constraints,
        })
    });
    json!({
        "job": outcome.job,
        "repository": outcome.repository,
        "day": outcome.day,
        "proven": outcome.is_proven(),
        "findings": outcome.findings,
        "notes": outcome.notes,
        "server_version": outcome.server,
        "compared": compared,
        "sealed": outcome.sealed,
        "trees": word(outcome.trees),
        "files": outcome.files,
        "bytes": outcome.bytes,
        "trees_damaged": outcome.trees_damaged,
        "checks": outcome.checks,
        "recovery_seconds": {
            "database": outcome.recovery.database,
            "trees": outcome.recovery.trees,
            "total": outcome.recovery.total,
        },
        "seconds": outcome.seconds,
        "kept": outcome.kept,
    })
}

fn word(trees: Trees) -> &'static str {
    match trees {
        Trees::Copy => "copy",
        Trees::Hash => "hash",
        Trees::Skip => "skip",
    }
}

fn page(outcome: &Outcome) -> Page {
    let mut page = Page::default();
    let job = outcome.job.map(|job| format!(" (job {job})")).unwrap_or_default();
    let Outcome { repository, day, .. } = outcome;
    let verdict = match (outcome.is_sound(), outcome.whole) {
        (true, true) => "is proven: it restores to what it was at the freeze point",
        (true, false) => {
            "restores to what it was, but for its trees, which were left alone: this proves nothing yet"
        }
        (false, _) => "is NOT proven: it does not restore to what it was at the freeze point",
    };
    page.line(format!("{repository}: day {day} {verdict}{job}"));
    for finding in outcome.findings.iter().take(TOLD) {
        page.line(format!("  differs: {finding}"));
    }
    if outcome.findings.len() > TOLD {
        page.line(format!("  and {} more; --json has them all", outcome.findings.len() - TOLD));
    }
    what_was_looked_at(&mut page, outcome);
    let seconds = &outcome.recovery;
    page.line(format!(
        "recovery on this machine: databases {}, trees {}, with the cross-check {}; the drill took {}",
        figures::length(seconds.database),
        figures::length(seconds.trees),
        figures::length(seconds.total),
        figures::length(outcome.seconds)
    ));
    for note in &outcome.notes {
        page.line(format!("note: {note}"));
    }
    if let Some(kept) = &outcome.kept {
        page.line(format!(
            "left in {}: start its server with pg_ctl, and remove it yourself",
            kept.display()
        ));
    }
    page
}

fn what_was_looked_at(page: &mut Page, outcome: &Outcome) {
    if let (Some(compared), Some(server)) = (&outcome.comparison, &outcome.server) {
        let with = if outcome.sealed { "the seal record" } else { "what the day says of itself" };
        page.line(format!(
            "databases: {} with {} and {} held against {with}; {} looked for; {} asked of every row; PostgreSQL {server}",
            compared.databases,
            figures::count(compared.tables, "table"),
            figures::count(compared.rows, "row"),
            figures::count(compared.objects, "object"),
            figures::count(compared.constraints, "constraint"),
        ));
        if compared.uncounted > 0 {
            page.line(format!(
                "  {} of extensions or of special kinds are there; how many rows they had is not recorded",
                figures::count(compared.uncounted, "table")
            ));
        }
    }
    let (files, size) = (figures::count(outcome.files, "file"), figures::size(outcome.bytes));
    match outcome.trees {
        Trees::Copy if outcome.trees_damaged > 0 => {
            let trees = figures::count(outcome.trees_damaged, "tree");
            page.line(format!(
                "trees: {trees} NOT restored: the first damaged file ends a tree, and `daykeep verify` tells of them all; of the others {files} \
                 ({size}) restored, every byte held against its digest"
            ));
        }
        Trees::Copy => {
            page.line(format!("trees: {files} ({size}) restored, every byte held against its digest"));
        }
        Trees::Hash => {
            page.line(format!("trees: {files} ({size}) read in the day, every byte held against its digest"));
        }
        Trees::Skip => page.line("trees: left alone"),
    }
    for check in &outcome.checks {
        let rows = figures::count(check.rows, "row");
        let missing = match check.missing {
            0 => "every file is there".to_owned(),
            missing => format!("{missing} files missing, as allow_missing = {} allows", check.allowed),
        };
        page.line(format!("cross-check {}: {rows}, {missing}", check.name));
    }
}
