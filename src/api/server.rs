//! The routes: which question gets which answer. What is asked about is behind [`Backend`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, FromRequest, FromRequestParts as _, Path, Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::api::order::Order;
use crate::api::peer::Peer;
use crate::api::wire::{self, SCHEMA};

/// The longest body that a request may have.
const LONGEST_BODY: usize = 16 * 1024;
/// How long a body may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// How many jobs are listed when nothing else is asked for.
const JOBS_LISTED: usize = 100;
/// How often an event stream on which nothing happens shows that it is alive.
const ALIVE: Duration = Duration::from_secs(15);

/// What the routes are about: the daemon. Answers come from memory, at once, but for those that are futures.
pub trait Backend: Send + Sync + 'static {
    /// How everything stands.
    fn status(&self) -> impl Future<Output = wire::Status> + Send;
    /// The repositories as configured.
    fn repositories(&self) -> Vec<wire::Repository>;
    /// The jobs that are remembered, newest first.
    fn jobs(&self) -> impl Future<Output = Vec<wire::Job>> + Send;
    /// One job.
    fn job(&self, id: u64) -> impl Future<Output = Option<wire::Job>> + Send;
    /// The days of a repository, newest first.
    fn days(&self, repository: &str) -> impl Future<Output = Result<wire::Days, Refusal>> + Send;
    /// One day of a repository.
    fn day(&self, repository: &str, day: &str) -> impl Future<Output = Result<wire::OneDay, Refusal>> + Send;
    /// Starts a job.
    fn start(
        &self,
        repository: &str,
        order: Order,
        user: &str,
    ) -> impl Future<Output = Result<wire::Job, Refusal>> + Send;
    /// Asks a job to stop.
    fn cancel(&self, id: u64, user: &str) -> Result<wire::Job, Refusal>;
    /// The jobs that run, and what happens from now on.
    fn subscribe(&self) -> (Vec<wire::Job>, Receiver<wire::Live>);
    /// All figures, in the text format of OpenMetrics.
    fn metrics(&self) -> impl Future<Output = String> + Send;
    /// The group whose members may start and cancel.
    fn group(&self) -> String;
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The word for programs.
    pub code: &'static str,
    /// The sentence for people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None }
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// There is no such repository.
    #[must_use]
    pub fn no_such_repository(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_repository", format!("there is no repository {name:?}"))
            .hint("GET /v1/repositories lists them")
    }

    /// There is no such job.
    #[must_use]
    pub fn no_such_job(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_job", format!("there is no job {id}"))
            .hint("GET /v1/jobs lists the newest ones")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = wire::Fault { code: self.code.to_owned(), message: self.message, hint: self.hint };
        (self.status, Json(wire::Failure { schema: SCHEMA, error })).into_response()
    }
}

/// All routes.
pub fn router<B: Backend>(backend: Arc<B>) -> Router {
    Router::new()
        .route("/v1/status", get(status::<B>))
        .route("/v1/jobs", get(jobs::<B>))
        .route("/v1/jobs/{id}", get(job::<B>))
        .route("/v1/jobs/{id}/cancel", post(cancel::<B>))
        .route("/v1/repositories", get(repositories::<B>))
        .route("/v1/repositories/{name}/runs", post(run::<B>))
        .route("/v1/repositories/{name}/restores", post(restore::<B>))
        .route("/v1/repositories/{name}/restores/undo", post(undo::<B>))
        .route("/v1/repositories/{name}/restores/confirm", post(confirm::<B>))
        .route("/v1/repositories/{name}/verifies", post(verify::<B>))
        .route("/v1/repositories/{name}/drills", post(drill::<B>))
        .route("/v1/repositories/{name}/days", get(days::<B>))
        .route("/v1/repositories/{name}/days/{day}", get(day::<B>))
        .route("/v1/events", get(events::<B>))
        .route("/metrics", get(metrics::<B>))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&backend), guard::<B>))
        .with_state(backend)
}

/// What changes anything is for those who may; and nobody sends long or slow bodies.
async fn guard<B: Backend>(
    State(backend): State<Arc<B>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (mut head, body) = request.into_parts();
    let reading = axum::body::to_bytes(body, LONGEST_BODY);
    let body = match tokio::time::timeout(BODY_PATIENCE, reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                format!("the body of a request may have {LONGEST_BODY} bytes"),
            ));
        }
        Err(_) => {
            return Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "bad_request",
                "the body did not come in time",
            ));
        }
    };
    if !matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        let user = allowed(backend.group(), peer).await?;
        head.extensions.insert(User(user));
    }
    Ok(next.run(Request::from_parts(head, body.into())).await)
}

/// Who starts or cancels.
#[derive(Debug, Clone)]
struct User(String);

async fn allowed(group: String, peer: Peer) -> Result<String, Refusal> {
    let group_name = group.clone();
    let asked = tokio::task::spawn_blocking(move || peer.may_control(&group_name).then(|| peer.user())).await;
    match asked {
        Ok(Some(user)) => Ok(user),
        Ok(None) | Err(_) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("{peer} may look, but not start or cancel: that is for root and the members of group {group:?}"),
        )
        .hint(format!("usermod -aG {group} USER, and log in again"))),
    }
}

async fn status<B: Backend>(State(backend): State<Arc<B>>) -> Json<wire::Status> {
    Json(backend.status().await)
}

#[derive(Debug, Deserialize)]
struct JobsQuery {
    repository: Option<String>,
    limit: Option<usize>,
}

async fn jobs<B: Backend>(
    State(backend): State<Arc<B>>,
    query: Result<Query<JobsQuery>, QueryRejection>,
) -> Result<Json<wire::Jobs>, Refusal> {
    let Query(query) = query.map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, "bad_request", error.body_text())
            .hint("the query takes repository=NAME and limit=NUMBER")
    })?;
    let mut jobs = backend.jobs().await;
    jobs.retain(|job| query.repository.as_ref().is_none_or(|name| *name == job.repository));
    jobs.truncate(query.limit.unwrap_or(JOBS_LISTED));
    Ok(Json(wire::Jobs { schema: SCHEMA, jobs }))
}

async fn job<B: Backend>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
) -> Result<Json<wire::OneJob>, Refusal> {
    let number = id.parse().map_err(|_| Refusal::no_such_job(&id))?;
    let job = backend.job(number).await.ok_or_else(|| Refusal::no_such_job(&id))?;
    Ok(Json(wire::OneJob { schema: SCHEMA, job }))
}

async fn cancel<B: Backend>(
    State(backend): State<Arc<B>>,
    Extension(User(user)): Extension<User>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let number = id.parse().map_err(|_| Refusal::no_such_job(&id))?;
    let job = backend.cancel(number, &user)?;
    Ok((StatusCode::ACCEPTED, Json(wire::OneJob { schema: SCHEMA, job })).into_response())
}

async fn run<B: Backend>(asked: Asked<B>) -> Result<Response, Refusal> {
    asked.start(Order::Backup).await
}

async fn restore<B: Backend>(asked: Asked<B>) -> Result<Response, Refusal> {
    let order = Order::Restore(asked.body()?);
    asked.start(order).await
}

async fn undo<B: Backend>(asked: Asked<B>) -> Result<Response, Refusal> {
    let order = Order::Undo(asked.body()?);
    asked.start(order).await
}

async fn confirm<B: Backend>(asked: Asked<B>) -> Result<Response, Refusal> {
    let order = Order::Confirm(asked.body()?);
    asked.start(order).await
}

async fn verify<B: Backend>(asked: Asked<B>) -> Result<Response, Refusal> {
    let order = Order::Verify(asked.body()?);
    asked.start(order).await
}

async fn drill<B: Backend>(asked: Asked<B>) -> Result<Response, Refusal> {
    let order = Order::Drill(asked.body()?);
    asked.start(order).await
}

/// A question that starts a job of a repository.
struct Asked<B> {
    backend: Arc<B>,
    user: String,
    repository: String,
    body: Bytes,
}

impl<B: Backend> FromRequest<Arc<B>> for Asked<B> {
    type Rejection = Response;

    async fn from_request(request: Request, backend: &Arc<B>) -> Result<Self, Response> {
        let (mut head, body) = request.into_parts();
        let Path(repository) =
            Path::from_request_parts(&mut head, backend).await.map_err(IntoResponse::into_response)?;
        let Extension(User(user)) =
            Extension::from_request_parts(&mut head, backend).await.map_err(IntoResponse::into_response)?;
        let body = Bytes::from_request(Request::from_parts(head, body), backend)
            .await
            .map_err(IntoResponse::into_response)?;
        Ok(Self { backend: Arc::clone(backend), user, repository, body })
    }
}

impl<B: Backend> Asked<B> {
    /// The order in the body; without a body, one that says nothing.
    fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let text: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(text).map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, "bad_request", format!("the body is no order: {error}"))
                .hint("docs/api.md has the orders")
        })
    }

    async fn start(self, order: Order) -> Result<Response, Refusal> {
        let job = self.backend.start(&self.repository, order, &self.user).await?;
        Ok(started(job))
    }
}

fn started(job: wire::Job) -> Response {
    let place = HeaderValue::from_str(&format!("/v1/jobs/{}", job.id)).ok();
    let mut answer = (StatusCode::ACCEPTED, Json(wire::OneJob { schema: SCHEMA, job })).into_response();
    if let Some(place) = place {
        answer.headers_mut().insert(header::LOCATION, place);
    }
    answer
}

async fn repositories<B: Backend>(State(backend): State<Arc<B>>) -> Json<wire::Repositories> {
    Json(wire::Repositories { schema: SCHEMA, repositories: backend.repositories() })
}

async fn days<B: Backend>(
    State(backend): State<Arc<B>>,
    Path(name): Path<String>,
) -> Result<Json<wire::Days>, Refusal> {
    backend.days(&name).await.map(Json)
}

async fn day<B: Backend>(
    State(backend): State<Arc<B>>,
    Path((name, day)): Path<(String, String)>,
) -> Result<Json<wire::OneDay>, Refusal> {
    backend.day(&name, &day).await.map(Json)
}

async fn metrics<B: Backend>(State(backend): State<Arc<B>>) -> Response {
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], backend.metrics().await).into_response()
}

async fn events<B: Backend>(State(backend): State<Arc<B>>) -> impl IntoResponse {
    let (running, live) = backend.subscribe();
    let mut first: Vec<wire::Live> =
        running.into_iter().map(|job| wire::Live::Job { job: Box::new(job) }).collect();
    first.reverse();
    Sse::new(lines(first, live)).keep_alive(KeepAlive::new().interval(ALIVE))
}

/// First what is, then what happens; the stream ends with the daemon's goodbye, so that it keeps no shutdown waiting.
fn lines(
    first: Vec<wire::Live>,
    live: Receiver<wire::Live>,
) -> impl Stream<Item = Result<SseEvent, Infallible>> + Send {
    unfold((first, live, false), async |(mut first, mut live, ended)| {
        if ended {
            return None;
        }
        let next = match first.pop() {
            Some(known) => known,
            None => match live.recv().await {
                Ok(told) => told,
                Err(RecvError::Lagged(count)) => wire::Live::Missed { count },
                Err(RecvError::Closed) => return None,
            },
        };
        let ended = matches!(next, wire::Live::End { .. });
        Some((Ok(line(&next)), (first, live, ended)))
    })
}

fn line(live: &impl Serialize) -> SseEvent {
    // Our own structures always are JSON: names of fields and no floats that are not numbers.
    SseEvent::default().json_data(live).unwrap_or_else(|error| SseEvent::default().comment(error.to_string()))
}

async fn unknown(request: Request) -> Refusal {
    let path = request.uri().path();
    Refusal::new(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at {path}"))
        .hint("docs/api.md lists what there is; GET /v1/status is a good start")
}

async fn wrong_method(request: Request) -> Refusal {
    let (method, path) = (request.method(), request.uri().path());
    let message = format!("{path} does not take {method}");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
