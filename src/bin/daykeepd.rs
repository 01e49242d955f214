//! The daemon. Everything is in the library.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use daykeep::daemon;

/// Keeps the schedule, carries the runs out, answers on the socket.
///
/// SIGHUP reads the configuration again, SIGTERM stops: runs are cancelled and their repositories released. It tells
/// systemd how it is (Type=notify). DAYKEEP_LOG filters what it says (daykeep=debug).
#[derive(Debug, Parser)]
#[command(name = "daykeepd", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, short, value_name = "PATH", env = "DAYKEEP_CONFIG", default_value = daykeep::config::DEFAULT_PATH)]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match daemon::run(&arguments.config) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(daemon::Error::Config(error)) => {
            say(&error.render(std::io::IsTerminal::is_terminal(&std::io::stderr())));
            ExitCode::from(2)
        }
        Err(error) => {
            say(&format!("daykeepd: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Nothing can be done about a stderr that is closed.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
