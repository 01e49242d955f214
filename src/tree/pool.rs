//! Threads that do batches of work, whose results come back in the order in which the batches were given.
//!
//! While the repository runs they may work at niceness 19, from which Linux derives the lowest best-effort I/O priority of a thread that
//! set none (ioprio_set(2)); inside the hold they never do, and those who waited for the hold to end are new threads.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio_util::sync::CancellationToken;

use crate::tree::queue::{Queue, Task, Worker};

/// How many batches may be under way: bounds the memory of results that wait for an earlier one.
const WINDOW: u64 = 64;

/// The threads of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crew<'a> {
    /// How many.
    pub threads: usize,
    /// Directories that what waits for them may hold open.
    pub open: usize,
    /// They stand back behind all else on the machine.
    pub idle: bool,
    /// Cancelled when one of them fails: the others need not finish what nobody will use.
    pub stop: &'a CancellationToken,
}

impl Crew<'_> {
    /// Said by each of its threads when it begins.
    pub(crate) fn stand_back(&self) {
        if self.idle {
            // Only a kindness to the rest of the machine: a refusal changes nothing else.
            let _ = rustix::process::setpriority_process(None, 19);
        }
    }
}

/// There are no threads any more: one of them failed, and its error is told elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopped;

/// Where batches are handed in and results come out.
pub(crate) struct Pool<'a, T: Task, R, E> {
    queue: &'a Queue<T>,
    results: Receiver<(u64, Result<R, E>)>,
    ready: BTreeMap<u64, R>,
    given: u64,
    taken: u64,
    sink: &'a mut dyn FnMut(R) -> Result<(), E>,
}

impl<T: Task, R, E: From<Stopped>> Pool<'_, T, R, E> {
    /// Hands a batch in; results that are next in order go to the sink.
    pub(crate) fn give(&mut self, task: T) -> Result<(), E> {
        while self.given - self.taken >= WINDOW {
            self.take_one()?;
        }
        let number = self.given;
        self.given += 1;
        // Refused only when every thread is gone, which happens after an error that is among the results.
        if self.queue.put(number, task).is_err() {
            while self.taken < number {
                self.take_one()?;
            }
            return Err(Stopped.into());
        }
        self.take_what_is_there()
    }

    /// A result that needed no work takes its place in the order.
    pub(crate) fn give_ready(&mut self, result: R) -> Result<(), E> {
        self.ready.insert(self.given, result);
        self.given += 1;
        self.emit()
    }

    fn take_what_is_there(&mut self) -> Result<(), E> {
        while let Ok((number, result)) = self.results.try_recv() {
            self.ready.insert(number, result?);
        }
        self.emit()
    }

    fn take_one(&mut self) -> Result<(), E> {
        let (number, result) = self.results.recv().map_err(|_| Stopped)?;
        self.ready.insert(number, result?);
        self.emit()
    }

    fn emit(&mut self) -> Result<(), E> {
        while let Some(result) = self.ready.remove(&self.taken) {
            self.taken += 1;
            (self.sink)(result)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), E> {
        self.queue.close();
        while self.taken < self.given {
            self.take_one()?;
        }
        Ok(())
    }
}

impl<T: Task, R, E> Drop for Pool<'_, T, R, E> {
    /// However the giver ended, the threads end too.
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Runs `body` with a pool of threads, each of which does `work`; every result has gone to `sink` when it returns.
pub(crate) fn run<T: Task, R: Send, E: From<Stopped> + Send>(
    crew: Crew<'_>,
    work: impl Fn(T) -> Result<R, E> + Sync,
    sink: &mut dyn FnMut(R) -> Result<(), E>,
    body: impl FnOnce(&mut Pool<'_, T, R, E>) -> Result<(), E>,
) -> Result<(), E> {
    let queue = Queue::new(crew.threads, crew.open);
    let (answers, results) = unbounded();
    std::thread::scope(|scope| {
        for _ in 0..crew.threads {
            let answers = answers.clone();
            let (queue, work) = (&queue, &work);
            scope.spawn(move || {
                crew.stand_back();
                serve(queue.worker(), &answers, work);
            });
        }
        drop(answers);
        let mut pool = Pool { queue: &queue, results, ready: BTreeMap::new(), given: 0, taken: 0, sink };
        let done = body(&mut pool).and_then(|()| pool.finish());
        if done.is_err() {
            crew.stop.cancel();
        }
        done
    })
}

type Answer<R, E> = Sender<(u64, Result<R, E>)>;

fn serve<T: Task, R, E: From<Stopped>>(
    queue: Worker<'_, T>,
    answers: &Answer<R, E>,
    work: &(impl Fn(T) -> Result<R, E> + Sync),
) {
    for (number, task) in queue {
        let answer = match catch_unwind(AssertUnwindSafe(|| work(task))) {
            Ok(answer) => answer,
            Err(panic) => {
                // Nobody must wait for this answer: the panic goes on to whoever waits for the thread.
                let _ = answers.send((number, Err(Stopped.into())));
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
    use tokio_util::sync::CancellationToken;

    use super::{Crew, run};
    use crate::tree::Error;
    use crate::tree::queue::Task;

    impl Task for u32 {}

    #[test]
    fn a_thread_that_panics_leaves_nobody_waiting() {
        let stop = CancellationToken::new();
        let crew = Crew { threads: 2, open: 1, idle: true, stop: &stop };
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(
                crew,
                |number: u32| if number == 3 { panic!("a defect") } else { Ok::<_, Error>(number) },
                &mut |_| Ok(()),
                |pool| (0..1000).try_for_each(|number| pool.give(number)),
            )
        }));
        assert!(died.is_err());
    }
}
