//! Asking a tree of a day for files, by paths that come from a database and are not trusted.

use std::path::Path;

use crate::fs::dir::{Dir, Kind, is_gone, split_last};
use crate::tree::Error;
use crate::tree::site::is_link;

/// A tree in a day.
#[derive(Debug)]
pub struct DayTree(Dir);

impl DayTree {
    /// Opens `<day>/trees/<name>`.
    ///
    /// # Errors
    /// It is not there or may not be read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self(Dir::open(dir)?))
    }

    /// The size of the regular file at `path` beneath the tree; None when there is none. Symbolic links are not followed, `..` does not
    /// lead out, and nothing but a regular file counts.
    ///
    /// # Errors
    /// The file system fails, or a directory on the way may not be searched.
    pub fn stat_beneath(&self, path: &[u8]) -> Result<Option<u64>, Error> {
        let path = path.strip_prefix(b"./").unwrap_or(path);
        let (parent, name) = split_last(path);
        // A name that the kernel would refuse is a name that no file has.
        let impossible = name.len() > 255 || path.contains(&0) || path.starts_with(b"/");
        if impossible || name.is_empty() || name == b"." || name == b".." {
            return Ok(None);
        }
        let found = match self.0.beneath(parent) {
            Ok(dir) => dir.stat_if_exists(name),
            Err(error) => Err(error),
        };
        match found {
            Ok(stat) => Ok(stat.filter(|stat| stat.kind == Kind::File).map(|stat| stat.size)),
            Err(error) if is_gone(&error) || is_link(&error) || is_outside(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_outside(error: &crate::fs::Error) -> bool {
    let errno = error.source.raw_os_error();
    errno == Some(nix::libc::EXDEV) || errno == Some(nix::libc::ENAMETOOLONG)
}
