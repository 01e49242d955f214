//! Where a database's segments are put: linked from the day before when equal, as a patch when changed, or in full.
//!
//! The day before is only ever read and linked. Nothing of it is trusted for its name: before a file is linked, it is read to its end and
//! held against the digest that it was sealed with; before it is patched against, its text against the digest that it is named by. One that
//! is damaged is told, and stored anew from the text at hand.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::segments;
use super::{Error, codec};
use crate::event::{Notices as _, SharedObserver};
use crate::fs::{self, OnPath as _};
use crate::manifest::Segment;

/// `tables/` of one database, and that of the day before.
pub struct Shelf {
    tables: PathBuf,
    previous: Option<PathBuf>,
    /// BLAKE3 (hex) of the files that are there, by name, from when that day was sealed.
    sealed: HashMap<String, String>,
    level: i32,
    observer: SharedObserver,
    /// How each text of today is stored: its base, if it is a patch.
    stored: Mutex<HashMap<String, Slot<Option<String>>>>,
    /// The files that are there already.
    files: Mutex<HashMap<String, Slot<bool>>>,
    new_bytes: AtomicU64,
    all_bytes: AtomicU64,
}

/// Filled once by whoever comes first; who comes meanwhile waits.
type Slot<T> = Arc<Mutex<Option<T>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of the file with a whole text.
pub fn full_name(digest: &str) -> String {
    format!("{digest}.zst")
}

/// The name of the file with a patch.
pub fn patch_name(digest: &str) -> String {
    format!("{digest}.patch.zst")
}

impl Shelf {
    /// Segments go to `tables`, which is there and empty. `previous` are those of the day before, and `sealed` the digests of its files,
    /// by name, as far as they are known.
    pub fn new(
        tables: PathBuf,
        previous: Option<PathBuf>,
        sealed: HashMap<String, String>,
        level: i32,
        observer: SharedObserver,
    ) -> Self {
        Self {
            tables,
            previous,
            sealed,
            level,
            observer,
            stored: Mutex::default(),
            files: Mutex::default(),
            new_bytes: AtomicU64::new(0),
            all_bytes: AtomicU64::new(0),
        }
    }

    /// Bytes that were written, and bytes of all files with the linked ones.
    pub fn bytes(&self) -> (u64, u64) {
        (self.new_bytes.load(Ordering::Relaxed), self.all_bytes.load(Ordering::Relaxed))
    }

    /// Stores a text. `equal` is a segment of the day before with the same digest, `near` the one that had these pages. Gives
    /// the base if it became a patch.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn store(
        &self,
        digest: &str,
        text: &[u8],
        equal: Option<&Segment>,
        near: Option<&Segment>,
    ) -> Result<Option<String>, Error> {
        let slot = locked(&self.stored).entry(digest.to_owned()).or_default().clone();
        let mut slot = locked(&slot);
        if let Some(base) = &*slot {
            return Ok(base.clone());
        }
        let base = self.decide(digest, text, equal, near)?;
        *slot = Some(base.clone());
        Ok(base)
    }

    fn decide(
        &self,
        digest: &str,
        text: &[u8],
        equal: Option<&Segment>,
        near: Option<&Segment>,
    ) -> Result<Option<String>, Error> {
        if let Some(equal) = equal
            && self.link_segment(equal)?
        {
            return Ok(equal.base.clone());
        }
        if let Some(near) = near
            && let Some(base) = self.patch(digest, text, near)?
        {
            return Ok(Some(base));
        }
        self.ensure(&full_name(digest), || {
            let path = self.tables.join(full_name(digest));
            let frame = codec::compress(text, self.level).on("compress", &path)?;
            self.write(&path, &frame)
        })?;
        Ok(None)
    }

    /// A patch against the base of `near`: depth one, whatever `near` itself is.
    fn patch(&self, digest: &str, text: &[u8], near: &Segment) -> Result<Option<String>, Error> {
        let base = near.base.as_ref().unwrap_or(&near.blake3);
        let Some((base_text, base_file)) = self.base_text(base)? else { return Ok(None) };
        let path = self.tables.join(patch_name(digest));
        let Some(delta) = codec::patch(&base_text, text, self.level).on("compress", &path)? else {
            return Ok(None);
        };
        // As well as the base compresses, so would this text.
        let full = (text.len() as u64).saturating_mul(base_file) / (base_text.len() as u64).max(1);
        if !segments::pays(delta.len() as u64, full) || !self.link(&full_name(base))? {
            return Ok(None);
        }
        self.ensure(&patch_name(digest), || self.write(&path, &delta))?;
        Ok(Some(base.clone()))
    }

    /// The text of a base of the day before, proven to be it, and the length of its file.
    fn base_text(&self, base: &str) -> Result<Option<(Vec<u8>, u64)>, Error> {
        let Some(previous) = &self.previous else { return Ok(None) };
        let path = previous.join(full_name(base));
        if !fs::exists(&path)? {
            self.damaged(&path, "it is not there");
            return Ok(None);
        }
        let file = fs::open_regular(&path)?;
        let length = file.metadata().on("look at", &path)?.len();
        match codec::read_text(file, codec::LONGEST_BASE) {
            Ok(Some(text)) if blake3::hash(&text).to_hex().as_str() == base => Ok(Some((text, length))),
            Ok(Some(_)) => {
                self.damaged(&path, "its text has another digest");
                Ok(None)
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.damaged(&path, &error.to_string());
                Ok(None)
            }
        }
    }

    /// Links what `segment` is made of into today, after a check. False: it cannot be used.
    pub fn link_segment(&self, segment: &Segment) -> Result<bool, Error> {
        let Some(previous) = &self.previous else { return Ok(false) };
        let name = match &segment.base {
            None => full_name(&segment.blake3),
            Some(_) => patch_name(&segment.blake3),
        };
        let base_name = segment.base.as_ref().map(|base| full_name(base));
        let names = || base_name.iter().chain([&name]);
        if names().all(|name| self.sealed.contains_key(name)) {
            for name in names() {
                if !self.is_as_sealed(&previous.join(name), &self.sealed[name])? {
                    return Ok(false);
                }
            }
            return self.link_all(names());
        }
        let base_text = match &segment.base {
            None => None,
            Some(base) => match self.base_text(base)? {
                Some((text, _)) => Some(text),
                None => return Ok(false),
            },
        };
        let path = previous.join(&name);
        if !fs::exists(&path)? {
            self.damaged(&path, "it is not there");
            return Ok(false);
        }
        match codec::digest_of(fs::open_regular(&path)?, base_text.as_deref()) {
            Ok(digest) if digest.to_hex().as_str() == segment.blake3 => {}
            Ok(_) => {
                self.damaged(&path, "its text has another digest");
                return Ok(false);
            }
            Err(error) => {
                self.damaged(&path, &error.to_string());
                return Ok(false);
            }
        }
        self.link_all(names())
    }

    fn link_all<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<bool, Error> {
        for name in names {
            if !self.link(name)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a file of the day before is still the one that was sealed: compressed, it is a fraction of the text to read.
    fn is_as_sealed(&self, path: &Path, digest: &str) -> Result<bool, Error> {
        if !fs::exists(path)? {
            self.damaged(path, "it is not there");
            return Ok(false);
        }
        let mut hasher = blake3::Hasher::new();
        match hasher.update_reader(fs::open_regular(path)?) {
            Ok(hasher) if hasher.finalize().to_hex().as_str() == digest => Ok(true),
            Ok(_) => {
                self.damaged(path, "it is not the file that was sealed");
                Ok(false)
            }
            Err(error) => {
                self.damaged(path, &error.to_string());
                Ok(false)
            }
        }
    }

    fn damaged(&self, path: &Path, why: &str) {
        self.observer.warn(format!(
            "{} of the day before is damaged ({why}): its rows are stored anew, but that day has lost them",
            path.display()
        ));
    }

    /// Links one file of the day before. False: the file system does not link it (too many links, another file system).
    fn link(&self, name: &str) -> Result<bool, Error> {
        let Some(previous) = &self.previous else { return Ok(false) };
        let (from, to) = (previous.join(name), self.tables.join(name));
        self.ensure(name, || match fs::hard_link(&from, &to) {
            Ok(()) => {
                let length = fs::look_at(&to)?.len();
                self.all_bytes.fetch_add(length, Ordering::Relaxed);
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::TooManyLinks
                        | std::io::ErrorKind::CrossesDevices
                        | std::io::ErrorKind::PermissionDenied
                        | std::io::ErrorKind::Unsupported
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        })
    }

    /// Makes a file unless it is there already; names are digests, so that what is there is the same. A failed try may be followed by
    /// another.
    fn ensure(&self, name: &str, make: impl FnOnce() -> Result<bool, Error>) -> Result<bool, Error> {
        let slot = locked(&self.files).entry(name.to_owned()).or_default().clone();
        let mut slot = locked(&slot);
        if *slot == Some(true) {
            return Ok(true);
        }
        let is_there = make()?;
        *slot = Some(is_there);
        Ok(is_there)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<bool, Error> {
        use std::io::Write as _;
        let mut file = fs::create_new(path)?;
        file.write_all(bytes).on("write", path)?;
        fs::begin_flush(&file);
        let length = bytes.len() as u64;
        self.new_bytes.fetch_add(length, Ordering::Relaxed);
        self.all_bytes.fetch_add(length, Ordering::Relaxed);
        Ok(true)
    }

    /// Stores a text that is too long for memory: written in full as it comes, then thrown away again when the day before
    /// has the same. Gives its digest and length.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn store_stream(
        &self,
        number: usize,
        next: impl FnMut() -> Option<Vec<u8>>,
        equal: impl FnOnce(&str) -> Option<Segment>,
    ) -> Result<(String, u64, Option<String>), Error> {
        let aside = self.tables.join(format!(".long-{number}"));
        let (digest, bytes) =
            codec::compress_stream(fs::create_new(&aside)?, self.level, next).on("write", &aside)?;
        let digest = digest.to_hex().to_string();
        let slot = locked(&self.stored).entry(digest.clone()).or_default().clone();
        let mut slot = locked(&slot);
        if let Some(base) = &*slot {
            fs::remove_file(&aside)?;
            return Ok((digest, bytes, base.clone()));
        }
        let base = match equal(&digest) {
            Some(equal) if self.link_segment(&equal)? => {
                fs::remove_file(&aside)?;
                equal.base
            }
            _ => {
                let path = self.tables.join(full_name(&digest));
                self.ensure(&full_name(&digest), || {
                    let length = fs::look_at(&aside)?.len();
                    fs::rename_durable(&aside, &path)?;
                    self.new_bytes.fetch_add(length, Ordering::Relaxed);
                    self.all_bytes.fetch_add(length, Ordering::Relaxed);
                    Ok(true)
                })?;
                // Nothing is left of it unless the file was there already.
                fs::remove_file(&aside)?;
                None
            }
        };
        *slot = Some(base.clone());
        Ok((digest, bytes, base))
    }
}
