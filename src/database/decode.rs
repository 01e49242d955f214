//! A segment's text, as it comes out of its file: into a stream of SQL, or into a COPY.

use std::io::{BufReader, Read as _, Write};
use std::path::{Path, PathBuf};

use super::shelf::{full_name, patch_name};
use crate::fs::{self, OnPath as _};
use crate::manifest::TableRecord;

/// The largest window that a patch may ask for: 2 GiB, as `zstd --long=31`.
const WINDOW_LOG: u32 = 31;
/// How much is moved at once.
const CHUNK: usize = 128 * 1024;

/// A segment's text could not be given.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A file cannot be read.
    #[error("{0}: {cause}", cause = .0.source)]
    File(#[from] fs::Error),
    /// A file is not what was written.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody takes the text any more.
    #[error("cannot write the text: {0}")]
    Out(#[source] std::io::Error),
}

/// Writes the rows of a table to `out`, as COPY gave them. `tables` is the directory of its database's segments. An error may come after some
/// of them were written.
///
/// # Errors
/// As [`decode`].
pub fn write_rows(tables: &Path, table: &TableRecord, out: &mut dyn Write) -> Result<(), DecodeError> {
    for segment in &table.segments {
        let base = base_text(tables, segment.base.as_deref())?;
        decode(tables, &segment.blake3, base.as_deref(), out)?;
    }
    Ok(())
}

/// The text that a patch is against; None for a segment that is whole.
///
/// # Errors
/// Its file cannot be read or is damaged.
pub fn base_text(tables: &Path, base: Option<&str>) -> Result<Option<Vec<u8>>, DecodeError> {
    let Some(base) = base else { return Ok(None) };
    let mut text = Vec::new();
    decode(tables, base, None, &mut text)?;
    Ok(Some(text))
}

/// Writes the text of a segment to `out`. An error may come after some of it, or all of it, was written.
///
/// # Errors
/// The file cannot be read, or its text is not the one that it is named after; `out` takes no more.
pub fn decode(
    tables: &Path,
    digest: &str,
    base: Option<&[u8]>,
    out: &mut dyn Write,
) -> Result<(), DecodeError> {
    let path = tables.join(if base.is_some() { patch_name(digest) } else { full_name(digest) });
    let damaged = |problem: String| DecodeError::Damaged { path: path.clone(), problem };
    let file = BufReader::with_capacity(CHUNK, fs::open(&path)?);
    let decoder = match base {
        Some(base) => zstd::Decoder::with_ref_prefix(file, base),
        None => zstd::Decoder::with_buffer(file),
    };
    let mut decoder = decoder.on("decompress", &path)?;
    decoder.window_log_max(WINDOW_LOG).on("decompress", &path)?;
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count =
            decoder.read(&mut chunk).map_err(|error| damaged(format!("it does not decompress ({error})")))?;
        if count == 0 {
            break;
        }
        hasher.update(&chunk[..count]);
        out.write_all(&chunk[..count]).map_err(DecodeError::Out)?;
    }
    if digest != hasher.finalize().to_hex().as_str() {
        return Err(damaged("its text does not have the digest that is its name".to_owned()));
    }
    Ok(())
}
