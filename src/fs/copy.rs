//! Copying the content of a file: holes stay holes, and the digest is that of what was stored.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// How much is read at once.
const CHUNK: usize = 512 * 1024;
/// A smaller file is copied as fast as it is cloned, and where the file system clones nothing the question is spared.
const WORTH_A_CLONE: u64 = 64 * 1024;
/// In a smaller file a hole is not looked for: at most one block is saved by it.
const WORTH_A_HOLE: u64 = 4096;

thread_local! {
    /// One for every thread that copies: of small files the memory would cost more than the copy.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads a file from its beginning and gives the BLAKE3 digest of its content; `watch` is told of every chunk and may stop the copy.
/// With a `target` (empty, opened for reading and writing) the content is put there too: as a clone that shares blocks where the file
/// system can do it, else the data extents only, because `copy_file_range` fills holes.
///
/// # Errors
/// Reading or writing failed, or `watch` stopped it. The file may have any length afterwards: the caller compares.
pub fn content(
    source: &File,
    target: Option<&File>,
    watch: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<blake3::Hash> {
    if let Some(target) = target
        && source.metadata()?.len() >= WORTH_A_CLONE
        && rustix::fs::ioctl_ficlone(target, source).is_ok()
    {
        // The clone cannot change any more, so its digest is the digest of what is kept.
        return digest_extents(target, None, watch);
    }
    digest_extents(source, target, watch)
}

/// As [`content`], for a file that is thought to have `size` bytes, so that a small one need not be asked for its size and holes.
///
/// # Errors
/// As [`content`].
pub fn content_sized(
    source: &File,
    target: Option<&File>,
    size: u64,
    watch: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<blake3::Hash> {
    let Some(size) = usize::try_from(size).ok().filter(|_| size <= WORTH_A_HOLE) else {
        return content(source, target, watch);
    };
    let mut buffer = BUFFER.take();
    buffer.resize(CHUNK, 0);
    let read = read_small(source, &mut buffer[..size], watch);
    let digest = read.and_then(|read| {
        if let Some(target) = target {
            target.write_all_at(&buffer[..read], 0)?;
        }
        Ok(blake3::hash(&buffer[..read]))
    });
    BUFFER.set(buffer);
    digest
}

/// The BLAKE3 digest of a file that is thought to have `size` bytes; `watch` as for [`content`].
///
/// # Errors
/// Reading failed, or `watch` stopped it.
pub fn digest(
    source: &File,
    size: u64,
    watch: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<blake3::Hash> {
    let Some(size) = usize::try_from(size).ok().filter(|size| *size < CHUNK) else {
        return digest_extents(source, None, watch);
    };
    let mut buffer = BUFFER.take();
    buffer.resize(CHUNK, 0);
    let digest = read_small(source, &mut buffer[..size], watch).map(|read| blake3::hash(&buffer[..read]));
    BUFFER.set(buffer);
    digest
}

/// Fills the buffer from the beginning of the file; gives how much there was.
fn read_small(
    source: &File,
    buffer: &mut [u8],
    watch: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<usize> {
    let mut at = 0;
    while at < buffer.len() {
        match source.read_at(&mut buffer[at..], at as u64)? {
            0 => break,
            read => at += read,
        }
    }
    watch(at as u64)?;
    Ok(at)
}

fn digest_extents(
    source: &File,
    target: Option<&File>,
    watch: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<blake3::Hash> {
    // Taken out, not borrowed: `watch` may do what it likes.
    let mut buffer = BUFFER.take();
    buffer.resize(CHUNK, 0);
    let digest = digest_with(source, target, &mut buffer, watch);
    BUFFER.set(buffer);
    digest
}

fn digest_with(
    source: &File,
    target: Option<&File>,
    buffer: &mut [u8],
    watch: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let metadata = source.metadata()?;
    let size = metadata.len();
    // Blocks are counted in 512 bytes (stat(2)). A file that has them all has no hole to ask for.
    let may_have_holes = size > WORTH_A_HOLE && metadata.blocks().saturating_mul(512) < size;
    let (mut at, mut written) = (0, 0);
    while at < size {
        let (data, end) = if may_have_holes { next_extent(source, at, size)? } else { (at, size) };
        hash_zeros(&mut hasher, data - at)?;
        at = data;
        while at < end {
            let most = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
            let read = source.read_at(&mut buffer[..most], at)?;
            if read == 0 {
                // It was cut while we read; the caller sees that its size or times changed.
                return Ok(hasher.finalize());
            }
            hasher.update(&buffer[..read]);
            if let Some(target) = target {
                target.write_all_at(&buffer[..read], at)?;
            }
            at += read as u64;
            written = at;
            watch(read as u64)?;
        }
    }
    if let Some(target) = target.filter(|_| written < size) {
        // A hole at the end.
        target.set_len(size)?;
    }
    Ok(hasher.finalize())
}

/// Where the next data begins and ends, from `at`; both are `size` when only a hole is left.
fn next_extent(file: &File, at: u64, size: u64) -> io::Result<(u64, u64)> {
    let data = match seek(file, SeekFrom::Data(at)) {
        Ok(data) => data.min(size),
        Err(Errno::NXIO) => return Ok((size, size)),
        // The file system does not tell: everything is data.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok((at, size)),
        Err(error) => return Err(error.into()),
    };
    match seek(file, SeekFrom::Hole(data)) {
        Ok(hole) if hole > data => Ok((data, hole.min(size))),
        // The file changed under our hands: read on, the caller will see it.
        Ok(_) => Ok((data, size)),
        Err(Errno::NXIO) => Ok((size, size)),
        Err(error) => Err(error.into()),
    }
}

fn hash_zeros(hasher: &mut blake3::Hasher, count: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut left = count;
    while left > 0 {
        let piece = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        hasher.write_all(&ZEROS[..piece])?;
        left -= piece as u64;
    }
    Ok(())
}
