//! The same question of many things, on all processors.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Answers in the order of `items`, computed by as many threads as there are processors.
///
/// Each thread takes the next item that nobody has, so that a slow one holds up no other; the answers do not depend on who
/// took what. With one processor or one item no thread is started. A panic in `answer` is passed on.
///
/// ```
/// let squares = evoseal_regression::in_parallel(&[1, 2, 3, 4], |number| number * number);
/// assert_eq!(squares, [1, 4, 9, 16]);
/// ```
pub fn in_parallel<T: Sync, A: Send>(items: &[T], answer: impl Fn(&T) -> A + Sync) -> Vec<A> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(items.len());
    if threads <= 1 {
        return items.iter().map(answer).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut mine = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    mine.push((index, answer(item)));
                }
                done.lock().expect("no thread panics while it holds the list").extend(mine);
            });
        }
    });
    let mut done = done.into_inner().expect("the scope passed every panic on");
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::in_parallel;

    #[test]
    fn answers_stand_in_the_order_of_the_questions_whoever_was_slow() {
        let items: Vec<u64> = (0..200).collect();
        let slow_first = |item: &u64| {
            // Busy work that shrinks, so that later items are done sooner.
            let spin: u64 = (0..(200 - item) * 1000).fold(*item, |sum, i| sum ^ i.wrapping_mul(31));
            (*item, spin & 1)
        };
        let answers: Vec<u64> = in_parallel(&items, slow_first).into_iter().map(|(item, _)| item).collect();
        assert_eq!(answers, items);
        assert_eq!(in_parallel(&[] as &[u64], slow_first), []);
    }
}
