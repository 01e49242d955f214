//! What the archive makes besides rows, by its table of contents.
//!
//! A line of it cannot be cut into names: they may hold blanks. So nothing is cut: the server writes for each of its objects
//! the line that pg_dump would write, and the lines are compared. Which lines are of which kind is told by the catalog that each
//! entry names (`pg_class` is 1259, ...), as in `toc`.

use std::collections::BTreeSet;

use super::{CompareError, Comparison, Difference, Site, rows};
use crate::database::Error;
use crate::database::rest::program_failed;
use crate::postgres::Client;
use crate::process::Program;

/// `pg_class`, `pg_constraint`, `pg_trigger`, `pg_rewrite`, `pg_policy`: what is compared by its line.
const COMPARED: [&str; 5] = ["1259", "2606", "2620", "2618", "3256"];
/// `pg_largeobject_metadata`.
const LARGE_OBJECT: &str = "2613";

/// The archive's table of contents, as far as it is compared. Lines are bytes in the database's encoding.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// `TABLE public t owner`, `FK CONSTRAINT public t t_fkey owner`, ...
    entries: BTreeSet<Vec<u8>>,
    /// The numbers of large objects, as far as they are named one by one.
    large_objects: BTreeSet<u32>,
}

impl Listing {
    pub async fn read(site: &Site<'_>) -> Result<Self, Error> {
        let program =
            Program::new([site.programs.path("pg_restore")]).arg("--list").arg(site.home.join("rest.dump"));
        let listing = program.run(&site.context.cancel).await;
        Ok(Self::parse(&listing.map_err(|source| program_failed(&site.entry.name, source))?))
    }

    fn parse(listing: &[u8]) -> Self {
        let mut found = Self::default();
        for line in listing.split(|byte| *byte == b'\n') {
            let mut words = line.splitn(4, |byte| *byte == b' ');
            let (Some(number), Some(class), Some(_), Some(what)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let class = std::str::from_utf8(class).unwrap_or_default();
            if !number.ends_with(b";") || number.len() < 2 {
                continue;
            }
            if COMPARED.contains(&class) || what.starts_with(b"ROW SECURITY ") {
                found.entries.insert(what.to_vec());
            } else if class == LARGE_OBJECT {
                found.large_objects.extend(large_objects(&String::from_utf8_lossy(what)));
            }
        }
        found
    }

    /// Whether it makes a table of this name, whoever owns it. The names of its lines are in the database's encoding: one that is
    /// not ASCII is taken for known in any but UTF-8.
    pub fn makes_table(&self, schema: &str, name: &str, encoding: &str) -> bool {
        if encoding != "UTF8" && !(schema.is_ascii() && name.is_ascii()) {
            return true;
        }
        let beginning = format!("TABLE {} {} ", one_line(schema), one_line(name)).into_bytes();
        self.entries.range(beginning.clone()..).next().is_some_and(|entry| entry.starts_with(&beginning))
    }
}

fn one_line(name: &str) -> String {
    name.replace(['\n', '\r'], " ")
}

/// `BLOB - 16500 owner`; since 17 `BLOB METADATA - 16500..16510 owner`, of which the first and the last are named.
fn large_objects(what: &str) -> Vec<u32> {
    let numbers = what.strip_prefix("BLOB METADATA - ").or_else(|| what.strip_prefix("BLOB - "));
    let numbers = numbers.and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    numbers.split("..").filter_map(|number| number.parse().ok()).collect()
}

/// The lines that pg_dump would write for what is there, in the database's encoding.
const LINES: &str = "\
    WITH line(kind, class, namespace, tag, owner) AS ( \
      SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' \
               WHEN 'S' THEN 'SEQUENCE' WHEN 'i' THEN 'INDEX' WHEN 'I' THEN 'INDEX' ELSE 'TABLE' END, \
             c.oid, c.relnamespace, c.relname::text, c.relowner \
        FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'i', 'I') \
      UNION ALL \
      SELECT 'ROW SECURITY', c.oid, c.relnamespace, c.relname::text, c.relowner \
        FROM pg_catalog.pg_class c WHERE c.relrowsecurity \
      UNION ALL \
      SELECT CASE o.contype WHEN 'f' THEN 'FK CONSTRAINT' WHEN 'c' THEN 'CHECK CONSTRAINT' ELSE 'CONSTRAINT' END, \
             o.oid, c.relnamespace, c.relname || ' ' || o.conname, c.relowner \
        FROM pg_catalog.pg_constraint o JOIN pg_catalog.pg_class c ON c.oid = o.conrelid \
      UNION ALL \
      SELECT 'CHECK CONSTRAINT', o.oid, t.typnamespace, t.typname || ' ' || o.conname, t.typowner \
        FROM pg_catalog.pg_constraint o JOIN pg_catalog.pg_type t ON t.oid = o.contypid \
      UNION ALL \
      SELECT 'TRIGGER', g.oid, c.relnamespace, c.relname || ' ' || g.tgname, c.relowner \
        FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid \
      UNION ALL \
      SELECT 'RULE', r.oid, c.relnamespace, c.relname || ' ' || r.rulename, c.relowner \
        FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class \
      UNION ALL \
      SELECT 'POLICY', p.oid, c.relnamespace, c.relname || ' ' || p.polname, c.relowner \
        FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid) \
    SELECT pg_catalog.convert_to(l.kind || ' ' || pg_catalog.translate( \
             n.nspname || ' ' || l.tag || ' ' || pg_catalog.pg_get_userbyid(l.owner), E'\\n\\r', '  '), \
             pg_catalog.getdatabaseencoding()) \
      FROM line l JOIN pg_catalog.pg_namespace n ON n.oid = l.namespace \
     WHERE n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT IN ('pg_catalog', 'information_schema')";

/// Indexes that no query would use. That of a partitioned table is not valid as long as a partition lacks its part, as it
/// was in the day.
const INVALID_INDEXES: &str = "\
    SELECT 'index ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) \
      FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready) AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1";

/// Constraints that were not held against the rows that were there when they were added.
const UNVALIDATED: &str = "\
    SELECT pg_catalog.quote_ident(o.conname), 'constraint ' || pg_catalog.quote_ident(o.conname) || coalesce( \
             ' of ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), '') \
      FROM pg_catalog.pg_constraint o LEFT JOIN pg_catalog.pg_class c ON c.oid = o.conrelid \
      LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE NOT o.convalidated ORDER BY 2";

pub(super) async fn compare(
    site: &Site<'_>,
    listing: &Listing,
    comparison: &mut Comparison,
) -> Result<(), CompareError> {
    let client = site.live.session(&site.entry.name).await?;
    rows::begin(&client).await?;
    let database = || site.entry.name.clone();
    let there: BTreeSet<Vec<u8>> = first_column(&client, LINES).await?;
    comparison.objects += (listing.entries.len() + listing.large_objects.len()) as u64;
    for entry in listing.entries.difference(&there) {
        let object = String::from_utf8_lossy(entry).into_owned();
        comparison.differences.push(Difference::MissingObject { database: database(), object });
    }
    let numbers: BTreeSet<u32> =
        first_column(&client, "SELECT oid FROM pg_catalog.pg_largeobject_metadata").await?;
    for number in listing.large_objects.difference(&numbers) {
        let object = format!("large object {number}");
        comparison.differences.push(Difference::MissingObject { database: database(), object });
    }
    let invalid: BTreeSet<String> = first_column(&client, INVALID_INDEXES).await?;
    for object in invalid {
        comparison.differences.push(Difference::NotValid { database: database(), object });
    }
    unvalidated(site, &client, comparison).await?;
    client.close().await;
    Ok(())
}

async fn first_column<T>(client: &Client, sql: &str) -> Result<BTreeSet<T>, Error>
where
    T: Ord + for<'a> tokio_postgres::types::FromSql<'a>,
{
    let failed = |error: tokio_postgres::Error| client.failed("list what is there", &error);
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get(0).map_err(|error| failed(error).into())).collect()
}

/// A constraint may only be NOT VALID if the day has it so.
async fn unvalidated(
    site: &Site<'_>,
    client: &Client,
    comparison: &mut Comparison,
) -> Result<(), CompareError> {
    let failed = |error: tokio_postgres::Error| Error::from(client.failed("look at its constraints", &error));
    let rows = client.query(UNVALIDATED, &[]).await.map_err(failed)?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut made = Program::new([site.programs.path("pg_restore")]);
    for word in ["--schema-only", "--file=-"] {
        made = made.arg(word);
    }
    let script = made.arg(site.home.join("rest.dump")).run(&site.context.cancel).await;
    let script = script.map_err(|source| program_failed(&site.entry.name, source))?;
    let script = String::from_utf8_lossy(&script);
    for row in rows {
        let (name, object): (String, String) =
            (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        if !is_made_unvalidated(&script, &name) {
            comparison.differences.push(Difference::NotValid { database: site.entry.name.clone(), object });
        }
    }
    Ok(())
}

/// Whether the script has a statement `... ADD CONSTRAINT <name> ... NOT VALID;` (or, since 18, `NOT ENFORCED`).
fn is_made_unvalidated(script: &str, name: &str) -> bool {
    let beginning = format!(" CONSTRAINT {name} ");
    script.match_indices(&beginning).any(|(at, _)| {
        let rest = &script[at..];
        let statement = &rest[..rest.find(";\n").unwrap_or(rest.len())];
        statement.ends_with("NOT VALID") || statement.contains("NOT ENFORCED")
    })
}

#[cfg(test)]
mod tests {
    use super::{Listing, is_made_unvalidated, large_objects};

    const LISTING: &[u8] = b";\n; Archive created at 2026-11-21 09:00:00 UTC\n;     dbname: x\n\
        217; 1259 16385 TABLE public t postgres\n3345; 0 16391 TABLE DATA public u postgres\n\
        3346; 0 0 SEQUENCE SET public s postgres\n3200; 2606 16399 FK CONSTRAINT public t t fkey postgres\n\
        3201; 0 16385 ROW SECURITY public t postgres\n3202; 2613 16500 BLOB - 16500 postgres\n\
        3203; 0 0 COMMENT public TABLE t postgres\n3204; 1259 9 TABLE public caf\xe9 postgres\n";

    #[test]
    fn entries_are_whole_lines() {
        let listing = Listing::parse(LISTING);
        let lines: Vec<_> = listing.entries.iter().map(|line| String::from_utf8_lossy(line)).collect();
        assert_eq!(
            lines,
            [
                "FK CONSTRAINT public t t fkey postgres",
                "ROW SECURITY public t postgres",
                "TABLE public caf\u{fffd} postgres",
                "TABLE public t postgres"
            ]
        );
        assert_eq!(listing.large_objects, [16500].into());
        assert!(listing.makes_table("public", "t", "UTF8"));
        assert!(!listing.makes_table("public", "u", "UTF8"));
    }

    #[test]
    fn large_objects_come_alone_or_in_ranges() {
        assert_eq!(large_objects("BLOB - 16500 postgres"), [16500]);
        assert_eq!(large_objects("BLOB METADATA - 16500..16510 postgres"), [16500, 16510]);
        assert_eq!(large_objects("BLOBS - BLOBS "), [0_u32; 0]);
    }

    #[test]
    fn a_statement_ends_where_it_ends() {
        let script = "ALTER TABLE public.t\n    ADD CONSTRAINT a CHECK ((x > 0)) NOT VALID;\n\n\
                      ALTER TABLE public.t\n    ADD CONSTRAINT b CHECK ((x > 0));\n";
        assert!(is_made_unvalidated(script, "a"));
        assert!(!is_made_unvalidated(script, "b"));
    }
}
