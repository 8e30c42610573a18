//! The interval of the shifts that a permutation test does not reject.

use super::t_interval::{Freedom, t_estimate};
use super::{Analyzer, Comparison, Estimate, point};
use crate::statistics::{Deals, Flips, Resampling, mean};
use crate::{Error, Interval, Result};

/// Steps of the search for an end: halving so often leaves one part in a million million of the first bracket.
const HALVINGS: usize = 40;
/// How often the bracket may be doubled before an end counts as unbounded.
const DOUBLINGS: usize = 40;

/// Permutation tests, inverted into an interval (Pitman 1937).
///
/// *All values positive:* the change is a factor, the values are their logarithms, and the interval holds every factor for
/// which the test of "the new values divided by it are distributed as the old ones" is not rejected at the level; the estimate
/// is the ratio of geometric means. Methods `permutation_ratio` and, for pairs, `sign_flip_ratio`. *Otherwise* the same with
/// differences, divided by the absolute old mean as if that were known exactly: `permutation_shift`, `sign_flip_shift`.
///
/// Exact where there are at most 50 000 ways ([`permutation_test`](crate::statistics::permutation_test)), else from seeded
/// random ways, the same for every hypothesis. Assumes that values are exchangeable under the null hypothesis: independent, and
/// equally distributed but for the change. Needs four values on each side, or six pairs, for a level of 0.95.
///
/// ```
/// use evoseal_regression::{Analyzer, Comparison, Permutation};
/// let (old, new) = ([10.0, 10.2, 9.9, 10.1, 9.8], [12.0, 12.3, 11.9, 12.2, 11.7]);
/// let comparison = Comparison { incumbent: &old, candidate: &new, paired: false, level: 0.95 };
/// let estimate = Permutation::default().analyze(&comparison)?;
/// assert_eq!(estimate.p_value, Some(2.0 / 252.0));
/// assert!(estimate.interval.low > 0.15 && estimate.interval.high < 0.25);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permutation {
    /// How many random ways, and from which seed.
    pub resampling: Resampling,
}

impl Analyzer for Permutation {
    fn name(&self) -> &'static str {
        "permutation"
    }

    fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate> {
        comparison.check("a permutation interval", 2)?;
        if comparison.is_exact() {
            return point(comparison, "exact", comparison.level);
        }
        let (old, new) = (comparison.incumbent, comparison.candidate);
        let positive = old.iter().chain(new).all(|value| *value > 0.0);
        let logs = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<_>>();
        let (x, y) = if positive { (logs(old), logs(new)) } else { (old.to_vec(), new.to_vec()) };
        let test = Test::new(&x, &y, comparison.paired, self.resampling)?;
        let (low, high) = test.interval(comparison.level)?;
        let (centre_x, shift) = (mean(&x)?, mean(&y)? - mean(&x)?);
        let finite = |value: f64| value.clamp(f64::MIN, f64::MAX);
        let (old_value, new_value, interval) = if positive {
            let old_value = centre_x.exp();
            (old_value, old_value * shift.exp(), (low.exp_m1(), high.exp_m1()))
        } else {
            let unit = if centre_x.abs() > 0.0 { centre_x.abs() } else { 1.0 };
            (centre_x, centre_x + shift, (low / unit, high / unit))
        };
        Ok(Estimate {
            old_value,
            new_value: finite(new_value),
            interval: Interval { low: finite(interval.0), high: finite(interval.1), level: comparison.level },
            p_value: Some(test.p_value(0.0)),
            method: match (comparison.paired, positive) {
                (false, true) => "permutation_ratio",
                (false, false) => "permutation_shift",
                (true, true) => "sign_flip_ratio",
                (true, false) => "sign_flip_shift",
            },
        })
    }
}

/// Both samples and the ways to deal them.
struct Test<'a> {
    x: &'a [f64],
    y: &'a [f64],
    ways: Ways,
}

enum Ways {
    Deals(Deals),
    Flips(Flips),
}

impl<'a> Test<'a> {
    fn new(x: &'a [f64], y: &'a [f64], paired: bool, resampling: Resampling) -> Result<Self> {
        let resampling = resampling.check()?;
        let ways = if paired {
            Ways::Flips(Flips::new(x.len(), resampling))
        } else {
            Ways::Deals(Deals::new(x.len(), y.len(), resampling))
        };
        Ok(Self { x, y, ways })
    }

    /// Two-sided, of "the shift is `shift`".
    fn p_value(&self, shift: f64) -> f64 {
        match &self.ways {
            Ways::Deals(deals) => {
                let moved: Vec<f64> = self.y.iter().map(|value| value - shift).collect();
                deals.test(self.x, &moved, 0.0).p_value
            }
            Ways::Flips(flips) => {
                let moved: Vec<f64> = self.x.iter().zip(self.y).map(|(old, new)| new - old - shift).collect();
                flips.test(&moved, 0.0).p_value
            }
        }
    }

    /// The least and greatest shift that is not rejected. The p-value falls in steps on both sides of the observed shift.
    fn interval(&self, level: f64) -> Result<(f64, f64)> {
        let alpha = (1.0 - level) * (1.0 + 1e-12);
        let shift = mean(self.y)? - mean(self.x)?;
        let paired = matches!(self.ways, Ways::Flips(_));
        let comparison = Comparison { incumbent: self.x, candidate: self.y, paired, level: 0.5 };
        // Only the size of the first step: half the width of a narrow interval of the shift.
        let t = t_estimate(&comparison, Freedom::Satterthwaite, "t")?;
        let unit = if t.old_value.abs() > 0.0 { t.old_value.abs() } else { 1.0 };
        let width = (t.interval.high - t.interval.low) * unit;
        let step = if width > 0.0 && width < f64::MAX { width } else { shift.abs().max(f64::MIN_POSITIVE) };
        let low = self.end(shift, -step, alpha)?;
        Ok((low, self.end(shift, step, alpha)?))
    }

    fn end(&self, shift: f64, mut step: f64, alpha: f64) -> Result<f64> {
        let mut inside = 0.0;
        for _ in 0..DOUBLINGS {
            if self.p_value(shift + step) <= alpha {
                let mut outside = step;
                for _ in 0..HALVINGS {
                    let middle = f64::midpoint(inside, outside);
                    if self.p_value(shift + middle) <= alpha {
                        outside = middle;
                    } else {
                        inside = middle;
                    }
                }
                // The outer end, so that what is not rejected lies within.
                return Ok(shift + outside);
            }
            inside = step;
            step *= 2.0;
        }
        let found = format!("{} and {} values", self.x.len(), self.y.len());
        Err(Error::Data { what: "a permutation interval", needed: "enough values for its level", found })
    }
}
