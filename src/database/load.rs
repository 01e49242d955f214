//! COPY statements, and `load.txt`: the recipe for loading a database's rows with `sh`, `zstd` and `psql` alone.
//!
//! One line each, in the order in which they are to be done:
//!
//! | line | meaning |
//! | --- | --- |
//! | `T COPY "public"."t" ("a", "b") FROM stdin;` | a table begins: the statement that takes its rows |
//! | `F <digest>` | the next stretch of its text is `zstd -dc tables/<digest>.zst` |
//! | `P <digest> <base>` | it is `tables/<digest>.patch.zst`, against the text of `tables/<base>.zst` |
//! | `E` | the table ends |
//!
//! The text is in the database's encoding: the session that loads it sets `client_encoding` to that. The statements are ASCII unless the
//! encoding is UTF-8 or SQL_ASCII.

use std::fmt::Write as _;

use super::segments::Pages;
use crate::manifest::TableRecord;
use crate::postgres::{ascii_identifier, literal, one_line_identifier, qualified};

/// How names are written in a session that speaks the encoding of this database.
fn quoted(name: &str, encoding: &str) -> String {
    if matches!(encoding, "UTF8" | "SQL_ASCII") { one_line_identifier(name) } else { ascii_identifier(name) }
}

fn column_list(columns: &[String], encoding: &str) -> String {
    columns.iter().map(|column| quoted(column, encoding)).collect::<Vec<_>>().join(", ")
}

/// The statement that gives a stretch of a table's rows: only its own rows, not those of its children.
#[must_use]
pub fn copy_out(schema: &str, name: &str, columns: &[String], pages: Pages, encoding: &str) -> String {
    let table = format!("{}.{}", quoted(schema, encoding), quoted(name, encoding));
    let list = column_list(columns, encoding);
    match pages {
        (0, None) if columns.is_empty() => format!("COPY {table} TO STDOUT"),
        (0, None) => format!("COPY {table} ({list}) TO STDOUT"),
        (from, Some(to)) => format!(
            "COPY (SELECT {list} FROM ONLY {table} WHERE ctid >= '({from},0)' AND ctid < '({to},0)') TO STDOUT"
        ),
        (from, None) => {
            format!("COPY (SELECT {list} FROM ONLY {table} WHERE ctid >= '({from},0)') TO STDOUT")
        }
    }
}

/// The statement that takes a table's rows in a session that speaks UTF-8. `freeze` needs a table that was emptied in the same
/// transaction.
#[must_use]
pub fn copy_in(table: &TableRecord, encoding: &str, freeze: bool) -> String {
    let columns = if table.columns.is_empty() {
        String::new()
    } else {
        format!(" ({})", column_list(&table.columns, "UTF8"))
    };
    let freeze = if freeze { ", FREEZE" } else { "" };
    format!(
        "COPY {}{columns} FROM STDIN WITH (ENCODING {}{freeze})",
        qualified(&table.schema, &table.name),
        literal(encoding)
    )
}

/// The statement that gives a table's own rows as the day has them, in a session that speaks UTF-8.
#[must_use]
pub fn copy_out_encoded(table: &TableRecord, encoding: &str) -> String {
    let list = column_list(&table.columns, "UTF8");
    let name = qualified(&table.schema, &table.name);
    format!("COPY (SELECT {list} FROM ONLY {name}) TO STDOUT WITH (ENCODING {})", literal(encoding))
}

/// The lines of one table.
#[must_use]
pub fn recipe(table: &TableRecord, encoding: &str) -> String {
    let columns = if table.columns.is_empty() {
        String::new()
    } else {
        format!(" ({})", column_list(&table.columns, encoding))
    };
    let (schema, name) = (quoted(&table.schema, encoding), quoted(&table.name, encoding));
    let mut text = format!("T COPY {schema}.{name}{columns} FROM stdin;\n");
    for segment in &table.segments {
        // Writing to a String cannot fail.
        let _ = match &segment.base {
            None => writeln!(text, "F {}", segment.blake3),
            Some(base) => writeln!(text, "P {} {base}", segment.blake3),
        };
    }
    text.push_str("E\n");
    text
}

#[cfg(test)]
mod tests {
    use super::{copy_out, recipe};
    use crate::manifest::{Rows, Segment, TableRecord};

    #[test]
    fn rows_are_asked_for_by_page() {
        let columns = ["a".to_owned(), "b\n".to_owned()];
        let sql = |pages| copy_out("s", "t", &columns, pages, "UTF8");
        assert_eq!(sql((0, None)), r#"COPY "s"."t" ("a", U&"b\000A") TO STDOUT"#);
        assert_eq!(
            sql((0, Some(9))),
            r#"COPY (SELECT "a", U&"b\000A" FROM ONLY "s"."t" WHERE ctid >= '(0,0)' AND ctid < '(9,0)') TO STDOUT"#
        );
        assert_eq!(
            sql((9, None)),
            r#"COPY (SELECT "a", U&"b\000A" FROM ONLY "s"."t" WHERE ctid >= '(9,0)') TO STDOUT"#
        );
        assert_eq!(copy_out("s", "é", &[], (0, None), "LATIN1"), r#"COPY "s".U&"\00E9" TO STDOUT"#);
    }

    #[test]
    fn the_recipe_is_one_line_a_thing() {
        let segment = |blake3: &str, base: Option<&str>| Segment {
            pages: (0, None),
            blake3: blake3.into(),
            bytes: 1,
            rows: Rows::default(),
            base: base.map(Into::into),
        };
        let table = TableRecord {
            schema: "public".into(),
            name: "new\nline".into(),
            oid: 1,
            columns: vec!["a".into(), "b".into()],
            rows: Rows::default(),
            segments: vec![segment("aa", None), segment("bb", Some("cc"))],
        };
        assert_eq!(
            recipe(&table, "UTF8"),
            "T COPY \"public\".U&\"new\\000Aline\" (\"a\", \"b\") FROM stdin;\nF aa\nP bb cc\nE\n"
        );
    }
}
