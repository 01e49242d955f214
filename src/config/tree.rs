//! The trees of a repository and the cross-checks between them and the database, as configured.

use std::path::PathBuf;

/// `[repository.NAME.tree.TREE]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Its name.
    pub name: String,
    /// Its root.
    pub path: PathBuf,
    /// Filter rules in order; the first that matches decides; none: included.
    pub filters: Vec<Filter>,
    /// File names are their content: a name of equal size is unchanged whatever its times say.
    pub content_named: bool,
    /// Do not descend into mount points.
    pub one_file_system: bool,
}

/// One filter rule, with rsync's anchoring: a leading `/` anchors at the tree's root, a trailing `/` means directories only, `*`
/// stops at `/`, `**` does not, a pattern with a `/` inside is matched against the path's end, else against the name; `/***` at
/// the end is the directory and everything in it. Its syntax is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Include or exclude.
    pub include: bool,
    /// The pattern.
    pub pattern: String,
}

/// `[repository.NAME.check.CHECK]`: every row's file is in the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The database that is asked.
    pub database: String,
    /// The tree that must hold the files.
    pub tree: String,
    /// What is asked.
    pub query: CheckQuery,
    /// How many rows may be without their file: what the repository itself has lost already.
    pub allow_missing: u64,
}

/// The rows that name files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckQuery {
    /// Yields `path` (text, relative to the tree), and if there are more columns `size` (bytes, may be NULL) and
    /// `owner` (text: what is hurt when the file is missing, for the message).
    Sql(String),
    /// FOSSology's `pfile` against `files` and `upload` against `gold`.
    Fossology {
        /// Directory levels in the repository (`depth` in fossology.conf).
        depth: u32,
        /// Host directories below the tree, in which a file may be.
        hosts: Vec<String>,
        /// Check `files` too; false for a repository that keeps only gold.
        files: bool,
    },
}

/// Where FOSSology keeps the file with this name: `<host>/<kind>/aa/bb/cc/<name>`, two characters of its name a level, `_` where the
/// name is too short; in any of the hosts. `kind` is `gold` or `files`.
#[must_use]
pub fn fossology_paths(hosts: &[String], kind: &str, depth: u32, name: &str) -> Vec<String> {
    let mut levels = String::new();
    let mut letters = name.chars();
    for _ in 0..depth {
        for _ in 0..2 {
            levels.push(letters.next().unwrap_or('_'));
        }
        levels.push('/');
    }
    hosts.iter().map(|host| format!("{host}/{kind}/{levels}{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::fossology_paths;

    #[test]
    fn a_fossology_name_is_below_its_first_letters() {
        let hosts = ["localhost".to_owned(), "two".to_owned()];
        let paths = fossology_paths(&hosts, "gold", 3, "aabbcc.dd.7");
        assert_eq!(paths, ["localhost/gold/aa/bb/cc/aabbcc.dd.7", "two/gold/aa/bb/cc/aabbcc.dd.7"]);
        assert_eq!(fossology_paths(&hosts[..1], "files", 3, "abc"), ["localhost/files/ab/c_/__/abc"]);
    }
}
