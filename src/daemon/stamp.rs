//! Up to where a schedule was handled, on the disk: so that no instant has two runs, and one that was missed is known.

use jiff::Timestamp;

use crate::config::{self, Config};
use crate::daemon::routine::Routine;
use crate::journal;

/// The pattern and zone of a schedule as they are stamped.
pub fn words(schedule: &config::Schedule) -> String {
    format!("{} {}", schedule.cron, schedule.timezone)
}

/// Up to where a schedule was handled. One that was not seen before is handled up to now.
pub fn first_stamp(
    config: &Config,
    routine: &Routine,
    schedule: &config::Schedule,
    now: Timestamp,
) -> Timestamp {
    let Routine { repository: name, kind } = routine;
    match journal::last_due(&config.state_dir, name, *kind, &words(schedule)) {
        Ok(Some(handled)) => return handled,
        Ok(None) => {}
        Err(error) => tracing::warn!("{}: missed runs cannot be known: {error}", routine.name()),
    }
    if let Err(error) = journal::set_last_due(&config.state_dir, name, *kind, &words(schedule), now) {
        tracing::warn!("{}: a run missed from now on will not be known: {error}", routine.name());
    }
    now
}
