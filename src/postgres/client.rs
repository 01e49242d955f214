//! A connection: its task, its notices, its way to be cancelled.

use std::error::Error as _;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::ExposeSecret as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, CancelToken, Config, Connection, NoTls};

use super::recut::RecutTls;
use super::socket::Socket;
use super::{Error, Resolved, SslMode, tls};

/// Notices kept per connection: what a server says beyond them is of no use to anybody.
const NOTICES_KEPT: usize = 100;
/// Seconds of silence after which a peer is asked whether it is still there.
const KEEPALIVE_IDLE: u32 = 60;

/// A connection to one database. Dereferences to [`tokio_postgres::Client`]; dropping it closes the connection.
#[derive(Debug)]
pub struct Client {
    inner: tokio_postgres::Client,
    place: String,
    dbname: String,
    way: Way,
    notices: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<Option<String>>,
}

/// How the server was reached, so that it can be reached once more.
#[derive(Clone)]
enum Way {
    Unix(PathBuf),
    Tcp(SocketAddr),
    Tls(RecutTls),
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => f.debug_tuple("Unix").field(path).finish(),
            Self::Tcp(address) => f.debug_tuple("Tcp").field(address).finish(),
            Self::Tls(_) => f.write_str("Tls"),
        }
    }
}

impl Deref for Client {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl Client {
    /// The database.
    #[must_use]
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// What the server told unasked since the last time: notices and warnings.
    #[must_use]
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Cancels what the connection is doing, from outside.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller { token: self.inner.cancel_token(), way: self.way.clone() }
    }

    /// Gives a failure its place and verb.
    #[must_use]
    pub fn failed(&self, action: impl Into<String>, error: &tokio_postgres::Error) -> Error {
        Error::Statement {
            place: self.place.clone(),
            dbname: self.dbname.clone(),
            action: action.into(),
            cause: cause_of(error),
            code: error.code().map(|code| code.code().to_owned()),
        }
    }

    /// Says goodbye and waits for the end of the connection.
    pub async fn close(self) {
        drop(self.inner);
        // Whatever the server says now concerns nothing that was asked.
        let _ = self.task.await;
    }
}

/// Cancels what a connection is doing.
#[derive(Clone)]
pub struct Canceller {
    token: CancelToken,
    way: Way,
}

impl std::fmt::Debug for Canceller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Canceller")
    }
}

impl Canceller {
    /// Asks the server to cancel the statement; what comes of it shows on the connection.
    pub async fn cancel(&self) {
        // A server that cannot be reached any more has nothing left to cancel.
        let _ = match &self.way {
            Way::Unix(path) => match UnixStream::connect(path).await {
                Ok(socket) => self.token.cancel_query_raw(socket, NoTls).await,
                Err(_) => Ok(()),
            },
            Way::Tcp(address) => match TcpStream::connect(address).await {
                Ok(socket) => self.token.cancel_query_raw(socket, NoTls).await,
                Err(_) => Ok(()),
            },
            Way::Tls(tls) => self.token.cancel_query(tls.clone()).await,
        };
    }
}

/// Connects. A dead peer is noticed by keepalives.
///
/// # Errors
/// The server cannot be reached or refuses.
pub async fn connect(resolved: &Resolved, dbname: &str, application_name: &str) -> Result<Client, Error> {
    let (password, note) = resolved.password_for(dbname)?;
    let mut config = Config::new();
    config
        .user(&resolved.user)
        .dbname(dbname)
        .application_name(application_name)
        .port(resolved.port)
        .connect_timeout(resolved.connect_timeout)
        .keepalives_idle(std::time::Duration::from_secs(KEEPALIVE_IDLE.into()));
    config.host(&resolved.host);
    if let Some(address) = resolved.hostaddr {
        config.hostaddr(address);
    }
    if let Some(options) = &resolved.options {
        config.options(options);
    }
    if let Some(password) = &password {
        config.password(password.expose_secret());
    }
    let failed = |cause: String, absent: bool| Error::Connect {
        place: resolved.place(),
        user: resolved.user.clone(),
        dbname: dbname.to_owned(),
        cause,
        note: note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default(),
        absent,
    };
    let work = attempt(&mut config, resolved, dbname);
    match tokio::time::timeout(resolved.connect_timeout, work).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(Attempt::Parameters(error))) => Err(error),
        Ok(Err(Attempt::Server(error))) => Err(failed(cause_of(&error), is_absent(&error))),
        Ok(Err(Attempt::Socket(error))) => {
            Err(failed(format!("error connecting to server: {error}"), is_nobody(&error)))
        }
        Err(_) => Err(failed(format!("no answer within {}s", resolved.connect_timeout.as_secs()), true)),
    }
}

/// No server, or none that knows the database, or one on which it is closed to everybody: a restore that was killed in its switch leaves it
/// so for the moment.
fn is_absent(error: &tokio_postgres::Error) -> bool {
    if let Some(code) = error.code() {
        return [SqlState::INVALID_CATALOG_NAME, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE].contains(code);
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return is_nobody(error);
        }
        source = cause.source();
    }
    false
}

fn is_nobody(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, NotFound, TimedOut};
    [ConnectionRefused, HostUnreachable, NetworkUnreachable, NotFound, TimedOut].contains(&error.kind())
}

enum Attempt {
    Parameters(Error),
    Server(tokio_postgres::Error),
    Socket(std::io::Error),
}

async fn attempt(config: &mut Config, resolved: &Resolved, dbname: &str) -> Result<Client, Attempt> {
    if resolved.is_socket() || resolved.sslmode == SslMode::Disable {
        return plain(config, resolved, dbname).await;
    }
    let tls = RecutTls(tls::connector(resolved).map_err(Attempt::Parameters)?);
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    match config.connect(tls.clone()).await {
        Ok((client, connection)) => Ok(drive(client, connection, Way::Tls(tls), resolved, dbname)),
        Err(error) if resolved.sslmode == SslMode::Prefer && has_no_tls(&error) => {
            plain(config, resolved, dbname).await
        }
        Err(error) if resolved.sslmode == SslMode::Prefer && plain_may_do(&error) => {
            plain(config, resolved, dbname).await.map_err(|_| Attempt::Server(error))
        }
        Err(error) => Err(Attempt::Server(error)),
    }
}

fn has_no_tls(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|cause| cause.to_string() == "server does not support TLS")
}

/// With `sslmode=prefer`, libpq tries again without TLS when the handshake fails or pg_hba.conf has no line for TLS.
fn plain_may_do(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
        || error.to_string() == "error performing TLS handshake"
}

async fn plain(config: &mut Config, resolved: &Resolved, dbname: &str) -> Result<Client, Attempt> {
    config.ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (socket, way) = if resolved.is_socket() {
        let path = socket_path(&resolved.host, resolved.port);
        Socket::unix(&path).await.map(|socket| (socket, Way::Unix(path)))
    } else {
        let socket = Socket::tcp(&resolved.host, resolved.hostaddr, resolved.port, KEEPALIVE_IDLE);
        socket.await.map(|(socket, address)| (socket, Way::Tcp(address)))
    }
    .map_err(Attempt::Socket)?;
    let (client, connection) = config.connect_raw(socket, NoTls).await.map_err(Attempt::Server)?;
    Ok(drive(client, connection, way, resolved, dbname))
}

/// The socket of a server in a directory; `@` is for the abstract namespace, as libpq has it.
fn socket_path(host: &str, port: u16) -> PathBuf {
    let path = Path::new(host).join(format!(".s.PGSQL.{port}"));
    match host.strip_prefix('@') {
        None => path,
        Some(name) => Path::new(&format!("\0{name}")).join(format!(".s.PGSQL.{port}")),
    }
}

fn drive<S, T>(
    inner: tokio_postgres::Client,
    connection: Connection<S, T>,
    way: Way,
    resolved: &Resolved,
    dbname: &str,
) -> Client
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let notices = Arc::new(Mutex::new(Vec::new()));
    let task = tokio::spawn(listen(connection, notices.clone()));
    Client { inner, place: resolved.place(), dbname: dbname.to_owned(), way, notices, task }
}

/// Moves the connection's bytes until it ends; gives what ended it.
async fn listen<S, T>(mut connection: Connection<S, T>, notices: Arc<Mutex<Vec<String>>>) -> Option<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notice(notice))) => {
                let mut kept = notices.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < NOTICES_KEPT {
                    kept.push(format!("{}: {}", notice.severity(), notice.message()));
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Some(cause_of(&error)),
            None => return None,
        }
    }
}

/// All that an error knows: what the server said with its detail, hint and SQLSTATE, or the chain of causes.
#[must_use]
pub fn cause_of(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let mut text = format!("{}: {}", said.severity(), said.message());
        for more in [said.detail(), said.hint(), said.where_()].into_iter().flatten() {
            // Writing to a String cannot fail.
            let _ = write!(text, "; {}", more.replace('\n', "; "));
        }
        let _ = write!(text, " (SQLSTATE {})", said.code().code());
        return text;
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
