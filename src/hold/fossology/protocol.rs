//! The scheduler's TCP port (`interface.c` of FOSSology): bare text, one command a write; the first answer is `received`.
//!
//! There is no way to disconnect politely that does not leak a descriptor in the scheduler (`close` does), so connections are simply
//! dropped; and ten idle ones block the eleventh, so none is kept but the one that waits for the scheduler's end.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::hold::Error;

/// How long the scheduler may take for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// How often a connection that is reset is tried again, and how long after.
const RESETS: u32 = 50;
const RESET_PAUSE: Duration = Duration::from_millis(20);
/// An answer longer than this is not the scheduler's.
const ANSWER_MAX: usize = 4 << 20;

/// What `status` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    /// The scheduler's process id, on its host.
    pub(super) scheduler: i64,
    /// The jobs in its memory.
    pub(super) jobs: Vec<Job>,
}

/// A line of `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// `jq_pk`.
    pub(super) id: i64,
    /// `JOB_STARTED`, `JOB_PAUSED`, ...
    pub(super) status: String,
    /// The agent.
    pub(super) kind: String,
    /// How many of its agents run.
    pub(super) running: u64,
}

impl Status {
    /// Jobs that are paused while they run: with one of them the scheduler never stops.
    pub(super) fn paused_jobs(&self) -> Vec<i64> {
        let paused = |job: &&Job| job.status == "JOB_PAUSED" && job.running > 0;
        self.jobs.iter().filter(paused).map(|job| job.id).collect()
    }

    /// What is in its memory, for a message.
    pub(super) fn jobs_text(&self) -> String {
        if self.jobs.is_empty() {
            return "no jobs".to_owned();
        }
        let one = |job: &Job| {
            format!("job {} ({}, {})", job.id, job.kind, job.status.trim_start_matches("JOB_").to_lowercase())
        };
        self.jobs.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// A connection to the scheduler.
#[derive(Debug)]
pub(super) struct Connection {
    address: String,
    stream: TcpStream,
}

impl Connection {
    /// None: nothing listens there.
    pub(super) async fn open(address: &str) -> Result<Option<Self>, Error> {
        let unreachable = |source| Error::Unreachable { what: format!("the scheduler at {address}"), source };
        let mut resets = 0;
        loop {
            match tokio::time::timeout(ANSWER_LIMIT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(Some(Self { address: address.to_owned(), stream })),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
                // A scheduler that ends at this moment resets what it has not accepted; the next try is refused.
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset && resets < RESETS => {
                    resets += 1;
                    tokio::time::sleep(RESET_PAUSE).await;
                }
                Ok(Err(error)) => return Err(unreachable(error)),
                Err(_) => return Err(unreachable(io::ErrorKind::TimedOut.into())),
            }
        }
    }

    /// Sends a command and reads until a line says that the answer is complete; None: the scheduler is gone.
    async fn ask(&mut self, command: &str, last: &str) -> Result<Option<String>, Error> {
        let work = async {
            if self.stream.write_all(command.as_bytes()).await.is_err() {
                return Ok(None);
            }
            let mut answer: Vec<u8> = Vec::new();
            let mut chunk = [0_u8; 4096];
            loop {
                match self.stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => return Ok(None),
                    Ok(count) => answer.extend_from_slice(&chunk[..count]),
                }
                // The end of `status` has a stray NUL behind it.
                let text = String::from_utf8_lossy(&answer).replace('\0', "");
                if text.lines().any(|line| line == last) && text.ends_with('\n') {
                    return Ok(Some(text));
                }
                if answer.len() > ANSWER_MAX {
                    return Err(self.strange(&text));
                }
            }
        };
        match tokio::time::timeout(ANSWER_LIMIT, work).await {
            Ok(answer) => answer,
            Err(_) => Err(self.strange(&format!("nothing within {}s", ANSWER_LIMIT.as_secs()))),
        }
    }

    /// What the scheduler is doing; None: it is gone.
    pub(super) async fn status(&mut self) -> Result<Option<Status>, Error> {
        let Some(answer) = self.ask("status", "end").await? else { return Ok(None) };
        parse_status(&answer).map(Some).ok_or_else(|| self.strange(&answer))
    }

    /// Asks for the graceful stop (`stop`) or the killing one (`die`); false: the scheduler is gone.
    pub(super) async fn end(&mut self, command: &str) -> Result<bool, Error> {
        Ok(self.ask(command, "CLOSE").await?.is_some())
    }

    /// Asks it to look for new jobs; false: the scheduler is gone.
    pub(super) async fn look_at_queue(&mut self) -> Result<bool, Error> {
        Ok(self.ask("database", "received").await?.is_some())
    }

    /// Whether the scheduler has closed the connection, which it does when it exits.
    pub(super) async fn is_closed(&mut self, patience: Duration) -> bool {
        let mut chunk = [0_u8; 512];
        let read = async {
            loop {
                match self.stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(patience, read).await.is_ok()
    }

    fn strange(&self, answer: &str) -> Error {
        Error::Answer {
            what: format!("the scheduler at {}", self.address),
            answer: answer.chars().take(200).collect(),
        }
    }
}

fn parse_status(text: &str) -> Option<Status> {
    let mut scheduler = None;
    let mut jobs = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("scheduler:") {
            scheduler = rest.split_ascii_whitespace().next()?.parse().ok();
        } else if let Some(rest) = line.strip_prefix("job:") {
            let field = |name: &str| {
                rest.split_ascii_whitespace()
                    .find_map(|word| word.strip_prefix(name))
                    .map(|value| value.trim_end_matches(','))
            };
            jobs.push(Job {
                id: rest.split_ascii_whitespace().next()?.parse().ok()?,
                status: field("status:")?.to_owned(),
                kind: field("type:")?.to_owned(),
                running: field("running:")?.parse().ok()?,
            });
        }
    }
    Some(Status { scheduler: scheduler?, jobs })
}

#[cfg(test)]
mod tests {
    use super::parse_status;

    const SEEN: &str = "received\nscheduler:4711 revision:a486202 daemon:1 jobs:3 log:/var/log/fossology.log port:24693 \
                        verbose:1\njob:4 status:JOB_STARTED type:sleeper, priority:0 running:1 finished:0 failed:0\n\
                        job:5 status:JOB_PAUSED type:nomos, priority:0 running:1 finished:0 failed:0\n\
                        job:6 status:JOB_PAUSED type:nomos, priority:0 running:0 finished:0 failed:0\nend\n";

    #[test]
    fn a_status_is_read() {
        let status = parse_status(SEEN).expect("is understood");
        assert_eq!(status.scheduler, 4711);
        assert_eq!(status.jobs.len(), 3);
        assert_eq!(
            status.jobs_text(),
            "job 4 (sleeper, started), job 5 (nomos, paused), job 6 (nomos, paused)"
        );
    }

    #[test]
    fn a_job_that_waits_paused_does_not_keep_the_scheduler_from_stopping() {
        assert_eq!(parse_status(SEEN).expect("is understood").paused_jobs(), [5]);
    }

    #[test]
    fn another_program_on_the_port_is_not_taken_for_the_scheduler() {
        assert_eq!(parse_status("HTTP/1.1 400 Bad Request\nend\n"), None);
    }
}
