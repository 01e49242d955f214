//! Removing what is in a directory, whatever it is.

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::{Dir, Kind};
use crate::fs::Error;

impl Dir {
    /// Removes a name and all below it, depth first.
    ///
    /// # Errors
    /// Something may not be removed.
    pub fn remove_all(&self, name: &[u8]) -> Result<(), Error> {
        let Some(stat) = self.stat_if_exists(name)? else { return Ok(()) };
        if stat.kind != Kind::Directory {
            return self.unlink(name);
        }
        // A path, not a stack of open directories: depth costs no descriptors.
        let mut path = name.to_vec();
        while path.len() >= name.len() {
            let (parent, last) = self.parent_beneath(&path)?;
            parent.set_mode(&last, 0o700, Kind::Directory)?;
            match parent.dir(&last)?.empty_but_one_dir()? {
                Some(below) => {
                    path.push(b'/');
                    path.extend_from_slice(&below);
                }
                None => {
                    let removed = rustix::fs::unlinkat(&parent.fd, last.as_slice(), AtFlags::REMOVEDIR);
                    parent.on("remove the directory", &last, removed)?;
                    let up = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                    path.truncate(up);
                }
            }
        }
        Ok(())
    }

    /// Unlinks what is no directory; the name of a directory that is not empty, if there is one.
    fn empty_but_one_dir(&self) -> Result<Option<Vec<u8>>, Error> {
        let names = self.names()?;
        for (name, _) in (0..names.len()).filter_map(|index| names.get(index)) {
            match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) if self.stat(name)?.kind == Kind::Directory => {
                    match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name.to_vec())),
                        Err(error) => return self.on("remove the directory", name, Err(error)),
                    }
                }
                Err(error) => return self.on("remove", name, Err(error)),
            }
        }
        Ok(None)
    }
}
