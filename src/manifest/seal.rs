//! `seals/<day>.json`: what a day was when it was sealed, kept outside the day.
//!
//! A day describes itself: whoever changes a file of it can change its digests too, and all would agree again. This record
//! does not lie in the day, and what it says of rows was summed while the server spoke, not read back from files.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Rows;

/// What was recorded of a day, beside the days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRecord {
    /// The version of the format: [`FORMAT`](super::FORMAT).
    pub format: u32,
    /// The repository's name.
    pub repository: String,
    /// The day's name.
    pub day: String,
    /// When it was sealed.
    pub sealed: Timestamp,
    /// BLAKE3 (hex) of its `manifest.json`.
    pub manifest: String,
    /// What the server sent, by database.
    pub databases: Vec<DatabaseSeal>,
    /// What was put into the trees, by name.
    pub trees: BTreeMap<String, TreeSeal>,
}

/// One database, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DatabaseSeal {
    /// Its name.
    pub name: String,
    /// The tables whose rows daykeep copied.
    pub tables: Vec<TableSeal>,
    /// All other tables that `rest.dump` makes or fills: their rows, if they have any, are in it.
    pub rest_tables: Vec<TableName>,
}

/// One table, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSeal {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its rows, summed from the COPY stream.
    pub rows: Rows,
}

/// A table's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// Its schema.
    pub schema: String,
    /// Its name; bytes above 127 of a SQL_ASCII database are escaped.
    pub name: String,
}

/// One tree, as it was put into the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSeal {
    /// Entries of every kind.
    pub entries: u64,
    /// Regular files (each name counts).
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
}
