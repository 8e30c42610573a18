//! The lower seam: one statistical method over one comparison.

mod auto;
mod bootstrap;
mod event_count;
mod pass_rate;
mod permutation;
mod rank_shift;
mod t_interval;
mod threshold_only;
mod trimmed_mean;

use std::fmt;
use std::sync::Arc;

use crate::statistics::{check_values, is_constant, mean};
use crate::{Interval, Result};

pub use auto::Auto;
pub use bootstrap::{Bootstrap, BootstrapStatistic};
pub use event_count::EventCounts;
pub use pass_rate::PassRate;
pub use permutation::Permutation;
pub use rank_shift::RankShift;
pub use t_interval::TInterval;
pub use threshold_only::ThresholdOnly;
pub use trimmed_mean::TrimmedMeans;

/// Two lists of numbers to compare. All are finite; each is independent of the others on its side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison<'a> {
    /// The old values.
    pub incumbent: &'a [f64],
    /// The new values.
    pub candidate: &'a [f64],
    /// Whether value `i` of both was measured side by side; then both have the same length.
    pub paired: bool,
    /// The confidence level that the interval must have, strictly between 0 and 1.
    pub level: f64,
}

/// What an [`Analyzer`] found out.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Where the old values lie: the mean, unless the method says otherwise.
    pub old_value: f64,
    /// Where the new values lie.
    pub new_value: f64,
    /// The interval for `(new - old) / |old|`, or for `new - old` where `old_value` is zero. Its ends are finite; an
    /// end that the method cannot bound is the largest float of that sign.
    pub interval: Interval,
    /// The two-sided p-value of "no difference", where the method has one.
    pub p_value: Option<f64>,
    /// What was done, in one word: `welch_t`.
    pub method: &'static str,
}

impl Estimate {
    /// `(new_value - old_value) / |old_value|`; `None` where the old value is zero or the quotient is not finite.
    pub fn change(&self) -> Option<f64> {
        let change = (self.new_value - self.old_value) / self.old_value.abs();
        (self.old_value.abs() > 0.0 && change.is_finite()).then_some(change)
    }
}

/// One statistical method that turns two samples into an interval for the change.
///
/// # Contract
///
/// - *Pure.* Equal comparisons give equal estimates, to the last bit.
/// - *Calibrated.* Over repeated measurements under the method's stated assumptions the interval covers the true change
///   with at least the asked level; a higher level never gives a narrower interval.
/// - *Finite.* No field is NaN or infinite, and `low <= high`.
/// - *Errors.* [`Error::Data`](crate::Error::Data) where the values are too few for the method at this level. The
///   detector reports it as too few samples, never as "no regression".
///
/// ```
/// use evoseal_regression::{Analyzer, Comparison, RankShift, TInterval};
/// let (old, new) = ([100.0, 101.0, 99.0, 102.0, 98.0], [120.0, 119.0, 121.0, 122.0, 118.0]);
/// let comparison = Comparison { incumbent: &old, candidate: &new, paired: false, level: 0.95 };
/// for analyzer in [&TInterval as &dyn Analyzer, &RankShift] {
///     let estimate = analyzer.analyze(&comparison)?;
///     assert!(estimate.interval.low > 0.15 && estimate.interval.high < 0.25, "{estimate:?}");
/// }
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub trait Analyzer: fmt::Debug + Send + Sync {
    /// The name by which messages and settings call this method.
    fn name(&self) -> &'static str;

    /// Compares.
    fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate>;
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_analyzer {
    ($pointer:ident) => {
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<A: Analyzer + ?Sized> Analyzer for $pointer<A> {
            fn name(&self) -> &'static str {
                (**self).name()
            }

            fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate> {
                (**self).analyze(comparison)
            }
        }
    };
}

forward_analyzer!(Arc);
forward_analyzer!(Box);

impl Comparison<'_> {
    /// Whether neither side scatters, so that there is nothing to estimate.
    pub(crate) fn is_exact(&self) -> bool {
        is_constant(self.incumbent) && is_constant(self.candidate)
    }

    /// Checks what every method needs.
    pub(crate) fn check(&self, what: &'static str, count_min: usize) -> Result<()> {
        check_values(what, self.incumbent, count_min)?;
        check_values(what, self.candidate, count_min)?;
        crate::statistics::check_level(self.level)?;
        if self.paired && self.incumbent.len() != self.candidate.len() {
            let found = format!("{} and {} values", self.incumbent.len(), self.candidate.len());
            return Err(crate::Error::Data {
                what,
                needed: "as many values on one side as on the other",
                found,
            });
        }
        Ok(())
    }
}

/// The difference of two means without an interval: one point.
pub(crate) fn point(comparison: &Comparison<'_>, method: &'static str, level: f64) -> Result<Estimate> {
    let (old_value, new_value) = (mean(comparison.incumbent)?, mean(comparison.candidate)?);
    let point = Interval { low: 0.0, high: 0.0, level };
    let mut estimate = Estimate { old_value, new_value, interval: point, p_value: None, method };
    let change = estimate.change().unwrap_or_else(|| absolute_or_bound(old_value, new_value));
    (estimate.interval.low, estimate.interval.high) = (change, change);
    Ok(estimate)
}

/// The absolute change for a zero old value; the largest float where the relative change alone overflows.
fn absolute_or_bound(old_value: f64, new_value: f64) -> f64 {
    let bound = if old_value.abs() > 0.0 { f64::MAX.copysign(new_value - old_value) } else { new_value };
    bound.clamp(f64::MIN, f64::MAX)
}
