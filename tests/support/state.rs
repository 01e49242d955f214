//! What a server and trees are at a moment, in words that can be compared: all that a restore is to bring back.
#![allow(clippy::disallowed_methods, reason = "a test reads its own files")]
#![allow(clippy::unnecessary_debug_formatting, reason = "names that are no text must be told apart")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::picture::comparable;
use super::postgres::{Server, check};

/// The databases and the trees, each as a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    parts: BTreeMap<String, String>,
}

impl State {
    /// Looks at everything.
    pub fn of(server: &Server, trees: &[&Path]) -> Self {
        let mut state = Self::of_server(server);
        state.parts.extend(Self::of_trees(trees).parts);
        state
    }

    /// Roles, tablespaces, databases and rows.
    pub fn of_server(server: &Server) -> Self {
        let dump = |program: &str, args: &[&str]| {
            comparable(&check(server.client(program).arg("--restrict-key=x").args(args), program))
        };
        // pg_dumpall leaves out what was set for this one.
        let postgres = dump("pg_dump", &["--create", "--schema-only", "--dbname", "postgres"]);
        let parts = [("pg_dumpall", dump("pg_dumpall", &[])), ("postgres", postgres)];
        Self { parts: parts.map(|(name, text)| (name.to_owned(), text)).into() }
    }

    /// Every name with all that it has.
    pub fn of_trees(trees: &[&Path]) -> Self {
        let parts = trees.iter().map(|tree| (tree.display().to_string(), listing(tree)));
        Self { parts: parts.collect() }
    }

    /// This, and what the other has besides.
    pub fn with(mut self, other: &Self) -> Self {
        for (name, text) in &other.parts {
            self.parts.entry(name.clone()).or_insert_with(|| text.clone());
        }
        self
    }

    /// Without the values of sequences: a server that recovers after a crash begins them up to 32 later.
    pub fn without_sequences(mut self) -> Self {
        for text in self.parts.values_mut() {
            let lines: Vec<&str> =
                text.lines().filter(|line| !line.starts_with("SELECT pg_catalog.setval(")).collect();
            *text = lines.join("\n");
        }
        self
    }

    /// The lines that differ; None: nothing does.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let mut told = String::new();
        let names: std::collections::BTreeSet<_> = self.parts.keys().chain(other.parts.keys()).collect();
        for name in names {
            let [one, two] = [self, other].map(|state| state.parts.get(name).map_or("", String::as_str));
            if one != two {
                writeln!(told, "{name} differs:\n{}", diff(one, two)).unwrap();
            }
        }
        Some(told).filter(|told| !told.is_empty())
    }

    /// Fails with the lines that differ.
    #[track_caller]
    pub fn assert_is(&self, expected: &Self, what: &str) {
        if let Some(difference) = expected.difference(self) {
            panic!("{what} (- is what should be):\n{difference}");
        }
    }
}

fn diff(one: &str, two: &str) -> String {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("a"), one).unwrap();
    fs::write(scratch.path().join("b"), two).unwrap();
    let diff = Command::new("diff").args(["-u0", "a", "b"]).current_dir(scratch.path()).output().unwrap();
    String::from_utf8_lossy(&diff.stdout).chars().take(6000).collect()
}

/// A line for each name, sorted: kind and mode, owner, size, times, digest or target, links, holes, attributes.
fn listing(root: &Path) -> String {
    let mut lines = Vec::new();
    let mut inodes: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    if fs::symlink_metadata(root).is_ok() {
        walk(root, root, &mut inodes, &mut lines);
    }
    lines.join("\n")
}

fn walk(root: &Path, path: &Path, inodes: &mut BTreeMap<(u64, u64), PathBuf>, lines: &mut Vec<String>) {
    let found = fs::symlink_metadata(path).unwrap();
    let name = path.strip_prefix(root).unwrap();
    let mut line = format!(
        "{:?} {:o} {}:{} {}.{:09}",
        name.as_os_str(),
        found.mode(),
        found.uid(),
        found.gid(),
        found.mtime(),
        found.mtime_nsec()
    );
    if found.is_file() {
        let digest = blake3::hash(&fs::read(path).unwrap()).to_hex();
        let is_sparse = found.blocks() * 512 + 64 * 1024 < found.size();
        write!(line, " {} {digest}{}", found.size(), if is_sparse { " sparse" } else { "" }).unwrap();
    }
    if found.is_symlink() {
        write!(line, " -> {:?}", fs::read_link(path).unwrap()).unwrap();
    }
    if found.nlink() > 1 && !found.is_dir() {
        let first = inodes.entry((found.dev(), found.ino())).or_insert_with(|| name.to_owned());
        write!(line, " = {first:?}").unwrap();
    }
    let mut attributes: Vec<_> = xattr::list(path).into_iter().flatten().collect();
    attributes.sort();
    for attribute in attributes {
        let value = xattr::get(path, &attribute).unwrap().unwrap_or_default();
        write!(line, " {attribute:?}={value:?}").unwrap();
    }
    lines.push(line);
    if found.is_dir() {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            walk(root, &path.join(name), inodes, lines);
        }
    }
}
