//! The directory that a scratch server and all that belongs to it lie in.
//!
//! `<directory>/scratch-<unique>/` holds the marker file `daykeep-scratch`, which is locked (flock) as long as its process lives. What
//! bears no marker is never touched. Killed right here, what does the next one see? A directory without a marker is empty: it
//! was just made, or is all but removed. One with a marker that nobody locks is a leftover: the processes that were started for it (they bear
//! its name) are ended, and it is removed, the marker last.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;

use super::ScratchError;
use crate::fs;
use crate::process;

/// The file that says: this may be removed.
const MARKER: &str = "daykeep-scratch";
/// What the names begin with.
const PREFIX: &str = "scratch-";
/// Keeps two of us out of one directory.
const LOCK: &str = ".lock";
/// How long the processes of a killed one may take to end by themselves: their server ends with its starter.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const REMOVERS: usize = 2;

/// A directory of our own, marked and locked. [Remove it](Self::remove) when it has served; a forgotten one goes with the next.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    name: String,
    /// The locks end with these files.
    _marker: File,
    _directory: File,
}

impl ScratchDir {
    /// Makes one in `directory`, which is made if it is missing. Leftovers of processes that were killed are ended and removed first;
    /// gives how many there were.
    ///
    /// # Errors
    /// Somebody else uses the directory right now, or it cannot be written.
    pub async fn make(directory: &Path, now: Timestamp) -> Result<(Self, usize), ScratchError> {
        fs::create_dir_durable(directory)?;
        let directory = fs::real_path(directory)?;
        let Some(lock) = fs::lock_file(&directory.join(LOCK))? else {
            return Err(ScratchError::Busy { directory });
        };
        let removed = remove_leftovers(&directory).await?;
        let name = format!("{PREFIX}{}-{:x}", std::process::id(), now.as_nanosecond());
        let path = directory.join(&name);
        fs::create_dir_durable(&path)?;
        fs::set_mode(&path, 0o700)?;
        let marker = path.join(MARKER);
        let Some(held) = fs::lock_file(&marker)? else {
            return Err(ScratchError::Busy { directory });
        };
        fs::sync_dir(&path)?;
        Ok((Self { path, name, _marker: held, _directory: lock }, removed))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name, which every process that is started for it bears.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Removes it with all that is in it, when whatever was started for it has ended, as it is told to.
    ///
    /// # Errors
    /// Something in it cannot be removed; the next one tries again.
    pub async fn remove(self) -> Result<(), ScratchError> {
        end_processes_of(&self.name).await?;
        remove(&self.path).await
    }

    /// Leaves it where it is, as a directory that daykeep does not know any more; gives its path.
    ///
    /// # Errors
    /// The marker cannot be removed.
    pub fn keep(self) -> Result<PathBuf, ScratchError> {
        // Its name must not look like one of ours either.
        let kept = self.path.with_file_name(self.name.replacen(PREFIX, "kept-", 1));
        fs::rename_durable(&self.path, &kept)?;
        fs::remove_file_durable(&kept.join(MARKER))?;
        Ok(kept)
    }
}

async fn remove_leftovers(directory: &Path) -> Result<usize, ScratchError> {
    let mut removed = 0;
    for name in fs::names_in(directory)? {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let path = directory.join(name);
        if !fs::look_at(&path)?.is_dir() {
            continue;
        }
        let marker = path.join(MARKER);
        if fs::exists(&marker)? {
            // Its owner lives: it is none of our business.
            let Some(_unlocked) = fs::lock_file(&marker)? else { continue };
            end_processes_of(name).await?;
            remove(&path).await?;
        } else if fs::names_in(&path)?.is_empty() {
            fs::remove_tree(&path, 1, &|_| true)?;
        } else {
            continue;
        }
        removed += 1;
    }
    Ok(removed)
}

/// Ends the process groups that were started for the directory of this name, and waits until they have ended.
async fn end_processes_of(name: &str) -> Result<(), ScratchError> {
    let mut waited = Duration::ZERO;
    loop {
        let groups = groups_of(name)?;
        if groups.is_empty() {
            return Ok(());
        }
        // They are ending since their starter is gone; what does not is told to, at last in the hard way.
        let signal = if waited < PATIENCE { Signal::SIGQUIT } else { Signal::SIGKILL };
        for group in groups {
            process::signal_group(group, signal).map_err(|source| ScratchError::Leftover {
                group,
                name: name.to_owned(),
                source,
            })?;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
}

fn groups_of(name: &str) -> Result<Vec<i32>, ScratchError> {
    let bears = |word: &String| word == name || word.strip_prefix("cluster_name=") == Some(name);
    let mut groups: Vec<i32> = process::all()
        .map_err(ScratchError::Process)?
        .into_iter()
        .filter(|process| process.argv.iter().any(bears))
        .map(|process| process.group)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

/// Everything in it, then the marker, then itself: a half removed one is still known as one of ours.
async fn remove(path: &Path) -> Result<(), ScratchError> {
    let path = path.to_owned();
    let removing = tokio::task::spawn_blocking(move || {
        let going = |_| true;
        for name in fs::names_in(&path)? {
            if name != MARKER {
                fs::remove_tree(&path.join(name), REMOVERS, &going)?;
            }
        }
        fs::remove_file(&path.join(MARKER))?;
        fs::remove_tree(&path, 1, &going).map(|_| ())
    });
    Ok(removing.await.map_err(|_| ScratchError::Panicked)??)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{MARKER, ScratchDir};
    use crate::fs;
    use crate::postgres::ScratchError;

    #[tokio::test]
    async fn only_what_bears_the_marker_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let now = Timestamp::UNIX_EPOCH;
        fs::create_dir_durable(&at("scratch-of-somebody/with/files")).unwrap();
        fs::create_dir_durable(&at("scratch-9-empty")).unwrap();
        fs::create_dir_durable(&at("scratch-9-left/cluster/data")).unwrap();
        fs::write_durable(&at("scratch-9-left").join(MARKER), b"").unwrap();
        fs::write_durable(&at("outside"), b"stays").unwrap();
        std::os::unix::fs::symlink(at("outside"), at("scratch-9-left/link")).unwrap();
        std::os::unix::fs::symlink(at("scratch-of-somebody"), at("scratch-9-link")).unwrap();
        let (scratch, removed) = ScratchDir::make(place.path(), now).await.unwrap();
        assert_eq!(removed, 2);
        let busy = ScratchDir::make(place.path(), now).await.unwrap_err();
        assert!(matches!(busy, ScratchError::Busy { .. }), "{busy}");
        assert!(scratch.path().join(MARKER).exists());
        scratch.remove().await.unwrap();
        let left = fs::names_in(place.path()).unwrap();
        assert_eq!(left, [".lock", "outside", "scratch-9-link", "scratch-of-somebody"]);
        assert!(at("scratch-of-somebody/with/files").is_dir());
    }

    #[tokio::test]
    async fn what_is_kept_is_not_ours_any_more() {
        let place = tempfile::tempdir().unwrap();
        let (scratch, _) = ScratchDir::make(place.path(), Timestamp::UNIX_EPOCH).await.unwrap();
        fs::write_durable(&scratch.path().join("file"), b"").unwrap();
        let kept = scratch.keep().unwrap();
        let (next, removed) = ScratchDir::make(place.path(), Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(removed, 0);
        next.remove().await.unwrap();
        assert_eq!(fs::names_in(&kept).unwrap(), ["file"]);
    }
}
