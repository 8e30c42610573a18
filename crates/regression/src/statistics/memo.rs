//! The last answers of functions that are asked the same again and again: every metric of an assessment has the same numbers
//! of samples, and the quantile of Student's distribution costs more than all the rest of a comparison.

use std::cell::RefCell;
use std::thread::LocalKey;

/// How many answers are kept; a later question can take the place of an earlier one.
const PLACES: usize = 64;

/// Answers by the bits of their two arguments. Each thread has its own, so that nobody waits.
#[derive(Debug)]
pub(crate) struct Memo<A> {
    places: [Option<((u64, u64), A)>; PLACES],
}

impl<A: Copy> Memo<A> {
    /// Without any answer.
    pub(crate) const fn new() -> Self {
        Self { places: [None; PLACES] }
    }
}

/// The kept answer to this question, or that of `compute`, which depends on nothing but the question.
pub(crate) fn remembered<A: Copy + 'static>(
    memo: &'static LocalKey<RefCell<Memo<A>>>,
    question: (u64, u64),
    compute: impl FnOnce() -> A,
) -> A {
    let mixed = (question.0 ^ question.1.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    // The highest six bits.
    let place = usize::try_from(mixed >> 58).expect("six bits are a number below 64");
    let known = memo.with_borrow(|memo| memo.places[place]);
    if let Some((asked, answer)) = known
        && asked == question
    {
        return answer;
    }
    let answer = compute();
    memo.with_borrow_mut(|memo| memo.places[place] = Some((question, answer)));
    answer
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::{Memo, remembered};

    thread_local! {
        static SUMS: RefCell<Memo<u64>> = const { RefCell::new(Memo::new()) };
    }

    #[test]
    fn an_answer_belongs_to_its_question_whatever_was_asked_in_between() {
        // More questions than places, twice, so that places are taken over and come back.
        for _ in 0..2 {
            for question in 0..500 {
                assert_eq!(remembered(&SUMS, (question, 7), || question + 7), question + 7);
            }
        }
        let kept = remembered(&SUMS, (499, 7), || panic!("the last question is still known"));
        assert_eq!(kept, 506);
    }
}
