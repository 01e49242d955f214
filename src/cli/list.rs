//! `daykeep list`

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::failure::Failure;
use super::figures::{self, Page};
use super::place::{Place, VaultArg};
use super::session::Session;
use crate::api::wire;
use crate::vault::{self, Days, Quarantined, Standing, Vault};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository; without it, every one.
    #[arg(value_name = "REPO")]
    repository: Option<String>,
    #[command(flatten)]
    vault: VaultArg,
}

/// A day in the list.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    day: wire::Day,
    rows: u64,
    age_seconds: i64,
    /// What its verifies and drills say; unknown too when that cannot be read.
    standing: Standing,
}

/// Shows the days, the newest first.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let named = args.repository.is_some();
    let mut page = Page::default();
    let mut documents = Vec::new();
    for place in args.vault.places(session, args.repository.as_deref())? {
        // A repository whose first run is still to come has no vault yet; one that is asked for by name should have.
        let (listed, quarantined) = match Vault::open(&place.vault, &place.name) {
            Ok(vault) => {
                let days = vault.days(session.now())?;
                (listed(&vault, &days, session.now()), days.quarantined)
            }
            Err(vault::Error::NoVault { .. }) if !named => (Vec::new(), Vec::new()),
            Err(error) => return Err(error.into()),
        };
        if session.out.json {
            documents.push(document(&place, &listed, &quarantined));
        } else {
            show(&place, &listed, &quarantined, session.now(), &mut page);
        }
    }
    if session.out.json {
        return session.out.document(&json!({"repositories": documents}));
    }
    session.out.text(&page.0)
}

fn listed(vault: &Vault, days: &Days, now: Timestamp) -> Vec<Listed> {
    days.good
        .iter()
        .rev()
        .map(|day| {
            let manifest = day.manifest();
            let databases = manifest.database.iter().flat_map(|database| &database.databases);
            Listed {
                day: wire::Day::from(manifest),
                rows: databases.map(|database| database.rows).sum(),
                age_seconds: now.as_second() - manifest.freeze_point.as_second(),
                standing: vault.proofs(day.name()).map_or(Standing::Unknown, |proofs| Standing::of(&proofs)),
            }
        })
        .collect()
}

fn document(place: &Place, listed: &[Listed], quarantined: &[Quarantined]) -> serde_json::Value {
    let quarantined: Vec<_> = quarantined
        .iter()
        .map(|day| json!({"name": day.name, "reason": day.reason, "sequence": day.sequence}))
        .collect();
    json!({"repository": place.name, "vault": place.vault, "days": listed, "quarantined": quarantined})
}

fn show(place: &Place, listed: &[Listed], quarantined: &[Quarantined], now: Timestamp, page: &mut Page) {
    let days = u64::try_from(listed.len()).unwrap_or(u64::MAX);
    page.line(format!("{}: {} in {}", place.name, figures::count(days, "day"), place.vault.display()));
    if !listed.is_empty() {
        let heading = ["DAY", "AGE", "SEQ", "BASE", "HELD", "ROWS", "FILES", "NEW", "SIZE", "PROOF"];
        let rows = listed.iter().map(|listed| row(listed, now)).collect();
        page.0.push_str(&figures::table(&heading, &[2, 4, 5, 6, 7, 8], rows));
    }
    for day in quarantined {
        page.line(format!("{}  QUARANTINED: {}", figures::name(day.name.as_bytes()), day.reason));
    }
}

fn row(listed: &Listed, now: Timestamp) -> Vec<String> {
    let day = &listed.day;
    vec![
        day.name.clone(),
        figures::age(day.freeze_point, now),
        day.sequence.to_string(),
        if day.base { "base".to_owned() } else { String::new() },
        figures::length(day.held_seconds),
        listed.rows.to_string(),
        day.files.to_string(),
        figures::size(day.new_bytes),
        figures::size(day.bytes),
        listed.standing.word().to_owned(),
    ]
}
