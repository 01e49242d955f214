//! An open directory, and everything that is done to the names in it.
//!
//! A tree that is read while others change it is never reached by a full path: somebody could put a symbolic link in the
//! way between two looks. Every step goes from an open directory to one name in it, without following links. That also makes
//! paths longer than `PATH_MAX` ordinary.

mod names;
mod remove;
mod stat;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno;

pub use names::Names;
pub(super) use stat::stat_at;
pub use stat::{Kind, Stat, stat_file};

use crate::fs::{Error, Inode, OnPath as _};

/// The longest path that is handed to the kernel in one piece; longer ones go in several.
const LONGEST_PIECE: usize = 4000;

/// An open directory that remembers its path for messages.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the root of a tree; a symbolic link at its end is followed, for this is the admin's own path.
    ///
    /// # Errors
    /// It is not there, is no directory, or may not be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).on("open the directory", path)?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Opens a path that has no symbolic links, as [`real_path`](crate::fs::real_path) gives it; one that has come into it since is an
    /// error.
    ///
    /// # Errors
    /// As [`Dir::beneath`].
    pub fn open_real(path: &Path) -> Result<Self, Error> {
        let way = path.strip_prefix("/").map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        let way = way.on("open the directory", path)?;
        Self::open(Path::new("/"))?.beneath(way.as_os_str().as_bytes())
    }

    pub(super) fn around(fd: OwnedFd, path: &Path) -> Self {
        Self { fd, path: path.to_owned() }
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a name in it, for messages.
    #[must_use]
    pub fn path_of(&self, name: &[u8]) -> PathBuf {
        if name.is_empty() {
            return self.path.clone();
        }
        self.path.join(OsStr::from_bytes(name))
    }

    /// The same directory under another path in messages.
    ///
    /// # Errors
    /// No more files can be opened.
    pub fn shown_as(&self, path: &Path) -> Result<Self, Error> {
        Ok(Self { fd: self.on("open the directory", b"", self.fd.try_clone())?, path: path.to_owned() })
    }

    fn on<T>(
        &self,
        action: &'static str,
        name: &[u8],
        result: Result<T, impl Into<io::Error>>,
    ) -> Result<T, Error> {
        result.map_err(|error| Error { action, path: self.path_of(name), source: error.into() })
    }

    /// A directory in it; a symbolic link is not followed.
    ///
    /// # Errors
    /// It is not there, is no directory, or may not be read.
    pub fn dir(&self, name: &[u8]) -> Result<Self, Error> {
        let fd = rustix::fs::openat(&self.fd, name, DIRECTORY, Mode::empty());
        Ok(Self { fd: self.on("open the directory", name, fd)?, path: self.path_of(name) })
    }

    /// A directory any number of levels below, reached without leaving this one and without following a link.
    ///
    /// # Errors
    /// As [`Dir::dir`].
    pub fn beneath(&self, path: &[u8]) -> Result<Self, Error> {
        let (first, mut rest) = split_piece(path);
        let mut here = self.piece_beneath(first)?;
        while !rest.is_empty() {
            let (piece, behind) = split_piece(rest);
            here = here.piece_beneath(piece)?;
            rest = behind;
        }
        Ok(here)
    }

    fn piece_beneath(&self, piece: &[u8]) -> Result<Self, Error> {
        if piece.is_empty() {
            return self.shown_as(&self.path);
        }
        let fd = resolve(&self.fd, piece, DIRECTORY);
        Ok(Self { fd: self.on("open the directory", piece, fd)?, path: self.path_of(piece) })
    }

    /// The names in it, sorted.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&self) -> Result<Names, Error> {
        // Opened again, so that the position in it is ours.
        let fd = rustix::fs::openat(&self.fd, ".", DIRECTORY, Mode::empty());
        self.names_of(self.on("read the directory", b"", fd)?)
    }

    /// As [`Dir::names`], without opening it again: for a directory whose names no other thread reads meanwhile.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn own_names(&self) -> Result<Names, Error> {
        // A clone of this descriptor may have read them before.
        self.on("read the directory", b"", rustix::fs::seek(&self.fd, SeekFrom::Start(0)))?;
        self.names_of(&self.fd)
    }

    fn names_of(&self, fd: impl AsFd) -> Result<Names, Error> {
        let mut buffer = Vec::with_capacity(64 * 1024);
        let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
        let mut names = Names::default();
        while let Some(entry) = entries.next() {
            let entry = self.on("read the directory", b"", entry)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.on("read the directory", b"", names.push(name, Kind::of(entry.file_type())))?;
            }
        }
        names.sort();
        Ok(names)
    }

    /// What a name is.
    ///
    /// # Errors
    /// It is not there, or the directory may not be searched.
    pub fn stat(&self, name: &[u8]) -> Result<Stat, Error> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        self.on("look at", name, stat_at(&self.fd, name, flags))
    }

    /// Like [`Dir::stat`], with None for a name that is not there.
    ///
    /// # Errors
    /// Any other failure.
    pub fn stat_if_exists(&self, name: &[u8]) -> Result<Option<Stat>, Error> {
        match self.stat(name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the directory itself is.
    ///
    /// # Errors
    /// The file system fails.
    pub fn stat_self(&self) -> Result<Stat, Error> {
        self.on("look at", b"", stat_at(&self.fd, b"", AtFlags::EMPTY_PATH))
    }

    /// Opens a regular file for reading, without following a link and without waiting at a pipe.
    ///
    /// # Errors
    /// It cannot be opened; a symbolic link in its place is `ELOOP`.
    pub fn open_file(&self, name: &[u8]) -> Result<File, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        // Reading must not touch the source's access times; only the owner may ask for that.
        let opened = match rustix::fs::openat(&self.fd, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => rustix::fs::openat(&self.fd, name, flags, Mode::empty()),
            other => other,
        };
        self.on("open", name, opened.map(File::from))
    }

    /// Creates a file that must not be there, mode 0600, for writing and reading back.
    ///
    /// # Errors
    /// It is there, or cannot be created.
    pub fn create_file(&self, name: &[u8]) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let created = rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR);
        self.on("create", name, created.map(File::from))
    }

    /// As [`Dir::create_file`]; None: the name is taken.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create_file_if_new(&self, name: &[u8]) -> Result<Option<File>, Error> {
        match self.create_file(name) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a directory, mode 0700. False: there is one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_dir(&self, name: &[u8]) -> Result<bool, Error> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => self.on("create the directory", name, Err(error)),
        }
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// It is there, or cannot be made.
    pub fn make_symlink(&self, name: &[u8], target: &[u8]) -> Result<(), Error> {
        self.on("create the symbolic link", name, rustix::fs::symlinkat(target, &self.fd, name))
    }

    /// Makes a named pipe or a device.
    ///
    /// # Errors
    /// It is there, or cannot be made (devices need `CAP_MKNOD`).
    pub fn make_node(&self, name: &[u8], kind: Kind, device: (u32, u32)) -> Result<(), Error> {
        let file_type = match kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let number = rustix::fs::makedev(device.0, device.1);
        let made = rustix::fs::mknodat(&self.fd, name, file_type, Mode::RUSR | Mode::WUSR, number);
        self.on("create", name, made)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// It is none, or is not there.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, Error> {
        let target = rustix::fs::readlinkat(&self.fd, name, Vec::new());
        Ok(self.on("read the symbolic link", name, target)?.into_bytes())
    }

    /// Gives `name` a second name in `to`; a link itself is linked, not what it points to.
    ///
    /// # Errors
    /// The name is taken, the inode has all the links it can have, or the file system is another.
    pub fn link(&self, name: &[u8], to: &Self, new: &[u8]) -> Result<(), Error> {
        let linked = rustix::fs::linkat(&self.fd, name, &to.fd, new, AtFlags::empty());
        to.on("link", new, linked)
    }

    /// Moves `name` to `new` in `to`, over what is there.
    ///
    /// # Errors
    /// A directory is there, or it cannot be done.
    pub fn rename(&self, name: &[u8], to: &Self, new: &[u8]) -> Result<(), Error> {
        to.on("rename into place", new, rustix::fs::renameat(&self.fd, name, &to.fd, new))
    }

    /// Removes a name that is no directory; nothing happens if it is not there.
    ///
    /// # Errors
    /// It is a directory, or may not be removed.
    pub fn unlink(&self, name: &[u8]) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) | Ok(()) => Ok(()),
            Err(error) => self.on("remove", name, Err(error)),
        }
    }

    /// The directory that holds the last name of `path`, and that name.
    ///
    /// # Errors
    /// As [`Dir::beneath`].
    pub fn parent_beneath(&self, path: &[u8]) -> Result<(Self, Vec<u8>), Error> {
        let (parent, last) = split_last(path);
        Ok((self.beneath(parent)?, last.to_vec()))
    }

    /// Sets permission bits of what is not a symbolic link.
    ///
    /// # Errors
    /// It may not be changed, or a symbolic link has come in its place.
    pub fn set_mode(&self, name: &[u8], mode: u32, kind: Kind) -> Result<(), Error> {
        if kind == Kind::Symlink {
            return Ok(());
        }
        Inode::of(self, name)?.set_mode(mode)
    }

    /// A path of this name that the kernel resolves through the open directory: for calls that have no `at` form.
    #[must_use]
    pub fn proc_path(&self, name: &[u8]) -> PathBuf {
        let mut path = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        if !name.is_empty() {
            path.push(OsStr::from_bytes(name));
        }
        path
    }

    /// Where it is now, as the kernel says.
    ///
    /// # Errors
    /// `/proc` is not there, or the path is too long for it.
    pub fn kernel_path(&self) -> Result<Vec<u8>, Error> {
        let path = rustix::fs::readlink(self.proc_path(b""), Vec::new());
        Ok(self.on("find the path of", b"", path)?.into_bytes())
    }
}

/// Nothing has this name, or something on the way to it is no directory any more.
#[must_use]
pub fn is_gone(error: &Error) -> bool {
    let errno = Errno::from_io_error(&error.source);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::STALE))
}

/// Everything before the last `/`, and what is behind it.
#[must_use]
pub fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn split_piece(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= LONGEST_PIECE {
        return (path, b"");
    }
    match path[..LONGEST_PIECE].iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, b""),
    }
}

fn resolve(fd: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // The kernel gives up (EAGAIN) when a rename anywhere raced it.
    for _ in 0..64 {
        match rustix::fs::openat2(&fd, path, flags, Mode::empty(), within) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    rustix::fs::openat2(&fd, path, flags, Mode::empty(), within)
}
