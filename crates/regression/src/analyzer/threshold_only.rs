//! The published basic rule: compare two means, ask for no evidence.

use super::{Analyzer, Comparison, Estimate, point};
use crate::Result;

/// Compares means without any statistics: the interval is the point estimate, with confidence level 0.
///
/// This is what `enable_statistical_analysis = false` selects. One value per side is enough. On noise it raises a false
/// alarm whenever noise alone exceeds the threshold.
///
/// ```
/// use evoseal_regression::{Analyzer, Comparison, ThresholdOnly};
/// let comparison = Comparison { incumbent: &[10.0], candidate: &[25.0], paired: false, level: 0.95 };
/// let interval = ThresholdOnly.analyze(&comparison)?.interval;
/// assert_eq!((interval.low, interval.high, interval.level), (1.5, 1.5, 0.0));
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThresholdOnly;

impl Analyzer for ThresholdOnly {
    fn name(&self) -> &'static str {
        "threshold_only"
    }

    fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate> {
        comparison.check("a comparison of means", 1)?;
        point(comparison, self.name(), 0.0)
    }
}
