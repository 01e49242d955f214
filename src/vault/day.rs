//! A sealed day, and whether it is a good one.

use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::fs;
use crate::manifest::{FORMAT, LONGEST_PAGE, Manifest};
use crate::vault::Vault;
use crate::vault::seals::digest_line;

/// The file that makes a directory a day.
pub(super) const MANIFEST: &str = "manifest.json";
/// Its digest, as `b3sum` writes it.
pub(super) const MANIFEST_DIGEST: &str = "manifest.blake3";
/// How far ahead of the clock a day may be dated: what two clocks may disagree by.
pub const AHEAD: SignedDuration = SignedDuration::from_hours(1);
const NAME: &str = "%Y-%m-%dT%H%M%SZ";

/// A day that is whole: its manifest was read, and says what the directory's name says.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    path: PathBuf,
    manifest: Manifest,
}

impl Day {
    pub(super) fn new(path: PathBuf, manifest: Manifest) -> Self {
        Self { path, manifest }
    }

    /// Its name: the freeze point in UTC, `2026-11-21T010000Z`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.manifest.day
    }

    /// The vault that it lies in.
    #[must_use]
    pub fn vault(&self) -> Vault {
        let days = fs::parent_of(&self.path);
        Vault::around(fs::parent_of(days).to_owned(), &self.manifest.repository)
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The records of its files, `files.jsonl.zst`.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.path.join("files.jsonl.zst")
    }

    /// The directory of its trees.
    #[must_use]
    pub fn trees(&self) -> PathBuf {
        self.path.join("trees")
    }

    /// The directory of its databases.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join("database")
    }

    /// Reads a day as far as its manifest can be read, whatever else is wrong with it.
    pub(super) fn read_doubtful(path: PathBuf, name: &str, repository: &str) -> Option<Self> {
        let bytes = fs::read_regular(&path.join(MANIFEST), LONGEST_PAGE).ok()??;
        let manifest = parse(&bytes).ok()?;
        let is_its_own = manifest.day == name && manifest.repository == repository;
        (is_its_own && manifest.leads_out().is_none()).then_some(Self { path, manifest })
    }

    /// Reads a day; the error is the reason why it is not a good one.
    pub(super) fn read(path: PathBuf, name: &str, repository: &str, now: Timestamp) -> Result<Self, Doubt> {
        if parse_name(name).is_none() {
            return Err(Doubt::plain("its name is not that of a day"));
        }
        let file = path.join(MANIFEST);
        let bytes = match fs::read_regular(&file, LONGEST_PAGE) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(Doubt::plain("it has no manifest.json")),
            Err(error) => return Err(Doubt::plain(format!("{error}: {}", error.source))),
        };
        let manifest = parse(&bytes).map_err(Doubt::plain)?;
        let reason = disagreement(&manifest, name, repository).or_else(|| wrong_digest(&path, &bytes));
        let ahead = manifest.freeze_point.duration_since(now) > AHEAD;
        match reason {
            Some(reason) => Err(Doubt { reason, sequence: Some(manifest.sequence), future: false }),
            None if ahead => {
                let reason =
                    format!("it is dated in the future: the clock says {now:.0}; it or the day is wrong");
                Err(Doubt { reason, sequence: Some(manifest.sequence), future: true })
            }
            None => Ok(Self { path, manifest }),
        }
    }
}

/// Why a directory among the days is not a good day.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) reason: String,
    /// Its sequence number, if it could be read.
    pub(super) sequence: Option<u64>,
    /// Only its date is wrong.
    pub(super) future: bool,
}

impl Doubt {
    fn plain(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), sequence: None, future: false }
    }
}

#[derive(serde::Deserialize)]
struct FormatOnly {
    format: u32,
}

/// The format is looked at first: a manifest of a later format need not parse as one of ours.
fn parse(bytes: &[u8]) -> Result<Manifest, String> {
    let damaged = |error: serde_json::Error| format!("its manifest.json is damaged: {error}");
    let FormatOnly { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format != FORMAT {
        return Err(format!("it has format {format}, and this daykeep reads format {FORMAT}"));
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

fn disagreement(manifest: &Manifest, name: &str, repository: &str) -> Option<String> {
    let Manifest { day, repository: of, freeze_point, .. } = manifest;
    if day != name {
        return Some(format!("its manifest.json is that of the day {day}"));
    }
    if of != repository {
        return Some(format!("it is a day of the repository {of}"));
    }
    if !name.starts_with(&name_of(*freeze_point)) {
        return Some(format!("its name does not fit its freeze point, {freeze_point}"));
    }
    let out = manifest.leads_out()?;
    Some(format!(
        "its manifest.json has the name {out:?}, which leads out of the day: somebody tampered with it"
    ))
}

/// A day made before there were such files has none, and is good all the same.
fn wrong_digest(day: &Path, manifest: &[u8]) -> Option<String> {
    let path = day.join(MANIFEST_DIGEST);
    let said = match fs::read_regular(&path, LONGEST_PAGE) {
        Ok(Some(said)) => said,
        Ok(None) => return None,
        Err(error) => return Some(format!("{error}: {}", error.source)),
    };
    let is = digest_line(&blake3::hash(manifest).to_hex());
    (said != is.as_bytes()).then(|| {
        format!("its manifest.json does not have the digest in {MANIFEST_DIGEST}: one of them is damaged")
    })
}

/// The name of a day with this freeze point: UTC, so that names sort and no clock change makes two equal.
#[must_use]
pub fn name_of(freeze_point: Timestamp) -> String {
    freeze_point.to_zoned(TimeZone::UTC).strftime(NAME).to_string()
}

/// The instant in a day's name (whole seconds); None when it is not one. `...Z-2` to `...Z-9` are further days of the
/// same second.
pub(super) fn parse_name(name: &str) -> Option<Timestamp> {
    let instant = match name.split_once("Z-") {
        Some((_, number)) if !matches!(number.as_bytes(), [b'2'..=b'9']) => return None,
        Some((_, number)) => name.strip_suffix(number)?.strip_suffix('-')?,
        None => name,
    };
    let parsed = DateTime::strptime(NAME, instant).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    (name_of(parsed) == instant).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::{name_of, parse_name};

    #[test]
    fn names_are_instants_and_sort() {
        let instant: jiff::Timestamp = "2026-11-21T01:00:00.9Z".parse().unwrap();
        let name = name_of(instant);
        assert_eq!(name, "2026-11-21T010000Z");
        assert_eq!(parse_name(&name).unwrap().to_string(), "2026-11-21T01:00:00Z");
        assert_eq!(parse_name("2026-11-21T010000Z-2"), parse_name(&name));
        assert!(*name < *"2026-11-21T010000Z-2" && *"2026-11-21T010000Z-2" < *"2026-11-21T010001Z");
        for wrong in [
            "",
            "lost+found",
            "2026-11-21",
            "2026-11-21T010000Z-1",
            "2026-11-21T010000Z-x",
            "2026-13-21T010000Z",
        ] {
            assert_eq!(parse_name(wrong), None, "{wrong}");
        }
    }
}
