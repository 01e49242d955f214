//! Looking at everything that a run will need, changing nothing: what `daykeep config check` tells.

use std::path::Path;

use serde::Serialize;

use crate::config::{Config, Repository};
use crate::event::Context;

use crate::vault::{Vault, overlap};
use crate::{crosscheck, database, fs, hold, postgres};

/// The default of `[daemon] group`, which the package makes.
const GROUP: &str = "daykeep";

/// How a finding bears on the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// A run will go well, but somebody should know.
    Warning,
    /// A run will fail.
    Failure,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The repository; empty for the daemon's own things.
    pub repository: String,
    /// What was looked at: `database`, `tree gold`, `vault`, `hold`.
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub text: String,
    /// What to do about it, when something is to be done.
    pub hint: Option<String>,
}

/// Looks at every repository of a configuration.
pub async fn probe(config: &Config, context: &Context) -> Vec<Finding> {
    let mut findings = vec![state_dir(config)];
    findings.extend(group(config));
    for repository in config.repositories.values() {
        let mut of = Findings { repository: &repository.name, found: &mut findings };
        database_of(repository, &mut of, context).await;
        for tree in repository.trees.values() {
            tree_of(&tree.name, &tree.path, &repository.vault, &mut of);
        }
        vault_of(repository, &mut of);
        let server = repository.database.as_ref().map(|database| &database.server);
        for seen in hold::probe(&repository.hold, server).await {
            let verdict = if seen.ok { Verdict::Ok } else { Verdict::Failure };
            of.tell("hold", verdict, seen.text, None);
        }
    }
    findings
}

struct Findings<'a> {
    repository: &'a str,
    found: &'a mut Vec<Finding>,
}

impl Findings<'_> {
    fn tell(&mut self, subject: &str, verdict: Verdict, text: impl Into<String>, hint: Option<String>) {
        self.found.push(Finding {
            repository: self.repository.to_owned(),
            subject: subject.to_owned(),
            verdict,
            text: text.into(),
            hint,
        });
    }

    fn ok(&mut self, subject: &str, text: impl Into<String>) {
        self.tell(subject, Verdict::Ok, text, None);
    }

    fn fail(&mut self, subject: &str, error: &dyn std::error::Error, hint: Option<&str>) {
        self.tell(subject, Verdict::Failure, with_causes(error), hint.map(str::to_owned));
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        let below_text = below.to_string();
        if !text.contains(&below_text) {
            text.push_str(": ");
            text.push_str(&below_text);
        }
        cause = below.source();
    }
    text
}

fn state_dir(config: &Config) -> Finding {
    let finding = |verdict, text: String, hint: Option<&str>| Finding {
        repository: String::new(),
        subject: "state directory".to_owned(),
        verdict,
        text,
        hint: hint.map(str::to_owned),
    };
    match fs::probe_writable(&config.state_dir) {
        Ok(()) => finding(Verdict::Ok, format!("{} can be written", config.state_dir.display()), None),
        Err(error) => finding(
            Verdict::Failure,
            with_causes(&error),
            Some(
                "create it for the user that daykeepd runs as; a run writes its hold record there before it pauses anything",
            ),
        ),
    }
}

/// The daemon does without its group; one that is named and not there is a mistake.
fn group(config: &Config) -> Option<Finding> {
    let name = &config.daemon.group;
    let is_there = nix::unistd::Group::from_name(name).is_ok_and(|found| found.is_some());
    (name.as_str() != GROUP && !is_there).then(|| Finding {
        repository: String::new(),
        subject: "group".to_owned(),
        verdict: Verdict::Warning,
        text: format!(
            "there is no group {name:?}: only root and the daemon's own user can start and cancel runs"
        ),
        hint: Some(format!("`groupadd --system {name}`, or name another one in [daemon] group")),
    })
}

async fn database_of(repository: &Repository, of: &mut Findings<'_>, context: &Context) {
    let Some(database) = &repository.database else { return };
    match database::prepare(database, context).await {
        Ok(prepared) => {
            let report = prepared.report();
            of.ok("database", format!("PostgreSQL {} answers", report.server_version_text));
            of.ok("database", format!("pg_dump {} will be used", report.pg_dump_version));
            of.ok("database", format!("{} databases can be read", report.databases.len()));
            scratch_of(repository, report.server_version / 10_000, of).await;
            for warning in &report.warnings {
                of.tell("database", Verdict::Warning, warning.clone(), None);
            }
            for check in repository.checks.values() {
                let subject = format!("check {}", check.name);
                match crosscheck::ask(check, &prepared).await {
                    Ok(()) => {
                        of.ok(&subject, format!("the server understands its query of {}", check.database));
                    }
                    Err(error) => of.fail(&subject, &error, None),
                }
            }
        }
        Err(error) => {
            of.fail("database", &error, None);
            for name in repository.checks.keys() {
                let text = "was not looked at, since the database cannot be asked";
                of.tell(&format!("check {name}"), Verdict::Warning, text, None);
            }
        }
    }
}

/// Whether scheduled drills have a server to restore into.
async fn scratch_of(repository: &Repository, major: u32, of: &mut Findings<'_>) {
    if repository.drill.schedule.is_none() {
        return;
    }
    let bin_dir = repository.database.as_ref().and_then(|database| database.bin_dir.as_deref());
    match postgres::find_server_programs(bin_dir, major).await {
        Ok(programs) => {
            of.ok("drill", format!("PostgreSQL {} can be its scratch server", programs.version.text));
        }
        Err(error) => of.tell("drill", Verdict::Warning, error.to_string(), None),
    }
}

fn tree_of(name: &str, path: &Path, vault: &Path, of: &mut Findings<'_>) {
    let subject = format!("tree {name}");
    if let Err(error) = fs::names_in(path) {
        let hint = "a tree must be a directory that daykeepd may read";
        of.fail(&subject, &error, Some(hint));
        return;
    }
    match overlap(vault, path) {
        Ok(None) => of.ok(&subject, format!("{} can be read", path.display())),
        Ok(Some(together)) => of.fail(&subject, &together, None),
        Err(error) => of.fail(&subject, &error, None),
    }
}

fn vault_of(repository: &Repository, of: &mut Findings<'_>) {
    let vault = match Vault::create(&repository.vault, &repository.name) {
        Ok(vault) => vault,
        Err(error) => {
            let hint =
                "the vault's directory must be there (is the disk mounted?) and be writable for daykeepd";
            return of.fail("vault", &error, Some(hint));
        }
    };
    let room = match vault.probe() {
        Ok(room) => room,
        Err(error) => return of.fail("vault", &error, Some("a vault needs a file system with hard links")),
    };
    of.ok("vault", format!("{} can be written and makes hard links", vault.path().display()));
    let free = bytesize::ByteSize(room.free_bytes);
    if room.free_bytes < repository.limits.min_free {
        let reserve = bytesize::ByteSize(repository.limits.min_free);
        of.tell(
            "vault",
            Verdict::Failure,
            format!("{free} are free, limits.min_free keeps {reserve}"),
            Some("make room, or lower limits.min_free".to_owned()),
        );
    } else {
        of.ok("vault", format!("{free} and {} inodes are free", room.free_inodes));
    }
}
