//! What a restore makes on another server, recorded so that it can be removed when the restore was killed:
//! `<state>/<repository>/restore-to-<job>.json`, written before anything is made, and a lock beside it that goes with the restore.
//!
//! | killed | the next restore to that server |
//! | --- | --- |
//! | before the databases have their names | drops what was loaded, and roles and tablespaces that were made for it and nobody uses |
//! | after that | finds the restore done, and drops the empty `postgres` that it replaced |
//!
//! Nothing is dropped unless the lock is free, the server is the one of the record by its system identifier, and nobody is connected to it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Server;
use crate::database::restore::{self as rows, Beside, Made, State, Swap};
use crate::event::{Context, Notices as _};
use crate::fs;
use crate::journal;
use crate::restore::Error;

/// The record's name, before the number of the job.
const NAME: &str = "restore-to-";
/// How long what a killed restore has left running is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// Which server it is.
    system: i64,
    /// What is made there.
    beside: Beside,
    /// What gets its name; there once everything is loaded.
    swap: Option<Swap>,
}

/// The record of a restore that goes on.
pub(super) struct Abroad {
    path: PathBuf,
    record: Mutex<Record>,
    _lock: File,
}

impl Abroad {
    /// Before anything is made.
    pub(super) async fn begin(
        state_dir: &Path,
        repository: &str,
        job: u64,
        server: &Server,
    ) -> Result<Self, Error> {
        let path = state_dir.join(repository).join(format!("{NAME}{job}.json"));
        let Some(lock) = fs::lock_file(&path.with_extension("lock"))? else {
            return Err(Error::Locked { repository: repository.to_owned() });
        };
        let system = rows::system_of(server, job).await?;
        let record = Record { system, beside: Beside { tag: job, ..Beside::default() }, swap: None };
        let abroad = Self { path, record: Mutex::new(record), _lock: lock };
        abroad.change(|_| {})?;
        Ok(abroad)
    }

    /// Something is about to be made.
    pub(super) fn add(&self, made: &Made) -> Result<(), Error> {
        self.change(|record| match made {
            Made::Roles(names) => record.beside.roles.extend(names.iter().cloned()),
            Made::Tablespaces(names) => record.beside.tablespaces.extend(names.iter().cloned()),
            Made::Database(_) => {}
        })
    }

    /// It is about to get its names.
    pub(super) fn swap(&self, swap: &Swap) -> Result<(), Error> {
        self.change(|record| record.swap = Some(swap.clone()))
    }

    /// Removes what was made, when the restore failed. It can be done again.
    pub(super) async fn clear(&self, server: &Server, context: &Context) -> Result<(), Error> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(clear(&record, server, context).await?)
    }

    /// What has been made.
    pub(super) fn beside(&self) -> Beside {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).beside.clone()
    }

    /// Nothing is left to be removed.
    pub(super) fn end(self) -> Result<(), Error> {
        forget(&self.path)
    }

    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut record);
        let text = serde_json::to_vec_pretty(&*record)
            .map_err(|source| journal::Error::Write { path: self.path.clone(), source })?;
        Ok(fs::write_durable(&self.path, &text)?)
    }
}

fn forget(path: &Path) -> Result<(), Error> {
    fs::remove_file(&fs::aside_of(path))?;
    fs::remove_file_durable(path)?;
    Ok(fs::remove_file(&path.with_extension("lock"))?)
}

/// Removes what killed restores have left on this server. What cannot be removed is told, and stays for the next.
pub(super) async fn sweep(
    state_dir: &Path,
    repository: &str,
    server: &Server,
    context: &Context,
) -> Result<(), Error> {
    let directory = state_dir.join(repository);
    for name in fs::names_in(&directory)? {
        let job = name.to_str().and_then(|name| name.strip_prefix(NAME)?.strip_suffix(".lock"));
        let Some(job) = job.and_then(|job| job.parse::<u64>().ok()) else { continue };
        let path = directory.join(&name).with_extension("json");
        // Its restore goes on as long as it has this.
        let Some(_lock) = fs::lock_file(&path.with_extension("lock"))? else { continue };
        let Some(text) = fs::read_if_exists(&path)? else {
            // Nothing was made yet.
            forget(&path)?;
            continue;
        };
        let record: Record = serde_json::from_slice(&text)
            .map_err(|source| journal::Error::DamagedRestore { path: path.clone(), source })?;
        if rows::system_of(server, job).await? != record.system {
            continue;
        }
        let cleared = async {
            alone(&record, server, context).await?;
            clear(&record, server, context).await
        };
        match cleared.await {
            Ok(()) => {
                context.observer.info(format!("what the killed restore of job {job} had left on that server is removed"));
                forget(&path)?;
            }
            Err(rows::RestoreError::Cancelled) => return Err(Error::Cancelled),
            Err(error) => context.observer.warn(format!(
                "the killed restore of job {job} has left databases whose names begin with daykeep_new_{job}_ on that server, and they \
                 cannot be dropped: {error}"
            )),
        }
    }
    Ok(())
}

/// Programs that it had started end when they find nobody to talk to.
async fn alone(record: &Record, server: &Server, context: &Context) -> Result<(), rows::RestoreError> {
    let begun = context.clock.monotonic();
    while record.beside.is_in_use(server).await? {
        let waited = context.clock.monotonic().saturating_sub(begun);
        if waited > PATIENCE {
            return Err(rows::RestoreError::Busy { waited, who: "whoever is connected to them".to_owned() });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn clear(record: &Record, server: &Server, context: &Context) -> Result<(), rows::RestoreError> {
    match &record.swap {
        Some(swap) if swap.state(server).await? == State::After => swap.drop_old(server, context).await,
        _ => record.beside.discard(server, context).await,
    }
}
