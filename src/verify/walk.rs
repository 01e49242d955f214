//! The names of a tree, one at a time, in the order of the records: depth first, a directory before what is in it.
//!
//! One directory's names a level are in memory, and only the lowest levels are open. Directories tell the kinds of their names, so what is no
//! directory is not looked at here.

use std::sync::Arc;

use crate::fs;
use crate::fs::dir::{Dir, Kind, Names, Stat, is_gone, split_last};

/// Levels that stay open.
const OPEN_LEVELS: usize = 32;

/// A name that was met.
#[derive(Debug, Clone)]
pub(super) struct Met {
    /// Its path; empty for the root.
    pub path: Vec<u8>,
    /// The directory that it is in; for the root, the root itself.
    pub dir: Arc<Dir>,
    /// What it is, as the directory says.
    pub kind: Kind,
    /// What it is as it says itself; None: nobody has asked.
    pub stat: Option<Stat>,
}

struct Level {
    path: Vec<u8>,
    dir: Option<Arc<Dir>>,
    names: Names,
    next: usize,
}

/// What could not be looked at: its path in the tree, and why.
pub(super) type Unread = (Vec<u8>, fs::Error);

/// Walks a tree.
pub(super) struct Walk {
    root: Arc<Dir>,
    levels: Vec<Level>,
    begun: bool,
    /// The directory met last, if it is to be gone into: itself, and its path.
    pending: Option<(Arc<Dir>, Vec<u8>)>,
}

impl Walk {
    /// Begins at an open directory.
    pub fn new(root: Dir) -> Self {
        Self { root: Arc::new(root), levels: Vec::new(), begun: false, pending: None }
    }

    /// The next name. After an error the walk goes on beside what could not be read.
    pub fn next(&mut self) -> Result<Option<Met>, Unread> {
        if !self.begun {
            self.begun = true;
            let stat = self.root.stat_self().map_err(|error| (Vec::new(), error))?;
            self.pending = Some((Arc::clone(&self.root), Vec::new()));
            let dir = Arc::clone(&self.root);
            return Ok(Some(Met { path: Vec::new(), dir, kind: Kind::Directory, stat: Some(stat) }));
        }
        if let Some((above, path)) = self.pending.take() {
            self.enter(&above, path)?;
        }
        while let Some(level) = self.levels.last_mut() {
            let Some((name, kind)) = level.names.get(level.next) else {
                self.levels.pop();
                continue;
            };
            level.next += 1;
            let dir = match &level.dir {
                Some(dir) => Arc::clone(dir),
                None => {
                    let again =
                        self.root.beneath(&level.path).map_err(|error| (level.path.clone(), error))?;
                    Arc::clone(level.dir.insert(Arc::new(again)))
                }
            };
            let path =
                if level.path.is_empty() { name.to_vec() } else { [&level.path, &b"/"[..], name].concat() };
            let (kind, stat) = match kind.filter(|kind| *kind != Kind::Directory) {
                Some(kind) => (kind, None),
                None => match dir.stat(name) {
                    Err(error) if is_gone(&error) => continue,
                    Err(error) => return Err((path, error)),
                    Ok(stat) => (stat.kind, Some(stat)),
                },
            };
            if kind == Kind::Directory {
                self.pending = Some((Arc::clone(&dir), path.clone()));
            }
            return Ok(Some(Met { path, dir, kind, stat }));
        }
        Ok(None)
    }

    /// Does not go into the directory that was met last.
    pub fn skip_below(&mut self) {
        self.pending = None;
    }

    /// `above`: the directory that it is in; the root is in itself.
    fn enter(&mut self, above: &Arc<Dir>, path: Vec<u8>) -> Result<(), Unread> {
        let opened = if path.is_empty() {
            Ok(Arc::clone(above))
        } else {
            above.dir(split_last(&path).1).map(Arc::new)
        };
        let (dir, names) = match opened.and_then(|dir| Ok((dir.names()?, dir))) {
            Ok((names, dir)) => (dir, names),
            Err(error) => return Err((path, error)),
        };
        self.levels.push(Level { path, dir: Some(dir), names, next: 0 });
        if let Some(far) = self.levels.len().checked_sub(OPEN_LEVELS + 1) {
            self.levels[far].dir = None;
        }
        Ok(())
    }
}
