//! `current` and `day1`, `day2`, ...: symbolic links to the newest day and the ones before it, for people and scripts.
//!
//! They say nothing that the directory of the days does not say, and nothing of daykeep trusts them. Each is moved by a
//! rename, so each always points to a whole day; a kill between two renames leaves some of them one day behind, and the
//! next one who locks the vault moves them on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::fs;
use crate::vault::lock::Locked;
use crate::vault::{Day, Error};

impl Locked {
    /// Makes the links agree with the days.
    ///
    /// # Errors
    /// A link cannot be made or removed.
    pub fn mend_links(&self, now: Timestamp) -> Result<(), Error> {
        let days = self.days(now)?;
        if days.good.is_empty() && days.quarantined.iter().any(|day| day.future) {
            // The clock stands before every day: the links are better than the clock.
            return Ok(());
        }
        self.point_links(&days.good)
    }

    /// Makes them agree with these days, oldest first.
    pub(super) fn point_links(&self, good: &[Day]) -> Result<(), Error> {
        let wanted = wanted(good);
        let mut moved = false;
        // By name, so `current` comes first: it is what people follow.
        for (name, target) in &wanted {
            let path = self.path().join(name);
            if fs::link_target(&path)?.as_ref() != Some(target) {
                fs::symlink_at_once(target, &path)?;
                moved = true;
            }
        }
        moved |= self.remove_links(|name, _| !wanted.contains_key(name))?;
        if moved {
            fs::sync_dir(self.path())?;
        }
        Ok(())
    }

    /// Removes those that do not agree with these days, and makes none.
    pub(super) fn remove_other_links(&self, good: &[Day]) -> Result<(), Error> {
        let wanted = wanted(good);
        self.remove_links(|name, target| wanted.get(name).is_none_or(|wanted| wanted != target))?;
        Ok(fs::sync_dir(self.path())?)
    }

    fn remove_links(&self, goes: impl Fn(&str, &Path) -> bool) -> Result<bool, Error> {
        let mut any = false;
        for name in fs::names_in(self.path())? {
            let name = name.to_string_lossy().into_owned();
            let path = self.path().join(&name);
            let Some(target) = is_ours(&name).then(|| fs::link_target(&path)).transpose()?.flatten() else {
                continue;
            };
            if goes(&name, &target) {
                fs::remove_file(&path)?;
                any = true;
            }
        }
        Ok(any)
    }
}

fn wanted(good: &[Day]) -> BTreeMap<String, PathBuf> {
    let name = |back: usize| if back == 0 { "current".to_owned() } else { format!("day{back}") };
    good.iter()
        .rev()
        .enumerate()
        .map(|(back, day)| (name(back), PathBuf::from("days").join(day.name())))
        .collect()
}

/// The links, and what a killed run may have left of making one.
fn is_ours(name: &str) -> bool {
    let name = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new")).unwrap_or(name);
    let number = name.strip_prefix("day");
    name == "current" || number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}
