//! A season that is learnt while values arrive.
//!
//! It foretells the next value, for which three cycles and a mean are enough; the season of a finished series (in
//! `change_point`) is taken away from what is then judged, and must be certain and robust: eight cycles and medians.

use std::collections::VecDeque;

/// How many of the newest values are kept for finding a period.
const KEPT: usize = 4096;
/// After how many values a period is looked for first, and by which factor the waits grow.
const FIRST_LOOK: usize = 256;
const LOOK_FACTOR: f64 = 1.25;
/// How many cycles the kept values must hold.
const CYCLES_MIN: usize = 3;
/// The shortest period.
const PERIOD_MIN: usize = 8;
/// How much smaller differences over one period must be than the largest at a shorter lag.
const DIP: f64 = 0.5;
/// Periods that dip nearly as deep as the deepest count as much: the shortest of them is meant, not its multiples.
const NEARLY: f64 = 1.1;
/// Over how many cycles the profile is averaged.
const PROFILE_CYCLES: f64 = 6.0;

/// The mean of each phase of the period, if the series has one.
#[derive(Debug, Clone, Default)]
pub(super) struct Season {
    newest: VecDeque<f64>,
    seen: usize,
    next_look: usize,
    /// By phase: the mean and over how many values.
    profile: Vec<(f64, f64)>,
}

impl Season {
    /// Takes the next value and gives its deviation from what the season foretold; `None` while there is no season. The
    /// flag says that a new period was found just before this value.
    pub(super) fn push(&mut self, value: f64) -> (Option<f64>, bool) {
        let is_new = self.seen == self.next_look.max(FIRST_LOOK) && self.look();
        let residual = if self.profile.is_empty() {
            None
        } else {
            let phase = self.seen % self.profile.len();
            let residual = value - self.profile[phase].0;
            learn(&mut self.profile[phase], value);
            Some(residual)
        };
        if self.newest.len() == KEPT {
            self.newest.pop_front();
        }
        self.newest.push_back(value);
        self.seen += 1;
        (residual, is_new)
    }

    /// Looks for a period among the kept values; says whether there is another than before.
    fn look(&mut self) -> bool {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of values")]
        let next = (self.seen as f64 * LOOK_FACTOR) as usize + 1;
        self.next_look = next;
        let kept = self.newest.make_contiguous();
        let Some(period) = period(kept) else { return false };
        if period == self.profile.len() {
            return false;
        }
        self.profile = vec![(0.0, 0.0); period];
        let first = kept.len().saturating_sub(4 * period);
        for (offset, value) in kept[first..].iter().enumerate() {
            let index = self.seen - kept.len() + first + offset;
            learn(&mut self.profile[index % period], *value);
        }
        true
    }
}

/// Moves a phase's mean towards a value: the mean of the first few, an exponential one afterwards.
fn learn(phase: &mut (f64, f64), value: f64) {
    phase.1 = (phase.1 + 1.0).min(PROFILE_CYCLES);
    phase.0 += (value - phase.0) / phase.1;
}

/// The shortest lag at which the mean absolute difference is hardly larger than the smallest relative to those before it, if it is
/// less than half of the largest before it.
fn period(values: &[f64]) -> Option<usize> {
    let longest = values.len() / CYCLES_MIN;
    if longest < PERIOD_MIN {
        return None;
    }
    let mut largest = 0.0_f64;
    let mut dips = vec![f64::INFINITY; longest + 1];
    for (lag, dip) in dips.iter_mut().enumerate().skip(1) {
        let pairs = values[lag..].iter().zip(values);
        let mean =
            pairs.map(|(later, earlier)| (later - earlier).abs()).sum::<f64>() / (values.len() - lag) as f64;
        if largest > 0.0 {
            *dip = mean / largest;
        }
        largest = largest.max(mean);
    }
    let deepest = dips[PERIOD_MIN..].iter().copied().fold(f64::INFINITY, f64::min);
    if deepest >= DIP {
        return None;
    }
    (PERIOD_MIN..=longest).find(|lag| dips[*lag] <= NEARLY * deepest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_learnt_and_the_memory_stays_the_same() {
        let mut season = Season::default();
        let value = |index: usize| f64::from(u32::try_from(index % 24).unwrap() % 7) * 10.0;
        let mut worst_later = 0.0_f64;
        for index in 0..20_000 {
            let (residual, _) = season.push(value(index));
            if index > 300 {
                worst_later = worst_later.max(residual.expect("a season by now").abs());
            }
        }
        assert!(worst_later < 1e-9, "{worst_later}");
        assert_eq!((season.profile.len(), season.newest.len()), (24, KEPT));
        assert!(season.newest.capacity() <= 2 * KEPT);
    }

    #[test]
    fn noise_has_no_period() {
        let mut state = 3_u64;
        let values: Vec<f64> = (0..2000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 11) as f64
            })
            .collect();
        assert_eq!(period(&values), None);
    }
}
