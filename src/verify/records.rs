//! The records of a day's files, one at a time, as a verify reads them: in order, or not believed any further.

use std::cmp::Ordering;

use super::gather::Gather;
use super::report::{Damage, Fault, Part, shown};
use crate::manifest::{FileRecord, PathBytes, RecordReader, RecordsError, walk_order};
use crate::vault::Day;

/// The records with the next one at hand.
pub(super) struct Records {
    reader: RecordReader,
    next: Option<Box<FileRecord>>,
    /// Why the reading ended before the end.
    pub problem: Option<String>,
    last: Option<Box<FileRecord>>,
}

impl Records {
    pub fn open(day: &Day) -> Result<Self, RecordsError> {
        let mut records =
            Self { reader: RecordReader::open(&day.records())?, next: None, problem: None, last: None };
        records.advance();
        Ok(records)
    }

    /// The next record, if it is of this tree.
    pub fn peek(&self, tree: &str) -> Option<&FileRecord> {
        self.next.as_deref().filter(|record| record.tree == tree)
    }

    pub fn take(&mut self) -> Option<Box<FileRecord>> {
        let taken = self.next.take();
        self.last.clone_from(&taken);
        self.advance();
        taken
    }

    fn advance(&mut self) {
        if self.problem.is_some() {
            return;
        }
        match self.reader.next() {
            None => {}
            Some(Err(error)) => self.problem = Some(error.to_string()),
            Some(Ok(record)) => {
                let in_order =
                    self.last.as_deref().is_none_or(|last| walk_order(last, &record) == Ordering::Less);
                if in_order {
                    self.next = Some(Box::new(record));
                } else {
                    let path = shown(&record.path);
                    self.problem = Some(format!("the record of {path} stands out of order"));
                }
            }
        }
    }

    pub fn skip_tree(&mut self, tree: &str) {
        while self.peek(tree).is_some() {
            self.take();
        }
    }

    /// What is left when every tree is through is wrong.
    pub fn tell_problem(&self, day: &Day, gather: &Gather) {
        if let Some(problem) = &self.problem {
            let behind = match &self.last {
                Some(last) => format!("no file behind {} of the tree {}", shown(&last.path), last.tree),
                None => "no file of any tree".to_owned(),
            };
            gather.add(unreadable(problem, &behind));
        } else if let Some(record) = &self.next
            && !day.manifest().trees.contains_key(&record.tree)
        {
            gather.add(Damage {
                part: Part::Records,
                file: PathBytes(b"files.jsonl.zst".to_vec()),
                fault: Fault::Numbers,
                also: Vec::new(),
                problem: format!(
                    "it has records of a tree {:?} that manifest.json does not know",
                    record.tree
                ),
                means: "that tree is not restored".to_owned(),
                record: None,
            });
        }
    }
}

pub(super) fn unreadable(problem: &str, what: &str) -> Damage {
    Damage {
        part: Part::Records,
        file: PathBytes(b"files.jsonl.zst".to_vec()),
        fault: Fault::Unreadable,
        also: Vec::new(),
        problem: problem.to_owned(),
        means: format!(
            "{what} can be held against its record, or restored by it; restore.sh copies the trees as they are"
        ),
        record: None,
    }
}
