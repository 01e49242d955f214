//! `globals.sql`, understood: what `pg_dumpall --globals-only` says of roles, memberships, parameters and tablespaces.

use std::collections::{BTreeMap, BTreeSet};

use super::sql::{self, Token};

/// One statement, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its text.
    pub sql: String,
    /// What it is about.
    pub about: About,
}

/// What a statement of pg_dumpall is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// `CREATE ROLE r`
    CreateRole(String),
    /// `ALTER ROLE r WITH ...`: attributes and password.
    Attributes(String),
    /// `ALTER ROLE r SET ...`, `COMMENT ON ROLE r ...`, `SECURITY LABEL ... ON ROLE r ...`.
    Role(String),
    /// `GRANT r TO m`
    Membership {
        /// What is granted.
        role: String,
        /// To whom.
        member: String,
    },
    /// `CREATE TABLESPACE t OWNER o LOCATION '...'`
    CreateTablespace {
        /// The tablespace.
        name: String,
        /// Its owner.
        owner: String,
        /// Its directory.
        location: String,
    },
    /// `ALTER`, `COMMENT ON`, `SECURITY LABEL ... ON`, `GRANT` and `REVOKE ... ON TABLESPACE t`.
    Tablespace(String),
    /// `GRANT` and `REVOKE ... ON PARAMETER`, and to whom or from whom.
    Parameter {
        /// The role.
        grantee: String,
    },
    /// `SET SESSION AUTHORIZATION`, `RESET SESSION AUTHORIZATION`: who says what follows.
    Speaker,
    /// `SET ...`: how the script is to be read.
    Setting,
    /// Anything else.
    Other,
}

/// All of it, in order.
#[derive(Debug, Clone, Default)]
pub struct Globals {
    /// The statements.
    pub statements: Vec<Statement>,
}

impl Globals {
    /// Understands a script.
    pub fn parse(script: &str) -> Self {
        let of = |text: &str| Statement { sql: text.to_owned(), about: about(text) };
        Self { statements: sql::statements(script).into_iter().map(of).collect() }
    }

    /// The roles that it makes.
    pub fn roles(&self) -> BTreeSet<&str> {
        let role = |statement| match statement {
            &Statement { about: About::CreateRole(ref name), .. } => Some(name.as_str()),
            _ => None,
        };
        self.statements.iter().filter_map(role).collect()
    }

    /// What it says of what a role may do, and of its password.
    pub fn attributes(&self, role: &str) -> Option<&str> {
        let of_role = |statement: &&Statement| statement.about == About::Attributes(role.to_owned());
        self.statements.iter().find(of_role).map(|statement| statement.sql.as_str())
    }

    /// Whether it knows passwords: a dump made without the right to read them holds none.
    pub fn has_passwords(&self) -> bool {
        self.statements.iter().any(|statement| {
            matches!(statement.about, About::Attributes(_))
                && sql::tokens(&statement.sql).iter().any(|token| token.is(&statement.sql, "PASSWORD"))
        })
    }

    /// The tablespaces with their directories.
    pub fn tablespaces(&self) -> BTreeMap<&str, &str> {
        let tablespace = |statement| match statement {
            &Statement { about: About::CreateTablespace { ref name, ref location, .. }, .. } => {
                Some((name.as_str(), location.as_str()))
            }
            _ => None,
        };
        self.statements.iter().filter_map(tablespace).collect()
    }

    /// What is said of each role: attributes, settings, comment, and what it is a member of.
    pub fn by_role(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut said: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for statement in &self.statements {
            let (About::CreateRole(role)
            | About::Attributes(role)
            | About::Role(role)
            | About::Membership { member: role, .. }
            | About::Parameter { grantee: role }) = &statement.about
            else {
                continue;
            };
            said.entry(role).or_default().insert(&statement.sql);
        }
        said
    }
}

/// Reads anything as the scripts that a day has: for the fuzz targets.
#[cfg(fuzzing)]
pub fn understand(script: &str) {
    let globals = Globals::parse(script);
    let _ = (globals.has_passwords(), globals.tablespaces(), globals.by_role());
    for role in globals.roles() {
        assert!(globals.by_role().contains_key(role));
    }
    for Statement { sql, .. } in &globals.statements {
        assert!(script.contains(sql.as_str()));
        let _ = (without_password(sql), sql::rename_database(sql, "shop", "daykeep_new_1_0"));
    }
}

/// The statement without the password in it.
pub fn without_password(statement: &str) -> String {
    let tokens = sql::tokens(statement);
    let password = tokens.windows(2).find(|pair| pair[0].is(statement, "PASSWORD"));
    match password {
        Some(pair) => {
            let span = pair[1].span.clone();
            format!("{}'...'{}", &statement[..span.start], &statement[span.end..])
        }
        None => statement.to_owned(),
    }
}

fn about(text: &str) -> About {
    let tokens = sql::tokens(text);
    let word = |at: usize, word: &str| tokens.get(at).is_some_and(|token: &Token| token.is(text, word));
    let name = |at: usize| tokens.get(at).and_then(|token| token.name(text)).map(str::to_owned);
    let behind = |keyword: &str| {
        let at = tokens.iter().position(|token| token.is(text, keyword))?;
        tokens.get(at + 1).and_then(|token| token.name(text)).map(str::to_owned)
    };
    // Where `ON` stands, and what kind of thing is behind it.
    let on = tokens.iter().position(|token| token.is(text, "ON"));
    let on_kind = |kind: &str| on.is_some_and(|at| word(at + 1, kind));
    let on_name = || on.and_then(|at| name(at + 2));
    let grants = word(0, "GRANT") || word(0, "REVOKE");
    let found = if word(0, "CREATE") && word(1, "ROLE") {
        name(2).map(About::CreateRole)
    } else if word(0, "ALTER") && word(1, "ROLE") && word(3, "WITH") {
        name(2).map(About::Attributes)
    } else if word(0, "ALTER") && word(1, "ROLE") {
        name(2).map(About::Role)
    } else if word(0, "CREATE") && word(1, "TABLESPACE") {
        tablespace(text, &tokens)
    } else if word(0, "ALTER") && word(1, "TABLESPACE") {
        name(2).map(About::Tablespace)
    } else if on_kind("ROLE") && !grants {
        on_name().map(About::Role)
    } else if on_kind("TABLESPACE") {
        on_name().map(About::Tablespace)
    } else if grants && on_kind("PARAMETER") {
        behind(if word(0, "GRANT") { "TO" } else { "FROM" }).map(|grantee| About::Parameter { grantee })
    } else if word(0, "GRANT") && on.is_none() {
        name(1).zip(behind("TO")).map(|(role, member)| About::Membership { role, member })
    } else if (word(0, "SET") || word(0, "RESET")) && word(1, "SESSION") && word(2, "AUTHORIZATION") {
        Some(About::Speaker)
    } else if word(0, "SET") || (word(0, "SELECT") && text.contains("set_config")) {
        Some(About::Setting)
    } else {
        None
    };
    found.unwrap_or(About::Other)
}

fn tablespace(text: &str, tokens: &[Token]) -> Option<About> {
    let name = tokens.get(2)?.name(text)?.to_owned();
    let owner = tokens.get(4)?.name(text)?.to_owned();
    let location = &text[tokens.get(6)?.span.clone()];
    Some(About::CreateTablespace { name, owner, location: text_of(location)? })
}

/// What a literal says.
fn text_of(literal: &str) -> Option<String> {
    if let Some(plain) = literal.strip_prefix('\'') {
        return Some(plain.strip_suffix('\'')?.replace("''", "'"));
    }
    let escaped = literal.strip_prefix(['E', 'e'])?.strip_prefix('\'')?.strip_suffix('\'')?;
    Some(escaped.replace("''", "'").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    use super::{About, Globals, about, without_password};

    const SCRIPT: &str = r#"\restrict x

SET default_transaction_read_only = off;
SET client_encoding = 'UTF8';
CREATE ROLE "odd ""role"" %";
ALTER ROLE "odd ""role"" %" WITH NOSUPERUSER;
CREATE ROLE writer;
ALTER ROLE writer WITH LOGIN CONNECTION LIMIT 3 PASSWORD 'SCRAM-SHA-256$x' VALID UNTIL '2038-01-19 00:00:00+00';
COMMENT ON ROLE writer IS 'on; ROLE';
ALTER ROLE writer SET search_path TO 'shop', 'public';
GRANT writer TO "odd ""role"" %" WITH ADMIN OPTION GRANTED BY postgres;
GRANT SET ON PARAMETER log_statement TO writer;
CREATE TABLESPACE "else where" OWNER writer LOCATION '/tmp/it''s';
ALTER TABLESPACE "else where" SET (random_page_cost=1.5);
SET SESSION AUTHORIZATION writer;
GRANT ALL ON TABLESPACE "else where" TO "odd ""role"" %";
RESET SESSION AUTHORIZATION;
\unrestrict x
"#;

    #[test]
    fn every_statement_is_understood() {
        let globals = Globals::parse(SCRIPT);
        let odd = || "odd \"role\" %".to_owned();
        let writer = || "writer".to_owned();
        let abouts: Vec<About> = globals.statements.iter().map(|statement| statement.about.clone()).collect();
        assert_eq!(
            abouts,
            [
                About::Setting,
                About::Setting,
                About::CreateRole(odd()),
                About::Attributes(odd()),
                About::CreateRole(writer()),
                About::Attributes(writer()),
                About::Role(writer()),
                About::Role(writer()),
                About::Membership { role: writer(), member: odd() },
                About::Parameter { grantee: writer() },
                About::CreateTablespace {
                    name: "else where".into(),
                    owner: writer(),
                    location: "/tmp/it's".into()
                },
                About::Tablespace("else where".into()),
                About::Speaker,
                About::Tablespace("else where".into()),
                About::Speaker,
            ]
        );
        assert!(globals.has_passwords());
        assert_eq!(globals.roles().into_iter().collect::<Vec<_>>(), [r#"odd "role" %"#, "writer"]);
        assert_eq!(globals.by_role()[r#"odd "role" %"#].len(), 3);
        assert_eq!(about("VACUUM"), About::Other);
    }

    #[test]
    fn a_password_is_not_told() {
        assert_eq!(
            without_password("ALTER ROLE w WITH LOGIN PASSWORD 'md5x' VALID UNTIL 'y'"),
            "ALTER ROLE w WITH LOGIN PASSWORD '...' VALID UNTIL 'y'"
        );
    }
}
