//! Where the daemon's words go: to journald with their fields when it reads our stderr, else to stderr as lines.

use std::io::IsTerminal as _;

use rustix::fs::fstat;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// What is heard when `DAYKEEP_LOG` says nothing else: ourselves, and others' warnings.
const HEARD: &str = "warn,daykeep=info";

/// From here on, `tracing` goes to the log. `DAYKEEP_LOG` filters (`daykeep=debug`).
pub fn start() {
    let filter = EnvFilter::try_from_env("DAYKEEP_LOG").unwrap_or_else(|_| EnvFilter::new(HEARD));
    let journal = if is_read_by_journald() { tracing_journald::layer().ok() } else { None };
    let lines = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed()
    });
    // Only a second start could fail, and then there is a log already.
    let _ = tracing_subscriber::registry().with(filter).with(journal).with(lines).try_init();
}

/// Is our stderr what `JOURNAL_STREAM` says (`device:inode`, systemd.exec(5))? The variable alone is inherited by
/// children whose stderr was sent elsewhere.
fn is_read_by_journald() -> bool {
    let Some((device, inode)) = std::env::var("JOURNAL_STREAM").ok().and_then(|stream| {
        let (device, inode) = stream.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    }) else {
        return false;
    };
    fstat(std::io::stderr()).is_ok_and(|found| (found.st_dev, found.st_ino) == (device, inode))
}
