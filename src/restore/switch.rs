//! What was put beside takes the place of what is there, and back. Each step can be done again.

use crate::config::Server;
use crate::database::restore::{ReadyTables, Swap};
use crate::event::Context;
use crate::restore::record::Durable;
use crate::restore::{Error, Request, beside, tables, trees};
use crate::vault::Day;

/// The day takes its place: the databases in one transaction, then the tables that are ready, and files one by one.
pub(super) async fn forward(
    request: &Request,
    day: &Day,
    durable: &Durable,
    ready: Vec<ReadyTables>,
    context: &Context,
) -> Result<(), Error> {
    if let Some((server, swap)) = swap_of(durable) {
        swap.forward(&server, context).await?;
    }
    tables::switch(request, day, durable, ready, context).await?;
    trees::switch(durable, context).await
}

/// What was there takes its place again, and what was restored goes.
pub(super) async fn back(durable: &Durable, context: &Context) -> Result<(), Error> {
    trees::back(durable, context).await?;
    tables::back(durable, context).await?;
    match swap_of(durable) {
        Some((server, swap)) => Ok(swap.back(&server, context).await?),
        None => beside::discard(durable, context).await,
    }
}

/// What was there is dropped: there is no way back from here.
pub(super) async fn drop_old(durable: &Durable, context: &Context) -> Result<(), Error> {
    if let Some((server, swap)) = swap_of(durable) {
        swap.drop_old(&server, context).await?;
    }
    tables::drop_old(durable).await?;
    trees::drop_old(durable, context).await
}

fn swap_of(durable: &Durable) -> Option<(Server, Swap)> {
    durable.with(|record| {
        let made = record.databases.as_ref()?;
        Some((made.server.clone(), made.swap.clone()?))
    })
}
