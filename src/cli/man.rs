//! `daykeep man`

use std::path::PathBuf;

use clap::Command;
use clap_mangen::Man;

use super::failure::{Failure, Kind};
use super::session::Session;
use crate::fs;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write one page for every verb into this directory, `daykeep.1`, `daykeep-run.1`, ...; without it, the page of
    /// daykeep itself goes to stdout.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Writes the pages.
pub fn perform(args: &Args, session: &Session) -> Result<(), Failure> {
    let mut program = super::command();
    program.build();
    let Some(directory) = &args.out else {
        return session.out.bytes(&page(&program, "daykeep")?);
    };
    fs::create_dir_durable(directory)?;
    let mut pages = vec![("daykeep".to_owned(), program.clone())];
    collect(&program, "daykeep", &mut pages);
    for (name, command) in &pages {
        fs::write_public(&directory.join(format!("{name}.1")), &page(command, name)?)?;
    }
    session.out.say(&format!("wrote {} pages to {}", pages.len(), directory.display()));
    Ok(())
}

/// Every verb below a command, and the verbs of verbs (`daykeep config check`).
fn collect(command: &Command, above: &str, pages: &mut Vec<(String, Command)>) {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let name = format!("{above}-{}", verb.get_name());
        pages.push((name.clone(), verb.clone()));
        collect(verb, &name, pages);
    }
}

fn page(command: &Command, name: &str) -> Result<Vec<u8>, Failure> {
    let mut roff = Vec::new();
    let command = command.clone().display_name(name.to_owned()).version(env!("CARGO_PKG_VERSION"));
    Man::new(command)
        .manual("daykeep")
        .source(concat!("daykeep ", env!("CARGO_PKG_VERSION")))
        .render(&mut roff)
        .map_err(|error| Failure::of(Kind::Failed, &error))?;
    Ok(roff)
}
