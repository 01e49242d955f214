//! Which server, as whom: libpq's order of explicit parameters, service file, environment, defaults
//! (`conninfo_add_defaults` in libpq's fe-connect.c).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::config;
use crate::fs;

use super::Error;
use super::lookup::{Environment, Lookup, wrong};
use super::passfile::{self, Found, Wanted};
use super::sslmode::SslMode;

/// Where libpq's own default socket is on most systems, and where it is in a build from source.
const SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// libpq waits for ever by default; a daemon must not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Every parameter of a connection but the database and the password, which may depend on it.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Host name, address, or directory of a unix socket.
    pub host: String,
    /// The address to connect to instead of looking `host` up.
    pub hostaddr: Option<std::net::IpAddr>,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database for what concerns the whole server.
    pub dbname: String,
    /// TLS.
    pub sslmode: SslMode,
    /// CA certificates; None: the machine's.
    pub sslrootcert: Option<PathBuf>,
    /// Command-line options for the server, as in PGOPTIONS.
    pub options: Option<String>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    password: Option<SecretString>,
    passfile: Option<PathBuf>,
}

impl Resolved {
    /// Looks every parameter up.
    ///
    /// # Errors
    /// The service or the credential is not there, or a parameter makes no sense.
    pub fn new(server: &config::Server, environment: &Environment) -> Result<Self, Error> {
        let lookup = Lookup::new(server, environment)?;
        let (host, hostaddr, port) = address(server, &lookup)?;
        let user = lookup
            .find(server.user.as_deref(), "user", "PGUSER")
            .or_else(|| environment.user.clone())
            .ok_or_else(|| wrong("user", "not configured, and this process's user has no name"))?;
        let dbname = lookup
            .find(server.dbname.as_deref(), "dbname", "PGDATABASE")
            .unwrap_or_else(|| "postgres".to_owned());
        let (sslmode, sslrootcert) = encryption(server, &lookup, environment)?;
        let passfile = server
            .passfile
            .clone()
            .or_else(|| lookup.find(None, "passfile", "PGPASSFILE").map(PathBuf::from));
        if let Some(path) = &server.passfile {
            // One that was asked for by name must be there; the default one may be missing.
            fs::open(path)?;
        }
        let password = password(server, &lookup, environment)?;
        Ok(Self {
            host,
            hostaddr,
            port,
            user,
            dbname,
            sslmode,
            sslrootcert,
            options: lookup.find(None, "options", "PGOPTIONS"),
            connect_timeout: connect_timeout(&lookup)?,
            password,
            passfile: passfile.or_else(|| environment.home.as_ref().map(|home| home.join(".pgpass"))),
        })
    }

    /// Whether the server is reached through a unix socket.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.hostaddr.is_none() && self.host.starts_with(['/', '@'])
    }

    /// Host and port for people.
    #[must_use]
    pub fn place(&self) -> String {
        if self.is_socket() {
            format!("socket {}/.s.PGSQL.{}", self.host, self.port)
        } else {
            format!("{}, port {}", self.host, self.port)
        }
    }

    /// The password for a database, and a note when a password file was passed over.
    ///
    /// # Errors
    /// The password file is there and cannot be read.
    pub fn password_for(&self, dbname: &str) -> Result<(Option<SecretString>, Option<String>), Error> {
        if let Some(password) = &self.password {
            return Ok((Some(password.clone()), None));
        }
        let Some(path) = &self.passfile else { return Ok((None, None)) };
        // libpq looks a default socket up under the name localhost.
        let is_default_socket = SOCKET_DIRS.contains(&self.host.as_str()) || self.host == "/run/postgresql";
        let host = if is_default_socket { "localhost" } else { &self.host };
        let wanted = Wanted { host, port: self.port, dbname, user: &self.user };
        Ok(match passfile::look_up(path, wanted)? {
            Found::Password(password) => (Some(password.into()), None),
            Found::Nothing => (None, None),
            Found::PassedOver(why) => (None, Some(why)),
        })
    }

    /// See [`super::libpq_env`].
    #[must_use]
    pub fn libpq_env(&self, application_name: &str) -> Vec<(OsString, Option<OsString>)> {
        let mut env: Vec<(OsString, Option<OsString>)> = Vec::new();
        let mut set = |name: &str, value: Option<OsString>| env.push((name.into(), value));
        // What libpq would take from elsewhere and we have taken already, or do not do.
        for name in [
            "PGSERVICE",
            "PGSERVICEFILE",
            "PGSSLNEGOTIATION",
            "PGREQUIREAUTH",
            "PGTARGETSESSIONATTRS",
            "PGLOADBALANCEHOSTS",
            "PGCLIENTENCODING",
            "PGTZ",
            "PGDATESTYLE",
            "PGGEQO",
            "PGREQUIRESSL",
        ] {
            set(name, None);
        }
        set("PGHOST", Some(self.host.clone().into()));
        set("PGHOSTADDR", self.hostaddr.map(|address| address.to_string().into()));
        set("PGPORT", Some(self.port.to_string().into()));
        set("PGUSER", Some(self.user.clone().into()));
        set("PGDATABASE", Some(self.dbname.clone().into()));
        set("PGSSLMODE", Some(self.sslmode.word().into()));
        let checks = matches!(self.sslmode, SslMode::VerifyCa | SslMode::VerifyFull);
        let rootcert = match &self.sslrootcert {
            Some(path) => Some(path.clone().into_os_string()),
            None if checks => Some("system".into()),
            None => None,
        };
        set("PGSSLROOTCERT", rootcert);
        set("PGGSSENCMODE", Some("disable".into()));
        set("PGOPTIONS", self.options.clone().map(Into::into));
        set("PGCONNECT_TIMEOUT", Some(self.connect_timeout.as_secs().max(2).to_string().into()));
        set("PGAPPNAME", Some(application_name.into()));
        set("PGPASSFILE", self.passfile.clone().map(PathBuf::into_os_string));
        set("PGPASSWORD", self.password.as_ref().map(|password| password.expose_secret().into()));
        env
    }
}

fn address(
    server: &config::Server,
    lookup: &Lookup<'_>,
) -> Result<(String, Option<std::net::IpAddr>, u16), Error> {
    let port = match server.port {
        Some(port) => port,
        None => match lookup.find(None, "port", "PGPORT") {
            None => 5432,
            Some(text) => {
                text.trim().parse().map_err(|_| wrong("port", &format!("{text:?} is no port number")))?
            }
        },
    };
    let hostaddr = match &server.host {
        // An address from elsewhere would win over the host that was configured here.
        Some(_) => None,
        None => lookup.find(None, "hostaddr", "PGHOSTADDR"),
    };
    let hostaddr: Option<std::net::IpAddr> = hostaddr
        .map(|text| text.parse().map_err(|_| wrong("hostaddr", &format!("{text:?} is no IP address"))))
        .transpose()?;
    let host = match lookup.find(server.host.as_deref(), "host", "PGHOST") {
        Some(host) => host,
        None => match hostaddr {
            Some(address) => address.to_string(),
            None => default_socket(port)?,
        },
    };
    if host.contains(',') {
        return Err(wrong("host", "several hosts are not supported: a backup needs one server"));
    }
    Ok((host, hostaddr, port))
}

fn default_socket(port: u16) -> Result<String, Error> {
    for dir in SOCKET_DIRS {
        if fs::exists(&Path::new(dir).join(format!(".s.PGSQL.{port}")))? {
            return Ok(dir.to_owned());
        }
    }
    Ok(SOCKET_DIRS[0].to_owned())
}

fn encryption(
    server: &config::Server,
    lookup: &Lookup<'_>,
    environment: &Environment,
) -> Result<(SslMode, Option<PathBuf>), Error> {
    let sslmode = match lookup.find(server.sslmode.as_deref(), "sslmode", "PGSSLMODE") {
        None => SslMode::Prefer,
        Some(word) => SslMode::parse(&word).ok_or_else(|| {
            wrong("sslmode", &format!("{word:?} is none of disable, prefer, require, verify-ca, verify-full"))
        })?,
    };
    let named = server
        .sslrootcert
        .clone()
        .or_else(|| lookup.find(None, "sslrootcert", "PGSSLROOTCERT").map(PathBuf::from));
    let sslrootcert = match named {
        Some(path) if path.as_os_str() == "system" => None,
        Some(path) => Some(path),
        None => match environment.home.as_ref().map(|home| home.join(".postgresql/root.crt")) {
            Some(path) if fs::exists(&path)? => Some(path),
            _ => None,
        },
    };
    Ok((sslmode, sslrootcert))
}

fn password(
    server: &config::Server,
    lookup: &Lookup<'_>,
    environment: &Environment,
) -> Result<Option<SecretString>, Error> {
    if let Some(name) = &server.password_credential {
        let directory = environment.variable("CREDENTIALS_DIRECTORY").ok_or_else(|| {
            wrong(
                &format!("password_credential {name:?}"),
                "CREDENTIALS_DIRECTORY is not set; give the unit LoadCredential= or run under systemd",
            )
        })?;
        let text = fs::read_to_string(&Path::new(directory).join(name))?;
        return Ok(text.lines().next().map(SecretString::from));
    }
    Ok(lookup.find(None, "password", "PGPASSWORD").map(SecretString::from))
}

fn connect_timeout(lookup: &Lookup<'_>) -> Result<Duration, Error> {
    let Some(text) = lookup.find(None, "connect_timeout", "PGCONNECT_TIMEOUT") else {
        return Ok(CONNECT_TIMEOUT);
    };
    let seconds: i64 = text
        .trim()
        .parse()
        .map_err(|_| wrong("connect_timeout", &format!("{text:?} is no number of seconds")))?;
    Ok(match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds.max(2)),
        _ => CONNECT_TIMEOUT,
    })
}

#[cfg(test)]
mod tests {
    use super::{Environment, Resolved, SslMode};
    use crate::config::Server;
    use secrecy::ExposeSecret as _;

    fn environment(variables: &[(&str, &str)], home: &std::path::Path) -> Environment {
        Environment {
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            home: Some(home.to_owned()),
            user: Some("osuser".to_owned()),
        }
    }

    #[test]
    fn explicit_wins_over_service_over_environment_over_default() {
        let home = tempfile::tempdir().expect("a directory");
        crate::fs::write_durable(
            &home.path().join(".pg_service.conf"),
            b"[main]\nhost=from-service\nuser=service-user\n",
        )
        .expect("writes");
        let environment =
            environment(&[("PGHOST", "from-env"), ("PGUSER", "env-user"), ("PGPORT", "6000")], home.path());
        let server = Server { user: Some("me".into()), service: Some("main".into()), ..Server::default() };
        let resolved = Resolved::new(&server, &environment).expect("resolves");
        assert_eq!(
            (resolved.host.as_str(), resolved.user.as_str(), resolved.port, resolved.dbname.as_str()),
            ("from-service", "me", 6000, "postgres")
        );
        assert_eq!(resolved.sslmode, SslMode::Prefer);
        let server = Server::default();
        let plain = Resolved::new(&server, &self::environment(&[], home.path())).expect("resolves");
        assert_eq!((plain.user.as_str(), plain.port), ("osuser", 5432));
        assert!(plain.is_socket(), "{}", plain.host);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let home = tempfile::tempdir().expect("a directory");
        let said = |server: Server, variables: &[(&str, &str)]| {
            Resolved::new(&server, &environment(variables, home.path())).expect_err("refused").to_string()
        };
        assert_eq!(said(Server::default(), &[("PGPORT", "x")]), "port: \"x\" is no port number");
        assert_eq!(
            said(Server { sslmode: Some("maybe".into()), ..Server::default() }, &[]),
            "sslmode: \"maybe\" is none of disable, prefer, require, verify-ca, verify-full"
        );
        assert_eq!(
            said(Server { service: Some("x".into()), ..Server::default() }, &[("PGSYSCONFDIR", "/none")]),
            format!(
                "service \"x\" is in no service file (looked in {}, /none/pg_service.conf)",
                home.path().join(".pg_service.conf").display()
            )
        );
    }

    #[test]
    fn the_password_comes_from_the_credential_then_the_environment_then_the_file() {
        let home = tempfile::tempdir().expect("a directory");
        crate::fs::write_durable(&home.path().join(".pgpass"), b"h:*:one:*:of the file\n").expect("writes");
        crate::fs::write_durable(&home.path().join("secret"), b"of the credential\n").expect("writes");
        let directory = home.path().to_str().expect("text").to_owned();
        let server = Server { host: Some("h".into()), ..Server::default() };
        let of = |server: &Server, variables: &[(&str, &str)], dbname: &str| {
            let resolved = Resolved::new(server, &environment(variables, home.path())).expect("resolves");
            let password = resolved.password_for(dbname).expect("looks").0;
            password.map(|password| password.expose_secret().to_owned())
        };
        assert_eq!(of(&server, &[], "one").as_deref(), Some("of the file"));
        assert_eq!(of(&server, &[], "two"), None);
        assert_eq!(
            of(&server, &[("PGPASSWORD", "of the environment")], "one").as_deref(),
            Some("of the environment")
        );
        let server = Server { password_credential: Some("secret".into()), ..server };
        let variables = [("PGPASSWORD", "x"), ("CREDENTIALS_DIRECTORY", directory.as_str())];
        assert_eq!(of(&server, &variables, "one").as_deref(), Some("of the credential"));
        let resolved = Resolved::new(&server, &environment(&variables, home.path())).expect("resolves");
        assert!(!format!("{resolved:?}").contains("of the credential"));
    }
}
