//! The database server's side of a day: a freeze point of every database inside the hold, and their dump after it.
//!
//! Three types carry the order. [`prepare`] makes every connection before the hold. [`Prepared::freeze`] opens and
//! exports one snapshot a database inside it (it asks for a [`Still`](crate::manifest::Still)), with every table locked by
//! every connection that will read it. [`Frozen::dump`] moves the data after the release (it asks for a
//! [`Released`](crate::manifest::Released)).
//!
//! # What is written
//!
//! Below the target, `<day>/database`:
//!
//! | file | content |
//! | --- | --- |
//! | `globals.sql` | `pg_dumpall --globals-only`: roles, memberships, tablespaces |
//! | `<db>/rest.dump` | `pg_dump -Fc` of everything but the rows of the tables that daykeep copies |
//! | `<db>/tables.jsonl` | one [`TableRecord`](crate::manifest::TableRecord) a line |
//! | `<db>/tables/<digest>.zst` | a segment's COPY text, zstd; the name is the text's BLAKE3 in hex |
//! | `<db>/tables/<digest>.patch.zst` | the same as a patch: `zstd -d --patch-from=BASE --long=31` |
//! | `<db>/load.txt` | how to load the rows by hand, see `load` |
//!
//! `<db>` is the database's name with every byte but ASCII letters, digits, `_` and `-` as `%XX`. daykeep copies the rows of
//! plain heap tables (`claim`); what it does not claim stays with pg_dump, so that nothing unknown is lost. That
//! each table's rows are in exactly one of the two is checked in every run against the archive's table of contents (`toc`).
//!
//! # Killed at any moment
//!
//! Everything goes to a directory that is not a day yet. Nothing in it is ever taken up again: the next run removes what it finds at
//! its target and dumps anew from new snapshots. Files of earlier days are only read and hard-linked, never opened for
//! writing. Nothing is flushed here; the seal flushes the file system before the day gets its name. The snapshots, the locks and the
//! pg_dump processes die with the connections and pipes of this process.

mod archive;
mod blockers;
mod catalog;
mod claim;
mod codec;
mod compare;
mod copy;
mod decode;
mod directory;
mod dump;
mod export;
mod freeze;
mod frozen;
#[cfg(fuzzing)]
pub mod fuzzing;
mod globals;
mod live;
mod load;
mod prepare;
mod progress;
mod reread;
mod rest;
pub mod restore;
mod segments;
mod session;
mod shelf;
mod toc;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

pub use compare::{CompareError, Comparison, Difference, Recorded, compare};
pub use decode::{DecodeError, write_rows};
pub use directory::directory_name;
pub use dump::Dumped;
pub use export::{ExportError, export};
pub use frozen::Frozen;
pub use live::Live;
pub use load::recipe;
pub use prepare::{DatabaseInfo, Prepared, Report, prepare};
pub use reread::{Archive, ArchiveError, Reread, Text, archive_programs, read_archive, reread};

use crate::{fs, postgres, process};

/// The database's part of a run failed. Nothing of it is in any day.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot be reached, refuses a statement or ended a session.
    #[error(transparent)]
    Postgres(Box<postgres::Error>),
    /// A file of the day cannot be read or written.
    #[error("{0}: {cause}", cause = .0.source)]
    File(#[from] fs::Error),
    /// pg_dump, pg_dumpall or pg_restore failed.
    #[error("database {dbname:?}: {source}")]
    Program {
        /// The database, or `(globals)`.
        dbname: String,
        /// What happened to the program.
        source: Box<process::Error>,
    },
    /// A configured database is not on the server.
    #[error("there is no database {name:?} on the server; it has {}", there.join(", "))]
    NoDatabase {
        /// The name.
        name: String,
        /// Those that are there.
        there: Vec<String>,
    },
    /// The role may not read everything.
    #[error(
        "role {user:?} may not read {what} in database {dbname:?}; grant it pg_read_all_data (and BYPASSRLS) or use a superuser"
    )]
    Rights {
        /// The role.
        user: String,
        /// The database.
        dbname: String,
        /// What it may not read.
        what: String,
    },
    /// Not enough connections are free.
    #[error(
        "{databases} databases need at least {needed} connections at once, but only {free} are free; raise max_connections"
    )]
    Connections {
        /// How many databases.
        databases: usize,
        /// How many connections they need.
        needed: usize,
        /// How many there are.
        free: usize,
    },
    /// A lock did not come in time.
    #[error(
        "database {dbname:?}: a table stayed locked for more than {}ms (lock_timeout){blockers}",
        waited.as_millis()
    )]
    Locked {
        /// The database.
        dbname: String,
        /// How long was waited.
        waited: Duration,
        /// Who has the lock: pid and query.
        blockers: String,
    },
    /// Tables were created, dropped or altered as fast as they were locked.
    #[error(
        "database {dbname:?}: its tables did not stay as they are for a moment in {attempts} attempts (lock_timeout): {last}; see who \
         changes them (pg_stat_activity), run at another time, or raise lock_timeout, which is to stay well below hold.max"
    )]
    Restless {
        /// The database.
        dbname: String,
        /// How often it was tried.
        attempts: u32,
        /// What went wrong the last time.
        last: String,
    },
    /// A name cannot be written down.
    #[error("database {dbname:?}: a table or column has a name that is not valid UTF-8; rename it")]
    Name {
        /// The database.
        dbname: String,
    },
    /// A table's rows would be missing, or be there twice.
    #[error("database {dbname:?}: table {table}: {problem}")]
    Incomplete {
        /// The database.
        dbname: String,
        /// The table.
        table: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The snapshot is gone.
    #[error(
        "database {dbname:?}: the session that holds the snapshot was lost; the day cannot be finished: {cause}"
    )]
    Lost {
        /// The database.
        dbname: String,
        /// What was said.
        cause: String,
    },
    /// A task of this program ended badly.
    #[error("database {dbname:?}: a thread that compresses rows ended badly")]
    Thread {
        /// The database.
        dbname: String,
    },
    /// The run was cancelled.
    #[error("the dump was cancelled")]
    Cancelled,
}

/// A sealed day on the same file system, as far as a dump builds on it.
#[derive(Debug, Clone, Copy)]
pub struct DayBefore<'a> {
    /// Its `database` directory.
    pub directory: &'a Path,
    /// BLAKE3 (hex) of its files, by path relative to the day. A segment's file that is not among them is read to the end of its text
    /// before it is linked.
    pub digests: &'a BTreeMap<String, String>,
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        Self::Postgres(Box::new(error))
    }
}
