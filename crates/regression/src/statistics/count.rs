//! Counts of rare events.

use statrs::distribution::{Binomial, DiscreteCDF};

use super::{Successes, clopper_pearson_interval};
use crate::{Interval, Result};

/// The comparison of two Poisson rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateRatio {
    /// `(new events / new exposure) / (old events / old exposure)`; infinite where the old side has none.
    pub ratio: f64,
    /// Its interval; the upper end is infinite where the old side has none.
    pub interval: Interval,
    /// Two-sided p-value of "equal rates": twice the smaller tail, at most 1.
    pub p_value: f64,
}

/// The exact conditional comparison of two Poisson rates (Przyborowski and Wilenski 1940): given the total, the new events
/// are binomial with the share `q = r m / (1 + r m)`, `r` being the ratio of rates and `m` that of exposures; the interval
/// of `q` after Clopper and Pearson becomes one of `r = q / (1 - q) / m`.
///
/// Assumes independent events whose rate does not vary within a side; where it does (the variance of repeated counts is
/// above their mean) the interval is too narrow. Exposures are positive and finite: hours, runs, requests. With no event at
/// all the interval is everything from zero on and p = 1.
///
/// ```
/// use evoseal_regression::statistics::poisson_rate_ratio;
/// let compared = poisson_rate_ratio(2, 17_877.0, 11, 15_445.0, 0.95)?;
/// assert!(compared.ratio > 6.0 && compared.interval.low > 1.0 && compared.p_value < 0.02);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn poisson_rate_ratio(
    old_events: u64,
    old_exposure: f64,
    new_events: u64,
    new_exposure: f64,
    level: f64,
) -> Result<RateRatio> {
    super::check_level(level)?;
    for exposure in [old_exposure, new_exposure] {
        if !(exposure > 0.0 && exposure.is_finite()) {
            return Err(super::invalid("an exposure", format!("{exposure} is not a positive number")));
        }
    }
    let exposures = new_exposure / old_exposure;
    let odds = |share: f64| if share < 1.0 { share / (1.0 - share) / exposures } else { f64::INFINITY };
    let total = old_events + new_events;
    if total == 0 {
        let interval = Interval { low: 0.0, high: f64::INFINITY, level };
        return Ok(RateRatio { ratio: 1.0, interval, p_value: 1.0 });
    }
    let share = clopper_pearson_interval(Successes::new(new_events, total)?, level)?;
    let equal = exposures / (1.0 + exposures);
    let binomial = Binomial::new(equal, total)
        .map_err(|error| super::invalid("a share of exposures", error.to_string()))?;
    let lower = binomial.cdf(new_events);
    let upper = if new_events == 0 { 1.0 } else { binomial.sf(new_events - 1) };
    Ok(RateRatio {
        ratio: odds(new_events as f64 / total as f64),
        interval: Interval { low: odds(share.low), high: odds(share.high), level },
        p_value: (2.0 * lower.min(upper)).min(1.0),
    })
}
