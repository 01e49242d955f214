//! Reading what a dump wrote, to see whether it is still what it was: segments against their digests and rows, the archive by
//! pg_restore.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::codec;
use super::copy::RowSum;
use super::toc::Contents;
use crate::manifest::{DatabaseRecord, Rows};
use crate::postgres::{self, Programs};
use crate::process::{self, Program};

/// How much is read at once.
const CHUNK: usize = 256 * 1024;

/// What was found in a segment's file.
#[derive(Debug)]
pub struct Reread {
    /// BLAKE3 (hex) of the file as it lies on the disk; the error if it cannot be read to its end.
    pub file: io::Result<String>,
    /// Its text; the sentence says why there is none.
    pub text: Result<Text, String>,
}

/// A text of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// BLAKE3 (hex).
    pub blake3: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows.
    pub rows: Rows,
}

/// Reads a segment to its end, with `base` for a patch. `keep` is given the text; `watch` is told of every chunk of the file
/// and may stop the reading with an error.
pub fn reread(
    file: File,
    base: Option<&[u8]>,
    keep: Option<&mut Vec<u8>>,
    watch: &mut dyn FnMut(u64) -> io::Result<()>,
) -> Reread {
    let mut raw = Raw { file, hasher: blake3::Hasher::new(), watch };
    let text = decode(&mut raw, base, keep).map_err(|error| format!("it does not decompress ({error})"));
    let mut chunk = vec![0; CHUNK];
    let file = loop {
        match raw.read(&mut chunk) {
            Ok(0) => break Ok(raw.hasher.finalize().to_hex().to_string()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    Reread { file, text }
}

fn decode(raw: &mut Raw<'_>, base: Option<&[u8]>, mut keep: Option<&mut Vec<u8>>) -> io::Result<Text> {
    let reader = BufReader::with_capacity(CHUNK, raw);
    let decoder = match base {
        Some(base) => zstd::Decoder::with_ref_prefix(reader, base)?,
        None => zstd::Decoder::with_buffer(reader)?,
    };
    let mut decoder = decoder.single_frame();
    decoder.window_log_max(codec::WINDOW_LOG_MAX)?;
    let (mut hasher, mut sum, mut bytes) = (blake3::Hasher::new(), RowSum::default(), 0_u64);
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = decoder.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        bytes += count as u64;
        hasher.update(&chunk[..count]);
        sum.add(&chunk[..count]);
        if let Some(keep) = &mut keep {
            if bytes > codec::LONGEST_BASE as u64 {
                return Err(io::Error::other("its text is longer than that of any base"));
            }
            keep.extend_from_slice(&chunk[..count]);
        }
    }
    Ok(Text { blake3: hasher.finalize().to_hex().to_string(), bytes, rows: sum.finish() })
}

/// The file, hashed as it is read.
struct Raw<'a> {
    file: File,
    hasher: blake3::Hasher,
    watch: &'a mut dyn FnMut(u64) -> io::Result<()>,
}

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        (self.watch)(count as u64)?;
        Ok(count)
    }
}

/// What `rest.dump` lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Tables that it makes, by `pg_class.oid` at the freeze point.
    pub tables: HashSet<u32>,
    /// Tables whose rows are in it.
    pub data: HashSet<u32>,
}

/// An archive was not read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is no pg_restore that could.
    #[error("there is no pg_restore here that can read it: {0}")]
    NoProgram(Box<postgres::Error>),
    /// pg_restore cannot read it.
    #[error("{0}")]
    Unreadable(process::Error),
    /// The run was cancelled.
    #[error("the reading of the archive was cancelled")]
    Cancelled,
}

/// The pg_restore that reads the archives of a dump: not older than its pg_dump and its server. `bin_dir` is where it is
/// looked for; None: the best of this machine.
///
/// # Errors
/// There is none.
pub async fn archive_programs(
    record: &DatabaseRecord,
    bin_dir: Option<&Path>,
) -> Result<Programs, ArchiveError> {
    let major = super::archive::major_of(&record.pg_dump_version).unwrap_or(0);
    let programs = postgres::find_programs(bin_dir, major.max(record.server_version / 10_000)).await;
    programs.map_err(|error| ArchiveError::NoProgram(Box::new(error)))
}

/// Lists an archive, and with `whole` reads all that is in it.
///
/// # Errors
/// pg_restore cannot read it, or the run was cancelled.
pub async fn read_archive(
    programs: &Programs,
    path: &Path,
    whole: bool,
    cancel: &CancellationToken,
) -> Result<Archive, ArchiveError> {
    let failed = |error| match error {
        process::Error::Cancelled { .. } => ArchiveError::Cancelled,
        error => ArchiveError::Unreadable(error),
    };
    let pg_restore = || Program::new([programs.path("pg_restore")]);
    let listing = pg_restore().arg("--list").arg(path).run(cancel).await.map_err(failed)?;
    if whole {
        pg_restore().arg("--file=/dev/null").arg(path).run(cancel).await.map_err(failed)?;
    }
    let Contents { tables, data } = Contents::parse(&String::from_utf8_lossy(&listing));
    Ok(Archive { tables, data })
}

#[cfg(test)]
mod tests {
    use super::{Text, reread};
    use crate::database::codec;
    use crate::manifest::Rows;
    use std::io::{Seek as _, Write as _};

    fn file(bytes: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn a_segment_tells_its_file_its_text_and_its_rows() {
        let text = b"1\ta\n2\tb\n";
        let mut frame = codec::compress(text, 3).unwrap();
        let mut kept = Vec::new();
        let mut read = 0;
        let mut watch = |bytes| {
            read += bytes;
            Ok(())
        };
        let found = reread(file(&frame), None, Some(&mut kept), &mut watch);
        let Text { blake3, bytes, rows: Rows { count, .. } } = found.text.unwrap();
        assert_eq!((blake3, bytes, count), (blake3::hash(text).to_hex().to_string(), 8, 2));
        assert_eq!(found.file.unwrap(), blake3::hash(&frame).to_hex().to_string());
        assert_eq!((kept.as_slice(), read), (&text[..], frame.len() as u64));

        frame.push(0);
        let found = reread(file(&frame), None, None, &mut |_| Ok(()));
        assert!(found.text.is_ok(), "what stands behind the frame is no text");
        assert_eq!(found.file.unwrap(), blake3::hash(&frame).to_hex().to_string());

        let found = reread(file(&frame[..frame.len() - 4]), None, None, &mut |_| Ok(()));
        assert!(found.text.unwrap_err().starts_with("it does not decompress ("));
        assert!(found.file.is_ok());

        let stop = &mut |_| Err(std::io::Error::other("stop"));
        assert!(reread(file(&frame), None, None, stop).file.is_err());
    }
}
