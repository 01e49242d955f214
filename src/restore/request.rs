//! What is to be restored, whereto, and for whom.

use std::path::PathBuf;

use crate::config::{Repository, Server};
use crate::restore::{Choice, Place};
use crate::vault::Vault;

/// A restore that is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The repository: as the machine's configuration has it, or as the day has it.
    pub repository: Repository,
    /// Where its days are.
    pub vault: Vault,
    /// The day, as it is named: `latest`, `day1`, a date, or a full name.
    pub day: String,
    /// What of it.
    pub choice: Choice,
    /// Whereto.
    pub target: Target,
    /// Connections and threads; None: what the configuration says.
    pub jobs: Option<usize>,
    /// Where the durable records live.
    pub state_dir: PathBuf,
    /// What the command has to name so that it finds all of this again.
    pub place: Place,
    /// Whether the hold may be asked if the repository runs, before anybody has seen the plan: its commands are the machine's own, or trusted.
    pub asks_hold: bool,
    /// Trees that are in use, of this repository and of others, by name: nothing that goes elsewhere may go into one.
    pub in_use: Vec<(String, PathBuf)>,
    /// The `daykeep` program, started as the guard that outlives this process.
    pub guard: PathBuf,
    /// Who asked.
    pub started_by: String,
}

impl Request {
    /// The command that restores this choice of a day to where it was.
    pub(super) fn command(&self, day: &str) -> String {
        let options = [self.choice.options(), self.place.options()];
        let words = ["daykeep restore", &self.repository.name, day, &options[0], &options[1]];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// The command that looks for all damages of a day.
    pub(super) fn verify_command(&self, day: &str) -> String {
        let place = self.place.of_the_day();
        let space = if place.is_empty() { "" } else { " " };
        format!("daykeep verify {} {day}{space}{place}", self.repository.name)
    }
}

/// Whereto a day is restored.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// In the place of what is there.
    InPlace(InPlace),
    /// Somewhere else; the repository is not touched, and what is not named is left out.
    Elsewhere {
        /// The trees go to `<directory>/<tree>`.
        trees: Option<PathBuf>,
        /// The databases go to this server.
        server: Option<Box<Server>>,
    },
}

/// How a repository is treated whose place a day takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InPlace {
    /// Hold it meanwhile; false when nothing that changes it runs.
    pub hold: bool,
    /// Start the scheduler at the end, even if it was found stopped.
    pub start: bool,
    /// Release it although a cross-check failed.
    pub accept_failed_check: bool,
}

/// A restore that is to be taken back or confirmed.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The repository: as the machine's configuration has it, or as the day had it.
    pub repository: Repository,
    /// Where its days are; its lock is taken when it can be.
    pub vault: Option<Vault>,
    /// Start the scheduler at the end, even if it was found stopped.
    pub start: bool,
    /// Hold the repository meanwhile.
    pub hold: bool,
    /// Where the durable records live.
    pub state_dir: PathBuf,
    /// The `daykeep` program.
    pub guard: PathBuf,
    /// Who asked.
    pub started_by: String,
}
