//! A day whose records hold anything, restored: nothing appears and nothing changes outside of the target.
//!
//! The content is the text of `files.jsonl.zst`, or (when it begins so) the compressed file itself. The day has a few real names to be
//! restored: a file, a directory, and symbolic links that lead out of it.
#![no_main]

use std::cell::OnceCell;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daykeep::clock::SystemClock;
use daykeep::event::{Context, Silent};
use daykeep::tree::restore::{Elsewhere, Source, elsewhere};
use libfuzzer_sys::fuzz_target;

/// zstd's magic number.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

struct Place {
    _keep: tempfile::TempDir,
    path: PathBuf,
    context: Context,
}

thread_local! {
    static PLACE: OnceCell<Place> = const { OnceCell::new() };
}

impl Place {
    fn make() -> Self {
        let keep = tempfile::tempdir().expect("a place");
        let path = keep.path().to_owned();
        for directory in ["day/trees/files/d", "canary/d"] {
            fs::create_dir_all(path.join(directory)).expect("a directory");
        }
        fs::write(path.join("canary/f"), "canary").expect("writes");
        fs::write(path.join("day/trees/files/f"), "content").expect("writes");
        fs::write(path.join("day/trees/files/d/f"), "content").expect("writes");
        symlink("../../../canary", path.join("day/trees/files/out")).expect("a link");
        symlink(path.join("canary/f"), path.join("day/trees/files/o")).expect("a link");
        let context = Context {
            observer: Arc::new(Silent),
            cancel: tokio_util::sync::CancellationToken::new(),
            clock: Arc::new(SystemClock::new()),
        };
        Self { _keep: keep, path, context }
    }

    /// Every name but those below the target, with all that a restore could change of it.
    fn picture(&self) -> Vec<(PathBuf, u32, u32, u64, i64, i64)> {
        let mut found = Vec::new();
        let mut waiting = vec![self.path.clone()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(&directory).expect("reads") {
                let path = entry.expect("reads").path();
                if path == self.path.join("to") {
                    continue;
                }
                let of = fs::symlink_metadata(&path).expect("is there");
                found.push((path.clone(), of.mode(), of.uid(), of.nlink(), of.ctime(), of.ctime_nsec()));
                if of.is_dir() {
                    waiting.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

fn clear(directory: &Path) {
    if directory.exists() {
        daykeep::fs::remove_tree(directory, 1, &|_| true).expect("what was restored can be removed");
    }
}

fuzz_target!(|data: &[u8]| {
    PLACE.with(|place| {
        let place = place.get_or_init(Place::make);
        let records = place.path.join("records");
        let bytes =
            if data.starts_with(&ZSTD) { data.to_vec() } else { zstd::encode_all(data, 1).expect("zstd") };
        fs::write(&records, bytes).expect("writes");
        clear(&place.path.join("to"));
        fs::create_dir(place.path.join("to")).expect("a directory");
        let before = place.picture();
        let wish = Elsewhere {
            source: Source {
                tree_dir: place.path.join("day/trees/files"),
                records,
                tree: "files".to_owned(),
            },
            path: None,
            target: place.path.join("to/tree"),
            jobs: 1,
            durable: false,
            expected: None,
        };
        if let Err(error) = elsewhere(&wish, &place.context) {
            assert!(!error.to_string().is_empty());
        }
        assert_eq!(place.picture(), before);
    });
});
