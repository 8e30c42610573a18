//! Whether the newest value of a stream stands out.

use evoseal_types::{Direction, Severity};

use super::season::Season;
use super::{check_value, is_harmful};
use crate::{Anomaly, Result};

/// Over how many values the short mean runs.
const SHORT: usize = 16;
/// From how many standard deviations on a short mean stands out.
const LIMIT: f64 = 3.0;
/// How many times further than a short mean a single value must lie out to stand out.
const SINGLE: f64 = 2.5;
/// How many values must have been seen before any can stand out.
const SEEN_MIN: u32 = 20;
/// For how many values after an alarm there is no other: they belong to the same event.
const QUIET: usize = 50;
/// How many values the long mean and variance remember: enough to be steady, and still they follow a series that changes for good.
const REMEMBERED: f64 = 10_000.0;

/// Marks values that stand out from all before them, with memory that does not grow.
///
/// Two numbers are followed: each value, and the mean of the newest 16. Each is compared with its own mean and standard deviation
/// over the past, without itself (all of it at first, exponentially forgetting over 10 000 values); the short mean stands out from
/// 3 standard deviations on, a single value from 7.5 on. Once a period is found (among the last 4 096
/// values, three cycles at least), deviations from its learnt profile take the place of the values. The score is the larger of the two
/// distances in units of its limit over 3, with the sign of the deviation, so that 3 is the limit of both. After an
/// alarm 50 values are quiet.
///
/// The limits are not probabilities: on independent normal noise about one value in a thousand is marked, where noise has heavy tails or a
/// long memory more. After a change of level values stand out until the long mean has followed.
///
/// **What it misses.** On the Numenta benchmark (`cargo xtask bench regression --data DIR`) two fifths of what is lost are
/// nine of 73 windows without an alarm, two fifths false alarms, one fifth alarms that come late in a window. In eight of the nine
/// windows every value is smaller than one that the series has shown before: the earlier event has widened the standard deviation, and
/// nothing but the size of a deviation is looked at. In the ninth a series that is zero most of the time is zero. A value that is odd for
/// its hour rather than for its size is seen only where a period was found, which takes three cycles.
///
/// ```
/// use evoseal_regression::OnlineAnomalies;
/// let mut detector = OnlineAnomalies::new(None);
/// let mut alarms = Vec::new();
/// for index in 0..200 {
///     let value = if index == 150 { 60.0 } else { 20.0 + f64::from(index % 5) };
///     alarms.extend(detector.push(value)?);
/// }
/// assert_eq!(alarms.iter().map(|alarm| alarm.index).collect::<Vec<_>>(), [150]);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct OnlineAnomalies {
    direction: Option<Direction>,
    seen: usize,
    season: Season,
    single: Follower,
    short: Follower,
    newest: [f64; SHORT],
    filled: usize,
    last_alarm: Option<usize>,
}

impl OnlineAnomalies {
    /// Starts with nothing seen. With a direction only values on its harmful side are marked.
    pub fn new(direction: Option<Direction>) -> Self {
        Self {
            direction,
            seen: 0,
            season: Season::default(),
            single: Follower::default(),
            short: Follower::default(),
            newest: [0.0; SHORT],
            filled: 0,
            last_alarm: None,
        }
    }

    /// Takes the next value, finite and at most 1e150 in size, and says whether it stands out. The index counts from 0.
    pub fn push(&mut self, value: f64) -> Result<Option<Anomaly>> {
        check_value(value)?;
        let index = self.seen;
        self.seen += 1;
        let (residual, is_new_season) = self.season.push(value);
        if is_new_season {
            // Deviations from a profile have another scale than before.
            self.single = Follower::default();
            self.short = Follower::default();
            self.filled = 0;
        }
        let value = residual.unwrap_or(value);
        self.newest[self.filled % SHORT] = value;
        self.filled += 1;
        let held = self.filled.min(SHORT);
        let mean = self.newest[..held].iter().sum::<f64>() / held as f64;
        let scores = [self.single.push(value) / SINGLE, self.short.push(mean)];
        let score = if scores[0].abs() > scores[1].abs() { scores[0] } else { scores[1] };
        let is_quiet = self.last_alarm.is_some_and(|last| index - last <= QUIET);
        if score.abs() < LIMIT || is_quiet || is_harmful(score, self.direction) == Some(false) {
            return Ok(None);
        }
        self.last_alarm = Some(index);
        let severity = if score.abs() > 1.5 * LIMIT { Severity::High } else { Severity::Medium };
        Ok(Some(Anomaly { method: "online".to_owned(), severity, score, index }))
    }
}

/// The mean and variance of what was seen.
#[derive(Debug, Clone, Copy, Default)]
struct Follower {
    seen: u32,
    mean: f64,
    variance: f64,
}

impl Follower {
    /// How many standard deviations a value lies from the mean of those before it, which it then joins. Zero while too little is
    /// known; the largest float where nothing scattered before.
    fn push(&mut self, value: f64) -> f64 {
        let distance = value - self.mean;
        let score = if self.seen <= SEEN_MIN || distance.abs() <= 0.0 {
            0.0
        } else {
            (distance / self.variance.sqrt()).clamp(f64::MIN, f64::MAX)
        };
        self.seen = self.seen.saturating_add(1);
        let weight = (1.0 / f64::from(self.seen)).max(1.0 / REMEMBERED);
        self.mean += weight * distance;
        self.variance = (1.0 - weight) * (self.variance + weight * distance * distance);
        score
    }
}
