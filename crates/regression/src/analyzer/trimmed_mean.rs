//! Yuen's trimmed means, as an interval for their ratio.

use super::t_interval::{Freedom, t_estimate};
use super::{Analyzer, Comparison, Estimate, point};
use crate::{Error, Result};

/// The interval for the relative change of the trimmed mean: Fieller's, as in [`TInterval`](super::TInterval), with
/// [trimmed means](crate::statistics::trimmed_mean), their standard errors, and Satterthwaite's degrees of freedom over the values
/// that are left (Yuen 1974). The p-value is that of [`yuen_test`](crate::statistics::yuen_test). Method `yuen`.
///
/// For noise with heavy tails whose outliers say nothing. Assumes independent samples; pairs are not used. At least two values
/// must be left on each side.
///
/// ```
/// use evoseal_regression::{Analyzer, Comparison, TrimmedMeans};
/// let old = [10.0, 10.1, 9.9, 10.2, 9.8, 10.0, 10.1, 99.0];
/// let new = old.map(|value| value * 1.5);
/// let comparison = Comparison { incumbent: &old, candidate: &new, paired: false, level: 0.95 };
/// let interval = TrimmedMeans::new(0.2)?.analyze(&comparison)?.interval;
/// assert!(interval.low > 0.4 && interval.high < 0.6);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrimmedMeans {
    share: f64,
}

impl TrimmedMeans {
    /// Trims this share on either side, 0 to below 0.5; 0.2 is usual.
    pub fn new(share: f64) -> Result<Self> {
        if (0.0..0.5).contains(&share) {
            return Ok(Self { share });
        }
        let reason = format!("{share} does not lie in 0 to below 0.5");
        Err(Error::Invalid { what: "a share to trim".to_owned(), reason })
    }
}

impl Analyzer for TrimmedMeans {
    fn name(&self) -> &'static str {
        "yuen"
    }

    fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate> {
        comparison.check("an interval for the change of a trimmed mean", 2)?;
        if comparison.is_exact() {
            return point(comparison, "exact", comparison.level);
        }
        let apart = Comparison { paired: false, ..*comparison };
        let estimate = t_estimate(&apart, Freedom::Trimmed(self.share), self.name());
        // Nothing but the trimmed extremes scatters: the degrees of freedom are 0 / 0.
        estimate.map_err(|error| match error {
            Error::Invalid { .. } => Error::Data {
                what: "an interval for the change of a trimmed mean",
                needed: "values that scatter after trimming",
                found: "none".to_owned(),
            },
            error => error,
        })
    }
}
