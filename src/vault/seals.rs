//! The seal records, `<vault>/<repository>/seals/<day>.json`: outside the days, so that a day that was changed together with
//! all that it says of itself still shows.
//!
//! Crash argument: the record is durable before the rename that makes the day, so a day never lacks one. Killed between the
//! two, a record without a day is left: nobody asks for it, and the next day of that name writes over it. When a day is
//! removed its record goes after the day has left the list and before its directory is gone; killed in between, whoever
//! finishes the removal removes the record too.

use std::path::{Path, PathBuf};

use crate::fs;
use crate::manifest::{DatabaseSeal, FORMAT, LONGEST_PAGE, Manifest, SealRecord, TreeSeal};
use crate::vault::day::{MANIFEST, MANIFEST_DIGEST, parse_name};
use crate::vault::{Error, Locked, Vault};

impl Vault {
    /// Where the seal record of a day lies.
    #[must_use]
    pub fn seal_path(&self, day: &str) -> PathBuf {
        self.path().join("seals").join(format!("{day}.json"))
    }

    /// The seal record of a day; None for a day made before there were any.
    ///
    /// # Errors
    /// It cannot be read, or is not the record of this day.
    pub fn seal_of(&self, day: &str) -> Result<Option<SealRecord>, Error> {
        let path = self.seal_path(day);
        let Some(bytes) = fs::read_regular(&path, LONGEST_PAGE)? else { return Ok(None) };
        let damaged = |problem: String| Error::DamagedRecord { path: path.clone(), problem };
        let text = checked(&bytes)
            .ok_or_else(|| damaged("it does not have the digest in its last line".to_owned()))?;
        let record: SealRecord = serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
        if record.format != FORMAT {
            return Err(damaged(format!(
                "it has format {}, and this daykeep reads format {FORMAT}",
                record.format
            )));
        }
        if record.day != day || record.repository != self.repository() {
            return Err(damaged(format!("it is that of the day {} of {}", record.day, record.repository)));
        }
        Ok(Some(record))
    }
}

impl Locked {
    pub(super) fn write_seal(&self, record: &SealRecord) -> Result<(), Error> {
        let path = self.seal_path(&record.day);
        let mut text = serde_json::to_vec_pretty(record)
            .map_err(|source| Error::Manifest { path: path.clone(), source })?;
        text.push(b'\n');
        let digest = last_line(&text);
        text.extend_from_slice(digest.as_bytes());
        fs::create_dir_durable(fs::parent_of(&path))?;
        Ok(fs::write_durable(&path, &text)?)
    }

    /// Removes what is recorded outside the day that lay in this `.removing-*`, if no day has its name any more.
    /// `aside` is the rest of that name: the day's, and perhaps a number.
    pub(super) fn forget_records(&self, aside: &str) -> Result<(), Error> {
        let without_number = aside.rsplit_once('-').map(|(name, _)| name);
        for name in [Some(aside), without_number].into_iter().flatten() {
            if parse_name(name).is_none() || fs::exists(&self.days_path().join(name))? {
                continue;
            }
            for record in [self.seal_path(name), self.proofs_path(name)] {
                if fs::exists(&record)? {
                    fs::remove_file_durable(&record)?;
                }
            }
        }
        Ok(())
    }
}

/// What a seal record ends with: the digest of all that stands before.
fn last_line(text: &[u8]) -> String {
    format!("{{\"blake3\":\"{}\"}}\n", blake3::hash(text).to_hex())
}

/// The record without its last line, if that has the record's digest.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.strip_suffix(b"\n")?.iter().rposition(|byte| *byte == b'\n')? + 1;
    let (text, last) = bytes.split_at(end);
    (last == last_line(text).as_bytes()).then_some(text)
}

/// Writes `manifest.blake3` beside the manifest that is to come, as `b3sum -c` reads it; gives the digest.
pub(super) fn write_digest(day: &Path, manifest: &[u8]) -> Result<String, Error> {
    let digest = blake3::hash(manifest).to_hex().to_string();
    fs::write_durable(&day.join(MANIFEST_DIGEST), digest_line(&digest).as_bytes())?;
    Ok(digest)
}

/// The content of `manifest.blake3`.
pub(super) fn digest_line(digest: &str) -> String {
    format!("{digest}  {MANIFEST}\n")
}

/// What is recorded of a day that is being sealed.
pub(super) fn record(manifest: &Manifest, digest: String, databases: Vec<DatabaseSeal>) -> SealRecord {
    let trees = manifest.trees.iter().map(|(name, tree)| {
        (name.clone(), TreeSeal { entries: tree.entries, files: tree.files, bytes: tree.bytes })
    });
    SealRecord {
        format: FORMAT,
        repository: manifest.repository.clone(),
        day: manifest.day.clone(),
        sealed: manifest.sealed,
        manifest: digest,
        databases,
        trees: trees.collect(),
    }
}
