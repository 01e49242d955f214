//! What of a day is restored, as it is asked for, and what that is of a certain day.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::manifest::{Manifest, PathBytes};

/// A side of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Every database, and the roles that they need.
    Database,
    /// Every tree.
    Trees,
}

/// What of a day is restored. Nothing named is all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// One side only.
    #[serde(default)]
    pub only: Option<Side>,
    /// These databases.
    #[serde(default)]
    pub databases: BTreeSet<String>,
    /// These tables.
    #[serde(default)]
    pub tables: BTreeSet<TableName>,
    /// These trees.
    #[serde(default)]
    pub trees: BTreeSet<String>,
    /// These parts of trees.
    #[serde(default)]
    pub paths: BTreeSet<TreePath>,
}

impl Choice {
    /// The options of the command that make this choice, quoted for a shell.
    #[must_use]
    pub fn options(&self) -> String {
        let mut options = Vec::new();
        match self.only {
            Some(Side::Database) => options.push("--only database".to_owned()),
            Some(Side::Trees) => options.push("--only trees".to_owned()),
            None => {}
        }
        options.extend(self.databases.iter().map(|name| format!("--database {}", quoted(name))));
        options.extend(self.tables.iter().map(|table| format!("--table {}", quoted(&table.to_string()))));
        options.extend(self.trees.iter().map(|name| format!("--tree {}", quoted(name))));
        options.extend(self.paths.iter().map(|path| format!("--path {}", quoted(&path.to_string()))));
        options.join(" ")
    }

    /// Whether nothing is named: all of the day.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.only.is_none() && !self.names_parts()
    }

    /// Whether anything but a whole side is named.
    #[must_use]
    pub fn names_parts(&self) -> bool {
        let Self { only: _, databases, tables, trees, paths } = self;
        !(databases.is_empty() && tables.is_empty() && trees.is_empty() && paths.is_empty())
    }
}

/// A word as a shell takes it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+,=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `DATABASE.SCHEMA.TABLE`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// The database.
    pub database: String,
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [database, schema, table] = [&self.database, &self.schema, &self.table].map(|name| part(name));
        write!(f, "{database}.{schema}.{table}")
    }
}

/// A name in double quotes where a dot or a quote in it would be misread.
fn part(name: &str) -> String {
    if name.contains(['.', '"']) || name.is_empty() {
        return format!("\"{}\"", name.replace('"', "\"\""));
    }
    name.to_owned()
}

impl FromStr for TableName {
    type Err = String;

    /// Names are taken as they are, unlike in SQL: `App` is not `app`. A name with a dot stands in double quotes.
    fn from_str(text: &str) -> Result<Self, String> {
        let not_three =
            || format!("`{text}` is not DATABASE.SCHEMA.TABLE (a name with a dot in double quotes)");
        let mut names = vec![String::new()];
        let mut letters = text.chars().peekable();
        let mut is_quoted = false;
        while let Some(letter) = letters.next() {
            let last = names.last_mut().ok_or_else(not_three)?;
            match letter {
                '"' if is_quoted && letters.peek() == Some(&'"') => {
                    letters.next();
                    last.push('"');
                }
                '"' => is_quoted = !is_quoted,
                '.' if !is_quoted => names.push(String::new()),
                letter => last.push(letter),
            }
        }
        match <[String; 3]>::try_from(names) {
            Ok([database, schema, table])
                if !is_quoted && ![&database, &schema, &table].iter().any(|name| name.is_empty()) =>
            {
                Ok(Self { database, schema, table })
            }
            _ => Err(not_three()),
        }
    }
}

/// `TREE:PATH`, the path from the tree's root. A directory is meant with everything in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TreePath {
    /// The tree.
    pub tree: String,
    /// Not empty, without `.` and `..`, neither beginning nor ending with a slash.
    pub path: PathBytes,
}

impl TreePath {
    /// Reads `TREE:PATH`.
    ///
    /// # Errors
    /// What is wrong with it, one sentence.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(bytes);
        let colon = bytes.iter().position(|byte| *byte == b':');
        let Some((tree, path)) = colon.map(|colon| (&bytes[..colon], &bytes[colon + 1..])) else {
            return Err(format!("`{text}` is not TREE:PATH"));
        };
        let tree = String::from_utf8(tree.to_vec()).map_err(|_| format!("`{text}` is not TREE:PATH"))?;
        let names: Vec<&[u8]> =
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
        if names.contains(&&b".."[..]) {
            return Err(format!(
                "`{text}` leads out of its tree: write the path from the tree's root, without `..`"
            ));
        }
        if tree.is_empty() || names.is_empty() {
            return Err(format!("`{text}` is not TREE:PATH (a whole tree is `--tree NAME`)"));
        }
        Ok(Self { tree, path: PathBytes(names.join(&b'/')) })
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tree, String::from_utf8_lossy(&self.path.0))
    }
}

/// What of a certain day is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Whole databases, in the order of the day.
    pub databases: Vec<String>,
    /// Single tables of other databases.
    pub tables: Vec<TableName>,
    /// Whole trees.
    pub trees: Vec<String>,
    /// Parts of other trees.
    pub paths: Vec<TreePath>,
    /// The whole day.
    pub everything: bool,
}

impl Chosen {
    /// What a choice means of this day.
    ///
    /// # Errors
    /// Every name that the day does not have, one sentence each.
    pub fn of(choice: &Choice, day: &Manifest) -> Result<Self, Vec<String>> {
        let databases: Vec<&str> =
            day.database.iter().flat_map(|of| &of.databases).map(|database| database.name.as_str()).collect();
        let trees: Vec<&str> = day.trees.keys().map(String::as_str).collect();
        let problems = unknown(choice, &day.day, &databases, &trees);
        if !problems.is_empty() {
            return Err(problems);
        }
        let of_side = |side| !choice.names_parts() && choice.only.is_none_or(|only| only == side);
        let owned = |names: &[&str], all: bool, named: &BTreeSet<String>| -> Vec<String> {
            names.iter().filter(|name| all || named.contains(**name)).map(|name| (*name).to_owned()).collect()
        };
        let chosen_databases = owned(&databases, of_side(Side::Database), &choice.databases);
        let chosen_trees = owned(&trees, of_side(Side::Trees), &choice.trees);
        // What a whole restores need not be named beside it.
        let tables = choice.tables.iter().filter(|table| !chosen_databases.contains(&table.database));
        let paths = choice.paths.iter().filter(|path| !chosen_trees.contains(&path.tree));
        Ok(Self {
            tables: tables.cloned().collect(),
            paths: paths.cloned().collect(),
            databases: chosen_databases,
            trees: chosen_trees,
            everything: choice.is_everything(),
        })
    }

    /// Whether anything of the server is restored.
    #[must_use]
    pub fn touches_database(&self) -> bool {
        !(self.databases.is_empty() && self.tables.is_empty())
    }

    /// Whether anything of the trees is restored.
    #[must_use]
    pub fn touches_trees(&self) -> bool {
        !(self.trees.is_empty() && self.paths.is_empty())
    }

    /// Nothing but single tables and paths: what cannot be asked to make a repository whole.
    #[must_use]
    pub fn is_a_piece(&self) -> bool {
        self.databases.is_empty() && self.trees.is_empty()
    }

    /// The trees of which something is restored, by name.
    #[must_use]
    pub fn touched_trees(&self) -> BTreeSet<&str> {
        self.trees
            .iter()
            .map(String::as_str)
            .chain(self.paths.iter().map(|path| path.tree.as_str()))
            .collect()
    }
}

fn unknown(choice: &Choice, day: &str, databases: &[&str], trees: &[&str]) -> Vec<String> {
    let there = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut problems = Vec::new();
    let of_tables = choice.tables.iter().map(|table| &table.database);
    let wanted: BTreeSet<&String> = choice.databases.iter().chain(of_tables).collect();
    for name in wanted.into_iter().filter(|name| !databases.contains(&name.as_str())) {
        problems.push(format!("the day {day} has no database {name}; it has {}", there(databases)));
    }
    let of_paths = choice.paths.iter().map(|path| &path.tree);
    let wanted: BTreeSet<&String> = choice.trees.iter().chain(of_paths).collect();
    for name in wanted.into_iter().filter(|name| !trees.contains(&name.as_str())) {
        problems.push(format!("the day {day} has no tree {name}; it has {}", there(trees)));
    }
    match choice.only {
        Some(Side::Database) if databases.is_empty() => {
            problems.push(format!("the day {day} has no databases"));
        }
        Some(Side::Trees) if trees.is_empty() => problems.push(format!("the day {day} has no trees")),
        _ => {}
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Choice, Side, TableName, TreePath};

    #[test]
    fn tables_are_named_with_dots_and_quotes() {
        let name = |text: &str| text.parse::<TableName>();
        let plain = name("shop.public.Orders").unwrap();
        assert_eq!((plain.database.as_str(), plain.table.as_str()), ("shop", "Orders"));
        let odd = name(r#""a.b".s."q""t""#).unwrap();
        assert_eq!((odd.database.as_str(), odd.table.as_str()), ("a.b", "q\"t"));
        assert_eq!(odd.to_string(), r#""a.b".s."q""t""#);
        for wrong in ["", "a", "a.b", "a..c", "a.b.c.d", "a.b.\"c"] {
            assert!(name(wrong).unwrap_err().contains("is not DATABASE.SCHEMA.TABLE"), "{wrong}");
        }
    }

    #[test]
    fn paths_stay_in_their_tree() {
        let path = |text: &str| TreePath::parse(text.as_bytes());
        let found = path("gold:/a//b/./c/").unwrap();
        assert_eq!((found.tree.as_str(), found.path.0.as_slice()), ("gold", &b"a/b/c"[..]));
        assert_eq!(path("gold:a:b").unwrap().to_string(), "gold:a:b");
        assert!(path("gold:a/../../b").unwrap_err().contains("leads out of its tree"));
        for wrong in ["gold", ":a", "gold:", "gold:/"] {
            assert!(path(wrong).unwrap_err().contains("is not TREE:PATH"), "{wrong}");
        }
    }

    #[test]
    fn a_choice_is_told_as_it_was_given() {
        assert_eq!(Choice::default().options(), "");
        let choice = Choice { only: Some(Side::Trees), ..Choice::default() };
        assert_eq!(choice.options(), "--only trees");
        let choice = Choice {
            databases: BTreeSet::from(["it's".to_owned()]),
            tables: BTreeSet::from(["a.b.c".parse().unwrap()]),
            paths: BTreeSet::from([TreePath::parse(b"gold:x y").unwrap()]),
            ..Choice::default()
        };
        assert_eq!(choice.options(), r"--database 'it'\''s' --table a.b.c --path 'gold:x y'");
    }
}
