//! Compares a restored repository with what a day recorded at its freeze point: every row of every table, every file
//! of every tree. The demo and the tests use it; it shares the format's types with daykeep, and nothing else.
//!
//! `compare_day DAY SOCKET_DIR PORT USER TREES_DIR`: exits 0 and prints one line when all is equal, 1 with the first
//! differences otherwise.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program of its own"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daykeep::manifest::{FileKind, FileRecord, Manifest, Rows, TableRecord};
use futures_util::StreamExt as _;

/// How many differences are told.
const TOLD: usize = 20;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [day, host, port, user, trees] = args.as_slice() else {
        eprintln!("usage: compare_day DAY SOCKET_DIR PORT USER TREES_DIR");
        return ExitCode::from(2);
    };
    match compare(Path::new(day), host, port, user, Path::new(trees)).await {
        Ok(differences) if differences.is_empty() => ExitCode::SUCCESS,
        Ok(differences) => {
            for difference in differences.iter().take(TOLD) {
                println!("DIFFERENT {difference}");
            }
            println!("{} differences", differences.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("compare_day: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn compare(
    day: &Path,
    host: &str,
    port: &str,
    user: &str,
    trees: &Path,
) -> Result<Vec<String>, Box<dyn Error>> {
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(day.join("manifest.json"))?)?;
    let mut differences = Vec::new();
    let (mut tables, mut rows) = (0, 0);
    for database in manifest.database.iter().flat_map(|server| &server.databases) {
        let name = database.name.replace('\\', "\\\\").replace('\'', "\\'");
        let connection = format!("host='{host}' port={port} user='{user}' dbname='{name}'");
        let (client, driver) = tokio_postgres::connect(&connection, tokio_postgres::NoTls).await?;
        tokio::spawn(driver);
        client
            .batch_execute(
                "set search_path = ''; set datestyle = iso; set intervalstyle = postgres; \
                 set extra_float_digits = 3; set timezone = 'UTC'; set bytea_output = hex; set lc_monetary = 'C'; \
                 select set_config('client_encoding', current_setting('server_encoding'), false)",
            )
            .await?;
        let list = day.join("database").join(&database.directory).join("tables.jsonl");
        for line in BufReader::new(std::fs::File::open(list)?).lines() {
            let table: TableRecord = serde_json::from_str(&line?)?;
            let found = rows_of(&client, &table).await?;
            tables += 1;
            rows += found.count;
            if found != table.rows {
                differences.push(format!(
                    "table {}.{}.{}: {} rows, recorded {}",
                    database.name, table.schema, table.name, found.count, table.rows.count
                ));
            }
        }
    }
    let names = compare_trees(day, &manifest, trees, &mut differences)?;
    println!("{}: {tables} tables, {rows} rows and {names} names compared", manifest.day);
    Ok(differences)
}

/// Counts and digests a table's rows as they are now.
async fn rows_of(client: &tokio_postgres::Client, table: &TableRecord) -> Result<Rows, Box<dyn Error>> {
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns: Vec<String> = table.columns.iter().map(|column| quote(column)).collect();
    let list = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    let sql = format!("copy {}.{}{list} to stdout", quote(&table.schema), quote(&table.name));
    let stream = client.copy_out(&sql).await?;
    futures_util::pin_mut!(stream);
    let mut rows = Rows::default();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(chunk) = stream.next().await {
        rest.extend_from_slice(&chunk?);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        for line in rest[..end].split(|byte| *byte == b'\n') {
            rows = rows.plus(Rows { count: 1, digest: xxhash_rust::xxh3::xxh3_128(line) });
        }
        rest.drain(..=end);
    }
    Ok(rows)
}

fn compare_trees(
    day: &Path,
    manifest: &Manifest,
    trees: &Path,
    differences: &mut Vec<String>,
) -> Result<u64, Box<dyn Error>> {
    let records = BufReader::new(zstd::Decoder::new(std::fs::File::open(day.join("files.jsonl.zst"))?)?);
    let mut recorded = BTreeMap::<String, u64>::new();
    let mut link_groups: BTreeMap<(String, u64), u64> = BTreeMap::new();
    for line in records.lines() {
        let record: FileRecord = serde_json::from_str(&line?)?;
        *recorded.entry(record.tree.clone()).or_default() += 1;
        let path = trees.join(&record.tree).join(record.path.as_path());
        let difference = match std::fs::symlink_metadata(&path) {
            Ok(found) => compare_name(&record, &path, &found, &mut link_groups)?,
            Err(error) => Some(error.to_string()),
        };
        differences.extend(difference.map(|difference| format!("{}: {difference}", path.display())));
    }
    for tree in manifest.trees.keys() {
        let found = count_names(&trees.join(tree))?;
        let expected = recorded.get(tree).copied().unwrap_or_default();
        if found != expected {
            differences.push(format!("tree {tree}: {found} names, recorded {expected}"));
        }
    }
    Ok(recorded.values().sum())
}

fn compare_name(
    record: &FileRecord,
    path: &Path,
    found: &std::fs::Metadata,
    link_groups: &mut BTreeMap<(String, u64), u64>,
) -> Result<Option<String>, Box<dyn Error>> {
    let kind = found.file_type();
    let same_kind = match record.kind {
        FileKind::File => kind.is_file(),
        FileKind::Directory => kind.is_dir(),
        FileKind::Symlink => kind.is_symlink(),
        _ => !kind.is_file() && !kind.is_dir() && !kind.is_symlink(),
    };
    if !same_kind {
        return Ok(Some("another kind of file".to_owned()));
    }
    let mode = found.mode() & 0o7777;
    if record.kind != FileKind::Symlink && mode != record.mode & 0o7777 {
        return Ok(Some(format!("mode {mode:o}, recorded {:o}", record.mode & 0o7777)));
    }
    if (found.uid(), found.gid()) != (record.uid, record.gid) {
        return Ok(Some(format!("owner {}:{}", found.uid(), found.gid())));
    }
    if (found.mtime(), found.mtime_nsec()) != (record.mtime.0, i64::from(record.mtime.1)) {
        return Ok(Some("another modification time".to_owned()));
    }
    if let Some(target) = &record.target
        && std::fs::read_link(path)?.as_os_str().as_bytes() != target.0
    {
        return Ok(Some("another link target".to_owned()));
    }
    if record.kind == FileKind::File {
        return compare_content(record, path, found, link_groups);
    }
    Ok(None)
}

fn compare_content(
    record: &FileRecord,
    path: &Path,
    found: &std::fs::Metadata,
    link_groups: &mut BTreeMap<(String, u64), u64>,
) -> Result<Option<String>, Box<dyn Error>> {
    if found.len() != record.size {
        return Ok(Some(format!("{} bytes, recorded {}", found.len(), record.size)));
    }
    if record.blake3.as_deref() != Some(digest_of(path)?.as_str()) {
        return Ok(Some("another content".to_owned()));
    }
    if let Some(group) = record.link_group {
        let inode = *link_groups.entry((record.tree.clone(), group)).or_insert(found.ino());
        if inode != found.ino() {
            return Ok(Some("no longer one inode with its other names".to_owned()));
        }
    }
    Ok(None)
}

fn digest_of(path: &Path) -> Result<String, Box<dyn Error>> {
    let mut hasher = blake3::Hasher::new();
    let mut file = std::fs::File::open(path)?;
    let mut chunk = vec![0_u8; 128 * 1024];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&chunk[..count]);
    }
}

fn count_names(root: &Path) -> Result<u64, Box<dyn Error>> {
    let mut count = 1;
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            count += 1;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(count)
}
