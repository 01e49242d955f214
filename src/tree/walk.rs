//! The walk: depth first, the names of a directory sorted by bytes, a directory before what is in it.
//!
//! One directory's names a level are in memory. Of a very deep tree only the lowest levels are open; the others are opened again from the
//! root when the walk comes back to them.

use std::sync::Arc;

use crate::fs::dir::{Dir, Kind, Names};
use crate::tree::Error;
use crate::tree::site::{Place, Site, join};

/// Levels that stay open.
const OPEN_LEVELS: usize = 32;

/// What the walk does at each name.
pub(crate) trait Visit {
    /// The directory at `next` among the names of `place` is about to be visited, and those behind it soon. `asked` is of this level, and 0 at
    /// first.
    fn ahead(&mut self, _place: &Arc<Place>, _names: &Names, _next: usize, _asked: &mut usize) {}
    /// A directory: what to walk below it, if anything. `above` is None for where the walk begins.
    fn directory(&mut self, above: Option<&Place>, path: &[u8]) -> Result<Option<(Place, Names)>, Error>;
    /// Anything else.
    fn other(&mut self, place: &Arc<Place>, name: &[u8]) -> Result<(), Error>;
    /// All names of the directory have been visited, or a directory among them is next.
    fn pause(&mut self) -> Result<(), Error>;
}

struct Level {
    path: Vec<u8>,
    place: Option<Arc<Place>>,
    names: Names,
    next: usize,
    /// How far the visitor has looked ahead.
    asked: usize,
}

/// Walks the directory `start` and all below it.
pub(crate) fn walk(site: &Site, start: &[u8], visitor: &mut impl Visit) -> Result<(), Error> {
    let Some(first) = visitor.directory(None, start)? else { return Ok(()) };
    let mut levels = vec![level(first)];
    while let Some(here) = levels.last_mut() {
        site.check()?;
        let place = match &here.place {
            Some(place) => Arc::clone(place),
            None => match site.place(&here.path) {
                Ok(place) => Arc::clone(here.place.insert(Arc::new(place))),
                // It went away while we were below it.
                Err(error) if error.is_gone() => {
                    levels.pop();
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        let Some((name, kind)) = here.names.get(here.next) else {
            visitor.pause()?;
            levels.pop();
            continue;
        };
        here.next += 1;
        if kind_of(&place.source, name, kind)? == Some(Kind::Directory) {
            visitor.pause()?;
            visitor.ahead(&place, &here.names, here.next - 1, &mut here.asked);
            if let Some(below) = visitor.directory(Some(&place), &join(&here.path, name))? {
                levels.push(level(below));
                if let Some(far) = levels.len().checked_sub(OPEN_LEVELS) {
                    levels[far].place = None;
                }
            }
        } else {
            visitor.other(&place, name)?;
        }
    }
    Ok(())
}

fn level((place, names): (Place, Names)) -> Level {
    Level { path: place.path.clone(), place: Some(Arc::new(place)), names, next: 0, asked: 0 }
}

/// What a name is, by the directory's word if it gives one. None: it has gone.
pub(crate) fn kind_of(dir: &Dir, name: &[u8], told: Option<Kind>) -> Result<Option<Kind>, Error> {
    match told {
        Some(kind) => Ok(Some(kind)),
        None => Ok(dir.stat_if_exists(name)?.map(|stat| stat.kind)),
    }
}
