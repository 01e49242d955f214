//! What the journals say of the jobs.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::Phase;
use crate::fs::{self, OnPath as _};
use crate::journal::{End, Error, JobKind, Line, What, append, jobs_directory};

/// A job as its journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number, unique over all repositories.
    pub id: u64,
    /// Its repository.
    pub repository: String,
    /// What it does.
    pub kind: JobKind,
    /// How it stands.
    pub state: JobState,
    /// The phase that it is in, or in which it ended.
    pub phase: Option<Phase>,
    /// The newest sentence for people.
    pub message: Option<String>,
    /// Why it failed or was skipped, one sentence, with all that is behind it.
    pub error: Option<String>,
    /// The chain of causes alone, one a line; of a verify or drill that found damage, all that it found.
    pub detail: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; for a job whose daykeep died, when it was last heard of.
    pub ended: Option<Timestamp>,
    /// Who started it: `schedule`, `catch-up`, `retry`, or a user.
    pub started_by: String,
    /// The day that it sealed.
    pub day: Option<String>,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// A living process does it.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly, or its daykeep died.
    Failed,
    /// The repository was busy.
    Skipped,
    /// Somebody asked it to stop.
    Cancelled,
}

/// Every job of every repository, by number.
///
/// # Errors
/// The state directory cannot be read.
pub fn jobs(state_dir: &Path) -> Result<Vec<Job>, Error> {
    let mut jobs = Vec::new();
    for (_, path) in numbers(state_dir)? {
        jobs.extend(read(&path)?);
    }
    Ok(jobs)
}

/// One job.
///
/// # Errors
/// There is none with this number, or it cannot be read.
pub fn job(state_dir: &Path, id: u64) -> Result<Job, Error> {
    let found = numbers(state_dir)?.into_iter().find(|(number, _)| *number == id);
    let job = found.map(|(_, path)| read(&path)).transpose()?.flatten();
    job.ok_or(Error::NoSuchJob { id })
}

/// When the newest backup of the repository that succeeded ended.
///
/// # Errors
/// The journals cannot be read.
pub fn last_success(state_dir: &Path, repository: &str) -> Result<Option<Timestamp>, Error> {
    let files = numbers_in(&jobs_directory(state_dir, repository))?;
    Ok(newest_success(&files)?.and_then(|job| job.ended))
}

fn newest_success(files: &[(u64, PathBuf)]) -> Result<Option<Job>, Error> {
    for (_, path) in files.iter().rev() {
        let job = read(path)?;
        if let Some(job) = job.filter(|job| (job.kind, job.state) == (JobKind::Backup, JobState::Succeeded)) {
            return Ok(Some(job));
        }
    }
    Ok(None)
}

/// Writes the end of every job whose daykeep died: called once at a start. Returns those jobs.
///
/// # Errors
/// A journal cannot be read or written.
pub fn settle(state_dir: &Path, now: Timestamp) -> Result<Vec<Job>, Error> {
    let mut settled = Vec::new();
    for (_, path) in numbers(state_dir)? {
        let Some(Told { end: None, phase, .. }) = told(&path)? else { continue };
        let mut file = fs::open_append(&path)?;
        if !fs::try_lock(&file, &path)? {
            continue;
        }
        // Between the reading and the lock it may have ended by itself.
        if told(&path)?.is_none_or(|told| told.end.is_some()) {
            continue;
        }
        begin_line(&mut file, &path)?;
        append(&mut file, &path, &Line { at: now, what: What::End(died(phase)) })?;
        drop(file);
        settled.extend(read(&path)?);
    }
    Ok(settled)
}

/// Ends the line that a power cut or a full disk tore.
pub(super) fn begin_line(file: &mut File, path: &Path) -> Result<(), Error> {
    let torn = fs::read(path)?.last().is_some_and(|byte| *byte != b'\n');
    if torn {
        file.write_all(b"\n").on("write", path)?;
    }
    Ok(())
}

fn died(phase: Option<Phase>) -> End {
    let error = match phase {
        Some(phase) => format!("daykeep died during {}", phase.word()),
        None => "daykeep died before the job's first phase".to_owned(),
    };
    End::Failed { error, detail: String::new() }
}

/// Removes the journals of the repository but for the newest so many, and its newest success.
pub(super) fn forget_old(state_dir: &Path, repository: &str, remembered: usize) -> Result<(), Error> {
    let mut files = numbers_in(&jobs_directory(state_dir, repository))?;
    let Some(too_many @ 1..) = files.len().checked_sub(remembered) else { return Ok(()) };
    let success = newest_success(&files)?.map(|job| job.id);
    for (id, path) in files.drain(..too_many) {
        if Some(id) != success {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The files of all jobs, by number.
pub(super) fn numbers(state_dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut files = Vec::new();
    if fs::exists(state_dir)? {
        for repository in fs::names_in(state_dir)? {
            files.extend(numbers_in(&state_dir.join(repository).join("jobs"))?);
        }
    }
    files.sort();
    Ok(files)
}

fn numbers_in(directory: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let number = |name: &std::ffi::OsStr| name.to_str()?.strip_suffix(".jsonl")?.parse::<u64>().ok();
    let files = fs::names_in(directory)?.into_iter();
    let mut files: Vec<_> = files.filter_map(|name| Some((number(&name)?, directory.join(name)))).collect();
    files.sort();
    Ok(files)
}

/// The lines of a file, put together.
struct Told {
    id: u64,
    repository: String,
    kind: JobKind,
    started_by: String,
    started: Timestamp,
    last: Timestamp,
    phase: Option<Phase>,
    message: Option<String>,
    end: Option<End>,
}

/// None for a file that is no job: it is gone, or has no whole first line.
fn told(path: &Path) -> Result<Option<Told>, Error> {
    let Some(bytes) = fs::read_if_exists(path)? else { return Ok(None) };
    let mut told = None;
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(Line { at, what }) = serde_json::from_slice(line) else { continue };
        match (&mut told, what) {
            (None, What::Begin { job, repository, kind, started_by }) => {
                let (id, started, last) = (job, at, at);
                let (phase, message, end) = (None, None, None);
                told = Some(Told { id, repository, kind, started_by, started, last, phase, message, end });
            }
            (Some(told), what) => told.hear(at, what),
            (None, _) => {}
        }
    }
    Ok(told)
}

impl Told {
    fn hear(&mut self, at: Timestamp, what: What) {
        self.last = at;
        match what {
            What::Begin { .. } => {}
            What::Step(phase) => self.phase = Some(phase),
            What::Note(text) => self.message = Some(text),
            What::End(end) => self.end = Some(end),
        }
    }

    fn into_job(self, ended: Option<Timestamp>, end: Option<End>) -> Job {
        let Self { id, repository, kind, started_by, started, phase, message, .. } = self;
        let (state, error, detail, day) = match end {
            None => (JobState::Running, None, None, None),
            Some(End::Succeeded { day }) => (JobState::Succeeded, None, None, day),
            Some(End::Failed { error, detail }) => (JobState::Failed, Some(error), Some(detail), None),
            Some(End::Skipped { reason }) => (JobState::Skipped, Some(reason), None, None),
            Some(End::Cancelled) => (JobState::Cancelled, None, None, None),
        };
        let detail = detail.filter(|detail| !detail.is_empty());
        Job { id, repository, kind, state, phase, message, error, detail, started, ended, started_by, day }
    }
}

/// None for a file that is no job.
pub(super) fn read(path: &Path) -> Result<Option<Job>, Error> {
    let Some(mut found) = told(path)? else { return Ok(None) };
    if found.end.is_none() {
        if is_alive(path)? {
            return Ok(Some(found.into_job(None, None)));
        }
        // It may have ended between the reading and the look at its lock.
        let Some(again) = told(path)? else { return Ok(None) };
        found = again;
    }
    let end = found.end.take().unwrap_or_else(|| died(found.phase));
    let last = found.last;
    Ok(Some(found.into_job(Some(last), Some(end))))
}

fn is_alive(path: &Path) -> Result<bool, Error> {
    let file = fs::open(path)?;
    // Shared, so that two readers do not take each other for the job.
    Ok(!fs::try_lock_shared(&file, path)?)
}
