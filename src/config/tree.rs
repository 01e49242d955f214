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
