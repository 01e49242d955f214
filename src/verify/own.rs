//! The day's own files, all outside `trees/`: which there are, and what they are for.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::gather::Gather;
use super::report::{Damage, Fault, Part, relative};
use super::{Choice, Error};
use crate::fs::{self, OnPath as _};
use crate::manifest::{Manifest, PathBytes};
use crate::vault::Day;

/// The files that say what the day is, which have no digest among the others.
const ABOVE: [&str; 2] = ["manifest.json", "manifest.blake3"];

/// The regular files that were found outside `trees/`, by path relative to the day, with their sizes.
pub(super) type Found = BTreeMap<PathBuf, u64>;

/// Lists what is there, and tells what nothing knows and what is missing.
pub(super) fn list(day: &Day, gather: &Gather) -> Result<Found, Error> {
    let manifest = day.manifest();
    let (mut found, mut open) = (Found::new(), vec![PathBuf::new()]);
    while let Some(directory) = open.pop() {
        gather.check()?;
        let names = match fs::names_in(&day.path().join(&directory)) {
            Ok(names) => names,
            Err(error) => {
                let problem = format!("{error}: {}", error.source);
                gather.add(damage(manifest, &directory, Fault::Unreadable, problem));
                continue;
            }
        };
        for name in names {
            let path = directory.join(&name);
            let kind = match fs::look_at(&day.path().join(&path)) {
                Ok(kind) => kind,
                Err(error) => {
                    let problem = format!("{error}: {}", error.source);
                    gather.add(damage(manifest, &path, Fault::Unreadable, problem));
                    continue;
                }
            };
            if kind.is_dir() && is_known_directory(manifest, &path) {
                if path != Path::new("trees") {
                    open.push(path);
                }
            } else if kind.is_file() && is_known_file(manifest, &path) {
                found.insert(path, kind.len());
            } else {
                foreign(manifest, &path, gather);
            }
        }
    }
    strays_beside_the_trees(day, gather)?;
    for name in manifest.digests.keys().filter(|name| !found.contains_key(Path::new(name))) {
        let part = part_of(manifest, Path::new(name));
        // Segments are told by the rows that they hold.
        if concerns(&part, &gather.choice) && !is_segment(Path::new(name)) {
            gather.add(damage(manifest, Path::new(name), Fault::Missing, "it is not there".to_owned()));
        }
    }
    Ok(found)
}

fn is_known_directory(manifest: &Manifest, path: &Path) -> bool {
    let is_of_database = |entry: &crate::manifest::DatabaseEntry| {
        let home = Path::new("database").join(&entry.directory);
        path == home || path == home.join("tables")
    };
    path == Path::new("trees")
        || path == Path::new("database")
        || manifest.database.iter().flat_map(|database| &database.databases).any(is_of_database)
}

fn is_known_file(manifest: &Manifest, path: &Path) -> bool {
    path.to_str().is_some_and(|name| ABOVE.contains(&name) || manifest.digests.contains_key(name))
}

/// Whether it lies in a directory of segments.
pub(super) fn is_segment(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().collect();
    matches!(parts.as_slice(), [database, _, tables, _] if *database == "database" && *tables == "tables")
}

/// Whether it is read whatever the sample: the lists, and what is for people.
pub(super) fn is_small(path: &Path) -> bool {
    !is_segment(path) && path.file_name().is_none_or(|name| name != "rest.dump")
}

fn foreign(manifest: &Manifest, path: &Path, gather: &Gather) {
    if concerns(&part_of(manifest, path), &gather.choice) {
        let problem = "manifest.json does not know it".to_owned();
        gather.add(Damage {
            means: "it is no part of the day, and no restore uses it".to_owned(),
            ..damage(manifest, path, Fault::Foreign, problem)
        });
    }
}

/// What stands in `trees/` and is no tree.
fn strays_beside_the_trees(day: &Day, gather: &Gather) -> Result<(), Error> {
    let trees = day.trees();
    if !fs::exists(&trees)? {
        return Ok(());
    }
    for name in fs::names_in(&trees)? {
        if !name.to_str().is_some_and(|name| day.manifest().trees.contains_key(name)) {
            foreign(day.manifest(), &Path::new("trees").join(name), gather);
        }
    }
    Ok(())
}

/// The part of the day that a file belongs to.
pub(super) fn part_of(manifest: &Manifest, path: &Path) -> Part {
    let text = path.to_str().unwrap_or_default();
    match text {
        "manifest.json" | "manifest.blake3" => return Part::Manifest,
        "restore.sh" | "RESTORE.md" => return Part::Guide,
        "files.jsonl.zst" => return Part::Records,
        "database/globals.sql" => return Part::Globals,
        _ => {}
    }
    let databases = manifest.database.iter().flat_map(|database| &database.databases);
    let mut databases =
        databases.filter(|entry| path.starts_with(Path::new("database").join(&entry.directory)));
    databases.next().map_or(Part::Day, |entry| Part::Database { name: entry.name.clone() })
}

/// Whether a part is among what is to be looked at.
pub(super) fn concerns(part: &Part, choice: &Choice) -> bool {
    match part {
        Part::Database { name } => choice.databases.has(name),
        Part::Tree { name } => choice.trees.has(name),
        Part::Globals => !choice.databases.is_none(),
        Part::Records => !choice.trees.is_none(),
        Part::Manifest | Part::Seal | Part::Guide | Part::Day => true,
    }
}

/// A damage of one of the day's own files, with what it means.
pub(super) fn damage(manifest: &Manifest, path: &Path, fault: Fault, problem: String) -> Damage {
    let part = part_of(manifest, path);
    let means = means(&part, path);
    Damage { part, file: relative(path), fault, also: Vec::new(), problem, means, record: None }
}

fn means(part: &Part, path: &Path) -> String {
    let name = path.file_name().map(std::ffi::OsStr::as_bytes).unwrap_or_default();
    match (part, name) {
        (Part::Manifest, b"manifest.blake3") => {
            "the digest of manifest.json cannot be checked without daykeep; nothing that is restored is hurt".to_owned()
        }
        (Part::Manifest, _) => "the day cannot be restored by daykeep or restore.sh as long as it is so; its rows and files are there".to_owned(),
        (Part::Seal, _) => "a day that was changed together with its own digests would not show; what is restored is not hurt".to_owned(),
        (Part::Guide, b"restore.sh") => {
            "the day must not be restored by its own script; daykeep restore does not need it".to_owned()
        }
        (Part::Guide, _) => "the guide for people is not to be trusted; nothing that is restored is hurt".to_owned(),
        (Part::Records, _) => {
            "the files of the trees cannot be held against their records, or restored by them; restore.sh copies the trees as they are"
                .to_owned()
        }
        (Part::Globals, _) => "the roles and tablespaces cannot be restored".to_owned(),
        (Part::Database { name }, b"rest.dump") => {
            format!("the database {name} cannot be restored: its schema is in there, and all that daykeep does not copy by itself")
        }
        (Part::Database { name }, b"tables.jsonl") => format!(
            "daykeep cannot tell which rows belong to which table of the database {name}; load.txt has it for restore.sh"
        ),
        (Part::Database { name }, b"load.txt") => {
            format!("restore.sh cannot load the rows of the database {name}; tables.jsonl has them too")
        }
        (Part::Database { name }, _) => format!("the rows of the database {name} that are in it cannot be restored"),
        (Part::Tree { name }, _) => format!("what is in it of the tree {name} cannot be restored"),
        (Part::Day, _) => "what is in it cannot be restored".to_owned(),
    }
}

/// Hashes one of the day's own files and holds it against its digest.
pub(super) fn read(day: &Day, path: &Path, gather: &Gather) {
    let manifest = day.manifest();
    let Some(wanted) = path.to_str().and_then(|name| manifest.digests.get(name)) else { return };
    let digest = digest_of(&day.path().join(path), gather);
    if gather.check().is_err() {
        return;
    }
    gather.read_whole();
    match digest {
        Ok(digest) if digest == *wanted => {}
        Ok(_) => {
            let problem = "it does not have the digest in manifest.json".to_owned();
            gather.add(damage(manifest, path, Fault::Content, problem));
        }
        Err(error) => {
            let problem = format!("{error}: {}", error.source);
            gather.add(damage(manifest, path, Fault::Unreadable, problem));
        }
    }
}

fn digest_of(path: &Path, gather: &Gather) -> Result<String, fs::Error> {
    let file = fs::open_regular(path)?;
    let digest = fs::copy::content(&file, None, &mut |bytes| gather.read(bytes)).on("read", path)?;
    Ok(digest.to_hex().to_string())
}

/// A damage of the seal record.
pub(super) fn seal_damage(day: &str, fault: Fault, problem: String) -> Damage {
    let file = PathBytes(format!("seals/{day}.json").into_bytes());
    let means = means(&Part::Seal, Path::new(""));
    Damage { part: Part::Seal, file, fault, also: Vec::new(), problem, means, record: None }
}
