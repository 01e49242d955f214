//! Where a restore gets its day and its configuration from: the machine's file, or nothing but a vault.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Args;
use super::trust::agreed;
use crate::cli::failure::{Failure, Kind};
use crate::cli::figures;
use crate::cli::place::{self, VaultArg};
use crate::cli::session::{Session, invalid};
use crate::config::{self, Config, Repository, Server};
use crate::manifest::Manifest;
use crate::restore::{self, Place};
use crate::vault::{Standing, Vault};
use crate::{fs, journal};

/// Where restores and holds are recorded when no configuration says otherwise.
const STATE_DIR: &str = "/var/lib/daykeep";

/// A day, and the configuration that is in force for it.
pub struct Origin<V> {
    pub repository: Repository,
    pub vault: V,
    /// The word that names the day.
    pub day: String,
    pub state_dir: PathBuf,
    /// What a command has to name to find all of it again.
    pub place: Place,
    /// The hold is the machine's own, or trusted by the command line: it may be asked before anybody has agreed.
    pub trusts_hold: bool,
    /// The trees of the machine's configuration.
    pub in_use: Vec<(String, PathBuf)>,
}

impl Origin<Vault> {
    /// Of a restore that is asked for.
    pub fn of_day(args: &Args, session: &Session) -> Result<Self, Failure> {
        let machine = configuration(session)?;
        let named = Named::of(&args.words);
        let (repository, vault, day) = match &args.vault {
            None => {
                let config = machine.as_ref().ok_or_else(|| no_configuration(session))?;
                let day = named.day_among(config.repositories.keys().map(String::as_str));
                let repository = place::configured(config, named.repository(day))?.clone();
                let vault = Vault::open(&repository.vault, &repository.name)?;
                (Some(repository), vault, day)
            }
            Some(dir) => {
                let places = VaultArg::of(dir);
                let all = places.places(session, None)?;
                let day = named.day_among(all.iter().map(|place| place.name.as_str()));
                let place = places.place(session, named.repository(day))?;
                let known = machine.as_ref().and_then(|config| config.repositories.get(&place.name));
                (known.cloned(), place.open()?, day)
            }
        };
        let place = reached_by(args, session)?;
        let Some(day) = day.map(str::to_owned) else {
            return Err(which_day(&vault, &place, session.now())?);
        };
        let trusts_hold = repository.is_some() || args.trust_day;
        let repository = match repository {
            Some(repository) => repository,
            None => {
                let chosen = vault.choose(&day, session.now())?;
                session.out.say(&format!(
                    "no configuration of {}: that of the day is in force, and the PG* environment before it",
                    vault.repository()
                ));
                let of_day = of_manifest(chosen.manifest(), &chosen.path().join("manifest.json"))?;
                agreed(of_day, args, session)?
            }
        };
        let in_use =
            machine.iter().flat_map(|config| config.repositories.values()).flat_map(trees_of).collect();
        let state_dir = state_dir(args, machine.as_ref());
        Ok(Self { repository, vault, day, state_dir, place, trusts_hold, in_use })
    }
}

/// What the words name: `[REPO] DAY`, or too little.
struct Named<'a>(&'a [String]);

impl<'a> Named<'a> {
    fn of(words: &'a [String]) -> Self {
        Self(words)
    }

    /// The day; None: a repository is all that is named, or nothing.
    fn day_among<'b>(&self, mut repositories: impl Iterator<Item = &'b str>) -> Option<&'a str> {
        match self.0 {
            [] => None,
            [word] => Some(word.as_str()).filter(|word| !repositories.any(|known| known == *word)),
            [_, day, ..] => Some(day),
        }
    }

    /// The repository, once it is known whether there is a day.
    fn repository(&self, day: Option<&str>) -> Option<&'a str> {
        match (self.0, day) {
            ([word], None) | ([word, _, ..], _) => Some(word),
            _ => None,
        }
    }
}

/// How many days are told of.
const TOLD: usize = 5;

/// A day has to be named: which there are, and which of them is safe to take. None is ever chosen for whoever did not.
pub fn which_day(vault: &Vault, place: &Place, now: Timestamp) -> Result<Failure, Failure> {
    let name = vault.repository();
    let command = |day: &str| {
        let options = place.options();
        let space = if options.is_empty() { "" } else { " " };
        format!("daykeep restore {name} {day}{space}{options}")
    };
    let days = vault.days(now)?.good;
    if days.is_empty() {
        return Ok(Failure::new(Kind::NotFound, format!("{name} has no day in {}", vault.path().display())));
    }
    let newest = if days.len() > 1 { "; the newest are" } else { "" };
    let mut lines = vec![format!("{name} has {}{newest}:", figures::count(days.len() as u64, "day"))];
    let mut newest_proven = None;
    for (number, day) in days.iter().rev().enumerate() {
        let standing = Standing::of(&vault.proofs(day.name()).unwrap_or_default());
        if number < TOLD {
            let age = figures::age(day.manifest().freeze_point, now);
            lines.push(format!("{}  {age:<8} {}", day.name(), standing.word()).trim_end().to_owned());
        }
        if standing == Standing::Proven {
            newest_proven.get_or_insert(day.name());
        }
    }
    let failure = Failure::new(Kind::Usage, format!("which day of {name}? `{}`", command("DAY")));
    let failure = failure.hint(lines.join("\n"));
    Ok(match newest_proven {
        Some(day) => failure.hint(format!("the newest that is proven: `{}`", command(day))),
        None => failure.hint(format!("none of them is proven; `{}` takes the newest", command("latest"))),
    })
}

fn trees_of(repository: &Repository) -> impl Iterator<Item = (String, PathBuf)> {
    let name = &repository.name;
    repository.trees.values().map(move |tree| (format!("tree {} of {name}", tree.name), tree.path.clone()))
}

impl Origin<Option<Vault>> {
    /// Of a restore that is recorded. What restored without a configuration is taken back without one.
    pub fn of_record(args: &Args, session: &Session) -> Result<Self, Failure> {
        let machine = configuration(session)?;
        let state_dir = state_dir(args, machine.as_ref());
        let name = match args.words.as_slice() {
            [] => the_only_one(&state_dir, machine.as_ref())?,
            [name] => name.clone(),
            [_, word, ..] => {
                let text = format!(
                    "--undo and --confirm end the restore that is recorded, and take no day (`{word}`)"
                );
                return Err(Failure::new(Kind::Usage, text));
            }
        };
        let known = machine.as_ref().and_then(|config| config.repositories.get(&name)).cloned();
        let repository = match (known, restore::recorded_configuration(&state_dir, &name)?) {
            (Some(repository), _) => repository,
            (None, Some(text)) => {
                let of_day = parsed(&text, &name, &journal::restore_record(&state_dir, &name))?;
                agreed(of_day, args, session)?
            }
            (None, None) => {
                let text = format!("no restore of {name} is recorded in {}", state_dir.display());
                return Err(Failure::new(Kind::NotFound, text).hint(ELSEWHERE));
            }
        };
        let root = args.vault.as_ref().unwrap_or(&repository.vault);
        // Neither ending needs the day: a vault that is away is no reason to wait.
        let vault = Vault::open(root, &repository.name).ok();
        let place = reached_by(args, session)?;
        let (day, trusts_hold, in_use) = (String::new(), false, Vec::new());
        Ok(Self { repository, vault, day, state_dir, place, trusts_hold, in_use })
    }
}

/// Where else a record may be.
const ELSEWHERE: &str = "a restore that was made with --state-dir is ended with the same --state-dir";

/// What of the command line has to be named again.
fn reached_by(args: &Args, session: &Session) -> Result<Place, Failure> {
    let config = Place::of_config(&session.config_path).config;
    let is_there = config.as_deref().map(fs::exists).transpose()?.unwrap_or_default();
    Ok(Place {
        vault: args.vault.clone(),
        state_dir: args.state_dir.clone(),
        config: config.filter(|_| is_there),
        trust_day: args.trust_day,
    })
}

/// The records: a path that holds in every directory, since other processes are told of it.
fn state_dir(args: &Args, machine: Option<&Config>) -> PathBuf {
    match &args.state_dir {
        Some(named) => std::path::absolute(named).unwrap_or_else(|_| named.clone()),
        None => machine.map_or_else(|| STATE_DIR.into(), |config| config.state_dir.clone()),
    }
}

/// There is none, and none is needed where the vault is named.
fn no_configuration(session: &Session) -> Failure {
    match session.config() {
        Err(failure) => failure.hint(
            "on a machine without a configuration, name the vault: `daykeep restore --vault DIR latest --plan`",
        ),
        Ok(_) => Failure::new(Kind::Failed, "the configuration came this very moment: say it again"),
    }
}

/// The machine's, if there is one.
fn configuration(session: &Session) -> Result<Option<Config>, Failure> {
    if fs::exists(&session.config_path)? { session.config().map(Some) } else { Ok(None) }
}

/// The only repository of the configuration, or the only one with a restore.
fn the_only_one(state_dir: &Path, config: Option<&Config>) -> Result<String, Failure> {
    let mut waiting = Vec::new();
    if fs::exists(state_dir)? {
        for name in fs::names_in(state_dir)? {
            let name = name.to_string_lossy().into_owned();
            if !name.starts_with('.') && journal::restore_record(state_dir, &name).is_file() {
                waiting.push(name);
            }
        }
    }
    match (waiting.as_slice(), config) {
        ([name], _) => Ok(name.clone()),
        ([], None) => {
            let text = format!("no restore is recorded in {}", state_dir.display());
            Err(Failure::new(Kind::NotFound, text).hint(ELSEWHERE))
        }
        ([], Some(config)) => Ok(place::configured(config, None)?.name.clone()),
        (_, _) => Err(Failure::new(Kind::Usage, "which repository? name one of them")
            .hint(format!("there are restores of {}", waiting.join(", ")))),
    }
}

/// What the day was made with. What the environment says goes before it: on another machine the server is elsewhere.
fn of_manifest(day: &Manifest, place: &Path) -> Result<Repository, Failure> {
    let mut repository = parsed(&day.configuration, &day.repository, place)?;
    if let Some(database) = &mut repository.database {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        database.server = surrounded(std::mem::take(&mut database.server), variable);
        // Another machine has its programs elsewhere, and the newest are found.
        database.bin_dir = database.bin_dir.take().filter(|dir| dir.is_dir());
    }
    Ok(repository)
}

fn parsed(text: &str, name: &str, place: &Path) -> Result<Repository, Failure> {
    let mut config = config::parse(place, text).map_err(|error| invalid(&error))?;
    config.repositories.remove(name).ok_or_else(|| {
        let text = format!("the configuration in {} has no repository {name}", place.display());
        Failure::new(Kind::Failed, text).hint("write a configuration file, and name it with --config")
    })
}

/// The server as the environment has it. What it says is written down with the restore, so that another call without it finds the
/// same server; but a password is not.
fn surrounded(server: Server, variable: impl Fn(&str) -> Option<String>) -> Server {
    if let Some(service) = variable("PGSERVICE") {
        let servicefile = variable("PGSERVICEFILE").map(PathBuf::from);
        return Server { service: Some(service), servicefile, ..Server::default() };
    }
    let host = variable("PGHOST");
    let port = variable("PGPORT").and_then(|port| port.parse().ok());
    let has_password = variable("PGPASSWORD").is_some() || variable("PGPASSFILE").is_some();
    Server {
        // The port of the day belongs to the host of the day.
        port: port.or(server.port.filter(|_| host.is_none())),
        host: host.or(server.host),
        user: variable("PGUSER").or(server.user),
        dbname: variable("PGDATABASE").or(server.dbname),
        passfile: variable("PGPASSFILE").map(PathBuf::from).or(server.passfile.filter(|_| !has_password)),
        password_credential: server.password_credential.filter(|_| !has_password),
        sslmode: variable("PGSSLMODE").or(server.sslmode),
        sslrootcert: variable("PGSSLROOTCERT").map(PathBuf::from).or(server.sslrootcert),
        ..server
    }
}

#[cfg(test)]
mod tests {
    use super::surrounded;
    use crate::config::Server;

    #[test]
    fn the_environment_goes_before_the_configuration_of_a_day() {
        let day = Server {
            host: Some("/old".to_owned()),
            port: Some(5433),
            user: Some("fossy".to_owned()),
            ..Server::default()
        };
        let with = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> =
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            surrounded(day.clone(), move |name| {
                pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            })
        };
        assert_eq!(with(&[]), day);
        let elsewhere = with(&[("PGHOST", "/new")]);
        assert_eq!(elsewhere.host.as_deref(), Some("/new"));
        assert_eq!((elsewhere.port, elsewhere.user.as_deref()), (None, Some("fossy")));
        let other_port = with(&[("PGPORT", "5440")]);
        assert_eq!((other_port.host.as_deref(), other_port.port), (Some("/old"), Some(5440)));
        let service = with(&[("PGSERVICE", "there")]);
        assert_eq!(service, Server { service: Some("there".to_owned()), ..Server::default() });
    }
}
