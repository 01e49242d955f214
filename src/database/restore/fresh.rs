//! A server that has nothing of the day's, filled in one go.

use std::sync::{Mutex, PoisonError};

use super::{Beside, Made, RestoreError, Survey, Swap, Wish, load, survey};
use crate::event::Context;

/// Surveys, loads, and gives every database its name. What was asked for is in use then, and nothing else was made.
///
/// # Errors
/// Something stands in the way, the day is damaged, the server refuses, or the run is cancelled. What was made until then is
/// dropped again, as far as the server can be reached.
pub async fn fill(wish: &Wish<'_>, context: &Context) -> Result<Survey, RestoreError> {
    let survey = survey(wish, context).await?;
    let made = Mutex::new(Beside { tag: wish.tag, ..Beside::default() });
    let filled = fill_in(wish, &survey, &made, context).await;
    let Err(error) = filled else { return Ok(survey) };
    if !matches!(error, RestoreError::Refused { .. }) {
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        // The first error is the one to be told.
        let _ = made.discard(wish.server(), context).await;
    }
    Err(error)
}

async fn fill_in(
    wish: &Wish<'_>,
    survey: &Survey,
    made: &Mutex<Beside>,
    context: &Context,
) -> Result<(), RestoreError> {
    let record = |told: &Made| {
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        match told {
            Made::Roles(roles) => made.roles.clone_from(roles),
            Made::Tablespaces(tablespaces) => made.tablespaces.clone_from(tablespaces),
            Made::Database(_) => {}
        }
        Ok(())
    };
    let loaded = load(wish, survey, &[], &record, context).await?;
    let Beside { roles, tablespaces, .. } = made.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let swap = Swap::plan(wish, survey, &loaded, roles, tablespaces, context).await?;
    swap.forward(wish.server(), context).await?;
    // What was replaced is what an empty server begins with.
    swap.drop_old(wish.server(), context).await
}
