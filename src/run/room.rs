//! The vault's room: what a day will need as far as anybody can tell, and a look at what is left while it is copied.
//!
//! A forecast that is too high keeps no day at all, and one that is too low costs an attempt whose copies the next one takes over. So a
//! run is refused only where days like it have shown what it takes; where nobody can know, it begins, is warned of, and stops before
//! anything is held when `limits.min_free` is reached.

use std::time::Duration;

use bytesize::ByteSize;

use crate::config::Limits;
use crate::event::{Context, Notices as _};
use crate::fs;
use crate::manifest::Manifest;
use crate::run::Error;
use crate::vault::{Day, DayWriter, Probe, Used, Vault};

/// A day may need this many times what the last one needed before the forecast is wrong.
const MARGIN: u64 = 2;
/// How often the room is looked at while trees are copied.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether the vault has room for the day, without what an interrupted run has put there already. `databases` is how large they are on
/// their server.
pub(super) fn before(
    vault: &Vault,
    writer: &DayWriter,
    databases: u64,
    limits: &Limits,
    context: &Context,
) -> Result<(), Error> {
    let days: Vec<&Manifest> = writer.recent().map(Day::manifest).collect();
    let forecast = Forecast::of(writer.is_base(), &days, databases).without(writer.taken()?);
    let room = vault.probe()?;
    forecast.enough(vault, &room, limits)?;
    if let Some(doubt) = forecast.doubt(&room, limits) {
        context.observer.warn(doubt);
    }
    Ok(())
}

/// What the next day needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Forecast {
    /// So much it surely takes; None: nobody knows.
    surely: Option<Used>,
    /// So much it may take.
    maybe: Used,
    /// The trees are copied for the first time: `maybe` knows of the databases alone.
    is_first: bool,
}

impl Forecast {
    /// From the newest days, the newest first.
    fn of(is_base: bool, days: &[&Manifest], databases: u64) -> Self {
        match (days.first(), is_base) {
            (None, _) => {
                let maybe = Used { bytes: databases, inodes: 0 };
                Self { surely: None, maybe, is_first: true }
            }
            (Some(newest), true) => Self { surely: None, maybe: whole(newest), is_first: false },
            (Some(_), false) => {
                // A base tells nothing of what its successors take, and a single other day little: it may have been the one that
                // brought everything in.
                let taken: Vec<Used> = days.iter().filter(|day| !day.base).map(|day| taken_by(day)).collect();
                let least = taken.iter().copied().reduce(|one, other| Used {
                    bytes: one.bytes.min(other.bytes),
                    inodes: one.inodes.min(other.inodes),
                });
                let newest = taken.first().copied().unwrap_or_default();
                let maybe = Used {
                    bytes: newest.bytes.saturating_mul(MARGIN),
                    inodes: newest.inodes.saturating_mul(MARGIN),
                };
                Self { surely: least.filter(|_| taken.len() > 1), maybe, is_first: false }
            }
        }
    }

    fn without(self, there: Used) -> Self {
        let less = |used: Used| Used {
            bytes: used.bytes.saturating_sub(there.bytes),
            inodes: used.inodes.saturating_sub(there.inodes),
        };
        Self { surely: self.surely.map(less), maybe: less(self.maybe), is_first: self.is_first }
    }

    fn enough(&self, vault: &Vault, room: &Probe, limits: &Limits) -> Result<(), Error> {
        let needs = self.surely.unwrap_or_default();
        if room.free_bytes < needs.bytes.saturating_add(limits.min_free) {
            return Err(Error::Space {
                vault: vault.path().to_owned(),
                free: ByteSize(room.free_bytes),
                expected: self.surely.map(|needs| ByteSize(needs.bytes)),
                reserve: ByteSize(limits.min_free),
            });
        }
        // File systems without a fixed number of inodes (btrfs) say 0 of 0.
        let reserve = inodes_kept(room.total_inodes, limits);
        if room.total_inodes > 0 && room.free_inodes < needs.inodes.saturating_add(reserve) {
            return Err(Error::Inodes {
                vault: vault.path().to_owned(),
                free: room.free_inodes,
                expected: self.surely.map(|needs| needs.inodes),
                reserve,
            });
        }
        Ok(())
    }

    /// What somebody should know who waits for the day.
    fn doubt(&self, room: &Probe, limits: &Limits) -> Option<String> {
        let bytes = room.free_bytes < self.maybe.bytes.saturating_add(limits.min_free);
        let reserve = inodes_kept(room.total_inodes, limits);
        let inodes = room.total_inodes > 0 && room.free_inodes < self.maybe.inodes.saturating_add(reserve);
        let free = if bytes {
            format!("{} are free", ByteSize(room.free_bytes))
        } else if inodes {
            format!("{} inodes are free", room.free_inodes)
        } else {
            return None;
        };
        let needs = match (self.is_first, bytes) {
            (true, _) => format!(
                "the databases measure {} on their server, and nobody knows what the trees take",
                ByteSize(self.maybe.bytes)
            ),
            (false, true) => format!("the day may need {}", ByteSize(self.maybe.bytes)),
            (false, false) => format!("the day may need {}", self.maybe.inodes),
        };
        Some(format!("the vault may become full: {free}, {needs}"))
    }
}

fn inodes_kept(total: u64, limits: &Limits) -> u64 {
    total / 100 * u64::from(limits.min_free_inodes_percent)
}

/// What a day took anew. Every directory of a day is an inode of its own, and so is every file that was copied.
fn taken_by(day: &Manifest) -> Used {
    let database = day.database.as_ref().map_or(0, |database| database.new_bytes);
    Used {
        bytes: database + day.trees.values().map(|tree| tree.copied_bytes).sum::<u64>(),
        inodes: day.trees.values().map(|tree| tree.entries.saturating_sub(tree.linked_files)).sum(),
    }
}

/// What a day would take that shares nothing.
fn whole(day: &Manifest) -> Used {
    let database = day.database.as_ref().map_or(0, |database| database.stored_bytes);
    Used {
        bytes: database + day.trees.values().map(|tree| tree.bytes).sum::<u64>(),
        inodes: day.trees.values().map(|tree| tree.entries).sum(),
    }
}

/// Does work that fills the vault while nothing is held, and stops it when it takes what `limits` keep free.
pub(super) async fn watched<T>(
    vault: &Vault,
    limits: &Limits,
    context: &Context,
    work: impl AsyncFnOnce(&Context) -> Result<T, Error>,
) -> Result<T, Error> {
    let cancel = context.cancel.child_token();
    let inner = Context { cancel: cancel.clone(), ..context.clone() };
    let mut work = std::pin::pin!(work(&inner));
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(error) = left(vault, limits) {
            cancel.cancel();
            // It ends as one that was cancelled, unless it was through just now.
            return work.await.or(Err(error));
        }
    }
}

fn left(vault: &Vault, limits: &Limits) -> Result<(), Error> {
    let now = fs::volume(vault.path())?;
    if now.free_bytes < limits.min_free {
        let (free, reserve) = (ByteSize(now.free_bytes).to_string(), ByteSize(limits.min_free).to_string());
        return Err(Error::Filled { vault: vault.path().to_owned(), free, reserve });
    }
    let reserve = inodes_kept(now.total_inodes, limits);
    if now.free_inodes < reserve {
        let free = format!("{} inodes", now.free_inodes);
        return Err(Error::Filled { vault: vault.path().to_owned(), free, reserve: reserve.to_string() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::config::Limits;
    use crate::manifest::{HoldEvidence, Manifest, TreeRecord};
    use crate::run::room::Forecast;
    use crate::vault::{Probe, Used};

    /// A day that copied so many of ten files with 100 bytes each.
    fn day(base: bool, copied: u64) -> Manifest {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let tree = TreeRecord {
            source: "/srv".to_owned(),
            entries: 11,
            files: 10,
            bytes: 1000,
            copied_files: copied,
            copied_bytes: copied * 100,
            linked_files: 10 - copied,
            fence: "walk".to_owned(),
            fence_ms: 1,
        };
        let hold = HoldEvidence {
            adapter: "none".to_owned(),
            paused_by_us: false,
            paused_at: now,
            idle_at: now,
            released_at: None,
            held_seconds: 0.0,
            proofs: Vec::new(),
        };
        Manifest {
            format: 0,
            made_by: String::new(),
            repository: String::new(),
            day: String::new(),
            sequence: 0,
            base,
            base_day: String::new(),
            run: 0,
            started: now,
            sealed: now,
            freeze_point: now,
            hold,
            database: None,
            trees: BTreeMap::from([("t".to_owned(), tree)]),
            checks: Vec::new(),
            unfinished_jobs: None,
            to_unpack: None,
            digests: BTreeMap::new(),
            configuration: String::new(),
        }
    }

    fn used(bytes: u64, inodes: u64) -> Used {
        Used { bytes, inodes }
    }

    fn room(free_bytes: u64, free_inodes: u64) -> Probe {
        Probe {
            hard_links: true,
            nanosecond_times: true,
            xattrs: true,
            free_bytes,
            total_bytes: 100_000,
            free_inodes,
            total_inodes: 1000,
            file_system: "ext4".to_owned(),
        }
    }

    fn of(is_base: bool, days: &[Manifest]) -> Forecast {
        Forecast::of(is_base, &days.iter().collect::<Vec<_>>(), 5000)
    }

    fn doubt(forecast: Forecast, free_bytes: u64, free_inodes: u64) -> Option<String> {
        let limits = Limits {
            copy_rate: None,
            tree_jobs: 2,
            min_free: 0,
            min_free_inodes_percent: 0,
            idle_priority: true,
        };
        forecast.doubt(&room(free_bytes, free_inodes), &limits)
    }

    #[test]
    fn nobody_knows_what_the_first_day_takes() {
        let forecast = of(true, &[]);
        assert_eq!((forecast.surely, forecast.maybe), (None, used(5000, 0)));
        assert_eq!(doubt(forecast, 5000, 1000), None);
        let doubt = doubt(forecast, 4999, 1000).expect("a doubt");
        assert!(doubt.contains("databases measure 4.9 KiB on their server, and nobody knows"), "{doubt}");
    }

    #[test]
    fn a_base_and_a_single_day_after_it_refuse_nothing() {
        let second = of(false, &[day(true, 10)]);
        assert_eq!((second.surely, second.maybe), (None, used(0, 0)));
        let third = of(false, &[day(false, 9), day(true, 10)]);
        assert_eq!((third.surely, third.maybe), (None, used(1800, 20)));
        assert!(doubt(third, 1799, 1000).is_some_and(|doubt| doubt.ends_with("the day may need 1.8 KiB")));
        assert!(
            doubt(third, 1800, 19)
                .is_some_and(|doubt| doubt.ends_with("19 inodes are free, the day may need 20"))
        );
        assert_eq!(doubt(third, 1800, 20), None);
    }

    #[test]
    fn days_that_took_little_tell_what_the_next_one_surely_takes() {
        let fourth = of(false, &[day(false, 2), day(false, 9), day(true, 10)]);
        assert_eq!((fourth.surely, fourth.maybe), (Some(used(200, 3)), used(400, 6)));
        assert_eq!(fourth.without(used(150, 9)).surely, Some(used(50, 0)));
    }

    #[test]
    fn a_new_base_takes_all() {
        let anew = of(true, &[day(false, 1), day(false, 1)]);
        assert_eq!((anew.surely, anew.maybe), (None, used(1000, 11)));
    }
}
