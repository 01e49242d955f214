//! Run now, or wait until when?

use jiff::{SignedDuration, Timestamp};

use crate::schedule::Cron;

/// So late a run may begin and still be in time: what a busy machine or a short sleep of it takes.
pub const GRACE: SignedDuration = SignedDuration::from_secs(90);

/// A stamp that lies further ahead than this was written under a clock that was wrong, and would stop every run until the
/// clock gets there.
pub const FUTURE_TRUSTED: SignedDuration = SignedDuration::from_hours(36);

/// What to do about a schedule at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Run, and stamp `due` as handled before the run begins: it is due once only.
    RunNow {
        /// The instant in the schedule that this run is for.
        due: Timestamp,
        /// In time or late.
        why: Why,
    },
    /// Ask again at this instant, or when somebody sets the clock.
    WaitUntil(Timestamp),
    /// The stamp lies in the future by more than [`FUTURE_TRUSTED`]: the clock was wrong when it was written. Put
    /// this in its place and ask again.
    Restamp(Timestamp),
    /// The pattern matches no instant any more.
    Never,
}

/// Why a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its time has come.
    Due,
    /// Its time went by while the machine was off, asleep, or its clock wrong; however many were missed, this is the one
    /// run for all of them.
    Missed,
}

/// Decides from the pattern, the time, the last due instant that was handled (for a schedule that was never seen before:
/// when it was first seen) and whether missed runs are caught up.
///
/// The next instant follows from the schedule, never from when the last run began. An instant that was handled does not
/// come again when the clock goes back over it.
#[must_use]
pub fn decide(cron: &Cron, now: Timestamp, handled: Timestamp, catch_up: bool) -> Decision {
    if handled.duration_since(now) > FUTURE_TRUSTED {
        return Decision::Restamp(now);
    }
    if let Some(due) = cron.previous_at_or_before(now)
        && due > handled
    {
        if now.duration_since(due) <= GRACE {
            return Decision::RunNow { due, why: Why::Due };
        }
        if catch_up {
            return Decision::RunNow { due, why: Why::Missed };
        }
    }
    cron.next_after(now.max(handled)).map_or(Decision::Never, Decision::WaitUntil)
}
