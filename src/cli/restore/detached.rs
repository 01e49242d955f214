//! `--detach`: the daemon restores, or ends a restore.

use super::args::Args;
use super::origin::which_day;
use crate::api::order::{Order, Restore, Settle};
use crate::cli::failure::{Failure, Kind};
use crate::cli::session::Session;
use crate::cli::{place, remote};
use crate::config::Config;
use crate::restore::Place;
use crate::vault::Vault;

/// Gives the order.
pub fn start(args: &Args, session: &Session) -> Result<(), Failure> {
    let config = session.config()?;
    let settle = Settle { start: args.start, no_hold: args.no_hold, yes: args.yes };
    let (words, order) = match (args.ending.undo, args.ending.confirm) {
        (true, _) => (args.words.as_slice(), Order::Undo(settle)),
        (_, true) => (args.words.as_slice(), Order::Confirm(settle)),
        (false, false) => {
            let (repository, day) = match args.words.as_slice() {
                [name] if config.repositories.contains_key(name) => {
                    return Err(no_day(&config, Some(name), session)?);
                }
                [] => return Err(no_day(&config, None, session)?),
                [repository @ .., day] => (repository, day.clone()),
            };
            let order = Restore {
                day: day.clone(),
                jobs: args.jobs.map(usize::from),
                start: args.start,
                no_hold: args.no_hold,
                accept_failed_check: args.accept_failed_check,
                yes: args.yes,
                ..Restore::default()
            };
            let order = order.choosing(&args.parts.choice());
            (repository, Order::Restore(order.map_err(|problem| Failure::new(Kind::Usage, problem))?))
        }
    };
    if let [_, word, ..] = words {
        let text =
            format!("--undo and --confirm end the restore that is recorded, and take no day (`{word}`)");
        return Err(Failure::new(Kind::Usage, text));
    }
    let repository = place::configured(&config, words.first().map(String::as_str))?;
    remote::start(&repository.name, &order, session)
}

fn no_day(config: &Config, name: Option<&str>, session: &Session) -> Result<Failure, Failure> {
    let repository = place::configured(config, name)?;
    let vault = Vault::open(&repository.vault, &repository.name)?;
    which_day(&vault, &Place::of_config(&config.path), session.now())
}
