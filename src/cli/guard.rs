//! `daykeep guard`: the process that releases a repository when the run that paused it dies.
//!
//! A run starts it before it pauses anything. It must go on when everything else is killed, so it is as small as it can be: one thread,
//! no argument parser, no configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::failure::Failure;
use super::output::Output;
use super::session;
use crate::{hold, process};

/// The record's path, if the command line asks for a guard in the way in which a run does.
pub fn record_of(arguments: &[OsString]) -> Option<PathBuf> {
    match arguments {
        [_, verb, record] if verb == "guard" && !record.to_string_lossy().starts_with('-') => {
            Some(record.into())
        }
        _ => None,
    }
}

/// Guards, and gives the exit code.
pub fn keep(record: &Path) -> ExitCode {
    // Before anything is opened: it lives longer than whoever waits for the end of a stderr that it was given.
    process::let_go();
    match guard(record) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            Output { json: false, quiet: false }.failure(&failure);
            ExitCode::from(failure.kind().code())
        }
    }
}

fn guard(record: &Path) -> Result<(), Failure> {
    session::wait_for(async { hold::guard(record).await.map_err(Failure::from) })
}
