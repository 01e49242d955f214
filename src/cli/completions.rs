//! `daykeep completions`

use clap_complete::Shell;

use super::failure::Failure;
use super::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    shell: Shell,
}

/// Writes the completions to stdout.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "daykeep", &mut script);
    session.out.bytes(&script)
}
