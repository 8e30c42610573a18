//! BCa intervals for the change of a mean, a median or another percentile.

use super::{Analyzer, Comparison, Estimate, point};
use crate::statistics::{Resampling, bca_interval, percentile_of_sorted};
use crate::{Error, Interval, Result};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BootstrapStatistic {
    /// The mean.
    Mean,
    /// The median.
    Median,
    /// A percentile, 0 to 100: 99 for what the slowest of a hundred takes.
    Percentile(f64),
}

/// The BCa bootstrap interval ([`bca_interval`]) for the relative change of a statistic; of its difference where the old
/// statistic is zero. Methods `bca_mean`, `bca_median`, `bca_percentile`.
///
/// Independent sides are drawn apart, pairs together. It has no p-value. For statistics that have no formula, and at least some
/// twenty values a side: below that the interval is too narrow, and [`Auto`](super::Auto) keeps its level better. At least two
/// values on each side.
///
/// ```
/// use evoseal_regression::{Analyzer, Bootstrap, BootstrapStatistic, Comparison};
/// let old: Vec<f64> = (0..40).map(|i| 100.0 + f64::from(i * 7 % 40)).collect();
/// let new: Vec<f64> = old.iter().map(|value| value * 1.3).collect();
/// let comparison = Comparison { incumbent: &old, candidate: &new, paired: false, level: 0.95 };
/// let estimate = Bootstrap::of(BootstrapStatistic::Percentile(90.0))?.analyze(&comparison)?;
/// assert!(estimate.interval.low > 0.2 && estimate.interval.high < 0.4, "{estimate:?}");
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    statistic: BootstrapStatistic,
    resampling: Resampling,
}

impl Bootstrap {
    /// Compares this statistic, with the standard number of resamples and seed. A percentile outside 0 to 100 is refused.
    pub fn of(statistic: BootstrapStatistic) -> Result<Self> {
        if let BootstrapStatistic::Percentile(p) = statistic
            && !(0.0..=100.0).contains(&p)
        {
            let reason = format!("{p} does not lie between 0 and 100");
            return Err(Error::Invalid { what: "a percentile".to_owned(), reason });
        }
        Ok(Self { statistic, resampling: Resampling::default() })
    }

    /// With this number of resamples and this seed.
    pub fn with_resampling(self, resampling: Resampling) -> Self {
        Self { resampling, ..self }
    }
}

impl BootstrapStatistic {
    /// Of at least one finite value.
    fn of(self, values: &[f64]) -> f64 {
        let p = match self {
            Self::Mean => return values.iter().map(|value| value / values.len() as f64).sum(),
            Self::Median => 50.0,
            Self::Percentile(p) => p,
        };
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        percentile_of_sorted(&sorted, p)
    }
}

impl Analyzer for Bootstrap {
    fn name(&self) -> &'static str {
        match self.statistic {
            BootstrapStatistic::Mean => "bca_mean",
            BootstrapStatistic::Median => "bca_median",
            BootstrapStatistic::Percentile(_) => "bca_percentile",
        }
    }

    fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate> {
        comparison.check("a bootstrap interval", 2)?;
        if comparison.is_exact() {
            return point(comparison, "exact", comparison.level);
        }
        let statistic = self.statistic;
        let (old, new) = (comparison.incumbent, comparison.candidate);
        let (old_value, new_value) = (statistic.of(old), statistic.of(new));
        let change = move |old: f64, new: f64| {
            if old_value.abs() > 0.0 { (new - old) / old.abs() } else { new - old }
        };
        let (_, interval) = if comparison.paired {
            // Places stand for pairs, so that both values of a pair are drawn together.
            let places: Vec<f64> = (0..old.len()).map(|place| place as f64).collect();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "places were indices"
            )]
            let at = |values: &[f64], places: &[f64]| {
                places.iter().map(|place| values[*place as usize]).collect::<Vec<f64>>()
            };
            let of_pairs = |samples: &[&[f64]]| {
                change(statistic.of(&at(old, samples[0])), statistic.of(&at(new, samples[0])))
            };
            bca_interval(&[&places], of_pairs, comparison.level, self.resampling)?
        } else {
            let of_sides = |samples: &[&[f64]]| change(statistic.of(samples[0]), statistic.of(samples[1]));
            bca_interval(&[old, new], of_sides, comparison.level, self.resampling)?
        };
        let estimate = change(old_value, new_value);
        Ok(Estimate {
            old_value,
            new_value,
            // Percentiles that hardly scatter can leave the estimate itself outside.
            interval: Interval {
                low: interval.low.min(estimate),
                high: interval.high.max(estimate),
                level: comparison.level,
            },
            p_value: None,
            method: self.name(),
        })
    }
}
