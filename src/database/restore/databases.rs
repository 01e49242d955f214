//! A database as the day's archive makes it, and as the server has it.

use std::collections::BTreeSet;

use tokio_postgres::error::SqlState;

use super::plan::{Action, Survey};
use super::{RestoreError, Wish, program_failed, session, sql};
use crate::event::Context;
use crate::manifest::DatabaseEntry;
use crate::postgres::{Client, cause_of};
use crate::process::Program;

/// A database of the server.
#[derive(Debug)]
pub struct Live {
    pub name: String,
    oid: u32,
    bytes: u64,
    allows_connections: bool,
}

impl Live {
    /// What happens to it when it is not left alone.
    pub fn replaced(&self) -> Action {
        Action::Replace { oid: self.oid, bytes: self.bytes, allows_connections: self.allows_connections }
    }
}

/// The databases of the server but for template0.
pub async fn databases(client: &Client) -> Result<Vec<Live>, RestoreError> {
    let sql = "SELECT datname::text, oid, pg_catalog.pg_database_size(oid), datallowconn \
               FROM pg_catalog.pg_database WHERE datname <> 'template0' ORDER BY 1";
    let failed = |error| client.failed("list the databases", &error);
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    let read = |row: &tokio_postgres::Row| {
        let bytes: i64 = row.try_get(2)?;
        Ok(Live {
            name: row.try_get(0)?,
            oid: row.try_get(1)?,
            bytes: u64::try_from(bytes).unwrap_or(0),
            allows_connections: row.try_get(3)?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| failed(error).into())
}

/// What makes the database and its properties. Of the session's settings only the one by which the texts are to be read.
pub fn creation(script: &str) -> Vec<String> {
    let makes = |statement: &&str| {
        let tokens = sql::tokens(statement);
        tokens.iter().any(|token| {
            token.is(statement, "DATABASE") || token.is(statement, "standard_conforming_strings")
        })
    };
    sql::statements(script).into_iter().filter(makes).map(str::to_owned).collect()
}

/// The extensions in an archive: lines as `4; 3079 16640 EXTENSION - btree_gist `.
pub fn extensions_of(list: &str) -> Vec<String> {
    let name = |line: &str| {
        let what = line.splitn(4, ' ').nth(3)?.strip_prefix("EXTENSION - ")?;
        Some(what.split(' ').next()?.to_owned())
    };
    list.lines().filter_map(name).collect()
}

/// Whether the archive holds nothing but the database itself.
pub fn is_bare(list: &str, entry: &DatabaseEntry) -> bool {
    const OF_ITSELF: [&str; 8] = [
        "DATABASE - ",
        "DATABASE PROPERTIES - ",
        "COMMENT - DATABASE ",
        "ACL - DATABASE ",
        "SECURITY LABEL - DATABASE ",
        "ENCODING - ",
        "STDSTRINGS - ",
        "SEARCHPATH - ",
    ];
    let kinds = list.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
    let kinds = kinds.map(|line| line.splitn(4, ' ').nth(3).unwrap_or(line));
    matches!(entry.name.as_str(), "postgres" | "template1")
        && kinds.into_iter().all(|kind| OF_ITSELF.iter().any(|of| kind.starts_with(of)))
}

/// Whether nobody has put anything into a database of the server.
pub async fn holds_nothing(wish: &Wish<'_>, live: &Live) -> Result<bool, RestoreError> {
    if !live.allows_connections {
        return Ok(false);
    }
    let client = session::open(wish.server(), &live.name).await?;
    // What initdb makes has a smaller OID.
    let sql = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid >= 16384) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE oid >= 16384) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_type WHERE oid >= 16384) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE oid >= 16384) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE oid >= 16384) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_default_acl) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication) \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_foreign_server)";
    let row = client.query_one(sql, &[]).await;
    let nothing = row.and_then(|row| row.try_get(0));
    let nothing = nothing.map_err(|error| client.failed("look into it", &error))?;
    client.close().await;
    Ok(nothing)
}

/// Whether the server's database is made by the same statements as the day's.
pub async fn same_properties(
    wish: &Wish<'_>,
    survey: &Survey,
    entry: &DatabaseEntry,
    of_the_day: &[String],
    context: &Context,
) -> Result<bool, RestoreError> {
    let mut program = Program::new([survey.programs.path("pg_dump")])
        .arg("--create")
        .arg("--schema-only")
        .arg("--no-password");
    for (name, value) in session::environment(wish.server())? {
        program = program.env(name, value);
    }
    program = program.env("PGDATABASE", Some(entry.name.clone().into()));
    let said = program.run(&context.cancel).await.map_err(|source| program_failed(&entry.name, source))?;
    let live = creation(&String::from_utf8_lossy(&said));
    // pg_dump and pg_restore say the same in another order.
    let sorted = |statements: &[String]| -> BTreeSet<String> { statements.iter().cloned().collect() };
    Ok(sorted(&live) == sorted(of_the_day))
}

/// Whether a database that is there may be replaced.
pub async fn place(wish: &Wish<'_>, live: &Live, survey: &mut Survey) -> Result<(), RestoreError> {
    if wish.target.replaces() {
        return Ok(());
    }
    let initial = matches!(live.name.as_str(), "postgres" | "template1");
    if !initial || !holds_nothing(wish, live).await? {
        survey.problems.push(format!(
            "the server has a database {:?} already: restore into an empty server, or drop it first",
            live.name
        ));
    }
    Ok(())
}

/// Whether the server would make the database: its encoding, locale, tablespace. It is asked for one of a name that is taken, which it
/// refuses after it has looked at everything else (`createdb` in dbcommands.c).
pub async fn try_creation(
    client: &Client,
    entry: &DatabaseEntry,
    creation: &[String],
    survey: &mut Survey,
) -> Result<(), RestoreError> {
    let Some(statement) = creation.iter().find(|statement| is_creation(statement)) else {
        survey.problems.push(format!("rest.dump of database {:?} does not create it", entry.name));
        return Ok(());
    };
    let taken = sql::rename_database(statement, &entry.name, "template0");
    let taken = without_new_tablespace(&taken, survey);
    let Err(error) = client.batch_execute(&taken).await else {
        // Only without template0, which every server has.
        return Ok(());
    };
    if error.code() == Some(&SqlState::DUPLICATE_DATABASE) {
        return Ok(());
    }
    if error.as_db_error().is_none() {
        return Err(client.failed("try to make a database", &error).into());
    }
    survey.problems.push(format!("the server cannot make database {:?}: {}", entry.name, cause_of(&error)));
    Ok(())
}

fn is_creation(statement: &str) -> bool {
    let tokens = sql::tokens(statement);
    tokens.first().is_some_and(|token| token.is(statement, "CREATE"))
}

/// A tablespace that will be made is not there when the statement is tried.
fn without_new_tablespace(statement: &str, survey: &Survey) -> String {
    let tokens = sql::tokens(statement);
    let at = tokens.iter().rposition(|token| token.is(statement, "TABLESPACE"));
    let named = at.and_then(|at| Some((tokens[at].span.start, tokens.get(at + 2)?)));
    match named {
        Some((start, token))
            if survey.new_tablespaces.iter().any(|(name, _)| token.name(statement) == Some(name)) =>
        {
            format!("{}{}", &statement[..start], &statement[token.span.end..])
        }
        _ => statement.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{creation, extensions_of};

    #[test]
    fn extensions_are_found_in_the_list() {
        let list = ";\n4; 3079 16640 EXTENSION - btree_gist \n4246; 0 0 COMMENT - EXTENSION btree_gist \n\
                    217; 1259 16385 TABLE public EXTENSION owner\n5; 3079 1 EXTENSION - uuid-ossp \n";
        assert_eq!(extensions_of(list), ["btree_gist", "uuid-ossp"]);
    }

    #[test]
    fn what_makes_a_database_is_told_from_the_session() {
        let script = "SET statement_timeout = 0;\nSET standard_conforming_strings = off;\nSELECT pg_catalog.set_config('search_path', '', false);\n\
                      CREATE DATABASE shop WITH TEMPLATE = template0;\n\\connect shop\nCOMMENT ON DATABASE shop IS 'x';\n";
        assert_eq!(
            creation(script),
            [
                "SET standard_conforming_strings = off",
                "CREATE DATABASE shop WITH TEMPLATE = template0",
                "COMMENT ON DATABASE shop IS 'x'"
            ]
        );
    }
}
