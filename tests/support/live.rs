//! A live tree, and beside it the days that are kept of it.
#![allow(clippy::disallowed_methods, reason = "a test makes its own files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use daykeep::config::Tree;
use daykeep::event::{Context, Recording};
use daykeep::manifest::{FileRecord, RecordReader, RecordWriter, TreeRecord};
use daykeep::tree::restore::Source;
use daykeep::tree::{Error, Job, Previous, Warm, warm};

use crate::support::context::{self, Witness};

/// The tree `files`, with nothing in it, in a directory with room for more.
pub struct Live {
    pub dir: tempfile::TempDir,
    pub tree: Tree,
    /// Threads.
    pub jobs: usize,
    pub heard: Arc<Recording>,
    pub context: Context,
}

impl Live {
    /// Its root has this name.
    pub fn new(name: &str) -> Self {
        Self::below(&std::env::temp_dir(), name)
    }

    /// The same, below a directory.
    pub fn below(place: &Path, name: &str) -> Self {
        let dir = tempfile::tempdir_in(place).unwrap();
        let path = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        let (filters, content_named, one_file_system) = (Vec::new(), false, true);
        let tree = Tree { name: "files".into(), path, filters, content_named, one_file_system };
        let (context, heard) = context::recorded();
        Self { dir, tree, jobs: 2, heard, context }
    }

    /// A path beside the tree.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A day by its name.
    pub fn day(&self, name: &str) -> Source {
        let day = self.path(name);
        Source {
            tree_dir: day.join("trees/files"),
            records: day.join("files.jsonl.zst"),
            tree: "files".into(),
        }
    }

    /// Keeps the tree as the day `name`; without a previous day it is a base.
    pub fn job(&self, name: &str, previous: Option<&str>) -> Job {
        let previous = previous.map(|name| {
            let Source { tree_dir, records, .. } = self.day(name);
            Previous { tree_dir, records }
        });
        Job {
            tree: self.tree.clone(),
            target: self.day(name).tree_dir,
            new_base: previous.is_none(),
            previous,
            jobs: self.jobs,
            copy_rate: None,
            idle: false,
        }
    }

    /// The rest of a day, from the freeze point on.
    ///
    /// # Errors
    /// As the tree's own.
    pub fn fill(&self, name: &str, warm: Warm) -> Result<TreeRecord, Error> {
        let fenced = warm.fence(&Witness, &self.context)?;
        let mut writer = RecordWriter::create(&self.day(name).records).unwrap();
        let record = fenced.finish(&Witness, &mut writer, &self.context)?;
        writer.finish().unwrap();
        Ok(record)
    }

    /// The whole of a day.
    ///
    /// # Errors
    /// As the tree's own.
    pub fn keep(&self, name: &str, previous: Option<&str>) -> Result<TreeRecord, Error> {
        self.fill(name, warm(&self.job(name, previous), &self.context)?)
    }

    /// What a day says of its files.
    pub fn records(&self, name: &str) -> Vec<FileRecord> {
        RecordReader::open(&self.day(name).records).unwrap().map(Result::unwrap).collect()
    }

    /// What people were told, a line each.
    pub fn notices(&self) -> String {
        context::notices(&self.heard).join("\n")
    }
}

/// A script, in a directory.
pub fn sh(dir: &Path, script: &str) {
    let output = Command::new("bash").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What a program says.
pub fn run(program: &str, args: &[&[u8]]) -> String {
    let output = Command::new(program).args(args.iter().map(|arg| OsStr::from_bytes(arg))).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What rsync would do to make `b` as `a`, sockets aside.
pub fn differences(a: &Path, b: &Path) -> String {
    let (a, b) = (format!("{}/", a.display()), format!("{}/", b.display()));
    let args = ["-aHAXnci", "--numeric-ids", "--delete", &a, &b];
    let text = run("rsync", &args.map(str::as_bytes));
    let lines = text.lines().filter(|line| line.as_bytes().get(1).is_none_or(|kind| *kind != b'S'));
    lines.collect::<Vec<_>>().join("\n")
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
