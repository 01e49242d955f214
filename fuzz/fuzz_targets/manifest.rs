//! A vault whose records hold anything: manifest, seal and proofs of a day, and what the state directory has.
//!
//! The first byte chooses the record, the rest is its content; a seal gets the digest that belongs to it, since who tampers can count too. A
//! day that is listed as good names nothing outside of itself, and what was read is written and read again as the same.
#![no_main]

use std::cell::OnceCell;
use std::fs;
use std::path::{Component, Path, PathBuf};

use daykeep::manifest::{Manifest, SealRecord};
use daykeep::{hold, journal, vault};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

const DAY: &str = "2026-11-21T010000Z";

thread_local! {
    static PLACE: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
}

fn place() -> PathBuf {
    PLACE.with(|place| {
        let made = || {
            let place = tempfile::tempdir().expect("a place");
            for directory in ["vault/app/days", "vault/app/seals", "vault/app/proofs", "state/app/jobs"] {
                fs::create_dir_all(place.path().join(directory)).expect("a directory");
            }
            fs::create_dir(place.path().join("vault/app/days").join(DAY)).expect("a directory");
            place
        };
        place.get_or_init(made).path().to_owned()
    })
}

fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none()
}

fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    parts.clone().next().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn read_again<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_vec(value).expect("what was read can be written");
    serde_json::from_slice(&text).expect("what was written can be read")
}

fuzz_target!(|data: &[u8]| {
    let Some((which, content)) = data.split_first() else { return };
    let place = place();
    let vault = vault::Vault::open(&place.join("vault"), "app").expect("a vault");
    let now = "2026-11-22T00:00:00Z".parse().expect("a time");
    match which % 5 {
        0 => {
            let day = place.join("vault/app/days").join(DAY);
            fs::write(day.join("manifest.json"), content).expect("writes");
            let days = vault.days(now).expect("a damaged day is no error");
            for day in &days.good {
                let manifest = day.manifest();
                let mut again: Manifest = read_again(manifest);
                // serde_json may read a number with a fraction as its neighbour.
                again.hold.held_seconds = manifest.hold.held_seconds;
                assert_eq!(&again, manifest);
                assert!(manifest.trees.keys().all(|name| is_plain(name)), "{:?}", manifest.trees);
                assert!(manifest.digests.keys().all(|path| is_below(path)), "{:?}", manifest.digests);
                let databases = manifest.database.iter().flat_map(|of| &of.databases);
                assert!(databases.into_iter().all(|database| is_plain(&database.directory)));
                let _ = daykeep::config::parse(day.path(), &manifest.configuration);
            }
            let candidates = vault.candidates(now).expect("a damaged day is no error");
            assert_eq!(candidates.len(), 1);
            for word in ["latest", "day1", "2026-11-21", DAY] {
                let chosen = vault.choose_any(word, now);
                assert!(chosen.is_ok() || days.good.is_empty() || word == "day1");
            }
        }
        1 => {
            let mut text = content.to_vec();
            if !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            let digest = format!("{{\"blake3\":\"{}\"}}\n", blake3::hash(&text).to_hex());
            text.extend_from_slice(digest.as_bytes());
            fs::write(place.join("vault/app/seals").join(format!("{DAY}.json")), text).expect("writes");
            if let Ok(seal) = vault.seal_of(DAY) {
                let seal: SealRecord = seal.expect("it is there");
                assert_eq!(read_again(&seal), seal);
            }
        }
        2 => {
            fs::write(place.join("vault/app/proofs").join(format!("{DAY}.json")), content).expect("writes");
            if let Ok(proofs) = vault.proofs(DAY) {
                let _ = vault::proven(&proofs);
            }
        }
        3 => {
            fs::write(place.join("state/app/hold.json"), content).expect("writes");
            let _ = hold::pending(&place.join("state"));
        }
        _ => {
            fs::write(place.join("state/app/jobs/7.jsonl"), content).expect("writes");
            let _ = journal::jobs(&place.join("state"));
        }
    }
});
