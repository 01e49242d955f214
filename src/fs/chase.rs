//! The way to a root that an admin has named, when others may write on the way.
//!
//! A tree's root often lies in a directory of the application's user, who can put a symbolic link in its place. A link of root, or of
//! whoever runs daykeep, is the admin's word and is followed. A link of anybody else may lead to what is his own, which he could have put
//! there himself, and nowhere else: else daykeep would read for him, and write for him, where he may not.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::fs::dir::{Dir, Kind, stat_at};
use crate::fs::{Error, OnPath as _};

/// As many as the kernel follows (path_resolution(7)).
const MOST_LINKS: u32 = 40;
/// A directory on the way, to be looked at and passed through.
const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the root of a tree, following links on the way that can be trusted.
    ///
    /// # Errors
    /// It is not there, is no directory, may not be read, or is reached through somebody else's link to what is not his.
    pub fn open_trusted(path: &Path) -> Result<Self, Error> {
        let fd = chase(path).on("open the directory", path)?;
        Ok(Self::around(fd, path))
    }
}

fn chase(path: &Path) -> io::Result<OwnedFd> {
    let mut here = rustix::fs::openat(CWD, if path.is_absolute() { "/" } else { "." }, STEP, Mode::empty())?;
    let mut left: VecDeque<OsString> = names(path).collect();
    let mut strangers = Vec::new();
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let next = rustix::fs::openat(&here, &name, STEP, Mode::empty())?;
        let stat = stat_at(next.as_fd(), b"", AtFlags::EMPTY_PATH)?;
        if stat.kind != Kind::Symlink {
            here = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        if stat.uid != 0 && stat.uid != rustix::process::geteuid().as_raw() {
            strangers.push(stat.uid);
        }
        let target = OsString::from_vec(rustix::fs::readlinkat(&next, "", Vec::new())?.into_bytes());
        if target.as_bytes().starts_with(b"/") {
            here = rustix::fs::openat(CWD, "/", STEP, Mode::empty())?;
        }
        for name in names(Path::new(&target)).collect::<Vec<_>>().into_iter().rev() {
            left.push_front(name);
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&here, ".", flags, Mode::empty())?;
    let owner = stat_at(opened.as_fd(), b"", AtFlags::EMPTY_PATH)?.uid;
    match strangers.into_iter().find(|uid| *uid != owner) {
        Some(uid) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "a symbolic link of uid {uid} leads to a directory of uid {owner}: name the directory itself in the configuration, or \
                 let root make the link"
            ),
        )),
        None => Ok(opened),
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, lchown, symlink};

    use crate::fs::create_dir_durable;
    use crate::fs::dir::Dir;

    #[test]
    fn it_comes_out_where_the_kernel_does() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        create_dir_durable(&at("a/b/c")).unwrap();
        symlink("a/b", at("relative")).unwrap();
        symlink(at("relative"), at("a/absolute")).unwrap();
        symlink("../../a/absolute/./c", at("a/b/far")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for path in ["a/b/c", "relative/c", "a/absolute/c", "relative/far", "a/../a/b/c/../../b/c/."] {
            let opened = Dir::open_trusted(&at(path)).unwrap().stat_self().unwrap();
            assert_eq!(opened.ino, std::fs::metadata(at(path)).unwrap().ino(), "{path}");
        }
        assert!(Dir::open_trusted(&at("loop")).is_err());
        assert!(Dir::open_trusted(&at("missing")).is_err());
        std::fs::File::create(at("file")).unwrap();
        assert!(Dir::open_trusted(&at("file")).is_err());
    }

    #[test]
    fn a_link_of_somebody_else_leads_to_what_is_his_and_no_further() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for (name, uid) in [("his", 4711), ("ours", 0)] {
            create_dir_durable(&at(name)).unwrap();
            lchown(at(name), Some(uid), None).unwrap();
            symlink(name, at(&format!("to-{name}"))).unwrap();
            lchown(at(&format!("to-{name}")), Some(4711), None).unwrap();
        }
        assert!(Dir::open_trusted(&at("to-his")).is_ok());
        let error = Dir::open_trusted(&at("to-ours")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        assert!(
            error
                .source
                .to_string()
                .starts_with("a symbolic link of uid 4711 leads to a directory of uid 0: ")
        );
        lchown(at("to-ours"), Some(0), None).unwrap();
        assert!(Dir::open_trusted(&at("to-ours")).is_ok());
    }
}
