//! What a restore will do, told before it is done: for people, and as JSON.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::journal::PendingRestore;
use crate::restore::known::{Finding, NewestProven};
use crate::vault::Standing;

/// All of it. Nothing has been changed when this exists.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The repository.
    pub repository: String,
    /// The day.
    pub day: String,
    /// The instant that it shows.
    pub freeze_point: Timestamp,
    /// What verifies and drills have made of the day.
    pub standing: Standing,
    /// The newest drill that restored this day and found it right; None: nobody has tried.
    pub proven: Option<Proven>,
    /// Why the day is not sound, when a verify found damage or its drill failed.
    pub finding: Option<Finding>,
    /// The newest day that is proven, when this one is not; None also when there is none.
    pub newest_proven: Option<NewestProven>,
    /// A restore that was broken off and is gone on with.
    pub continues: Option<PendingRestore>,
    /// The server of the databases.
    pub server: Option<ServerPlan>,
    /// Single tables.
    pub tables: Vec<TableChange>,
    /// The trees.
    pub trees: Vec<TreePlan>,
    /// What of the repository stays as it is, one sentence each.
    pub stays: Vec<String>,
    /// How the repository is held meanwhile; None: it is not.
    pub hold: Option<HoldPlan>,
    /// What the old state takes up until it is confirmed, and what is copied beside it, by place.
    pub space: Vec<Space>,
    /// How long it will take, by the newest drill; None: there was none.
    pub expected: Option<Duration>,
    /// What an admin should know before saying yes, one sentence each.
    pub warnings: Vec<String>,
}

/// A drill that succeeded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proven {
    /// When.
    pub at: Timestamp,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// The server and what happens on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerPlan {
    /// Its version.
    pub version: String,
    /// The role that restores.
    pub user: String,
    /// Whole databases.
    pub databases: Vec<DatabasePlan>,
    /// Roles that are missing and will be made.
    pub new_roles: Vec<String>,
    /// Roles that become what they were in the day.
    pub changed_roles: Vec<String>,
    /// Tablespaces that are missing and will be made, with their directories.
    pub new_tablespaces: Vec<String>,
}

/// A database of the day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatabasePlan {
    /// Its name.
    pub name: String,
    /// Bytes of the one that is there now; None: there is none.
    pub now_bytes: Option<u64>,
    /// Neither the day's nor the one that is there holds anything: it stays.
    pub is_left_alone: bool,
    /// Sessions on the one that is there; they are ended at the switch.
    pub sessions: Vec<String>,
    /// Rows of the day's, as far as daykeep copied them.
    pub rows: u64,
    /// Bytes of their text.
    pub row_bytes: u64,
}

/// A single table of the day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableChange {
    /// `DATABASE.SCHEMA.TABLE`
    pub name: String,
    /// Rows of the one that is there now, about; None: there is none.
    pub now_rows: Option<u64>,
    /// Rows of the day's.
    pub rows: u64,
    /// Bytes of their text.
    pub row_bytes: u64,
}

/// A tree of the day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TreePlan {
    /// Its name.
    pub name: String,
    /// Its root.
    pub path: String,
    /// Only this of it; None: all of it.
    pub part: Option<String>,
    /// Names that are missing and come.
    pub create: u64,
    /// Names whose content or kind changes; what is there goes aside.
    pub replace: u64,
    /// Names whose owner, mode or times change.
    pub attributes: u64,
    /// Names that the day does not have; they go aside.
    pub remove: u64,
    /// Names that are as in the day.
    pub same: u64,
    /// Names that the configuration excludes, and mount points: they stay.
    pub stay: u64,
    /// Bytes that are copied out of the day.
    pub copy_bytes: u64,
    /// Bytes that go aside.
    pub aside_bytes: u64,
}

impl TreePlan {
    /// Whether it is the day's already.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.create + self.replace + self.attributes + self.remove == 0
    }
}

/// How the repository is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HoldPlan {
    /// The adapter: `fossology`, `systemd`, `command`, `http`, `none`.
    pub adapter: String,
    /// It is started at the end even if it was found stopped.
    pub start: bool,
    /// Whether it runs now; None: that was not asked, or nothing tells.
    pub runs: Option<bool>,
}

/// Room that is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Space {
    /// Where.
    pub place: String,
    /// Bytes that come.
    pub needed: u64,
    /// Bytes that are free; None: it cannot be told.
    pub free: Option<u64>,
    /// Bytes of the old state that stay there until it is confirmed.
    pub old: u64,
}

/// What `--plan` tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    /// This would be done.
    ToDo(Box<Plan>),
    /// Nothing: the same restore is done already, and waits to be confirmed or taken back.
    Done(Box<PendingRestore>),
}

/// What taking a restore back, or confirming it, will do. Nothing has been changed when this exists.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndPlan {
    /// It is taken back; otherwise what was there before is dropped.
    pub undo: bool,
    /// The restore.
    pub restore: PendingRestore,
    /// Something has taken the place of what was there.
    pub has_switched: bool,
    /// It was found stopped when it was restored, and is not started when it is taken back.
    pub stays_stopped: bool,
    /// Databases that are replaced by those that were there, or whose predecessors are dropped.
    pub databases: Vec<String>,
    /// Databases that were not there before: they go, or have no predecessors to drop.
    pub new_databases: Vec<String>,
    /// Single tables, likewise.
    pub tables: Vec<String>,
    /// Trees and parts of trees, likewise.
    pub trees: Vec<String>,
}
