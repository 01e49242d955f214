//! What is to be done in one database between its schema and its last constraint, in which order, and what may be done beside what.
//!
//! Tables are loaded the largest first. What follows a table's rows comes before the rows of the next: they are still in memory. A
//! table's constraints are made one by one, with nothing beside them in that table; then its indexes, several at a time; then its figures
//! for the planner are gathered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::postdata::Entry;
use super::rows::Work;
use crate::manifest::TableRecord;
use crate::postgres;

/// One thing to do in one session.
#[derive(Debug, PartialEq, Eq)]
pub enum Task<'a> {
    /// The data section of the archive, by pg_restore: sequences, large objects, what we did not copy.
    Data,
    /// Rows of a table.
    Rows(Work<'a>),
    /// An index or a constraint.
    Make(Entry),
    /// Figures of a table for the planner, by its name in SQL.
    Figures(String),
}

/// A table on its way.
#[derive(Debug)]
struct Table {
    name: String,
    /// Works that are not done.
    rows: usize,
    constraints: Vec<Entry>,
    indexes: Vec<Entry>,
    /// Constraints and indexes that are being made.
    making: usize,
    /// A constraint is among them.
    alone: bool,
    figures: bool,
}

/// All that is left to do.
#[derive(Debug)]
pub struct Tasks<'a> {
    data: bool,
    rows: VecDeque<Work<'a>>,
    /// The largest first.
    tables: Vec<Table>,
    /// Their places, by OID.
    places: BTreeMap<u32, usize>,
    /// The places of those that may have something to begin with.
    ready: BTreeSet<usize>,
}

impl<'a> Tasks<'a> {
    /// `tables` come the largest first. `data`: whether the archive's data section is among it. `figures` tells of which tables figures
    /// are gathered here.
    pub fn new(
        tables: &'a [TableRecord],
        works: Vec<Work<'a>>,
        early: Vec<Entry>,
        data: bool,
        figures: impl Fn(&TableRecord) -> bool,
    ) -> Self {
        let begin = |record: &TableRecord| Table {
            name: postgres::qualified(&record.schema, &record.name),
            rows: 0,
            constraints: Vec::new(),
            indexes: Vec::new(),
            making: 0,
            alone: false,
            figures: figures(record),
        };
        let places: BTreeMap<u32, usize> =
            tables.iter().enumerate().map(|(place, record)| (record.oid, place)).collect();
        let mut tables: Vec<Table> = tables.iter().map(begin).collect();
        for place in works.iter().filter_map(|work| places.get(&work.table.oid)) {
            tables[*place].rows += 1;
        }
        for entry in early {
            if let Some(place) = places.get(&entry.table) {
                let table = &mut tables[*place];
                (if entry.alone { &mut table.constraints } else { &mut table.indexes }).push(entry);
            }
        }
        let ready = (0..tables.len()).filter(|place| tables[*place].rows == 0).collect();
        Self { data, rows: works.into(), tables, places, ready }
    }

    /// Whether the rows of all tables are loaded or being loaded.
    pub fn has_no_rows(&self) -> bool {
        self.rows.is_empty()
    }

    /// What to do next; None: nothing, until something that is being done is [done](Self::done).
    pub fn next(&mut self) -> Option<Task<'a>> {
        while let Some(place) = self.ready.first() {
            if let Some(task) = self.tables[*place].next() {
                return Some(task);
            }
            self.ready.pop_first();
        }
        if let Some(work) = self.rows.pop_front() {
            return Some(Task::Rows(work));
        }
        std::mem::take(&mut self.data).then_some(Task::Data)
    }

    /// Something is done.
    pub fn done(&mut self, task: &Task<'a>) {
        let (oid, is_rows) = match task {
            Task::Rows(work) => (work.table.oid, true),
            Task::Make(entry) => (entry.table, false),
            Task::Data | Task::Figures(_) => return,
        };
        let Some(place) = self.places.get(&oid) else { return };
        let table = &mut self.tables[*place];
        if is_rows {
            table.rows -= 1;
        } else {
            (table.making, table.alone) = (table.making - 1, false);
        }
        if table.rows == 0 {
            self.ready.insert(*place);
        }
    }
}

impl Table {
    /// What to do behind its rows; None: nothing, now or ever.
    fn next<'a>(&mut self) -> Option<Task<'a>> {
        if self.alone {
            return None;
        }
        if let Some(constraint) = self.constraints.pop() {
            (self.making, self.alone) = (1, true);
            return Some(Task::Make(constraint));
        }
        if let Some(index) = self.indexes.pop() {
            self.making += 1;
            return Some(Task::Make(index));
        }
        let figures = self.making == 0 && std::mem::take(&mut self.figures);
        figures.then(|| Task::Figures(self.name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Task, Tasks};
    use crate::database::restore::postdata::Entry;
    use crate::database::restore::rows::Work;
    use crate::manifest::{Rows, TableRecord};

    fn table(oid: u32) -> TableRecord {
        TableRecord {
            schema: "s".into(),
            name: format!("t{oid}"),
            oid,
            columns: Vec::new(),
            rows: Rows::default(),
            segments: Vec::new(),
        }
    }

    fn entry(table: u32, alone: bool, statement: &str) -> Entry {
        Entry { table, alone, statements: vec![statement.to_owned()] }
    }

    fn shown(task: Option<Task<'_>>) -> String {
        match task {
            None => "-".to_owned(),
            Some(Task::Data) => "data".to_owned(),
            Some(Task::Rows(work)) => format!("rows {}", work.table.oid),
            Some(Task::Make(entry)) => entry.statements.concat(),
            Some(Task::Figures(name)) => format!("figures {name}"),
        }
    }

    #[test]
    fn what_follows_a_tables_rows_waits_for_all_of_them_and_comes_before_other_rows() {
        let tables = [table(1), table(2), table(3)];
        let work = |at: usize, whole| Work { table: &tables[at], segments: &[], whole };
        let works = || vec![work(0, false), work(0, false), work(1, true)];
        let early = vec![
            entry(1, false, "index"),
            entry(1, true, "key"),
            entry(1, false, "other"),
            entry(3, false, "third"),
        ];
        let mut tasks = Tasks::new(&tables, works(), early, true, |table| table.oid == 1);
        let [first, second, third] = works().try_into().unwrap();
        // A table without rows has nothing to wait for.
        assert_eq!(shown(tasks.next()), "third");
        assert_eq!((shown(tasks.next()), shown(tasks.next())), ("rows 1".into(), "rows 1".into()));
        tasks.done(&Task::Rows(first));
        assert!(!tasks.has_no_rows());
        assert_eq!(shown(tasks.next()), "rows 2", "half of the rows of 1 are there");
        assert!(tasks.has_no_rows());
        tasks.done(&Task::Rows(second));
        let key = tasks.next();
        assert_eq!(key, Some(Task::Make(entry(1, true, "key"))));
        assert_eq!(shown(tasks.next()), "data", "nothing is made beside a key");
        tasks.done(&Task::Rows(third));
        assert_eq!(shown(tasks.next()), "-");
        tasks.done(&key.unwrap());
        let (other, index) = (tasks.next(), tasks.next());
        assert_eq!((shown(tasks.next()), index.as_ref().is_some()), ("-".into(), true));
        tasks.done(&other.unwrap());
        assert_eq!(shown(tasks.next()), "-", "an index is still being made");
        tasks.done(&index.unwrap());
        assert_eq!((shown(tasks.next()), shown(tasks.next())), ("figures \"s\".\"t1\"".into(), "-".into()));
    }
}
