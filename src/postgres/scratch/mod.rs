//! A PostgreSQL server of our own, for a day to be restored into and thrown away.
//!
//! It lies in a [`ScratchDir`], listens on no network, and its socket is in a directory that nobody else may enter. It is quick and not
//! durable: a power cut may destroy it, and nobody would mind. It ends when we end, whatever way (`supervisor`). What is
//! restored into it asks for an [`Empty`], which only a scratch server can give: a drill that touches another server does not
//! compile.

mod place;
mod supervisor;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::programs::{Programs, find_server_programs};
use super::{Error, connect};
use crate::{config, fs, process};

pub use place::ScratchDir;
use supervisor::{ACCOUNT, OWN_DIRECTORY, Supervised};

/// The longest name of a socket (`sun_path` without its end).
const LONGEST_SOCKET: usize = 107;
const TABLESPACES: &str = "tablespaces";
/// The name of the socket: no port is listened on, but libpq counts them so.
const SOCKET: &str = ".s.PGSQL.5432";
/// How long initdb and the start of the server may take on a machine under load.
const START_LIMIT: Duration = Duration::from_secs(180);
/// How long the server may take to end before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(30);
/// How much of the log an error shows.
const LOG_SHOWN: usize = 2000;

/// A scratch server could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// Another one is being used there.
    #[error("the scratch directory {} is in use by another drill", directory.display())]
    Busy {
        /// The directory.
        directory: PathBuf,
    },
    /// PostgreSQL refuses to run as root, and there is nobody else.
    #[error(
        "a scratch server cannot run as root, and there is no user {ACCOUNT:?} to run it: install the PostgreSQL server"
    )]
    NoAccount,
    /// No programs, or the server that was started does not answer.
    #[error(transparent)]
    Postgres(#[from] Box<Error>),
    /// initdb or the server ended badly.
    #[error("{program} of the scratch server {problem}: {log}")]
    Program {
        /// Which.
        program: PathBuf,
        /// How it ended.
        problem: String,
        /// The end of what it said.
        log: String,
    },
    /// Something else answers on the socket.
    #[error("the server at {} is not the scratch server that was started", socket.display())]
    NotOurs {
        /// The directory of the socket.
        socket: PathBuf,
    },
    /// A process of a killed drill cannot be ended.
    #[error("cannot end the processes (group {group}) that a killed drill left for {name}: {source}")]
    Leftover {
        /// The process group.
        group: i32,
        /// The scratch directory.
        name: String,
        /// What the system said.
        source: nix::Error,
    },
    /// A file.
    #[error("{0}: {cause}", cause = .0.source)]
    File(#[from] fs::Error),
    /// A program cannot be started, or processes not be looked at.
    #[error(transparent)]
    Process(process::Error),
    /// A thread of daykeep died: a defect in daykeep.
    #[error("a thread of daykeep panicked; the log has its message")]
    Panicked,
    /// The caller wants no more.
    #[error("the drill was cancelled")]
    Cancelled,
}

impl From<Error> for ScratchError {
    fn from(error: Error) -> Self {
        Self::Postgres(Box::new(error))
    }
}

/// What the cluster must be able to take.
#[derive(Debug, Clone)]
pub struct Cluster<'a> {
    /// The major version that the day's server had: no older one is taken.
    pub major: u32,
    /// Where the configuration says that PostgreSQL's programs are.
    pub bin_dir: Option<&'a Path>,
    /// The encoding of its first databases (`UTF8`).
    pub encoding: &'a str,
    /// Their locale, if this machine has it; else C.UTF-8 or C.
    pub locale: Option<&'a str>,
    /// How many connections are going to be made at once.
    pub connections: usize,
}

/// A running server of our own. [Stop it](Self::stop) before its directory is removed; dropping it ends it too, a moment later.
#[derive(Debug)]
pub struct Scratch {
    server: config::Server,
    programs: Programs,
    running: Supervised,
    tablespaces: PathBuf,
    /// Keeps the way to the socket open when its path is too long for a name.
    _way: File,
}

/// An empty server that may be filled at will: one that was made for it.
#[derive(Debug, Clone, Copy)]
pub struct Empty<'a> {
    scratch: &'a Scratch,
}

impl<'a> Empty<'a> {
    /// A directory of the server's user for tablespaces to be made in, by a path that is the same for the server and for us; good as
    /// long as the server runs.
    #[must_use]
    pub fn tablespaces(&self) -> &'a Path {
        &self.scratch.tablespaces
    }

    /// How to reach it, as its superuser.
    #[must_use]
    pub fn server(&self) -> &config::Server {
        &self.scratch.server
    }

    /// Its programs: psql, `pg_restore` and the others of its own version.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.scratch.programs
    }
}

impl Scratch {
    /// Makes a cluster in `place` and starts it.
    ///
    /// # Errors
    /// The machine has no suitable programs, or no account to run them; they fail; or the caller cancels.
    pub async fn start(
        place: &ScratchDir,
        wanted: &Cluster<'_>,
        cancel: &CancellationToken,
    ) -> Result<Self, ScratchError> {
        let work = async {
            let programs = find_server_programs(wanted.bin_dir, wanted.major).await?;
            let directory = place.path().join("cluster");
            fs::create_dir_durable(&directory)?;
            fs::set_mode(&directory, 0o700)?;
            let tablespaces = directory.join(TABLESPACES);
            fs::create_dir_durable(&tablespaces)?;
            fs::set_mode(&tablespaces, 0o700)?;
            if nix::unistd::geteuid().is_root() {
                let account = nix::unistd::User::from_name(ACCOUNT).ok().flatten();
                let account = account.ok_or(ScratchError::NoAccount)?;
                for made in [&directory, &tablespaces] {
                    fs::give_to(made, account.uid.as_raw(), account.gid.as_raw())?;
                }
            }
            make_cluster(place, &directory, &programs, wanted).await?;
            run(place, &directory, programs, wanted).await
        };
        tokio::select! {
            outcome = work => outcome,
            () = cancel.cancelled() => Err(ScratchError::Cancelled),
        }
    }

    /// What a restore into a fresh server asks for.
    #[must_use]
    pub fn empty(&self) -> Empty<'_> {
        Empty { scratch: self }
    }

    /// How to reach it, as its superuser.
    #[must_use]
    pub fn server(&self) -> &config::Server {
        &self.server
    }

    /// Its programs.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Ends it. Nothing is written any more: what it held is to be thrown away.
    pub async fn stop(mut self) {
        self.running.stop(STOP_LIMIT).await;
    }
}

async fn make_cluster(
    place: &ScratchDir,
    directory: &Path,
    programs: &Programs,
    wanted: &Cluster<'_>,
) -> Result<(), ScratchError> {
    let initdb = programs.path("initdb");
    let mut failure = None;
    for locale in locales(wanted) {
        let options = [
            format!("--pgdata={OWN_DIRECTORY}/data"),
            "--username=postgres".to_owned(),
            "--auth=trust".to_owned(),
            format!("--encoding={}", wanted.encoding),
            format!("--locale={locale}"),
            "--no-sync".to_owned(),
        ];
        let command = [initdb.clone().into_os_string()].into_iter().chain(options.map(OsString::from));
        let mut running = Supervised::start(place.name(), directory, command.collect())?;
        let ended = tokio::time::timeout(START_LIMIT, running.ended()).await;
        running.stop(STOP_LIMIT).await;
        let problem = match ended {
            Ok(Ok(Some(0))) => return Ok(()),
            Ok(Ok(Some(status))) => format!("ended with exit status {status}"),
            Ok(Ok(None)) => "was killed".to_owned(),
            Ok(Err(error)) => return Err(error),
            Err(_) => format!("did not end within {}s", START_LIMIT.as_secs()),
        };
        // initdb removes what it made; the first failure is the one that says most.
        failure.get_or_insert(failed(place, &initdb, problem)?);
    }
    Err(failure.unwrap_or(ScratchError::Panicked))
}

/// In which order locales are tried: a day's may not be on this machine, and old systems lack C.UTF-8.
fn locales<'a>(wanted: &Cluster<'a>) -> Vec<&'a str> {
    let mut locales: Vec<&str> = wanted.locale.into_iter().collect();
    if wanted.encoding == "UTF8" {
        locales.push("C.UTF-8");
    }
    locales.push("C");
    locales
}

/// As quick as a server can be that need not survive anything, and closed to everybody else.
fn settings(place: &ScratchDir, wanted: &Cluster<'_>) -> Vec<String> {
    let mut settings: Vec<String> = [
        "listen_addresses=",
        "port=5432",
        "unix_socket_permissions=0700",
        "ssl=off",
        "fsync=off",
        "full_page_writes=off",
        "synchronous_commit=off",
        "wal_level=minimal",
        "max_wal_senders=0",
        "archive_mode=off",
        "autovacuum=off",
        "checkpoint_timeout=1h",
        "max_wal_size=2GB",
        "shared_buffers=256MB",
        "maintenance_work_mem=256MB",
        "max_locks_per_transaction=1024",
        // /dev/shm is small in containers, and what a killed server leaves there nobody removes.
        "dynamic_shared_memory_type=mmap",
        "jit=off",
        "log_destination=stderr",
        "logging_collector=off",
        "lc_messages=C",
    ]
    .map(str::to_owned)
    .into();
    settings.push(format!("unix_socket_directories={OWN_DIRECTORY}"));
    settings.push(format!("max_connections={}", wanted.connections + 10));
    // Every process of this server bears it: what a killed drill leaves is found by it.
    settings.push(format!("cluster_name={}", place.name()));
    settings
}

async fn run(
    place: &ScratchDir,
    directory: &Path,
    programs: Programs,
    wanted: &Cluster<'_>,
) -> Result<Scratch, ScratchError> {
    let postgres = programs.path("postgres");
    let mut command: Vec<OsString> =
        vec![postgres.clone().into(), "-D".into(), format!("{OWN_DIRECTORY}/data").into()];
    for setting in settings(place, wanted) {
        command.extend(["-c".into(), setting.into()]);
    }
    let way = fs::open(directory)?;
    let host = if directory.join(SOCKET).as_os_str().len() <= LONGEST_SOCKET {
        directory.to_owned()
    } else {
        // Our children find it there too.
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), way.as_raw_fd()))
    };
    let server = config::Server {
        host: Some(host.to_string_lossy().into_owned()),
        port: Some(5432),
        user: Some("postgres".to_owned()),
        dbname: Some("postgres".to_owned()),
        sslmode: Some("disable".to_owned()),
        ..config::Server::default()
    };
    let mut running = Supervised::start(place.name(), directory, command)?;
    let answered = tokio::select! {
        answered = tokio::time::timeout(START_LIMIT, wait_until_ready(&server, place, directory)) => answered,
        ended = running.ended() => {
            let problem = match ended? {
                Some(status) => format!("ended with exit status {status}"),
                None => "was killed".to_owned(),
            };
            return Err(failed(place, &postgres, problem)?);
        }
    };
    match answered {
        Ok(Ok(())) => {
            let tablespaces = way_in(directory)?.join(TABLESPACES);
            Ok(Scratch { server, programs, running, tablespaces, _way: way })
        }
        Ok(Err(error)) => {
            running.stop(STOP_LIMIT).await;
            Err(error)
        }
        Err(_) => {
            running.stop(STOP_LIMIT).await;
            Err(failed(place, &postgres, format!("does not answer after {}s", START_LIMIT.as_secs()))?)
        }
    }
}

/// The cluster's directory as the server reaches it, whatever the rights of the directories above: through the descriptor that it has of
/// it. Others of its user, and root, find it there too.
fn way_in(directory: &Path) -> Result<PathBuf, ScratchError> {
    let pid_file = directory.join("data/postmaster.pid");
    let text = fs::read_to_string(&pid_file)?;
    let pid = text.lines().next().unwrap_or_default().trim();
    Ok(Path::new("/proc").join(pid).join(OWN_DIRECTORY.trim_start_matches("/proc/self/")))
}

async fn wait_until_ready(
    server: &config::Server,
    place: &ScratchDir,
    directory: &Path,
) -> Result<(), ScratchError> {
    loop {
        if fs::exists(&directory.join(SOCKET))?
            && let Ok(client) = connect(server, "postgres", "daykeep").await
        {
            let asked = client.query_one("SELECT pg_catalog.current_setting('cluster_name')", &[]).await;
            let name: String = asked
                .and_then(|row| row.try_get(0))
                .map_err(|error| client.failed("ask who it is", &error))?;
            client.close().await;
            if name != place.name() {
                return Err(ScratchError::NotOurs { socket: directory.to_owned() });
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn failed(place: &ScratchDir, program: &Path, problem: String) -> Result<ScratchError, ScratchError> {
    let log = fs::read_if_exists(&place.path().join("server.log"))?.unwrap_or_default();
    let log = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_SHOWN)..]).trim().replace('\n', "; ");
    Ok(ScratchError::Program { program: program.to_owned(), problem, log })
}

#[cfg(test)]
mod tests {
    use super::{Cluster, locales};

    #[test]
    fn a_locale_that_is_not_here_is_not_the_end() {
        let wanted =
            |encoding, locale| Cluster { major: 15, bin_dir: None, encoding, locale, connections: 1 };
        assert_eq!(locales(&wanted("UTF8", Some("de_DE.UTF-8"))), ["de_DE.UTF-8", "C.UTF-8", "C"]);
        assert_eq!(locales(&wanted("LATIN1", None)), ["C"]);
    }
}
