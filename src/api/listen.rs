//! Accepts connections, bounded in number, in patience and in what they may send.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::peer::Peer;
use crate::api::stall::Unstalled;

/// Connections at one time. Each needs a file descriptor and some kilobytes.
pub const CONNECTIONS: usize = 2048;
/// How long a client may take to send the head of a request, and how long an idle connection stays.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may leave an answer unread.
const READ_PATIENCE: Duration = Duration::from_secs(30);
/// How long connections may take to end when the daemon stops.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long to wait after accept has failed (no file descriptor left).
const BREATH: Duration = Duration::from_millis(100);
/// The longest head of a request.
const LONGEST_HEAD: usize = 16 * 1024;

/// Answers connections until `stop` is cancelled, then lets those that are open end, for a moment.
pub async fn serve(listener: UnixListener, router: Router, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match (accepted, Arc::clone(&seats).try_acquire_owned()) {
            (Ok((stream, _)), Ok(seat)) => {
                tasks.spawn(connection(stream, router.clone(), stop.clone(), seat));
            }
            // Too many: this one is closed at once, and the next try may be luckier.
            (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    tasks.close();
    // Whoever still reads then is cut off with the process.
    let _ = tokio::time::timeout(GOODBYE, tasks.wait()).await;
}

async fn connection(
    stream: UnixStream,
    router: Router,
    stop: CancellationToken,
    _seat: OwnedSemaphorePermit,
) {
    let Some(peer) = Peer::of(&stream) else {
        return;
    };
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(LONGEST_HEAD)
        .half_close(false)
        .serve_connection(TokioIo::new(Unstalled::new(stream, READ_PATIENCE)), service);
    tokio::pin!(connection);
    // What goes wrong here is a client that went away or does not speak HTTP: nothing of ours.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
