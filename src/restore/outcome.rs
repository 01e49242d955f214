//! Who is asked before a restore, and what came of it.

use std::path::PathBuf;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::event::Context;
use crate::journal::{End, PendingRestore};
use crate::manifest::CheckRecord;
use crate::restore::{EndPlan, Error, Plan};

/// What a person says to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Do it.
    Yes,
    /// Leave everything as it is.
    No,
}

/// Whether somebody agrees. Who is interrupted while asked has not answered.
pub(super) async fn agreed(asked: BoxFuture<'_, Answer>, context: &Context) -> Result<bool, Error> {
    let answer = asked.await;
    if context.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(answer == Answer::Yes) }
}

/// Is asked before anything is changed.
pub trait Consent: Sync {
    /// Shows the plan and gets the answer.
    fn ask<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Answer>;

    /// Shows what taking a restore back, or confirming it, will do, and gets the answer.
    fn ask_to_end<'a>(&'a self, plan: &'a EndPlan) -> BoxFuture<'a, Answer>;
}

/// Nobody is asked: whoever gave the order has seen the plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unasked;

impl Consent for Unasked {
    fn ask<'a>(&'a self, _plan: &'a Plan) -> BoxFuture<'a, Answer> {
        async { Answer::Yes }.boxed()
    }

    fn ask_to_end<'a>(&'a self, _plan: &'a EndPlan) -> BoxFuture<'a, Answer> {
        async { Answer::Yes }.boxed()
    }
}

/// How a restore that did not fail ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The day is where it should be.
    Restored(Box<Restored>),
    /// Nothing was done: the same restore is done already, and waits to be confirmed or taken back.
    Already {
        /// The job's number.
        job: u64,
        /// What waits.
        pending: Box<PendingRestore>,
    },
    /// Nothing was done, since the plan was declined.
    Declined {
        /// The job's number.
        job: u64,
    },
    /// The scheduler was busy: it was released, and nothing was changed.
    Busy {
        /// The job's number.
        job: u64,
        /// Why, one sentence.
        reason: String,
    },
}

impl Outcome {
    /// What the journal says of the job.
    pub(super) fn end(&self) -> End {
        match self {
            Self::Restored(restored) => End::Succeeded { day: Some(restored.day.clone()) },
            // Whoever gave the order wanted the day, and what has changed since it was restored is still there.
            Self::Already { pending, .. } => {
                End::Failed { error: format!("nothing was restored: {pending}"), detail: String::new() }
            }
            Self::Declined { .. } | Self::Busy { .. } => End::Cancelled,
        }
    }
}

/// A restore that is done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restored {
    /// The job's number.
    pub job: u64,
    /// The repository.
    pub repository: String,
    /// The day.
    pub day: String,
    /// It took the place of what was there, which waits to be confirmed or put back.
    pub in_place: bool,
    /// The scheduler runs.
    pub started: bool,
    /// Where trees were put that did not go to their own place.
    pub elsewhere: Vec<PathBuf>,
    /// What the cross-checks found.
    pub checks: Vec<CheckRecord>,
    /// Why a cross-check failed that was passed over.
    pub failed_check: Option<String>,
    /// How many uploads FOSSology will unpack again, because the day has their gold alone.
    pub unpacking: u64,
    /// From the beginning to the end, but for the time in which somebody was asked.
    pub seconds: f64,
}

/// How the end of a restore that did not fail came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It is taken back, or confirmed.
    Settled(Settled),
    /// Nothing was done, since nobody agreed.
    Declined {
        /// The job's number.
        job: u64,
    },
}

impl Ended {
    /// What the journal says of the job.
    pub(super) fn end(&self) -> End {
        match self {
            Self::Settled(settled) => End::Succeeded { day: Some(settled.day.clone()) },
            Self::Declined { .. } => End::Cancelled,
        }
    }
}

/// A restore that was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// The job's number.
    pub job: u64,
    /// The repository.
    pub repository: String,
    /// The day that had been restored.
    pub day: String,
    /// The job that had restored it.
    pub restored_by: u64,
    /// The scheduler was started, or nothing had paused it.
    pub started: bool,
    /// The restore had found the repository stopped, and so it is again.
    pub stays_stopped: bool,
}
