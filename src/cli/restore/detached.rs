//! `--detach`: the daemon restores, or ends a restore.

use super::args::Args;
use crate::api::order::{Order, Restore, Settle};
use crate::cli::failure::{Failure, Kind};
use crate::cli::session::Session;
use crate::cli::{place, remote};

/// Gives the order.
pub fn start(args: &Args, session: &Session) -> Result<(), Failure> {
    let config = session.config()?;
    let settle = Settle { start: args.start, no_hold: args.no_hold, yes: args.yes };
    let (words, order) = match (args.ending.undo, args.ending.confirm) {
        (true, _) => (args.words.as_slice(), Order::Undo(settle)),
        (_, true) => (args.words.as_slice(), Order::Confirm(settle)),
        (false, false) => {
            let (repository, day) = match args.words.split_last() {
                Some((day, repository)) => (repository, day.clone()),
                None => {
                    return Err(Failure::new(Kind::Usage, "which day? `daykeep list` shows those there are"));
                }
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
