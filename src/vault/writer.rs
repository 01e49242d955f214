//! Making a day: built aside, sealed at once or not at all. The crash argument stands at the head of the vault.

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::fs;
use crate::manifest::{DatabaseSeal, FORMAT, LONGEST_PAGE, Manifest};
use crate::vault::day::{MANIFEST, parse_name};
use crate::vault::{Day, Error, Locked, digest, guide, name_of, seals};

const BUILDING: &str = ".building";
/// Beside the building directory: what it is built from.
const ORIGIN: &str = ".building.json";
/// A day may come half a day early and still be the first of a new chain: runs do not start to the second.
const SLACK: SignedDuration = SignedDuration::from_hours(12);

/// How many days are remembered beside the newest.
const RECENT: usize = 2;

/// What `.building` is built from. What is found there is picked up only by a run that wants the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Origin {
    /// The day it is linked from.
    previous: Option<String>,
    /// It shares no inode with an earlier day.
    base: bool,
    /// What of the file system was used before anything was put there; None when an older daykeep began it.
    #[serde(default)]
    used: Option<Used>,
}

impl Origin {
    fn is_of(&self, other: &Self) -> bool {
        (&self.previous, self.base) == (&other.previous, other.base)
    }
}

/// What is used of the vault's file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// A day under construction. While it lives, the vault stays locked, by its part in [`Locked`].
#[derive(Debug)]
pub struct DayWriter {
    locked: Locked,
    path: PathBuf,
    previous: Option<Day>,
    /// The good days before it, the oldest first.
    older: Vec<Day>,
    base: bool,
    picked_up: bool,
    begun_with: Option<Used>,
    sequence: u64,
    run: u64,
    /// The building directory, open since before anything was written into it: the kernel tells a flush of an error of the file system
    /// only if it came after the descriptor was opened (syncfs(2)).
    opened: File,
}

impl Locked {
    /// Begins a day, or picks up the one that an earlier run left: its trees stay, the rest of it is made anew, because it
    /// showed another instant. Removals that were interrupted are finished first, for the space they hold.
    ///
    /// The day is a base when it is the first one, or when the base of the newest day is `new_base_every` days old.
    ///
    /// # Errors
    /// The vault cannot be read or written, or the run was cancelled while something was removed.
    pub fn begin(
        &self,
        run: u64,
        new_base_every: Option<u32>,
        now: Timestamp,
        cancel: &CancellationToken,
    ) -> Result<DayWriter, Error> {
        self.remove_what_is_aside(cancel)?;
        let days = self.days(now)?;
        let sequence = days.next_sequence();
        let mut older = days.good;
        let previous = older.pop();
        older.drain(..older.len().saturating_sub(RECENT));
        let path = self.days_path().join(BUILDING);
        let mut origin = Origin {
            previous: previous.as_ref().map(|day| day.name().to_owned()),
            base: previous.as_ref().is_none_or(|day| chain_is_over(day, new_base_every, now)),
            used: None,
        };
        let found = self.found_building(&path)?;
        // A building directory that shares no inode may end any chain; one that does may not begin one.
        origin.base |= found.as_ref().is_some_and(|found| found.base && found.previous == origin.previous);
        let found = found.filter(|found| found.is_of(&origin));
        let picked_up = found.is_some();
        if let Some(found) = found {
            keep_only_trees(&path)?;
            origin = found;
        } else {
            self.discard_building(&path, cancel)?;
            origin.used = Some(used(&self.days_path())?);
            self.write_origin(&origin)?;
            fs::create_dir_durable(&path)?;
        }
        fs::set_mode(&path, 0o750)?;
        fs::create_dir_durable(&path.join("trees"))?;
        fs::create_dir_durable(&path.join("database"))?;
        let opened = fs::open(&path)?;
        let (locked, base, begun_with) = (self.clone(), origin.base, origin.used);
        Ok(DayWriter { locked, path, previous, older, base, picked_up, begun_with, sequence, run, opened })
    }

    fn found_building(&self, path: &Path) -> Result<Option<Origin>, Error> {
        if !fs::exists(path)? {
            return Ok(None);
        }
        let origin = fs::read_regular(&self.days_path().join(ORIGIN), LONGEST_PAGE)?;
        Ok(origin.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn write_origin(&self, origin: &Origin) -> Result<(), Error> {
        let path = self.days_path().join(ORIGIN);
        let text =
            serde_json::to_vec(origin).map_err(|source| Error::Manifest { path: path.clone(), source })?;
        Ok(fs::write_durable(&path, &text)?)
    }

    fn discard_building(&self, path: &Path, cancel: &CancellationToken) -> Result<(), Error> {
        if fs::exists(path)? {
            self.put_aside(path, "building")?;
            self.remove_what_is_aside(cancel)?;
        }
        Ok(())
    }

    fn remove_what_is_aside(&self, cancel: &CancellationToken) -> Result<(), Error> {
        let going = |_| !cancel.is_cancelled();
        if self.finish_removals(&going)? { Ok(()) } else { Err(Error::Cancelled) }
    }
}

fn used(path: &Path) -> Result<Used, Error> {
    let volume = fs::volume(path)?;
    Ok(Used {
        bytes: volume.total_bytes.saturating_sub(volume.free_bytes),
        inodes: volume.total_inodes.saturating_sub(volume.free_inodes),
    })
}

/// By the date in the name of the chain's base, which may have been removed since.
fn chain_is_over(newest: &Day, new_base_every: Option<u32>, now: Timestamp) -> bool {
    let Some(days) = new_base_every else { return false };
    let Some(base) = parse_name(&newest.manifest().base_day) else { return true };
    now.duration_since(base) >= SignedDuration::from_hours(i64::from(days) * 24) - SLACK
}

/// The manifest goes first: what changes afterwards was not described by it.
fn keep_only_trees(building: &Path) -> Result<(), Error> {
    fs::set_mode(building, 0o750)?;
    fs::remove_file_durable(&building.join(MANIFEST))?;
    for name in fs::names_in(building)? {
        if name != "trees" {
            fs::remove_tree(&building.join(name), 1, &|_| true)?;
        }
    }
    Ok(())
}

impl DayWriter {
    /// `<vault>/<repository>/days/.building`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the trees go, each into a directory of its name.
    #[must_use]
    pub fn trees(&self) -> PathBuf {
        self.path.join("trees")
    }

    /// Where the databases go.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join("database")
    }

    /// Where the records of the files go: `files.jsonl.zst`.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.path.join("files.jsonl.zst")
    }

    /// The newest good day; None for the very first one.
    #[must_use]
    pub fn previous(&self) -> Option<&Day> {
        self.previous.as_ref()
    }

    /// The newest good days, the newest first: enough of them to tell what a day takes.
    pub fn recent(&self) -> impl Iterator<Item = &Day> {
        self.previous.iter().chain(self.older.iter().rev())
    }

    /// True when nothing may be hard-linked from an earlier day.
    #[must_use]
    pub fn is_base(&self) -> bool {
        self.base
    }

    /// True when the trees hold what an interrupted run had copied.
    #[must_use]
    pub fn picked_up(&self) -> bool {
        self.picked_up
    }

    /// What the interrupted run has put there already. Others may have used some of it: good for a forecast.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub fn taken(&self) -> Result<Used, Error> {
        let Some(then) = self.begun_with.filter(|_| self.picked_up) else { return Ok(Used::default()) };
        let now = used(&self.path)?;
        Ok(Used {
            bytes: now.bytes.saturating_sub(then.bytes),
            inodes: now.inodes.saturating_sub(then.inodes),
        })
    }

    /// The day's number.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Seals the day: everything in it is flushed, then described by its manifest, then named. The vault fills in what it
    /// answers for: format, repository, name, sequence number, base, run and digests. `databases` goes into the seal
    /// record beside the days: what the server sent, summed on its way.
    ///
    /// # Errors
    /// It is not sealed, and stays for the next run to pick up. When only the links could not be moved the day is sealed
    /// all the same, and the next lock of the vault moves them.
    pub fn seal(self, mut manifest: Manifest, databases: Vec<DatabaseSeal>) -> Result<Day, Error> {
        self.refuse_unsealable(&manifest)?;
        self.put_strays_aside(&manifest)?;
        let name = self.free_name(manifest.freeze_point)?;
        manifest.format = FORMAT;
        self.locked.repository().clone_into(&mut manifest.repository);
        manifest.sequence = self.sequence;
        manifest.base = self.base;
        manifest.run = self.run;
        manifest.base_day = match &self.previous {
            Some(day) if !self.base => day.manifest().base_day.clone(),
            _ => name.clone(),
        };
        manifest.day.clone_from(&name);
        guide::write(&self.path, &manifest)?;
        manifest.digests = digest::of_day(&self.path, self.previous.as_ref())?;
        self.flush()?;
        let file = self.path.join(MANIFEST);
        let mut text = serde_json::to_vec_pretty(&manifest)
            .map_err(|source| Error::Manifest { path: file.clone(), source })?;
        text.push(b'\n');
        let digest = seals::write_digest(&self.path, &text)?;
        fs::write_durable(&file, &text)?;
        self.locked.write_seal(&seals::record(&manifest, digest, databases))?;
        // What is sealed is not changed by a careless hand. Its files keep the modes they had in the repository.
        fs::set_mode(&self.path, 0o550)?;
        fs::sync_dir(&self.path)?;
        let day = self.locked.days_path().join(&name);
        fs::rename_new(&self.path, &day)?;
        self.locked.mend_links(manifest.sealed.max(manifest.freeze_point))?;
        Ok(Day::new(day, manifest))
    }

    /// Everything in it is on the disk. What the kernel could not write there it does not try again, and it tells so once: after that a file
    /// looks whole until it is read from the disk. So the next run must not pick any of it up, and does not without its origin.
    fn flush(&self) -> Result<(), Error> {
        let flushed = fs::sync_volume(&self.opened, &self.path);
        if flushed.is_err() {
            let _ = fs::remove_file_durable(&self.locked.days_path().join(ORIGIN));
        }
        Ok(flushed?)
    }

    /// An interrupted run may have left a tree that is not configured any more: nothing describes it, so it is not in the day.
    fn put_strays_aside(&self, manifest: &Manifest) -> Result<(), Error> {
        for name in fs::names_in(&self.trees())? {
            if !name.to_str().is_some_and(|name| manifest.trees.contains_key(name)) {
                self.locked.put_aside(&self.trees().join(name), "tree")?;
            }
        }
        Ok(())
    }

    fn refuse_unsealable(&self, manifest: &Manifest) -> Result<(), Error> {
        let missing = |name: &str| !self.path.join(name).exists();
        let tree = manifest.trees.keys().find(|tree| !self.trees().join(tree).is_dir());
        let problem = if let Some(tree) = tree {
            format!("the tree {tree} is not there")
        } else if !manifest.trees.is_empty() && missing("files.jsonl.zst") {
            "it has trees but no records of their files".to_owned()
        } else if let Some(check) = manifest.checks.iter().find(|check| check.missing > check.allowed) {
            format!("the cross-check {} misses {} files", check.name, check.missing)
        } else {
            return Ok(());
        };
        Err(Error::Unsealable { path: self.path.clone(), problem })
    }

    /// The freeze point's name, or with `-2` to `-9` when the second has a day already.
    fn free_name(&self, freeze_point: Timestamp) -> Result<String, Error> {
        let first = name_of(freeze_point);
        let days = self.locked.days_path();
        let others = (2..=9).map(|number| format!("{first}-{number}"));
        for name in std::iter::once(first.clone()).chain(others) {
            if !fs::exists(&days.join(&name))? {
                return Ok(name);
            }
        }
        Err(Error::NameTaken { path: days.join(first) })
    }

    /// Gives up. What was built stays for the next run to pick up; so does a writer that is dropped or killed.
    pub fn abandon(self) {}
}
