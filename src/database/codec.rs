//! zstd frames of COPY text: whole, or as a patch against a base text (`ZSTD_CCtx_refPrefix`, with long-distance matching). Both
//! carry a content checksum and the length of the content, and both are read by the zstd program:
//! `zstd -d --patch-from=BASE --long=31`.

use std::fs::File;
use std::io::{self, Read, Write};

use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, DParameter};

use super::segments::CAP;

/// The reader's limit: windows up to 128 MiB, the largest that daykeep writes. A frame that asks for more was made to fill the memory.
pub const WINDOW_LOG_MAX: u32 = 27;
/// No base is longer: it is held in memory as a whole. What is patched against is at most as long as a text that is kept in memory; this
/// is twice as much, for bases of others.
pub const LONGEST_BASE: usize = 2 * CAP;

/// A whole text as one frame.
///
/// # Errors
/// zstd has no memory.
pub fn compress(text: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut compressor = Compressor::new(level)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    compressor.compress(text)
}

/// A text as a patch against `base`. Gives None when the patch would not be smaller than the text.
///
/// # Errors
/// zstd has no memory.
pub fn patch(base: &[u8], text: &[u8], level: i32) -> io::Result<Option<Vec<u8>>> {
    let mut compressor = Compressor::new(level)?;
    // The window must reach over the whole base, from the end of the text.
    let span = base.len() as u64 + text.len() as u64;
    let window = (u64::BITS - span.leading_zeros()).clamp(10, WINDOW_LOG_MAX);
    for parameter in [
        CParameter::WindowLog(window),
        CParameter::EnableLongDistanceMatching(true),
        CParameter::ChecksumFlag(true),
    ] {
        compressor.set_parameter(parameter)?;
    }
    compressor.context_mut().ref_prefix(base).map_err(of_zstd)?;
    // Two thirds of the text: a patch that needs more is of no use, whatever the text takes in full.
    let mut patch: Vec<u8> = Vec::with_capacity(text.len() / 3 * 2 + 4096);
    match compressor.compress_to_buffer(text, &mut patch) {
        Ok(_) => Ok(Some(patch)),
        Err(_) => Ok(None),
    }
}

fn of_zstd(code: usize) -> io::Error {
    io::Error::other(zstd::zstd_safe::get_error_name(code))
}

/// The text of a file, if it has at most `limit` bytes. `None` when it has more.
///
/// # Errors
/// It cannot be read, or is no whole frame.
pub fn read_text(file: File, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut decoder = zstd::Decoder::new(file)?.single_frame();
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut text = Vec::new();
    (&mut decoder).take(limit as u64 + 1).read_to_end(&mut text)?;
    Ok((text.len() <= limit).then_some(text))
}

/// BLAKE3 of the text that a file decodes to, with `base` for a patch.
///
/// # Errors
/// It cannot be read, is no whole frame, or its checksum is wrong.
pub fn digest_of(file: File, base: Option<&[u8]>) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    match base {
        None => {
            let mut decoder = zstd::Decoder::new(file)?.single_frame();
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            hash_all(&mut decoder, &mut hasher)?;
        }
        Some(base) => {
            let reader = io::BufReader::with_capacity(128 * 1024, file);
            let mut decoder = zstd::Decoder::with_ref_prefix(reader, base)?.single_frame();
            decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
            hash_all(&mut decoder, &mut hasher)?;
        }
    }
    Ok(hasher.finalize())
}

fn hash_all(reader: &mut impl Read, hasher: &mut blake3::Hasher) -> io::Result<()> {
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(()),
            count => {
                hasher.update(&chunk[..count]);
            }
        }
    }
}

/// Compresses a text that comes in pieces; gives its digest and length.
///
/// # Errors
/// The file cannot be written.
pub fn compress_stream(
    file: File,
    level: i32,
    mut next: impl FnMut() -> Option<Vec<u8>>,
) -> io::Result<(blake3::Hash, u64)> {
    let mut encoder = zstd::Encoder::new(file, level)?;
    encoder.include_checksum(true)?;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    while let Some(piece) = next() {
        hasher.update(&piece);
        encoder.write_all(&piece)?;
        bytes += piece.len() as u64;
    }
    encoder.finish()?.flush()?;
    Ok((hasher.finalize(), bytes))
}

#[cfg(test)]
mod tests {
    use super::{compress, digest_of, patch, read_text};
    use std::io::{Seek as _, Write as _};

    fn file(bytes: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn text(seed: u64, rows: u64) -> Vec<u8> {
        (0..rows)
            .flat_map(|row| format!("{row}\t{:x}\n", (row + 1).wrapping_mul(seed)).into_bytes())
            .collect()
    }

    #[test]
    fn texts_come_back() {
        let text = text(0x9e37_79b9_7f4a_7c15, 50_000);
        let frame = compress(&text, 3).unwrap();
        assert_eq!(read_text(file(&frame), text.len()).unwrap().as_deref(), Some(&text[..]));
        assert_eq!(read_text(file(&frame), text.len() - 1).unwrap(), None);
        assert_eq!(digest_of(file(&frame), None).unwrap(), blake3::hash(&text));
        assert!(read_text(file(&frame[..frame.len() - 9]), text.len()).is_err(), "a torn frame is told");
        assert_eq!(digest_of(file(&compress(b"", 3).unwrap()), None).unwrap(), blake3::hash(b""));
    }

    #[test]
    fn a_patch_is_small_and_comes_back_with_its_base_only() {
        let base = text(0x9e37_79b9_7f4a_7c15, 50_000);
        let mut changed = base.clone();
        changed[base.len() / 2] = b'X';
        changed.extend_from_slice(b"one more\n");
        let frame = patch(&base, &changed, 3).unwrap().unwrap();
        assert!(frame.len() < 500, "{}", frame.len());
        assert_eq!(digest_of(file(&frame), Some(&base)).unwrap(), blake3::hash(&changed));
        let other = text(3, 50_000);
        assert!(
            digest_of(file(&frame), Some(&other)).map_or(true, |digest| digest != blake3::hash(&changed))
        );
    }

    #[test]
    fn the_zstd_program_reads_a_patch() {
        let dir = tempfile::tempdir().unwrap();
        let base = text(0x9e37_79b9_7f4a_7c15, 200_000);
        let mut changed = base[1000..].to_vec();
        changed.extend_from_slice(&text(77, 10));
        let frame = patch(&base, &changed, 3).unwrap().unwrap();
        crate::fs::write_durable(&dir.path().join("base"), &base).unwrap();
        crate::fs::write_durable(&dir.path().join("frame"), &frame).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test runs the program itself")]
        let output = std::process::Command::new("zstd")
            .args(["-d", "-c", "--long=31", "--patch-from=base", "frame"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == changed);
    }
}
