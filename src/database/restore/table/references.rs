//! The foreign keys from a table and to it, each as a question for rows that break it.

use std::collections::BTreeSet;
use std::fmt;

use crate::database::restore::RestoreError;
use crate::postgres::Client;

/// Characters of a value that an error repeats.
const SHOWN: usize = 120;

/// One foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `shop.entry entry_account_fkey`
    pub name: String,
    /// The table whose rows refer, and its columns.
    pub from: String,
    columns: Vec<String>,
    /// The table whose rows they refer to.
    pub to: String,
    /// Counts the rows that break it, and gives the values of one; None: it cannot be asked.
    pub question: Option<String>,
}

/// A foreign key that would not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The table that it is of, and its name.
    pub constraint: String,
    /// The table whose rows are in the way.
    pub from: String,
    /// The table that lacks what they refer to.
    pub to: String,
    /// How many of them there are.
    pub count: u64,
    /// What one of them refers to: `account = 900`.
    pub example: String,
    /// The other table, whose rows of the same day fit; None: it is being restored already.
    pub other: Option<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { constraint, from, to, count, example, .. } = self;
        let rows = if *count == 1 { "1 row" } else { &format!("{count} rows") };
        let verb = if *count == 1 { "refers" } else { "refer" };
        write!(
            f,
            "the foreign key {constraint} would not hold: {rows} of {from} {verb} to what {to} would lack, for example {example}"
        )
    }
}

/// As the server itself asks when a constraint is validated (`RI_Initial_Check` in ri_triggers.c). Those that were never validated hold
/// nothing that could break. A partition stands for its root: what
/// refers to the root may refer to its rows, and what refers to a partition only because its root is referred to is left out.
const FOREIGN_KEYS: &str = r"
WITH family AS (SELECT $1::oid AS oid UNION SELECT relid FROM pg_catalog.pg_partition_ancestors($1::oid)),
keys AS (
  SELECT c.* FROM pg_catalog.pg_constraint c
   WHERE c.contype = 'f' AND c.convalidated
     AND (c.conrelid = $1::oid OR (c.confrelid IN (SELECT oid FROM family) AND c.conparentid = 0))
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint a
                      WHERE a.contype = 'f' AND a.conrelid = c.conrelid AND a.conkey = c.conkey AND a.confrelid <> c.confrelid
                        AND a.confrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(c.confrelid))))
SELECT pg_catalog.format('%s %I', k.conrelid::regclass, k.conname), k.conrelid::regclass::text, k.confrelid::regclass::text,
  ARRAY(SELECT fa.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS c (f, n)
          JOIN pg_catalog.pg_attribute fa ON fa.attrelid = k.conrelid AND fa.attnum = c.f ORDER BY c.n),
  CASE WHEN PERIOD THEN NULL ELSE pg_catalog.format(
    'SELECT pg_catalog.count(*), pg_catalog.min(pg_catalog.concat_ws('', '', %s)) FROM %s%s f LEFT JOIN %s%s p ON %s WHERE p.%I IS NULL AND (%s)',
    (SELECT pg_catalog.string_agg(pg_catalog.format('coalesce(f.%I::text, ''NULL'')', fa.attname), ', ' ORDER BY c.n)
       FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS c (f, n)
         JOIN pg_catalog.pg_attribute fa ON fa.attrelid = k.conrelid AND fa.attnum = c.f),
    CASE WHEN fc.relkind = 'p' THEN '' ELSE 'ONLY ' END, k.conrelid::regclass,
    CASE WHEN pc.relkind = 'p' THEN '' ELSE 'ONLY ' END, k.confrelid::regclass,
    (SELECT pg_catalog.string_agg(pg_catalog.format('p.%I OPERATOR(%I.%s) f.%I', pa.attname, n.nspname, o.oprname, fa.attname), ' AND ')
       FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey), pg_catalog.unnest(k.conpfeqop)) AS c (f, p, o)
         JOIN pg_catalog.pg_attribute fa ON fa.attrelid = k.conrelid AND fa.attnum = c.f
         JOIN pg_catalog.pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = c.p
         JOIN pg_catalog.pg_operator o ON o.oid = c.o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace),
    (SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = k.confrelid AND attnum = k.confkey[1]),
    (SELECT pg_catalog.string_agg(pg_catalog.format('f.%I IS NOT NULL', attname),
              CASE k.confmatchtype WHEN 'f' THEN ' OR ' ELSE ' AND ' END)
       FROM pg_catalog.pg_attribute WHERE attrelid = k.conrelid AND attnum = ANY (k.conkey))) END
FROM keys k JOIN pg_catalog.pg_class fc ON fc.oid = k.conrelid JOIN pg_catalog.pg_class pc ON pc.oid = k.confrelid
ORDER BY 1";

/// The foreign keys from the table with this OID and to it.
///
/// # Errors
/// The server refuses.
pub async fn of_table(client: &Client, oid: u32) -> Result<Vec<Reference>, RestoreError> {
    let failed = |error| client.failed("look at its foreign keys", &error);
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute \
                 WHERE attrelid = 'pg_catalog.pg_constraint'::regclass AND attname = 'conperiod')";
    let row = client.query_one(sql, &[]).await.map_err(failed)?;
    let knows_periods: bool = row.try_get(0).map_err(failed)?;
    // A key over periods asks for ranges that cover each other, not for rows that are equal.
    let sql = FOREIGN_KEYS.replace("PERIOD", if knows_periods { "k.conperiod" } else { "false" });
    let rows = client.query(&sql, &[&oid]).await.map_err(failed)?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Reference {
            name: row.try_get(0)?,
            from: row.try_get(1)?,
            to: row.try_get(2)?,
            columns: row.try_get(3)?,
            question: row.try_get(4)?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| failed(error).into())
}

/// Asks all of those of these tables; gives those that do not hold. `oids` are the tables that change.
///
/// # Errors
/// The server refuses.
pub async fn broken(client: &Client, oids: &[u32]) -> Result<Vec<Broken>, RestoreError> {
    let changing = names(client, oids).await?;
    let mut broken: Vec<Broken> = Vec::new();
    let mut asked = BTreeSet::new();
    for oid in oids {
        for reference in of_table(client, *oid).await? {
            if asked.insert(reference.name.clone()) {
                broken.extend(ask(client, reference, &changing).await?);
            }
        }
    }
    Ok(broken)
}

async fn names(client: &Client, oids: &[u32]) -> Result<BTreeSet<String>, RestoreError> {
    let sql = "SELECT oid::regclass::text FROM pg_catalog.unnest($1::oid[]) AS o (oid)";
    let failed = |error| client.failed("look at the tables", &error);
    let rows = client.query(sql, &[&oids]).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(|error| failed(error).into())
}

async fn ask(
    client: &Client,
    reference: Reference,
    changing: &BTreeSet<String>,
) -> Result<Option<Broken>, RestoreError> {
    let Reference { name, from, columns, to, question } = reference;
    let Some(question) = question else { return Ok(None) };
    let failed = |error| client.failed(format!("check the foreign key {name}"), &error);
    let row = client.query_one(&question, &[]).await.map_err(failed)?;
    let count: i64 = row.try_get(0).map_err(failed)?;
    let values: Option<String> = row.try_get(1).map_err(failed)?;
    let count = u64::try_from(count).unwrap_or_default();
    if count == 0 {
        return Ok(None);
    }
    let other = [&from, &to].into_iter().find(|table| !changing.contains(*table)).cloned();
    let example = example(&columns, &values.unwrap_or_default());
    Ok(Some(Broken { constraint: name, from, to, count, example, other }))
}

/// `account = 900`, `(a, b) = (1, 2)`
fn example(columns: &[String], values: &str) -> String {
    let mut shown: String = values.chars().take(SHOWN).collect();
    if shown.len() < values.len() {
        shown.push_str("...");
    }
    match columns {
        [column] => format!("{column} = {shown}"),
        columns => format!("({}) = ({shown})", columns.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Broken, example};

    #[test]
    fn a_key_that_would_not_hold_is_told_with_an_example() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(example(&names(&["a"]), "1"), "a = 1");
        assert_eq!(example(&names(&["a", "b"]), "1, x"), "(a, b) = (1, x)");
        let long = example(&names(&["a"]), &"\u{e9}".repeat(500));
        assert_eq!(long.chars().count(), "a = ...".len() + super::SHOWN);
        let mut broken = Broken {
            constraint: "s.entry k".into(),
            from: "s.entry".into(),
            to: "s.account".into(),
            count: 1,
            example: "account = 900".into(),
            other: None,
        };
        let text = "the foreign key s.entry k would not hold: 1 row of s.entry refers to what s.account would lack, for example account = 900";
        assert_eq!(broken.to_string(), text);
        broken.count = 7;
        assert_eq!(broken.to_string(), text.replace("1 row of s.entry refers", "7 rows of s.entry refer"));
    }
}
