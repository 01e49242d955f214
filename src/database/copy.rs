//! One segment's way: COPY text from the server, its digests, and its place on the shelf.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, mpsc};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::Error;
use super::frozen::lost;
use super::progress::Progress;
use super::segments::{CAP, Pages, TOO_LONG};
use super::shelf::Shelf;
use crate::manifest::{Rows, Segment};
use crate::postgres::Client;

/// Pieces in which a long text is handed to the thread that compresses it, and how many may wait.
const PIECE: usize = 256 * 1024;
const PIECES_WAITING: usize = 4;
/// KiB of texts, bases and frames that may be in the hands of compressing threads at the same time.
pub const ENCODING_KIB: usize = 48 * 1024;

/// What the segments of a database share.
#[derive(Clone)]
pub struct Bench {
    /// Where segments go.
    pub shelf: Arc<Shelf>,
    /// [`ENCODING_KIB`] permits, shared by all databases.
    pub memory: Arc<Semaphore>,
    /// Told of every byte.
    pub progress: Progress,
}

/// What is to be copied.
#[derive(Debug, Clone)]
pub struct Task {
    /// Counts the segments of a database.
    pub number: usize,
    /// The table, for messages.
    pub table: String,
    /// The statement.
    pub sql: String,
    /// Its range.
    pub pages: Pages,
    /// The segment of the day before on the same pages.
    pub near: Option<Segment>,
}

/// Finds a segment of the day before by its digest.
pub type Finder = Arc<dyn Fn(&str) -> Option<Segment> + Send + Sync>;

/// Counts rows and sums their digests; a row may come in pieces.
#[derive(Default)]
pub struct RowSum {
    rows: Rows,
    partial: Option<Box<Xxh3>>,
}

impl RowSum {
    /// More text.
    pub fn add(&mut self, mut text: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', text) {
            let row = &text[..end];
            let digest = match self.partial.take() {
                None => xxh3_128(row),
                Some(mut partial) => {
                    partial.update(row);
                    partial.digest128()
                }
            };
            self.rows = self.rows.plus(Rows { count: 1, digest });
            text = &text[end + 1..];
        }
        if !text.is_empty() {
            self.partial.get_or_insert_with(|| Box::new(Xxh3::new())).update(text);
        }
    }

    /// How many rows so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.rows.count
    }

    /// What was counted.
    #[must_use]
    pub fn finish(self) -> Rows {
        self.rows
    }
}

/// Copies one segment.
///
/// # Errors
/// The session was lost, the server refuses, or a file cannot be written.
pub async fn copy(client: &Client, task: &Task, bench: &Bench, find: &Finder) -> Result<Segment, Error> {
    let failed = |error: tokio_postgres::Error| copy_failed(client, &task.table, &error);
    let mut stream = Box::pin(client.copy_out(task.sql.as_str()).await.map_err(failed)?);
    let expected = task.near.as_ref().map_or(TOO_LONG, |near| near.bytes.saturating_add(4096));
    // What is never written to costs nothing; to grow would.
    let mut text: Vec<u8> = Vec::with_capacity(usize::try_from(expected).unwrap_or(CAP).min(CAP));
    // All sessions are read by one thread: what can be done elsewhere is.
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(failed)?;
        bench.progress.add(piece.len() as u64);
        text.extend_from_slice(&piece);
        if text.len() > CAP {
            return copy_long(client, task, bench, find, stream, text).await;
        }
    }
    store(client, task, bench, find, text).await
}

async fn store(
    client: &Client,
    task: &Task,
    bench: &Bench,
    find: &Finder,
    text: Vec<u8>,
) -> Result<Segment, Error> {
    // The text, its base and what comes of it; more than there is means alone.
    let kib = (3 * text.len() / 1024 + 1).min(ENCODING_KIB);
    let permit = bench.memory.clone().acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX)).await;
    let (shelf, find, near, pages) = (bench.shelf.clone(), find.clone(), task.near.clone(), task.pages);
    let stored = tokio::task::spawn_blocking(move || {
        // Held to the end: the memory is in use until then. The semaphore is never closed.
        let _permit = permit;
        let mut sum = RowSum::default();
        sum.add(&text);
        let rows = sum.finish();
        let blake3 = blake3::hash(&text).to_hex().to_string();
        let base = shelf.store(&blake3, &text, find(&blake3).as_ref(), near.as_ref())?;
        Ok(Segment { pages, blake3, bytes: text.len() as u64, rows, base })
    });
    stored.await.map_err(|_| Error::Thread { dbname: client.dbname().to_owned() })?
}

async fn copy_long(
    client: &Client,
    task: &Task,
    bench: &Bench,
    find: &Finder,
    mut stream: std::pin::Pin<Box<tokio_postgres::CopyOutStream>>,
    begun: Vec<u8>,
) -> Result<Segment, Error> {
    let failed = |error: tokio_postgres::Error| copy_failed(client, &task.table, &error);
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(PIECES_WAITING);
    let (shelf, find, number) = (bench.shelf.clone(), find.clone(), task.number);
    let writer = tokio::task::spawn_blocking(move || {
        let mut sum = RowSum::default();
        let next = || {
            let piece = pieces.blocking_recv()?;
            sum.add(&piece);
            Some(piece)
        };
        let stored = shelf.store_stream(number, next, |digest| find(digest))?;
        Ok::<_, Error>((stored, sum.finish()))
    });
    let mut piece = begun;
    let mut end = None;
    // When the writer is gone it has failed: it tells why below.
    while sender.send(std::mem::take(&mut piece)).await.is_ok() && end.is_none() {
        while piece.len() < PIECE && end.is_none() {
            match stream.next().await {
                Some(Ok(bytes)) => {
                    bench.progress.add(bytes.len() as u64);
                    piece.extend_from_slice(&bytes);
                }
                Some(Err(error)) => end = Some(Err(failed(error))),
                // The stream must not be asked again: what follows belongs to the next statement.
                None => end = Some(Ok(())),
            }
        }
    }
    drop(sender);
    let written = writer.await.map_err(|_| Error::Thread { dbname: client.dbname().to_owned() })?;
    end.transpose()?;
    let ((blake3, bytes, base), rows) = written?;
    Ok(Segment { pages: task.pages, blake3, bytes, rows, base })
}

/// A session that is gone took the snapshot with it: nothing can be begun again.
fn copy_failed(client: &Client, table: &str, error: &tokio_postgres::Error) -> Error {
    let code = error.code().map(tokio_postgres::error::SqlState::code);
    // admin_shutdown, crash_shutdown, cannot_connect_now, idle_in_transaction_session_timeout, transaction_timeout
    let gone = matches!(code, Some("57P01" | "57P02" | "57P03" | "25P03" | "25P04"));
    if gone || client.is_closed() || code.is_none() {
        return lost(client, error);
    }
    client.failed(format!("copy the rows of {table}"), error).into()
}

#[cfg(test)]
mod tests {
    use super::RowSum;
    use crate::manifest::Rows;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn sum(pieces: &[&[u8]]) -> Rows {
        let mut sum = RowSum::default();
        for piece in pieces {
            sum.add(piece);
        }
        sum.finish()
    }

    #[test]
    fn rows_are_counted_whatever_the_pieces_and_the_order() {
        let whole = sum(&[b"1\ta\n2\tb\n\n"]);
        assert_eq!(whole.count, 3);
        assert_eq!(sum(&[b"1", b"\ta", b"\n2\tb\n", b"\n"]), whole);
        assert_eq!(sum(&[b"\n2\tb\n1\ta\n"]), whole);
        assert_ne!(sum(&[b"1\ta\n2\tc\n\n"]).digest, whole.digest);
        assert_eq!(sum(&[]), Rows::default());
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(rows in proptest::collection::vec("[^\n]{0,300}", 0..20), at in any::<proptest::sample::Index>()) {
            let text: String = rows.iter().flat_map(|row| [row.as_str(), "\n"]).collect();
            let cut = at.index(text.len() + 1);
            let bytes = text.as_bytes();
            prop_assert_eq!(sum(&[&bytes[..cut], &bytes[cut..]]), sum(&[bytes]));
        }
    }
}
