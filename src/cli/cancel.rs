//! `daykeep cancel`

use serde_json::json;

use super::failure::Failure;
use super::remote;
use super::session::{Session, wait_for};
use crate::api::wire::JobState;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job's number, as `daykeep status` shows it.
    #[arg(value_parser = remote::number)]
    job: u64,
}

/// Asks the daemon to stop a job.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let client = remote::client(session)?;
    let job = wait_for(async { Ok(client.cancel(args.job).await?) })?;
    if session.out.json {
        return session.out.document(&json!({"job": job}));
    }
    let text = match job.state {
        JobState::Running => "is asked to stop; its repository is released first".to_owned(),
        ended => format!("had ended already: {}", ended.word()),
    };
    session.out.text(&format!("job {} {text}\n", job.id))
}
