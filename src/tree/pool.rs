//! Threads that do batches of work, whose results come back in the order in which the batches were given.

use std::collections::BTreeMap;
use std::sync::Mutex;
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
            scope.spawn(move || serve(queue, &answers, work));
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
        if answers.send((number, work(task))).is_err() {
            return;
        }
    }
}
