//! The only door to the file system. Every error names its path.
//!
//! What must survive a power cut is written with [`write_durable`], [`rename_durable`] and [`create_dir_durable`]: the
//! content is flushed before the name appears, and the directory after it, so that the name either is not there or has
//! the whole content.

#![expect(clippy::disallowed_methods, reason = "this is the door to the file system")]

pub mod attributes;
mod chase;
pub mod copy;
pub mod dir;
pub mod fanotify;
mod inode;
mod link;
mod lock;
mod remove;
pub mod socket;
pub mod swap;
mod volume;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

pub use inode::Inode;
pub use link::{give_to, hard_link, link_target, look_at, rename_new, set_mode, symlink_at_once};
pub use lock::{lock, lock_file, lock_file_within, names, try_lock, try_lock_shared, wait_for_lock};
pub use remove::{Going, remove_tree};
pub use volume::{Abilities, Volume, may_write, sync_volume, try_abilities, volume};

/// An operation on a path failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct Error {
    /// The verb: `open`, `write`, `rename`.
    pub action: &'static str,
    /// What it was done to.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Error {
    /// The system's error number, if it is one.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// True when the file system has no room, neither for bytes nor for names.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// The failure of a copy that names its source: what has no room is its target.
    #[must_use]
    pub fn of_copy_to(self, target: impl FnOnce() -> PathBuf) -> Self {
        if self.is_full() { Self { action: "write", path: target(), ..self } } else { self }
    }
}

/// Gives an `io::Result` its verb and path.
pub trait OnPath<T> {
    /// Names what was done to which path.
    ///
    /// # Errors
    /// The same failure, with its path.
    fn on(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> OnPath<T> for Result<T, E> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error { action, path: path.to_owned(), source: source.into() })
    }
}

/// The whole of a file.
///
/// # Errors
/// It cannot be opened or read.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).on("read", path)
}

/// The whole of a text file.
///
/// # Errors
/// It cannot be opened or read, or is not UTF-8.
pub fn read_to_string(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).on("read", path)
}

/// Like [`read`], with None for a file that is not there.
///
/// # Errors
/// Any other failure.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens for reading.
///
/// # Errors
/// It cannot be opened.
pub fn open(path: &Path) -> Result<fs::File, Error> {
    fs::File::open(path).on("open", path)
}

/// Opens a file that somebody else may have exchanged: what is no regular file is an error. A named pipe would be waited for, and a
/// device may have no end.
///
/// # Errors
/// It cannot be opened, or is something else.
pub fn open_regular(path: &Path) -> Result<fs::File, Error> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .on("open", path)?;
    if !file.metadata().on("look at", path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")).on("read", path);
    }
    Ok(file)
}

/// The whole of such a file, when it has at most `limit` bytes; None when it is not there.
///
/// # Errors
/// It cannot be read, is no regular file, or is longer.
pub fn read_regular(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata().on("look at", path)?.len();
    if length > limit {
        let problem = format!("it has {length} bytes, and no such file has more than {limit}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem)).on("read", path);
    }
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    file.take(limit).read_to_end(&mut bytes).on("read", path)?;
    Ok(Some(bytes))
}

/// Creates a file that must not be there yet, mode 0600.
///
/// # Errors
/// It is there, or cannot be created.
pub fn create_new(path: &Path) -> Result<fs::File, Error> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).on("create", path)
}

/// Lets the kernel begin to write to the disk what was written to the file, so that less is left for a later flush of the file system. Only
/// a hint: that flush is what tells whether all is there. (`POSIX_FADV_DONTNEED` starts the write and waits for nothing; what is still
/// dirty stays in the cache.)
pub fn begin_flush(file: &fs::File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// Puts `bytes` at `path`, whole or not at all, and flushed to the disk when it returns. Mode 0600.
///
/// # Errors
/// Writing, flushing or renaming failed; what was at `path` is still there.
pub fn write_durable(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let aside = aside_of(path);
    let written = write_flushed(&aside, bytes).and_then(|()| rename_durable(&aside, path));
    if written.is_err() {
        // The error that matters is the first one; the name beside is written over by the next try.
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Where [`write_durable`] writes what is to have the name `path`. Killed before its rename it leaves that, which the next one writes over.
#[must_use]
pub fn aside_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent_of(path).join(format!(".{name}.new"))
}

fn write_flushed(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .on("create", path)?;
    file.write_all(bytes).on("write", path)?;
    file.sync_all().on("flush", path)
}

/// Opens for reading and appending, creating it (mode 0600); a new name is flushed to its directory.
///
/// # Errors
/// It cannot be opened or its directory cannot be flushed.
pub fn open_append(path: &Path) -> Result<fs::File, Error> {
    let is_new = !exists(path)?;
    let file = fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .on("open", path)?;
    if is_new {
        sync_dir(parent_of(path))?;
    }
    Ok(file)
}

/// Appends one line and flushes it to the disk.
///
/// # Errors
/// Writing or flushing failed.
pub fn append_line(file: &mut fs::File, path: &Path, line: &str) -> Result<(), Error> {
    let mut bytes = Vec::with_capacity(line.len() + 1);
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    file.write_all(&bytes).on("write", path)?;
    file.sync_data().on("flush", path)
}

/// Puts `bytes` at `path` for everybody to read (mode 0644): what can be made again, such as a manual page.
///
/// # Errors
/// It cannot be created or written.
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o644).open(path).on("create", path)?;
    file.write_all(bytes).on("write", path)
}

/// Renames and flushes the directories on both ends.
///
/// # Errors
/// Renaming or flushing failed.
pub fn rename_durable(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).on("rename", from)?;
    let (source, target) = (parent_of(from), parent_of(to));
    sync_dir(target)?;
    if source != target {
        sync_dir(source)?;
    }
    Ok(())
}

/// Flushes a directory: the names in it survive a power cut.
///
/// # Errors
/// It cannot be opened or flushed.
pub fn sync_dir(path: &Path) -> Result<(), Error> {
    open(path)?.sync_all().on("flush", path)
}

/// Creates a directory and its parents, each flushed into the one above. Nothing happens to those that are there.
///
/// # Errors
/// One of them cannot be created.
pub fn create_dir_durable(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    create_dir_durable(parent)?;
    match fs::create_dir(path) {
        Ok(()) => sync_dir(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(error).on("create the directory", path),
            // It is there, and its disk does not tell what it is.
            Err(unseen) => Err(unseen).on("look at", path),
        },
        Err(error) => Err(error).on("create the directory", path),
    }
}

/// Creates a directory and its parents, for what need not survive a power cut. Nothing happens to those that are there.
///
/// # Errors
/// One of them cannot be created.
pub fn create_dir_scratch(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).on("create the directory", path)
}

/// Removes a file; nothing happens if it is not there.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).on("remove", path),
        _ => Ok(()),
    }
}

/// Removes an empty directory; not flushed.
///
/// # Errors
/// It is not empty, or may not be removed.
pub fn remove_empty_dir(path: &Path) -> Result<(), Error> {
    fs::remove_dir(path).on("remove the directory", path)
}

/// Removes a file and flushes its directory: it does not come back after a power cut.
///
/// # Errors
/// It is there and cannot be removed, or the directory cannot be flushed.
pub fn remove_file_durable(path: &Path) -> Result<(), Error> {
    remove_file(path)?;
    sync_dir(parent_of(path))
}

/// Whether something (a dangling symbolic link too) has this name.
///
/// # Errors
/// It cannot be told.
pub fn exists(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).on("look at", path),
    }
}

/// The names in a directory, sorted.
///
/// # Errors
/// It cannot be read.
pub fn names_in(path: &Path) -> Result<Vec<std::ffi::OsString>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).on("read the directory", path)? {
        names.push(entry.on("read the directory", path)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// The path without symbolic links, `.` and `..`.
///
/// # Errors
/// Something on the way is not there or cannot be read.
pub fn real_path(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).on("find", path)
}

/// Whether files can be created in a directory, found out by creating one (the directory too, if it is missing).
///
/// # Errors
/// They cannot.
pub fn probe_writable(directory: &Path) -> Result<(), Error> {
    create_dir_durable(directory)?;
    let probe = directory.join(format!(".daykeep-probe-{}", std::process::id()));
    create_new(&probe)?;
    remove_file(&probe)
}

/// The directory that holds `path`'s name.
#[must_use]
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}
