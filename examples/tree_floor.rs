//! The floors of a day, for the benches: two threads that share the directories below FROM, and do nothing but the system calls that no
//! day can do without.
//!
//! - `tree_floor link FROM TO` looks at every file and links it below TO: an unchanged day by hard links.
//! - `tree_floor look-and-link FROM TO` looks at what it links too, as a day does that is not to link what was damaged meanwhile.
//! - `tree_floor copy FROM TO` copies every file with its owner, mode and time, and flushes the file system at the end: a first day.
#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "a bench program of its own")]

use std::ffi::{CStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, PoisonError};

use nix::dir::{Dir, Type};
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstatat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, linkat, read, syncfs, write};

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Link,
    LookAndLink,
    Copy,
}

/// The directories that nobody has looked into yet, and how many are being looked into.
#[derive(Default)]
struct Queue {
    waiting: Mutex<(Vec<PathBuf>, usize)>,
    news: Condvar,
}

impl Queue {
    fn add(&self, directory: PathBuf) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).0.push(directory);
        self.news.notify_one();
    }

    fn next(&self) -> Option<PathBuf> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(directory) = waiting.0.pop() {
                waiting.1 += 1;
                return Some(directory);
            }
            if waiting.1 == 0 {
                self.news.notify_all();
                return None;
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).1 -= 1;
        self.news.notify_all();
    }
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let act = match args.first().and_then(|act| act.to_str()) {
        Some("link") => Act::Link,
        Some("look-and-link") => Act::LookAndLink,
        Some("copy") => Act::Copy,
        _ => return usage(),
    };
    let [_, from, to] = args.as_slice() else { return usage() };
    match all(act, Path::new(from), Path::new(to)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tree_floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: tree_floor link|look-and-link|copy FROM TO");
    ExitCode::from(2)
}

fn all(act: Act, from: &Path, to: &Path) -> nix::Result<()> {
    nix::unistd::mkdir(to, Mode::from_bits_truncate(0o700))?;
    let queue = Queue::default();
    queue.add(PathBuf::new());
    std::thread::scope(|scope| {
        let work = || {
            let mut buffer = vec![0; 128 * 1024];
            while let Some(directory) = queue.next() {
                let pair = (from.join(&directory), to.join(&directory));
                let done = one_directory(act, &pair, &directory, &queue, &mut buffer);
                queue.done();
                done?;
            }
            Ok(())
        };
        let other = scope.spawn(work);
        let own = work();
        own.and(other.join().unwrap_or(Err(nix::Error::EIO)))
    })?;
    if act == Act::Copy { syncfs(open(to)?) } else { Ok(()) }
}

fn open(path: &Path) -> nix::Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

fn one_directory(
    act: Act,
    (from, to): &(PathBuf, PathBuf),
    beneath: &Path,
    queue: &Queue,
    buffer: &mut [u8],
) -> nix::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let (source, target) = (open(from)?, open(to)?);
    let mut names = Dir::from_fd(open(from)?)?;
    for entry in names.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = fstatat(&source, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if entry.file_type() == Some(Type::Directory) {
            mkdirat(&target, name, Mode::from_bits_truncate(0o700))?;
            queue.add(beneath.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            continue;
        }
        match act {
            Act::Copy => copy(&source, &target, name, &stat, buffer)?,
            Act::Link | Act::LookAndLink => {
                if act == Act::LookAndLink {
                    fstatat(&source, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                }
                linkat(&source, name, &target, name, AtFlags::empty())?;
            }
        }
    }
    Ok(())
}

fn copy(
    source: &OwnedFd,
    target: &OwnedFd,
    name: &CStr,
    stat: &FileStat,
    buffer: &mut [u8],
) -> nix::Result<()> {
    let from = openat(source, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let make = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let to = openat(target, name, make, Mode::from_bits_truncate(0o600))?;
    let mut left = stat.st_size;
    while left > 0 {
        let got = read(&from, buffer)?;
        if got == 0 {
            break;
        }
        let mut rest = &buffer[..got];
        while !rest.is_empty() {
            rest = &rest[write(&to, rest)?..];
        }
        left -= i64::try_from(got).unwrap_or(i64::MAX);
    }
    fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(&to, Mode::from_bits_truncate(stat.st_mode))?;
    let mtime = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    futimens(&to, &mtime, &mtime)
}
