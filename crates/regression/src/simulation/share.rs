//! A simulated share with its uncertainty.

use serde::{Deserialize, Serialize};

use crate::statistics::{Successes, wilson_interval};

/// How often something happened in independent trials.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How often.
    pub hits: u64,
    /// Out of how many.
    pub trials: u64,
    /// The share; zero without trials.
    pub share: f64,
    /// Wilson's interval (1927) at 95 percent.
    pub interval: [f64; 2],
}

impl Share {
    /// The share of `hits` in `trials`.
    ///
    /// ```
    /// use evoseal_regression::simulation::Share;
    /// let share = Share::of(5, 100);
    /// assert!(share.share == 0.05 && share.interval[0] > 0.02 && share.interval[1] < 0.12);
    /// ```
    pub fn of(hits: u64, trials: u64) -> Self {
        let Ok(successes) = Successes::new(hits, trials) else {
            return Self { hits, trials, share: 0.0, interval: [0.0, 1.0] };
        };
        let interval = wilson_interval(successes, 0.95).expect("0.95 is a level");
        Self { hits, trials, share: successes.rate(), interval: [interval.low, interval.high] }
    }
}
