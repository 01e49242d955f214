//! Directories that the walk will come to, opened by other threads before it is there.
//!
//! Of a tree with few names in each directory nearly all the work is in the directories, and the walk meets them one by one. What is
//! made in the day ahead of the walk is an empty directory; should the walk never come there, it is removed, and what a killed run leaves of
//! them the next one meets as its other leftovers.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::fs::dir::{Kind, Names};
use crate::manifest::FileRecord;
use crate::tree::Error;
use crate::tree::pool::{Crew, Stopped};
use crate::tree::site::{Place, join, open_at_once};

/// Directories handed out at once, and as many again wait for the walk in each level.
const TOGETHER: usize = 16;
/// Directories that wait in all levels: each is open three times, and its names are in memory.
const MOST: usize = 96;

/// A directory that was opened.
pub(crate) struct Opened {
    pub place: Place,
    pub record: FileRecord,
    pub is_mount: bool,
    /// What is in it; None: to be read when the walk is there.
    pub names: Option<Names>,
}

/// None: it is no directory (any more).
pub(crate) type Answer = Result<Option<Opened>, Error>;

struct Task {
    above: Arc<Place>,
    names: Vec<(Vec<u8>, Sender<Answer>)>,
}

/// What has been asked for and was not fetched yet.
pub(crate) struct Ahead {
    /// None: nothing is done ahead.
    tasks: Option<Sender<Task>>,
    waiting: HashMap<Vec<u8>, Receiver<Answer>>,
    /// How many may wait.
    most: usize,
}

impl Ahead {
    /// Nobody works ahead.
    pub(crate) fn nobody() -> Self {
        Self { tasks: None, waiting: HashMap::new(), most: 0 }
    }

    /// Asks for the next directories among the names of `above`, from the one at `next` on, which the walk is about to go into. `asked`
    /// is how far an earlier call has asked.
    pub(crate) fn ask(&mut self, above: &Arc<Place>, names: &Names, next: usize, asked: &mut usize) {
        let Some(tasks) = &self.tasks else { return };
        let from = next.max(*asked);
        if from > next && self.is_waiting(above, names, next + TOGETHER) {
            return;
        }
        let mut found = Vec::new();
        let mut at = from;
        while let Some((name, kind)) = names.get(at)
            && found.len() < TOGETHER
            && self.waiting.len() + found.len() < self.most
        {
            if kind == Some(Kind::Directory) {
                found.push(name.to_vec());
            }
            at += 1;
        }
        // Of the one that is next now nothing is gained.
        if found.is_empty() || (from == next && found.len() < 2) {
            return;
        }
        *asked = at;
        let waiting = &mut self.waiting;
        let ask = |name: Vec<u8>| {
            let (answer, answered) = bounded(1);
            waiting.insert(above.path_of(&name), answered);
            (name, answer)
        };
        let task = Task { above: Arc::clone(above), names: found.into_iter().map(ask).collect() };
        // Refused only when every thread is gone, which whoever fetches is told.
        let _ = tasks.send(task);
    }

    fn is_waiting(&self, above: &Place, names: &Names, at: usize) -> bool {
        names.get(at).is_none_or(|(name, _)| self.waiting.contains_key(&above.path_of(name)))
    }

    /// What was asked for; None: it was not.
    pub(crate) fn fetch(&mut self, path: &[u8]) -> Option<Answer> {
        let answered = self.waiting.remove(path)?;
        Some(answered.recv().unwrap_or_else(|_| Err(Stopped.into())))
    }

    /// What was asked for and never fetched, since the walk did not come there: it has no record, so it is not to be in the day.
    pub(crate) fn left(&mut self) -> Vec<Vec<u8>> {
        let wait = |(path, answered): (Vec<u8>, Receiver<Answer>)| {
            // Once that is answered nothing more is made there.
            let _ = answered.recv();
            path
        };
        std::mem::take(&mut self.waiting).into_iter().map(wait).collect()
    }
}

/// Runs `body` with threads that `open` directories ahead of it.
pub(crate) fn run<T>(
    crew: Crew<'_>,
    open: impl Fn(&Place, &[u8]) -> Answer + Sync,
    body: impl FnOnce(Ahead) -> T,
) -> T {
    let (tasks, queue) = unbounded::<Task>();
    std::thread::scope(|scope| {
        for _ in 0..crew.threads {
            let (queue, open) = (&queue, &open);
            scope.spawn(move || {
                crew.stand_back();
                serve(queue, &crew, open);
            });
        }
        let most = MOST.min(open_at_once());
        body(Ahead { tasks: Some(tasks), waiting: HashMap::new(), most })
    })
}

fn serve(queue: &Receiver<Task>, crew: &Crew<'_>, open: &impl Fn(&Place, &[u8]) -> Answer) {
    for Task { above, names } in queue {
        for (name, answer) in names {
            if crew.stop.is_cancelled() {
                return;
            }
            // Nobody waits any more when the walk has failed.
            let _ = answer.send(open(&above, &join(&above.path, &name)));
        }
    }
}
