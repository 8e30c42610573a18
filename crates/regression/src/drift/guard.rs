//! The guard itself: recursive residuals and a mixture over the start of a drift.

use evoseal_types::Direction;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::Moments;
use crate::sequential::log_mean_exp;
use crate::statistics::{check_values, invalid};
use crate::{Error, Result};

/// The sizes of harm that are looked for, in standard errors of one step.
const SHIFTS: [f64; 4] = [0.35, 0.7, 1.2, 2.0];

/// The share of the prior that stands on a drift from the first step on.
const FROM_START: f64 = 0.5;

/// Within how many steps half of the remaining prior falls.
const START_HORIZON: f64 = 100.0;

/// From how many degrees of freedom on Student's t and the normal distribution are the same for this purpose.
const KNOWN_SPREAD: f64 = 300.0;

/// How many degrees of freedom the spread must have before residuals count.
const SPREAD_LEAST: f64 = 4.0;

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
/// level is unknown. The variance `v` is pooled within steps, and raised where steps scatter more than the samples within
/// them explain (by the mean square of successive differences, von Neumann 1941, which a slow drift hardly moves). Until it
/// is well known, residuals are brought from Student's t to the normal scale.
///
/// The evidence for a harm of `d` standard errors that began at step j is `prod over i >= j of exp(d w_i - d^2 / 2)`. It is
/// averaged over four sizes `d` and over j: half of the prior on the first step, the rest spread over all later ones. Under
/// no drift this is, residuals being capped at 2.5, at most a martingale that starts at one, so by Ville's inequality the chance that it *ever* reaches
/// `1 / alpha` is at most `alpha`, however long the run (compare the e-detectors of Shin, Ramdas and Rinaldo 2024). The
/// state has a fixed size.
///
/// **Assumptions.** Steps are independent given the level, their means about normal, and the machine itself is steady:
/// a machine that slows down is a drift as well, and where each measurement depends on the one before it
/// (autoregressive, 0.7) every fourth flat run of a thousand steps has an alarm (`evoseal detect simulate drift --noise
/// autoregressive`). Where a baseline is measured again beside each version, give both to
/// [`observe_beside`](Self::observe_beside): then the machine cancels. At least two samples a step at some steps, or a dozen
/// steps, before anything can be said. Values without any spread give evidence only once something has scattered. NaN and
/// infinities are refused.
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
    /// The sum of squares within steps, and its degrees of freedom.
    within: f64,
    within_degrees: f64,
    /// The sum of squared, standardised differences between neighbouring steps, and how many.
    successive: f64,
    differences: f64,
    last: Option<(f64, f64)>,
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
            within: 0.0,
            within_degrees: 0.0,
            successive: 0.0,
            differences: 0.0,
            last: None,
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
    /// need two values or more, and a baseline whose mean is not zero. One guard is used in one of the two ways only.
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
        self.within += (old.squares + new.squares) / (scale * scale);
        self.within_degrees += old.degrees_of_freedom() + new.degrees_of_freedom();
        let change = (new.mean - old.mean) / scale;
        self.remember(change);
        let variance =
            self.within / self.within_degrees * (1.0 / old.count + (new.mean / scale).powi(2) / new.count);
        if variance <= 0.0 || self.within_degrees < SPREAD_LEAST {
            return Ok(None);
        }
        let harm = self.sign * change - self.tolerated;
        let residual = normal_scale(harm / variance.sqrt(), self.within_degrees)?;
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
        self.within *= scale;
        self.last = None;
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
        let within = self.within + step.squares;
        let degrees = self.within_degrees + step.degrees_of_freedom();
        let apart = 1.0 / step.count + 1.0 / self.level.count;
        let (variance, degrees) = if degrees >= SPREAD_LEAST && within > 0.0 {
            let pooled = within / degrees;
            // By how much steps scatter more than their samples explain; one standard error of it is about sqrt(3 / n).
            let dispersion = self.successive / (self.differences * pooled);
            let explained = 1.0 + 2.0 * (3.0 / self.differences).sqrt();
            (pooled * if dispersion > explained { dispersion } else { 1.0 }, degrees)
        } else if self.differences >= 11.0 && self.successive > 0.0 {
            // Von Neumann's estimate has about two thirds of its terms as degrees of freedom.
            (self.successive / self.differences, self.differences * 2.0 / 3.0)
        } else {
            return Ok(None);
        };
        let harm = self.sign * (step.mean - self.level.mean) - self.tolerated * self.level.mean.abs();
        normal_scale(harm / (variance * apart).sqrt(), degrees).map(Some)
    }

    /// Learns the spread from a step.
    fn take(&mut self, step: Moments) {
        self.within += step.squares;
        self.within_degrees += step.degrees_of_freedom();
        if let Some((mean, count)) = self.last {
            self.successive += (step.mean - mean).powi(2) / (1.0 / step.count + 1.0 / count);
            self.differences += 1.0;
        }
        self.last = Some((step.mean, step.count));
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

/// A t-distributed residual brought to where a standard normal one would be.
fn normal_scale(residual: f64, degrees_of_freedom: f64) -> Result<f64> {
    if degrees_of_freedom >= KNOWN_SPREAD {
        return Ok(residual);
    }
    let invalid = |error: String| invalid("degrees of freedom", error);
    let student = StudentsT::new(0.0, 1.0, degrees_of_freedom).map_err(|error| invalid(error.to_string()))?;
    let normal = Normal::new(0.0, 1.0).map_err(|error| invalid(error.to_string()))?;
    // By the smaller tail, where digits are left.
    let tail = student.sf(residual.abs()).max(f64::MIN_POSITIVE);
    Ok(-normal.inverse_cdf(tail).copysign(-residual))
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
        assert!(none < 10 && five > 24 && five < 35, "{none} {five}");
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
