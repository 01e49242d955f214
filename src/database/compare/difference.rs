//! What is not as it was recorded.

use std::fmt;

use crate::manifest::Rows;

/// One thing on the server that is not as it was recorded. Shows as a sentence for an admin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// A database is not there.
    MissingDatabase {
        /// Its name.
        database: String,
    },
    /// A database is there that was not recorded.
    ExtraDatabase {
        /// Its name.
        database: String,
    },
    /// A table is not there.
    MissingTable {
        /// Its database.
        database: String,
        /// Schema and name, as in SQL.
        table: String,
    },
    /// A table is there that was not recorded.
    ExtraTable {
        /// Its database.
        database: String,
        /// Schema and name, as in SQL.
        table: String,
    },
    /// A table has other rows.
    OtherRows {
        /// Its database.
        database: String,
        /// Schema and name, as in SQL.
        table: String,
        /// How many were recorded.
        recorded: u64,
        /// How many there are.
        found: u64,
    },
    /// Something that the archive makes is not there, or has another owner.
    MissingObject {
        /// Its database.
        database: String,
        /// Kind, schema, name and owner, as pg_restore lists it.
        object: String,
    },
    /// An index or a constraint is there and does not hold.
    NotValid {
        /// Its database.
        database: String,
        /// Kind and name.
        object: String,
    },
    /// Rows that break a constraint.
    Broken {
        /// Its database.
        database: String,
        /// Kind, name and table.
        constraint: String,
        /// How many rows break it.
        rows: u64,
    },
    /// A constraint that cannot be asked about.
    Unanswered {
        /// Its database.
        database: String,
        /// Kind, name and table.
        constraint: String,
        /// What the server said.
        cause: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingDatabase { database } => write!(f, "database {database:?} is missing"),
            Self::ExtraDatabase { database } => write!(f, "database {database:?} was not in the day"),
            Self::MissingTable { database, table } => {
                write!(f, "database {database:?}: table {table} is missing")
            }
            Self::ExtraTable { database, table } => {
                write!(f, "database {database:?}: table {table} was not recorded at the freeze point")
            }
            Self::OtherRows { database, table, recorded, found } if recorded == found => write!(
                f,
                "database {database:?}: table {table} has {found} rows as recorded, but not the same rows"
            ),
            Self::OtherRows { database, table, recorded, found } => write!(
                f,
                "database {database:?}: table {table} has {found} rows, and {recorded} were recorded at the freeze point"
            ),
            Self::MissingObject { database, object } => {
                write!(f, "database {database:?}: {object} is missing or has another owner")
            }
            Self::NotValid { database, object } => write!(f, "database {database:?}: {object} is not valid"),
            Self::Broken { database, constraint, rows } => {
                write!(f, "database {database:?}: {constraint}: {rows} rows break it")
            }
            Self::Unanswered { database, constraint, cause } => {
                write!(f, "database {database:?}: {constraint} cannot be checked: {cause}")
            }
        }
    }
}

impl Difference {
    /// Between what was recorded of a table and what was found, if there is one.
    pub(super) fn of_rows(database: &str, table: String, recorded: Rows, found: Rows) -> Option<Self> {
        (recorded != found).then(|| Self::OtherRows {
            database: database.to_owned(),
            table,
            recorded: recorded.count,
            found: found.count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Difference;
    use crate::manifest::Rows;

    #[test]
    fn a_row_that_is_lost_and_a_row_that_is_another_are_told_apart() {
        let said = |recorded: Rows, found: Rows| {
            Difference::of_rows("shop", "\"public\".\"t\"".to_owned(), recorded, found)
                .map(|it| it.to_string())
        };
        let three = Rows { count: 3, digest: 7 };
        assert_eq!(said(three, three), None);
        assert_eq!(
            said(three, Rows { count: 2, digest: 1 }).unwrap(),
            "database \"shop\": table \"public\".\"t\" has 2 rows, and 3 were recorded at the freeze point"
        );
        assert_eq!(
            said(three, Rows { count: 3, digest: 8 }).unwrap(),
            "database \"shop\": table \"public\".\"t\" has 3 rows as recorded, but not the same rows"
        );
    }
}
