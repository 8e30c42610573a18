//! Shapes that values make beside a level: spike, drop, plateau, step, oscillation.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::statistics::{check_values, invalid, modified_score};

/// Up to how many values in a row are a spike or a drop.
const SPIKE_MAX: usize = 3;
/// How many values must alternate to be an oscillation.
const OSCILLATION_MIN: usize = 6;

/// What a run of values looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PatternKind {
    /// One to three values far above the level, after which it is back.
    Spike,
    /// One to three values far below the level, after which it is back.
    Drop,
    /// Four or more values far on one side, after which the level is back.
    Plateau,
    /// Four or more values far on one side, to the end: the level may have changed for good.
    Step,
    /// Six or more values that lie far above and far below in turn.
    Oscillation,
}

/// A run of values that makes a shape.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    /// The shape.
    pub kind: PatternKind,
    /// The index of its first value.
    pub start: usize,
    /// One past the index of its last value.
    pub end: usize,
    /// The modified z-score of the run's most distant value, with its sign.
    pub score: f64,
}

/// Names the shapes that `values` make beside the level of `reference`, which does not contain them.
///
/// Each value is far if its modified z-score (Iglewicz and Hoaglin 1993, section 3.3) against the reference is beyond `limit`;
/// 3.5 is usual. Runs of far values on one side are a spike, drop, plateau or step by their length and by whether they last to the end; runs
/// of far values on alternating sides an oscillation. At least four values of reference, `limit` above 0. A constant reference makes every
/// other value far, with the largest float as score.
///
/// ```
/// use evoseal_regression::{PatternKind, patterns};
/// let reference = [10.0, 10.2, 9.9, 10.1, 9.8, 10.0, 10.1];
/// let found = patterns(&reference, &[10.0, 15.0, 10.1, 5.0, 5.1, 5.2, 4.9], 3.5)?;
/// assert_eq!(found.iter().map(|one| (one.kind, one.start)).collect::<Vec<_>>(), [(PatternKind::Spike, 1), (PatternKind::Step, 3)]);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn patterns(reference: &[f64], values: &[f64], limit: f64) -> Result<Vec<Pattern>> {
    check_values("a pattern", reference, 4)?;
    check_values("a pattern", values, 0)?;
    if !(limit.is_finite() && limit > 0.0) {
        return Err(invalid("the limit of a pattern", "it must be a finite number above 0"));
    }
    let mut room = reference.to_vec();
    let scores: Vec<f64> = values.iter().map(|value| modified_score(&mut room, *value)).collect();
    // -1, 0 or 1: far below, near, far above.
    let side = |index: usize| {
        scores.get(index).map_or(0, |score| i8::from(*score > limit) - i8::from(*score < -limit))
    };
    let mut found = Vec::new();
    let mut start = 0;
    while start < values.len() {
        if side(start) == 0 {
            start += 1;
            continue;
        }
        let alternating = run(start, values.len(), |index| side(index) == -side(index - 1));
        let (kind, end) = if alternating - start >= OSCILLATION_MIN {
            (PatternKind::Oscillation, alternating)
        } else {
            let end = run(start, values.len(), |index| side(index) == side(start));
            let kind = match (end - start <= SPIKE_MAX, side(start) > 0, end == values.len()) {
                (true, true, _) => PatternKind::Spike,
                (true, false, _) => PatternKind::Drop,
                (false, _, true) => PatternKind::Step,
                (false, _, false) => PatternKind::Plateau,
            };
            (kind, end)
        };
        let farthest = scores[start..end].iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
        found.push(Pattern { kind, start, end, score: farthest.unwrap_or(0.0) });
        start = end;
    }
    Ok(found)
}

/// The first index behind `start` that does not hold, at most `last`.
fn run(start: usize, last: usize, holds: impl Fn(usize) -> bool) -> usize {
    (start + 1..last).find(|index| !holds(*index)).unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_its_name() {
        let reference = [10.0, 10.2, 9.9, 10.1, 9.8, 10.0, 10.1];
        for (values, kind, end) in [
            (vec![14.0, 10.0], PatternKind::Spike, 1),
            (vec![6.0, 6.1, 6.0], PatternKind::Drop, 3),
            (vec![14.0, 14.1, 14.0, 13.9, 10.0], PatternKind::Plateau, 4),
            (vec![14.0, 14.1, 14.0, 13.9], PatternKind::Step, 4),
            (vec![14.0, 6.0, 14.0, 6.0, 14.0, 6.0], PatternKind::Oscillation, 6),
        ] {
            let found = patterns(&reference, &values, 3.5).unwrap();
            assert_eq!(
                (found[0].kind, found[0].start, found[0].end, found.len()),
                (kind, 0, end, 1),
                "{values:?}"
            );
        }
        assert_eq!(patterns(&reference, &[10.0, 9.9, 10.2], 3.5).unwrap(), []);
        assert_eq!(patterns(&[7.0; 5], &[7.0, 7.5], 3.5).unwrap()[0].score.to_bits(), f64::MAX.to_bits());
        assert!(
            patterns(&reference[..3], &[1.0], 3.5).is_err() && patterns(&reference, &[1.0], 0.0).is_err()
        );
    }
}
