//! The lists of a database, held against each other, the manifest and the seal.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::gather::Gather;
use super::own::{self, Found};
use super::report::{Damage, Fault};
use crate::database::recipe;
use crate::fs;
use crate::manifest::{
    DatabaseEntry, DatabaseSeal, LONGEST_PAGE, RecordsError, Rows, TableReader, TableRecord,
};
use crate::vault::Day;

/// Tables or stretches that one sentence names.
pub(super) const NAMED: usize = 3;

/// The lists of one database of a day.
pub(super) struct Lists<'a> {
    day: &'a Day,
    entry: &'a DatabaseEntry,
    home: PathBuf,
}

impl<'a> Lists<'a> {
    pub(super) fn of(day: &'a Day, entry: &'a DatabaseEntry) -> Self {
        Self { day, entry, home: Path::new("database").join(&entry.directory) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.day.path().join(&self.home).join(name)
    }

    fn damage(&self, name: &str, fault: Fault, problem: String) -> Damage {
        own::damage(self.day.manifest(), &self.home.join(name), fault, problem)
    }

    /// None: they cannot be read, which is told.
    pub(super) fn records(&self, found: &Found, gather: &Gather) -> Option<Vec<TableRecord>> {
        // That it is missing is told with the other files.
        found.get(&self.home.join("tables.jsonl"))?;
        let records: Result<Vec<_>, _> =
            TableReader::open(&self.path("tables.jsonl")).and_then(Iterator::collect);
        let tell = |error: RecordsError| {
            gather.add(self.damage("tables.jsonl", Fault::Unreadable, error.to_string()));
        };
        records.map_err(tell).ok()
    }

    pub(super) fn compare_numbers(&self, records: &[TableRecord], gather: &Gather) {
        let segments = || records.iter().flat_map(|record| &record.segments);
        let name = &self.entry.name;
        for record in records {
            let sum = record.segments.iter().fold(Rows::default(), |rows, segment| rows.plus(segment.rows));
            if sum != record.rows {
                let table = shown_table(record);
                let (says, has) = (record.rows.count, sum.count);
                let problem = format!(
                    "it says that {table} has {says} rows, and its segments have {has} or other ones"
                );
                let means =
                    format!("rows of {table} of the database {name} are missing, or are there that were not");
                gather.add(Damage { means, ..self.damage("tables.jsonl", Fault::Numbers, problem) });
            }
        }
        let is = [
            ("tables", self.entry.tables, records.len() as u64),
            ("rows", self.entry.rows, records.iter().map(|record| record.rows.count).sum()),
            ("bytes of rows", self.entry.row_bytes, segments().map(|segment| segment.bytes).sum()),
        ];
        for (what, says, has) in is.into_iter().filter(|(_, says, has)| says != has) {
            let problem = format!("manifest.json says that the database has {says} {what}, and it has {has}");
            let means = format!(
                "tables or rows of the database {name} were taken out of the day, or added, after it was sealed"
            );
            gather.add(Damage { means, ..self.damage("tables.jsonl", Fault::Numbers, problem) });
        }
    }

    /// `load.txt` must say of each table what `tables.jsonl` says, in whatever order.
    pub(super) fn compare_recipe(&self, records: &[TableRecord], found: &Found, gather: &Gather) {
        // What cannot be read is told with the other files.
        let there = found.contains_key(&self.home.join("load.txt"));
        let text = fs::read_regular(&self.path("load.txt"), LONGEST_PAGE);
        let Some(text) = text.ok().flatten().filter(|_| there) else { return };
        let mut blocks: HashMap<blake3::Hash, u64> = HashMap::new();
        for block in blocks_of(&text) {
            *blocks.entry(blake3::hash(block)).or_default() += 1;
        }
        let mut unlike = Vec::new();
        for record in records {
            let wanted = blake3::hash(recipe(record, &self.entry.encoding).as_bytes());
            match blocks.get_mut(&wanted) {
                Some(count) if *count > 0 => *count -= 1,
                _ => unlike.push(shown_table(record)),
            }
        }
        let name = &self.entry.name;
        if !unlike.is_empty() {
            let tables = some_of(&unlike);
            let problem = format!("it does not load what tables.jsonl says of {tables}");
            let means = format!("restore.sh would not restore the rows of {tables} of the database {name}");
            gather.add(Damage { means, ..self.damage("load.txt", Fault::Numbers, problem) });
        } else if blocks.values().any(|count| *count > 0) {
            let problem = "it loads what no table of tables.jsonl has".to_owned();
            let means = format!(
                "restore.sh would load rows into the database {name} that are not the day's, or stop"
            );
            gather.add(Damage { means, ..self.damage("load.txt", Fault::Numbers, problem) });
        }
    }

    /// The rows as they were summed while the server sent them.
    pub(super) fn compare_seal(&self, records: &[TableRecord], seal: &DatabaseSeal, gather: &Gather) {
        let name = &self.entry.name;
        let mut has: HashMap<(&str, &str), Rows> = HashMap::new();
        for record in records {
            has.insert((&record.schema, &record.name), record.rows);
        }
        let add = |problem: String, table: &str| {
            let means =
                format!("the rows of {table} of the database {name} are not those that the server sent");
            gather.add(Damage { means, ..self.damage("tables.jsonl", Fault::Numbers, problem) });
        };
        for table in &seal.tables {
            let shown = qualified(&table.schema, &table.name);
            match has.remove(&(table.schema.as_str(), table.name.as_str())) {
                None => add(format!("the seal record has {shown}, which is not in it"), &shown),
                Some(rows) if rows != table.rows => {
                    let (sealed, is) = (table.rows.count, rows.count);
                    add(
                        format!("the seal record has {sealed} rows of {shown}; it has {is}, or other ones"),
                        &shown,
                    );
                }
                Some(_) => {}
            }
        }
        let mut more: Vec<String> = has.keys().map(|(schema, name)| qualified(schema, name)).collect();
        more.sort();
        if !more.is_empty() {
            let tables = some_of(&more);
            add(format!("the seal record does not know {tables}"), &tables);
        }
    }
}

/// The text in pieces that end with the line `E`.
fn blocks_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = match rest {
            [] => return None,
            rest => rest.windows(3).position(|window| window == b"\nE\n").map_or(rest.len(), |at| at + 3),
        };
        let (block, behind) = rest.split_at(end);
        rest = behind;
        Some(block)
    })
}

pub(super) fn shown_table(record: &TableRecord) -> String {
    qualified(&record.schema, &record.name)
}

fn qualified(schema: &str, name: &str) -> String {
    crate::postgres::qualified(schema, name)
}

fn some_of(names: &[String]) -> String {
    match names.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{} and {more} more", names[..NAMED].join(", ")),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::{blocks_of, some_of};

    #[test]
    fn a_load_list_falls_into_tables() {
        let text = b"T COPY a FROM stdin;\nF 1\nE\nT COPY b FROM stdin;\nE\nF 2\n";
        let blocks: Vec<&[u8]> = blocks_of(text).collect();
        assert_eq!(blocks, [&b"T COPY a FROM stdin;\nF 1\nE\n"[..], b"T COPY b FROM stdin;\nE\n", b"F 2\n"]);
        assert_eq!(blocks_of(b"").count(), 0);
    }

    #[test]
    fn tables_are_named_in_short() {
        assert_eq!(some_of(&["a".into(), "b".into()]), "a, b");
    }
}
