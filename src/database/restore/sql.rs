//! As much of SQL's grammar as it takes to cut the scripts of pg_dumpall and pg_restore into statements, and to find the names in
//! them.

use std::ops::Range;

use crate::postgres;

/// What a statement is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A keyword, a number or a name without quotes.
    Word,
    /// A name in double quotes, without them.
    Name(String),
    /// A text in single quotes or dollars.
    Text,
    /// Anything else, one letter at a time.
    Symbol,
}

/// A piece of a statement and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its bytes in the text.
    pub span: Range<usize>,
}

impl Token {
    /// The name that it stands for, if it can be one.
    pub fn name<'a>(&'a self, sql: &'a str) -> Option<&'a str> {
        match &self.kind {
            Kind::Word => Some(&sql[self.span.clone()]),
            Kind::Name(name) => Some(name),
            Kind::Text | Kind::Symbol => None,
        }
    }

    /// Whether it is this keyword.
    pub fn is(&self, sql: &str, keyword: &str) -> bool {
        self.kind == Kind::Word && sql[self.span.clone()].eq_ignore_ascii_case(keyword)
    }
}

/// The pieces of a text, comments left out.
pub fn tokens(sql: &str) -> Vec<Token> {
    let mut scanner = Scanner { sql, at: 0 };
    std::iter::from_fn(|| scanner.next()).collect()
}

/// The statements of a script, without their semicolons, the comments between them and psql's own commands.
pub fn statements(script: &str) -> Vec<&str> {
    commented_statements(script).into_iter().map(|(statement, _)| statement).collect()
}

/// The statements of a script, each with what stands before it: comments, blanks and psql's own commands.
pub fn commented_statements(script: &str) -> Vec<(&str, &str)> {
    let mut scanner = Scanner { sql: script, at: 0 };
    let mut found = Vec::new();
    let mut begun: Option<Range<usize>> = None;
    let mut before = 0;
    let mut end = |range: Range<usize>, next: usize| {
        found.push((&script[range.clone()], &script[before..range.start]));
        before = next;
    };
    loop {
        if begun.is_none() {
            scanner.skip_commands();
        }
        let Some(token) = scanner.next() else { break };
        if &script[token.span.clone()] == ";" {
            if let Some(range) = begun.take() {
                end(range, token.span.end);
            }
        } else {
            let start = begun.map_or(token.span.start, |range| range.start);
            begun = Some(start..token.span.end);
        }
    }
    if let Some(range) = begun {
        end(range, script.len());
    }
    found
}

/// The statement with another name behind its first `DATABASE`, if that is `from`.
pub fn rename_database(statement: &str, from: &str, to: &str) -> String {
    let found = tokens(statement).windows(2).find_map(|pair| {
        let named = pair[0].is(statement, "DATABASE") && pair[1].name(statement) == Some(from);
        named.then(|| pair[1].span.clone())
    });
    match found {
        Some(span) => {
            format!("{}{}{}", &statement[..span.start], postgres::identifier(to), &statement[span.end..])
        }
        None => statement.to_owned(),
    }
}

struct Scanner<'a> {
    sql: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.sql[self.at..]
    }

    /// Lines that begin with a backslash are psql's.
    fn skip_commands(&mut self) {
        loop {
            self.skip_blanks();
            if !self.rest().starts_with('\\') {
                return;
            }
            self.skip_line();
        }
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').map_or(self.rest().len(), |end| end + 1);
    }

    fn skip_blanks(&mut self) {
        loop {
            let blanks = self.rest().len() - self.rest().trim_start().len();
            self.at += blanks;
            if self.rest().starts_with("--") {
                self.skip_line();
            } else if self.rest().starts_with("/*") {
                self.skip_comment();
            } else {
                return;
            }
        }
    }

    /// Comments of this kind may stand in each other.
    fn skip_comment(&mut self) {
        let mut depth = 0_u32;
        while !self.rest().is_empty() {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += self.rest().chars().next().map_or(0, char::len_utf8);
            }
        }
    }

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks();
        let start = self.at;
        let first = self.rest().chars().next()?;
        let kind = if first == '"' {
            Kind::Name(self.quoted('"', false).replace("\"\"", "\""))
        } else if first == '\'' {
            self.quoted('\'', false);
            Kind::Text
        } else if matches!(first, 'E' | 'e') && self.rest()[1..].starts_with('\'') {
            self.at += 1;
            self.quoted('\'', true);
            Kind::Text
        } else if let Some(tag) = dollar_tag(self.rest()) {
            let body =
                tag.len() + self.rest()[tag.len()..].find(&tag).unwrap_or(self.rest().len() - tag.len());
            self.at = (self.at + body + tag.len()).min(self.sql.len());
            Kind::Text
        } else if is_word(first) {
            let length = self.rest().find(|c: char| !is_word(c)).unwrap_or(self.rest().len());
            self.at += length;
            Kind::Word
        } else {
            self.at += first.len_utf8();
            Kind::Symbol
        };
        Some(Token { kind, span: start..self.at })
    }

    /// What stands in quotes, doubled ones still doubled; leaves the place behind them.
    fn quoted(&mut self, quote: char, escapes: bool) -> String {
        let text = &self.rest()[1..];
        let mut letters = text.char_indices().peekable();
        let mut end = text.len();
        let mut behind = text.len();
        while let Some((at, letter)) = letters.next() {
            if escapes && letter == '\\' {
                letters.next();
            } else if letter == quote {
                if letters.peek().is_some_and(|(_, next)| *next == quote) {
                    letters.next();
                } else {
                    (end, behind) = (at, at + 1);
                    break;
                }
            }
        }
        let inside = text[..end].to_owned();
        self.at += 1 + behind;
        inside
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '$' || !letter.is_ascii()
}

/// `$$` or `$tag$` at the beginning.
fn dollar_tag(text: &str) -> Option<String> {
    let rest = text.strip_prefix('$')?;
    let end = rest.find('$')?;
    let tag = &rest[..end];
    let fits = !tag.starts_with(|c: char| c.is_ascii_digit()) && tag.chars().all(|c| is_word(c) && c != '$');
    fits.then(|| format!("${tag}$"))
}

#[cfg(test)]
mod tests {
    use super::{Kind, rename_database, statements, tokens};

    #[test]
    fn a_script_is_cut_into_statements() {
        let script = "-- a; comment\n\\restrict x;y\nSET a = 'x;--y';\n/* no; /* none; */ */\nCOMMENT ON ROLE r IS 'reads\nonly';\n\
                      \\connect shop\nSELECT E'it\\'s;', \"a;\"\"b\", $x$ ; $$ ; $x$;\n-- end\nSELECT 1";
        assert_eq!(
            statements(script),
            [
                "SET a = 'x;--y'",
                "COMMENT ON ROLE r IS 'reads\nonly'",
                "SELECT E'it\\'s;', \"a;\"\"b\", $x$ ; $$ ; $x$",
                "SELECT 1"
            ]
        );
        assert_eq!(statements(" \n-- nothing\n"), [] as [&str; 0]);
    }

    #[test]
    fn names_lose_their_quotes() {
        let sql = r#"ALTER ROLE "odd ""role"" naïve %" WITH x"#;
        let found = tokens(sql);
        assert_eq!(found[2].kind, Kind::Name(r#"odd "role" naïve %"#.to_owned()));
        assert_eq!(found[2].name(sql), Some(r#"odd "role" naïve %"#));
        assert!(found[3].is(sql, "with"));
    }

    #[test]
    fn a_database_gets_another_name_and_nothing_else_does() {
        let renamed = |statement: &str| rename_database(statement, "shop", "new_1");
        assert_eq!(
            renamed("CREATE DATABASE shop WITH TEMPLATE = template0 TABLESPACE = shop"),
            "CREATE DATABASE \"new_1\" WITH TEMPLATE = template0 TABLESPACE = shop"
        );
        assert_eq!(
            renamed("COMMENT ON DATABASE shop IS 'the DATABASE shop'"),
            "COMMENT ON DATABASE \"new_1\" IS 'the DATABASE shop'"
        );
        assert_eq!(
            renamed("ALTER ROLE database IN DATABASE \"shop\" SET a TO 'b'"),
            "ALTER ROLE database IN DATABASE \"new_1\" SET a TO 'b'"
        );
        assert_eq!(renamed("GRANT shop TO x"), "GRANT shop TO x");
        assert_eq!(
            rename_database("ALTER DATABASE \"a \"\"b\" OWNER TO o", "a \"b", "n"),
            "ALTER DATABASE \"n\" OWNER TO o"
        );
    }
}
