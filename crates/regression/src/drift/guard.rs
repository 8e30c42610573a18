//! The guard itself: recursive residuals and a mixture over the start of a drift.

use evoseal_types::Direction;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::Moments;
use super::spread::{Spread, Step};
use crate::sequential::log_mean_exp;
use crate::statistics::{check_values, invalid, normal_quantile};
use crate::{Error, Result};

/// The sizes of harm that are looked for, in standard errors of one step.
const SHIFTS: [f64; 4] = [0.35, 0.7, 1.2, 2.0];

/// The share of the prior that stands on a drift from the first step on.
const FROM_START: f64 = 0.5;

/// Within how many steps half of the remaining prior falls.
const START_HORIZON: f64 = 100.0;

/// From how many degrees of freedom on Student's t and the normal distribution are the same for this purpose.
const KNOWN_SPREAD: f64 = 300.0;

/// The logarithm of no evidence: finite, so that a stored guard is read back as it was.
const NOTHING: f64 = f64::MIN;

/// The largest residual that counts: one wild step is no drift, and under no drift a cap only takes evidence away.
const RESIDUAL_MAX: f64 = 2.5;

/// How many of the newest steps say where the level is now.
const NEWEST: usize = 5;

/// Watches one metric of the accepted lineage for harm that accumulates.
///
/// **Method.** Step t brings the samples of one more accepted version, with mean `y`. Its recursive residual (Brown, Durbin
/// and Evans 1975) is `w = s (y - m) / sqrt(v (1 / n + 1 / N))`, with the harmful sign `s` and the mean `m` of all `N`
/// earlier samples: as long as the level does not change, residuals are independent and standard normal, although the true
/// level is unknown. The variance `v` is pooled within steps. Where steps scatter more than the samples within them explain, and
/// where they are single values, it is the long-run variance of a first-order autoregression of the steps' means, estimated from
/// their differences, which a slow drift hardly moves, and with the upper limit of its coefficient: so wandering widens
/// the residuals. Until `v` is well known, residuals are brought from Student's t to the normal scale.
///
/// The evidence for a harm of `d` standard errors that began at step j is `prod over i >= j of exp(d w_i - d^2 / 2)`. It is
/// averaged over four sizes `d` and over j: half of the prior on the first step, the rest spread over all later ones. Under
/// no drift this is, residuals being capped at 2.5, at most a martingale that starts at one, so by Ville's inequality the chance that it *ever* reaches
/// `1 / alpha` is at most `alpha`, however long the run (compare the e-detectors of Shin, Ramdas and Rinaldo 2024). The
/// state has a fixed size.
///
/// **Assumptions.** Means of steps are about normal, and the machine itself is steady: a machine that slows down, or wanders so
/// slowly that dozens of steps see one side of it, is a drift as well. Steps may depend on the ones before them, as an
/// autoregression does: at a coefficient of 0.7 between samples, and 3, 5, 10 or 30 of them a step, at most one in forty flat runs of a
/// thousand iterations has an alarm (`evoseal detect simulate drift --noise autoregressive`). The price is sight: what wanders
/// hides drifts, and of those that would accumulate five percent few are caught in time. A dependence too weak to be told from chance is not
/// widened for: at a coefficient of 0.3 about one flat run in twenty has an alarm with ten samples a step, one in thirteen with three and
/// one in ten with two (`--noise weakly-autoregressive`).
///
/// Where a baseline is measured again beside each version, in turn, give both to [`observe_beside`](Self::observe_beside): what
/// wanders cancels in the pairs, and all those drifts are caught (`--baseline`).
///
/// **Needs.** Nothing is said before the scatter is known: nine steps, and sixty more samples than steps; thirty-one steps
/// where they are single values. Values without any spread give evidence only once something has scattered. NaN and infinities are
/// refused.
///
/// ```
/// use evoseal_regression::DriftGuard;
/// use evoseal_types::Direction;
/// let mut guard = DriftGuard::new(Direction::Increase, 0.05)?;
/// let scatter = [0.3, -0.4, 0.1, 0.5, -0.2, -0.3];
/// let mut alarm = None;
/// for step in 0..60 {
///     let level = 100.0 + 0.05 * f64::from(step);
///     alarm = guard.observe(&scatter.map(|noise| level + noise))?;
///     if alarm.is_some() {
///         break;
///     }
/// }
/// assert!(alarm.is_some_and(|alarm| alarm.change > 0.0 && alarm.change < 0.01), "{alarm:?}");
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftGuard {
    sign: f64,
    alpha: f64,
    /// How much harm against the level is tolerated, as a fraction of it.
    tolerated: f64,
    /// All samples since the anchor as one group.
    level: Moments,
    spread: Spread,
    newest: Vec<f64>,
    steps: usize,
    residuals: usize,
    /// The logarithm of the evidence for each size, over all starts so far.
    logs: [f64; SHIFTS.len()],
    /// How much of the prior is on starts that are still to come.
    to_come: f64,
    /// The likeliest start for each size: the CUSUM, the step at which it left zero, and the level before that.
    sums: [Onset; SHIFTS.len()],
}

/// Where the cumulative sum of one size last left zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Onset {
    sum: f64,
    step: usize,
    level: f64,
}

/// A drift that is certain at the guard's error rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DriftAlarm {
    /// The level before the drift, in the metric's unit; the baseline's where one was measured beside.
    pub anchor: f64,
    /// The level now: the mean of the newest steps since the drift began, at most five, in the metric's unit; relative to the baseline where one was measured
    /// beside.
    pub level: f64,
    /// The change since the anchor, as a fraction of it; absolute where the anchor is zero.
    pub change: f64,
    /// The zero-based step at which the drift most likely began.
    pub since: usize,
    /// The e-value against "no drift in the harmful direction".
    pub e_value: f64,
}

impl DriftGuard {
    /// A guard that raises a false alarm in a run of any length with probability at most `alpha`, strictly between 0 and 1.
    pub fn new(direction: Direction, alpha: f64) -> Result<Self> {
        if !(alpha > 0.0 && alpha < 1.0) {
            return Err(invalid("alpha", format!("{alpha} does not lie strictly between 0 and 1")));
        }
        Ok(Self {
            sign: direction.harm_sign(),
            alpha,
            tolerated: 0.0,
            level: Moments::default(),
            spread: Spread::default(),
            newest: Vec::new(),
            steps: 0,
            residuals: 0,
            logs: [NOTHING; SHIFTS.len()],
            to_come: 1.0,
            sums: [Onset::default(); SHIFTS.len()],
        })
    }

    /// Tolerates so much accumulated harm, a fraction of the level, finite and 0 or more. The level is the mean of all earlier
    /// steps, which a drift raises with it: by the time of an alarm about twice as much may have accumulated, unless a baseline
    /// is measured beside.
    pub fn tolerating(mut self, fraction: f64) -> Result<Self> {
        if !(fraction >= 0.0 && fraction.is_finite()) {
            return Err(invalid("tolerated drift", format!("{fraction} is not a fraction of zero or more")));
        }
        self.tolerated = fraction;
        Ok(self)
    }

    /// Takes the samples of the next accepted version. After an alarm the evidence starts anew, against the same level.
    pub fn observe(&mut self, values: &[f64]) -> Result<Option<DriftAlarm>> {
        check_values("a step of a drift guard", values, 1)?;
        let step = Moments::of(values);
        let residual = self.residual(step)?;
        let anchor = self.level.mean;
        self.take(step);
        let alarm = match residual {
            Some(residual) => self.weigh(residual, anchor),
            None => None,
        };
        self.level = self.level.join(step);
        Ok(alarm)
    }

    /// Takes the samples of the next accepted version and those of the fixed baseline, measured beside it.
    ///
    /// The residual is that of the relative difference of the two means, which needs no estimate of the level. Both sides
    /// need two values or more, and a baseline whose mean is not zero. Sides of equal length are taken for pairs measured in turn, whose
    /// common wandering cancels; for others the scatter of both adds up. One guard is used in one of the two ways only.
    pub fn observe_beside(&mut self, baseline: &[f64], values: &[f64]) -> Result<Option<DriftAlarm>> {
        const WHAT: &str = "a step of a drift guard beside a baseline";
        check_values(WHAT, baseline, 2)?;
        check_values(WHAT, values, 2)?;
        let (old, new) = (Moments::of(baseline), Moments::of(values));
        if old.mean.abs() <= 0.0 {
            return Err(Error::Data {
                what: WHAT,
                needed: "a baseline that is not zero",
                found: "a mean of zero".to_owned(),
            });
        }
        let scale = old.mean.abs();
        let change = (new.mean - old.mean) / scale;
        self.remember(change);
        let step = if baseline.len() == values.len() {
            paired(baseline, values, change, old.mean)
        } else {
            Step {
                mean: change,
                count: 1.0 / (1.0 / old.count + (new.mean / scale).powi(2) / new.count),
                squares: (old.squares + new.squares) / (scale * scale),
                degrees_of_freedom: old.degrees_of_freedom() + new.degrees_of_freedom(),
            }
        };
        let spread = self.spread.with(step);
        self.spread.take(step);
        let Some(spread) = spread else { return Ok(None) };
        let harm = self.sign * change - self.tolerated;
        let residual = normal_scale(harm / (spread.variance / step.count).sqrt(), spread.degrees_of_freedom)?;
        Ok(self.weigh(residual, 0.0).map(|alarm| DriftAlarm {
            anchor: old.mean,
            change: alarm.level,
            ..alarm
        }))
    }

    /// Makes a version whose level is known to be better the new anchor: harm is counted from there. Its samples must not
    /// be those by which it was chosen, for these are better by luck. The spread stays known, the error rate too.
    pub fn anchor_at(&mut self, values: &[f64]) -> Result<()> {
        check_values("an anchor", values, 1)?;
        let step = Moments::of(values);
        let scale = if self.level.mean.abs() > 0.0 { (step.mean / self.level.mean).powi(2) } else { 1.0 };
        self.spread.rescale(scale);
        self.newest.clear();
        self.level = Moments::default();
        self.take(step);
        self.level = step;
        Ok(())
    }

    /// The e-value now against "no drift in the harmful direction".
    pub fn e_value(&self) -> f64 {
        (log_mean_exp(&self.logs).exp() + self.to_come).min(f64::MAX)
    }

    /// How many steps were observed.
    pub const fn steps(&self) -> usize {
        self.steps
    }

    /// The standardised distance of a step from all before it; `None` for the first, and while the spread is unknown.
    fn residual(&self, step: Moments) -> Result<Option<f64>> {
        if self.level.count <= 0.0 {
            return Ok(None);
        }
        let apart = 1.0 / step.count + 1.0 / self.level.count;
        let Some(spread) = self.spread.with(step.into()) else { return Ok(None) };
        let harm = self.sign * (step.mean - self.level.mean) - self.tolerated * self.level.mean.abs();
        normal_scale(harm / (spread.variance * apart).sqrt(), spread.degrees_of_freedom).map(Some)
    }

    /// Learns from a step.
    fn take(&mut self, step: Moments) {
        self.spread.take(step.into());
        self.remember(step.mean);
    }

    fn remember(&mut self, level: f64) {
        self.steps += 1;
        if self.newest.len() == NEWEST {
            self.newest.remove(0);
        }
        self.newest.push(level);
    }

    /// Multiplies the evidence of one residual in; `anchor` is the level before it.
    fn weigh(&mut self, residual: f64, anchor: f64) -> Option<DriftAlarm> {
        let residual = residual.min(RESIDUAL_MAX);
        let arriving = self.arriving();
        self.residuals += 1;
        self.to_come -= arriving;
        for ((log, onset), shift) in self.logs.iter_mut().zip(&mut self.sums).zip(SHIFTS) {
            let gain = shift * residual - shift * shift / 2.0;
            let joined = log.max(arriving.ln());
            *log = joined + ((*log - joined).exp() + (arriving.ln() - joined).exp()).ln() + gain;
            if onset.sum <= 0.0 {
                *onset = Onset { sum: 0.0, step: self.steps - 1, level: anchor };
            }
            onset.sum = (onset.sum + gain).max(0.0);
        }
        let e_value = self.e_value();
        if e_value < 1.0 / self.alpha {
            return None;
        }
        let onset =
            self.sums.iter().copied().reduce(|best, next| if next.sum > best.sum { next } else { best });
        let onset = onset.expect("there are sizes");
        let since = &self.newest[self.newest.len().saturating_sub(self.steps - onset.step)..];
        let level = since.iter().sum::<f64>() / since.len() as f64;
        let scale = if onset.level.abs() > 0.0 { onset.level.abs() } else { 1.0 };
        self.logs = [NOTHING; SHIFTS.len()];
        self.to_come = 1.0;
        self.residuals = 0;
        self.sums = [Onset::default(); SHIFTS.len()];
        Some(DriftAlarm {
            anchor: onset.level,
            level,
            change: (level - onset.level) / scale,
            since: onset.step,
            e_value,
        })
    }

    /// The share of the prior for a drift that begins with the next residual.
    fn arriving(&self) -> f64 {
        let (k, h) = (self.residuals as f64, START_HORIZON);
        let spread = (1.0 - FROM_START) * h / ((h + k) * (h + k + 1.0));
        if self.residuals == 0 { FROM_START + spread } else { spread }
    }
}

/// The step of values measured in turn with those of a baseline with the mean `level`: what both have in common cancels in the
/// differences `y - (1 + change) x`, whose mean is zero (the pairs of Fieller's interval).
fn paired(baseline: &[f64], values: &[f64], change: f64, level: f64) -> Step {
    let ratio = 1.0 + change * level.signum();
    let squares = baseline.iter().zip(values).map(|(old, new)| ((new - ratio * old) / level).powi(2)).sum();
    let count = values.len() as f64;
    Step { mean: change, count, squares, degrees_of_freedom: count - 1.0 }
}

/// A t-distributed residual brought to where a standard normal one would be.
fn normal_scale(residual: f64, degrees_of_freedom: f64) -> Result<f64> {
    if degrees_of_freedom >= KNOWN_SPREAD {
        return Ok(residual);
    }
    let invalid = |error: String| invalid("degrees of freedom", error);
    let student = StudentsT::new(0.0, 1.0, degrees_of_freedom).map_err(|error| invalid(error.to_string()))?;
    // By the smaller tail, where digits are left.
    let tail = student.sf(residual.abs()).max(f64::MIN_POSITIVE);
    Ok(-normal_quantile(tail).copysign(-residual))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Ten values around a level with one percent of scatter, drawn anew for each number.
    fn step(level: f64, number: usize) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(number as u64);
        // The sum of twelve uniform numbers is normal enough.
        let mut scatter = || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
        (0..10).map(|_| level * (1.0 + 0.01 * scatter())).collect()
    }

    #[test]
    fn a_flat_run_stays_quiet_and_a_slow_drift_is_found_with_its_start() {
        let mut guard = DriftGuard::new(Direction::Increase, 0.05).unwrap();
        for number in 0..100 {
            assert_eq!(guard.observe(&step(50.0, number)).unwrap(), None, "{number}");
        }
        let found = (100..200).find_map(|number| {
            let level = 50.0 * (1.0 + 0.001 * (number - 99) as f64);
            guard.observe(&step(level, number)).unwrap()
        });
        let alarm = found.expect("a drift of ten percent");
        assert!(alarm.since >= 95 && alarm.since <= 115, "{alarm:?}");
        assert!(alarm.change > 0.0 && alarm.change < 0.03 && alarm.e_value >= 20.0, "{alarm:?}");
    }

    #[test]
    fn improvement_is_no_drift_and_a_new_anchor_counts_from_there() {
        let mut guard = DriftGuard::new(Direction::Decrease, 0.05).unwrap();
        for number in 0..50 {
            assert_eq!(guard.observe(&step(50.0 + number as f64, number)).unwrap(), None);
        }
        guard.anchor_at(&step(100.0, 50)).unwrap();
        let found =
            (0..60).find_map(|number| guard.observe(&step(100.0 - 0.2 * number as f64, number)).unwrap());
        assert!(found.is_some_and(|alarm| alarm.anchor > 97.0 && alarm.change < 0.0), "{found:?}");
    }

    #[test]
    fn beside_a_baseline_a_slowing_machine_is_no_drift() {
        let (mut beside, mut alone) = (
            DriftGuard::new(Direction::Increase, 0.05).unwrap(),
            DriftGuard::new(Direction::Increase, 0.05).unwrap(),
        );
        let mut alarms = (0, 0);
        for number in 0..100 {
            let machine = 10.0 + 0.05 * number as f64;
            let values = step(machine, number);
            alarms.0 +=
                usize::from(beside.observe_beside(&step(machine, number + 500), &values).unwrap().is_some());
            alarms.1 += usize::from(alone.observe(&values).unwrap().is_some());
        }
        assert!(alarms.0 == 0 && alarms.1 > 0, "{alarms:?}");
        let worse = (1000..1040).find_map(|number| {
            beside.observe_beside(&step(10.0, number), &step(10.3, number + 500)).unwrap()
        });
        assert!(worse.is_some_and(|alarm| (alarm.change - 0.03).abs() < 0.015), "{worse:?}");
    }

    #[test]
    fn what_is_tolerated_may_accumulate_and_more_may_not() {
        let alarm_at = |tolerated: f64| {
            let guard = DriftGuard::new(Direction::Increase, 0.05).unwrap();
            let mut guard = guard.tolerating(tolerated).unwrap();
            (0..200).find(|number| {
                let values = step(10.0 * 1.002_f64.powf(*number as f64), *number);
                guard.observe_beside(&step(10.0, number + 500), &values).unwrap().is_some()
            })
        };
        let (none, five) = (alarm_at(0.0).unwrap(), alarm_at(0.05).unwrap());
        assert!(none < 12 && five > 24 && five < 35, "{none} {five}");
        assert!(DriftGuard::new(Direction::Increase, 0.05).unwrap().tolerating(f64::NAN).is_err());
    }

    #[test]
    fn single_values_are_judged_once_their_spread_is_known() {
        let mut guard = DriftGuard::new(Direction::Increase, 0.05).unwrap();
        let found = (0..100).find(|number| {
            let value = 10.0 + 0.1 * (f64::from(*number) * 2.39).sin() + if *number > 40 { 0.5 } else { 0.0 };
            guard.observe(&[value]).unwrap().is_some()
        });
        assert!(found.is_some_and(|number| number > 40 && number < 50), "{found:?}");
    }

    #[test]
    fn what_is_no_number_is_refused_and_constants_are_no_evidence() {
        let mut guard = DriftGuard::new(Direction::Increase, 0.05).unwrap();
        assert!(guard.observe(&[]).is_err() && guard.observe(&[f64::NAN]).is_err());
        assert!(guard.observe_beside(&[0.0, 0.0], &[1.0, 1.0]).is_err());
        for _ in 0..50 {
            assert_eq!(guard.observe(&[3.0, 3.0, 3.0]).unwrap(), None);
        }
        assert!(DriftGuard::new(Direction::Increase, 0.0).is_err());
    }
}
