//! Whether a day on the disk is whole: read as `docs/format.md` says, with the types of the format and nothing else of daykeep.
#![allow(clippy::disallowed_methods, reason = "a test reads its own files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use daykeep::manifest::{FileKind, FileRecord, Manifest, Rows, TableRecord};

/// Every file of the day is there with its digest, every name of its trees has its record and the other way round, every
/// stretch of rows can be decoded and has the rows that the day claims, and every row of FOSSology's has its file.
///
/// # Panics
/// It is not.
pub fn assert_whole(day: &Path) -> Manifest {
    let manifest: Manifest = serde_json::from_slice(&read(&day.join("manifest.json"))).expect("a manifest");
    assert_eq!(day.file_name().unwrap().to_str(), Some(manifest.day.as_str()), "{}", day.display());
    assert!(!manifest.checks.is_empty() && manifest.checks.iter().all(|check| check.missing == 0));
    digests(day, &manifest);
    trees(day, &manifest);
    for database in &manifest.database.as_ref().expect("a database").databases {
        let directory = day.join("database").join(&database.directory);
        let tables = tables(&directory);
        assert_eq!(tables.len() as u64, database.tables, "{}", directory.display());
        if let Some((record, text)) = tables.get("public.pfile") {
            every_row_has_its_file(day, record, text);
        }
    }
    manifest
}

/// Exactly the files that the manifest names, each with its digest.
fn digests(day: &Path, manifest: &Manifest) {
    let mut found = BTreeMap::new();
    let mut open = vec![day.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(day).unwrap().to_str().unwrap().to_owned();
            match name.as_str() {
                "trees" | "manifest.json" | "manifest.blake3" => {}
                _ if path.is_dir() => open.push(path),
                _ => {
                    found.insert(name, digest_of(&path));
                }
            }
        }
    }
    assert_eq!(found, manifest.digests, "{}", day.display());
    for name in ["RESTORE.md", "restore.sh", "files.jsonl.zst", "database/globals.sql"] {
        assert!(found.contains_key(name), "{}: no {name}", day.display());
    }
}

fn trees(day: &Path, manifest: &Manifest) {
    let records =
        BufReader::new(zstd::Decoder::new(File::open(day.join("files.jsonl.zst")).unwrap()).unwrap());
    let mut recorded = BTreeSet::new();
    for line in records.lines() {
        let record: FileRecord = serde_json::from_str(&line.expect("records can be read")).expect("a record");
        let path = day.join("trees").join(&record.tree).join(record.path.as_path());
        let found = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(found.mode() & 0o7777, record.mode & 0o7777, "{}", path.display());
        assert_eq!(
            (found.mtime(), found.mtime_nsec()),
            (record.mtime.0, i64::from(record.mtime.1)),
            "{}",
            path.display()
        );
        match record.kind {
            FileKind::File => {
                assert_eq!(found.len(), record.size, "{}", path.display());
                assert_eq!(Some(digest_of(&path)), record.blake3, "{}", path.display());
            }
            FileKind::Directory => assert!(found.is_dir(), "{}", path.display()),
            other => panic!("{}: the tests' trees have no {other:?}", path.display()),
        }
        assert!(recorded.insert(path.clone()), "{} is recorded twice", path.display());
    }
    let mut names = 0;
    let mut open: Vec<_> = manifest.trees.keys().map(|tree| day.join("trees").join(tree)).collect();
    while let Some(path) = open.pop() {
        assert!(recorded.contains(&path), "{} has no record", path.display());
        names += 1;
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert_eq!(names, recorded.len(), "{}", day.display());
}

/// The tables of a database and their rows' text, decoded as `load.txt` says.
fn tables(directory: &Path) -> BTreeMap<String, (TableRecord, Vec<u8>)> {
    let list = String::from_utf8(read(&directory.join("tables.jsonl"))).unwrap();
    let records: Vec<TableRecord> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let load = String::from_utf8(read(&directory.join("load.txt"))).unwrap();
    let mut loaded: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut order = Vec::new();
    for line in load.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["T", ..] => order.push(Vec::new()),
            ["F", digest] => order.last_mut().unwrap().push(segment(directory, digest, None, &mut loaded)),
            ["P", digest, base] => {
                order.last_mut().unwrap().push(segment(directory, digest, Some(base), &mut loaded));
            }
            ["E"] => {}
            _ => panic!("{}: {line}", directory.display()),
        }
    }
    assert_eq!(order.len(), records.len(), "{}", directory.display());
    // `load.txt` and `tables.jsonl` may be in different orders: segments find each other.
    let mut tables = BTreeMap::new();
    for record in records {
        let digests: Vec<&String> = record.segments.iter().map(|segment| &segment.blake3).collect();
        assert!(order.iter().any(|table| table.iter().eq(digests.iter().copied())), "{digests:?} is loaded");
        let text: Vec<u8> = digests.iter().flat_map(|digest| loaded[*digest].clone()).collect();
        assert_eq!(rows_of(&text), record.rows, "{}.{}", record.schema, record.name);
        tables.insert(format!("{}.{}", record.schema, record.name), (record, text));
    }
    tables
}

fn segment(
    directory: &Path,
    digest: &str,
    base: Option<&str>,
    loaded: &mut BTreeMap<String, Vec<u8>>,
) -> String {
    let whole = |digest: &str| decode(&directory.join("tables").join(format!("{digest}.zst")), None);
    let text = match base {
        None => whole(digest),
        Some(base) => {
            let base = whole(base);
            decode(&directory.join("tables").join(format!("{digest}.patch.zst")), Some(&base))
        }
    };
    assert_eq!(blake3::hash(&text).to_hex().as_str(), digest, "{}", directory.display());
    loaded.insert(digest.to_owned(), text);
    digest.to_owned()
}

fn decode(path: &Path, base: Option<&[u8]>) -> Vec<u8> {
    let file = BufReader::new(File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    let mut decoder = match base {
        Some(base) => zstd::Decoder::with_ref_prefix(file, base).unwrap(),
        None => zstd::Decoder::with_buffer(file).unwrap(),
    };
    decoder.window_log_max(31).unwrap();
    let mut text = Vec::new();
    decoder.read_to_end(&mut text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text
}

fn rows_of(text: &[u8]) -> Rows {
    let lines =
        text.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").expect("an end"));
    lines.fold(Rows::default(), |rows, line| {
        rows.plus(Rows { count: 1, digest: xxhash_rust::xxh3::xxh3_128(line) })
    })
}

/// Promise 3, seen without daykeep: the rows of the dump name files of the tree.
fn every_row_has_its_file(day: &Path, record: &TableRecord, text: &[u8]) {
    let column = |name: &str| record.columns.iter().position(|column| column == name).expect("a column");
    let [sha1, md5, size] = ["pfile_sha1", "pfile_md5", "pfile_size"].map(column);
    let text = std::str::from_utf8(text).expect("hashes are text");
    assert!(!text.is_empty(), "there are rows to look at");
    for line in text.lines() {
        let fields: Vec<String> = line.split('\t').map(str::to_lowercase).collect();
        let name = format!("{}.{}.{}", fields[sha1], fields[md5], fields[size]);
        let beneath = format!("{}/{}/{}/{name}", &name[0..2], &name[2..4], &name[4..6]);
        let host = day.join("trees/repository/localhost");
        let found = ["files", "gold"].iter().any(|kind| host.join(kind).join(&beneath).is_file());
        assert!(found, "{}: {name} has a row and no file", day.display());
    }
}

fn digest_of(path: &Path) -> String {
    blake3::hash(&read(path)).to_hex().to_string()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
