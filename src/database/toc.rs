//! The table of contents of `rest.dump`, and the promise that it and `tables.jsonl` together hold every table's rows, once.

use std::collections::HashSet;

use super::Error;
use super::catalog::Table;

/// `pg_class`'s own OID: the first number of an entry that stands for a relation.
const PG_CLASS: &str = "1259";

/// What `pg_restore -l` lists, as far as tables go: by OID, so that no name can be misread.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Tables that the archive creates.
    pub tables: HashSet<u32>,
    /// Tables whose rows are in the archive.
    pub data: HashSet<u32>,
}

impl Contents {
    /// Reads lines as `217; 1259 16385 TABLE public t owner` and `3345; 0 16385 TABLE DATA public t owner`; all others (comments too)
    /// do not concern tables.
    #[must_use]
    pub fn parse(listing: &str) -> Self {
        let mut contents = Self::default();
        for line in listing.lines() {
            let Some((_, entry)) = line.split_once("; ") else { continue };
            let mut words = entry.splitn(3, ' ');
            let (Some(class), Some(oid), Some(what)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let Ok(oid) = oid.parse() else { continue };
            if class == PG_CLASS && what.starts_with("TABLE ") {
                contents.tables.insert(oid);
            } else if class == "0" && what.starts_with("TABLE DATA ") {
                contents.data.insert(oid);
            }
        }
        contents
    }

    /// Checks that each plain table's rows are in exactly one place, and that the archive creates what daykeep's rows are loaded
    /// into. Gives how many tables' rows are in the archive.
    ///
    /// # Errors
    /// A table is in none or in both.
    pub fn check(&self, dbname: &str, tables: &[Table], ours: &[usize], standby: bool) -> Result<u64, Error> {
        let ours: HashSet<usize> = ours.iter().copied().collect();
        for (place, table) in tables.iter().enumerate().filter(|(_, table)| table.plain) {
            let in_archive = self.data.contains(&table.oid);
            let problem = if ours.contains(&place) {
                if in_archive {
                    "its rows are in the segments and in rest.dump too"
                } else if self.tables.contains(&table.oid) {
                    continue;
                } else {
                    "its rows are in the segments, but rest.dump does not create it"
                }
            } else if in_archive || table.member || (table.unlogged && standby) {
                continue;
            } else {
                "its rows are neither in the segments nor in rest.dump"
            };
            return Err(Error::Incomplete { dbname: dbname.to_owned(), table: table.shown(), problem });
        }
        Ok(self.data.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::Contents;
    use crate::database::catalog::Table;

    const LISTING: &str = ";\n; Archive created at 2026-11-21 09:00:00 UTC\n;     dbname: x\n\
        217; 1259 16385 TABLE public t postgres\n218; 1259 16390 TABLE DATA odd postgres\n\
        3345; 0 16391 TABLE DATA public u postgres\n3346; 0 0 SEQUENCE SET public s postgres\n\
        3200; 2606 16399 CONSTRAINT public t t_pkey postgres\n";

    fn table(oid: u32) -> Table {
        Table {
            oid,
            schema: "public".into(),
            name: format!("t{oid}"),
            speakable: true,
            plain: true,
            heap: true,
            unlogged: false,
            member: false,
            enum_hash: false,
            bytes: 0,
        }
    }

    #[test]
    fn entries_are_told_apart_by_their_class() {
        let contents = Contents::parse(LISTING);
        assert_eq!(contents.tables, [16385, 16390].into());
        assert_eq!(contents.data, [16391].into());
    }

    #[test]
    fn every_table_is_in_exactly_one_place() {
        let contents = Contents::parse(LISTING);
        let tables = [table(16385), table(16391)];
        assert_eq!(contents.check("d", &tables, &[0], false).unwrap(), 1);
        let said = |tables: &[Table], ours: &[usize]| {
            contents.check("d", tables, ours, false).unwrap_err().to_string()
        };
        assert_eq!(
            said(&tables, &[]),
            "database \"d\": table \"public\".\"t16385\": its rows are neither in the segments nor in rest.dump"
        );
        assert!(said(&tables, &[0, 1]).ends_with("its rows are in the segments and in rest.dump too"));
        assert!(said(&[table(7)], &[0]).ends_with("but rest.dump does not create it"));
        let exempt = [Table { member: true, ..table(8) }, Table { plain: false, ..table(9) }];
        assert!(contents.check("d", &exempt, &[], false).is_ok());
        assert!(contents.check("d", &[Table { unlogged: true, ..table(8) }], &[], true).is_ok());
    }
}
