//! Looks at a hold's configuration from outside, and changes nothing.

use super::Purpose;
use super::adapter::{Adapter as _, Before};
use super::command::is_there;
use super::fossology::Fossology;
use super::http::Http;
use super::nothing::Nothing;
use super::systemd;
use crate::config::{self, Adapter};

/// What a look at the hold has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether a hold would go well as far as this is concerned.
    pub ok: bool,
    /// What was seen, one sentence.
    pub text: String,
}

fn good(text: impl Into<String>) -> Finding {
    Finding { ok: true, text: text.into() }
}

fn bad(text: impl Into<String>) -> Finding {
    Finding { ok: false, text: text.into() }
}

/// Whether the scheduler can be reached, the commands are there, the units exist. Pauses nothing and runs no command of the
/// configuration.
pub async fn probe(hold: &config::Hold, server: Option<&config::Server>) -> Vec<Finding> {
    match &hold.adapter {
        Adapter::Fossology(settings) => fossology(settings, server, hold).await,
        Adapter::Systemd(settings) => units(settings).await,
        Adapter::Command(settings) => {
            let programs = [settings.is_running.as_ref(), Some(&settings.pause), settings.prove.as_ref()]
                .into_iter()
                .chain([settings.kill.as_ref(), Some(&settings.release)]);
            programs.flatten().map(|argv| program(argv)).collect()
        }
        Adapter::Http(settings) => vec![switch(settings).await],
        Adapter::None => vec![writers(server).await],
    }
}

async fn fossology(
    settings: &config::FossologyHold,
    server: Option<&config::Server>,
    hold: &config::Hold,
) -> Vec<Finding> {
    let mut findings = vec![program(&settings.start)];
    let Some(server) = server else {
        findings.push(bad("hold.fossology asks the database for its proofs, and none is configured"));
        return findings;
    };
    let mut adapter =
        Fossology::new(String::new(), settings.clone(), server.clone(), hold.drain, Purpose::Backup);
    findings.push(match adapter.look().await {
        Ok(Before::Running(_) | Before::Presumed(_)) => {
            good(format!("the scheduler answers at {}, and jobqueue can be read", settings.address))
        }
        Ok(Before::Stopped { why, .. }) => good(format!("{why}: a run would not pause it, and not start it")),
        Err(error) => bad(error.to_string()),
    });
    findings
}

async fn units(settings: &config::SystemdHold) -> Vec<Finding> {
    let units = match systemd::show(&settings.units).await {
        Ok(units) => units,
        Err(error) => return vec![bad(error.to_string())],
    };
    let mut findings = Vec::new();
    for unit in &units {
        findings.push(if unit.load == "not-found" {
            bad(format!("systemd knows no unit {}", unit.name))
        } else {
            good(format!("{} is {}", unit.name, unit.active))
        });
        if unit.after_daykeep {
            let name = &unit.name;
            findings.push(bad(format!(
                "{name} is started after daykeep.service, which at its start waits until {name} is released: take that After= away"
            )));
        }
        let triggers = unit.triggered_by.iter().filter(|trigger| !settings.units.contains(trigger));
        findings.extend(triggers.map(|trigger| {
            bad(format!("{trigger} can start {} during the hold: add it to the units of the hold", unit.name))
        }));
    }
    match (settings.action, systemd::stopped_with(&units).await) {
        (config::SystemdAction::Freeze, _) => {}
        (config::SystemdAction::Stop, Ok(others)) => findings.extend(
            others.iter().map(|other| good(format!("{} is stopped and started with them", other.name))),
        ),
        (config::SystemdAction::Stop, Err(error)) => findings.push(bad(error.to_string())),
    }
    findings
}

async fn switch(settings: &config::HttpHold) -> Finding {
    let word = match Http::new(settings.clone(), Purpose::Backup) {
        Ok(http) => http.word().await,
        Err(error) => Err(error),
    };
    match word {
        Ok(word) => good(format!("{} shows {word}", settings.url)),
        Err(error) => bad(error.to_string()),
    }
}

async fn writers(server: Option<&config::Server>) -> Finding {
    match Nothing::new(server.cloned(), Purpose::Backup).prove().await {
        Ok(_) => good("nothing is paused; open write transactions can be seen"),
        Err(error) => bad(error.to_string()),
    }
}

/// Whether a command can be started at all.
fn program(argv: &[String]) -> Finding {
    let Some(name) = argv.first() else { return bad("a command of the hold is empty") };
    if is_there(name) {
        return good(format!("{name} is there"));
    }
    bad(format!("{name} is not a program on this machine"))
}
