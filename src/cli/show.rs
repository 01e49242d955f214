//! `daykeep show`

use jiff::Timestamp;
use serde_json::json;

use super::failure::{Failure, Kind};
use super::figures::{self, Page};
use super::place::{self, VaultArg};
use super::session::Session;
use crate::manifest::{DatabaseRecord, JobState, Manifest, UnfinishedJobs};
use crate::vault::{Day, ProofKind};

/// How many of a day's proofs are shown.
const PROOFS: usize = 3;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(override_usage = "daykeep show [OPTIONS] [REPO] <DAY>")]
pub struct Args {
    /// The repository (may be left out when there is only one) and the day: latest, current, dayN (N days before the
    /// latest), a date, or a full name.
    #[arg(value_name = "DAY", num_args = 0..=2)]
    words: Vec<String>,
    #[command(flatten)]
    vault: VaultArg,
}

/// Shows what a day says of itself.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let (repository, words) = place::split(&args.words, 1);
    let Some(which) = words.first() else {
        let failure = Failure::new(Kind::Usage, "which day? `daykeep show [REPO] DAY` shows one");
        return Err(failure.hint("`latest` is the newest; `daykeep list` shows the days there are"));
    };
    let day = args.vault.place(session, repository)?.day(which, session)?;
    if session.out.json {
        let document = json!({"path": day.path(), "manifest": day.manifest(), "proofs": day.vault().proofs(day.name())?});
        return session.out.document(&document);
    }
    let mut page = shown(&day, session.now());
    proofs(&day, session.now(), &mut page);
    session.out.text(&page.0)
}

/// What its newest verifies and drills said.
fn proofs(day: &Day, now: Timestamp, page: &mut Page) {
    let proofs = match day.vault().proofs(day.name()) {
        Ok(proofs) => proofs,
        Err(error) => return page.line(format!("proofs: {error}")),
    };
    for proof in proofs.iter().rev().take(PROOFS) {
        let what = match proof.kind {
            ProofKind::Verify => "verify",
            ProofKind::Drill => "drill",
        };
        let found = match (proof.ok, proof.sampled) {
            (true, None) => "sound".to_owned(),
            (true, Some(percent)) => format!("sound, as far as a sample of {percent}% tells"),
            (false, _) => format!("{}: {}", figures::count(proof.damages, "damage"), proof.first.join("; ")),
        };
        let (age, length) = (figures::age(proof.at, now), figures::length(proof.seconds.total));
        page.line(format!("{what} {age}, in {length}: {found}"));
    }
}

fn shown(day: &Day, now: Timestamp) -> Page {
    let manifest = day.manifest();
    let mut page = Page::default();
    let age = figures::age(manifest.freeze_point, now);
    page.line(format!("day {} of {} ({age})", manifest.day, manifest.repository));
    page.line(format!("  where      {}", day.path().display()));
    page.line(format!("  shows      {:.3}", manifest.freeze_point));
    let chain = if manifest.base {
        "begins a chain".to_owned()
    } else {
        format!("of the chain from {}", manifest.base_day)
    };
    page.line(format!("  sequence   {}, {chain}", manifest.sequence));
    let took = manifest.sealed.duration_since(manifest.started).as_secs_f64();
    page.line(format!(
        "  made       by {}, run {}, in {}",
        manifest.made_by,
        manifest.run,
        figures::length(took)
    ));
    hold(manifest, &mut page);
    if let Some(database) = &manifest.database {
        databases(database, &mut page);
    }
    trees(manifest, &mut page);
    for check in &manifest.checks {
        page.line(format!(
            "check {}: {}, {} missing",
            check.name,
            figures::count(check.rows, "row"),
            check.missing
        ));
    }
    if let Some(to_unpack) = &manifest.to_unpack {
        page.line(format!("gold alone: after a restore, {to_unpack}"));
    }
    if let Some(unfinished) = &manifest.unfinished_jobs {
        jobs(unfinished, &mut page);
    }
    page
}

fn jobs(unfinished: &UnfinishedJobs, page: &mut Page) {
    page.line(format!("unfinished at the freeze point: {}", figures::count(unfinished.count, "job")));
    if unfinished.jobs.is_empty() {
        return;
    }
    let heading = ["  JOB", "TYPE", "STATE", "UPLOAD", "ARGUMENTS", "NAME"];
    let name = |text: Option<&str>| figures::name(text.unwrap_or("-").as_bytes());
    let rows = unfinished.jobs.iter().map(|job| {
        let state = match job.state {
            JobState::Waiting => "waiting",
            JobState::Running => "running",
            JobState::Paused => "paused",
        };
        vec![
            format!("  {}", job.jq_pk),
            name(Some(&job.kind)),
            state.to_owned(),
            job.upload.map_or_else(|| "-".to_owned(), |upload| upload.to_string()),
            name(job.args.as_deref()),
            name(job.name.as_deref()),
        ]
    });
    page.0.push_str(&figures::table(&heading, &[], rows.collect()));
    let more = unfinished.count - (unfinished.jobs.len() as u64).min(unfinished.count);
    if more > 0 {
        page.line(format!("  and {more} more"));
    }
}

fn hold(manifest: &Manifest, page: &mut Page) {
    let hold = &manifest.hold;
    let length = figures::length(hold.held_seconds);
    let by = if hold.paused_by_us {
        "paused by daykeep"
    } else {
        "stopped by somebody else before the run, and left so"
    };
    page.line(format!("hold {}: {length}, {by}", hold.adapter));
    for proof in &hold.proofs {
        page.line(format!("  proof      {proof}"));
    }
}

fn databases(database: &DatabaseRecord, page: &mut Page) {
    page.line(format!(
        "PostgreSQL {}: {} new of {}",
        database.server_version_text,
        figures::size(database.new_bytes),
        figures::size(database.stored_bytes)
    ));
    page.line(format!("  pg_dump    {}", database.pg_dump_version));
    if !database.wal_begin.is_empty() {
        page.line(format!("  WAL        {} to {}", database.wal_begin, database.wal_end));
    }
    let heading = ["  DATABASE", "ENCODING", "TABLES", "IN REST", "ROWS", "TEXT"];
    let rows = database
        .databases
        .iter()
        .map(|entry| {
            vec![
                format!("  {}", figures::name(entry.name.as_bytes())),
                entry.encoding.clone(),
                entry.tables.to_string(),
                entry.rest_tables.to_string(),
                entry.rows.to_string(),
                figures::size(entry.row_bytes),
            ]
        })
        .collect();
    page.0.push_str(&figures::table(&heading, &[2, 3, 4, 5], rows));
    page.line("  TABLES, ROWS, TEXT: what daykeep copied, and its size as text; IN REST: other tables, whose rows are in rest.dump");
}

fn trees(manifest: &Manifest, page: &mut Page) {
    if manifest.trees.is_empty() {
        return;
    }
    page.line("trees");
    let heading = ["  TREE", "FILES", "SIZE", "COPIED", "LINKED", "NEW", "FENCE", "SOURCE"];
    let rows = manifest
        .trees
        .iter()
        .map(|(name, tree)| {
            vec![
                format!("  {name}"),
                tree.files.to_string(),
                figures::size(tree.bytes),
                tree.copied_files.to_string(),
                tree.linked_files.to_string(),
                figures::size(tree.copied_bytes),
                format!("{} {}ms", tree.fence, tree.fence_ms),
                tree.source.clone(),
            ]
        })
        .collect();
    page.0.push_str(&figures::table(&heading, &[1, 2, 3, 4, 5], rows));
}
