//! The face on the command line. One file for each verb; data goes to stdout, talk to stderr, and every failure is one
//! [`Failure`] with an exit code (`docs/cli.md`).

mod cancel;
mod check;
mod codes;
mod completions;
mod config;
mod diff;
mod drill;
mod export;
mod failure;
mod figures;
mod guard;
mod list;
mod man;
mod offline;
mod output;
mod place;
mod progress;
mod prune;
mod release;
mod remote;
mod restore;
mod reunpack;
mod run;
mod schedule;
mod session;
mod show;
mod signals;
mod status;
mod verify;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use failure::{Failure, Kind};

use output::Output;
use session::Session;

/// Keeps every day of a repository: a PostgreSQL server, the files its rows point to, and the scheduler that changes both.
#[derive(Debug, Parser)]
#[command(name = "daykeep", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 failed, 2 usage or configuration, 10 no such repository or day, 11 locked, 12 damaged, 13 a restore waits to be ended, \
75 busy and skipped, 128+N ended by signal N.";

/// What every verb takes.
#[derive(Debug, clap::Args)]
struct Global {
    /// The configuration file.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "DAYKEEP_CONFIG",
        default_value = crate::config::DEFAULT_PATH,
        hide_env_values = true
    )]
    config: PathBuf,
    /// Write data as JSON, with "schema": 1.
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Write without colours (as NO_COLOR=1 does).
    #[arg(long, global = true)]
    no_color: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Keep a day of a repository now.
    Run(run::Args),
    /// Show how old the newest days are, and how everything stands.
    Status(status::Args),
    /// Show what the daemon does, as it does it.
    Watch(watch::Args),
    /// Ask the daemon to stop a job.
    Cancel(cancel::Args),
    /// Show the days that are kept.
    List(list::Args),
    /// Show what a day says of itself.
    Show(show::Args),
    /// Hold days against their digests, records and seals, and repair them.
    Verify(verify::Args),
    /// Show what differs between two days.
    Diff(diff::Args),
    /// Restore a day into a scratch place, compare it, and throw it away: prove it.
    Drill(drill::Args),
    /// Write the databases of a day as SQL for psql.
    Export(export::Args),
    /// Bring the repository back to a day, or put a day elsewhere.
    Restore(restore::Args),
    /// Remove the days that no keep rule keeps.
    Prune(prune::Args),
    /// Set running again what a killed run left paused.
    Release(release::Args),
    /// Look for the file of every row of the repository as it is now.
    Check(check::Args),
    /// Have FOSSology unpack again what is missing in `files`.
    Reunpack(reunpack::Args),
    /// Show when the next runs are due.
    Schedule(schedule::Args),
    /// Check, show or generate the configuration.
    Config(config::Args),
    /// Write the completions of a shell.
    Completions(completions::Args),
    /// Write the manual pages.
    Man(man::Args),
}

/// The program: parses, does, tells, and gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Not a verb for people. It lies in wait for the whole hold and takes up nothing that it does not need.
    if let Some(record) = guard::record_of(&arguments) {
        return guard::keep(&record);
    }
    let parsed = command().try_get_matches_from(&arguments).and_then(|matches| {
        Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command()))
    });
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&arguments, &with_suggestion(error)),
    };
    if arguments.global.no_color {
        anstream::ColorChoice::Never.write_global();
    }
    let out = Output { json: arguments.global.json, quiet: arguments.global.quiet };
    let session = Session::new(out, arguments.global.config);
    match perform(arguments.verb, &session).and_then(|()| output::finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.kind().code())
        }
    }
}

fn perform(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Run(args) => run::perform(&args, session),
        Verb::Status(args) => status::perform(&args, session),
        Verb::Watch(args) => watch::perform(&args, session),
        Verb::Cancel(args) => cancel::perform(&args, session),
        Verb::List(args) => list::perform(&args, session),
        Verb::Show(args) => show::perform(&args, session),
        Verb::Verify(args) => verify::perform(&args, session),
        Verb::Diff(args) => diff::perform(&args, session),
        Verb::Drill(args) => drill::perform(&args, session),
        Verb::Export(args) => export::perform(&args, session),
        Verb::Restore(args) => restore::perform(&args, session),
        Verb::Prune(args) => prune::perform(&args, session),
        Verb::Release(args) => release::perform(&args, session),
        Verb::Check(args) => check::perform(&args, session),
        Verb::Reunpack(args) => reunpack::perform(&args, session),
        Verb::Schedule(args) => schedule::perform(&args, session),
        Verb::Config(args) => config::perform(&args, session),
        Verb::Completions(args) => completions::perform(&args, session),
        Verb::Man(args) => man::perform(&args, session),
    }
}

/// The command line as `clap` sees it: completions and manual pages are made of it.
fn command() -> clap::Command {
    Arguments::command()
}

/// `clap` thinks that `rnu` is unlike `run`: letters that have changed places are a slip, too.
fn with_suggestion(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    if error.get(ContextKind::SuggestedSubcommand).is_none() {
        let command = command();
        let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        if let Some(near) = place::nearest(word, &verbs).map(str::to_owned) {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![near]));
        }
    }
    error
}

/// The command line is wrong, or asks for help, which is no error.
fn refuse(arguments: &[OsString], error: &clap::Error) -> ExitCode {
    let failure = error.exit_code() != 0;
    if failure && arguments.iter().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let told = Failure::new(Kind::Usage, message).shown_as(error.render().ansi().to_string());
        Output { json: true, quiet: false }.failure(&told);
    } else {
        // Nobody hears: the code still tells.
        let _ = error.print();
    }
    if failure { ExitCode::from(Kind::Usage.code()) } else { ExitCode::SUCCESS }
}
