//! What is known about a change that was found: how sure it is, and where it may lie.

use super::auto::{Model, Prepared};
use super::costs::SegmentCost;
use crate::statistics::normal_outside;

/// Twice the logarithm of the likelihood ratio that a place may lack against the best one and still lie in the 95 %
/// confidence set: `-2 ln(1 - sqrt 0.95)` (Hansen 2000, *Econometrica* 68, theorem 2 and table 1).
pub(crate) const RATIO_95: f64 = 7.352_277_694_155_79;

/// A change between two others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) index: usize,
    /// The first and the last index of the confidence set.
    pub(crate) interval: (usize, usize),
    /// One minus the chance that noise alone pays for a change somewhere in the series.
    pub(crate) confidence: f64,
}

/// Describes the change at `index` between the segments `start..index` and `index..end`.
pub(crate) fn place<C: SegmentCost>(
    cost: &C,
    prepared: &Prepared,
    start: usize,
    index: usize,
    end: usize,
) -> Place {
    let parts = |place: usize| cost.cost(start, place) + cost.cost(place, end);
    let best = parts(index);
    let allowed = best + RATIO_95 * prepared.variance;
    let (mut low, mut high) = (index, index);
    for candidate in start + 1..end {
        if parts(candidate) <= allowed {
            low = low.min(candidate);
            high = high.max(candidate);
        }
    }
    let statistic = prepared.statistic(cost.cost(start, end) - best);
    // The upper tail of chi squared with one and with two degrees of freedom.
    let tail = match prepared.model {
        Model::Level => normal_outside(statistic.sqrt()),
        Model::Line => (-statistic / 2.0).exp(),
    };
    let chance = (tail * cost.len() as f64).min(1.0);
    Place { index, interval: (low, high), confidence: 1.0 - chance }
}
