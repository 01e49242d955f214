//! The directory for what is staged and what is moved aside: a slot for each thing, in directories of a few hundred.

use std::sync::Arc;

use crate::fs::dir::Dir;
use crate::fs::{self, attributes};
use crate::tree::restore::Error;
use crate::tree::restore::ground::name_of;
use crate::tree::restore::plan::Summary;

/// Slots in one directory.
const TOGETHER: u64 = 512;

#[derive(Debug)]
pub(crate) struct Slots {
    work: Dir,
    last: Option<(u64, Arc<Dir>)>,
}

/// One slot.
pub(crate) struct Slot {
    /// The directory that it is in, and the path of that beneath the whole.
    pub dir: Arc<Dir>,
    pub path: Vec<u8>,
    /// Its name there.
    pub name: Vec<u8>,
}

impl Slots {
    /// Opens the directory, making it if it is not there. True: it was there.
    pub(crate) fn open(summary: &Summary) -> Result<(Self, bool), Error> {
        let path = &summary.aside;
        let parent = fs::parent_of(path);
        fs::create_dir_durable(parent)?;
        let (above, name) = (Dir::open_real(parent)?, name_of(path));
        let is_new = above.make_dir(name)?;
        let work = above.dir(name)?;
        // Beside the root others may write, too. What lies in a directory of theirs can be exchanged at any moment.
        if work.stat_self()?.uid != rustix::process::geteuid().as_raw() {
            return Err(Error::NotOurs { path: path.clone() });
        }
        if is_new {
            // Neither setgid nor an ACL may pass from the directory above to what is made here.
            for key in ["system.posix_acl_default", "system.posix_acl_access"] {
                attributes::remove_xattr(&work, b"", key)?;
            }
            attributes::set_own_mode(&work, 0o700)?;
        }
        Ok((Self { work, last: None }, !is_new))
    }

    pub(crate) fn work(&self) -> &Dir {
        &self.work
    }

    /// Where slot `n` is.
    pub(crate) fn slot(&mut self, n: u64) -> Result<Slot, Error> {
        let shard = n / TOGETHER;
        let (path, name) = (shard.to_string().into_bytes(), n.to_string().into_bytes());
        if let Some((last, dir)) = &self.last
            && *last == shard
        {
            return Ok(Slot { dir: Arc::clone(dir), path, name });
        }
        self.work.make_dir(&path)?;
        let dir = Arc::new(self.work.dir(&path)?);
        self.last = Some((shard, Arc::clone(&dir)));
        Ok(Slot { dir, path, name })
    }
}
