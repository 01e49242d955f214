//! What a reload tells: of a good file what waits for the next start, of a refused one what is wrong.

use crate::config::{self, Config};

/// Warns of what only a new start changes.
pub fn warn_of_what_stays(before: &Config, config: &Config) {
    if before.daemon.socket != config.daemon.socket {
        tracing::warn!("the socket stays at {} until the next start", before.daemon.socket.display());
    }
    if before.state_dir != config.state_dir {
        tracing::warn!("the records stay in {} until the next start", before.state_dir.display());
    }
}

/// The first thing that is wrong, and how many more there are.
pub fn brief(error: &config::Error) -> String {
    let problems = error.problems();
    let Some(first) = problems.first() else {
        return error.to_string();
    };
    let place = if first.line > 0 { format!("line {}: ", first.line) } else { String::new() };
    match problems.len() {
        1 => format!("{place}{}", first.message),
        count => format!("{place}{} (and {} more)", first.message, count - 1),
    }
}
