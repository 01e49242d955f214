//! What an order makes of the flows: each is called in the same way, and what its journal says of its end is how it ended.

use std::path::{Path, PathBuf};

use axum::http::StatusCode;

use crate::api::order::{self, Order};
use crate::api::server::Refusal;
use crate::api::told::job;
use crate::api::wire::JobState;
use crate::config::{self, Repository};
use crate::daemon::state::End;
use crate::event::Context;
use crate::vault::Vault;
use crate::{drill, journal, restore, run, verify};

/// Who does an order, and for whom.
#[derive(Debug, Clone)]
pub struct Work {
    /// What is to be done.
    pub order: Order,
    /// The repository, as configured now.
    pub repository: Repository,
    /// Where the durable records live.
    pub state_dir: PathBuf,
    /// What a command has to name to find the same configuration.
    pub place: restore::Place,
    /// The `daykeep` program.
    pub guard: PathBuf,
    /// `schedule`, `catch-up`, `retry`, or a user.
    pub started_by: String,
}

/// Why a flow failed, one sentence.
type Failed = String;

/// Refuses an order that makes no sense, before it is a job.
///
/// # Errors
/// What is wrong with it.
pub fn check(order: &Order) -> Result<(), Refusal> {
    if !order.is_meant() {
        let text = "this replaces or drops what is there, and nobody has said that it is meant";
        let hint = "see the plan with `daykeep restore REPO DAY --plan`, then send \"yes\": true";
        return Err(bad(text).hint(hint));
    }
    match order {
        Order::Verify(order) => percent(order).map(drop),
        Order::Restore(order) => order.choice().map(drop).map_err(bad),
        _ => Ok(()),
    }
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "bad_request", message)
}

fn percent(order: &order::Verify) -> Result<Option<f64>, Refusal> {
    if order.all && order.day.is_some() {
        return Err(bad("\"all\" and \"day\" cannot be asked for together"));
    }
    let Some(text) = &order.sample else { return Ok(None) };
    let wrong = || bad(format!("\"sample\" is {text:?}, and must be a percentage above 0%, such as \"5%\""));
    config::parse_percent(text).map(Some).ok_or_else(wrong)
}

/// Does it to its end, whatever end that is.
///
/// # Errors
/// The flow failed; what it has done is in its journal.
pub async fn perform(work: Work, context: &Context) -> Result<(), Failed> {
    match work.order.clone() {
        Order::Backup => backup(work, context).await,
        Order::Restore(order) => restored(work, order, context).await,
        Order::Undo(order) => {
            let order = settling(work, &order);
            restore::undo(&order, &restore::Unasked, context).await.map(drop).map_err(told)
        }
        Order::Confirm(order) => {
            let order = settling(work, &order);
            restore::confirm(&order, &restore::Unasked, context).await.map(drop).map_err(told)
        }
        Order::Verify(order) => verify(work, &order, context).await,
        Order::Drill(order) => drill(work, order.day.as_deref(), context).await,
    }
}

async fn backup(work: Work, context: &Context) -> Result<(), Failed> {
    let Work { repository, state_dir, guard, started_by, .. } = work;
    let request = run::Request { repository, state_dir, guard, started_by };
    run::backup(&request, context).await.map(drop).map_err(told)
}

/// The plan was seen by whoever gave the order.
async fn restored(work: Work, order: order::Restore, context: &Context) -> Result<(), Failed> {
    let Work { repository, state_dir, guard, started_by, place, .. } = work;
    let request = restore::Request {
        vault: Vault::open(&repository.vault, &repository.name).map_err(told)?,
        choice: order.choice()?,
        repository,
        day: order.day,
        target: restore::Target::InPlace(restore::InPlace {
            hold: !order.no_hold,
            start: order.start,
            accept_failed_check: order.accept_failed_check,
        }),
        jobs: order.jobs,
        state_dir,
        place,
        asks_hold: true,
        in_use: Vec::new(),
        guard,
        started_by,
    };
    restore::perform(&request, &restore::Unasked, context).await.map(drop).map_err(told)
}

fn settling(work: Work, order: &order::Settle) -> restore::Settle {
    let Work { repository, state_dir, guard, started_by, .. } = work;
    restore::Settle {
        vault: Vault::open(&repository.vault, &repository.name).ok(),
        repository,
        start: order.start,
        hold: !order.no_hold,
        state_dir,
        guard,
        started_by,
    }
}

fn told(error: impl std::error::Error + 'static) -> Failed {
    journal::sentence_of(&error)
}

async fn verify(work: Work, order: &order::Verify, context: &Context) -> Result<(), Failed> {
    let Work { repository, state_dir, started_by, .. } = work;
    let which = match (&order.day, order.all) {
        (_, true) => verify::Which::All,
        (Some(day), false) => verify::Which::Named(day.clone()),
        (None, false) => verify::Which::Newest,
    };
    // It was looked at before it became a job.
    let sample = percent(order).map_err(|refusal| refusal.message)?.or(repository.verify.sample);
    let request = verify::Request { repository, state_dir, which, sample, started_by };
    verify::run(&request, context).await.map(drop).map_err(told)
}

async fn drill(work: Work, day: Option<&str>, context: &Context) -> Result<(), Failed> {
    let Work { repository, state_dir, started_by, .. } = work;
    let day = day.unwrap_or("latest");
    let request = drill::Request::of(&repository, &state_dir, day, &started_by).map_err(told)?;
    drill::drill(&request, context).await.map(drop).map_err(told)
}

/// How a job ended: as its journal says, with the sentence that its flow had for it.
#[must_use]
pub fn end_of(done: Result<(), Failed>, state_dir: &Path, id: Option<u64>) -> End {
    let error = done.err();
    let recorded = id.and_then(|id| journal::job(state_dir, id).ok()).map(job);
    match recorded.filter(|job| job.state != JobState::Running) {
        Some(job) => End { state: job.state, error: error.or(job.error), detail: job.detail, day: job.day },
        None => End { state: JobState::Failed, error, detail: None, day: None },
    }
}
