//! Why a cross-check failed.

use crate::{database, tree};

/// A row without its file, or a question that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Rows whose files are not in the day.
    #[error(
        "cross-check {check}: {missing} of {rows} rows have no file, and allow_missing is {allowed}: {}",
        examples.join("; ")
    )]
    FilesMissing {
        /// The check.
        check: String,
        /// Rows without a file.
        missing: u64,
        /// Rows in all.
        rows: u64,
        /// How many may be missing.
        allowed: u64,
        /// The first few, with what is hurt.
        examples: Vec<String>,
    },
    /// The query of a cross-check does not give what is needed.
    #[error("cross-check {check}: {problem}")]
    CheckQuery {
        /// The check.
        check: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It was cancelled.
    #[error("the cross-check was cancelled")]
    Cancelled,
    /// The database.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// A tree.
    #[error(transparent)]
    Tree(#[from] tree::Error),
}
