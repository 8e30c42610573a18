//! The settings under `safety.regression.run`.

use serde::{Deserialize, Serialize};

use crate::statistics::invalid;
use crate::{ErrorLedger, ErrorPolicy, Result};

/// How the errors of a whole run are limited.
///
/// ```
/// use evoseal_regression::{ErrorPolicy, RunSettings};
/// let settings: RunSettings = toml::from_str("error_budget = 0.1\npolicy = \"lord\"")?;
/// assert_eq!((settings.policy, settings.smallest_harm), (ErrorPolicy::Lord, 0.05));
/// settings.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSettings {
    /// The chance of any false rollback in the whole run (for the policies `lord`, `saffron` and `addis`: the expected share of
    /// false ones among the rollbacks), strictly between 0 and 1; 0.05.
    pub error_budget: f64,
    /// How the budget is spent over the decisions of a run; `family_wise`. See [`ErrorPolicy`].
    pub policy: ErrorPolicy,
    /// How many candidates of a run are expected to become suspicious and to be measured again, 1 or more; 50. Being wrong
    /// costs measurements, never the guarantee.
    pub decisions_expected: usize,
    /// The share of the budget that the guard against drift has, from 0 to below 1; 0.2. Zero switches the guard off. What it
    /// assumes, and what it sees where measurements depend on their predecessors, says [`DriftGuard`](crate::DriftGuard).
    pub drift_share: f64,
    /// The smallest harmful change that must not slip through, as a fraction above 0; 0.05 (for a metric that tolerates more
    /// than half of it: twice what it tolerates; for one too noisy for it: what can be seen). It decides how long is measured
    /// and is no threshold: what is tolerated is the metric's threshold. Smaller harms are found less often, and caught by
    /// the guard against drift where they add up.
    pub smallest_harm: f64,
    /// The least samples of a candidate in stage one, 2 or more; 3.
    pub screen_samples_min: usize,
    /// The most samples of a candidate in stage one, at least the least; 40.
    pub screen_samples_max: usize,
    /// The most pairs in stage two, 2 or more; 100.
    pub confirm_pairs_max: usize,
    /// How many of the newest samples of accepted versions a candidate is screened against, 2 or more; 400. More find
    /// less with fewer measurements and follow slow changes later.
    pub reference_samples_max: usize,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            error_budget: 0.05,
            policy: ErrorPolicy::FamilyWise,
            decisions_expected: 50,
            drift_share: 0.2,
            smallest_harm: 0.05,
            screen_samples_min: 3,
            screen_samples_max: 40,
            confirm_pairs_max: 100,
            reference_samples_max: 400,
        }
    }
}

impl RunSettings {
    /// Refuses values outside their range, with the key named.
    pub fn check(&self) -> Result<()> {
        let require =
            |holds: bool, what: &str, reason: &str| if holds { Ok(()) } else { Err(invalid(what, reason)) };
        let inside = |value: f64| value > 0.0 && value < 1.0;
        require(inside(self.error_budget), "error_budget", "it must lie strictly between 0 and 1")?;
        require(
            self.decisions_expected >= 1,
            "decisions_expected",
            "at least one decision must be expected",
        )?;
        require((0.0..1.0).contains(&self.drift_share), "drift_share", "it must be at least 0 and below 1")?;
        require(
            self.smallest_harm > 0.0 && self.smallest_harm.is_finite(),
            "smallest_harm",
            "it must be a finite fraction above 0",
        )?;
        require(
            self.screen_samples_min >= 2,
            "screen_samples_min",
            "one sample has no spread; the least is 2",
        )?;
        let (least, most) = (self.screen_samples_min, self.screen_samples_max);
        require(most >= least, "screen_samples_max", "it must not be below `screen_samples_min`")?;
        require(self.confirm_pairs_max >= 2, "confirm_pairs_max", "no test decides on fewer than 2 pairs")?;
        require(
            self.reference_samples_max >= 2,
            "reference_samples_max",
            "one sample has no spread; the least is 2",
        )
    }

    /// The account of the decisions: what the drift guard does not have.
    pub(crate) fn ledger(&self) -> Result<ErrorLedger> {
        ErrorLedger::new(self.policy, self.error_budget * (1.0 - self.drift_share), self.decisions_expected)
    }

    /// The error rate of all drift guards together.
    pub(crate) fn drift_budget(&self) -> f64 {
        self.error_budget * self.drift_share
    }

    /// The harm that is looked for where some is tolerated: twice that much, if that is more than the smallest harm, so that
    /// as much lies between it and what is tolerated as between that and none.
    pub(crate) fn harm_beyond(&self, tolerated: f64) -> f64 {
        self.smallest_harm.max(2.0 * tolerated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_out_of_range_is_refused_by_name() {
        let good = RunSettings::default();
        good.check().unwrap();
        let bad = [
            ("error_budget", RunSettings { error_budget: 0.0, ..good }),
            ("decisions_expected", RunSettings { decisions_expected: 0, ..good }),
            ("drift_share", RunSettings { drift_share: 1.0, ..good }),
            ("smallest_harm", RunSettings { smallest_harm: f64::NAN, ..good }),
            ("screen_samples_min", RunSettings { screen_samples_min: 1, ..good }),
            ("screen_samples_max", RunSettings { screen_samples_max: 2, ..good }),
            ("confirm_pairs_max", RunSettings { confirm_pairs_max: 1, ..good }),
            ("reference_samples_max", RunSettings { reference_samples_max: 1, ..good }),
        ];
        for (key, settings) in bad {
            assert!(settings.check().is_err_and(|error| error.to_string().contains(key)), "{key}");
        }
    }
}
