//! A listening unix socket that never is open to more than it should be.
//!
//! The name gets its mode and group between bind and listen: until listen every connect is refused, so neither the process's
//! umask nor a race lets anybody in early.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::unistd::{Gid, chown};
use rustix::fs::{CWD, Mode, chmodat};

use crate::fs::{Error, OnPath as _, parent_of, remove_file};

/// How many connects may wait to be accepted.
const WAITING: i32 = 1024;

/// What is at a socket's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A socket that a process listens on.
    Live,
    /// A socket of a process that is gone.
    Stale,
    /// Something that is no socket.
    Other,
}

/// Looks at a socket's name, by connecting to it.
///
/// # Errors
/// It cannot be told.
pub fn look(path: &Path) -> Result<Found, Error> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error).on("look at", path),
        Ok(metadata) if !metadata.file_type().is_socket() => return Ok(Found::Other),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Ok(Found::Live),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Found::Stale),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        // Its queue is full: somebody listens.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Found::Live),
        Err(error) => Err(error).on("connect to", path),
    }
}

/// Listens at `path`, which must be free, with this mode and (if given) group. Its directory is made if it is missing.
///
/// # Errors
/// The name is taken or too long (107 bytes), or its mode or group cannot be set.
pub fn listen_at(path: &Path, mode: u32, group: Option<u32>) -> Result<UnixListener, Error> {
    crate::fs::create_dir_durable(parent_of(path))?;
    let address = UnixAddr::new(path).on("listen at", path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let unbound = socket(AddressFamily::Unix, SockType::Stream, flags, None).on("listen at", path)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&unbound), &address).on("listen at", path)?;
    let opened = open_to(path, mode, group).and_then(|()| {
        Backlog::new(WAITING).and_then(|waiting| listen(&unbound, waiting)).on("listen at", path)
    });
    if let Err(error) = opened {
        // The name is ours and nobody can use it; the error that matters is the first one.
        let _ = remove_file(path);
        return Err(error);
    }
    Ok(UnixListener::from(unbound))
}

fn open_to(path: &Path, mode: u32, group: Option<u32>) -> Result<(), Error> {
    if let Some(group) = group {
        chown(path, None, Some(Gid::from_raw(group))).on("give to its group", path)?;
    }
    chmodat(CWD, path, Mode::from_raw_mode(mode), rustix::fs::AtFlags::empty()).on("set the mode of", path)
}
