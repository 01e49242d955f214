//! The signals that ask a run to stop.

use std::fmt;

use tokio::signal::unix::{self, SignalKind};

use super::failure::{Failure, Kind};

/// One that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Its number: the exit code is 128 more.
    pub number: u8,
    name: &'static str,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// From now on these signals end nothing by themselves.
#[derive(Debug)]
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// Listens to them.
    pub fn listen() -> Result<Self, Failure> {
        let to = |kind| {
            unix::signal(kind)
                .map_err(|error| Failure::new(Kind::Failed, format!("cannot listen to signals: {error}")))
        };
        Ok(Self {
            interrupt: to(SignalKind::interrupt())?,
            terminate: to(SignalKind::terminate())?,
            hangup: to(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal { number: 2, name: "SIGINT" },
            _ = self.terminate.recv() => Signal { number: 15, name: "SIGTERM" },
            _ = self.hangup.recv() => Signal { number: 1, name: "SIGHUP" },
        }
    }
}
