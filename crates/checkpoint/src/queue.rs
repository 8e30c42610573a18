//! Work that makes more work, shared by a few threads.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A stack of tasks. What was pushed last is taken first, so that a tree is walked in depth and little waits at a time.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: Vec<T>,
    /// Tasks that were taken and are not done.
    active: usize,
    idle: usize,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(first: T) -> Self {
        let state = State { waiting: vec![first], active: 0, idle: 0, is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds tasks; the last of them is taken first.
    pub(crate) fn push(&self, tasks: impl IntoIterator<Item = T>) {
        let mut state = self.state();
        state.waiting.extend(tasks);
        if state.idle > 0 {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The next task; `None` when all are done or the queue was closed. Each task that is taken is given back with
    /// [`done`](Self::done).
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(task) = state.waiting.pop() {
                state.active += 1;
                return Some(task);
            }
            if state.active == 0 {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// The newest task if `is_wanted` says so, for a thread that waits in the middle of another.
    pub(crate) fn take_if(&self, is_wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut state = self.state();
        let task = state.waiting.pop_if(|task| is_wanted(task))?;
        state.active += 1;
        Some(task)
    }

    pub(crate) fn done(&self) {
        let mut state = self.state();
        state.active -= 1;
        if state.active == 0 && state.waiting.is_empty() {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Lets every thread stop at its next task.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().is_closed
    }
}

/// How many threads share the work of a walk or a restore: as many as the machine has processors, within reason. More
/// than a few contend for the same locks of the file system.
pub(crate) fn thread_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(1, THREADS_MAX)
}

const THREADS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn every_task_and_every_task_that_it_makes_is_done_once() {
        let queue = Queue::new(12_u64);
        let sum = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(task) = queue.take() {
                        sum.fetch_add(1, Ordering::Relaxed);
                        if task > 0 {
                            queue.push([task - 1, task - 1]);
                        }
                        queue.done();
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), (1 << 13) - 1);
    }

    #[test]
    fn a_closed_queue_hands_out_nothing() {
        let queue = Queue::new(1);
        queue.close();
        assert_eq!(queue.take(), None);
        assert!(queue.is_closed());
    }
}
