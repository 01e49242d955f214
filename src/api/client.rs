//! Speaks to the daemon.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::order::Order;
use crate::api::wire;
use crate::manifest::Manifest;

/// How long an answer may take. Everything but the event stream is answered from memory or a directory listing.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest line of the event stream.
const LONGEST_LINE: usize = 1024 * 1024;

/// The daemon cannot be asked, or refuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no daemon answers at {}: is daykeepd running?", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket cannot be opened by this user.
    #[error("this user may not open {}: only root and its group may (see [daemon] group)", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the daemon at {} broke", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        source: hyper::Error,
    },
    /// No answer came in time.
    #[error("the daemon at {} did not answer within {}s", socket.display(), limit.as_secs())]
    TimedOut {
        /// The socket.
        socket: PathBuf,
        /// How long it had.
        limit: Duration,
    },
    /// It answered with something that is not the language of this version.
    #[error("the daemon at {} gives an answer that daykeep {} does not understand", socket.display(), env!("CARGO_PKG_VERSION"))]
    Strange {
        /// The socket.
        socket: PathBuf,
        /// What is strange about it.
        source: serde_json::Error,
    },
    /// It refused.
    #[error("{}", fault.message)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why.
        fault: wire::Fault,
    },
}

impl Error {
    /// The word for programs in the daemon's refusal (`already_running`, `no_such_repository`, ...), if it is one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { fault, .. } => Some(&fault.code),
            _ => None,
        }
    }

    /// What to do about it, if the daemon knows.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { fault, .. } => fault.hint.as_deref(),
            _ => None,
        }
    }
}

/// A daemon by its socket. Each question is a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The daemon that listens at `socket`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// How everything stands.
    ///
    /// # Errors
    /// The daemon cannot be asked.
    pub async fn status(&self) -> Result<wire::Status, Error> {
        self.ask(Method::GET, "/v1/status").await
    }

    /// The newest jobs, newest first.
    ///
    /// # Errors
    /// The daemon cannot be asked.
    pub async fn jobs(&self) -> Result<Vec<wire::Job>, Error> {
        let answer: wire::Jobs = self.ask(Method::GET, "/v1/jobs").await?;
        Ok(answer.jobs)
    }

    /// One job.
    ///
    /// # Errors
    /// The daemon cannot be asked, or there is no such job.
    pub async fn job(&self, id: u64) -> Result<wire::Job, Error> {
        let answer: wire::OneJob = self.ask(Method::GET, &format!("/v1/jobs/{id}")).await?;
        Ok(answer.job)
    }

    /// Starts a job of a repository.
    ///
    /// # Errors
    /// The daemon cannot be asked, there is no such repository, another job is in the way, the order makes no sense, or this
    /// user may not.
    pub async fn start(&self, repository: &str, order: &Order) -> Result<wire::Job, Error> {
        let path = format!("/v1/repositories/{}/{}", encoded(repository), order.place());
        let body = order.body().map_err(|source| self.strange(source))?;
        let answer: wire::OneJob = self.ask_with(Method::POST, &path, body.into()).await?;
        Ok(answer.job)
    }

    /// Asks a job to stop; it is released and ends a little later. Nothing happens to one that has ended.
    ///
    /// # Errors
    /// The daemon cannot be asked, there is no such job, or this user may not.
    pub async fn cancel(&self, id: u64) -> Result<wire::Job, Error> {
        let answer: wire::OneJob = self.ask(Method::POST, &format!("/v1/jobs/{id}/cancel")).await?;
        Ok(answer.job)
    }

    /// The repositories as configured.
    ///
    /// # Errors
    /// The daemon cannot be asked.
    pub async fn repositories(&self) -> Result<Vec<wire::Repository>, Error> {
        let answer: wire::Repositories = self.ask(Method::GET, "/v1/repositories").await?;
        Ok(answer.repositories)
    }

    /// The days of a repository, newest first.
    ///
    /// # Errors
    /// The daemon cannot be asked, there is no such repository, or its vault cannot be read.
    pub async fn days(&self, repository: &str) -> Result<Vec<wire::Day>, Error> {
        let path = format!("/v1/repositories/{}/days", encoded(repository));
        let answer: wire::Days = self.ask(Method::GET, &path).await?;
        Ok(answer.days)
    }

    /// One day of a repository, by its full name.
    ///
    /// # Errors
    /// The daemon cannot be asked, or there is no such repository or day.
    pub async fn day(&self, repository: &str, day: &str) -> Result<Manifest, Error> {
        let path = format!("/v1/repositories/{}/days/{}", encoded(repository), encoded(day));
        let answer: wire::OneDay = self.ask(Method::GET, &path).await?;
        Ok(answer.manifest)
    }

    /// What happens from now on.
    ///
    /// # Errors
    /// The daemon cannot be asked.
    pub async fn events(&self) -> Result<Events, Error> {
        let answer = self.send(Method::GET, "/v1/events", Bytes::new()).await?;
        let answer = self.success(answer).await?;
        Ok(Events { socket: self.socket.clone(), body: answer.into_body(), rest: BytesMut::new() })
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Error> {
        self.ask_with(method, path, Bytes::new()).await
    }

    async fn ask_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Error> {
        let exchange = async {
            let answer = self.send(method, path, body).await?;
            let answer = self.success(answer).await?;
            let body = self.body(answer).await?;
            serde_json::from_slice(&body).map_err(|source| self.strange(source))
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(done) => done,
            Err(_) => Err(Error::TimedOut { socket: self.socket.clone(), limit: PATIENCE }),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Error> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| self.unreachable(source))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| self.broken(source))?;
        // It ends with the answer's body; what goes wrong on it is told to whoever reads that.
        tokio::spawn(connection);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap_or_default();
        request
            .headers_mut()
            .insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("localhost"));
        sender.send_request(request).await.map_err(|source| self.broken(source))
    }

    async fn success(&self, answer: Response<Incoming>) -> Result<Response<Incoming>, Error> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.body(answer).await?;
        Err(Error::Refused { status: status.as_u16(), fault: fault(status, &body) })
    }

    async fn body(&self, answer: Response<Incoming>) -> Result<Bytes, Error> {
        let collected = answer.into_body().collect().await.map_err(|source| self.broken(source))?;
        Ok(collected.to_bytes())
    }

    fn unreachable(&self, source: io::Error) -> Error {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Denied { socket, source },
            _ => Error::NotRunning { socket, source },
        }
    }

    fn broken(&self, source: hyper::Error) -> Error {
        Error::Broken { socket: self.socket.clone(), source }
    }

    fn strange(&self, source: serde_json::Error) -> Error {
        Error::Strange { socket: self.socket.clone(), source }
    }
}

/// The fault in a body; one is made up for an answer that was not written by the daemon's own hand.
fn fault(status: StatusCode, body: &[u8]) -> wire::Fault {
    serde_json::from_slice(body).map_or_else(
        |_| wire::Fault {
            code: "unknown".to_owned(),
            message: format!("the daemon answers {status}"),
            hint: None,
        },
        |failure: wire::Failure| failure.error,
    )
}

/// The live events.
#[derive(Debug)]
pub struct Events {
    socket: PathBuf,
    body: Incoming,
    rest: BytesMut,
}

impl Events {
    /// The next one; None when the daemon has ended the stream.
    ///
    /// # Errors
    /// The connection broke, or a line cannot be understood.
    pub async fn next(&mut self) -> Result<Option<wire::Live>, Error> {
        loop {
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                if let Some(data) = line.strip_prefix(b"data:") {
                    return serde_json::from_slice(data.trim_ascii())
                        .map(Some)
                        .map_err(|source| Error::Strange { socket: self.socket.clone(), source });
                }
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(source)) => return Err(Error::Broken { socket: self.socket.clone(), source }),
                Some(Ok(frame)) => self.take(&frame.into_data().unwrap_or_default()),
            }
        }
    }

    fn take(&mut self, data: &Bytes) {
        if self.rest.len() + data.len() > LONGEST_LINE {
            self.rest.clear();
        }
        self.rest.extend_from_slice(data);
    }
}

/// A name as one part of a path.
fn encoded(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
        path
    })
}
