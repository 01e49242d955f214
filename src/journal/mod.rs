//! The journal of the jobs: `<state>/<repository>/jobs/<number>.jsonl`, one line a step.
//!
//! # Crash argument
//!
//! Each line is flushed before what it announces is done, so a journal never knows less than what happened. A process that
//! has a job keeps a `flock` on the job's file, which dies with it: a file without an end line and without a lock is a job
//! whose daykeep died, and its last step tells where. Killed between the file's creation and its first line, a file
//! without a job is left, which is no job to any reader. A line that a power cut tore has no newline or does not parse:
//! it is skipped, and what is appended later begins a line of its own.

mod due;
mod job;
mod news;
mod unsettled;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use due::{last_due, set_last_due};
pub use job::{Job, JobState, job, jobs, last_success, settle};
pub use news::News;
pub use unsettled::{PendingRestore, RestorePhase, pending_restore, restore_record};

use crate::event::Phase;
use crate::fs;

/// How many jobs of a repository are remembered, besides its newest success.
const REMEMBERED: usize = 1000;

/// The journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No job has this number.
    #[error("there is no job {id}")]
    NoSuchJob {
        /// The number.
        id: u64,
    },
    /// A line cannot be put into words.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// `schedule.json` is not what it should be.
    #[error("{} is damaged: remove it, and the next scheduled run will write it anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// `restore.json` is not what it should be.
    #[error(
        "{} is damaged, so it is not known how far a restore of this repository came; what it replaced is in databases named \
         daykeep_old_* and directories named .daykeep-restore-*: see \"When the record is damaged\" in docs/restore.md, then move \
         the file away",
        path.display()
    )]
    DamagedRestore {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A file.
    #[error(transparent)]
    File(#[from] fs::Error),
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Keeps a day.
    Backup,
    /// Removes days by the keep rules.
    Prune,
    /// Puts a day in the place of what is there.
    Restore,
    /// Takes a restore back, or drops what it had moved aside.
    Settle,
    /// Holds a day against its digests and records.
    Verify,
    /// Restores a day into a scratch place and compares.
    Drill,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Backup, Self::Prune, Self::Restore, Self::Settle, Self::Verify, Self::Drill];

    /// The kind of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The word for people and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Prune => "prune",
            Self::Restore => "restore",
            Self::Settle => "settle",
            Self::Verify => "verify",
            Self::Drill => "drill",
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum End {
    /// Well.
    Succeeded {
        /// The day that was sealed.
        day: Option<String>,
    },
    /// Badly.
    Failed {
        /// Why, one sentence, with all that is behind it.
        error: String,
        /// The chain of causes alone, one a line; of a verify or drill that found damage, all that it found.
        detail: String,
    },
    /// The repository was busy; nothing was kept, and nothing is wrong.
    Skipped {
        /// Why, one sentence.
        reason: String,
    },
    /// Somebody asked it to stop.
    Cancelled,
}

impl End {
    /// How a job ended that this error ended.
    #[must_use]
    pub fn failed(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Failed { error: sentence_of(error), detail: causes_of(error).join("\n") }
    }
}

/// An error and what is behind it, in one sentence.
#[must_use]
pub fn sentence_of(error: &(dyn std::error::Error + 'static)) -> String {
    causes_of(error).into_iter().fold(error.to_string(), |sentence, cause| format!("{sentence}: {cause}"))
}

/// The chain of causes below an error. What is told already is not told again: a text may hold its cause's.
fn causes_of(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    let mut told = error.to_string();
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(below) = cause {
        let text = below.to_string();
        if !told.contains(&text) {
            told.push_str(&text);
            causes.push(text);
        }
        cause = below.source();
    }
    causes
}

/// One line of a job's file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Begin { job: u64, repository: String, kind: JobKind, started_by: String },
    Step(Phase),
    Note(String),
    End(End),
}

/// The journal of a job that this process does. Dropped without [`Journal::finish`], the job counts as failed.
#[derive(Debug)]
pub struct Journal {
    id: u64,
    path: PathBuf,
    /// Locked as long as it is open.
    file: File,
    /// The last line may be there in part: the disk was full.
    torn: bool,
}

impl Journal {
    /// Begins a job. Its number is one more than the highest of all repositories in `state_dir`.
    ///
    /// # Errors
    /// The state directory cannot be read or written.
    pub fn begin(
        state_dir: &Path,
        repository: &str,
        kind: JobKind,
        started_by: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let directory = jobs_directory(state_dir, repository);
        fs::create_dir_durable(&directory)?;
        // Two repositories may begin at once: one number is for one of them.
        let numbers = fs::wait_for_lock(&state_dir.join(".jobs.lock"))?;
        let (id, path, file) = create_next(state_dir, &directory)?;
        drop(numbers);
        let mut journal = Self { id, path, file, torn: false };
        journal.write(
            now,
            What::Begin {
                job: id,
                repository: repository.to_owned(),
                kind,
                started_by: started_by.to_owned(),
            },
        )?;
        job::forget_old(state_dir, repository, REMEMBERED)?;
        Ok(journal)
    }

    /// The job's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// A phase is about to begin: on the disk when this returns.
    ///
    /// # Errors
    /// Writing or flushing failed; the phase must not begin.
    pub fn step(&mut self, phase: Phase, now: Timestamp) -> Result<(), Error> {
        self.write(now, What::Step(phase))
    }

    /// A sentence for people.
    ///
    /// # Errors
    /// Writing or flushing failed.
    pub fn note(&mut self, text: &str, now: Timestamp) -> Result<(), Error> {
        self.write(now, What::Note(text.to_owned()))
    }

    /// The job has ended.
    ///
    /// # Errors
    /// Writing or flushing failed; the job will count as failed.
    pub fn finish(&mut self, end: &End, now: Timestamp) -> Result<(), Error> {
        self.write(now, What::End(end.clone()))
    }

    fn write(&mut self, at: Timestamp, what: What) -> Result<(), Error> {
        if self.torn {
            job::begin_line(&mut self.file, &self.path)?;
        }
        let written = append(&mut self.file, &self.path, &Line { at, what });
        self.torn = written.is_err();
        written
    }
}

fn append(file: &mut File, path: &Path, line: &Line) -> Result<(), Error> {
    let text =
        serde_json::to_string(line).map_err(|source| Error::Write { path: path.to_owned(), source })?;
    Ok(fs::append_line(file, path, &text)?)
}

fn create_next(state_dir: &Path, directory: &Path) -> Result<(u64, PathBuf, File), Error> {
    let mut id = job::numbers(state_dir)?.last().map_or(1, |(last, _)| last.saturating_add(1));
    loop {
        let path = directory.join(format!("{id}.jsonl"));
        match fs::create_new(&path) {
            Ok(file) => {
                fs::lock(&file, &path)?;
                fs::sync_dir(directory)?;
                return Ok((id, path, file));
            }
            // A file that is no job (killed before its first line) keeps its number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => id += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn jobs_directory(state_dir: &Path, repository: &str) -> PathBuf {
    state_dir.join(repository).join("jobs")
}

#[cfg(test)]
mod tests {
    use crate::fs;
    use crate::journal::{End, sentence_of};

    #[derive(Debug, thiserror::Error)]
    #[error("cannot seal the day{}", if *.1 { format!(": {}", .0) } else { String::new() })]
    struct Outer(#[source] fs::Error, bool);

    fn full_disk() -> fs::Error {
        let source = std::io::Error::from_raw_os_error(nix::libc::ENOSPC);
        fs::Error { action: "write", path: "/vault/x".into(), source }
    }

    #[test]
    fn a_sentence_has_every_cause_once() {
        let sentence = "cannot seal the day: cannot write /vault/x: No space left on device (os error 28)";
        assert_eq!(sentence_of(&Outer(full_disk(), false)), sentence);
        assert_eq!(sentence_of(&Outer(full_disk(), true)), sentence);
        let detail = "cannot write /vault/x\nNo space left on device (os error 28)".to_owned();
        assert_eq!(
            End::failed(&Outer(full_disk(), false)),
            End::Failed { error: sentence.to_owned(), detail }
        );
    }
}
