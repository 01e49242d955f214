//! The foreign keys from a table and to it, each as a question for rows that break it.

use crate::database::restore::RestoreError;
use crate::postgres::Client;

/// One foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `"shop"."entry" entry_account_fkey`
    pub name: String,
    /// Gives whether a row breaks it; None: it cannot be asked.
    pub question: Option<String>,
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
SELECT pg_catalog.format('%s %I', k.conrelid::regclass, k.conname),
  CASE WHEN PERIOD THEN NULL ELSE pg_catalog.format(
    'SELECT EXISTS (SELECT FROM %s%s f LEFT JOIN %s%s p ON %s WHERE p.%I IS NULL AND (%s))',
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
    let read = |row: &tokio_postgres::Row| Ok(Reference { name: row.try_get(0)?, question: row.try_get(1)? });
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| failed(error).into())
}

/// Asks all of them.
///
/// # Errors
/// One does not hold, or the server refuses.
pub async fn check(client: &Client, oid: u32, table: &str) -> Result<(), RestoreError> {
    for reference in of_table(client, oid).await? {
        let Some(question) = reference.question else { continue };
        let row = client.query_one(&question, &[]).await;
        let broken = row.and_then(|row| row.try_get(0));
        let broken: bool = broken
            .map_err(|error| client.failed(format!("check the foreign key {}", reference.name), &error))?;
        if broken {
            return Err(RestoreError::Reference { table: table.to_owned(), constraint: reference.name });
        }
    }
    Ok(())
}
