//! Files that are open and copied after the release.

use std::fs::File;

use crate::fs::dir::Stat;

/// A file of a tree whose names are content, as it was at the freeze point. The open file keeps it, whatever happens to its name.
#[derive(Debug)]
pub(crate) struct Held {
    pub file: File,
    pub stat: Stat,
}
