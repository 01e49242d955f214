//! The database server of a repository, as configured.

use std::path::PathBuf;
use std::time::Duration;

/// `[repository.NAME.database]`
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// How to reach the server.
    pub server: Server,
    /// Which databases.
    pub databases: Databases,
    /// Dump roles, memberships and tablespaces.
    pub globals: bool,
    /// Connections that copy rows, over all databases.
    pub jobs: usize,
    /// zstd level of the rows.
    pub compression: i32,
    /// Where pg_dump and pg_dumpall are; None: the newest found on this machine.
    pub bin_dir: Option<PathBuf>,
    /// How long the freeze may wait for a table's lock.
    pub lock_timeout: Duration,
}

/// Which databases of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Databases {
    /// Every one that accepts connections, but for template0 and these.
    AllBut(Vec<String>),
    /// These.
    Only(Vec<String>),
}

/// libpq's parameters as far as daykeep takes them. What is None is looked for where libpq looks: the service file,
/// the PG* environment, the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Server {
    /// Host name, address, or directory of a unix socket.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Role.
    pub user: Option<String>,
    /// Database for what concerns the whole server (`postgres`).
    pub dbname: Option<String>,
    /// Section of the service file.
    pub service: Option<String>,
    /// Service file.
    pub servicefile: Option<PathBuf>,
    /// Password file.
    pub passfile: Option<PathBuf>,
    /// Name of the systemd credential that holds the password.
    pub password_credential: Option<String>,
    /// `disable`, `prefer`, `require`, `verify-ca`, `verify-full`.
    pub sslmode: Option<String>,
    /// CA certificates.
    pub sslrootcert: Option<PathBuf>,
}
