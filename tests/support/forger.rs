//! A sealed day that is changed with all that agrees with it.
#![allow(clippy::disallowed_methods, reason = "a test changes its own files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::shop::Shop;

/// A day that somebody changes together with all that it says of itself, but for the seal record, which lies elsewhere.
pub struct Forger {
    /// The day's directory.
    pub day: PathBuf,
    /// Its manifest, to be changed.
    pub manifest: Value,
}

impl Forger {
    pub fn of(shop: &Shop) -> Self {
        let day = shop.days()[0].path().to_owned();
        fs::set_permissions(&day, fs::Permissions::from_mode(0o750)).unwrap();
        let manifest = serde_json::from_slice(&fs::read(day.join("manifest.json")).unwrap()).unwrap();
        Self { day, manifest }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.day.join("database/shop").join(name)
    }

    pub fn edit(&self, name: &str, edit: impl Fn(String) -> String) {
        let path = self.file(name);
        let before = fs::read_to_string(&path).unwrap();
        let after = edit(before.clone());
        assert_ne!(before, after, "{name}");
        fs::write(path, after).unwrap();
    }

    /// Changes a figure of the manifest.
    pub fn less(&mut self, pointer: &str, by: u64) {
        let figure = self.manifest.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"));
        *figure = json!(figure.as_u64().unwrap() - by);
    }

    /// Where the shop's database stands in the manifest.
    pub fn entry(&self) -> String {
        let all = self.manifest["database"]["databases"].as_array().unwrap();
        let at = all.iter().position(|entry| entry["name"] == "shop").unwrap();
        format!("/database/databases/{at}")
    }

    /// Writes every digest anew, and the seal record, too: somebody who may write everywhere in the vault.
    pub fn seal_with_record(self) {
        let day = self.day.clone();
        self.seal();
        let digest = blake3::hash(&fs::read(day.join("manifest.json")).unwrap()).to_hex().to_string();
        let name = day.file_name().unwrap().to_str().unwrap();
        let path = day.parent().unwrap().with_file_name("seals").join(format!("{name}.json"));
        // The record, and a line with its digest.
        let content = fs::read(&path).unwrap();
        let mut record: Value =
            serde_json::Deserializer::from_slice(&content).into_iter().next().unwrap().unwrap();
        record["manifest"] = json!(digest);
        let text = format!("{record}\n");
        let line = format!("{{\"blake3\":\"{}\"}}\n", blake3::hash(text.as_bytes()).to_hex());
        fs::write(path, text + &line).unwrap();
    }

    /// Writes every digest anew.
    pub fn seal(mut self) {
        let digests = self.manifest["digests"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        for name in digests {
            let content = fs::read(self.day.join(&name));
            let entries = self.manifest["digests"].as_object_mut().unwrap();
            match content {
                Ok(content) => entries.insert(name, json!(blake3::hash(&content).to_hex().to_string())),
                Err(_) => entries.remove(&name),
            };
        }
        let tables = fs::read_dir(self.file("tables")).unwrap();
        for table in tables {
            let path = table.unwrap().path();
            let name = path.strip_prefix(&self.day).unwrap().to_str().unwrap().to_owned();
            let digest = blake3::hash(&fs::read(&path).unwrap()).to_hex().to_string();
            self.manifest["digests"].as_object_mut().unwrap().insert(name, json!(digest));
        }
        let text = serde_json::to_vec_pretty(&self.manifest).unwrap();
        fs::write(self.day.join("manifest.json"), &text).unwrap();
        let line = format!("{}  manifest.json\n", blake3::hash(&text).to_hex());
        fs::write(self.day.join("manifest.blake3"), line).unwrap();
        fs::set_permissions(&self.day, fs::Permissions::from_mode(0o550)).unwrap();
    }

    /// The record of a table of the shop's.
    pub fn table(&self, name: &str) -> Value {
        let list = fs::read_to_string(self.file("tables.jsonl")).unwrap();
        let mut records = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.find(|record| record["name"] == name).unwrap()
    }
}
