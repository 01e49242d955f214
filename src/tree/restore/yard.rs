//! Where a restore makes things, and what its threads share.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::fs::dir::{Dir, is_gone};
use crate::tree::restore::links::Links;
use crate::tree::restore::tell::Tell;
use crate::tree::restore::{Built, Error};
use crate::tree::site::is_link;

/// Where things are made, and what all threads share.
pub(crate) struct Yard<'a> {
    /// The root of the tree in the day.
    pub day: &'a Dir,
    /// What the paths of made things begin at.
    pub target: &'a Dir,
    /// The live tree, for links to files that are right; None when there is none.
    pub live: Option<&'a Dir>,
    pub links: Links,
    /// What a killed restore made may be here already.
    pub resumed: bool,
    /// The directory that is made first is there already: something is mounted there.
    pub onto_mount: bool,
    pub tell: Tell,
    pub made: Made,
    pub stop: CancellationToken,
}

/// What was made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub entries: AtomicU64,
    pub files: AtomicU64,
    pub bytes: AtomicU64,
}

impl Made {
    pub(crate) fn built(&self) -> Built {
        let [entries, files, bytes] =
            [&self.entries, &self.files, &self.bytes].map(|count| count.load(Ordering::Relaxed));
        Built { entries, files, bytes }
    }
}

/// What cannot be opened in the day because it is not there, or is something else, is damage.
pub(crate) fn in_day<T>(
    yard: &Yard<'_>,
    path: &[u8],
    opened: Result<T, crate::fs::Error>,
) -> Result<T, Error> {
    opened.map_err(|error| {
        if is_gone(&error) || is_link(&error) {
            let problem = format!("it is not there as it was recorded ({})", error.source);
            return Error::Damaged { path: yard.day.path_of(path), problem };
        }
        error.into()
    })
}
