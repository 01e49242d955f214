//! What waits for the threads of a pool.
//!
//! Two threads that make names in one directory wait for each other in the kernel, so that two are no faster than one: a thread is given
//! what is in a directory that no other is working in, if there is any.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// So many batches wait for others to be done with their directories before a second thread goes into one.
const MANY: usize = 32;

/// What a thread does at once.
pub(crate) trait Task: Send {
    /// The directories that it begins and ends in, as numbers of one's own choice. None: it is in nobody's way.
    fn homes(&self) -> Option<[usize; 2]> {
        None
    }

    /// How many directories are held open by it.
    fn places(&self) -> usize {
        0
    }
}

/// Nobody is there any more who would do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deserted;

/// Tasks with their numbers.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// For those who take.
    changed: Condvar,
    /// For the one who gives.
    room: Condvar,
    /// Directories that may be held open by what waits.
    most_places: usize,
}

struct State<T> {
    waiting: VecDeque<(u64, T)>,
    places: usize,
    /// Where the threads are.
    busy: Vec<[usize; 2]>,
    /// Threads that wait for work.
    sleeping: usize,
    /// The giver waits for room.
    is_pressed: bool,
    is_closed: bool,
    workers: usize,
}

/// One of the threads.
pub(crate) struct Worker<'a, T: Task> {
    queue: &'a Queue<T>,
    homes: Option<[usize; 2]>,
}

impl<T: Task> Queue<T> {
    /// For so many threads, each of which has to [begin](Self::worker).
    pub(crate) fn new(workers: usize, most_places: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            places: 0,
            busy: Vec::with_capacity(workers),
            sleeping: 0,
            is_pressed: false,
            is_closed: false,
            workers,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), room: Condvar::new(), most_places }
    }

    /// Puts a task behind the others.
    ///
    /// # Errors
    /// There is no thread left.
    pub(crate) fn put(&self, number: u64, task: T) -> Result<(), Deserted> {
        let places = task.places();
        let mut state = self.locked();
        while state.workers > 0 && !state.waiting.is_empty() && state.places + places > self.most_places {
            state.is_pressed = true;
            self.wake(&state);
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_pressed = false;
        if state.workers == 0 {
            return Err(Deserted);
        }
        state.places += places;
        state.waiting.push_back((number, task));
        self.wake(&state);
        Ok(())
    }

    /// Nothing follows: what waits is done, and then the threads end.
    pub(crate) fn close(&self) {
        self.locked().is_closed = true;
        self.changed.notify_all();
    }

    /// What a thread is when it begins.
    pub(crate) fn worker(&self) -> Worker<'_, T> {
        Worker { queue: self, homes: None }
    }

    fn wake(&self, state: &State<T>) {
        if state.sleeping > 0 {
            self.changed.notify_all();
        }
    }

    fn locked(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Task> State<T> {
    /// The first that is in nobody's way; when too much waits, or nothing follows, the first.
    fn next(&mut self) -> Option<(u64, T)> {
        let busy = &self.busy;
        let is_free = |(_, task): &(u64, T)| {
            task.homes().is_none_or(|homes| !busy.iter().flatten().any(|home| homes.contains(home)))
        };
        let is_much = self.is_pressed || self.is_closed || self.waiting.len() >= MANY;
        let at = self.waiting.iter().position(is_free).or_else(|| is_much.then_some(0))?;
        let (number, task) = self.waiting.remove(at)?;
        self.places -= task.places();
        Some((number, task))
    }

    fn leave(&mut self, homes: Option<[usize; 2]>) {
        if let Some(at) = self.busy.iter().position(|busy| Some(*busy) == homes) {
            self.busy.swap_remove(at);
        }
    }
}

impl<T: Task> Iterator for Worker<'_, T> {
    type Item = (u64, T);

    /// Waits for the next task; the last one is done. None: nothing follows.
    fn next(&mut self) -> Option<(u64, T)> {
        let queue = self.queue;
        let mut state = queue.locked();
        state.leave(self.homes.take());
        loop {
            if let Some((number, task)) = state.next() {
                self.homes = task.homes();
                state.busy.extend(self.homes);
                if state.is_pressed {
                    queue.room.notify_one();
                }
                // What was in this thread's way may be free now for another.
                if !state.waiting.is_empty() {
                    queue.wake(&state);
                }
                return Some((number, task));
            }
            if state.is_closed {
                return None;
            }
            state.sleeping += 1;
            state = queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping -= 1;
        }
    }
}

impl<T: Task> Drop for Worker<'_, T> {
    fn drop(&mut self) {
        let mut state = self.queue.locked();
        state.leave(self.homes.take());
        state.workers -= 1;
        drop(state);
        self.queue.room.notify_one();
        self.queue.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::{Deserted, MANY, Queue, Task};

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct In(usize);

    impl Task for In {
        fn homes(&self) -> Option<[usize; 2]> {
            (self.0 > 0).then_some([self.0, self.0])
        }

        fn places(&self) -> usize {
            1
        }
    }

    fn queue(workers: usize, homes: &[usize]) -> Queue<In> {
        let queue = Queue::new(workers, usize::MAX);
        for (number, home) in (0..).zip(homes) {
            queue.put(number, In(*home)).unwrap();
        }
        queue
    }

    #[test]
    fn two_threads_are_in_two_directories() {
        let queue = queue(2, &[1, 1, 1, 2, 2, 0]);
        let (mut one, mut other) = (queue.worker(), queue.worker());
        assert_eq!(one.next(), Some((0, In(1))));
        assert_eq!(other.next(), Some((3, In(2))));
        assert_eq!(one.next(), Some((1, In(1))), "its own directory goes on");
        assert_eq!(other.next(), Some((4, In(2))));
        assert_eq!(other.next(), Some((5, In(0))), "what is in nobody's way");
    }

    #[test]
    fn one_directory_is_for_two_when_nothing_else_follows() {
        let queue = queue(2, &[1, 1, 1]);
        let (mut one, mut other) = (queue.worker(), queue.worker());
        assert_eq!(one.next(), Some((0, In(1))));
        queue.close();
        assert_eq!(other.next(), Some((1, In(1))));
        assert_eq!(one.next(), Some((2, In(1))));
        assert_eq!((one.next(), other.next()), (None, None));
    }

    #[test]
    fn one_large_directory_is_for_two() {
        let queue = queue(2, &[1; MANY + 1]);
        let (mut one, mut other) = (queue.worker(), queue.worker());
        assert_eq!(one.next(), Some((0, In(1))));
        assert_eq!(other.next(), Some((1, In(1))));
    }

    #[test]
    fn whoever_waits_for_a_directory_gets_it_when_it_is_left() {
        let queue = queue(2, &[1, 1]);
        let mut one = queue.worker();
        one.next();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| queue.worker().next());
            drop(one);
            assert_eq!(other.join().unwrap(), Some((1, In(1))));
        });
    }

    #[test]
    fn what_waits_holds_no_more_open_than_it_may() {
        let queue = Queue::new(1, 2);
        for number in 0..2 {
            queue.put(number, In(1)).unwrap();
        }
        std::thread::scope(|scope| {
            let giver = scope.spawn(|| queue.put(2, In(1)));
            let mut one = queue.worker();
            assert_eq!(one.next(), Some((0, In(1))));
            assert_eq!(giver.join().unwrap(), Ok(()));
            queue.close();
            assert_eq!(one.count(), 2);
        });
    }

    #[test]
    fn nothing_is_taken_when_no_thread_is_left() {
        let queue = queue(1, &[1]);
        drop(queue.worker());
        assert_eq!(queue.put(1, In(1)), Err(Deserted));
    }
}
