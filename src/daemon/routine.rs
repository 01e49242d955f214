//! What is done with a repository again and again, and what must not be done at the same time.

use crate::config::{Repository, Schedule};
use crate::journal::JobKind;

/// What may have a schedule.
pub const SCHEDULED: [JobKind; 3] = [JobKind::Backup, JobKind::Verify, JobKind::Drill];

/// One kind of job of one repository: of each there is at most one at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Routine {
    /// The repository.
    pub repository: String,
    /// What is done.
    pub kind: JobKind,
}

impl Routine {
    /// A kind of job of a repository.
    #[must_use]
    pub fn new(repository: &str, kind: JobKind) -> Self {
        Self { repository: repository.to_owned(), kind }
    }

    /// Whether the two must not go on at the same time. What changes the repository excludes all else of it; verifies and drills only
    /// read days and pin them, so that no backup waits for one, but they read the same disks, so that there is one of them at a time.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        let changes = |kind| matches!(kind, JobKind::Restore | JobKind::Settle);
        let reads = |kind| matches!(kind, JobKind::Verify | JobKind::Drill);
        self.repository == other.repository
            && (self.kind == other.kind
                || changes(self.kind)
                || changes(other.kind)
                || (reads(self.kind) && reads(other.kind)))
    }

    /// For a log: `small` for its runs, `small, drill` for the rest.
    #[must_use]
    pub fn name(&self) -> String {
        match self.kind {
            JobKind::Backup => self.repository.clone(),
            kind => format!("{}, {}", self.repository, kind.word()),
        }
    }
}

/// When a kind of job begins by itself.
#[must_use]
pub fn schedule_of(repository: &Repository, kind: JobKind) -> Option<&Schedule> {
    match kind {
        JobKind::Backup => repository.schedule.as_ref(),
        JobKind::Drill => repository.drill.schedule.as_ref(),
        JobKind::Verify => repository.verify.schedule.as_ref(),
        JobKind::Prune | JobKind::Restore | JobKind::Settle => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Routine;
    use crate::journal::JobKind::{Backup, Drill, Restore, Settle, Verify};

    #[test]
    fn what_only_reads_keeps_no_backup_waiting() {
        let excludes = |a, b| {
            let (a, b) = (Routine::new("web", a), Routine::new("web", b));
            assert_eq!(a.excludes(&b), b.excludes(&a), "{a:?} {b:?}");
            a.excludes(&b)
        };
        for kind in [Backup, Restore, Settle, Verify, Drill] {
            assert!(excludes(kind, kind), "two of {kind:?}");
            assert!(excludes(Restore, kind) && excludes(Settle, kind), "{kind:?} beside a restore");
        }
        assert!(!excludes(Backup, Drill) && !excludes(Backup, Verify));
        assert!(excludes(Verify, Drill));
        assert!(!Routine::new("web", Restore).excludes(&Routine::new("other", Restore)));
    }
}
