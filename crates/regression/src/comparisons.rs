//! Which metric is compared with which, and the finding of each comparison.

use std::collections::{BTreeMap, BTreeSet};

use evoseal_types::{MetricName, MetricSamples, MetricSpec, Threshold};

use crate::analyzer::{Analyzer, Comparison, Estimate, TInterval, ThresholdOnly};
use crate::config::Config;
use crate::regression_detector::by_name;
use crate::samples::{Side, first_non_finite, problem};
use crate::verdict;
use crate::{Baseline, DataProblem, Error, Finding, Result, Verdict};

/// What a candidate is compared with.
pub(crate) struct Partner<'a> {
    baseline: Option<&'a str>,
    metrics: BTreeMap<&'a MetricName, &'a MetricSamples>,
    paired: bool,
}

/// One comparison, ready to be made once it is known how many there are.
pub(crate) struct Planned {
    spec: MetricSpec,
    baseline: Option<String>,
    threshold: Threshold,
    use_statistics: bool,
    sides: Sides,
}

enum Sides {
    Usable { old: Side, new: Side, paired: bool, pairing_lost: bool },
    Unusable { problem: DataProblem, counts: (usize, usize), reason: String },
}

impl<'a> Partner<'a> {
    pub(crate) fn incumbent(metrics: &'a [MetricSamples], paired: bool) -> Result<Self> {
        Ok(Self { baseline: None, metrics: by_name(metrics, "incumbent")?, paired })
    }

    pub(crate) fn baseline(baseline: &'a Baseline) -> Result<Self> {
        let metrics = by_name(&baseline.metrics, &baseline.name)?;
        Ok(Self { baseline: Some(&baseline.name), metrics, paired: false })
    }

    /// One comparison for each metric of either side, of a baseline for each of its own, sorted by name.
    pub(crate) fn plan(
        &self,
        candidate: &BTreeMap<&MetricName, &MetricSamples>,
        config: &Config,
    ) -> Result<Vec<Planned>> {
        let mut names: BTreeSet<&MetricName> = self.metrics.keys().copied().collect();
        if self.baseline.is_none() {
            names.extend(candidate.keys().copied());
        }
        let sides = |name| (self.metrics.get(name).copied(), candidate.get(name).copied());
        names.into_iter().map(|name| self.plan_one(sides(name), config)).collect()
    }

    fn plan_one(
        &self,
        (old, new): (Option<&MetricSamples>, Option<&MetricSamples>),
        config: &Config,
    ) -> Result<Planned> {
        let spec = &new.or(old).expect("a planned name comes from one of the sides").spec;
        let count = |side: Option<&MetricSamples>| side.map_or(0, |side| side.samples.len());
        let side_name = self.baseline.map_or("the incumbent".to_owned(), |name| format!("baseline {name}"));
        let unusable =
            |problem, reason| Sides::Unusable { problem, counts: (count(old), count(new)), reason };
        let (threshold, sides) = match (config.threshold_for(spec)?, problem(old, new)) {
            (Ok(threshold), None) => {
                let (old, new) = (old.expect("no problem"), new.expect("no problem"));
                (threshold, self.usable(old, new, config)?)
            }
            (Ok(threshold), Some(problem)) => {
                let bad = [old, new].map(|samples| samples.and_then(first_non_finite));
                (threshold, unusable(problem, verdict::why_not(problem, &side_name, bad)))
            }
            (Err(contradiction), _) => {
                let stated = contradiction.0.direction();
                let reason = format!(
                    "the settings call {stated} harmful, the metric itself {}; nothing was compared",
                    spec.direction
                );
                (contradiction.0, unusable(DataProblem::SpecMismatch, reason))
            }
        };
        let baseline = self.baseline.map(str::to_owned);
        Ok(Planned { spec: spec.clone(), baseline, threshold, use_statistics: config.use_statistics, sides })
    }

    fn usable(&self, old: &MetricSamples, new: &MetricSamples, config: &Config) -> Result<Sides> {
        let (old, new) = (Side::of(old)?, Side::of(new)?);
        let needed = if config.use_statistics { config.statistics.min_samples } else { 1 };
        let counts = (old.values.len(), new.values.len());
        if counts.0.min(counts.1) < needed {
            let reason = verdict::too_few((&old, &new), needed);
            return Ok(Sides::Unusable { problem: DataProblem::TooFewSamples, counts, reason });
        }
        let paired = self.paired && counts.0 == counts.1 && old.unit == new.unit;
        Ok(Sides::Usable { old, new, paired, pairing_lost: self.paired && !paired })
    }
}

impl Planned {
    /// Whether this comparison takes its share of the error budget.
    pub(crate) fn needs_statistics(&self) -> bool {
        match &self.sides {
            Sides::Usable { old, new, .. } => {
                self.use_statistics && !comparison(old, new, false, 0.5).is_exact()
            }
            Sides::Unusable { .. } => false,
        }
    }

    /// Makes the comparison.
    pub(crate) fn finding(&self, analyzer: &dyn Analyzer, level: f64) -> Result<Finding> {
        let (old, new, paired, pairing_lost) = match &self.sides {
            Sides::Usable { old, new, paired, pairing_lost } => (old, new, *paired, *pairing_lost),
            Sides::Unusable { problem, counts, reason } => {
                return Ok(self.without_interval(*problem, *counts, reason));
            }
        };
        let comparison = comparison(old, new, paired, level);
        let counts = (old.values.len(), new.values.len());
        let analyzer: &dyn Analyzer = match (self.use_statistics, comparison.is_exact()) {
            (false, _) => &ThresholdOnly,
            (true, true) => &TInterval,
            (true, false) => analyzer,
        };
        let estimate = match analyzer.analyze(&comparison) {
            Err(Error::Data { what, needed, found }) => {
                let reason = format!("too few samples: {what} needs {needed}, got {found}");
                return Ok(self.without_interval(DataProblem::TooFewSamples, counts, &reason));
            }
            estimate => checked(estimate?, analyzer.name())?,
        };
        let relative = estimate.old_value.abs() > 0.0;
        let verdict = verdict::verdict(estimate.interval, &self.threshold, relative);
        // Only a relative change that overflows is absent where the old value is not zero.
        let change = estimate.change().or(relative.then_some(estimate.interval.low));
        let absolute_change = (estimate.new_value - estimate.old_value).clamp(f64::MIN, f64::MAX);
        let freedom = if paired { counts.0 - 1 } else { counts.0 + counts.1 - 2 };
        let power = if relative && freedom > 0 {
            verdict::power(estimate.interval, self.threshold.threshold(), freedom as f64)?
        } else {
            None
        };
        let reason =
            verdict::reason(verdict, estimate.interval, change, absolute_change, power, &self.threshold)
                + &verdict::caveats(estimate.method, (old, new), pairing_lost);
        Ok(Finding {
            severity: (verdict == Verdict::Regressed).then(|| verdict::severity(change, &self.threshold)),
            verdict,
            old_value: Some(estimate.old_value),
            new_value: Some(estimate.new_value),
            absolute_change: Some(absolute_change),
            change,
            interval: Some(estimate.interval),
            p_value: estimate.p_value,
            power,
            method: estimate.method.to_owned(),
            problem: None,
            ..self.without_interval(DataProblem::TooFewSamples, counts, &reason)
        })
    }

    fn without_interval(&self, problem: DataProblem, sample_counts: (usize, usize), reason: &str) -> Finding {
        Finding {
            metric: self.spec.clone(),
            baseline: self.baseline.clone(),
            verdict: Verdict::InsufficientData,
            severity: None,
            problem: Some(problem),
            old_value: None,
            new_value: None,
            absolute_change: None,
            change: None,
            interval: None,
            p_value: None,
            power: None,
            threshold: self.threshold,
            sample_counts,
            method: "none".to_owned(),
            anomalies: Vec::new(),
            trend: None,
            reason: format!("{}: {reason}", self.spec.name),
        }
    }
}

fn comparison<'a>(old: &'a Side, new: &'a Side, paired: bool, level: f64) -> Comparison<'a> {
    Comparison { incumbent: &old.values, candidate: &new.values, paired, level }
}

/// Refuses what a wrong analyzer could answer, before it becomes a verdict.
fn checked(estimate: Estimate, analyzer: &str) -> Result<Estimate> {
    let numbers = [estimate.old_value, estimate.new_value, estimate.interval.low, estimate.interval.high];
    if numbers.iter().all(|number| number.is_finite()) && estimate.interval.low <= estimate.interval.high {
        return Ok(estimate);
    }
    let reason = format!("it answered {numbers:?}, which is no estimate and no interval");
    Err(Error::Invalid { what: format!("analyzer {analyzer}"), reason })
}
