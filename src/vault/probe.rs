//! What the vault's file system has left and can do, tried and not assumed.

use crate::fs;
use crate::vault::{Error, Vault};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Files can have several names. Without this there are no days.
    pub hard_links: bool,
    /// Modification times keep their nanoseconds.
    pub nanosecond_times: bool,
    /// Files can have extended attributes, and so ACLs.
    pub xattrs: bool,
    /// Bytes free for daykeep.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Inodes free for daykeep.
    pub free_inodes: u64,
    /// Inodes in all; 0 where the file system makes them as it goes.
    pub total_inodes: u64,
    /// The type of the file system, `ext4`.
    pub file_system: String,
}

impl Vault {
    /// Tries with a file, which is removed again.
    ///
    /// # Errors
    /// The vault cannot be written.
    pub fn probe(&self) -> Result<Probe, Error> {
        let name = format!(".probe-{}", std::process::id());
        let abilities = fs::try_abilities(self.path(), &name)?;
        let volume = fs::volume(self.path())?;
        Ok(Probe {
            hard_links: abilities.hard_links,
            nanosecond_times: abilities.nanosecond_times,
            xattrs: abilities.xattrs,
            free_bytes: volume.free_bytes,
            total_bytes: volume.total_bytes,
            free_inodes: volume.free_inodes,
            total_inodes: volume.total_inodes,
            file_system: volume.kind,
        })
    }
}
