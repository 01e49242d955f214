//! What the fuzz targets drive: how the lists of pg_restore are read. Only cargo-fuzz builds this (`--cfg fuzzing`).

use super::archive;
use super::toc::Contents;

/// What `pg_restore --list` says of an archive, and a program of its version.
pub fn listing(text: &str) {
    let contents = Contents::parse(text);
    assert!(contents.tables.len() + contents.data.len() <= text.lines().count());
    let of_database = archive::database_entries(text);
    assert!(of_database.lines().count() <= text.lines().count());
    let _ = archive::major_of(text);
    super::restore::understand(text);
}
