//! Where a tree is to go: its root as it is now, and the directory on the same file system that takes what is staged and what is moved aside.
//!
//! That directory lies beside the root, so that it is no part of the tree even for a moment; in the root only where nothing can be
//! moved between the two: the root is a mount point or a subvolume, or this process may not write beside it.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::fs;
use crate::fs::dir::{Dir, Stat, is_gone};
use crate::tree::restore::{Error, PREFIX};

/// The root, looked at.
#[derive(Debug)]
pub(crate) struct Ground {
    /// The root without symbolic links.
    pub root: PathBuf,
    /// It, open; None: it is missing.
    pub open: Option<(Dir, Stat)>,
    /// The directory for what is staged and moved aside.
    pub work: PathBuf,
    /// It lies in the root.
    pub inside: bool,
    /// The highest directory above the root that is missing too.
    pub missing_above: Option<PathBuf>,
}

impl Ground {
    pub(crate) fn look(root: &Path, tree: &str, tag: &str) -> Result<Self, Error> {
        let name = format!("{PREFIX}{tag}-{tree}");
        if fs::exists(root)? {
            // By the way of links that can be trusted; from here on no link in it is followed any more.
            let trusted = match Dir::open_trusted(root) {
                Err(error) if is_gone(&error) => return Err(Error::NoDirectory { path: root.to_owned() }),
                opened => opened?,
            };
            let root = PathBuf::from(std::ffi::OsString::from_vec(trusted.kernel_path()?));
            if root == Path::new("/") {
                return Err(Error::WholeMachine);
            }
            let dir = Dir::open_real(&root)?;
            let stat = dir.stat_self()?;
            let parent = fs::parent_of(&root);
            let above = Dir::open(parent)?.stat_self()?;
            let inside = stat.mount_root || above.dev != stat.dev || !fs::may_write(parent);
            let work = if inside { root.join(&name) } else { parent.join(&name) };
            return Ok(Self { root, open: Some((dir, stat)), work, inside, missing_above: None });
        }
        let mut there = fs::parent_of(root);
        let mut missing_above = None;
        while !fs::exists(there)? {
            missing_above = Some(there);
            there = fs::parent_of(there);
        }
        let real = fs::real_path(there)?;
        let under = |path: &Path| real.join(path.strip_prefix(there).unwrap_or(path));
        let root = under(root);
        Ok(Self {
            work: fs::parent_of(&root).join(&name),
            missing_above: missing_above.map(under),
            root,
            open: None,
            inside: false,
        })
    }

    /// The directory nearest to the root that is there.
    pub(crate) fn nearest(&self) -> &Path {
        match (&self.open, &self.missing_above) {
            (Some(_), _) => &self.root,
            (None, Some(missing)) => fs::parent_of(missing),
            (None, None) => fs::parent_of(&self.root),
        }
    }
}

/// The last name of a path.
pub(crate) fn name_of(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_bytes()
}
