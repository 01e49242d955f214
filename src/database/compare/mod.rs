//! A running server held against what was recorded of a day: its rows, its tables, its constraints.
//!
//! What was recorded is the seal record's, which does not lie in the day; for a day without one, what the day says of itself
//! (`tables.jsonl` and the archive's table of contents). For each database:
//!
//! 1. `rows`: every table is there and none too many, and each has as many rows as were recorded, with the same digest: the server
//!    is asked for them as the dump was, and they are summed as they come.
//! 2. `objects`: every relation, constraint, trigger, rule and policy that the archive makes is there, with its owner; indexes are
//!    valid, and constraints are validated but for those that were not in the day either. Every large object is there.
//! 3. `constraints`: no row breaks a foreign key or a CHECK. PostgreSQL validated them when it took them, unless somebody had turned that
//!    off; here every row is asked again.
//!
//! What is wrong is no error: it is a [`Difference`], and all are told. Nothing is changed on the server, and memory does not grow
//! with the tables' size.

mod constraints;
mod difference;
mod objects;
mod rows;

use std::collections::BTreeSet;
use std::path::Path;

use super::{Error, Live};
use crate::event::Context;
use crate::fs;
use crate::manifest::{DatabaseEntry, DatabaseSeal, RecordsError};
use crate::postgres::Programs;

pub use difference::Difference;

/// Databases that every server has, whatever the day holds.
const INITIAL: [&str; 3] = ["postgres", "template0", "template1"];

/// What a server is held against.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// The day's directory.
    pub day: &'a Path,
    /// The databases that the day says it holds.
    pub databases: &'a [DatabaseEntry],
    /// What was recorded outside the day when it was sealed, by database; None for a day without a seal record.
    pub seal: Option<&'a [DatabaseSeal]>,
    /// Only these databases; None: all of the day, and no others are to be on the server.
    pub only: Option<&'a [String]>,
}

/// What was looked at, and what is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Databases.
    pub databases: u64,
    /// Tables whose rows were summed.
    pub tables: u64,
    /// Rows that were summed.
    pub rows: u64,
    /// Tables whose rows are in `rest.dump`: they are there, but how many rows they had was not recorded.
    pub uncounted: u64,
    /// Relations, constraints, triggers, rules, policies and large objects that were looked for.
    pub objects: u64,
    /// Foreign keys and CHECKs that every row was asked about.
    pub constraints: u64,
    /// All that differs.
    pub differences: Vec<Difference>,
}

/// The comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The server cannot be asked, or the archive not be read.
    #[error(transparent)]
    Database(#[from] Error),
    /// The list of tables cannot be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// A file of the day cannot be read.
    #[error("{0}: {cause}", cause = .0.source)]
    File(#[from] fs::Error),
}

impl CompareError {
    /// Whether it was only stopped.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Database(Error::Cancelled))
    }
}

/// One database as it should be, and as it is.
struct Site<'a> {
    live: &'a Live,
    entry: &'a DatabaseEntry,
    /// Its directory in the day.
    home: &'a Path,
    programs: &'a Programs,
    jobs: usize,
    context: &'a Context,
}

impl Recorded<'_> {
    fn wants(&self, name: &str) -> bool {
        self.only.is_none_or(|only| only.iter().any(|wanted| wanted == name))
    }

    fn seal_of(&self, name: &str) -> Option<&DatabaseSeal> {
        self.seal?.iter().find(|seal| seal.name == name)
    }
}

/// Compares every database that was recorded, with so many connections at a time.
///
/// # Errors
/// The server or the day cannot be read, or the context is cancelled. What differs is no error.
pub async fn compare(
    live: &Live,
    recorded: &Recorded<'_>,
    programs: &Programs,
    jobs: usize,
    context: &Context,
) -> Result<Comparison, CompareError> {
    let work = async {
        let mut comparison = Comparison::default();
        let there = live.databases().await?;
        let entries = recorded.databases.iter();
        let entries: Vec<&DatabaseEntry> = entries.filter(|entry| recorded.wants(&entry.name)).collect();
        name_databases(recorded, &entries, &there, &mut comparison);
        let total = entries.iter().map(|entry| entry.rows).sum();
        let progress = rows::Progress::new(context, total);
        for entry in entries.iter().filter(|entry| there.contains(&entry.name)) {
            let home = recorded.day.join("database").join(&entry.directory);
            let site = Site { live, entry, home: &home, programs, jobs, context };
            one(&site, recorded.seal_of(&entry.name), &progress, &mut comparison).await?;
        }
        Ok(comparison)
    };
    tokio::select! {
        outcome = work => outcome,
        () = context.cancel.cancelled() => Err(Error::Cancelled.into()),
    }
}

/// Databases that are missing, in the day or on the server, and those that are too many.
fn name_databases(
    recorded: &Recorded<'_>,
    entries: &[&DatabaseEntry],
    there: &BTreeSet<String>,
    comparison: &mut Comparison,
) {
    let held: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let sealed: BTreeSet<&str> = recorded
        .seal
        .into_iter()
        .flatten()
        .map(|seal| seal.name.as_str())
        .filter(|name| recorded.wants(name))
        .collect();
    for name in held.union(&sealed).filter(|name| !there.contains(**name)) {
        comparison.differences.push(Difference::MissingDatabase { database: (*name).to_owned() });
    }
    let is_known = |name: &str| held.contains(name) || sealed.contains(name) || INITIAL.contains(&name);
    if recorded.only.is_none() {
        for name in there.iter().filter(|name| !is_known(name)) {
            comparison.differences.push(Difference::ExtraDatabase { database: name.clone() });
        }
    }
}

async fn one(
    site: &Site<'_>,
    seal: Option<&DatabaseSeal>,
    progress: &rows::Progress,
    comparison: &mut Comparison,
) -> Result<(), CompareError> {
    comparison.databases += 1;
    let listing = objects::Listing::read(site).await?;
    rows::compare(site, seal, &listing, progress, comparison).await?;
    objects::compare(site, &listing, comparison).await?;
    constraints::compare(site, comparison).await?;
    Ok(())
}
