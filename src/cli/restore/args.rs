//! The arguments of `daykeep restore`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::restore::{Choice, Side, TableName, TreePath};

/// The arguments.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
#[command(
    override_usage = "daykeep restore [OPTIONS] [REPO] <DAY>\n       daykeep restore [REPO] --undo\n       \
                      daykeep restore [REPO] --confirm"
)]
pub struct Args {
    /// The repository (may be left out when there is only one) and the day: latest, current, dayN (N days before the
    /// latest), a date, or a full name.
    #[arg(value_name = "DAY", num_args = 0..=2)]
    pub words: Vec<String>,
    #[command(flatten)]
    pub parts: Parts,
    #[command(flatten)]
    pub place: Elsewhere,
    #[command(flatten)]
    pub ending: Ending,
    /// Restore from this vault. The configuration is the machine's if it has the repository, and otherwise that of the day.
    #[arg(long, value_name = "DIR")]
    pub vault: Option<PathBuf>,
    /// Where restores and holds are recorded, when that is not where the configuration says.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Run what the configuration of the day names, if that is in force: its hold, and PostgreSQL's programs where it has them. Whoever may write
    /// in the vault can have changed it.
    #[arg(long)]
    pub trust_day: bool,
    /// Do not hold the repository: nothing that changes it is running, and nothing will be.
    #[arg(long)]
    pub no_hold: bool,
    /// Start the scheduler at the end, even if it was found stopped.
    #[arg(long, conflicts_with = "no_hold")]
    pub start: bool,
    /// Release the repository although a cross-check found rows without their file.
    #[arg(long)]
    pub accept_failed_check: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Show what would be done, and do nothing.
    #[arg(long, conflicts_with_all = ["yes", "undo", "confirm"])]
    pub plan: bool,
    /// Ask the daemon to do it, and return at once: with --yes, since it cannot ask back.
    #[arg(long, requires = "yes", conflicts_with_all = ["plan", "to", "to_server", "vault", "state_dir"])]
    pub detach: bool,
    /// So many connections and threads; what the configuration says otherwise.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
}

/// What of the day.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is restored (without any of these: all of the day)")]
pub struct Parts {
    /// One side of the repository.
    #[arg(long, value_name = "SIDE", conflicts_with_all = ["database", "table", "tree", "path"])]
    only: Option<Only>,
    /// This database; may be given several times.
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,
    /// This table; may be given several times. A name with a dot stands in double quotes.
    #[arg(long, value_name = "DB.SCHEMA.TABLE")]
    table: Vec<TableName>,
    /// This tree; may be given several times.
    #[arg(long, value_name = "NAME")]
    tree: Vec<String>,
    /// This file or directory of a tree; may be given several times.
    #[arg(long, value_name = "TREE:PATH", value_parser = tree_path())]
    path: Vec<TreePath>,
}

/// Where to.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Where it goes (without any of these: in the place of what is there)")]
pub struct Elsewhere {
    /// The trees go to DIR/<tree>, which must not be there; nothing is held.
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// The databases go to this server, which must not have them; nothing is held. Parameters as libpq takes them, without a password:
    /// that is found as always (PGPASSFILE, passfile=, a service).
    // Not parsed here: clap would repeat what is wrong, and that may hold a password.
    #[arg(long, value_name = "CONNINFO")]
    pub to_server: Option<String>,
}

/// How a restore in place ends.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How a restore in place ends")]
pub struct Ending {
    /// Put back what was there before the restore.
    #[arg(long, conflicts_with_all = ["confirm", "to", "to_server", "only", "database", "table", "tree", "path"])]
    pub undo: bool,
    /// Drop what was there before the restore: it can no longer be taken back.
    #[arg(long, conflicts_with_all = ["to", "to_server", "only", "database", "table", "tree", "path"])]
    pub confirm: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    /// The databases and the roles that they need.
    Database,
    /// The trees.
    Trees,
}

/// A path need not be text.
fn tree_path() -> impl clap::builder::TypedValueParser<Value = TreePath> {
    use clap::builder::TypedValueParser as _;
    clap::builder::OsStringValueParser::new().try_map(|word: OsString| TreePath::parse(word.as_bytes()))
}

impl Parts {
    /// What of the day they choose.
    pub fn choice(&self) -> Choice {
        Choice {
            only: self.only.map(|only| match only {
                Only::Database => Side::Database,
                Only::Trees => Side::Trees,
            }),
            databases: self.database.iter().cloned().collect(),
            tables: self.table.iter().cloned().collect(),
            trees: self.tree.iter().cloned().collect(),
            paths: self.path.iter().cloned().collect(),
        }
    }
}
