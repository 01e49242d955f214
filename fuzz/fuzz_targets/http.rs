//! A client of the daemon's socket that says anything: whatever it is, a client that speaks HTTP gets its answer afterwards.
#![no_main]

use std::cell::{Cell, OnceCell};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daykeep::api::order::Order;
use daykeep::api::server::{Backend, Refusal, router};
use daykeep::api::{listen, wire};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Knows nothing, refuses everything, and looks at what it is asked.
struct Nobody(broadcast::Sender<wire::Live>);

impl Backend for Nobody {
    async fn status(&self) -> wire::Status {
        serde_json::from_str(include_str!("../status.json")).expect("a status")
    }

    fn repositories(&self) -> Vec<wire::Repository> {
        Vec::new()
    }

    async fn jobs(&self) -> Vec<wire::Job> {
        Vec::new()
    }

    async fn job(&self, _: u64) -> Option<wire::Job> {
        None
    }

    async fn days(&self, repository: &str) -> Result<wire::Days, Refusal> {
        Err(Refusal::no_such_repository(repository))
    }

    async fn day(&self, repository: &str, day: &str) -> Result<wire::OneDay, Refusal> {
        Err(Refusal::no_such_repository(&format!("{repository}/{day}")))
    }

    async fn start(&self, repository: &str, order: Order, _: &str) -> Result<wire::Job, Refusal> {
        let body = order.body().expect("an order can be said again");
        assert!(body.len() <= 64 * 1024);
        if let Order::Restore(order) = &order
            && let Ok(choice) = order.choice()
        {
            let _ = choice.options();
        }
        Err(Refusal::no_such_repository(repository))
    }

    fn cancel(&self, id: u64, _: &str) -> Result<wire::Job, Refusal> {
        Err(Refusal::no_such_job(&id.to_string()))
    }

    fn subscribe(&self) -> (Vec<wire::Job>, broadcast::Receiver<wire::Live>) {
        // The stream ends at once.
        (Vec::new(), broadcast::channel(1).0.subscribe())
    }

    async fn metrics(&self) -> String {
        let _ = &self.0;
        "# EOF\n".to_owned()
    }

    fn group(&self) -> String {
        "daykeep".to_owned()
    }
}

struct World {
    _place: tempfile::TempDir,
    socket: std::path::PathBuf,
    runtime: tokio::runtime::Runtime,
    asked: Cell<u64>,
}

thread_local! {
    static WORLD: OnceCell<World> = const { OnceCell::new() };
}

fn world() -> World {
    let place = tempfile::tempdir().expect("a place");
    let socket = place.path().join("s");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listener = {
        let _inside = runtime.enter();
        UnixListener::bind(&socket).expect("a socket")
    };
    let routes = router(Arc::new(Nobody(broadcast::channel(1).0)));
    runtime.spawn(listen::serve(listener, routes, tokio_util::sync::CancellationToken::new()));
    World { _place: place, socket, runtime, asked: Cell::new(0) }
}

/// What is answered until the daemon hangs up, which it does soon after the client has said all.
async fn ask(socket: &Path, question: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).await.expect("it listens");
    let _ = stream.write_all(question).await;
    let _ = stream.shutdown().await;
    let mut said = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    assert!(read.is_ok(), "it does not hang up");
    said
}

fuzz_target!(|data: &[u8]| {
    WORLD.with(|world_of_thread| {
        let world = world_of_thread.get_or_init(world);
        world.runtime.block_on(async {
            // A head that is not complete is waited for; hanging up ends that.
            let said = ask(&world.socket, data).await;
            if !said.is_empty() {
                assert!(said.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&said));
            }
            // Not after each: it takes as long as what is tried.
            if world.asked.replace(world.asked.get() + 1) % 32 == 0 {
                let said = ask(&world.socket, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n").await;
                assert!(said.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&said));
            }
        });
    });
});
