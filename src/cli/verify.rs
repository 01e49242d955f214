//! `daykeep verify`

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::failure::{Failure, Kind};
use super::figures::{self, Page};
use super::place::{self, Place, VaultArg};
use super::remote;
use super::session::Session;
use super::signals::{Signal, Signals};
use crate::api::order::{self, Order};
use crate::config::{self, Repository};
use crate::event::{Context, Observer};
use crate::vault::{Candidate, Vault};
use crate::verify::{self, Choice, Damage, Error, Prospect, Report, Request, Which};

/// How many damages are told one by one.
const TOLD: usize = 50;

/// The arguments.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct Args {
    /// The repository (may be left out when there is only one) and the day (the newest if it is left out).
    #[arg(value_name = "REPO DAY", num_args = 0..=2)]
    words: Vec<String>,
    /// Every day, those that are quarantined too.
    #[arg(long)]
    all: bool,
    /// Read the content of a random part only, as 5%. Names, attributes, numbers and lists are looked at all the same.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    sample: Option<f64>,
    /// Ask the daemon to do it, and return at once.
    #[arg(long, conflicts_with_all = ["repair", "bin_dir", "vault"])]
    detach: bool,
    /// Put back what is damaged from a whole copy, if there is one; asks for each file.
    #[arg(long)]
    repair: bool,
    /// Repair without asking.
    #[arg(long, requires = "repair")]
    yes: bool,
    /// Where pg_restore is; the best of this machine otherwise.
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    #[command(flatten)]
    vault: VaultArg,
}

fn percent(text: &str) -> Result<f64, String> {
    config::parse_percent(text).ok_or_else(|| match config::parse_percent(&format!("{text}%")) {
        Some(_) => format!("write it with its sign: `{text}%`"),
        None => "a percentage above 0% and up to 100% with its sign, for instance `5%`".to_owned(),
    })
}

/// Holds days against all that is known of them, and repairs what can be repaired.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let (place, which) = chosen(args, session)?;
    if args.detach {
        let (all, day) = match which {
            Which::All => (true, None),
            Which::Named(day) => (false, Some(day)),
            Which::Newest => (false, None),
        };
        let sample = args.sample.map(|percent| format!("{percent}%"));
        return remote::start(&place.name, &Order::Verify(order::Verify { day, all, sample }), session);
    }
    if args.repair && session.out.json && !args.yes {
        return Err(Failure::new(Kind::Usage, "--repair with --json cannot ask: add --yes"));
    }
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(Kind::Failed, format!("cannot start the runtime: {error}")))?;
    let work = Work { args, session, place: &place, vault: place.open()? };
    let done = runtime.block_on(until_done_or_told(&work, &which));
    runtime.shutdown_timeout(Duration::from_secs(1));
    let sound = done?;
    if sound { Ok(()) } else { Err(Failure::told(Kind::Damaged)) }
}

fn chosen(args: &Args, session: &Session) -> Result<(Place, Which), Failure> {
    let (place, day) = args.vault.place_and_day(&args.words, session)?;
    let which = match (args.all, day) {
        (true, None) => Which::All,
        (true, Some(day)) => {
            return Err(Failure::new(
                Kind::Usage,
                format!("--all is every day, and {day} is one: leave one of them out"),
            ));
        }
        (false, Some(day)) => Which::Named(day),
        (false, None) => Which::Newest,
    };
    Ok((place, which))
}

/// The first signal stops the work; a second one ends the program at once.
async fn until_done_or_told(work: &Work<'_>, which: &Which) -> Result<bool, Failure> {
    let session = work.session;
    let mut signals = Signals::listen()?;
    let progress = Arc::new(session.progress(""));
    let cancel = CancellationToken::new();
    let context = session.context_with(Arc::clone(&progress) as Arc<dyn Observer>, cancel.clone());
    let mut doing = std::pin::pin!(work.perform(which, &context, || progress.finish()));
    let mut caught: Option<Signal> = None;
    let ended = loop {
        let signal = tokio::select! {
            biased;
            ended = &mut doing => break ended,
            signal = signals.next() => signal,
        };
        cancel.cancel();
        if caught.replace(signal).is_some() {
            progress.finish();
            return Err(Failure::new(Kind::Signal(signal.number), format!("ended by a second {signal}")));
        }
        session.out.say(&format!("{signal}: the verify stops"));
    };
    progress.finish();
    ended.map_err(|failure| match caught {
        Some(signal) => {
            Failure::new(Kind::Signal(signal.number), format!("the verify was stopped by {signal}"))
        }
        None => failure,
    })
}

/// What is asked for.
struct Work<'a> {
    args: &'a Args,
    session: &'a Session,
    place: &'a Place,
    vault: Vault,
}

/// A day that was looked at.
struct Looked {
    report: Report,
    prospects: Vec<Prospect>,
    repaired: Vec<String>,
    /// What it is like after a repair.
    again: Option<Report>,
}

impl Looked {
    fn is_sound(&self) -> bool {
        self.again.as_ref().unwrap_or(&self.report).is_sound()
    }
}

impl Work<'_> {
    /// True: every day is sound, or was made so.
    async fn perform(&self, which: &Which, context: &Context, quiet: impl Fn()) -> Result<bool, Failure> {
        let repository = self.repository()?;
        let (job, reports) = self.verify(which, repository.as_ref(), context).await?;
        let mut all = Vec::new();
        for report in reports {
            let mut looked = Looked {
                prospects: self.prospects(&report, context)?,
                report,
                repaired: Vec::new(),
                again: None,
            };
            if !self.session.out.json {
                quiet();
                self.session.out.text(&page(&looked, &self.place.name).0)?;
            }
            if self.args.repair && looked.prospects.iter().any(|prospect| prospect.remedy.is_some()) {
                self.repair(&mut looked, context).await?;
            }
            all.push(looked);
        }
        let sound = all.iter().all(Looked::is_sound);
        if self.session.out.json {
            self.session.out.document(&document(&self.place.name, job, &all))?;
        } else if !sound
            && !self.args.repair
            && all.iter().flat_map(|looked| &looked.prospects).any(|one| one.remedy.is_some())
        {
            self.session.out.say("put back what can be put back with `daykeep verify --repair`");
        }
        Ok(sound)
    }

    fn repository(&self) -> Result<Option<Repository>, Failure> {
        if self.args.vault.is_given() {
            return Ok(None);
        }
        let config = self.session.config()?;
        Ok(Some(place::repository(&config, &self.place.name)?.clone()))
    }

    fn choice(&self, context: &Context) -> Choice {
        let bin_dir = self.args.bin_dir.clone().or_else(|| self.place.bin_dir.clone());
        let sample = self.args.sample.filter(|percent| *percent < 100.0);
        Choice { bin_dir, ..Choice::default() }.sampled(sample, context)
    }

    /// As a job, where there is a configuration that says where jobs are recorded.
    async fn verify(
        &self,
        which: &Which,
        repository: Option<&Repository>,
        context: &Context,
    ) -> Result<(Option<u64>, Vec<Report>), Failure> {
        let Some(repository) = repository else {
            return Ok((None, verify::days(&self.vault, which, &self.choice(context), context).await?));
        };
        let mut repository = repository.clone();
        if let (Some(database), Some(bin_dir)) = (&mut repository.database, &self.args.bin_dir) {
            database.bin_dir = Some(bin_dir.clone());
        }
        let request = Request {
            repository,
            state_dir: self.session.config()?.state_dir,
            which: which.clone(),
            sample: self.args.sample.filter(|percent| *percent < 100.0),
            started_by: place::caller(),
        };
        let outcome = Box::pin(verify::run(&request, context)).await?;
        Ok((Some(outcome.job), outcome.reports))
    }

    fn candidate(&self, name: &str) -> Result<Candidate, Failure> {
        Ok(self.vault.choose_any(name, self.session.now())?)
    }

    fn prospects(&self, report: &Report, context: &Context) -> Result<Vec<Prospect>, Failure> {
        if report.is_sound() {
            return Ok(Vec::new());
        }
        let Some(day) = self.candidate(&report.day)?.day else { return Ok(Vec::new()) };
        let trees = &day.manifest().trees;
        let live: BTreeMap<String, PathBuf> =
            trees.iter().map(|(name, tree)| (name.clone(), PathBuf::from(&tree.source))).collect();
        Ok(verify::prospects(&self.vault, &day, report, &live, context)?)
    }

    /// Asks, mends, and looks again.
    async fn repair(&self, looked: &mut Looked, context: &Context) -> Result<(), Failure> {
        let Some(day) = self.candidate(&looked.report.day)?.day else { return Ok(()) };
        let mut ask = Ask { all: self.args.yes, session: self.session };
        for prospect in looked.prospects.iter().filter(|prospect| prospect.remedy.is_some()) {
            let file = verify::shown(&prospect.damage.file);
            if !ask.may(&file, &prospect.sentence(), context).await? {
                continue;
            }
            // Locked for one file at a time: questions may take long.
            let holder = format!("daykeep verify --repair, process {}", std::process::id());
            let locked = self.vault.lock(&holder, self.session.now())?;
            match verify::mend(&locked, &day, prospect, context) {
                Ok(()) => looked.repaired.push(file),
                Err(Error::Cancelled) => return Err(Error::Cancelled.into()),
                Err(error @ Error::NotRepaired { .. }) => self.session.out.warn(&error.to_string()),
                Err(error) => {
                    let why = Failure::from(error).text_with_hints();
                    self.session.out.warn(&format!("{file} is not repaired: {why}"));
                }
            }
        }
        if looked.repaired.is_empty() {
            return Ok(());
        }
        self.session.out.say(&format!(
            "{} repaired; looking again",
            figures::count(looked.repaired.len() as u64, "file")
        ));
        let which = Which::Named(looked.report.day.clone());
        let again = verify::days(&self.vault, &which, &self.choice(context), context).await?;
        looked.again = again.into_iter().next();
        if let (Some(again), false) = (&looked.again, self.session.out.json) {
            let page = page_of(again, &[], &self.place.name);
            self.session.out.text(&page.0)?;
        }
        Ok(())
    }
}

/// Asks before a file is replaced.
struct Ask<'a> {
    all: bool,
    session: &'a Session,
}

impl Ask<'_> {
    async fn may(&mut self, file: &str, how: &str, context: &Context) -> Result<bool, Failure> {
        if self.all {
            return Ok(true);
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::new(Kind::Usage, "nobody is there to be asked: add --yes")
                .hint("nothing was repaired"));
        }
        self.session.out.warn(&format!("{file}: {how}"));
        // A thread of its own: a signal must be heard meanwhile.
        let asked = tokio::task::spawn_blocking(|| answer_to("repair it? [y]es, [n]o, [a]ll: "));
        let answer = tokio::select! {
            answer = asked => answer.unwrap_or_else(|_| Ok(String::new())),
            () = context.cancel.cancelled() => return Err(Error::Cancelled.into()),
        };
        let answer =
            answer.map_err(|error| Failure::new(Kind::Failed, format!("cannot read the answer: {error}")))?;
        self.all = answer.trim().eq_ignore_ascii_case("a");
        Ok(self.all || answer.trim().eq_ignore_ascii_case("y"))
    }
}

/// Asks where the talk goes, at once, and reads a line.
fn answer_to(question: &str) -> io::Result<String> {
    let mut stderr = anstream::stderr();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}

fn document(repository: &str, job: Option<u64>, all: &[Looked]) -> serde_json::Value {
    let days: Vec<_> = all
        .iter()
        .map(|looked| {
            let repairs: Vec<_> = looked
                .prospects
                .iter()
                .map(|prospect| {
                    json!({
                        "file": prospect.damage.file,
                        "remedy": prospect.remedy,
                        "shared_with": prospect.shared_with,
                        "sentence": prospect.sentence(),
                    })
                })
                .collect();
            json!({
                "day": looked.report.day,
                "sound": looked.is_sound(),
                "report": looked.report,
                "repairs": repairs,
                "repaired": looked.repaired,
                "report_after_repair": looked.again,
            })
        })
        .collect();
    json!({"repository": repository, "job": job, "sound": all.iter().all(Looked::is_sound), "days": days})
}

fn page(looked: &Looked, repository: &str) -> Page {
    page_of(&looked.report, &looked.prospects, repository)
}

fn page_of(report: &Report, prospects: &[Prospect], repository: &str) -> Page {
    let mut page = Page::default();
    let verdict = match report.total {
        0 => "is sound: it is what it was when it was sealed".to_owned(),
        total => format!("is DAMAGED: {}", figures::count(total, "damage")),
    };
    page.line(format!("{repository}: day {} {verdict}", report.day));
    for damage in report.damages.iter().take(TOLD) {
        line_of(damage, prospects, &mut page);
    }
    let told = u64::try_from(report.damages.len().min(TOLD)).unwrap_or(u64::MAX);
    if report.total > told {
        page.line(format!("  and {} more; --json has up to {}", report.total - told, verify::KEPT));
    }
    let sampled = match report.sampled {
        Some(sample) => format!(
            "; a sample: {}% of the content was read, and all names, attributes and numbers",
            sample.percent
        ),
        None => String::new(),
    };
    page.line(format!(
        "  read: {} ({}) in {}{sampled}",
        figures::count(report.files, "file"),
        figures::size(report.bytes),
        figures::length(report.seconds.total)
    ));
    for note in &report.notes {
        page.line(format!("  note: {note}"));
    }
    page
}

fn line_of(damage: &Damage, prospects: &[Prospect], page: &mut Page) {
    page.line(format!("  {}", verify::shown(&damage.file)));
    page.line(format!("    what:   {}", damage.problem));
    page.line(format!("    means:  {}", damage.means));
    if let Some(prospect) = prospects.iter().find(|prospect| prospect.damage == *damage) {
        page.line(format!("    repair: {}", prospect.sentence()));
    }
}
