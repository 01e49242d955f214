//! Rows into tables: each table in one COPY with FREEZE, in the transaction that empties it, so that what is written needs no WAL
//! where the server allows that and no second writing later; several tables at a time, the largest first. A table that is larger
//! than the share of a session comes last, in parts, without FREEZE.
//!
//! A segment's text is compared with its digest as it goes to the server: the COPY is ended only when all of them were right.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio::sync::mpsc;

use super::plan::DatabasePlan;
use super::{RestoreError, Wish, session};
use crate::database::decode::{self, DecodeError};
use crate::database::load::copy_in;
use crate::event::{Event, Phase, SharedObserver, Unit};
use crate::manifest::{Segment, TableReader, TableRecord};
use crate::postgres::{self, Client};

/// Text is handed to the server in pieces of this size, of which so many wait.
const PIECE: usize = 512 * 1024;
/// See [`PIECE`].
const PIECES_WAITING: usize = 3;
/// A table below this is loaded by one session, however few others there are.
const WORTH_SPLITTING: u64 = 64 * 1024 * 1024;

/// A table that is split comes in parts of this fraction of a session's share.
const PARTS: u64 = 4;

/// Counts the rows of all sessions and tells the observer.
pub struct Progress {
    observer: SharedObserver,
    total: u64,
    current: AtomicU64,
}

impl Progress {
    /// Nothing is loaded yet.
    pub fn new(observer: SharedObserver, total: u64) -> Self {
        let progress = Self { observer, total, current: AtomicU64::new(0) };
        progress.finish();
        progress
    }

    /// So many rows more.
    pub fn add(&self, rows: u64) {
        self.tell(self.current.fetch_add(rows, Ordering::Relaxed) + rows);
    }

    /// How far it is now.
    pub fn finish(&self) {
        self.tell(self.current.load(Ordering::Relaxed));
    }

    fn tell(&self, current: u64) {
        let total = Some(self.total.max(current));
        self.observer.observe(&Event::Progress { phase: Phase::Load, unit: Unit::Rows, current, total });
    }
}

/// What one session loads with one COPY.
#[derive(Debug, PartialEq, Eq)]
pub struct Work<'a> {
    /// The table.
    pub table: &'a TableRecord,
    /// What of it.
    pub segments: &'a [Segment],
    /// The whole table: it can be emptied first, and its rows frozen.
    pub whole: bool,
}

/// The tables of a database whose rows daykeep copied, the largest first.
///
/// # Errors
/// The list is not what was written, or cannot be read.
pub fn tables(wish: &Wish<'_>, home: &Path) -> Result<Vec<TableRecord>, RestoreError> {
    let list = home.join("tables.jsonl");
    super::survey::check_digest(wish.day, wish.manifest, &list)?;
    let mut tables = TableReader::open(&list)?.collect::<Result<Vec<_>, _>>()?;
    tables.sort_by_key(|table| std::cmp::Reverse(bytes_of(&table.segments)));
    Ok(tables)
}

fn bytes_of(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| segment.bytes).sum()
}

/// What is loaded in one piece: tables, the largest first; behind them, in parts, those that are too large for one session, so that all
/// sessions end at about the same time.
pub fn share(tables: &[TableRecord], jobs: usize) -> Vec<Work<'_>> {
    let jobs = jobs.max(1) as u64;
    let tables = tables.iter().filter(|table| !table.segments.is_empty());
    let total: u64 = tables.clone().map(|table| bytes_of(&table.segments)).sum();
    // A little more than a share is faster in one piece than thawed.
    let limit = (total / jobs * 5 / 4).max(WORTH_SPLITTING);
    let is_whole = |table: &&TableRecord| jobs == 1 || bytes_of(&table.segments) <= limit;
    let (whole, split): (Vec<_>, Vec<_>) = tables.partition(is_whole);
    let mut works: Vec<_> =
        whole.into_iter().map(|table| Work { table, segments: &table.segments, whole: true }).collect();
    for table in split {
        works.extend(parts(table, total.div_ceil(jobs * PARTS)));
    }
    works
}

/// A table in parts of about so many bytes.
fn parts(table: &TableRecord, size: u64) -> Vec<Work<'_>> {
    let mut parts = Vec::new();
    let mut rest = table.segments.as_slice();
    while !rest.is_empty() {
        let mut taken = 0;
        let mut fits = |segment: &Segment| {
            taken += segment.bytes;
            taken < size
        };
        let count = rest.iter().take_while(|segment| fits(segment)).count() + 1;
        let (segments, after) = rest.split_at(count.min(rest.len()));
        parts.push(Work { table, segments, whole: false });
        rest = after;
    }
    parts
}

/// A session that loads.
struct Copy<'a> {
    client: &'a Client,
    /// The database's name in the day.
    dbname: &'a str,
    encoding: &'a str,
    tables: PathBuf,
    progress: &'a Progress,
}

/// Loads rows of a database that daykeep copied.
///
/// # Errors
/// A segment is damaged, the server refuses or takes another number of rows than the day has.
pub async fn load(
    client: &Client,
    plan: &DatabasePlan,
    work: &Work<'_>,
    home: &Path,
    progress: &Progress,
) -> Result<(), RestoreError> {
    let (dbname, encoding) = (plan.name.as_str(), plan.encoding.as_str());
    let copy = Copy { client, dbname, encoding, tables: home.join("tables"), progress };
    copy.perform(work).await
}

/// Loads all rows of one table, which is empty, in the transaction that `client` is in.
///
/// # Errors
/// As [`load`].
pub async fn fill(
    client: &Client,
    encoding: &str,
    table: &TableRecord,
    home: &Path,
    progress: &Progress,
) -> Result<(), RestoreError> {
    let copy = Copy { client, dbname: client.dbname(), encoding, tables: home.join("tables"), progress };
    let work = Work { table, segments: &table.segments, whole: true };
    copy.counted(&work, false).await
}

impl Copy<'_> {
    async fn perform(&self, work: &Work<'_>) -> Result<(), RestoreError> {
        if !work.whole {
            return self.counted(work, false).await;
        }
        let table = postgres::qualified(&work.table.schema, &work.table.name);
        let loads = format!("load the rows of {table}");
        session::execute(self.client, &loads, &format!("BEGIN; TRUNCATE ONLY {table}")).await?;
        self.counted(work, true).await?;
        session::execute(self.client, &loads, "COMMIT").await
    }

    async fn counted(&self, work: &Work<'_>, freeze: bool) -> Result<(), RestoreError> {
        let table = postgres::qualified(&work.table.schema, &work.table.name);
        let loaded = self.copy(&copy_in(work.table, self.encoding, freeze), work, &table).await?;
        let recorded = work.segments.iter().map(|segment| segment.rows.count).sum();
        let of_table = work.table.rows.count;
        if loaded != recorded || (work.whole && loaded != of_table) {
            let recorded = if work.whole { of_table } else { recorded };
            return Err(RestoreError::Count { dbname: self.dbname.to_owned(), table, loaded, recorded });
        }
        Ok(())
    }

    /// Gives how many rows the server took.
    async fn copy(&self, sql: &str, work: &Work<'_>, table: &str) -> Result<u64, RestoreError> {
        let failed = |error: tokio_postgres::Error| -> RestoreError {
            self.client.failed(format!("load the rows of {table}"), &error).into()
        };
        let thread = || RestoreError::Thread { dbname: self.dbname.to_owned() };
        let sink = self.client.copy_in(sql).await.map_err(failed)?;
        let mut sink = pin!(sink);
        let (sender, mut pieces) = mpsc::channel(PIECES_WAITING);
        let (tables, segments) = (self.tables.clone(), work.segments.to_vec());
        let decoder = tokio::task::spawn_blocking(move || decode_all(&tables, &segments, sender));
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Text(text) => sink.send(text).await.map_err(failed)?,
                Piece::Rows(rows) => self.progress.add(rows),
            }
        }
        // Without the end that follows, the server throws away what it took.
        decoder.await.map_err(|_| thread())?.map_err(|error| match error {
            DecodeError::Damaged { path, problem } => {
                RestoreError::DamagedRows { path, table: table.to_owned(), problem }
            }
            DecodeError::File(error) => RestoreError::File(error),
            // Nobody ends the taking but us, and we did not.
            DecodeError::Out(_) => thread(),
        })?;
        sink.finish().await.map_err(failed)
    }
}

/// What the decoding thread hands on.
enum Piece {
    Text(Bytes),
    /// So many rows are in the pieces until here.
    Rows(u64),
}

fn decode_all(tables: &Path, segments: &[Segment], pieces: mpsc::Sender<Piece>) -> Result<(), DecodeError> {
    let mut out = Pieces { sender: pieces, text: BytesMut::with_capacity(PIECE) };
    for segment in segments {
        let base = decode::base_text(tables, segment.base.as_deref())?;
        decode::decode(tables, &segment.blake3, base.as_deref(), &mut out)?;
        out.send(Piece::Rows(segment.rows.count)).map_err(DecodeError::Out)?;
    }
    out.flush().map_err(DecodeError::Out)
}

/// Collects text into pieces of a good size.
struct Pieces {
    sender: mpsc::Sender<Piece>,
    text: BytesMut,
}

impl Pieces {
    fn send(&self, piece: Piece) -> io::Result<()> {
        self.sender.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl Write for Pieces {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        if self.text.len() >= PIECE {
            self.flush()?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let text = std::mem::replace(&mut self.text, BytesMut::with_capacity(PIECE + PIECE / 2));
        self.send(Piece::Text(text.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::share;
    use crate::manifest::{Rows, Segment, TableRecord};

    const MIB: u64 = 1024 * 1024;

    fn table(name: &str, segments: &[u64]) -> TableRecord {
        let segment = |bytes: &u64| Segment {
            pages: (0, None),
            blake3: String::new(),
            bytes: *bytes,
            rows: Rows::default(),
            base: None,
        };
        TableRecord {
            schema: "public".into(),
            name: name.into(),
            oid: 1,
            columns: Vec::new(),
            rows: Rows::default(),
            segments: segments.iter().map(segment).collect(),
        }
    }

    fn shares(tables: &[TableRecord], jobs: usize) -> Vec<(&str, usize, bool)> {
        let works = share(tables, jobs);
        works.iter().map(|work| (work.table.name.as_str(), work.segments.len(), work.whole)).collect()
    }

    #[test]
    fn tables_are_loaded_in_one_piece_unless_one_is_too_large() {
        let even = [table("a", &[60 * MIB, 60 * MIB]), table("b", &[100 * MIB])];
        assert_eq!(shares(&even, 2), [("a", 2, true), ("b", 1, true)]);
        let odd = [table("a", &[16 * MIB; 20]), table("b", &[10 * MIB])];
        // 330 MiB for two: parts of 41.25 MiB.
        let thirds = [("a", 3, false)].into_iter().cycle().take(6);
        let expected: Vec<_> = [("b", 1, true)].into_iter().chain(thirds).chain([("a", 2, false)]).collect();
        assert_eq!(shares(&odd, 2), expected);
        assert_eq!(shares(&odd, 1), [("a", 20, true), ("b", 1, true)]);
        let small = [table("a", &[MIB; 20])];
        assert_eq!(shares(&small, 2), [("a", 20, true)]);
    }
}
