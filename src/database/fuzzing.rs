//! What the fuzz targets drive: how the lists of pg_restore and the files of a dump are read. Only cargo-fuzz builds this (`--cfg fuzzing`).

use std::io::Write;
use std::path::Path;

use super::toc::Contents;
use super::{DecodeError, archive, decode};

/// What `pg_restore --list` says of an archive, and a program of its version.
pub fn listing(text: &str) {
    let contents = Contents::parse(text);
    assert!(contents.tables.len() + contents.data.len() <= text.lines().count());
    let of_database = archive::database_entries(text);
    assert!(of_database.lines().count() <= text.lines().count());
    let _ = archive::major_of(text);
    super::restore::understand(text);
}

/// The text of a segment, as a restore takes it.
pub fn segment(
    tables: &Path,
    digest: &str,
    base: Option<&[u8]>,
    out: &mut dyn Write,
) -> Result<(), DecodeError> {
    decode::decode(tables, digest, base, out)
}

/// The text of a base, as a restore keeps it. Gives its length.
pub fn base(tables: &Path, digest: &str) -> Result<usize, DecodeError> {
    Ok(decode::base_text(tables, Some(digest))?.map_or(0, |text| text.len()))
}
