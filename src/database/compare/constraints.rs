//! Every row asked about every foreign key and CHECK.
//!
//! The questions are those of PostgreSQL's own validation (`RI_Initial_Check` in ri_triggers.c, `validateCheckConstraint` in
//! tablecmds.c), turned round: they count the rows that break the constraint.

use super::{CompareError, Comparison, Difference, Site, rows};
use crate::database::Error;
use crate::postgres::{Client, cause_of};

/// CHECKs that hold for what is there: of tables with rows of their own.
const CHECKS: &str = "\
    SELECT 'CHECK ' || pg_catalog.quote_ident(o.conname) || ' of ' || t.shown, \
           'SELECT count(*) FROM ONLY ' || t.shown || ' WHERE NOT (' || pg_catalog.pg_get_expr(o.conbin, o.conrelid) || ')' \
      FROM pg_catalog.pg_constraint o JOIN pg_catalog.pg_class c ON c.oid = o.conrelid \
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
      CROSS JOIN LATERAL (SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)) AS t(shown) \
     WHERE o.contype = 'c' AND o.convalidated AND c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' \
       AND n.nspname <> 'information_schema' ORDER BY 1";

/// Foreign keys: each that is declared, on the whole of a partitioned table; the parts that it makes for partitions are left out.
/// Those over periods (since 18) mean more than equality and are left to PostgreSQL.
const FOREIGN_KEYS: &str = "\
    SELECT 'foreign key ' || pg_catalog.quote_ident(o.conname) || ' of ' || f.shown, \
           'SELECT count(*) FROM ' || f.source || ' AS f LEFT JOIN ' || p.source || ' AS p ON ' || \
           k.matches || ' WHERE p.' || k.first_target || ' IS NULL AND (' || k.given || ')' \
      FROM pg_catalog.pg_constraint o \
      CROSS JOIN LATERAL (SELECT q.shown, CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || q.shown, n.nspname \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        CROSS JOIN LATERAL (SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)) AS q(shown) \
       WHERE c.oid = o.conrelid) AS f(shown, source, schema) \
      CROSS JOIN LATERAL (SELECT CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END \
               || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
       WHERE c.oid = o.confrelid) AS p(source) \
      CROSS JOIN LATERAL (SELECT \
          pg_catalog.string_agg('p.' || b.name || b.said || ' OPERATOR(' || pg_catalog.quote_ident(m.nspname) || '.' \
            || e.oprname || ') f.' || a.name || b.said, ' AND ' ORDER BY u.place), \
          (pg_catalog.array_agg(b.name ORDER BY u.place))[1], \
          pg_catalog.string_agg('f.' || a.name || ' IS NOT NULL', \
            CASE o.confmatchtype WHEN 'f' THEN ' OR ' ELSE ' AND ' END ORDER BY u.place) \
        FROM unnest(o.conkey, o.confkey, o.conpfeqop) WITH ORDINALITY AS u(own, target, operator, place) \
        JOIN pg_catalog.pg_operator e ON e.oid = u.operator \
        JOIN pg_catalog.pg_namespace m ON m.oid = e.oprnamespace \
        CROSS JOIN LATERAL (SELECT pg_catalog.quote_ident(x.attname), x.attcollation FROM pg_catalog.pg_attribute x \
          WHERE x.attrelid = o.conrelid AND x.attnum = u.own) AS a(name, sorted) \
        CROSS JOIN LATERAL (SELECT pg_catalog.quote_ident(x.attname), CASE WHEN x.attcollation IN (0, a.sorted) \
              OR a.sorted = 0 THEN '' ELSE (SELECT ' COLLATE ' || pg_catalog.quote_ident(s.nspname) || '.' \
                || pg_catalog.quote_ident(l.collname) FROM pg_catalog.pg_collation l \
                JOIN pg_catalog.pg_namespace s ON s.oid = l.collnamespace WHERE l.oid = x.attcollation) END \
          FROM pg_catalog.pg_attribute x WHERE x.attrelid = o.confrelid AND x.attnum = u.target) AS b(name, said)) \
        AS k(matches, first_target, given) \
     WHERE o.contype = 'f' AND o.convalidated AND o.conparentid = 0 AND f.schema NOT LIKE 'pg\\_%' \
       AND NOT coalesce((pg_catalog.to_jsonb(o) ->> 'conperiod')::boolean, false) ORDER BY 1";

pub(super) async fn compare(site: &Site<'_>, comparison: &mut Comparison) -> Result<(), CompareError> {
    let client = site.live.session(&site.entry.name).await?;
    rows::begin(&client).await?;
    let failed = |error: tokio_postgres::Error| Error::from(client.failed("list its constraints", &error));
    for list in [CHECKS, FOREIGN_KEYS] {
        for row in client.query(list, &[]).await.map_err(failed)? {
            let (constraint, question): (String, String) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            comparison.constraints += 1;
            let database = site.entry.name.clone();
            match ask(&client, &question).await? {
                Ok(0) => {}
                Ok(rows) => comparison.differences.push(Difference::Broken { database, constraint, rows }),
                Err(cause) => {
                    comparison.differences.push(Difference::Unanswered { database, constraint, cause });
                }
            }
        }
    }
    client.close().await;
    Ok(())
}

/// How many rows break it, or why the server cannot tell.
async fn ask(client: &Client, question: &str) -> Result<Result<u64, String>, Error> {
    let failed = |error: tokio_postgres::Error| Error::from(client.failed("go on after a question", &error));
    client.batch_execute("SAVEPOINT daykeep").await.map_err(failed)?;
    let answer = client.query_one(question, &[]).await.and_then(|row| row.try_get::<_, i64>(0));
    match answer {
        Ok(rows) => Ok(Ok(u64::try_from(rows).unwrap_or(0))),
        Err(error) if error.is_closed() => Err(failed(error)),
        Err(error) => {
            client.batch_execute("ROLLBACK TO SAVEPOINT daykeep").await.map_err(failed)?;
            Ok(Err(cause_of(&error)))
        }
    }
}
