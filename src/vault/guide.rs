//! What lies in every day so that it can be restored without daykeep: `RESTORE.md` for people and `restore.sh`.

use std::io::Write as _;
use std::path::Path;

use crate::fs::{self, OnPath as _};
use crate::manifest::{LONGEST_PAGE, Manifest};
use crate::vault::day::{MANIFEST, MANIFEST_DIGEST};
use crate::vault::seals::digest_line;
use crate::vault::{Day, Error};

const GUIDE: &str = include_str!("RESTORE.md");
/// Reads `manifest.json` itself, so it is the same in every day.
const SCRIPT: &str = include_str!("restore.sh");

/// Writes both. They are flushed with the rest of the day.
pub(super) fn write(day: &Path, manifest: &Manifest) -> Result<(), Error> {
    put(&day.join("RESTORE.md"), &guide(manifest), 0o644)?;
    put(&day.join("restore.sh"), SCRIPT, 0o755)
}

impl Day {
    /// The content of a file that daykeep can write anew, because it follows from the manifest: `restore.sh`, `RESTORE.md` and, when
    /// the seal record says that the manifest is right, `manifest.blake3`. What an older daykeep wrote may have been
    /// another: the caller holds it against the digest.
    #[must_use]
    pub fn written_anew(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            "restore.sh" => Some(SCRIPT.as_bytes().to_vec()),
            "RESTORE.md" => Some(guide(self.manifest()).into_bytes()),
            MANIFEST_DIGEST => {
                let seal = self.vault().seal_of(self.name()).ok()??;
                let is = blake3::hash(&fs::read_regular(&self.path().join(MANIFEST), LONGEST_PAGE).ok()??)
                    .to_hex()
                    .to_string();
                (seal.manifest == is).then(|| digest_line(&is).into_bytes())
            }
            _ => None,
        }
    }
}

fn put(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    fs::remove_file(path)?;
    fs::create_new(path)?.write_all(text.as_bytes()).on("write", path)?;
    Ok(fs::set_mode(path, mode)?)
}

fn guide(manifest: &Manifest) -> String {
    let database = manifest.database.as_ref();
    let none = "(this day has no database)";
    let server_version = database.map_or(none, |database| database.server_version_text.as_str());
    let pg_dump_version = database.map_or(none, |database| database.pg_dump_version.as_str());
    GUIDE
        .replace("{{repository}}", &manifest.repository)
        .replace("{{day}}", &manifest.day)
        .replace("{{freeze_point}}", &format!("{:.0}", manifest.freeze_point))
        .replace("{{server_version}}", server_version)
        .replace("{{pg_dump_version}}", pg_dump_version)
}

#[cfg(test)]
mod tests {
    use super::GUIDE;

    #[test]
    fn the_guide_asks_for_nothing_that_is_not_filled_in() {
        let asked: std::collections::BTreeSet<&str> = GUIDE
            .split("{{")
            .skip(1)
            .filter_map(|rest| rest.split_once("}}"))
            .map(|(word, _)| word)
            .collect();
        let filled = ["day", "freeze_point", "pg_dump_version", "repository", "server_version"];
        assert_eq!(asked.into_iter().collect::<Vec<_>>(), filled);
    }
}
