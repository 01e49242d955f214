//! The floor of an unchanged day, for the benches: `stat_and_link FROM TO` looks at every file below FROM and links it below TO, with two
//! threads that share the directories, and does nothing else. No copy by hard links can do less.
#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "a bench program of its own")]

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, PoisonError};

use nix::dir::{Dir, Type};
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstatat, mkdirat};

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
    let [from, to] = args.as_slice() else {
        eprintln!("usage: stat_and_link FROM TO");
        return ExitCode::from(2);
    };
    match link_all(Path::new(from), Path::new(to)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stat_and_link: {error}");
            ExitCode::FAILURE
        }
    }
}

fn link_all(from: &Path, to: &Path) -> nix::Result<()> {
    nix::unistd::mkdir(to, Mode::from_bits_truncate(0o700))?;
    let queue = Queue::default();
    queue.add(PathBuf::new());
    std::thread::scope(|scope| {
        let work = || {
            while let Some(directory) = queue.next() {
                let linked = link_directory(&from.join(&directory), &to.join(&directory), &directory, &queue);
                queue.done();
                linked?;
            }
            Ok(())
        };
        let other = scope.spawn(work);
        let own = work();
        own.and(other.join().unwrap_or(Err(nix::Error::EIO)))
    })
}

fn open(path: &Path) -> nix::Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

fn link_directory(from: &Path, to: &Path, beneath: &Path, queue: &Queue) -> nix::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let (source, target) = (open(from)?, open(to)?);
    let mut names = Dir::from_fd(open(from)?)?;
    for entry in names.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        fstatat(&source, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if entry.file_type() == Some(Type::Directory) {
            mkdirat(&target, name, Mode::from_bits_truncate(0o700))?;
            queue.add(beneath.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
        } else {
            nix::unistd::linkat(&source, name, &target, name, AtFlags::empty())?;
        }
    }
    Ok(())
}
