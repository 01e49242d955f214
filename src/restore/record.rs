//! `<state>/<repository>/restore.json`: how far a restore in place is, and all that is needed to go on with it or to take it back
//! without the day and without the configuration. Its head is [`PendingRestore`], which everybody can read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::config::Server;
use crate::database::restore as rows;
use crate::event::{Context, Notices as _};
use crate::fs;
use crate::journal::{self, PendingRestore, RestorePhase, restore_record};
use crate::restore::still::After;
use crate::restore::tables::Tables;
use crate::restore::trees::Placed;
use crate::restore::{Choice, EndPlan, Error, Request, trees};
use crate::vault::{self, Day, Locked, Vault};

/// The version of the record's form.
const FORMAT: u32 = 1;

/// What is on the disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) head: PendingRestore,
    format: u32,
    /// What of the day.
    pub(super) choice: Choice,
    /// The repository's configuration, as TOML without secrets.
    configuration: String,
    /// The server, and what was made on it.
    pub(super) databases: Option<Databases>,
    /// Single tables.
    #[serde(default)]
    pub(super) tables: Option<Tables>,
    /// What was put beside the trees and what took its place, in the order in which it is switched.
    pub(super) trees: Vec<Placed>,
    /// The repository was found stopped: with what was there before it is not to run.
    #[serde(default)]
    found_stopped: bool,
}

/// What was made on the server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Databases {
    /// Where it is.
    pub(super) server: Server,
    /// Roles that were missing.
    pub(super) roles: Vec<String>,
    /// Tablespaces that were missing.
    pub(super) tablespaces: Vec<String>,
    /// Databases that are complete beside.
    pub(super) loaded: Vec<rows::Loaded>,
    /// What changes places with what; there once everything is loaded.
    pub(super) swap: Option<rows::Swap>,
}

impl Databases {
    /// Something was made or is about to be.
    pub(super) fn add(&mut self, made: &rows::Made) {
        let add = |known: &mut Vec<String>, names: &[String]| {
            let new: Vec<String> = names.iter().filter(|name| !known.contains(name)).cloned().collect();
            known.extend(new);
        };
        match made {
            rows::Made::Roles(names) => add(&mut self.roles, names),
            rows::Made::Tablespaces(names) => add(&mut self.tablespaces, names),
            rows::Made::Database(loaded) => {
                self.loaded.retain(|known| known.name != loaded.name);
                self.loaded.push(loaded.clone());
            }
        }
    }
}

/// A record and where it is. Whoever has it has the lock beside it.
#[derive(Debug)]
pub(super) struct Durable {
    path: PathBuf,
    record: Mutex<Record>,
    /// The record is on the disk since an earlier job, or was written by this one.
    is_written: bool,
}

/// The lock of a repository's restores: no two meet. It goes with its process.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it, at once or not at all.
    pub(super) fn take(state_dir: &Path, repository: &str) -> Result<Self, Error> {
        let record = restore_record(state_dir, repository);
        let path = record.with_extension("lock");
        fs::create_dir_durable(fs::parent_of(&path))?;
        let Some(file) = fs::lock_file(&path)? else {
            return Err(Error::Locked { repository: repository.to_owned() });
        };
        // What a writer left that was killed before its rename: it may hold what the record holds.
        fs::remove_file(&fs::aside_of(&record))?;
        trees::sweep(fs::parent_of(&record))?;
        Ok(Self { _file: file })
    }
}

/// Locks the vault, so that no run begins meanwhile. One that cannot be written has no runs.
pub(super) fn lock_vault(vault: &Vault, job: u64, context: &Context) -> Result<Option<Locked>, Error> {
    let holder = format!("daykeep restore, process {}, job {job}", std::process::id());
    match vault.lock(&holder, context.clock.now()) {
        Ok(locked) => Ok(Some(locked)),
        Err(source @ vault::Error::Locked { .. }) => {
            Err(Error::VaultLocked { repository: vault.repository().to_owned(), source })
        }
        Err(vault::Error::ReadOnly { .. }) => {
            context
                .observer
                .info(format!("the vault {} is read-only: it is not locked", vault.path().display()));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

impl Durable {
    /// What is there, if anything is.
    pub(super) fn read(state_dir: &Path, repository: &str, _lock: &Lock) -> Result<Option<Self>, Error> {
        let path = restore_record(state_dir, repository);
        let Some(record) = read(&path)? else { return Ok(None) };
        Ok(Some(Self { path, record: Mutex::new(record), is_written: true }))
    }

    /// The restore of this day that was broken off, or a new one, which is not on the disk yet; or nothing, since this one is done.
    ///
    /// # Errors
    /// Another one waits to be ended.
    pub(super) fn begun_or_new(
        request: &Request,
        day: &Day,
        job: u64,
        lock: &Lock,
        context: &Context,
    ) -> Result<Result<Self, Box<PendingRestore>>, Error> {
        let Some(begun) = Self::read(&request.state_dir, &request.repository.name, lock)? else {
            return Ok(Ok(Self::new(request, day, job, context)));
        };
        match begun.with(|record| record.meets(request, day))? {
            Met::GoesOn(_) => Ok(Ok(begun)),
            Met::Done(pending) => Ok(Err(pending)),
        }
    }

    fn new(request: &Request, day: &Day, job: u64, context: &Context) -> Self {
        let head = PendingRestore {
            job,
            repository: request.repository.name.clone(),
            day: day.name().to_owned(),
            options: request.choice.options(),
            place: request.place.options(),
            phase: RestorePhase::Loading,
            started: context.clock.now(),
        };
        let record = Record {
            head,
            format: FORMAT,
            choice: request.choice.clone(),
            configuration: request.repository.as_toml.clone(),
            databases: None,
            tables: None,
            trees: Vec::new(),
            found_stopped: false,
        };
        let path = restore_record(&request.state_dir, &request.repository.name);
        Self { path, record: Mutex::new(record), is_written: false }
    }

    /// Looks at the record.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its head.
    pub(super) fn head(&self) -> PendingRestore {
        self.with(|record| record.head.clone())
    }

    /// The number in the names of what is put beside.
    pub(super) fn tag(&self) -> u64 {
        self.with(|record| record.head.job)
    }

    /// The restore that this one goes on with.
    pub(super) fn begun(&self) -> Option<PendingRestore> {
        self.is_written.then(|| self.head())
    }

    /// What is there has begun to be replaced.
    pub(super) fn is_switching(&self) -> bool {
        self.with(|record| !matches!(record.head.phase, RestorePhase::Loading | RestorePhase::Staged))
    }

    /// Notes how the repository was found; it is on the disk with the next change.
    pub(super) fn note_stopped(&self, found_stopped: bool) {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).found_stopped = found_stopped;
    }

    /// What becomes of the hold when this restore has been taken back: what was stopped with what is there again stays stopped with it, whoever
    /// has started it since.
    pub(super) fn after_undo(&self, start: bool) -> After {
        match (start, self.with(|record| record.found_stopped)) {
            (true, _) => After::Started,
            (false, true) => After::Stopped,
            (false, false) => After::AsFound,
        }
    }

    /// What taking this restore back, or confirming it, does.
    pub(super) fn end_plan(&self, undo: bool, start: bool) -> EndPlan {
        let stays_stopped = undo && self.after_undo(start) == After::Stopped;
        self.with(|record| {
            let swap = record.databases.as_ref().and_then(|made| made.swap.as_ref());
            let pairs: Vec<_> = swap.iter().flat_map(|swap| &swap.pairs).collect();
            let named = |is_new: bool| {
                let pairs = pairs.iter().filter(|pair| pair.old_oid.is_none() == is_new);
                pairs.map(|pair| pair.name.clone()).collect()
            };
            EndPlan {
                undo,
                restore: record.head.clone(),
                has_switched: !matches!(record.head.phase, RestorePhase::Loading | RestorePhase::Staged),
                stays_stopped,
                databases: named(false),
                new_databases: named(true),
                tables: record.tables.iter().flat_map(Tables::names).collect(),
                trees: record.trees.iter().map(Placed::shown).collect(),
            }
        })
    }

    /// Changes the record: it is on the disk when this returns.
    pub(super) fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut record);
        let text = serde_json::to_vec_pretty(&*record)
            .map_err(|source| journal::Error::Write { path: self.path.clone(), source })?;
        Ok(fs::write_durable(&self.path, &text)?)
    }

    /// The next phase is about to begin.
    pub(super) fn advance(&self, phase: RestorePhase) -> Result<(), Error> {
        self.change(|record| record.head.phase = phase)
    }

    /// Nothing is left to be done or undone: the record and its lists go.
    pub(super) fn remove(self) -> Result<(), Error> {
        let directory = self.path.with_extension("");
        if fs::exists(&directory)? {
            fs::remove_tree(&directory, 1, &|_| true)?;
        }
        Ok(fs::remove_file_durable(&self.path)?)
    }

    /// `<state>/<repository>/restore`, made if it is not there: lists that are too long for the record.
    pub(super) fn directory(&self) -> Result<PathBuf, Error> {
        let directory = self.path.with_extension("");
        fs::create_dir_durable(&directory)?;
        fs::set_mode(&directory, 0o700)?;
        Ok(directory)
    }
}

/// What a restore finds that is recorded already.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Met {
    /// The same one, broken off.
    GoesOn(Box<PendingRestore>),
    /// The same one, done.
    Done(Box<PendingRestore>),
}

impl Record {
    /// Whether a request goes on with this restore, or has to wait for its end.
    fn meets(&self, request: &Request, day: &Day) -> Result<Met, Error> {
        let is_same = self.head.day == day.name() && self.choice == request.choice;
        let pending = Box::new(self.head.clone());
        match self.head.phase {
            RestorePhase::Done if is_same => Ok(Met::Done(pending)),
            RestorePhase::Done | RestorePhase::Undoing | RestorePhase::Confirming => {
                Err(Error::Pending { pending })
            }
            _ if is_same => Ok(Met::GoesOn(pending)),
            _ => Err(Error::Pending { pending }),
        }
    }
}

/// What a restore would meet, for a plan: nothing is made or locked.
///
/// # Errors
/// It would be refused: another restore waits, or goes on right now.
pub(super) fn met(request: &Request, day: &Day) -> Result<Option<Met>, Error> {
    let path = restore_record(&request.state_dir, &request.repository.name);
    let Some(record) = read(&path)? else { return Ok(None) };
    let lock = path.with_extension("lock");
    if fs::exists(&lock)? && !fs::try_lock_shared(&fs::open(&lock)?, &lock)? {
        return Err(Error::Locked { repository: request.repository.name.clone() });
    }
    record.meets(request, day).map(Some)
}

/// The form is looked at first: a record of a later form need not parse as one of ours.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

fn read(path: &Path) -> Result<Option<Record>, Error> {
    let Some(bytes) = fs::read_if_exists(path)? else { return Ok(None) };
    let damaged = |source| journal::Error::DamagedRestore { path: path.to_owned(), source };
    let Form { format: form } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if form > FORMAT {
        return Err(Error::NewerRecord { path: path.to_owned(), form });
    }
    Ok(Some(serde_json::from_slice(&bytes).map_err(damaged)?))
}

/// The configuration with which the repository's restore was made; None: no restore waits.
///
/// # Errors
/// The record is there and cannot be read.
pub fn recorded_configuration(state_dir: &Path, repository: &str) -> Result<Option<String>, Error> {
    Ok(read(&restore_record(state_dir, repository))?.map(|record| record.configuration))
}
