//! The cross-check at the end: the rows of the live server, and the files of the live trees.

use crate::config::Repository;
use crate::crosscheck;
use crate::database::Live;
use crate::event::Context;
use crate::manifest::CheckRecord;
use crate::restore::Error;

/// What the cross-checks found, or why the first of them failed.
pub(super) enum Checked {
    /// All rows have their files, or as many as may lack them do.
    Passed(Vec<CheckRecord>),
    /// Rows have no file, or a question got no answer.
    Failed(Box<crosscheck::Error>),
}

/// Holds the rows of the repository as it is now against its files.
///
/// # Errors
/// It was cancelled. What the check finds, and that it cannot be made, is no error here.
pub(super) async fn rows_against_files(repository: &Repository, context: &Context) -> Result<Checked, Error> {
    let Some(database) = repository.database.as_ref().filter(|_| !repository.checks.is_empty()) else {
        return Ok(Checked::Passed(Vec::new()));
    };
    let root_of = |tree: &str| repository.trees.get(tree).map(|tree| tree.path.clone()).unwrap_or_default();
    let checked = async {
        let live = Live::connect(&database.server).await?;
        crosscheck::every_row_has_its_file(&repository.checks, &live, &root_of, context).await
    };
    match checked.await {
        Ok(records) => Ok(Checked::Passed(records)),
        Err(crosscheck::Error::Cancelled) => Err(Error::Cancelled),
        Err(failed) => Ok(Checked::Failed(Box::new(failed))),
    }
}
