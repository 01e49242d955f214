//! Removing days: decided by the keep rules, renamed aside, then unlinked.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::event::{Context, Event, Notices as _, Phase, Unit};
use crate::fs;
use crate::retention::{self, Candidate, Plan, Rules};
use crate::vault::day::MANIFEST;
use crate::vault::{Day, Error, Locked, Vault};

const REMOVING: &str = ".removing-";
/// Unlinking waits for the disk, not for the processor.
const THREADS: usize = 4;

impl Vault {
    /// What the keep rules would remove. Nothing is removed when the clock or the dates of the days cannot be trusted; the
    /// plan then says why. Calendar days are those of `zone`. The newest day that is proven stays until a newer one is: younger days may turn
    /// out to be worth nothing.
    ///
    /// # Errors
    /// The days cannot be listed.
    pub fn plan_prune(&self, rules: &Rules, zone: &TimeZone, now: Timestamp) -> Result<Plan, Error> {
        let days = self.days(now)?;
        let candidates: Vec<Candidate> = days.good.iter().map(candidate).collect();
        // One in the future is no good day, whatever else it is: it is told apart from the damaged ones.
        let ahead = days.quarantined.iter().find(|day| day.future).map(|day| day.name.as_str());
        let mut plan = retention::plan_with_doubts(rules, &candidates, ahead, zone);
        // What cannot be read proves nothing.
        let is_proven = |day: &&Day| self.proven(day.name()).is_ok_and(|proof| proof.is_some());
        if let Some(proven) = days.good.iter().rev().find(is_proven) {
            plan.spare(proven.name(), "the newest proven day always stays");
        }
        Ok(plan)
    }
}

fn candidate(day: &Day) -> Candidate {
    let manifest = day.manifest();
    Candidate { name: manifest.day.clone(), freeze_point: manifest.freeze_point, sequence: manifest.sequence }
}

impl Locked {
    /// Removes what the plan says, oldest first, and what earlier removals left. Returns the names of the days removed.
    ///
    /// A day of the plan that has become the newest good one meanwhile is kept, and so is one that somebody has
    /// [pinned](Day::pin), which is told.
    ///
    /// # Errors
    /// A day cannot be renamed or removed, or the run was cancelled. The next run finishes what was begun.
    pub fn prune(&self, plan: &Plan, context: &Context) -> Result<Vec<String>, Error> {
        let now = context.clock.now();
        let good = self.days(now)?.good;
        let newest = good.last().map(|day| day.name().to_owned());
        let (mut leaving, mut staying) = (Vec::new(), Vec::new());
        for day in good {
            let goes = plan.removes(day.name()) && newest.as_deref() != Some(day.name());
            match if goes { day.unpinned()? } else { None } {
                // Held to the end: nobody begins to read what is about to go.
                Some(right) => leaving.push((day, right)),
                None => {
                    if goes {
                        let name = day.name();
                        context.observer.info(format!("the day {name} is in use and stays for now"));
                    }
                    staying.push(day);
                }
            }
        }
        // The links leave the days before the days leave.
        let pointed = self.point_links(&staying);
        let is_full = pointed.as_ref().is_err_and(Error::is_full);
        if is_full {
            // Without room for new ones those go that would lead nowhere; what is removed makes room for the others.
            self.remove_other_links(&staying)?;
        } else {
            pointed?;
        }
        let mut removed = Vec::new();
        for (day, _right) in &leaving {
            if context.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            self.put_aside(day.path(), day.name())?;
            context.observer.info(format!("removing the day {}", day.name()));
            removed.push(day.name().to_owned());
        }
        self.sweep(context)?;
        if is_full {
            self.point_links(&staying)?;
        }
        Ok(removed)
    }

    /// Finishes removals that were interrupted.
    ///
    /// # Errors
    /// Something cannot be removed, or the run was cancelled.
    pub fn sweep(&self, context: &Context) -> Result<(), Error> {
        let going = |removed| {
            let progress =
                Event::Progress { phase: Phase::Prune, unit: Unit::Files, current: removed, total: None };
            context.observer.observe(&progress);
            !context.cancel.is_cancelled()
        };
        if self.finish_removals(&going)? { Ok(()) } else { Err(Error::Cancelled) }
    }

    /// Removes every `.removing-*`; false when told to stop.
    pub(super) fn finish_removals(&self, going: fs::Going<'_>) -> Result<bool, Error> {
        let days = self.days_path();
        for name in fs::names_in(&days)? {
            let Some(aside) = name.to_str().and_then(|name| name.strip_prefix(REMOVING)) else { continue };
            if !going(0) {
                return Ok(false);
            }
            self.forget_records(aside)?;
            if !fs::remove_tree(&days.join(&name), THREADS, going)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a directory out of the list of days, durably, by a rename.
    pub(super) fn put_aside(&self, path: &Path, name: &str) -> Result<(), Error> {
        let mut aside = self.days_path().join(format!("{REMOVING}{name}"));
        let mut number = 1;
        while fs::exists(&aside)? {
            number += 1;
            aside = self.days_path().join(format!("{REMOVING}{name}-{number}"));
        }
        match fs::rename_new(path, &aside) {
            Err(error) if error.is_full() => self.make_room(path, &aside),
            renamed => Ok(renamed?),
        }
    }

    /// A full disk may have no room for the new name. Without its manifest a day is not listed either, and that makes room, which some file
    /// systems (btrfs) give only when they are flushed. Where there is still none, all of it goes where it is.
    ///
    /// Killed in here, a directory without a manifest is left among the days, which is told until somebody removes it.
    fn make_room(&self, path: &Path, aside: &Path) -> Result<(), Error> {
        fs::set_mode(path, 0o750)?;
        fs::remove_file_durable(&path.join(MANIFEST))?;
        fs::remove_file_durable(&path.join("files.jsonl.zst"))?;
        let days = self.days_path();
        fs::sync_volume(&fs::open(&days)?, &days)?;
        match fs::rename_new(path, aside) {
            Err(error) if error.is_full() => {
                fs::remove_tree(path, THREADS, &|_| true)?;
                Ok(())
            }
            renamed => Ok(renamed?),
        }
    }
}
