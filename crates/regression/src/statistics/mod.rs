//! The statistics themselves, as plain functions over slices.
//!
//! Every function of this module refuses NaN and infinite values, and fewer values than it needs, with
//! [`Error::Data`]: a number that is no number must be named, not averaged away. Sums are taken in
//! the order of the slice, so that equal input gives equal output to the last bit.

mod describe;
mod mann_kendall;
mod outlier;
mod rank;
mod student;
mod theil_sen;
mod trend;

pub use describe::{
    Summary, mean, median, normalize, percentile, percentile_rank, std_dev, summarize, variance,
};
pub use mann_kendall::{MannKendall, mann_kendall};
pub use outlier::{iqr, modified_zscore, pattern_spike, zscore};
pub use rank::{MannWhitney, hodges_lehmann, mann_whitney};
pub use student::{TTest, mean_interval, paired_t_test, prediction_interval, welch_test};
pub use theil_sen::{TheilSen, theil_sen};
pub use trend::{linear_prediction, linear_trend};

pub(crate) use describe::{check_level, check_values, is_constant, power_of_two_below};
pub(crate) use outlier::modified_score;
pub(crate) use student::{satterthwaite, t_quantile};

use crate::Error;

/// An argument of a statistic that lies outside its domain.
pub(crate) fn invalid(what: &str, reason: impl Into<String>) -> Error {
    Error::Invalid { what: what.to_owned(), reason: reason.into() }
}
