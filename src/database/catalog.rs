//! What the catalogs say about a database's tables.

use super::Error;
use crate::postgres::Client;

/// A table that pg_dump would lock: a plain or a partitioned one, not temporary, not of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "these are facts that do not depend on each other")]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name. When it cannot be spoken of, this and the schema are for people only: bytes above 127 are escaped.
    pub name: String,
    /// Its names and its columns' can be said in UTF-8: in a SQL_ASCII database, whose bytes mean anything, only ASCII can.
    pub speakable: bool,
    /// It has rows of its own (relkind `r`); false for a partitioned parent.
    pub plain: bool,
    /// Its access method is `heap`.
    pub heap: bool,
    /// It is not in the WAL.
    pub unlogged: bool,
    /// It belongs to an extension.
    pub member: bool,
    /// It is below hash partitioning on an enum.
    pub enum_hash: bool,
    /// Bytes with TOAST; asked for only before 14, else 0.
    pub bytes: u64,
}

impl Table {
    /// Schema and name for people.
    #[must_use]
    pub fn shown(&self) -> String {
        crate::postgres::qualified(&self.schema, &self.name)
    }
}

/// The tables in the order of their OIDs, as the session's snapshot sees them.
///
/// # Errors
/// The server refuses, or a name is not UTF-8.
pub async fn tables(client: &Client, server_version: u32) -> Result<Vec<Table>, Error> {
    let size = if server_version < 140_000 { "pg_catalog.pg_table_size(c.oid)" } else { "0::bigint" };
    // A name that is not UTF-8 would make the server refuse the answer.
    let shown = |name: &str| {
        format!(
            "CASE WHEN s.speakable THEN {name}::text \
               ELSE pg_catalog.encode(pg_catalog.convert_to({name}::text, 'SQL_ASCII'), 'escape') END"
        )
    };
    let (schema, name) = (shown("n.nspname"), shown("c.relname"));
    let sql = format!(
        "SELECT c.oid, {schema}, {name}, c.relkind::text, c.relpersistence::text, coalesce(am.amname, '')::text, \
           EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass \
                     AND d.objid = c.oid AND d.deptype = 'e'), \
           c.relispartition AND EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) a \
                     JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = a.relid \
                     JOIN pg_catalog.pg_opclass o ON o.oid = ANY (p.partclass) \
                    WHERE p.partstrat = 'h' AND o.opcname = 'enum_ops'), \
           {size}, s.speakable \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam \
           CROSS JOIN LATERAL (SELECT pg_catalog.current_setting('server_encoding') <> 'SQL_ASCII' \
             OR pg_catalog.encode(pg_catalog.convert_to(n.nspname::text || c.relname::text || coalesce( \
                  (SELECT pg_catalog.string_agg(a.attname::text, '') FROM pg_catalog.pg_attribute a \
                    WHERE a.attrelid = c.oid AND a.attnum > 0), ''), 'SQL_ASCII'), 'hex') \
                !~ '^(..)*[89a-f].') AS s(speakable) \
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
           AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
         ORDER BY c.oid"
    );
    let rows = client.query(&sql, &[]).await.map_err(|error| client.failed("list its tables", &error))?;
    rows.iter()
        .map(|row| read_table(row).map_err(|_| Error::Name { dbname: client.dbname().to_owned() }))
        .collect()
}

fn read_table(row: &tokio_postgres::Row) -> Result<Table, tokio_postgres::Error> {
    let kind: String = row.try_get(3)?;
    let persistence: String = row.try_get(4)?;
    let access_method: String = row.try_get(5)?;
    let bytes: Option<i64> = row.try_get(8)?;
    Ok(Table {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        plain: kind == "r",
        heap: access_method == "heap",
        unlogged: persistence == "u",
        member: row.try_get(6)?,
        enum_hash: row.try_get(7)?,
        bytes: bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        speakable: row.try_get(9)?,
    })
}

/// What copying a table needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The columns that COPY takes, in order: neither dropped nor generated.
    pub columns: Vec<String>,
    /// Heap pages.
    pub pages: u32,
    /// Bytes with TOAST.
    pub bytes: u64,
}

/// The shapes of the tables with these OIDs, in the same order. The tables are locked, so that the columns are the snapshot's.
///
/// # Errors
/// The server refuses, or a name is not UTF-8.
pub async fn shapes(client: &Client, oids: &[u32]) -> Result<Vec<Shape>, Error> {
    let sql = "SELECT ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
                 WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
                 ORDER BY a.attnum), \
               pg_catalog.pg_relation_size(t.oid) / pg_catalog.current_setting('block_size')::bigint, \
               pg_catalog.pg_table_size(t.oid) \
             FROM unnest($1::oid[]) WITH ORDINALITY AS t(oid, place) ORDER BY t.place";
    let rows =
        client.query(sql, &[&oids]).await.map_err(|error| client.failed("measure its tables", &error))?;
    rows.iter()
        .map(|row| read_shape(row).map_err(|_| Error::Name { dbname: client.dbname().to_owned() }))
        .collect()
}

fn read_shape(row: &tokio_postgres::Row) -> Result<Shape, tokio_postgres::Error> {
    let pages: Option<i64> = row.try_get(1)?;
    let bytes: Option<i64> = row.try_get(2)?;
    Ok(Shape {
        columns: row.try_get(0)?,
        pages: pages.and_then(|pages| u32::try_from(pages).ok()).unwrap_or(0),
        bytes: bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
    })
}
