//! `daykeep prune`

use serde_json::json;

use super::failure::Failure;
use super::figures::{self, Page};
use super::place;
use super::session::Session;
use crate::retention::Plan;
use crate::vault::Vault;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository; may be left out when only one is configured.
    #[arg(value_name = "REPO")]
    repository: Option<String>,
    /// Only show what would be removed, and why the rest stays.
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Removes the days that no keep rule keeps.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let config = session.config()?;
    let repository = place::configured(&config, args.repository.as_deref())?;
    let zone = repository.zone();
    let vault = Vault::open(&repository.vault, &repository.name)?;
    if args.dry_run {
        let plan = vault.plan_prune(&repository.keep, &zone, session.now())?;
        return tell(&repository.name, &plan, None, session);
    }
    // The plan is made under the lock: a run that seals a day meanwhile would make it a plan of yesterday.
    let locked = vault.lock(&format!("daykeep prune, process {}", std::process::id()), session.now())?;
    let plan = locked.plan_prune(&repository.keep, &zone, session.now())?;
    let removed = locked.prune(&plan, &session.context())?;
    tell(&repository.name, &plan, Some(&removed), session)
}

fn tell(repository: &str, plan: &Plan, removed: Option<&[String]>, session: &Session) -> Result<(), Failure> {
    if session.out.json {
        let decisions: Vec<_> = plan
            .decisions
            .iter()
            .map(|decision| json!({"day": decision.name, "keep": decision.keep, "reasons": decision.reasons}))
            .collect();
        return session.out.document(&json!({
            "repository": repository,
            "dry_run": removed.is_none(),
            "refused": plan.refused,
            "decisions": decisions,
            "removed": removed.unwrap_or_default(),
        }));
    }
    let mut page = Page::default();
    let rows = plan
        .decisions
        .iter()
        .map(|decision| {
            let word = if decision.keep { "keep" } else { "remove" };
            vec![decision.name.clone(), word.to_owned(), decision.reasons.join(", ")]
        })
        .collect();
    page.0.push_str(&figures::table(&["DAY", "ACTION", "WHY"], &[], rows));
    session.out.text(&page.0)?;
    if let Some(reason) = &plan.refused {
        session.out.say(&format!("nothing is removed: {reason}"));
        return Ok(());
    }
    let count = u64::try_from(plan.removed().count()).unwrap_or(u64::MAX);
    let counted = figures::count(count, "day");
    match removed {
        None => session.out.say(&format!("{repository}: {counted} would be removed")),
        Some(removed) => {
            let done = u64::try_from(removed.len()).unwrap_or(u64::MAX);
            session.out.say(&format!("{repository}: {} removed", figures::count(done, "day")));
        }
    }
    Ok(())
}
