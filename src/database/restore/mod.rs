//! The databases of a day, put into a server: looked at first ([`survey`]), loaded beside what is there ([`load`]), put in its
//! place by renaming ([`Swap`]), and taken back or confirmed. A server with nothing on it is [filled](fill) by the same steps at once.
//!
//! # Names
//!
//! With the tag 7, what is loaded stands in `daykeep_new_7_1`, `daykeep_new_7_2`, ...; what it replaced in `daykeep_old_7_1`, ...;
//! and `daykeep_control_7` is an empty database from which the others are renamed, made when it is needed.
//!
//! # Killed at any moment
//!
//! * [`survey`] changes nothing: what it tries, it rolls back, and what it asks the server to create has a name that is taken.
//! * [`load`] makes roles (NOLOGIN) and tablespaces that are missing, each told before it is made, and databases beside. Nobody
//!   uses any of them. Killed, [`Beside::discard`] removes them; called again, it drops every database of its tag but those that
//!   it is told were loaded, and goes on. A database is told as loaded when it would survive a crash of the server.
//! * [`Swap::forward`] first forbids connections to the databases that it renames, which shows to users, then ends the
//!   sessions, then does roles, memberships, settings and *all* renames in one transaction. Killed before its commit, nothing
//!   but the ban has happened; after it, everything has. [`Swap::state`] tells which by the databases' OIDs. Called again, it goes on.
//! * [`Swap::back`] is the same the other way round, with the roles as they were before, and then removes what `load` made.
//! * [`Swap::drop_old`] and [`Beside::discard`] drop what bears the tag, one after the other; what is gone already is gone.
//!
//! Who records what [`load`] tells and the [`Swap`] before [`Swap::forward`] can do each of these again, in any order that
//! [`Swap::state`] allows.

mod apply;
mod build;
mod check;
mod control;
mod databases;
mod discard;
mod figures;
mod fresh;
mod globals;
mod load;
mod plan;
mod postdata;
mod rows;
mod session;
mod sql;
mod survey;
mod swap;
mod table;
mod tasks;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use discard::{Beside, system_of};
pub use fresh::fill;
#[cfg(fuzzing)]
pub use globals::understand;
pub use load::{Loaded, Made, Record, load};
pub use plan::{Action, DatabasePlan, RolePlan, ServerFacts, SessionSeen, Survey};
pub use survey::survey;
pub use swap::{GlobalsChange, Pair, State, Swap};
pub use table::{
    Broken, ReadyTables, TableSurvey, TableSwap, TableWish, TableWork, look as survey_table,
    prepare as prepare_tables, put_back as put_tables_back,
};

use crate::config;
use crate::manifest::{Manifest, RecordsError};
use crate::{fs, postgres, process};

/// What is to be restored, and into which server.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// The day's directory.
    pub day: &'a Path,
    /// What it says of itself.
    pub manifest: &'a Manifest,
    /// The server that takes it.
    pub target: Target<'a>,
    /// Where pg_restore and pg_dumpall are; None: the newest of this machine.
    pub bin_dir: Option<PathBuf>,
    /// Which databases of the day; None: all.
    pub databases: Option<Vec<String>>,
    /// Whether all roles, memberships and tablespaces become those of the day. Else only those that are missing come
    /// as the day has them.
    pub globals: bool,
    /// Connections that load rows, and indexes that are built, at a time.
    pub jobs: usize,
    /// Names what stands beside: the number of the job.
    pub tag: u64,
}

/// The server that takes the day.
#[derive(Debug, Clone)]
pub enum Target<'a> {
    /// A server in use: what is there is replaced.
    Live(config::Server),
    /// A server that has none of the databases: what is there is never replaced.
    Fresh(config::Server),
    /// A server that was made to be filled and thrown away.
    Scratch {
        /// The server.
        empty: postgres::Empty<'a>,
        /// Tablespaces get directories of their own below this one instead of those of the day. It must exist and belong
        /// to the server's user.
        tablespaces: &'a Path,
    },
}

impl Target<'_> {
    /// How to reach it.
    #[must_use]
    pub fn server(&self) -> &config::Server {
        match self {
            Self::Live(server) | Self::Fresh(server) => server,
            Self::Scratch { empty, .. } => empty.server(),
        }
    }

    /// Whether databases that are on the server may be replaced.
    fn replaces(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    /// Where tablespaces go, if not where they were.
    /// Whether a restore that was killed is gone on with: elsewhere it begins anew, under another tag.
    fn is_resumable(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    fn tablespaces(&self) -> Option<&Path> {
        match self {
            Self::Live(_) | Self::Fresh(_) => None,
            Self::Scratch { tablespaces, .. } => Some(tablespaces),
        }
    }
}

impl Wish<'_> {
    fn server(&self) -> &config::Server {
        self.target.server()
    }
}

/// A restore of databases failed. What is told by the functions' own descriptions is what has happened then.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The server cannot be reached, refuses a statement or ended a session.
    #[error(transparent)]
    Postgres(Box<postgres::Error>),
    /// A file of the day cannot be read.
    #[error("{0}: {cause}", cause = .0.source)]
    File(#[from] fs::Error),
    /// The list of tables cannot be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The day has no database.
    #[error("the day {day} holds no database")]
    NoDatabase {
        /// Its name.
        day: String,
    },
    /// A database that was asked for is not in it.
    #[error("the day {day} holds no database {name:?}; it holds {}", held.join(", "))]
    NoSuchDatabase {
        /// The day.
        day: String,
        /// What was asked for.
        name: String,
        /// What there is.
        held: Vec<String>,
    },
    /// A table that was asked for is not in it.
    #[error("the day {day} has no table {name} in database {dbname:?}{}", meant(alike))]
    NoSuchTable {
        /// The day.
        day: String,
        /// The database.
        dbname: String,
        /// What was asked for.
        name: String,
        /// Tables that may have been meant.
        alike: Vec<String>,
    },
    /// A file is not what was written.
    #[error("{} is damaged: {problem}; see `daykeep verify`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A segment of a table's rows is not what was written.
    #[error("{} is damaged: {problem}; it holds rows of {table}; see `daykeep verify`", path.display())]
    DamagedRows {
        /// The file.
        path: PathBuf,
        /// Its table.
        table: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The server took another number of rows than the day has.
    #[error("database {dbname:?}: {table} took {loaded} rows, the day has {recorded}; see `daykeep verify`")]
    Count {
        /// The database.
        dbname: String,
        /// The table.
        table: String,
        /// What the server says.
        loaded: u64,
        /// What the day says.
        recorded: u64,
    },
    /// pg_restore or pg_dumpall failed.
    #[error("database {dbname:?}: {source}")]
    Program {
        /// The database, or `(globals)`.
        dbname: String,
        /// What happened to the program.
        source: Box<process::Error>,
    },
    /// A script is in an encoding that cannot be spoken here.
    #[error("{what} is not UTF-8, and the server cannot convert it from {encoding}")]
    Encoding {
        /// What it is.
        what: String,
        /// What it should be.
        encoding: String,
    },
    /// A statement about roles or tablespaces is refused.
    #[error("cannot do {statement:?}: {cause}")]
    Globals {
        /// The statement, its passwords left out.
        statement: String,
        /// What the server said.
        cause: String,
    },
    /// The survey found what stands in the way.
    #[error("the databases cannot be restored: {}", problems.join("; "))]
    Refused {
        /// All of it.
        problems: Vec<String>,
    },
    /// Sessions do not go away.
    #[error(
        "databases cannot be renamed because somebody uses them for {}s now: {who}; end that, then say the same command again",
        waited.as_secs()
    )]
    Busy {
        /// How long was waited.
        waited: Duration,
        /// Who uses them.
        who: String,
    },
    /// The databases are neither as they were before nor as they are after the swap.
    #[error("the databases of the server are neither those before nor those after the restore: {what}")]
    Neither {
        /// What is wrong.
        what: String,
    },
    /// Foreign keys would not hold.
    #[error("with the rows of the day {}", advised(broken))]
    References {
        /// All of them.
        broken: Vec<Broken>,
    },
    /// Rows that came since stand in the way of what was there before.
    #[error(
        "with the rows that were there before the restore {}; change those rows, then take it back again",
        broken.iter().map(Broken::to_string).collect::<Vec<_>>().join("; ")
    )]
    ReferencesBack {
        /// The foreign keys that would not hold.
        broken: Vec<Broken>,
    },
    /// The table does not give back what was put into it.
    #[error(
        "{table} does not keep the day's rows as they are: a column has another type than in the day; restore the whole database"
    )]
    OtherRows {
        /// The table.
        table: String,
    },
    /// What was replaced is not there any more.
    #[error(
        "the restore cannot be taken back: what it had replaced has been dropped ({})",
        databases.join(", ")
    )]
    Confirmed {
        /// The databases that it was of.
        databases: Vec<String>,
    },
    /// What was to be recorded could not be recorded.
    #[error("cannot record what is restored: {0}")]
    Record(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A task of this program ended badly.
    #[error("database {dbname:?}: a thread that decompresses rows ended badly")]
    Thread {
        /// The database.
        dbname: String,
    },
    /// The run was cancelled.
    #[error("the restore was cancelled")]
    Cancelled,
}

fn meant(alike: &[String]) -> String {
    if alike.is_empty() { String::new() } else { format!("; was {} meant?", alike.join(" or ")) }
}

/// Each with what can be done about it.
fn advised(broken: &[Broken]) -> String {
    let each = broken.iter().map(|broken| match &broken.other {
        Some(other) => format!(
            "{broken}; restore {other} with it (`--table`), or the whole database (`--database`), or put the day elsewhere (`--to-server`)"
        ),
        None => format!("{broken}; restore the whole database (`--database`), or put the day elsewhere (`--to-server`)"),
    });
    each.collect::<Vec<_>>().join("; ")
}

impl RestoreError {
    /// Whether something was refused while everything stood, so that what had begun has ended: not a server that went away, or that is
    /// in a state of which nothing is known.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Postgres(error) => error.is_refusal(),
            Self::Cancelled | Self::Neither { .. } | Self::Confirmed { .. } => false,
            _ => true,
        }
    }
}

impl From<postgres::Error> for RestoreError {
    fn from(error: postgres::Error) -> Self {
        Self::Postgres(Box::new(error))
    }
}

/// The database that stands for `number` (from 1) of the restore `tag` before the swap.
fn new_name(tag: u64, number: usize) -> String {
    format!("daykeep_new_{tag}_{number}")
}

/// What the database that was replaced is called after the swap.
fn old_name(tag: u64, number: usize) -> String {
    format!("daykeep_old_{tag}_{number}")
}

/// The database from which the others are renamed.
fn control_name(tag: u64) -> String {
    format!("daykeep_control_{tag}")
}

/// Names the database that a program failed on.
fn program_failed(dbname: &str, source: process::Error) -> RestoreError {
    match source {
        process::Error::Cancelled { .. } => RestoreError::Cancelled,
        source => RestoreError::Program { dbname: dbname.to_owned(), source: Box::new(source) },
    }
}
