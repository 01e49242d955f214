//! What is new in the journals since somebody last looked.

use std::collections::BTreeSet;
use std::path::Path;

use crate::journal::Error;
use crate::journal::job::{self, Job, JobState};

/// A reader that comes back. A job that has ended never changes, so a look costs the names of the files and the jobs that
/// go on, however many there were.
#[derive(Debug, Default)]
pub struct News {
    ended: BTreeSet<u64>,
}

impl News {
    /// The jobs that go on, and those whose end was not told before, by number.
    ///
    /// # Errors
    /// The journals cannot be read; what was not told comes with the next look.
    pub fn look(&mut self, state_dir: &Path) -> Result<Vec<Job>, Error> {
        let files = job::numbers(state_dir)?;
        let mut jobs = Vec::new();
        for (_, path) in files.iter().filter(|(id, _)| !self.ended.contains(id)) {
            jobs.extend(job::read(path)?);
        }
        let there: BTreeSet<u64> = files.into_iter().map(|(id, _)| id).collect();
        self.ended.retain(|id| there.contains(id));
        self.ended.extend(jobs.iter().filter(|job| job.state != JobState::Running).map(|job| job.id));
        Ok(jobs)
    }
}
