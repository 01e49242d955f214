//! The names of a tree, one at a time, in the order of the records: depth first, a directory before what is in it.
//!
//! One directory's names a level are in memory, and only the lowest levels are open.

use std::sync::Arc;

use crate::fs;
use crate::fs::dir::{Dir, Kind, Names, Stat, is_gone};

/// Levels that stay open.
const OPEN_LEVELS: usize = 32;

/// A name that was met.
#[derive(Debug, Clone)]
pub(super) struct Met {
    /// Its path; empty for the root.
    pub path: Vec<u8>,
    /// The directory that it is in; for the root, the root itself.
    pub dir: Arc<Dir>,
    /// Its name in it; empty for the root.
    pub name: Vec<u8>,
    /// What it is.
    pub stat: Stat,
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
    /// The directory met last, if it is to be gone into.
    pending: Option<Met>,
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
            let met = Met { path: Vec::new(), dir: Arc::clone(&self.root), name: Vec::new(), stat };
            self.pending = Some(met.clone());
            return Ok(Some(met));
        }
        if let Some(directory) = self.pending.take() {
            self.enter(&directory).map_err(|error| (directory.path.clone(), error))?;
        }
        while let Some(level) = self.levels.last_mut() {
            let Some((name, _)) = level.names.get(level.next) else {
                self.levels.pop();
                continue;
            };
            level.next += 1;
            let name = name.to_vec();
            let dir = match &level.dir {
                Some(dir) => Arc::clone(dir),
                None => {
                    let again =
                        self.root.beneath(&level.path).map_err(|error| (level.path.clone(), error))?;
                    Arc::clone(level.dir.insert(Arc::new(again)))
                }
            };
            let path =
                if level.path.is_empty() { name.clone() } else { [&level.path, &b"/"[..], &name].concat() };
            let stat = match dir.stat(&name) {
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err((path, error)),
                Ok(stat) => stat,
            };
            let met = Met { path, dir, name, stat };
            if stat.kind == Kind::Directory {
                self.pending = Some(met.clone());
            }
            return Ok(Some(met));
        }
        Ok(None)
    }

    /// Does not go into the directory that was met last.
    pub fn skip_below(&mut self) {
        self.pending = None;
    }

    fn enter(&mut self, met: &Met) -> Result<(), fs::Error> {
        let dir = if met.name.is_empty() { Arc::clone(&met.dir) } else { Arc::new(met.dir.dir(&met.name)?) };
        let names = dir.names()?;
        self.levels.push(Level { path: met.path.clone(), dir: Some(dir), names, next: 0 });
        if let Some(far) = self.levels.len().checked_sub(OPEN_LEVELS + 1) {
            self.levels[far].dir = None;
        }
        Ok(())
    }
}
