//! The statistics themselves, as plain functions over slices.
//!
//! Every function of this module refuses NaN and infinite values, and fewer values than it needs, with
//! [`Error::Data`]: a number that is no number must be named, not averaged away. Sums are taken in
//! the order of the slice, so that equal input gives equal output to the last bit.

mod bootstrap;
mod count;
mod dependence;
mod describe;
mod mann_kendall;
mod memo;
mod mid_ranks;
mod normal;
mod outlier;
mod permutation;
mod power;
mod proportion;
mod rank;
mod robust;
mod signed_rank;
mod steady_state;
mod student;
mod theil_sen;
mod trend;

pub use bootstrap::bca_interval;
pub use count::{RateRatio, poisson_rate_ratio};
pub use dependence::{
    VarianceComponents, effective_sample_size, lag_one_autocorrelation, variance_components,
};
pub use describe::{
    Summary, mean, median, normalize, percentile, percentile_rank, std_dev, summarize, variance,
};
pub use mann_kendall::{MannKendall, mann_kendall};
pub use outlier::{iqr, modified_zscore, pattern_spike, zscore};
pub use permutation::{PermutationTest, Resampling, permutation_test, sign_flip_test};
pub use power::t_power;
pub use proportion::{Successes, clopper_pearson_interval, fisher_exact, newcombe_interval, wilson_interval};
pub use rank::{MannWhitney, hodges_lehmann, mann_whitney};
pub use robust::{TrimmedMean, mad, qn_scale, trimmed_mean, yuen_test};
pub use signed_rank::{SignedRank, hodges_lehmann_paired, wilcoxon_signed_rank};
pub use steady_state::{SteadyState, steady_state};
pub use student::{TTest, mean_interval, paired_t_test, prediction_interval, welch_test};
pub use theil_sen::{TheilSen, theil_sen};
pub use trend::{linear_prediction, linear_trend};

pub(crate) use dependence::{Dependence, dependence};
pub(crate) use describe::{check_level, check_values, is_constant, percentile_of_sorted, power_of_two_below};
pub(crate) use normal::{
    MEAN_ABSOLUTE, MEDIAN_ABSOLUTE, normal_limit, normal_outside, normal_quantile, normal_tail,
};
pub(crate) use outlier::modified_score;
pub(crate) use permutation::{Deals, Flips};
pub(crate) use proportion::share_ratio_interval;
pub(crate) use student::{satterthwaite, t_level, t_quantile, t_tail, welch_freedom};

use crate::Error;

/// An argument of a statistic that lies outside its domain.
pub(crate) fn invalid(what: &str, reason: impl Into<String>) -> Error {
    Error::Invalid { what: what.to_owned(), reason: reason.into() }
}
