//! Why files cannot be unpacked again.

use crate::{database, hold, postgres, tree};

/// FOSSology cannot be asked, or not be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository is something else.
    #[error(
        "repository {repository} is not a FOSSology that daykeep can have unpacked again: it has no {lacks}"
    )]
    NotFossology {
        /// Its name.
        repository: String,
        /// What is missing in its configuration.
        lacks: &'static str,
    },
    /// A column is not what FOSSology has there.
    #[error("{table} does not have what FOSSology has there: {cause}")]
    Column {
        /// The table.
        table: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// A job needs a user, or the scheduler passes it over for ever.
    #[error(
        "upload {upload} cannot be unpacked again: table users has nobody in whose name it could be done"
    )]
    NoUser {
        /// The upload.
        upload: i64,
    },
    /// The upload was deleted meanwhile.
    #[error("there is no upload {upload} any more")]
    NoUpload {
        /// The upload.
        upload: i64,
    },
    /// It was cancelled.
    #[error("looking for missing files was cancelled")]
    Cancelled,
    /// A question or an order to the server.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// The rows of `pfile`, or of the snapshot.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// The scheduler's port.
    #[error(transparent)]
    Scheduler(#[from] hold::Error),
}

/// A row that is not as expected.
pub(super) fn cannot_read(table: &'static str, error: &tokio_postgres::Error) -> Error {
    Error::Column { table, cause: postgres::cause_of(error) }
}
