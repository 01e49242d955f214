//! A segment's text, as it comes out of its file: into a stream of SQL, or into a COPY.

use std::io::{self, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};

use super::codec::{LONGEST_BASE, WINDOW_LOG_MAX};
use super::shelf::{full_name, patch_name};
use crate::fs::{self, OnPath as _};
use crate::manifest::TableRecord;

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
    Out(#[source] io::Error),
}

/// Writes the rows of a table to `out`, as COPY gave them. `tables` is the directory of its database's segments. An error may come after some
/// of them were written.
///
/// # Errors
/// A segment or its base cannot be read, or `out` takes no more.
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
    let mut kept = Kept { text: Vec::new() };
    match decode(tables, base, None, &mut kept) {
        Ok(()) => Ok(Some(kept.text)),
        Err(DecodeError::Out(problem)) => {
            Err(DecodeError::Damaged { path: tables.join(full_name(base)), problem: problem.to_string() })
        }
        Err(error) => Err(error),
    }
}

/// A text in memory: a few bytes of a file could be any number of it.
struct Kept {
    text: Vec<u8>,
}

impl Write for Kept {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.text.len() + text.len() > LONGEST_BASE {
            return Err(io::Error::other("its text is longer than that of any base"));
        }
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
    let file = BufReader::with_capacity(CHUNK, fs::open_regular(&path)?);
    let decoder = match base {
        Some(base) => zstd::Decoder::with_ref_prefix(file, base),
        None => zstd::Decoder::with_buffer(file),
    };
    let mut decoder = decoder.on("decompress", &path)?.single_frame();
    decoder.window_log_max(WINDOW_LOG_MAX).on("decompress", &path)?;
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

#[cfg(test)]
mod tests {
    use super::{DecodeError, base_text, decode, full_name};
    use crate::database::codec::{self, LONGEST_BASE};
    use crate::database::reread;

    /// A directory with a segment of this text.
    fn tables(text: &[u8], behind: &[u8]) -> (tempfile::TempDir, String) {
        let place = tempfile::tempdir().unwrap();
        let digest = blake3::hash(text).to_hex().to_string();
        let file = [&codec::compress(text, 3).unwrap(), behind].concat();
        crate::fs::write_durable(&place.path().join(full_name(&digest)), &file).unwrap();
        (place, digest)
    }

    #[test]
    fn a_base_that_is_longer_than_any_is_damage_and_fills_no_memory() {
        let (place, digest) = tables(&vec![0; LONGEST_BASE], b"");
        assert_eq!(
            base_text(place.path(), Some(&digest)).unwrap().map(|text| text.len()),
            Some(LONGEST_BASE)
        );
        let (place, digest) = tables(&vec![0; LONGEST_BASE + 1], b"");
        let error = base_text(place.path(), Some(&digest)).unwrap_err();
        assert!(matches!(error, DecodeError::Damaged { .. }));
        let said = error.to_string();
        assert!(said.ends_with(".zst is damaged: its text is longer than that of any base"), "{said}");
    }

    #[test]
    fn what_verify_takes_for_the_text_is_restored() {
        for behind in [&b""[..], b"\0", b"more", &codec::compress(b"2\tb\n", 3).unwrap()] {
            let (place, digest) = tables(b"1\ta\n", behind);
            let file = crate::fs::open(&place.path().join(full_name(&digest))).unwrap();
            assert_eq!(reread(file, None, None, &mut |_| Ok(())).text.unwrap().blake3, digest);
            let mut out = Vec::new();
            decode(place.path(), &digest, None, &mut out).unwrap();
            assert_eq!(out, b"1\ta\n");
        }
    }

    #[test]
    fn a_frame_that_asks_for_a_window_of_two_gigabytes_is_damage() {
        // Magic number, no length, a window of 2^31 bytes, and a last block of one raw byte.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x09, 0x00, 0x00, b'\n'];
        let place = tempfile::tempdir().unwrap();
        let digest = blake3::hash(b"\n").to_hex().to_string();
        crate::fs::write_durable(&place.path().join(full_name(&digest)), &frame).unwrap();
        let error = decode(place.path(), &digest, None, &mut std::io::sink()).unwrap_err().to_string();
        assert!(error.contains("Frame requires too much memory"), "{error}");
    }
}
