//! Why a restore failed.

use std::path::PathBuf;

use crate::database::restore::RestoreError as DatabaseError;
use crate::journal::{End, PendingRestore, sentence_of};
use crate::manifest::RecordsError;
use crate::restore::Request;
use crate::tree::restore as files;
use crate::vault::Day;
use crate::{crosscheck, database, fs, hold, journal, reunpack, tree, vault, verify};

/// A restore failed. Unless it is [`Error::HalfWay`], [`Error::NotTakenBack`] or [`Error::CheckFailed`], nothing that was there has changed, or everything has.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another restore of this repository is going on.
    #[error("another restore of {repository} is going on")]
    Locked {
        /// The repository.
        repository: String,
    },
    /// A run has the vault.
    #[error("a run has the vault of {repository}: {source}")]
    VaultLocked {
        /// The repository.
        repository: String,
        /// Who, and since when.
        source: vault::Error,
    },
    /// A restore of something else waits to be ended.
    #[error("{pending}; this one can begin after that")]
    Pending {
        /// Which, and how it is ended.
        pending: Box<PendingRestore>,
    },
    /// What was asked for is not in the day.
    #[error("{}", problems.join("; "))]
    NotThere {
        /// Everything that is not.
        problems: Vec<String>,
    },
    /// What was asked for makes no sense.
    #[error("{problem}")]
    Senseless {
        /// Why.
        problem: String,
    },
    /// Something stands in the way. Nothing was changed.
    #[error("the day {day} cannot be restored, and nothing was changed:{}", listed(problems))]
    Refused {
        /// The day.
        day: String,
        /// All that was found.
        problems: Vec<String>,
    },
    /// The day is not what it was when it was sealed.
    #[error(
        "the day {day} is damaged, and nothing was changed; `{verify}` tells all of it ({total} in all), and what can be \
         repaired:{}",
        listed(problems)
    )]
    Damaged {
        /// The day.
        day: String,
        /// The command that looks for all of it.
        verify: String,
        /// How many damages there are.
        total: u64,
        /// The first of them.
        problems: Vec<String>,
    },
    /// There is no restore to be ended.
    #[error("no restore of {repository} waits to be confirmed or taken back")]
    NothingPending {
        /// The repository.
        repository: String,
    },
    /// It can be ended, but not in this way.
    #[error("{pending}")]
    NotNow {
        /// Which, and how it is ended.
        pending: Box<PendingRestore>,
    },
    /// The rows of the restored databases miss files in the restored trees.
    #[error(
        "the day is in its place, but {source}; the repository stays held: {pending}, or `{accept}` releases it as it is"
    )]
    CheckFailed {
        /// What was found.
        source: Box<crosscheck::Error>,
        /// How it is ended.
        pending: Box<PendingRestore>,
        /// The command that accepts it.
        accept: String,
    },
    /// It failed after the switch began.
    #[error("{source}; the restore is half way, and the repository stays held: {pending}")]
    HalfWay {
        /// What failed.
        source: Box<Error>,
        /// How it is ended.
        pending: Box<PendingRestore>,
    },
    /// The switch was refused, and has been taken back.
    #[error("{source}; what was there before is in its place, and nothing else is")]
    TakenBack {
        /// What was refused.
        source: Box<Error>,
    },
    /// The switch was refused, and could not be taken back.
    #[error(
        "{}; and then what was there before could not be put back: {}; the repository stays held: {pending}",
        sentence_of(error),
        sentence_of(back)
    )]
    NotTakenBack {
        /// What was refused.
        error: Box<Error>,
        /// What failed then.
        back: Box<Error>,
        /// How it is ended.
        pending: Box<PendingRestore>,
    },
    /// It failed, and what had been put beside could not be removed.
    #[error(
        "{}; and then what had been put beside could not be removed: {}",
        sentence_of(error),
        sentence_of(discard)
    )]
    NotDiscarded {
        /// The first failure.
        error: Box<Error>,
        /// The second; `--undo` tries again.
        discard: Box<Error>,
    },
    /// It failed, and the release too.
    #[error(
        "{}; {}",
        sentence_of(error),
        release.after_another()
    )]
    NotReleased {
        /// The first failure.
        error: Box<Error>,
        /// The second; the guard goes on trying.
        release: Box<hold::Error>,
    },
    /// It was cancelled before anything that is there was changed.
    #[error("the restore was cancelled before anything was replaced; what was put beside is removed")]
    Cancelled,
    /// A thread of daykeep died: a defect in daykeep.
    #[error("a thread of daykeep panicked; the log has its message")]
    Panicked,
    /// The record is of a later daykeep.
    #[error("{} has form {form}, which this daykeep does not know: use the daykeep that wrote it", path.display())]
    NewerRecord {
        /// The record.
        path: PathBuf,
        /// Its form.
        form: u32,
    },
    /// The hold.
    #[error(transparent)]
    Hold(#[from] hold::Error),
    /// The databases.
    #[error(transparent)]
    Databases(#[from] DatabaseError),
    /// The server, asked for the rows of a check.
    #[error(transparent)]
    Server(#[from] database::Error),
    /// The trees.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// A tree that a check looks into.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// The day.
    #[error(transparent)]
    Verify(#[from] verify::Error),
    /// A cross-check that is not passed over.
    #[error(transparent)]
    Check(#[from] crosscheck::Error),
    /// What gold alone does not bring back.
    #[error(transparent)]
    Reunpack(#[from] reunpack::Error),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// The journal, or the record's head.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] fs::Error),
}

fn is_damaged_row(error: &DatabaseError) -> bool {
    matches!(
        error,
        DatabaseError::Damaged { .. }
            | DatabaseError::DamagedRows { .. }
            | DatabaseError::Count { .. }
            | DatabaseError::Records(RecordsError::Line { .. })
    )
}

fn is_damaged_file(error: &files::Error) -> bool {
    matches!(
        error,
        files::Error::Damaged { .. }
            | files::Error::BadRecord { .. }
            | files::Error::NoTree { .. }
            | files::Error::Records(RecordsError::Line { .. })
    )
}

/// Whether looking at the databases failed because of what the day holds, and not because of this machine.
pub(super) fn is_damage_of_rows(error: &DatabaseError, day: &Day) -> bool {
    let of_day = |error: &fs::Error| error.path.starts_with(day.path());
    match error {
        DatabaseError::File(error) | DatabaseError::Records(RecordsError::File(error)) => of_day(error),
        other => is_damaged_row(other),
    }
}

/// The same of a tree.
pub(super) fn is_damage_of_files(error: &files::Error, day: &Day) -> bool {
    let of_day = |error: &fs::Error| error.path.starts_with(day.path());
    match error {
        files::Error::File(error) | files::Error::Records(RecordsError::File(error)) => of_day(error),
        other => is_damaged_file(other),
    }
}

/// A damage that was met before the day was verified.
pub(super) fn damaged(request: &Request, day: &Day, error: &(dyn std::error::Error + 'static)) -> Error {
    let (day, problems) = (day.name().to_owned(), vec![sentence_of(error)]);
    Error::Damaged { verify: request.verify_command(&day), day, total: 1, problems }
}

/// One a line, so that each can be read.
fn listed(problems: &[String]) -> String {
    problems.iter().fold(String::new(), |listed, problem| listed + "\n- " + problem)
}

impl Error {
    /// What the job's journal says of it.
    pub(super) fn end(&self) -> End {
        match self {
            Self::Hold(busy @ hold::Error::Busy { .. }) => End::Skipped { reason: busy.to_string() },
            Self::Cancelled => End::Cancelled,
            _ => End::failed(self),
        }
    }

    /// Whether what was begun was refused, and has ended: it would be refused again.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { .. } => true,
            Self::Databases(error) => error.is_refusal(),
            _ => false,
        }
    }

    /// Whether what the day holds is not what it was.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Databases(error) => is_damaged_row(error),
            Self::Files(error) => is_damaged_file(error),
            Self::TakenBack { source: error }
            | Self::NotDiscarded { error, .. }
            | Self::NotReleased { error, .. } => error.is_damage(),
            _ => false,
        }
    }

    /// Every part has its own word for a cancelled job; a restore has one.
    #[must_use]
    pub(super) fn settled(self) -> Self {
        match self {
            Self::Hold(hold::Error::Cancelled)
            | Self::Vault(vault::Error::Cancelled)
            | Self::Databases(DatabaseError::Cancelled)
            | Self::Server(database::Error::Cancelled)
            | Self::Files(files::Error::Cancelled)
            | Self::Tree(tree::Error::Cancelled)
            | Self::Verify(verify::Error::Cancelled)
            | Self::Check(crosscheck::Error::Cancelled)
            | Self::Reunpack(reunpack::Error::Cancelled) => Self::Cancelled,
            other => other,
        }
    }
}
