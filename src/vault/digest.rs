//! The digests of a day's own files: all outside `trees/`, whose files have theirs in the records.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fs::{self, OnPath as _};
use crate::vault::day::{MANIFEST, MANIFEST_DIGEST};
use crate::vault::{Day, Error};

/// Files that are hashed at the same time.
const THREADS: usize = 4;

/// BLAKE3 of every file below `day` but for those in `trees/`, the manifest and its digest, by path relative to the day.
///
/// A file that is the same inode as yesterday's of that path has yesterday's digest: a sealed day does not change. So
/// sealing does not read the segments that were only linked.
pub(super) fn of_day(day: &Path, previous: Option<&Day>) -> Result<BTreeMap<String, String>, Error> {
    let mut known = BTreeMap::new();
    let mut unknown = Vec::new();
    for path in files_below(day)? {
        let relative = path.strip_prefix(day).unwrap_or(&path);
        let Some(name) = relative.to_str() else {
            let problem = format!("the name {} is not UTF-8", relative.display());
            return Err(Error::Unsealable { path: day.to_owned(), problem });
        };
        match previous.and_then(|previous| known_digest(previous, &path, name)) {
            Some(digest) => _ = known.insert(name.to_owned(), digest),
            None => unknown.push((name.to_owned(), path)),
        }
    }
    known.extend(hash_all(&unknown)?);
    Ok(known)
}

fn files_below(day: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut directories = vec![day.to_owned()];
    while let Some(directory) = directories.pop() {
        for name in fs::names_in(&directory)? {
            if directory == *day && (name == "trees" || name == MANIFEST || name == MANIFEST_DIGEST) {
                continue;
            }
            let path = directory.join(name);
            let kind = fs::look_at(&path)?.file_type();
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file() {
                files.push(path);
            } else {
                let problem = format!("{} is neither a file nor a directory", path.display());
                return Err(Error::Unsealable { path: day.to_owned(), problem });
            }
        }
    }
    Ok(files)
}

fn known_digest(previous: &Day, path: &Path, name: &str) -> Option<String> {
    let digest = previous.manifest().digests.get(name)?;
    let inode = |path: &Path| fs::look_at(path).ok().map(|file| (file.dev(), file.ino()));
    (inode(path)? == inode(&previous.path().join(name))?).then(|| digest.clone())
}

fn hash_all(files: &[(String, PathBuf)]) -> Result<Vec<(String, String)>, Error> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut hashed = Vec::new();
        while let Some((name, path)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            hashed.push((name.clone(), hash(path)?));
        }
        Ok(hashed)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS.min(files.len())).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::with_capacity(files.len());
        for thread in threads {
            let hashed: Result<Vec<_>, Error> =
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.extend(hashed?);
        }
        Ok(all)
    })
}

fn hash(path: &Path) -> Result<String, Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::open_regular(path)?).on("read", path)?;
    Ok(hasher.finalize().to_hex().to_string())
}
