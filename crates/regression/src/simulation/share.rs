//! A simulated share with its uncertainty.

use serde::{Deserialize, Serialize};

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
        if trials == 0 {
            return Self { hits, trials, share: 0.0, interval: [0.0, 1.0] };
        }
        let (n, share, z2) = (trials as f64, hits as f64 / trials as f64, 1.959_963_984_540_054_f64.powi(2));
        let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = (z2 * (share * (1.0 - share) / n + z2 / (4.0 * n * n))).sqrt() / (1.0 + z2 / n);
        Self { hits, trials, share, interval: [(centre - half).max(0.0), (centre + half).min(1.0)] }
    }
}
