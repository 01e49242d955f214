//! A day of a server made by hand, as `docs/format.md` says: what restores a day is tested against the format, not against
//! the program that writes it.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use daykeep::manifest::{Manifest, PathBytes, RecordWriter};
use daykeep::postgres::{one_line_identifier, qualified};
use serde_json::{Value, json};

use super::postgres::{Server, check};

/// The tables whose rows are in segments: plain heap tables that are no extension's and below no hash partitioning, and have
/// a name that is the same in every encoding (so that it can be an argument of pg_dump).
const TABLES: &str = "
    SELECT json_build_object('schema', n.nspname, 'name', c.relname, 'columns', (
        SELECT coalesce(json_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am m ON m.oid = c.relam
    WHERE c.relkind = 'r' AND c.oid >= 16384 AND m.amname = 'heap' AND n.nspname !~ '^pg_'
      AND (getdatabaseencoding() = 'UTF8' OR c.relname ~ '^[ -~]*$')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
      AND NOT EXISTS (SELECT FROM pg_partition_ancestors(c.oid) a (relid)
                      JOIN pg_partitioned_table p ON p.partrelid = a.relid WHERE p.partstrat = 'h')
    ORDER BY c.oid";

/// Writes the databases of `server`, and copies of `trees`, into `day`.
///
/// # Panics
/// Anything fails.
pub fn make(server: &Server, trees: &[(&str, &Path)], day: &Path) -> Manifest {
    let globals = check(server.client("pg_dumpall").arg("--globals-only"), "pg_dumpall");
    fs::create_dir_all(day.join("database")).unwrap();
    fs::write(day.join("database/globals.sql"), globals).unwrap();
    let names: Vec<String> =
        serde_json::from_str(&server.psql(
            "postgres",
            "SELECT json_agg(datname ORDER BY datname) FROM pg_database WHERE datallowconn",
        ))
        .unwrap();
    let databases: Vec<Value> =
        names.iter().enumerate().map(|(number, name)| database(server, name, number, day)).collect();
    let version: u32 = server.psql("postgres", "SHOW server_version_num").parse().unwrap();
    let database = json!({"server_version": version, "server_version_text": "", "wal_begin": "", "wal_end": "",
        "pg_dump_version": server.major().to_string(), "system_identifier": null, "databases": databases,
        "new_bytes": 0, "stored_bytes": 0});
    describe(&database, trees, day)
}

/// Copies `trees` into a day whose `database/` is there, and writes what the vault would write.
///
/// # Panics
/// Anything fails.
pub fn describe(database: &Value, trees: &[(&str, &Path)], day: &Path) -> Manifest {
    let trees: BTreeMap<_, _> =
        trees.iter().map(|(name, path)| ((*name).to_owned(), tree(name, path, day))).collect();
    let manifest = json!({
        "format": 1, "made_by": "by hand", "repository": "shop", "day": "2026-11-21T010000Z", "sequence": 1,
        "base": true, "base_day": "2026-11-21T010000Z", "run": 1, "started": "2026-11-21T01:00:00Z",
        "sealed": "2026-11-21T01:05:00Z", "freeze_point": "2026-11-21T01:00:00Z",
        "hold": {"adapter": "none", "paused_by_us": false, "paused_at": "2026-11-21T01:00:00Z",
            "idle_at": "2026-11-21T01:00:00Z", "released_at": null, "held_seconds": 0.0, "proofs": []},
        "database": database, "trees": trees, "checks": [], "digests": digests(day),
        "configuration": "# a \"comment\"\n\tin\\TOML\u{1}\n",
    });
    fs::write(day.join("manifest.json"), serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/vault/restore.sh");
    fs::copy(script, day.join("restore.sh")).unwrap();
    fs::set_permissions(day.join("restore.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    serde_json::from_value(manifest).expect("the manifest of this version")
}

fn database(server: &Server, name: &str, number: usize, day: &Path) -> Value {
    let directory = format!("d{number}");
    let dir = day.join("database").join(&directory);
    fs::create_dir_all(dir.join("tables")).unwrap();
    let encoding = server.psql(name, "SHOW server_encoding");
    let mut dump = server.client("pg_dump");
    dump.args(["-Fc", "--create", "-f"]).arg(dir.join("rest.dump")).env("PGDATABASE", name);
    let mut load = String::new();
    let tables = server.psql(name, TABLES);
    for line in tables.lines() {
        let table: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| table[key].as_str().unwrap().to_owned();
        let quoted = |key: &str| format!("\"{}\"", text(key).replace('"', "\"\""));
        dump.arg(format!("--exclude-table-data={}.{}", quoted("schema"), quoted("name")));
        let columns: Vec<String> = table["columns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| one_line_identifier(column.as_str().unwrap()))
            .collect();
        let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
        let relation = format!("{}{columns}", qualified(&text("schema"), &text("name")));
        let rows = rows(server, name, &encoding, &relation);
        writeln!(load, "T COPY {relation} FROM stdin;").unwrap();
        load.push_str(&segments(&rows, &dir.join("tables")));
        load.push_str("E\n");
    }
    check(&mut dump, "pg_dump");
    fs::write(dir.join("load.txt"), load).unwrap();
    json!({"name": name, "directory": directory, "encoding": encoding, "tables": tables.lines().count(), "rest_tables": 0,
        "rows": 0, "row_bytes": 0})
}

/// A table's rows as pg_dump's session would see them, in the encoding of the database.
fn rows(server: &Server, database: &str, encoding: &str, relation: &str) -> Vec<u8> {
    let options = "-c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=3 -c bytea_output=hex \
                   -c standard_conforming_strings=on -c row_security=off -c search_path= -c TimeZone=UTC";
    let mut psql = server.client("psql");
    psql.env("PGDATABASE", database).env("PGOPTIONS", options).env("PGCLIENTENCODING", "UTF8");
    let statement = format!("COPY {relation} TO STDOUT WITH (ENCODING '{encoding}')");
    check(psql.args(["-X", "-q", "-c", &statement]), &statement)
}

/// Three stretches: whole, as a patch against the first, and whole again.
fn segments(rows: &[u8], tables: &Path) -> String {
    let mut ends: Vec<usize> = [rows.len() / 3, rows.len() / 2]
        .into_iter()
        .map(|middle| rows[..middle].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1))
        .collect();
    ends.push(rows.len());
    let (first, second, third) = (&rows[..ends[0]], &rows[ends[0]..ends[1]], &rows[ends[1]..]);
    let mut load = String::new();
    let base = store(first, None, tables);
    if !first.is_empty() {
        writeln!(load, "F {base}").unwrap();
    }
    if !second.is_empty() && !first.is_empty() {
        writeln!(load, "P {} {base}", store(second, Some(first), tables)).unwrap();
    } else if !second.is_empty() {
        writeln!(load, "F {}", store(second, None, tables)).unwrap();
    }
    if !third.is_empty() {
        writeln!(load, "F {}", store(third, None, tables)).unwrap();
    }
    load
}

/// Stores a text by its digest with the zstd of the command line, which is not the library that reads it.
fn store(text: &[u8], base: Option<&[u8]>, tables: &Path) -> String {
    let digest = blake3::hash(text).to_hex().to_string();
    let scratch = tempfile::tempdir().unwrap();
    let (plain, before) = (scratch.path().join("text"), scratch.path().join("base"));
    fs::write(&plain, text).unwrap();
    let mut zstd = Command::new("zstd");
    zstd.args(["-q", "-f", "-1"]).arg(&plain);
    match base {
        Some(base) => {
            fs::write(&before, base).unwrap();
            zstd.arg("--long=27").arg(format!("--patch-from={}", before.display()));
            zstd.arg("-o").arg(tables.join(format!("{digest}.patch.zst")));
        }
        None => {
            zstd.arg("-o").arg(tables.join(format!("{digest}.zst")));
        }
    }
    check(&mut zstd, "zstd");
    digest
}

fn tree(name: &str, source: &Path, day: &Path) -> Value {
    let target = day.join("trees").join(name);
    fs::create_dir_all(day.join("trees")).unwrap();
    check(Command::new("cp").args(["-a", "--"]).arg(source).arg(&target), "cp");
    let sizes = check(Command::new("find").arg(&target).args(["-type", "f", "-printf", "%s\\n"]), "find");
    let sizes: Vec<u64> =
        String::from_utf8(sizes).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    records(name, &target, &day.join("files.jsonl.zst"));
    json!({"source": source, "entries": 0, "files": sizes.len(), "bytes": sizes.iter().sum::<u64>(), "copied_files": 0,
        "copied_bytes": 0, "linked_files": 0, "fence": "walk", "fence_ms": 0})
}

/// The records of a tree's regular files; what a record says besides is made up.
fn records(tree: &str, root: &Path, path: &Path) {
    let found =
        check(Command::new("find").args([".", "-type", "f", "-printf", "%P\\0"]).current_dir(root), "find");
    let mut writer = RecordWriter::create(path).unwrap();
    for name in found.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let file = Path::new(OsStr::from_bytes(name));
        let content = fs::read(root.join(file)).unwrap();
        let record = json!({"tree": tree, "path": PathBytes::from(file), "kind": "file", "size": content.len(),
            "mode": 0, "uid": 0, "gid": 0, "mtime": [0, 0], "ctime": [0, 0], "ino": 0,
            "blake3": blake3::hash(&content).to_hex().to_string(), "xattrs": {"path": "00", "blake3": "00"}});
        writer.write(&serde_json::from_value(record).unwrap()).unwrap();
    }
    writer.finish().unwrap();
}

fn digests(day: &Path) -> BTreeMap<String, String> {
    let found = check(Command::new("find").arg("database").args(["-type", "f"]).current_dir(day), "find");
    let found = String::from_utf8(found).unwrap();
    let digest = |name: &str| blake3::hash(&fs::read(day.join(name)).unwrap()).to_hex().to_string();
    found.lines().map(|name| (name.to_owned(), digest(name))).collect()
}
