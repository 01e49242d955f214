//! What the configuration of a day would have run, and who may say yes to that.
//!
//! Without a configuration of the machine that of the day is in force, and that lies in the vault: whoever may write there chooses
//! the commands, units and addresses of its hold, and where PostgreSQL's programs are. A day is data; a restore is often root's. So nothing
//! that a day names is run before somebody has seen it and agreed.

use super::ask::can_ask;
use super::{Args, Failure, Kind};
use crate::cli::session::Session;
use crate::config::{Adapter, CommandHold, Hold, Repository, SystemdAction};

/// The repository as a day configures it, as far as it can be trusted: PostgreSQL's programs are looked for on this machine, and a hold that
/// runs something has been agreed to, or is told before the question is asked that does.
pub fn agreed(mut repository: Repository, args: &Args, session: &Session) -> Result<Repository, Failure> {
    if args.trust_day {
        return Ok(repository);
    }
    if let Some(database) = &mut repository.database {
        database.bin_dir = None;
    }
    let is_elsewhere = args.place.to.is_some() || args.place.to_server.is_some();
    let holds = !(args.no_hold || args.ending.confirm || is_elsewhere);
    let runs = if holds { runs(&repository.hold) } else { Vec::new() };
    if runs.is_empty() {
        return Ok(repository);
    }
    for run in &runs {
        session.out.warn(&format!("the configuration of the day says that a restore {run}"));
    }
    if args.plan || (can_ask() && !args.yes) {
        session
            .out
            .warn("whoever may write in the vault can have put that there: answer yes only if you know it");
        return Ok(repository);
    }
    let text = format!("the configuration of the day names what is to be run: {}", runs.join("; "));
    Err(Failure::new(Kind::Usage, text)
        .hint("whoever may write in the vault can have put that there: --trust-day runs it, --no-hold runs none of it")
        .hint("or write the configuration to a file, and name that with --config"))
}

/// What a hold does besides waiting, in words that follow "a restore".
fn runs(hold: &Hold) -> Vec<String> {
    // Escaped, for it is printed.
    let command = |argv: &Vec<String>| format!("runs {argv:?}");
    match &hold.adapter {
        Adapter::None => Vec::new(),
        Adapter::Fossology(fossology) => {
            vec![format!("stops the scheduler at {:?}", fossology.address), command(&fossology.start)]
        }
        Adapter::Systemd(systemd) => {
            let verb = if systemd.action == SystemdAction::Freeze {
                "freezes and thaws"
            } else {
                "stops and starts"
            };
            vec![format!("{verb} the units {:?}", systemd.units)]
        }
        Adapter::Command(CommandHold { is_running, pause, prove, kill, release, .. }) => {
            let optional = [is_running, prove, kill];
            let all = [Some(pause), Some(release)].into_iter().chain(optional.map(Option::as_ref));
            all.flatten().map(command).collect()
        }
        Adapter::Http(http) => vec![format!("sends {} to {:?}", http.pause, http.url)],
    }
}
