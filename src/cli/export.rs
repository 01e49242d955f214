//! `daykeep export`

use std::io::{self, BufWriter, IsTerminal as _};
use std::path::PathBuf;

use super::failure::{Failure, Kind};
use super::place::{self, VaultArg};
use super::session::{Session, wait_for};
use crate::database;

/// Fewer and larger writes into the pipe.
const BUFFER: usize = 256 * 1024;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(override_usage = "daykeep export [OPTIONS] [REPO] <DAY> | psql -X -f - postgres")]
pub struct Args {
    /// The repository (may be left out when there is only one) and the day.
    #[arg(value_name = "DAY", num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// Only this database, without roles and tablespaces; may be given several times.
    #[arg(long, short, value_name = "NAME")]
    database: Vec<String>,
    /// Where pg_restore is; the newest of this machine otherwise.
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    #[command(flatten)]
    vault: VaultArg,
}

/// Writes the databases of a day to stdout as SQL.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    if session.out.json {
        return Err(Failure::new(Kind::Usage, "export writes SQL: it cannot write JSON"));
    }
    if io::stdout().is_terminal() {
        let failure = Failure::new(Kind::Usage, "this would write SQL to the terminal");
        return Err(failure.hint("pipe it: daykeep export DAY | psql -X -f - postgres"));
    }
    let (repository, words) = place::split(&args.words, 1);
    let which = words.first().map_or("latest", String::as_str);
    let place = args.vault.place(session, repository)?;
    let day = place.day(which, session)?;
    let bin_dir = args.bin_dir.clone().or(place.bin_dir);
    let databases = (!args.database.is_empty()).then_some(args.database.as_slice());
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout());
    let context = session.context();
    wait_for(async {
        let work =
            database::export(day.path(), day.manifest(), bin_dir.as_deref(), databases, &mut out, &context);
        Ok(work.await?)
    })
}
