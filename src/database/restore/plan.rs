//! What a survey finds.

use serde::Serialize;

use crate::postgres::Programs;

/// Everything that a restore would meet, do and need; and all that stands in its way.
#[derive(Debug, Clone, Serialize)]
pub struct Survey {
    /// The server.
    pub server: ServerFacts,
    /// The chosen databases of the day.
    pub databases: Vec<DatabasePlan>,
    /// Databases of the server that are not touched.
    pub staying: Vec<String>,
    /// Roles.
    pub roles: RolePlan,
    /// Tablespaces that are missing and will be made, with their directories.
    pub new_tablespaces: Vec<(String, String)>,
    /// Who is connected to databases that will be replaced: these sessions will be ended.
    pub sessions: Vec<SessionSeen>,
    /// Bytes that the server's disk needs, estimated.
    pub needed_bytes: u64,
    /// Bytes that it has, when this machine can see it.
    pub free_bytes: Option<u64>,
    /// All that stands in the way; empty: it can be done.
    pub problems: Vec<String>,
    /// What an admin should know.
    pub notices: Vec<String>,
    #[serde(skip)]
    pub(super) programs: Programs,
    /// Of each chosen database, in the same order: how it is made.
    #[serde(skip)]
    pub(super) creations: Vec<Creation>,
    /// The day's `globals.sql`, if it has one.
    #[serde(skip)]
    pub(super) globals: Option<String>,
}

/// How a database is made.
#[derive(Debug, Clone)]
pub(super) struct Creation {
    /// The statements that make it, and what belongs to it as a whole.
    pub(super) statements: Vec<String>,
    /// The list of its archive.
    pub(super) list: String,
}

impl Survey {
    /// Whether nothing stands in the way.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What was found out about the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// `server_version_num`.
    pub version: u32,
    /// The version that the server shows.
    pub version_text: String,
    /// The role.
    pub user: String,
    /// It is a superuser.
    pub superuser: bool,
    /// The server is a standby.
    pub standby: bool,
    /// `data_directory`, when the role may know it.
    pub data_directory: Option<String>,
    /// Connections that are free.
    pub free_connections: usize,
}

/// One database of the day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabasePlan {
    /// Its name.
    pub name: String,
    /// Its directory below the day's `database/`.
    pub directory: String,
    /// Its encoding.
    pub encoding: String,
    /// What happens to it.
    pub action: Action,
    /// Rows in segments, and bytes of their text.
    pub rows: u64,
    /// See `rows`.
    pub row_bytes: u64,
    /// What it is called until the swap.
    pub beside: String,
    /// What the one that it replaces will be called.
    pub aside: String,
}

/// What happens to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Action {
    /// The one on the server is moved aside for it.
    Replace {
        /// The one on the server.
        oid: u32,
        /// Its size.
        bytes: u64,
        /// Whether it accepts connections.
        allows_connections: bool,
    },
    /// The server has none of this name.
    Create,
    /// Neither the day's nor the server's holds anything, and their properties are equal.
    LeaveAlone,
}

/// What happens to roles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RolePlan {
    /// Are missing on the server.
    pub created: Vec<String>,
    /// Are there, and become what they were in the day.
    pub changed: Vec<String>,
    /// Are on the server and not in the day: they stay.
    pub staying: Vec<String>,
    /// The role of this session would become another, and may not: what it may do and its password stay.
    pub keeps_own: bool,
}

/// Sessions of one role and program in one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionSeen {
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// `application_name`.
    pub application: String,
    /// Where it comes from; empty for a unix socket.
    pub address: String,
    /// How many.
    pub count: u64,
}
