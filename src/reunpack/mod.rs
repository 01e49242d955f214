//! Getting back what a repository that keeps only `gold` has lost: FOSSology unpacks its uploads again.
//!
//! [`plan()`] holds the rows of `pfile` against the tree and finds the uploads whose files are missing, [`queue()`] asks FOSSology's
//! scheduler for them. Rows are compared in the server, as sets: the names that are missing go into a temporary table, and nothing
//! is kept here but a line for each upload.
//!
//! `ununpack` does nothing for an upload whose `ununpack_ars` says that it was unpacked, and adds rows to the tree only where there
//! are none; so a job for it must come with a reset of `ununpack_ars`, and changes no row of the tree (`ununpack.c` and
//! `ui-reunpack.php` of FOSSology). Jobs of the upload that have not ended read the files: they are made to wait.
//!
//! Killed at any moment: each upload is one transaction, which is done or not. What is queued is found by the next call and not
//! queued again, and what was unpacked meanwhile is no longer missing.

mod error;
mod expect;
mod forecast;
mod missing;
mod plan;
mod queue;
mod session;
mod unfinished;

use std::path::PathBuf;

use crate::config::{self, Adapter, CheckQuery, Repository};

pub use error::Error;
pub use expect::to_unpack_at;
pub use plan::{Gold, Plan, Upload, plan};
pub use queue::{Outcome, Queued, queue};
pub use unfinished::{ask, unfinished_at};

use error::cannot_read;

/// A FOSSology: where its rows and its files are.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// The server.
    pub server: config::Server,
    /// The database that has `pfile`, `upload` and `jobqueue`.
    pub database: String,
    /// The root of the tree, in which the directories of the hosts are.
    pub root: PathBuf,
    /// Those directories.
    pub hosts: Vec<String>,
    /// Levels of directories in the repository.
    pub depth: u32,
    /// Where its scheduler listens; None: it finds the jobs by itself, within two minutes.
    pub scheduler: Option<String>,
}

impl Site {
    /// The FOSSology that a repository is configured to be.
    ///
    /// # Errors
    /// It is none: it has no database, or no check `builtin = "fossology"`, which names the tree.
    pub fn of(repository: &Repository) -> Result<Self, Error> {
        let not = |lacks| Error::NotFossology { repository: repository.name.clone(), lacks };
        let database = repository.database.as_ref().ok_or_else(|| not("database"))?;
        let found = repository.checks.values().find_map(|check| match &check.query {
            CheckQuery::Fossology { depth, hosts, .. } => Some((check, *depth, hosts)),
            CheckQuery::Sql(_) => None,
        });
        let (check, depth, hosts) = found.ok_or_else(|| not("check with builtin = \"fossology\""))?;
        let tree = repository.trees.get(&check.tree).ok_or_else(|| not("tree for its check"))?;
        let scheduler = match &repository.hold.adapter {
            Adapter::Fossology(hold) => Some(hold.address.clone()),
            _ => None,
        };
        Ok(Self {
            server: database.server.clone(),
            database: check.database.clone(),
            root: tree.path.clone(),
            hosts: hosts.clone(),
            depth,
            scheduler,
        })
    }
}

/// Whether the days of a repository have gold and not what was unpacked from it: its check looks at gold alone.
#[must_use]
pub fn keeps_gold_only(repository: &Repository) -> bool {
    let gold_only = |query: &CheckQuery| matches!(query, CheckQuery::Fossology { files: false, .. });
    repository.checks.values().any(|check| gold_only(&check.query))
}
