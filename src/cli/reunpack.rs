//! `daykeep reunpack`

use serde_json::json;

use super::failure::{Failure, Kind};
use super::figures::{self, Page};
use super::place;
use super::session::{Session, wait_for};
use crate::reunpack::{self, Outcome, Plan, Site, Upload};

/// How many uploads without gold an error names; the table has all of them.
const NAMED: usize = 20;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Args {
    /// The repository; may be left out when only one is configured.
    #[arg(value_name = "REPO")]
    repository: Option<String>,
    /// Show what is missing, and what it will take, and change nothing.
    #[arg(long, group = "what")]
    plan: bool,
    /// Queue the unpack jobs.
    #[arg(long, group = "what")]
    yes: bool,
    /// Only this upload; may be given several times.
    #[arg(long, value_name = "NUMBER")]
    upload: Vec<i64>,
}

/// Has FOSSology unpack again what is missing in `files`.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let config = session.config()?;
    let repository = place::configured(&config, args.repository.as_deref())?;
    let site = Site::of(repository)?;
    let context = session.context();
    let (plan, outcome) = wait_for(async {
        let plan = reunpack::plan(&site, &context).await?;
        let outcome =
            if args.yes { Some(reunpack::queue(&site, &plan, &args.upload, &context).await?) } else { None };
        Ok((plan, outcome))
    })?;
    let shown = Shown { plan: &plan, only: &args.upload };
    if session.out.json {
        let uploads: Vec<&Upload> = shown.uploads().collect();
        session.out.document(&json!({
            "repository": repository.name,
            "plan": {
                "rows": plan.rows,
                "missing_files": plan.missing_files,
                "missing_bytes": plan.missing_bytes,
                "unneeded_files": plan.unneeded_files,
                "past_jobs": plan.past_jobs,
                "seconds": plan.seconds,
                "uploads": uploads,
            },
            "outcome": outcome,
        }))?;
    } else {
        session.out.text(&shown.page(outcome.as_ref()).0)?;
    }
    verdict(&shown, session)
}

/// The plan, or the part of it that was asked for.
struct Shown<'a> {
    plan: &'a Plan,
    only: &'a [i64],
}

impl Shown<'_> {
    fn uploads(&self) -> impl Iterator<Item = &Upload> {
        let only = self.only;
        self.plan.uploads.iter().filter(move |upload| only.is_empty() || only.contains(&upload.upload))
    }

    fn page(&self, outcome: Option<&Outcome>) -> Page {
        let plan = self.plan;
        let mut page = Page::default();
        if plan.missing_files == 0 {
            page.line(format!("no file is missing: {} of pfile", figures::count(plan.rows, "row")));
            return page;
        }
        page.line(format!(
            "{} ({}) missing of {} rows of pfile, in {}",
            figures::count(plan.missing_files, "file"),
            figures::size(plan.missing_bytes),
            plan.rows,
            figures::count(plan.uploads.len() as u64, "upload"),
        ));
        if plan.unneeded_files > 0 {
            page.line(format!("{} of them belong to no upload: nobody needs them", plan.unneeded_files));
        }
        let heading = ["  UPLOAD", "NAME", "MISSING", "SIZE", "GOLD", "TIME", "JOB", "WAITING"];
        let rows = self.uploads().map(cells).collect();
        page.0.push_str(&figures::table(&heading, &[2, 3, 4, 5], rows));
        page.line(match plan.seconds {
            Some(seconds) => format!(
                "to expect: {} more in files, in {} (one upload after the other; by {} of the past)",
                figures::size(plan.missing_bytes),
                figures::length(seconds),
                figures::count(plan.past_jobs, "unpack job"),
            ),
            None => format!(
                "to expect: {} more in files; no unpack job of the past tells how long it will take",
                figures::size(plan.missing_bytes)
            ),
        });
        if let Some(outcome) = outcome {
            tell(outcome, &mut page);
        }
        page
    }
}

fn cells(upload: &Upload) -> Vec<String> {
    let gold = match &upload.gold {
        None => "none".to_owned(),
        Some(gold) if gold.present => figures::size(gold.bytes),
        Some(_) => "MISSING".to_owned(),
    };
    let job = upload.queued.map_or_else(|| "-".to_owned(), |job| format!("{job} queued"));
    vec![
        format!("  {}", upload.upload),
        figures::name(upload.name.as_bytes()),
        upload.missing_files.to_string(),
        figures::size(upload.missing_bytes),
        gold,
        upload.seconds.map_or_else(|| "?".to_owned(), figures::length),
        job,
        upload.waiting.len().to_string(),
    ]
}

fn tell(outcome: &Outcome, page: &mut Page) {
    for queued in &outcome.queued {
        let how = if queued.new { "queued" } else { "was queued already" };
        let waiting = match queued.waiting.len() {
            0 => String::new(),
            number => format!("; {} now for it", plural_waits(number as u64)),
        };
        page.line(format!("upload {}: job {} {how}{waiting}", queued.upload, queued.jq_pk));
    }
    if !outcome.queued.is_empty() {
        page.line(if outcome.told {
            "the scheduler was told"
        } else {
            "the scheduler was not told: it finds the jobs when it runs, within two minutes"
        });
    }
}

fn plural_waits(jobs: u64) -> String {
    if jobs == 1 { "1 job waits".to_owned() } else { format!("{jobs} jobs wait") }
}

/// What cannot come back fails the command, after all that could be done.
fn verdict(shown: &Shown<'_>, session: &Session) -> Result<(), Failure> {
    let known = |wanted: &&i64| shown.plan.uploads.iter().any(|upload| upload.upload == **wanted);
    for upload in shown.only.iter().filter(|wanted| !known(wanted)) {
        session.out.say(&format!("upload {upload} misses no file, or is not there"));
    }
    let lost: Vec<String> = shown
        .uploads()
        .filter(|upload| !upload.can_be_unpacked())
        .map(|upload| upload.upload.to_string())
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    let text = format!("the gold is missing, too, of {}", uploads_named(&lost));
    let failure = Failure::new(Kind::Failed, text);
    let failure = failure.hint("restore the tree from a day that has it, or upload it again");
    if session.out.json {
        session.out.warn(failure.text());
        return Err(Failure::told(Kind::Failed));
    }
    Err(failure)
}

fn uploads_named(uploads: &[String]) -> String {
    let noun = if uploads.len() == 1 { "upload" } else { "uploads" };
    let named = uploads.len().min(NAMED);
    let more = match uploads.len() - named {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{noun} {}{more}", uploads[..named].join(", "))
}

#[cfg(test)]
mod tests {
    use super::{NAMED, uploads_named};

    #[test]
    fn many_uploads_are_counted() {
        let uploads: Vec<String> = (1..=NAMED + 2).map(|upload| upload.to_string()).collect();
        assert_eq!(uploads_named(&uploads[..1]), "upload 1");
        assert_eq!(uploads_named(&uploads[..2]), "uploads 1, 2");
        assert!(uploads_named(&uploads).ends_with(", 20 and 2 more"));
    }
}
