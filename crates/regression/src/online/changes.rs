//! Whether the level of a stream has changed.

use std::collections::VecDeque;

use evoseal_types::Direction;

use super::blocks::Blocks;
use super::{check_value, is_harmful};
use crate::Result;
use crate::change_point::{ChangePoint, RATIO_95, SCALE_FREEDOM, against_estimated, noise_of, tame_one};
use crate::statistics::{normal_limit, normal_outside};

/// How many of the newest values are kept: for the noise, and for the exact place of a change.
const KEPT: usize = 512;
/// How many values must be known before a change. After it one is enough: it was judged with the three behind it.
const LEAST: usize = 3;
/// How many values must have been seen before the noise is known.
const SEEN_MIN: usize = 32;
/// The noise is looked at anew when so many values have come, or after an eighth of what is kept.
const LOOK_SHARE: usize = 8;
/// The chance of any false alarm, ever.
const FALSE_ALARM: f64 = 0.05;
/// How many values on each side of a value say whether it is an outlier; it is therefore judged so many values later.
const HALF: usize = 3;
/// How many standard deviations a value may lie from the median of these.
const REACH: f64 = 3.0;

/// Detects changes of level as values arrive, with memory that does not grow.
///
/// After each value the best cut of the stretch since the last change is sought: the likelihood ratio statistic of two levels against one,
/// over cuts whose spacing grows with their age (about eight per doubling). It is an alarm if its chance under constant level, times
/// the number of cuts looked at, is below `0.05 / (m (m + 1))` after `m` values: these chances sum to 0.05, so that for
/// independent normal noise of known scale **the chance of any false alarm, however long the stream, is at most 5 %** between two changes.
/// The scale and the dependence of neighbours are estimated from the newest 512 values, as
/// [`change_points`](crate::change_points) does; a season counts as noise. Isolated outliers are drawn in, for which a value waits for the three after it.
///
/// ```
/// use evoseal_regression::OnlineChanges;
/// let mut detector = OnlineChanges::new(None);
/// let mut changes = Vec::new();
/// for index in 0..120 {
///     let noise = f64::from((index * 37) % 11) * 0.1;
///     changes.extend(detector.push(if index < 80 { 20.0 } else { 25.0 } + noise)?);
/// }
/// assert_eq!(changes.iter().map(|change| change.index).collect::<Vec<_>>(), [80]);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct OnlineChanges {
    direction: Option<Direction>,
    seen: usize,
    kept: VecDeque<f64>,
    /// Tamed values since the last change, less `origin`.
    stretch: Blocks,
    origin: f64,
    noise: Option<Noise>,
    next_look: usize,
}

#[derive(Debug, Clone, Copy)]
struct Noise {
    /// Long-run, in the square of the stream's unit.
    long_run: f64,
    /// Standard deviation of single values.
    single: f64,
}

impl OnlineChanges {
    /// Starts with nothing seen. The direction only says which changes are harmful.
    pub fn new(direction: Option<Direction>) -> Self {
        Self {
            direction,
            seen: 0,
            kept: VecDeque::with_capacity(KEPT),
            stretch: Blocks::default(),
            origin: 0.0,
            noise: None,
            next_look: SEEN_MIN,
        }
    }

    /// Takes the next value, finite and at most 1e150 in size; gives the change that has become certain with it, if any.
    /// Its index counts from 0 and lies in the past.
    pub fn push(&mut self, value: f64) -> Result<Option<ChangePoint>> {
        check_value(value)?;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(value);
        self.seen += 1;
        if self.seen >= self.next_look {
            self.look();
        }
        if self.seen <= HALF {
            return Ok(None);
        }
        let tamed = self.tamed(self.kept.len() - 1 - HALF);
        if self.stretch.count() == 0 {
            self.origin = tamed;
        }
        self.stretch.push(tamed - self.origin);
        Ok(self.noise.and_then(|noise| self.decide(noise)))
    }

    /// Estimates the noise from what is kept.
    fn look(&mut self) {
        self.next_look = self.seen + (self.kept.len() / LOOK_SHARE).max(1);
        self.noise =
            noise_of(self.kept.make_contiguous()).map(|(long_run, single)| Noise { long_run, single });
    }

    /// A kept value, drawn towards the median of its neighbourhood.
    fn tamed(&self, place: usize) -> f64 {
        let (first, last) = (place.saturating_sub(HALF), (place + HALF).min(self.kept.len() - 1));
        let mut near = [0.0; 2 * HALF + 1];
        let near = &mut near[..=last - first];
        near.iter_mut().zip(self.kept.range(first..=last)).for_each(|(to, from)| *to = *from);
        // While nothing is known of the noise, the median itself.
        tame_one(self.kept[place], near, self.noise.map_or(0.0, |noise| REACH * noise.single))
    }

    fn decide(&mut self, noise: Noise) -> Option<ChangePoint> {
        let m = self.stretch.count();
        if noise.long_run <= 0.0 {
            return None;
        }
        let cut = self.stretch.best_cut(LEAST)?;
        let tests = cut.cuts as f64 * m as f64 * (m + 1) as f64;
        let freedom = SCALE_FREEDOM * self.kept.len() as f64;
        let ratio = cut.gain / noise.long_run;
        if ratio < against_estimated(threshold(FALSE_ALARM / tests), freedom) {
            return None;
        }
        let statistic = freedom * (ratio / freedom).ln_1p();
        let chance = (normal_outside(statistic.sqrt()) * tests).min(1.0);
        let before = self.origin + self.stretch.older_mean(cut.newer);
        // The newest value that the stretch knows has index `seen - 1 - HALF`.
        let known = self.seen - HALF;
        let (newer, interval) = self.locate(cut.newer, before, noise);
        // All values since the change that are kept, those that the stretch does not know yet included.
        let since = (newer + HALF).min(self.kept.len());
        let sum: f64 = (self.kept.len() - since..self.kept.len()).map(|place| self.tamed(place)).sum();
        let after = sum / since as f64;
        self.restart(newer);
        let relative_change = (after - before) / before.abs();
        Some(ChangePoint {
            index: known - newer,
            before,
            after,
            relative_change: relative_change.is_finite().then_some(relative_change),
            confidence: 1.0 - chance,
            interval: (known - interval.0, known - interval.1),
            is_harmful: is_harmful(after - before, self.direction),
        })
    }

    /// Begins a new stretch with the newest known values, as far as they are kept.
    fn restart(&mut self, newer: usize) {
        let known = self.kept.len() - HALF;
        self.stretch = Blocks::default();
        for place in known.saturating_sub(newer)..known {
            let tamed = self.tamed(place);
            if self.stretch.count() == 0 {
                self.origin = tamed;
            }
            self.stretch.push(tamed - self.origin);
        }
    }

    /// How many of the known values lie after the change, exactly, and after the ends of its 95 % confidence set: the place that
    /// parts the values around the cut best, as far as they are kept.
    fn locate(&self, newer: usize, before: f64, noise: Noise) -> (usize, (usize, usize)) {
        let known = self.kept.len() - HALF;
        // As far back again as the cut lies, and a little more: it is known to a share of its age.
        let reach = (2 * newer + LEAST).min(known).min(self.stretch.count().saturating_sub(LEAST));
        if newer > known || reach < newer {
            return (newer, (newer, newer));
        }
        let values: Vec<f64> = (known - reach..known).map(|place| self.tamed(place) - before).collect();
        let total: f64 = values.iter().sum();
        // The older level is known from a longer past: what a place earns is the newer side's distance from it.
        let mut sum = total;
        let gains: Vec<f64> = values
            .iter()
            .enumerate()
            .map(|(place, value)| {
                let gain = sum * sum / (reach - place) as f64;
                sum -= value;
                gain
            })
            .collect();
        let candidates = 0..reach;
        let best = candidates.clone().max_by(|a, b| gains[*a].total_cmp(&gains[*b])).unwrap_or(0);
        let near = |place: &usize| gains[best] - gains[*place] <= RATIO_95 * noise.long_run;
        let low = candidates.clone().find(near).unwrap_or(best);
        let high = candidates.rev().find(near).unwrap_or(best);
        (reach - best, (reach - low, reach - high))
    }
}

/// The value that chi squared with one degree of freedom exceeds with this chance.
fn threshold(chance: f64) -> f64 {
    let z = normal_limit(chance.max(1e-300));
    z * z
}
