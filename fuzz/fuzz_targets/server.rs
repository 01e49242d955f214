//! What a PostgreSQL server sends, of anything: before and after it has let us in, to a question, and to a COPY. The first byte chooses
//! what it is the answer to, the next three where the bytes end that arrive at once.
#![no_main]

use std::cell::OnceCell;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use daykeep::config;
use daykeep::postgres::{Client, cause_of, connect, fuzzing};
use futures_util::StreamExt as _;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{UnixListener, UnixStream};

/// The longest message of rows that is made.
const LONGEST: usize = 64 * 1024;
/// `AuthenticationOk`, `BackendKeyData`, `ReadyForQuery`.
const LET_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";
/// `ParseComplete`, `ParameterDescription` of none, `NoData`, `ReadyForQuery`.
const PREPARED: &[u8] = b"1\0\0\0\x04t\0\0\0\x06\0\0n\0\0\0\x04Z\0\0\0\x05I";

struct World {
    place: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

thread_local! {
    static WORLD: OnceCell<World> = const { OnceCell::new() };
}

fn world() -> World {
    let place = tempfile::tempdir().expect("a place");
    let passfile = place.path().join("pgpass");
    std::fs::write(&passfile, "*:*:*:*:secret\n").expect("a file");
    std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    World { place, runtime }
}

/// What a stream says, however its rows are divided: all that is no row as it stands, and the text of the rows between.
#[derive(Debug, Default, PartialEq)]
struct Said {
    others: Vec<Vec<u8>>,
    /// The rows before as many of the others.
    rows: Vec<(usize, Vec<u8>)>,
    longest: usize,
}

fn said(mut stream: &[u8]) -> Said {
    let mut said = Said::default();
    while stream.len() >= 5 {
        let length = i32::from_be_bytes([stream[1], stream[2], stream[3], stream[4]]);
        if length < 4 {
            // Nobody reads further.
            said.others.push(stream[..5].to_vec());
            break;
        }
        let (message, behind) = stream.split_at(stream.len().min(1 + length as usize));
        if message[0] == b'd' {
            said.longest = said.longest.max(message.len());
            let at = said.others.len();
            match said.rows.last_mut() {
                Some((before, rows)) if *before == at => rows.extend_from_slice(&message[5..]),
                _ => said.rows.push((at, message[5..].to_vec())),
            }
        } else {
            said.others.push(message.to_vec());
        }
        stream = behind;
    }
    said.rows.retain(|(_, rows)| !rows.is_empty());
    said
}

/// Gives what there is in pieces that end there.
struct Slowly<'a> {
    pieces: std::vec::IntoIter<&'a [u8]>,
}

impl AsyncRead for Slowly<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some(piece) = self.pieces.next() {
            let (now, later) = piece.split_at(piece.len().min(buf.remaining()));
            buf.put_slice(now);
            if !later.is_empty() {
                let left: Vec<_> = std::iter::once(later).chain(self.pieces.by_ref()).collect();
                self.pieces = left.into_iter();
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn pieces<'a>(bytes: &'a [u8], ends: &[usize]) -> Vec<&'a [u8]> {
    let begins = std::iter::once(0).chain(ends.iter().copied());
    let ends = ends.iter().copied().chain([bytes.len()]);
    begins.zip(ends).map(|(begin, end)| &bytes[begin..end]).filter(|piece| !piece.is_empty()).collect()
}

/// Says one thing after another, each when it was asked something, and hangs up.
async fn serve(listener: UnixListener, script: &[&[&[u8]]]) {
    let Ok((mut stream, _)) = listener.accept().await else { return };
    let mut question = vec![0; 64 * 1024];
    for answer in script {
        if !matches!(stream.read(&mut question).await, Ok(1..)) {
            return;
        }
        for piece in *answer {
            if stream.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
    hang_up(stream).await;
}

async fn hang_up(mut stream: UnixStream) {
    let _ = stream.shutdown().await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

/// The rows of a COPY, and whether it came to its end.
async fn copied(client: &Client) -> (Vec<u8>, bool) {
    let mut rows = Vec::new();
    let stream = match client.copy_out("COPY t TO STDOUT").await {
        Ok(stream) => stream,
        Err(error) => {
            assert!(!cause_of(&error).is_empty());
            return (rows, false);
        }
    };
    let mut stream = pin!(stream);
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => {
                assert!(piece.len() < LONGEST, "{}", piece.len());
                rows.extend_from_slice(&piece);
            }
            Err(error) => {
                assert!(!client.failed("copy", &error).to_string().is_empty());
                return (rows, false);
            }
        }
    }
    (rows, true)
}

async fn meet(
    socket: &PathBuf,
    server: &config::Server,
    which: u8,
    bytes: &[&[u8]],
) -> Option<(Vec<u8>, bool)> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).expect("a socket");
    let script: &[&[&[u8]]] = match which % 4 {
        0 => &[bytes],
        1 => &[&[LET_IN], bytes],
        _ => &[&[LET_IN], &[PREPARED], bytes],
    };
    let ask = async {
        let client = match connect(server, "postgres", "daykeep").await {
            Ok(client) => client,
            Err(error) => {
                assert!(!error.to_string().contains("secret"), "{error}");
                return None;
            }
        };
        let rows = if which % 4 < 2 {
            if let Err(error) = client.simple_query("SELECT 1").await {
                assert!(!client.failed("ask", &error).to_string().is_empty());
            }
            None
        } else {
            Some(copied(&client).await)
        };
        assert!(client.take_notices().len() <= 100);
        client.close().await;
        rows
    };
    tokio::select! {
        rows = ask => rows,
        () = async { serve(listener, script).await; std::future::pending().await } => None,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(([which, places @ ..], bytes)) = data.split_first_chunk::<4>() else { return };
    let mut ends: Vec<usize> = places.iter().map(|place| bytes.len() * usize::from(*place) / 256).collect();
    ends.sort_unstable();
    let expected = said(bytes);
    let cut = fuzzing::cut(bytes, &ends);
    assert!(cut.len() <= bytes.len() + 5 * (bytes.len() / LONGEST + ends.len() + 1), "it swells");
    let made = said(&cut);
    assert!(made.longest <= LONGEST, "{}", made.longest);
    assert_eq!((&made.others, &made.rows), (&expected.others, &expected.rows));
    WORLD.with(|of_thread| {
        let World { place, runtime } = of_thread.get_or_init(world);
        runtime.block_on(async {
            let mut over_tls = Vec::new();
            let slowly = Slowly { pieces: pieces(bytes, &ends).into_iter() };
            fuzzing::recut(slowly).read_to_end(&mut over_tls).await.expect("nothing fails");
            let over_tls = said(&over_tls);
            assert_eq!((&over_tls.others, &over_tls.rows), (&expected.others, &expected.rows));

            let server = config::Server {
                host: Some(place.path().display().to_string()),
                port: Some(5432),
                user: Some("postgres".to_owned()),
                passfile: Some(place.path().join("pgpass")),
                ..config::Server::default()
            };
            let socket = place.path().join(".s.PGSQL.5432");
            let Some((rows, ended)) = meet(&socket, &server, *which, &pieces(bytes, &ends)).await else {
                return;
            };
            // BindComplete and CopyOutResponse, then rows until CopyDone.
            let mut sent = expected.rows.iter().flat_map(|(_, rows)| rows);
            assert!(rows.iter().all(|byte| sent.next() == Some(byte)), "rows that were not sent");
            if ended {
                let done =
                    expected.others.iter().position(|other| other[0] == b'c').expect("an end was sent");
                let before = expected.rows.iter().filter(|(at, _)| *at <= done).map(|(_, rows)| rows.len());
                assert_eq!(rows.len(), before.sum::<usize>(), "an end, but not all rows");
            }
        });
    });
});
