//! What an export says when a day is damaged, or when it is asked for what is not there.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use daykeep::database::{ExportError, export};
use daykeep::manifest::Manifest;
use support::context::context;
use support::day;
use support::postgres::Server;

fn exported(day: &Path, manifest: &Manifest, databases: Option<&[String]>) -> Result<String, ExportError> {
    let mut stream = Vec::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(export(day, manifest, None, databases, &mut stream, &context()))?;
    Ok(String::from_utf8(stream).unwrap())
}

#[test]
fn damage_names_the_file_and_the_table() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(None);
    server.psql("postgres", "CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 500) g");
    let manifest = day::make(&server, &[], home.path());
    assert!(exported(home.path(), &manifest, None).unwrap().contains("CREATE ROLE postgres;"));
    let chosen = exported(home.path(), &manifest, Some(&["postgres".to_owned()])).unwrap();
    assert!(chosen.contains("COPY \"public\".\"t\"") && !chosen.contains("CREATE ROLE"));

    let asked = exported(home.path(), &manifest, Some(&["shop".to_owned()])).unwrap_err().to_string();
    assert!(asked.ends_with(r#"holds no database "shop"; it holds "postgres", "template1""#), "{asked}");

    let tables = home.path().join("database/d0/tables");
    let patch = |path: &PathBuf| path.to_string_lossy().ends_with(".patch.zst");
    let segment = fs::read_dir(&tables).unwrap().map(|entry| entry.unwrap().path()).find(patch).unwrap();
    for (path, of) in
        [(segment, "it holds rows of \"public\".\"t\""), (tables.join("../rest.dump"), "manifest.json")]
    {
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 2]).unwrap();
        let error = exported(home.path(), &manifest, None).unwrap_err().to_string();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(name) && error.contains("is damaged: ") && error.contains(of), "{error}");
        fs::write(&path, whole).unwrap();
    }
}
