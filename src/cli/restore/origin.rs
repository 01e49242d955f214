//! Where a restore gets its day and its configuration from: the machine's file, or nothing but a vault.

use std::path::{Path, PathBuf};

use super::Args;
use crate::cli::failure::{Failure, Kind};
use crate::cli::place::{self, VaultArg};
use crate::cli::session::{Session, invalid};
use crate::config::{self, Config, Repository, Server};
use crate::manifest::Manifest;
use crate::restore;
use crate::vault::Vault;
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
}

impl Origin<Vault> {
    /// Of a restore that is asked for.
    pub fn of_day(args: &Args, session: &Session) -> Result<Self, Failure> {
        let (name, words) = place::split(&args.words, 1);
        let Some(day) = words.first() else {
            let failure = Failure::new(Kind::Usage, "which day? name one of them");
            return Err(failure.hint("`daykeep list` shows the days there are; `latest` is the newest"));
        };
        let day = day.clone();
        let Some(dir) = &args.vault else {
            let config = session.config()?;
            let repository = place::configured(&config, name)?.clone();
            let vault = Vault::open(&repository.vault, &repository.name)?;
            let state_dir = args.state_dir.clone().unwrap_or(config.state_dir);
            return Ok(Self { repository, vault, day, state_dir });
        };
        let place = VaultArg::of(dir).place(session, name)?;
        let vault = place.open()?;
        let machine = configuration(session)?;
        let known = machine.as_ref().and_then(|config| config.repositories.get(&place.name));
        let repository = match known {
            Some(repository) => repository.clone(),
            None => {
                let chosen = vault.choose(&day, session.now())?;
                session.out.say(&format!(
                    "no configuration of {}: that of the day is in force, and the PG* environment before it",
                    place.name
                ));
                of_manifest(chosen.manifest(), &chosen.path().join("manifest.json"))?
            }
        };
        let state_dir = args.state_dir.clone().unwrap_or_else(|| state_dir_of(machine.as_ref()));
        Ok(Self { repository, vault, day, state_dir })
    }
}

impl Origin<Option<Vault>> {
    /// Of a restore that is recorded. What restored without a configuration is taken back without one.
    pub fn of_record(args: &Args, session: &Session) -> Result<Self, Failure> {
        let machine = configuration(session)?;
        let state_dir = args.state_dir.clone().unwrap_or_else(|| state_dir_of(machine.as_ref()));
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
            (None, Some(text)) => parsed(&text, &name, &journal::restore_record(&state_dir, &name))?,
            (None, None) => {
                let text = format!("no restore of {name} is recorded in {}", state_dir.display());
                return Err(Failure::new(Kind::NotFound, text));
            }
        };
        let root = args.vault.as_ref().unwrap_or(&repository.vault);
        // Neither ending needs the day: a vault that is away is no reason to wait.
        let vault = Vault::open(root, &repository.name).ok();
        Ok(Self { repository, vault, day: String::new(), state_dir })
    }
}

/// The machine's, if there is one.
fn configuration(session: &Session) -> Result<Option<Config>, Failure> {
    if fs::exists(&session.config_path)? { session.config().map(Some) } else { Ok(None) }
}

fn state_dir_of(config: Option<&Config>) -> PathBuf {
    config.map_or_else(|| STATE_DIR.into(), |config| config.state_dir.clone())
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
            Err(Failure::new(Kind::NotFound, text))
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
