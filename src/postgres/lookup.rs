//! Where a parameter is looked up: what was asked for by name, the service file, the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Error, service};
use crate::{config, fs};

/// Where the service file of the whole machine is when PGSYSCONFDIR says nothing (Debian's packages).
const SYSCONFDIR: &str = "/etc/postgresql-common";

/// What surrounds the program, as far as libpq looks at it.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The variables.
    pub variables: BTreeMap<String, String>,
    /// The home directory.
    pub home: Option<PathBuf>,
    /// The name of the user.
    pub user: Option<String>,
}

impl Environment {
    /// What surrounds this process.
    #[must_use]
    pub fn of_process() -> Self {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("PG") || name == "HOME" || name == "CREDENTIALS_DIRECTORY")
            .collect();
        let account = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).ok().flatten();
        let home = variables
            .get("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
            .or_else(|| account.as_ref().map(|account| account.dir.clone()));
        Self { variables, home, user: account.map(|account| account.name) }
    }

    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The three places in libpq's order.
pub(super) struct Lookup<'a> {
    service: BTreeMap<String, String>,
    environment: &'a Environment,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(server: &config::Server, environment: &'a Environment) -> Result<Self, Error> {
        let name = server.service.clone().or_else(|| environment.variable("PGSERVICE").map(str::to_owned));
        let service = match name {
            Some(name) => read_service(&name, server, environment)?,
            None => BTreeMap::new(),
        };
        Ok(Self { service, environment })
    }

    pub(super) fn find(&self, explicit: Option<&str>, key: &str, variable: &str) -> Option<String> {
        explicit
            .or_else(|| self.service.get(key).map(String::as_str).filter(|value| !value.is_empty()))
            .or_else(|| self.environment.variable(variable))
            .map(str::to_owned)
    }
}

fn read_service(
    name: &str,
    server: &config::Server,
    environment: &Environment,
) -> Result<BTreeMap<String, String>, Error> {
    let named =
        server.servicefile.clone().or_else(|| environment.variable("PGSERVICEFILE").map(PathBuf::from));
    let own = named.or_else(|| environment.home.as_ref().map(|home| home.join(".pg_service.conf")));
    let system =
        Path::new(environment.variable("PGSYSCONFDIR").unwrap_or(SYSCONFDIR)).join("pg_service.conf");
    let places: Vec<PathBuf> = own.into_iter().chain([system]).collect();
    for path in &places {
        let Some(bytes) = fs::read_if_exists(path)? else { continue };
        if let Some(found) = service::section(path, &String::from_utf8_lossy(&bytes), name)? {
            for key in ["sslcert", "sslkey", "sslcrl", "krbsrvname", "gsslib", "require_auth"] {
                if found.contains_key(key) {
                    return Err(wrong(&format!("service {name:?}"), &format!("{key} is not supported")));
                }
            }
            return Ok(found);
        }
    }
    Err(Error::NoService { name: name.to_owned(), places })
}

/// The error of a parameter that makes no sense.
pub(super) fn wrong(origin: &str, what: &str) -> Error {
    Error::Parameter { origin: origin.to_owned(), what: what.to_owned() }
}
