//! Threads that do batches of work, whose results come back in the order in which the batches were given.
//!
//! While the repository runs they may work at niceness 19, from which Linux derives the lowest best-effort I/O priority of a thread that
//! set none (ioprio_set(2)); inside the hold they never do, and those who waited for the hold to end are new threads.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::tree::Error;
use crate::tree::site::{Site, lock};

/// How many batches may be under way: bounds the memory of results that wait for an earlier one.
const WINDOW: u64 = 128;

/// Where batches are handed in and results come out.
pub(crate) struct Pool<'a, T, R> {
    tasks: SyncSender<(u64, T)>,
    results: Receiver<(u64, Result<R, Error>)>,
    ready: BTreeMap<u64, R>,
    given: u64,
    taken: u64,
    sink: &'a mut dyn FnMut(R) -> Result<(), Error>,
}

impl<T, R> Pool<'_, T, R> {
    /// Hands a batch in; results that are next in order go to the sink.
    pub(crate) fn give(&mut self, task: T) -> Result<(), Error> {
        while self.given - self.taken >= WINDOW {
            self.take_one()?;
        }
        let number = self.given;
        self.given += 1;
        // Refused only when every thread is gone, which happens after an error that is among the results.
        if self.tasks.send((number, task)).is_err() {
            while self.taken < number {
                self.take_one()?;
            }
            return Err(Error::Cancelled);
        }
        self.take_what_is_there()
    }

    /// A result that needed no work takes its place in the order.
    pub(crate) fn give_ready(&mut self, result: R) -> Result<(), Error> {
        self.ready.insert(self.given, result);
        self.given += 1;
        self.emit()
    }

    fn take_what_is_there(&mut self) -> Result<(), Error> {
        while let Ok((number, result)) = self.results.try_recv() {
            self.ready.insert(number, result?);
        }
        self.emit()
    }

    fn take_one(&mut self) -> Result<(), Error> {
        let (number, result) = self.results.recv().map_err(|_| Error::Cancelled)?;
        self.ready.insert(number, result?);
        self.emit()
    }

    fn emit(&mut self) -> Result<(), Error> {
        while let Some(result) = self.ready.remove(&self.taken) {
            self.taken += 1;
            (self.sink)(result)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        while self.taken < self.given {
            self.take_one()?;
        }
        Ok(())
    }
}

/// Runs `body` with a pool of the site's threads, each of which does `work`; every result has gone to `sink` when it returns.
pub(crate) fn run<T: Send, R: Send>(
    site: &Site,
    work: impl Fn(T) -> Result<R, Error> + Sync,
    sink: &mut dyn FnMut(R) -> Result<(), Error>,
    body: impl FnOnce(&mut Pool<'_, T, R>) -> Result<(), Error>,
) -> Result<(), Error> {
    let (tasks, queue) = sync_channel::<(u64, T)>(site.jobs * 2);
    let (answers, results) = channel();
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        for _ in 0..site.jobs {
            let answers = answers.clone();
            let (queue, work) = (&queue, &work);
            scope.spawn(move || {
                if site.idle && !site.held.load(Ordering::Relaxed) {
                    // Only a kindness to the rest of the machine: a refusal changes nothing else.
                    let _ = rustix::process::setpriority_process(None, 19);
                }
                serve(queue, &answers, work);
            });
        }
        drop(answers);
        let mut pool = Pool { tasks, results, ready: BTreeMap::new(), given: 0, taken: 0, sink };
        let done = body(&mut pool).and_then(|()| pool.finish());
        if done.is_err() {
            // The other threads need not finish what nobody will use.
            site.stop.cancel();
        }
        done
    })
}

type Answer<R> = Sender<(u64, Result<R, Error>)>;

fn serve<T, R>(
    queue: &Mutex<Receiver<(u64, T)>>,
    answers: &Answer<R>,
    work: &(impl Fn(T) -> Result<R, Error> + Sync),
) {
    loop {
        let task = lock(queue).recv();
        let Ok((number, task)) = task else { return };
        let answer = match catch_unwind(AssertUnwindSafe(|| work(task))) {
            Ok(answer) => answer,
            Err(panic) => {
                // Nobody must wait for this answer: the panic goes on to whoever waits for the thread.
                let _ = answers.send((number, Err(Error::Cancelled)));
                resume_unwind(panic);
            }
        };
        if answers.send((number, answer)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::config::Tree;
    use crate::event::{Context, Silent};
    use crate::tree::Job;
    use crate::tree::site::Site;
    use std::sync::Arc;

    #[test]
    fn a_thread_that_panics_leaves_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree {
            name: "t".into(),
            path: dir.path().to_owned(),
            filters: Vec::new(),
            content_named: false,
            one_file_system: true,
        };
        let target = dir.path().join("trees/t");
        let job = Job { tree, target, previous: None, new_base: false, jobs: 2, copy_rate: None, idle: true };
        let context = Context {
            observer: Arc::new(Silent),
            cancel: tokio_util::sync::CancellationToken::new(),
            clock: Arc::new(crate::clock::SystemClock::new()),
        };
        let site = Site::open(&job, None, &context).unwrap();
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(
                &site,
                |number: u32| if number == 3 { panic!("a defect") } else { Ok(number) },
                &mut |_| Ok(()),
                |pool| (0..1000).try_for_each(|number| pool.give(number)),
            )
        }));
        assert!(died.is_err());
    }
}
