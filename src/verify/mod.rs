//! Holding a day against everything that is known of it: its digests, its records, its seal, and itself.
//!
//! Nothing is changed by a verify, and nothing of a day is believed: a file that cannot be read, a list that does not parse
//! and a number that does not agree are damages like a wrong digest, each named with what it means for a restore. A verify
//! ends early only when it is cancelled or the day goes away.
//!
//! Killed at any moment a verify leaves nothing but a job without an end.

mod archive;
mod gather;
mod job;
mod judge;
mod lists;
mod names;
mod own;
mod records;
mod repair;
mod report;
mod rows;
mod seal;
mod trees;
mod uploads;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Context, Silent};
use crate::fs;
use crate::manifest::SealRecord;
use crate::vault::{self, Day, ProofSeconds};

use gather::{Gather, in_parallel};
pub use job::{Outcome, Request, Which, days, run};
pub use repair::{Prospect, Remedy, mend, prospects};
pub use report::{Damage, Fault, KEPT, Part, Report, Sample, shown};

/// A day could not be verified, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run was cancelled.
    #[error("the verify was cancelled; nothing was changed")]
    Cancelled,
    /// The day, or what is beside it.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// A repair was not done.
    #[error("{file} is not repaired: {problem}")]
    NotRepaired {
        /// The file, relative to the day.
        file: String,
        /// Why.
        problem: String,
    },
    /// The job cannot be recorded.
    #[error(transparent)]
    Journal(#[from] crate::journal::Error),
    /// A file that is no part of what is verified.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// A thread of this program ended badly.
    #[error("a thread that reads the day ended badly")]
    Thread,
}

/// Databases or trees, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// Every one.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Chosen {
    /// None at all.
    #[must_use]
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    /// Whether this one is chosen.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }

    /// Whether nothing is chosen.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }
}

/// What of a day is to be verified. The default is all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// These databases; with any of them, roles and tablespaces.
    pub databases: Chosen,
    /// Of these databases only the rows of these tables, by schema and name. Their lists are looked at all the same.
    pub tables: BTreeMap<String, BTreeSet<(String, String)>>,
    /// These trees.
    pub trees: Chosen,
    /// Whether the content of the trees' files is read; without it, only names and attributes are compared.
    pub tree_content: bool,
    /// Reads the content of a random part only, of rows and files. All metadata is looked at all the same.
    pub sample: Option<Sample>,
    /// Where pg_restore is looked for; None: the best of this machine.
    pub bin_dir: Option<PathBuf>,
}

impl Default for Choice {
    fn default() -> Self {
        let (databases, trees, tables) = (Chosen::All, Chosen::All, BTreeMap::new());
        Self { databases, tables, trees, tree_content: true, sample: None, bin_dir: None }
    }
}

/// Holds a day against its digests, records and seal. The caller pins it.
///
/// # Errors
/// The run was cancelled, or the day's directory is gone. Damage is no error: the report has it.
pub async fn day(day: &Day, choice: &Choice, context: &Context) -> Result<Report, Error> {
    let begun = context.clock.monotonic();
    let gather = Arc::new(Gather::new(choice, context));
    let files = {
        let (day, gather) = (day.clone(), Arc::clone(&gather));
        tokio::task::spawn_blocking(move || files(&day, &gather))
    };
    let (files, archives) = tokio::join!(files, archive::check(day, &gather));
    let mut seconds = files.map_err(|_| Error::Thread)??;
    archives?;
    gather.check()?;
    seconds.total = context.clock.monotonic().saturating_sub(begun).as_secs_f64();
    let mut report = gather.report(day.name(), seconds);
    if uploads::is_asked_for(day, &report) {
        let (day, context) = (day.clone(), context.clone());
        let named = tokio::task::spawn_blocking(move || {
            uploads::name(&day, &mut report, &context);
            report
        });
        report = named.await.map_err(|_| Error::Thread)?;
        gather.check()?;
    }
    Ok(report)
}

/// The beginning of [`day`]: what says what the day is, and the lists. Who must read them before all of the day has been verified
/// knows then that they are what was sealed.
///
/// # Errors
/// As [`day`].
pub async fn lists(day: &Day, choice: &Choice, context: &Context) -> Result<Report, Error> {
    let silent = Context { observer: Arc::new(Silent), ..context.clone() };
    let (day, gather) = (day.clone(), Arc::new(Gather::new(choice, &silent)));
    let work = move || {
        seal::check(&day, &gather);
        let found = own::list(&day, &gather)?;
        for path in found.keys().filter(|path| own::is_small(path)) {
            if own::concerns(&own::part_of(day.manifest(), path), &gather.choice) {
                own::read(&day, path, &gather);
            }
        }
        gather.check()?;
        Ok(gather.report(day.name(), ProofSeconds::default()))
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Thread)?
}

/// All that is read from files; gives how long the parts took.
fn files(day: &Day, gather: &Gather) -> Result<ProofSeconds, Error> {
    let clock = &gather.context.clock;
    let since = |begun: Duration| clock.monotonic().saturating_sub(begun).as_secs_f64();
    let begun = clock.monotonic();
    let seal = seal::check(day, gather);
    let found = own::list(day, gather)?;
    expect(day, &found, gather);
    databases(day, seal.as_ref(), &found, gather)?;
    let database = since(begun);
    let begun = clock.monotonic();
    trees::check(day, seal.as_ref(), gather)?;
    Ok(ProofSeconds { database, trees: since(begun), total: 0.0 })
}

/// How much is to be read, and whether a sample will do: files that do not have the bytes that they had are all read.
fn expect(day: &Day, found: &own::Found, gather: &Gather) {
    let manifest = day.manifest();
    let chosen =
        found.iter().filter(|(path, _)| own::concerns(&own::part_of(manifest, path), &gather.choice));
    gather.expect(chosen.map(|(_, size)| size).sum());
    if gather.choice.tree_content {
        let trees = manifest.trees.iter().filter(|(name, _)| gather.choice.trees.has(name));
        gather.expect(trees.map(|(_, tree)| tree.bytes).sum());
    }
    if let (Some(_), Some(record)) = (gather.choice.sample, &manifest.database) {
        let is: u64 =
            found.iter().filter(|(path, _)| path.starts_with("database")).map(|(_, size)| size).sum();
        if is != record.stored_bytes {
            gather.all_rows.store(true, std::sync::atomic::Ordering::Relaxed);
            gather.note(format!(
                "the files of the databases have {is} bytes, and had {}: all of them were read",
                record.stored_bytes
            ));
        }
    }
}

/// One piece of work for a thread.
enum Task<'a> {
    /// A file against its digest.
    File(PathBuf),
    /// A segment that is whole.
    Whole(&'a rows::Shelf<'a>, &'a str),
    /// A base and the patches against it.
    Base(&'a rows::Shelf<'a>, &'a str),
}

/// The day's own files and its segments.
fn databases(day: &Day, seal: Option<&SealRecord>, found: &own::Found, gather: &Gather) -> Result<(), Error> {
    let manifest = day.manifest();
    let entries = manifest.database.iter().flat_map(|database| &database.databases);
    let (mut shelves, mut needed, mut known) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for entry in entries.filter(|entry| gather.choice.databases.has(&entry.name)) {
        let seal = seal.and_then(|seal| seal.databases.iter().find(|seal| seal.name == entry.name));
        if let Some(shelf) = rows::read_lists(day, entry, seal, found, gather) {
            needed.extend(shelf.files());
            known.insert(entry.name.clone());
            shelves.push(shelf);
        }
    }
    let work = |task: Task<'_>| match task {
        Task::File(path) => own::read(day, &path, gather),
        Task::Whole(shelf, digest) => shelf.read_whole(digest, found, gather),
        Task::Base(shelf, digest) => shelf.read_base(digest, found, gather),
    };
    in_parallel(gather, work, |give| {
        for name in manifest.digests.keys() {
            let path = PathBuf::from(name);
            let part = own::part_of(manifest, &path);
            if needed.contains(&path) || !own::concerns(&part, &gather.choice) {
                continue;
            }
            if own::is_segment(&path)
                && matches!(&part, Part::Database { name } if gather.choice.tables.contains_key(name))
            {
                // The rows of other tables.
                continue;
            }
            let in_vain =
                own::is_segment(&path) && matches!(&part, Part::Database { name } if known.contains(name));
            if in_vain && found.contains_key(&path) {
                gather.note(format!("{name} holds rows that no table has; it was stored in vain"));
            }
            if !found.contains_key(&path) {
                if own::is_segment(&path) {
                    gather.add(own::damage(manifest, &path, Fault::Missing, "it is not there".to_owned()));
                }
            } else if own::is_small(&path) || gather.is_chosen(name.as_bytes()) {
                give(Task::File(path))?;
            }
        }
        for shelf in &shelves {
            shelf.wholes.iter().try_for_each(|digest| give(Task::Whole(shelf, digest)))?;
            shelf.bases.keys().try_for_each(|digest| give(Task::Base(shelf, digest)))?;
        }
        Ok(())
    })
}
