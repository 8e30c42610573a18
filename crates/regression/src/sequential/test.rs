//! The sequential comparison of an incumbent with a candidate.

use serde::{Deserialize, Serialize};

use evoseal_types::Threshold;

use super::evidence::{bounded_evidence, t_boundary, t_evidence};
use crate::analyzer::{Analyzer, Comparison, TInterval};
use crate::statistics::{invalid, mean};
use crate::{Error, Interval, Result, Verdict};

/// What the samples are, which decides how evidence is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleKind {
    /// Measurements whose mean is compared: the mixture t e-process. Assumes that the differences within pairs are
    /// independent and about normal; heavy tails make it careful, a strong skew with very few pairs can mislead it.
    #[default]
    Mean,
    /// Passes and failures, 1 and 0, or shares of them in between: the betting e-process, exact after every sample and
    /// for every distribution on 0 to 1. Shares out of many tests scatter little, which bets cannot use: judge those as
    /// [`Mean`](Self::Mean).
    PassRate,
}

impl SampleKind {
    /// Passes and failures where every value is 0 or 1, else measurements.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a f64>) -> Self {
        let is_bit = |value: &f64| [0.0, 1.0].iter().any(|bit| value.total_cmp(bit).is_eq());
        if values.into_iter().all(is_bit) { Self::PassRate } else { Self::Mean }
    }
}

/// What is asked of a [`SequentialTest`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SequentialRule {
    /// The tolerated change and the harmful direction.
    pub threshold: Threshold,
    /// The chance of a false "regressed", and likewise of a false "improved" or "equivalent", over all looks together;
    /// strictly between 0 and 1.
    pub alpha: f64,
    /// What the samples are.
    pub kind: SampleKind,
    /// After how many pairs sampling ends without a verdict, 2 or more.
    pub pairs_max: usize,
}

/// A verdict that is looked for after every pair of an incumbent's and a candidate's sample, measured side by side.
///
/// With `s` the harmful sign and `u` the change that is asked about, the contrast of a pair is
/// `z = s (new - old) - u old` (`+ u old` where the old mean is negative), whose mean is at most zero exactly if the
/// harmful change of the mean, relative to the old mean, is at most `u`. Four questions are kept up at once, each at
/// `alpha`, by the e-process of [`SampleKind`]:
///
/// - harm above the threshold → [`Verdict::Regressed`],
/// - harm below zero → [`Verdict::Improved`],
/// - harm below the threshold **and** above minus the threshold → [`Verdict::Equivalent`].
///
/// The first answer stands: later pairs are refused. Until then, and when the budget of pairs is spent, the verdict is
/// [`Verdict::Inconclusive`]. Where no pair of the incumbent differs from zero, the change is an absolute one and every
/// certain harm counts.
///
/// **Minimum.** The evidence of n pairs is at most `2 (n + 1)^((n - 1) / 2)` for means, so that no decision at 0.025 falls
/// before the fifth pair and none at 0.001 before the seventh. **Ties and zero spread.** Contrasts that are all equal have no
/// t statistic and give no evidence either way; the caller compares constants exactly. **NaN and infinities** are refused.
///
/// ```
/// use evoseal_regression::{SampleKind, SequentialRule, SequentialTest, Verdict};
/// use evoseal_types::{Direction, Threshold};
/// let threshold = Threshold::new("latency", 0.05, Direction::Increase)?;
/// let rule = SequentialRule { threshold, alpha: 0.025, kind: SampleKind::Mean, pairs_max: 100 };
/// let mut test = SequentialTest::new(rule)?;
/// let noise = [0.1, -0.4, 0.3, 0.2, -0.2, 0.0, 0.4, -0.3, 0.1, -0.2];
/// for (old, new) in noise.iter().zip(noise.iter().rev()) {
///     if test.push(100.0 + old, 120.0 + new)? != Verdict::Inconclusive {
///         break;
///     }
/// }
/// let report = test.report()?;
/// assert_eq!((report.verdict, report.pairs), (Verdict::Regressed, 5));
/// let interval = report.interval.ok_or("an interval")?;
/// assert!(interval.low > 0.05 && interval.low < 0.2 && interval.high > 0.2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SequentialTest {
    rule: SequentialRule,
    old: Vec<f64>,
    new: Vec<f64>,
    /// The largest logarithm of the evidence so far for harm, for no harm, for no more than tolerated, and for no gain
    /// beyond the threshold.
    harmful: f64,
    better: f64,
    tolerable: f64,
    not_better: f64,
    verdict: Verdict,
}

/// What a [`SequentialTest`] has found so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SequentialReport {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether it is certain that the harm stays below the threshold, whatever the verdict.
    pub is_tolerable: bool,
    /// How many pairs were looked at.
    pub pairs: usize,
    /// The relative change of the mean; `None` where the old mean is zero.
    pub change: Option<f64>,
    /// The anytime-valid interval of the relative change (of the absolute one where the old mean is zero), each end with
    /// error `alpha`; `None` while there are too few pairs for one.
    pub interval: Option<Interval>,
    /// The largest e-value so far against "the harm is at most the threshold". Its reciprocal is a p-value.
    pub e_value: f64,
    /// The method: `sequential_t` or `sequential_bets`.
    pub method: String,
}

impl SequentialTest {
    /// A test without samples.
    pub fn new(rule: SequentialRule) -> Result<Self> {
        if !(rule.alpha > 0.0 && rule.alpha < 1.0) {
            return Err(invalid("alpha", format!("{} does not lie strictly between 0 and 1", rule.alpha)));
        }
        if rule.pairs_max < 2 {
            return Err(invalid("pairs_max", "no test decides on fewer than 2 pairs"));
        }
        if rule.kind == SampleKind::PassRate && rule.threshold.threshold() > 1.0 {
            return Err(invalid("threshold", "a pass rate cannot change by more than itself: the most is 1"));
        }
        Ok(Self {
            rule,
            old: Vec::new(),
            new: Vec::new(),
            harmful: 0.0,
            better: 0.0,
            tolerable: 0.0,
            not_better: 0.0,
            verdict: Verdict::Inconclusive,
        })
    }

    /// Takes one pair and says what is known after it. Refused for a pair that is no pair of numbers (for pass rates: of
    /// numbers from 0 to 1), after a verdict, and beyond the budget.
    pub fn push(&mut self, old: f64, new: f64) -> Result<Verdict> {
        const WHAT: &str = "a sequential test";
        let refused = |needed| Err(Error::Data { what: WHAT, needed, found: format!("{old} and {new}") });
        if !(old.is_finite() && new.is_finite()) {
            return refused("finite values");
        }
        if self.rule.kind == SampleKind::PassRate
            && !(0.0..=1.0).contains(&old.min(new).min(1.0 - old.max(new)))
        {
            return refused("pass rates from 0 to 1");
        }
        if self.is_finished() {
            return Err(Error::Data {
                what: WHAT,
                needed: "no further pair",
                found: format!("one after {} pairs and the verdict {}", self.old.len(), self.verdict),
            });
        }
        self.old.push(old);
        self.new.push(new);
        self.look()?;
        Ok(self.verdict)
    }

    /// Whether a verdict stands or the budget of pairs is spent.
    pub fn is_finished(&self) -> bool {
        self.verdict != Verdict::Inconclusive || self.old.len() >= self.rule.pairs_max
    }

    /// The e-value so far against "the harm is at most the threshold".
    pub fn e_value(&self) -> f64 {
        self.harmful.exp().min(f64::MAX)
    }

    /// What is known so far. At least one pair.
    pub fn report(&self) -> Result<SequentialReport> {
        let (old, new) = (mean(&self.old)?, mean(&self.new)?);
        let change = (new - old) / old.abs();
        Ok(SequentialReport {
            verdict: self.verdict,
            is_tolerable: self.tolerable >= self.needed(),
            pairs: self.old.len(),
            change: (old.abs() > 0.0 && change.is_finite()).then_some(change),
            interval: self.interval()?,
            e_value: self.e_value(),
            method: match self.rule.kind {
                SampleKind::Mean => "sequential_t",
                SampleKind::PassRate => "sequential_bets",
            }
            .to_owned(),
        })
    }

    fn needed(&self) -> f64 {
        -self.rule.alpha.ln()
    }

    fn look(&mut self) -> Result<()> {
        let tolerated = self.rule.threshold.threshold();
        self.harmful = self.harmful.max(self.evidence(tolerated, 1.0)?);
        self.better = self.better.max(self.evidence(0.0, -1.0)?);
        self.tolerable = self.tolerable.max(self.evidence(tolerated, -1.0)?);
        self.not_better = self.not_better.max(self.evidence(-tolerated, 1.0)?);
        let needed = self.needed();
        // With nothing tolerated an interval without width would be needed, so that evidence on both sides contradicts.
        self.verdict = if self.harmful >= needed {
            Verdict::Regressed
        } else if self.better >= needed {
            Verdict::Improved
        } else if self.tolerable >= needed && self.not_better >= needed {
            Verdict::Equivalent
        } else {
            Verdict::Inconclusive
        };
        Ok(())
    }

    /// The logarithm of the evidence for a harmful change above (`side` 1) or below (-1) `harm`.
    fn evidence(&self, harm: f64, side: f64) -> Result<f64> {
        let sign = self.rule.threshold.direction().harm_sign();
        let old_sign = mean(&self.old)?;
        let old_sign = if old_sign.abs() > 0.0 { old_sign.signum() } else { 0.0 };
        let contrasts = self
            .old
            .iter()
            .zip(&self.new)
            .map(|(old, new)| side * (sign * (new - old) - harm * old_sign * old));
        match self.rule.kind {
            SampleKind::Mean => match t_statistic(contrasts) {
                Some(t) => t_evidence(self.old.len(), t),
                None => Ok(0.0),
            },
            SampleKind::PassRate => Ok(bounded_evidence(contrasts)),
        }
    }

    fn interval(&self) -> Result<Option<Interval>> {
        let level = 1.0 - 2.0 * self.rule.alpha;
        match self.rule.kind {
            SampleKind::Mean => {
                let Some(boundary) = t_boundary(self.old.len(), self.rule.alpha)? else { return Ok(None) };
                fieller(&self.old, &self.new, boundary, level)
            }
            SampleKind::PassRate => {
                let (low, high) = (self.bet_bound(1.0)?, self.bet_bound(-1.0)?);
                let sign = self.rule.threshold.direction().harm_sign();
                let (low, high) = if sign > 0.0 { (low, high) } else { (-high, -low) };
                Ok(Some(Interval { low, high, level }))
            }
        }
    }

    /// The largest harm from -1 to 1 that is excluded from below (`side` 1), or the smallest from above (-1). An end that
    /// bets cannot bound is the largest float of that sign.
    fn bet_bound(&self, side: f64) -> Result<f64> {
        let excluded = |harm: f64| Ok::<_, Error>(self.evidence(harm, side)? >= self.needed());
        if !excluded(-side)? {
            return Ok(-side * f64::MAX);
        }
        if excluded(side)? {
            return Ok(side);
        }
        let (mut inside, mut outside) = (side, -side);
        for _ in 0..40 {
            let middle = f64::midpoint(inside, outside);
            if excluded(middle)? { outside = middle } else { inside = middle }
        }
        Ok(outside)
    }
}

/// The interval of all changes whose contrasts have a t statistic within `-boundary..boundary`: [`TInterval`] for pairs, at
/// the level whose quantile is the boundary.
fn fieller(old: &[f64], new: &[f64], boundary: f64, level: f64) -> Result<Option<Interval>> {
    let two_sided = crate::statistics::t_level(boundary, old.len() as f64 - 1.0)?;
    // Beyond this the quantile cannot be told from infinity.
    if two_sided >= 1.0 {
        return Ok(None);
    }
    let estimate =
        TInterval.analyze(&Comparison { incumbent: old, candidate: new, paired: true, level: two_sided })?;
    let Interval { low, high, .. } = estimate.interval;
    Ok((estimate.method != "exact").then_some(Interval { low, high, level }))
}

/// The t statistic of a mean of zero by two passes; `None` for fewer than two values and for values without spread.
fn t_statistic(values: impl Iterator<Item = f64> + Clone) -> Option<f64> {
    let (mut n, mut sum, mut largest) = (0.0, 0.0, 0.0_f64);
    for value in values.clone() {
        n += 1.0;
        sum += value;
        largest = largest.max(value.abs());
    }
    let mean = sum / n;
    let squares: f64 = values.map(|value| ((value - mean) / largest).powi(2)).sum();
    // Contrasts of exactly proportional values differ by rounding alone.
    let deviation = (squares / (n - 1.0)).sqrt();
    (n >= 2.0 && deviation > 1e-12).then(|| mean / largest / deviation * n.sqrt())
}

#[cfg(test)]
mod tests {
    use evoseal_types::Direction::{self, Decrease, Increase};

    use super::*;

    fn rule(threshold: f64, direction: Direction, kind: SampleKind) -> SequentialRule {
        SequentialRule {
            threshold: Threshold::new("m", threshold, direction).unwrap(),
            alpha: 0.025,
            kind,
            pairs_max: 200,
        }
    }

    /// Runs pairs with a deterministic scatter of two percent until the end.
    fn run(rule: SequentialRule, old: f64, new: f64) -> SequentialReport {
        let mut test = SequentialTest::new(rule).unwrap();
        for i in 0..rule.pairs_max {
            let (a, b) = ((i as f64 * 2.39).sin(), (i as f64 * 1.71 + 1.0).sin());
            test.push(old * (1.0 + 0.02 * a), new * (1.0 + 0.02 * b)).unwrap();
            if test.is_finished() {
                break;
            }
        }
        test.report().unwrap()
    }

    #[test]
    fn each_verdict_is_reached_and_agrees_with_its_interval() {
        let cases = [
            (Increase, 100.0, 120.0, Verdict::Regressed),
            (Increase, 100.0, 90.0, Verdict::Improved),
            (Increase, 100.0, 100.4, Verdict::Equivalent),
            (Decrease, 100.0, 80.0, Verdict::Regressed),
            (Decrease, 100.0, 110.0, Verdict::Improved),
            (Increase, -100.0, -80.0, Verdict::Regressed),
            (Decrease, -100.0, -99.8, Verdict::Equivalent),
        ];
        for (direction, old, new, expected) in cases {
            let report = run(rule(0.05, direction, SampleKind::Mean), old, new);
            assert_eq!(report.verdict, expected, "{direction} {old} {new}: {report:?}");
            let interval = report.interval.unwrap();
            let sign = direction.harm_sign();
            let (low, high) = (sign * interval.low, sign * interval.high);
            let (low, high) = (low.min(high), low.max(high));
            match expected {
                Verdict::Regressed => assert!(low > 0.05, "{report:?}"),
                Verdict::Improved => assert!(high < 0.0, "{report:?}"),
                _ => assert!(report.is_tolerable && low > -0.05 && high < 0.05, "{report:?}"),
            }
        }
    }

    #[test]
    fn the_budget_ends_the_sampling_without_a_verdict() {
        let mut test =
            SequentialTest::new(SequentialRule { pairs_max: 3, ..rule(0.05, Increase, SampleKind::Mean) })
                .unwrap();
        for i in 0..3 {
            assert_eq!(test.push(100.0 + f64::from(i), 103.0).unwrap(), Verdict::Inconclusive);
        }
        assert!(test.is_finished() && test.push(1.0, 1.0).is_err());
    }

    #[test]
    fn pairs_without_spread_and_numbers_that_are_none_decide_nothing() {
        let mut test = SequentialTest::new(rule(0.05, Increase, SampleKind::Mean)).unwrap();
        for _ in 0..100 {
            assert_eq!(test.push(10.0, 20.0).unwrap(), Verdict::Inconclusive);
        }
        assert_eq!(test.report().unwrap().interval, None);
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(test.push(1.0, bad).is_err() && test.push(bad, 1.0).is_err());
        }
    }

    #[test]
    fn an_incumbent_of_zero_makes_every_certain_harm_count() {
        let mut test = SequentialTest::new(rule(0.5, Increase, SampleKind::Mean)).unwrap();
        let verdicts: Vec<_> = (0..6).map(|i| test.push(0.0, 1e-3 * (5.0 + f64::from(i % 2)))).collect();
        assert_eq!(verdicts.iter().flatten().last(), Some(&Verdict::Regressed));
        assert_eq!(test.report().unwrap().change, None);
    }

    #[test]
    fn passes_and_failures_are_judged_from_the_first_sample_on() {
        let mut broken = SequentialTest::new(rule(0.05, Decrease, SampleKind::PassRate)).unwrap();
        while !broken.is_finished() {
            broken.push(1.0, 0.0).unwrap();
        }
        let report = broken.report().unwrap();
        assert_eq!(report.verdict, Verdict::Regressed);
        assert!(report.pairs < 20 && report.interval.unwrap().high < -0.05, "{report:?}");
        let mut same = SequentialTest::new(rule(0.2, Decrease, SampleKind::PassRate)).unwrap();
        while !same.is_finished() {
            same.push(1.0, 1.0).unwrap();
        }
        assert_eq!(same.report().unwrap().verdict, Verdict::Equivalent);
        assert!(same.clone().push(0.5, 0.5).is_err());
        assert!(
            SequentialTest::new(rule(0.2, Decrease, SampleKind::PassRate)).unwrap().push(0.5, 1.5).is_err()
        );
    }

    #[test]
    fn impossible_rules_are_refused() {
        let good = rule(0.05, Increase, SampleKind::Mean);
        for bad in [
            SequentialRule { alpha: 0.0, ..good },
            SequentialRule { alpha: 1.0, ..good },
            SequentialRule { pairs_max: 1, ..good },
            rule(1.5, Increase, SampleKind::PassRate),
        ] {
            assert!(SequentialTest::new(bad).is_err(), "{bad:?}");
        }
    }
}
