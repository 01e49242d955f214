//! What the daemon is told by signals, and by whom.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook_tokio::SignalsInfo;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Read the configuration again.
    Reload {
        /// Who sent it: ` from process 12, uid 0`, or nothing.
        sender: String,
    },
    /// Stop.
    Stop {
        /// `SIGTERM` or `SIGINT`.
        signal: &'static str,
        /// Who sent it.
        sender: String,
    },
}

/// The signals as they come.
pub struct Signals(SignalsInfo<WithOrigin>);

impl Signals {
    /// Listens from now on. The second signal to stop ends the process at once with 128 + its number; what it holds is then
    /// released by the guard of the hold, which outlives it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        let asked_before = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal finds the flag down and raises it, the second finds it up.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked_before))?;
        }
        for signal in [SIGTERM, SIGINT] {
            flag::register(signal, Arc::clone(&asked_before))?;
        }
        SignalsInfo::new([SIGTERM, SIGINT, SIGHUP]).map(Self)
    }

    /// The next one.
    pub async fn next(&mut self) -> Asked {
        loop {
            let Some(origin) = self.0.next().await else {
                // Closed only when the process ends.
                std::future::pending::<()>().await;
                continue;
            };
            let sender = origin
                .process
                .map(|sender| format!(" from process {}, uid {}", sender.pid, sender.uid))
                .unwrap_or_default();
            match origin.signal {
                SIGHUP => return Asked::Reload { sender },
                SIGINT => return Asked::Stop { signal: "SIGINT", sender },
                _ => return Asked::Stop { signal: "SIGTERM", sender },
            }
        }
    }
}
