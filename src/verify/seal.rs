//! What says what the day is: its manifest, the manifest's digest, and the seal record outside the day.

use std::path::Path;

use super::gather::Gather;
use super::own;
use super::report::{Damage, Fault};
use crate::fs;
use crate::manifest::{LONGEST_PAGE, SealRecord};
use crate::vault::{self, Day};

/// Holds the three against each other; gives the seal record, if it can be believed.
pub(super) fn check(day: &Day, gather: &Gather) -> Option<SealRecord> {
    let read = |name: &str| read_or_tell(day, name, gather);
    let manifest = read("manifest.json").unwrap_or_default();
    let digest = blake3::hash(&manifest).to_hex().to_string();
    let beside = read("manifest.blake3");
    let seal = match day.vault().seal_of(day.name()) {
        Ok(seal) => Seal::of(seal),
        Err(vault::Error::DamagedRecord { problem, .. }) => {
            gather.add(own::seal_damage(day.name(), Fault::Content, problem));
            Seal::Damaged
        }
        Err(error) => {
            gather.add(own::seal_damage(day.name(), Fault::Unreadable, error.to_string()));
            Seal::Damaged
        }
    };
    let of = |name: &str, fault, problem: &str| {
        own::damage(day.manifest(), Path::new(name), fault, problem.to_owned())
    };
    let is_right = beside.as_ref().map(|beside| *beside == format!("{digest}  manifest.json\n").into_bytes());
    match (&seal, is_right) {
        (Seal::There(seal), Some(_) | None) if seal.manifest != digest => {
            let problem = "it does not have the digest in the seal record: one of them was changed after the day was sealed";
            gather.add(of("manifest.json", Fault::Content, problem));
            return None;
        }
        (Seal::There(_), Some(false)) => {
            let problem = "it does not have the digest of manifest.json, which is as it was sealed";
            gather.add(of("manifest.blake3", Fault::Content, problem));
        }
        (Seal::There(_) | Seal::Damaged, None) => {
            gather.add(of("manifest.blake3", Fault::Missing, "it is not there"));
        }
        (_, Some(false)) => {
            let problem = "it does not have the digest in manifest.blake3: one of them is damaged";
            gather.add(of("manifest.json", Fault::Content, problem));
        }
        (Seal::Missing, Some(true)) => {
            let problem = "it is not there, and the day was sealed with one".to_owned();
            gather.add(own::seal_damage(day.name(), Fault::Missing, problem));
        }
        (Seal::Missing, None) => {
            gather.note("the day was made before there were seal records: it is held against itself only");
        }
        (Seal::There(_) | Seal::Damaged, Some(true)) => {}
    }
    let Seal::There(seal) = seal else { return None };
    compare_names(day, &seal, gather);
    Some(*seal)
}

/// None: it is not there, or cannot be read, which is told.
fn read_or_tell(day: &Day, name: &str, gather: &Gather) -> Option<Vec<u8>> {
    match fs::read_regular(&day.path().join(name), LONGEST_PAGE) {
        Ok(bytes) => bytes,
        Err(error) => {
            let problem = format!("{error}: {}", error.source);
            gather.add(own::damage(day.manifest(), Path::new(name), Fault::Unreadable, problem));
            None
        }
    }
}

enum Seal {
    There(Box<SealRecord>),
    Damaged,
    Missing,
}

impl Seal {
    fn of(record: Option<SealRecord>) -> Self {
        record.map_or(Self::Missing, |record| Self::There(Box::new(record)))
    }
}

/// The databases and trees of both must be the same; what is in them is compared where it is read.
fn compare_names(day: &Day, seal: &SealRecord, gather: &Gather) {
    let manifest = day.manifest();
    let databases = manifest.database.iter().flat_map(|database| &database.databases);
    let mut says: Vec<String> = databases.map(|entry| format!("database {}", entry.name)).collect();
    says.extend(manifest.trees.keys().map(|tree| format!("tree {tree}")));
    let mut sealed: Vec<String> =
        seal.databases.iter().map(|seal| format!("database {}", seal.name)).collect();
    sealed.extend(seal.trees.keys().map(|tree| format!("tree {tree}")));
    let add = |what: &String, problem: &str| {
        let damage = own::damage(
            manifest,
            Path::new("manifest.json"),
            Fault::Numbers,
            format!("the {what} {problem}"),
        );
        gather.add(Damage {
            means: format!("the {what} is not what it was when the day was sealed"),
            ..damage
        });
    };
    for what in sealed.iter().filter(|what| !says.contains(what)) {
        add(what, "is in the seal record and not in manifest.json");
    }
    for what in says.iter().filter(|what| !sealed.contains(what)) {
        add(what, "is in manifest.json and not in the seal record");
    }
}
