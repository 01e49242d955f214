//! Holding the repository still, and letting it go again whatever happens.
//!
//! # The crash argument
//!
//! A hold is a record on the disk, a guard process and an effect on the scheduler, in this order:
//!
//! 1. the lock beside the record is taken, and the scheduler is looked at: what an operator stopped is not paused, and
//!    nothing below happens for it but the proofs;
//! 2. the record is written, phase `intent`, with all that the release needs;
//! 3. the guard is started and has answered: it waits for the end of a pipe that this process holds, or for the limit;
//! 4. the record goes to `pausing`;
//! 5. the pause is asked for; the lock is let go;
//! 6. idleness is proven; the record goes to `paused`;
//! 7. the freeze is taken (not here);
//! 8. the lock is taken, the record goes to `releasing`, the release is performed, the record is removed, the guard goes.
//!
//! Killed before 2: nothing was done. Killed between 2 and 4: the guard, if it is there, reads the end of its pipe, sees
//! `intent` and removes the record; else the next start does; nothing was paused, so nothing is released. Killed between
//! 4 and 8, by any signal, a panic, or a future that is dropped: the guard reads the end of its pipe and performs the release that the
//! record holds. It cannot be told whether the pause in 5 had reached the scheduler, so every release is made to be
//! right in both cases, and right twice: FOSSology is told to stop once more and then started, a unit or command or switch is
//! released again. A pause command that outlived its run is ended first. Killed inside 8: the guard performs the release again; a
//! record that is gone means that nothing is left to do. If the guard is killed too, or the power goes, the record is
//! still there, since each is flushed before the next step: `ExecStopPost=`, the next start and `daykeep release` perform it,
//! whichever comes first ([`release_leftovers`]). All of them take the lock, so no two ever act at once; the lock goes with its holder.
//! The record names the guard that answers for it: who fails to release starts another one only if that is dead. A guard that reads in the
//! record that it is done, or another hold's, ends; one that has met this hold's ends only when it is released, or kept.
//!
//! A run that hangs or is stopped keeps its pipe open. The guard counts `hold.max` from proven idle by its own clock (and
//! before that `hold.drain` and the adapter's own limits), releases, and leaves the record in phase `released`, from which the run
//! learns that its freeze is void. If the run hangs with the lock in its hands for longer than its step may take, the
//! guard kills it: that the repository is released comes before everything else.
//!
//! A restore's hold has no limit for the whole, since nobody can tell how long a restore takes; a run that is alive and hangs is a
//! person's to end. It has a record and a guard even when nothing had to be paused, so that it can be kept:
//!
//! # The crash argument of a hold that is kept
//!
//! While a restore puts a day in the place of what is there, to start the scheduler does damage. Before that, [`Held::keep`] writes
//! `keep` with a reason into the record, with the lock held. From there on a record without a living run is left alone by everybody who
//! finds it, guard, start and `daykeep release` alike: all of them read it under the same lock before they act. Killed before
//! that write is on the disk: released as above, and nothing was replaced yet. Killed after it: the repository stays as it is, over
//! power cuts too, until [`resume`] takes the record over. That writes a record of the same release with itself as the holder, so that at no
//! moment there is none; what was started meanwhile (by an operator, or by the boot after a power cut) is paused again, and the record has
//! what that needs before it is done. The release takes `keep` away in the same write that says `releasing`: killed there, the release
//! is completed as any other is. Only `daykeep release --force` and `--give-up` end it otherwise.
//!
//! A full disk cannot keep the repository held: the writes before the pause fail before there is anything to undo, and the release needs
//! none to succeed. Nor can a record that is lost while its hold lasts: the guard knows what was in it (`rescue.rs` has that argument).

mod adapter;
mod command;
mod error;
mod fossology;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guard;
mod held;
mod http;
mod leftover;
mod live;
mod lock;
mod look;
mod nothing;
mod ours;
mod pause;
mod plan;
mod probe;
mod record;
mod rescue;
mod systemd;
mod word;

use std::path::Path;

pub use error::{Error, tries};
pub use fossology::announce_jobs;
pub use guard::guard;
pub use held::{Held, ReleasedHold};
pub use leftover::{Leftover, Outcome, give_up, pending, release_leftovers};
pub use look::runs;
pub use pause::{pause, resume};
pub use plan::ReleasePlan;
pub use probe::{Finding, probe};
pub use record::{HoldRecord, Phase};

use crate::config;

/// What a hold is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A freeze point: seconds, and never longer than `hold.max`.
    Backup,
    /// To replace what is there: as long as it takes. What is gone counts as stopped, and where there is no database no proof asks it.
    Restore,
}

impl Purpose {
    /// Whether `hold.max` counts.
    pub(crate) fn is_limited(self) -> bool {
        self == Self::Backup
    }
}

/// What is to be held, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The repository's name.
    pub repository: &'a str,
    /// The run.
    pub run: u64,
    /// What for.
    pub purpose: Purpose,
    /// How it is held.
    pub hold: &'a config::Hold,
    /// Its database server, which the adapters `fossology` and `none` ask for their proofs.
    pub server: Option<&'a config::Server>,
    /// Where the durable records live.
    pub state_dir: &'a Path,
    /// The `daykeep` program; it is started as `daykeep guard RECORD`.
    pub guard: &'a Path,
}
