//! Roles, memberships, parameters and tablespaces made to be exactly what a `globals.sql` says of them, inside a transaction of the
//! caller's. Roles that it does not know stay as they are.
//!
//! The role that this session has is never changed in what it may do or how it logs in: half way through, we would be locked out.

use std::collections::BTreeSet;

use tokio_postgres::types::ToSql;

use super::RestoreError;
use super::globals::{About, Globals, Statement, without_password};
use crate::postgres::{self, Client, identifier};

/// How far the script is followed.
#[derive(Debug, Clone, Copy)]
pub enum Extent<'a> {
    /// All that it says.
    All,
    /// Only what it says of these roles: those that were missing.
    Roles(&'a BTreeSet<String>),
}

/// Makes it so.
///
/// # Errors
/// The server refuses a statement; the transaction is then to be rolled back.
pub async fn apply(client: &Client, globals: &Globals, extent: Extent<'_>) -> Result<(), RestoreError> {
    let facts = Facts::ask(client).await?;
    let roles: Vec<&str> = globals.roles().into_iter().filter(|role| extent.covers(role)).collect();
    for role in roles.iter().filter(|role| !facts.roles.contains(**role)) {
        run(client, &format!("CREATE ROLE {}", identifier(role))).await?;
    }
    if matches!(extent, Extent::All) {
        forget(client, &facts, globals, &roles).await?;
    }
    for statement in &globals.statements {
        if let Some(sql) = wanted(statement, extent, &facts) {
            run(client, &sql).await?;
        }
    }
    Ok(())
}

impl Extent<'_> {
    fn covers(self, role: &str) -> bool {
        match self {
            Self::All => true,
            Self::Roles(roles) => roles.contains(role),
        }
    }
}

/// What a statement becomes here; None: nothing is to be done.
fn wanted(statement: &Statement, extent: Extent<'_>, facts: &Facts) -> Option<String> {
    let all = matches!(extent, Extent::All);
    let sql = || Some(statement.sql.clone());
    match &statement.about {
        About::Attributes(role) => (*role != facts.user && extent.covers(role)).then(sql)?,
        About::Role(role) | About::Parameter { grantee: role } => extent.covers(role).then(sql)?,
        About::Membership { role, member } => {
            let there = |name: &String| facts.roles.contains(name) || extent.covers(name);
            let new = extent.covers(role) || extent.covers(member);
            (new && there(role) && there(member)).then(sql)?
        }
        // One that is missing is made before, outside of any transaction; a dry run has to do without it.
        About::CreateTablespace { name, owner, .. } if all && facts.tablespaces.contains(name) => {
            Some(format!("ALTER TABLESPACE {} OWNER TO {}", identifier(name), identifier(owner)))
        }
        About::Tablespace(name) => (all && facts.tablespaces.contains(name)).then(sql)?,
        About::Speaker | About::Other => all.then(sql)?,
        About::CreateRole(_) | About::CreateTablespace { .. } | About::Setting => None,
    }
}

/// What is there.
struct Facts {
    user: String,
    version: i32,
    roles: BTreeSet<String>,
    tablespaces: BTreeSet<String>,
}

impl Facts {
    async fn ask(client: &Client) -> Result<Self, RestoreError> {
        let sql = "SELECT current_user::text, pg_catalog.current_setting('server_version_num')::int, \
                     ARRAY(SELECT rolname::text FROM pg_catalog.pg_roles), \
                     ARRAY(SELECT spcname::text FROM pg_catalog.pg_tablespace)";
        let failed = |error| client.failed("look at the roles", &error);
        let row = client.query_one(sql, &[]).await.map_err(failed)?;
        let roles: Vec<String> = row.try_get(2).map_err(failed)?;
        let tablespaces: Vec<String> = row.try_get(3).map_err(failed)?;
        Ok(Self {
            user: row.try_get(0).map_err(failed)?,
            version: row.try_get(1).map_err(failed)?,
            roles: roles.into_iter().collect(),
            tablespaces: tablespaces.into_iter().collect(),
        })
    }
}

/// Takes from the roles and tablespaces of the script what it may not say again.
async fn forget(
    client: &Client,
    facts: &Facts,
    globals: &Globals,
    roles: &[&str],
) -> Result<(), RestoreError> {
    let tablespaces: Vec<&str> = globals.tablespaces().into_keys().collect();
    // Passwords and limits of time are said only of those that have them, and a limit cannot be lifted by ALTER ROLE.
    let passwords = globals.has_passwords();
    let lift = "UPDATE pg_catalog.pg_authid SET rolvaliduntil = NULL, \
                  rolpassword = CASE WHEN $3 THEN NULL ELSE rolpassword END \
                WHERE rolname = ANY ($1) AND rolname <> $2 \
                  AND (rolvaliduntil IS NOT NULL OR ($3 AND rolpassword IS NOT NULL))";
    client
        .execute(lift, &[&roles, &facts.user, &passwords])
        .await
        .map_err(|error| client.failed("lift the limits of roles", &error))?;
    undo_each(client, &memberships(facts.version), &[&roles]).await?;
    undo_each(client, ROLE_SAYINGS, &[&roles]).await?;
    undo_each(client, TABLESPACE_SAYINGS, &[&tablespaces, &roles]).await?;
    if facts.version >= 150_000 {
        undo_each(client, PARAMETER_GRANTS, &[&roles]).await?;
    }
    Ok(())
}

/// Runs each statement that a query yields.
async fn undo_each(client: &Client, query: &str, with: &[&(dyn ToSql + Sync)]) -> Result<(), RestoreError> {
    let rows = client.query(query, with).await;
    let rows = rows.map_err(|error| client.failed("look at the roles", &error))?;
    for row in rows {
        let sql: String = row.try_get(0).map_err(|error| client.failed("look at the roles", &error))?;
        run(client, &sql).await?;
    }
    Ok(())
}

/// Memberships among the roles, and of them in those that every server has. Since 16 each has a grantor of its own, and one may rest
/// on another.
fn memberships(version: i32) -> String {
    let by =
        if version >= 160_000 { "|| pg_catalog.format(' GRANTED BY %I CASCADE', g.rolname)" } else { "" };
    format!(
        "SELECT pg_catalog.format('REVOKE %I FROM %I', r.rolname, m.rolname) {by} \
         FROM pg_catalog.pg_auth_members a JOIN pg_catalog.pg_roles r ON r.oid = a.roleid \
           JOIN pg_catalog.pg_roles m ON m.oid = a.member LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor \
         WHERE (r.rolname = ANY ($1) OR r.rolname ~ '^pg_') AND (m.rolname = ANY ($1) OR m.rolname ~ '^pg_') \
           AND NOT (r.rolname ~ '^pg_' AND m.rolname ~ '^pg_')"
    )
}

/// Settings and comments of the roles.
const ROLE_SAYINGS: &str = "SELECT pg_catalog.format('ALTER ROLE %I RESET ALL', r.rolname) FROM pg_catalog.pg_roles r \
      WHERE r.rolname = ANY ($1) AND EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s \
                                              WHERE s.setrole = r.oid AND s.setdatabase = 0) \
     UNION ALL \
     SELECT pg_catalog.format('COMMENT ON ROLE %I IS NULL', r.rolname) FROM pg_catalog.pg_roles r \
      WHERE r.rolname = ANY ($1) AND pg_catalog.shobj_description(r.oid, 'pg_authid') IS NOT NULL";

/// Options, comments and rights of the tablespaces. The owner's own right is what a new tablespace has.
const TABLESPACE_SAYINGS: &str = "SELECT pg_catalog.format('ALTER TABLESPACE %I RESET (%s)', t.spcname, \
              (SELECT pg_catalog.string_agg(pg_catalog.split_part(o, '=', 1), ', ') FROM pg_catalog.unnest(t.spcoptions) o)) \
       FROM pg_catalog.pg_tablespace t WHERE t.spcname = ANY ($1) AND t.spcoptions IS NOT NULL \
     UNION ALL \
     SELECT pg_catalog.format('COMMENT ON TABLESPACE %I IS NULL', t.spcname) FROM pg_catalog.pg_tablespace t \
      WHERE t.spcname = ANY ($1) AND pg_catalog.shobj_description(t.oid, 'pg_tablespace') IS NOT NULL \
     UNION ALL \
     SELECT DISTINCT pg_catalog.format('REVOKE ALL ON TABLESPACE %I FROM %s CASCADE', t.spcname, \
              CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(g.rolname) END) \
       FROM pg_catalog.pg_tablespace t CROSS JOIN LATERAL pg_catalog.aclexplode(t.spcacl) a \
         LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee \
      WHERE t.spcname = ANY ($1) AND a.grantee <> t.spcowner AND (a.grantee = 0 OR g.rolname = ANY ($2)) \
     UNION ALL \
     SELECT pg_catalog.format('GRANT ALL ON TABLESPACE %I TO %I', t.spcname, o.rolname) \
       FROM pg_catalog.pg_tablespace t JOIN pg_catalog.pg_roles o ON o.oid = t.spcowner \
      WHERE t.spcname = ANY ($1) AND t.spcacl IS NOT NULL";

/// Rights on parameters that the roles have.
const PARAMETER_GRANTS: &str = "SELECT DISTINCT pg_catalog.format('REVOKE ALL ON PARAMETER %s FROM %s CASCADE', p.parname, \
              CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(g.rolname) END) \
       FROM pg_catalog.pg_parameter_acl p CROSS JOIN LATERAL pg_catalog.aclexplode(p.paracl) a \
         LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee \
      WHERE a.grantee <> 10 AND (a.grantee = 0 OR g.rolname = ANY ($1))";

async fn run(client: &Client, sql: &str) -> Result<(), RestoreError> {
    client.batch_execute(sql).await.map_err(|error| RestoreError::Globals {
        statement: without_password(sql),
        cause: postgres::cause_of(&error),
    })
}
