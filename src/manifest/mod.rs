//! What a day says of itself: `manifest.json`, and the records beside it.
//!
//! Every structure here is part of the format on disk (`docs/format.md`). Fields are only ever added, with a default
//! for days written before them.

mod lines;
mod record;
mod seal;
mod segment;
mod unfinished;
mod unpack;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use lines::{JsonLines, RecordReader, RecordWriter, RecordsError, TableReader, Written, walk_order};
pub use record::{FileKind, FileRecord, PathBytes, hex_decode, hex_encode};
pub use seal::{DatabaseSeal, SealRecord, TableName, TableSeal, TreeSeal};
pub use segment::{Rows, Segment, TableRecord};
pub use unfinished::{JobState, UnfinishedJob, UnfinishedJobs};
pub use unpack::ToUnpack;

/// The version of the format that this program writes.
pub const FORMAT: u32 = 1;

/// No page that is read as a whole has more bytes, a manifest or a record outside of the day: a manifest has some 200 bytes for every
/// 8 MiB of rows.
pub const LONGEST_PAGE: u64 = 512 * 1024 * 1024;

/// Proof that the repository is held still. Only a hold that has been proven idle implements it; what takes a freeze
/// point asks for it, so that a freeze without a hold does not compile.
pub trait Still: Sync {}

/// Proof that the repository has been released again. What moves the bulk of the data asks for it, so that a dump
/// inside the hold does not compile.
pub trait Released: Sync {}

/// `manifest.json`: the whole of a day in one page, written last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format's version: [`FORMAT`].
    pub format: u32,
    /// `daykeep` and its version.
    pub made_by: String,
    /// The repository's name.
    pub repository: String,
    /// The day's name: the freeze point in UTC, `2026-11-21T010000Z`.
    pub day: String,
    /// Counts up by one with every day of the repository, whatever the clock says.
    pub sequence: u64,
    /// True for the first day of a chain: it shares no inode with any earlier day.
    pub base: bool,
    /// The base of the chain that this day belongs to; its own name for a base.
    pub base_day: String,
    /// The run that made the day.
    pub run: u64,
    /// When the run began, and when the day was sealed.
    pub started: Timestamp,
    /// See `started`.
    pub sealed: Timestamp,
    /// The instant that the day shows.
    pub freeze_point: Timestamp,
    /// What the hold did and what proved that the repository stood still.
    pub hold: HoldEvidence,
    /// The database server and its databases.
    pub database: Option<DatabaseRecord>,
    /// The trees by name.
    pub trees: BTreeMap<String, TreeRecord>,
    /// What the cross-checks found.
    pub checks: Vec<CheckRecord>,
    /// FOSSology's jobs that had no end at the freeze point; None for a repository without its scheduler, and in days made before
    /// this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished_jobs: Option<UnfinishedJobs>,
    /// What FOSSology will have to unpack again after a restore; None where the day has all files, and in days made before this was
    /// recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_unpack: Option<ToUnpack>,
    /// BLAKE3 digests (hex) of every file of the day outside `trees/` and but for `manifest.json` itself, by path
    /// relative to the day. The files below `trees/` have their digests in `files.jsonl.zst`.
    pub digests: BTreeMap<String, String>,
    /// The configuration in force, without secrets, as TOML.
    pub configuration: String,
}

impl Manifest {
    /// The first name in it that would lead out of the day: of a tree, of a database's directory, of a file with a digest. All of them are
    /// joined to paths, by a restore to paths that it writes to, so a day with such a name is none.
    #[must_use]
    pub fn leads_out(&self) -> Option<&str> {
        let databases = self.database.iter().flat_map(|of| &of.databases);
        let plain = self.trees.keys().chain(databases.map(|database| &database.directory));
        let mut out = plain.filter(|name| name.contains('/') || !is_within(name));
        out.next().or_else(|| self.digests.keys().find(|path| !is_within(path))).map(String::as_str)
    }
}

/// Whether a relative path stays below where it begins, whatever it is joined to.
fn is_within(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|name| !matches!(name, "" | "." | ".."))
}

/// The hold as it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldEvidence {
    /// The adapter: `fossology`, `systemd`, `command`, `http`, `none`.
    pub adapter: String,
    /// False when an operator had already stopped the repository: then nothing was paused and nothing is started.
    pub paused_by_us: bool,
    /// When the pause was asked for.
    pub paused_at: Timestamp,
    /// When idleness was proven.
    pub idle_at: Timestamp,
    /// When the repository was released.
    pub released_at: Option<Timestamp>,
    /// Seconds from idle to released.
    pub held_seconds: f64,
    /// What was seen, one sentence a proof.
    pub proofs: Vec<String>,
}

/// The database side of a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabaseRecord {
    /// `server_version_num`, e.g. 150018.
    pub server_version: u32,
    /// The version that the server shows, e.g. `15.18 (Debian 15.18-0+deb12u1)`.
    pub server_version_text: String,
    /// The version of the pg_dump used.
    pub pg_dump_version: String,
    /// WAL position when the first and after the last snapshot was opened (`0/16B3748`); empty on a standby without
    /// the right to ask.
    pub wal_begin: String,
    /// See `wal_begin`.
    pub wal_end: String,
    /// `pg_control_system().system_identifier`, if readable.
    pub system_identifier: Option<u64>,
    /// The databases, by name.
    pub databases: Vec<DatabaseEntry>,
    /// Bytes that the day needed anew for all databases.
    pub new_bytes: u64,
    /// Bytes of all database files of the day, linked ones too.
    pub stored_bytes: u64,
}

/// One database of a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabaseEntry {
    /// Its name.
    pub name: String,
    /// Its directory below `database/`: the name, percent-encoded where it must be.
    pub directory: String,
    /// Server encoding.
    pub encoding: String,
    /// How many tables' rows daykeep copied itself.
    pub tables: u64,
    /// How many tables' rows are in `rest.dump`.
    pub rest_tables: u64,
    /// Rows copied by daykeep.
    pub rows: u64,
    /// Bytes of COPY text of those rows.
    pub row_bytes: u64,
}

/// One tree of a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRecord {
    /// Where the tree was.
    pub source: String,
    /// Entries of every kind.
    pub entries: u64,
    /// Regular files (each name counts).
    pub files: u64,
    /// Sum of the sizes of the regular files.
    pub bytes: u64,
    /// Files copied by this run, and their bytes.
    pub copied_files: u64,
    /// See `copied_files`.
    pub copied_bytes: u64,
    /// Files hard-linked from the day before.
    pub linked_files: u64,
    /// How changes since the warm pass were found: `fanotify` or `walk`.
    pub fence: String,
    /// Seconds of the hold that the tree's fence took, in milliseconds.
    pub fence_ms: u64,
}

/// One cross-check's outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// Its name.
    pub name: String,
    /// Rows that named a file.
    pub rows: u64,
    /// Rows whose file is not in the day.
    pub missing: u64,
    /// How many may be missing for the day to be sealed: what the repository itself had lost, by its configuration.
    #[serde(default)]
    pub allowed: u64,
}
