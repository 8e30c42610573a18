//! What a candidate really gained.

use serde::{Deserialize, Serialize};

use super::FreshPairs;
use crate::analyzer::{Analyzer, Comparison, TInterval};
use crate::{Interval, Result};

/// The gain of an accepted candidate, estimated apart from its selection.
///
/// Of many candidates the one that measures best was lucky: its measured gain overstates the true one. Samples that had no
/// part in the choice are not lucky, so that their mean is unbiased and their interval keeps its level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GainEstimate {
    /// The relative change that was measured when the candidate was chosen; harm is positive for a metric that must not
    /// rise.
    pub claimed: f64,
    /// The relative change on fresh samples; `None` where there are none.
    pub fresh: Option<f64>,
    /// The interval of `fresh` at 95 percent.
    pub interval: Option<Interval>,
    /// On how many fresh pairs.
    pub pairs: usize,
    /// The same in a sentence.
    pub reason: String,
}

/// Estimates a gain again on fresh pairs, all of which count: the number must not depend on what they say.
///
/// The ratio of means and Fieller's interval for pairs ([`TInterval`]), at 95 percent. At least two pairs of finite values.
///
/// ```
/// use evoseal_regression::{FreshPairs, gain_of_fresh_pairs};
/// let fresh = FreshPairs {
///     incumbent: vec![100.0, 101.0, 99.0, 100.0, 100.5],
///     candidate: vec![98.0, 99.5, 97.5, 98.5, 98.0],
/// };
/// let gain = gain_of_fresh_pairs(-0.06, &fresh)?;
/// assert!(gain.fresh.is_some_and(|fresh| (fresh + 0.018).abs() < 0.001));
/// assert!(gain.reason.contains("not -6.00 %"));
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn gain_of_fresh_pairs(claimed: f64, fresh: &FreshPairs) -> Result<GainEstimate> {
    let comparison =
        Comparison { incumbent: &fresh.incumbent, candidate: &fresh.candidate, paired: true, level: 0.95 };
    let estimate = TInterval.analyze(&comparison)?;
    let change = estimate.change();
    let percent = |fraction: f64| format!("{:+.2} %", fraction * 100.0);
    let (low, high) = (estimate.interval.low, estimate.interval.high);
    let reason = match change {
        Some(change) if (low..=high).contains(&claimed) => {
            format!("{} on fresh samples ({} to {})", percent(change), percent(low), percent(high))
        }
        Some(change) => format!(
            "{} on fresh samples ({} to {}), not {} as when it was chosen",
            percent(change),
            percent(low),
            percent(high),
            percent(claimed)
        ),
        None => "the incumbent is zero, so that the change has no relative size".to_owned(),
    };
    Ok(GainEstimate {
        claimed,
        fresh: change,
        interval: change.map(|_| estimate.interval),
        pairs: fresh.incumbent.len(),
        reason,
    })
}

impl GainEstimate {
    /// A gain for which there are no fresh samples.
    pub(crate) fn unconfirmed(claimed: f64) -> Self {
        let reason = format!(
            "{:+.2} % when it was chosen, which overstates it: there are no fresh samples to estimate it on",
            claimed * 100.0
        );
        Self { claimed, fresh: None, interval: None, pairs: 0, reason }
    }
}
