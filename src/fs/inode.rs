//! What a name stands for, taken hold of before it is changed: in a directory of others a name may be another thing at every moment.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::fs::attributes::{Attributes, Lacking, is_forbidden, is_unsupported, to_modify};
use crate::fs::dir::{Dir, Kind, Stat, stat_at};
use crate::fs::{Error, OnPath as _};

/// A thing of any kind, neither opened for reading nor followed if it is a symbolic link. Whatever becomes of its name, all that is done
/// here is done to it.
#[derive(Debug)]
pub struct Inode {
    fd: OwnedFd,
    path: PathBuf,
}

impl Inode {
    /// Takes hold of what has the name now.
    ///
    /// # Errors
    /// Nothing has it.
    pub fn of(dir: &Dir, name: &[u8]) -> Result<Self, Error> {
        let path = dir.path_of(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).on("look at", &path)?;
        Ok(Self { fd, path })
    }

    /// What it is.
    ///
    /// # Errors
    /// The file system fails.
    pub fn stat(&self) -> Result<Stat, Error> {
        stat_at(self.fd.as_fd(), b"", AtFlags::EMPTY_PATH).on("look at", &self.path)
    }

    /// Sets its permission bits. A symbolic link has none.
    ///
    /// # Errors
    /// It is not ours, or is a symbolic link.
    pub fn set_mode(&self, mode: u32) -> Result<(), Error> {
        if self.stat()?.kind == Kind::Symlink {
            return Err(Errno::LOOP).on("set the mode of", &self.path);
        }
        let set = rustix::fs::chmodat(CWD, self.proc_path(), Mode::from_raw_mode(mode), AtFlags::empty());
        set.on("set the mode of", &self.path)
    }

    /// Sets its modification time.
    ///
    /// # Errors
    /// It may not be set.
    pub fn set_mtime(&self, mtime: (i64, u32)) -> Result<(), Error> {
        let set = rustix::fs::utimensat(CWD, self.proc_path(), &to_modify(mtime), AtFlags::empty());
        set.on("set the times of", &self.path)
    }

    /// Takes an extended attribute away; nothing happens if it is not there.
    ///
    /// # Errors
    /// It may not be taken away.
    pub fn remove_xattr(&self, key: &str) -> Result<(), Error> {
        match xattr::remove_deref(self.proc_path(), key) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NODATA) || is_unsupported(&error) => {
                Ok(())
            }
            other => other.on("remove an extended attribute of", &self.path),
        }
    }

    /// Gives it attributes as [`apply`](crate::fs::attributes::apply) does.
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, wanted: &Attributes) -> Result<Lacking, Error> {
        let (uid, gid) = (Some(Uid::from_raw(wanted.uid)), Some(Gid::from_raw(wanted.gid)));
        let owned = match rustix::fs::chownat(&self.fd, "", uid, gid, AtFlags::EMPTY_PATH) {
            Ok(()) => true,
            Err(Errno::PERM | Errno::INVAL) => false,
            Err(error) => return Err(error).on("set the owner of", &self.path),
        };
        // After the owner, whose change takes setuid and setgid away.
        if self.stat()?.kind != Kind::Symlink {
            self.set_mode(wanted.mode)?;
        }
        let whole = self.match_xattrs(&wanted.xattrs).on("set an extended attribute of", &self.path)?;
        self.set_mtime(wanted.mtime)?;
        Ok(Lacking { owner: !owned, xattr: !whole })
    }

    fn match_xattrs(&self, wanted: &BTreeMap<String, Vec<u8>>) -> io::Result<bool> {
        let path = self.proc_path();
        let keys = match xattr::list_deref(&path) {
            Ok(keys) => keys.collect(),
            Err(error) if is_unsupported(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        for key in keys {
            let ours =
                key.as_bytes().starts_with(b"system.posix_acl_") || key.as_bytes().starts_with(b"user.");
            if let Some(key) = key.to_str().filter(|key| ours && !wanted.contains_key(*key)) {
                xattr::remove_deref(&path, key)?;
            }
        }
        let mut whole = true;
        for (key, value) in wanted {
            match xattr::set_deref(&path, key, value) {
                Ok(()) => {}
                Err(error) if is_unsupported(&error) || is_forbidden(&error) => whole = false,
                Err(error) => return Err(error),
            }
        }
        Ok(whole)
    }

    /// The kernel resolves this to the thing itself, whatever it is, and goes no further.
    fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::Inode;
    use crate::fs::attributes::Attributes;
    use crate::fs::dir::{Dir, Kind};

    #[test]
    fn a_link_is_changed_itself_and_what_it_leads_to_is_not() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::File::create(&file).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        symlink("file", place.path().join("link")).unwrap();
        let dir = Dir::open(place.path()).unwrap();
        let link = Inode::of(&dir, b"link").unwrap();
        assert_eq!(link.stat().unwrap().kind, Kind::Symlink);
        let before = std::fs::metadata(&file).unwrap();
        let wanted = Attributes {
            mode: 0o777,
            uid: before.uid(),
            gid: before.gid(),
            mtime: (7, 8),
            xattrs: BTreeMap::new(),
        };
        link.apply(&wanted).unwrap();
        let of_link = std::fs::symlink_metadata(place.path().join("link")).unwrap();
        assert_eq!((of_link.mtime(), of_link.mtime_nsec()), (7, 8));
        assert!(link.set_mode(0o777).unwrap_err().to_string().starts_with("cannot set the mode of "));
        let after = std::fs::metadata(&file).unwrap();
        assert_eq!((after.mode(), after.ctime_nsec()), (before.mode(), before.ctime_nsec()));
    }

    #[test]
    fn it_stays_the_same_thing_whatever_becomes_of_its_name() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::File::create(at("file")).unwrap();
        std::fs::File::create(at("other")).unwrap();
        let dir = Dir::open(place.path()).unwrap();
        let file = Inode::of(&dir, b"file").unwrap();
        dir.rename(b"file", &dir, b"moved").unwrap();
        symlink("other", at("file")).unwrap();
        file.set_mode(0o644).unwrap();
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().mode() & 0o777;
        file.set_mode(0o751).unwrap();
        assert_eq!(mode("moved"), 0o751);
        assert_ne!(mode("other"), 0o751);
    }
}
