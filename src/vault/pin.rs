//! A pin keeps a day from being removed while somebody reads it for long. It is a shared `flock` on the day's directory: it
//! dies with its process, and prune takes the exclusive one before it renames the day.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use crate::fs::{self, OnPath as _};
use crate::vault::{Day, Error};

/// The day stays as long as this lives.
#[derive(Debug)]
pub struct Pin {
    _directory: File,
}

impl Day {
    /// Keeps the day from being removed until the pin is dropped. Any number of readers may pin a day.
    ///
    /// A file system that cannot lock directories gives a pin that holds nothing.
    ///
    /// # Errors
    /// The day is being removed, or is gone.
    pub fn pin(&self) -> Result<Pin, Error> {
        let going = || Error::BeingRemoved { name: self.name().to_owned() };
        let directory = fs::open(self.path())?;
        if matches!(fs::try_lock_shared(&directory, self.path()), Ok(false)) {
            return Err(going());
        }
        // It may have been renamed between the opening and the lock: then the name is another's or nobody's.
        let opened = directory.metadata().on("look at", self.path())?;
        match fs::look_at(self.path()) {
            Ok(named) if (named.dev(), named.ino()) == (opened.dev(), opened.ino()) => {
                Ok(Pin { _directory: directory })
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Err(going()),
        }
    }

    /// The right to rename the day away; None while it is pinned. A file system that cannot lock directories has no pins.
    pub(super) fn unpinned(&self) -> Result<Option<File>, Error> {
        let directory = fs::open(self.path())?;
        let pinned = matches!(fs::try_lock(&directory, self.path()), Ok(false));
        Ok((!pinned).then_some(directory))
    }
}
