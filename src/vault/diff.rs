//! What differs between two days: a merge of their records, which stand in the same order, so nothing but one record of
//! each is in memory.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{DatabaseEntry, FileRecord, RecordReader, RecordsError, Rows, TableReader, walk_order};
use crate::vault::{Day, Error};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Only the later day has it.
    Added(Box<FileRecord>),
    /// Only the earlier day has it.
    Removed(Box<FileRecord>),
    /// Both have it.
    Changed {
        /// As it was.
        before: Box<FileRecord>,
        /// As it is.
        after: Box<FileRecord>,
        /// In what: `kind`, `content`, `mode`, `owner`, `mtime`, `target`, `device`, `xattrs`.
        what: Vec<&'static str>,
    },
    /// A table whose rows daykeep copied has other rows.
    Table {
        /// Its database.
        database: String,
        /// Its schema.
        schema: String,
        /// Its name.
        name: String,
        /// Its rows; None when the earlier day does not have the table.
        before: Option<Rows>,
        /// Its rows; None when the later day does not have the table.
        after: Option<Rows>,
    },
}

/// Tells `sink` every difference on the way from `earlier` to `later`: first the files in the order of the walk, then
/// the tables by name.
///
/// # Errors
/// A day's records cannot be read.
pub fn diff(earlier: &Day, later: &Day, sink: &mut dyn FnMut(Difference)) -> Result<(), Error> {
    files(earlier, later, sink)?;
    tables(earlier, later, sink)
}

fn files(earlier: &Day, later: &Day, sink: &mut dyn FnMut(Difference)) -> Result<(), Error> {
    let (mut before, mut after) = (Side::open(earlier)?, Side::open(later)?);
    loop {
        let order = match (&before.next, &after.next) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => walk_order(before, after),
        };
        let gone = if order == Ordering::Greater { None } else { before.take()? };
        let come = if order == Ordering::Less { None } else { after.take()? };
        match (gone, come) {
            (Some(before), Some(after)) => {
                let what = changes(&before, &after);
                if !what.is_empty() {
                    sink(Difference::Changed { before, after, what });
                }
            }
            (Some(before), None) => sink(Difference::Removed(before)),
            (None, Some(after)) => sink(Difference::Added(after)),
            (None, None) => {}
        }
    }
}

/// The records of one day with the next one at hand.
struct Side {
    reader: Option<RecordReader>,
    next: Option<Box<FileRecord>>,
}

impl Side {
    /// A day without trees has no records.
    fn open(day: &Day) -> Result<Self, Error> {
        let reader =
            if day.manifest().trees.is_empty() { None } else { Some(RecordReader::open(&day.records())?) };
        let mut side = Self { reader, next: None };
        side.take()?;
        Ok(side)
    }

    fn take(&mut self) -> Result<Option<Box<FileRecord>>, RecordsError> {
        let next = self.reader.as_mut().and_then(Iterator::next).transpose()?;
        Ok(std::mem::replace(&mut self.next, next.map(Box::new)))
    }
}

fn changes(before: &FileRecord, after: &FileRecord) -> Vec<&'static str> {
    let same = [
        ("kind", before.kind == after.kind),
        ("content", before.size == after.size && before.blake3 == after.blake3),
        ("mode", before.mode == after.mode),
        ("owner", (before.uid, before.gid) == (after.uid, after.gid)),
        ("mtime", before.mtime == after.mtime),
        ("target", before.target == after.target),
        ("device", before.device == after.device),
        ("xattrs", before.xattrs == after.xattrs),
    ];
    same.into_iter().filter(|(_, same)| !same).map(|(what, _)| what).collect()
}

type Tables = BTreeMap<(String, String), Rows>;

fn tables(earlier: &Day, later: &Day, sink: &mut dyn FnMut(Difference)) -> Result<(), Error> {
    let (before, after) = (databases(earlier), databases(later));
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    for database in names {
        let mut before = tables_of(earlier, before.get(database).copied())?;
        let after = tables_of(later, after.get(database).copied())?;
        let mut all: BTreeMap<_, _> = BTreeMap::new();
        for (table, rows) in after {
            all.insert(table.clone(), (before.remove(&table), Some(rows)));
        }
        all.extend(before.into_iter().map(|(table, rows)| (table, (Some(rows), None))));
        for ((schema, name), (before, after)) in all {
            if before != after {
                sink(Difference::Table { database: database.to_owned(), schema, name, before, after });
            }
        }
    }
    Ok(())
}

fn databases(day: &Day) -> BTreeMap<&str, &DatabaseEntry> {
    let databases = day.manifest().database.iter().flat_map(|database| &database.databases);
    databases.map(|database| (database.name.as_str(), database)).collect()
}

fn tables_of(day: &Day, database: Option<&DatabaseEntry>) -> Result<Tables, Error> {
    let mut tables = Tables::new();
    let Some(database) = database else { return Ok(tables) };
    for table in TableReader::open(&day.database().join(&database.directory).join("tables.jsonl"))? {
        let table = table?;
        tables.insert((table.schema, table.name), table.rows);
    }
    Ok(tables)
}
