//! What a run knows about one metric.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::RunMetric;
use super::screen::relative_variance;
use crate::drift::Moments;
use crate::{DriftAlarm, DriftGuard, Result};

/// From how many standard errors on a level is another one: so far apart, samples of the old level mislead more than they
/// help. Ten thousand comparisons of equal levels exceed it less than once.
const OTHER_LEVEL: f64 = 4.0;

/// From how many steps on the variance between them can be estimated.
const STEPS_LEAST: f64 = 5.0;

/// The name of the guard against drift since the start of the run.
const START: &str = "";

/// The samples of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Step {
    moments: Moments,
    values: Vec<f64>,
}

/// What the reference says about the noise of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Components {
    /// All samples as one group.
    pub(crate) reference: Moments,
    /// The variance within steps, and its degrees of freedom.
    pub(crate) variance: f64,
    pub(crate) degrees: f64,
    /// The variance between steps; `None` with fewer than five.
    pub(crate) between: Option<f64>,
    /// The skew within steps.
    pub(crate) skew: f64,
}

/// The accepted lineage as one metric sees it. Its size is bounded by the settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetricState {
    /// The newest samples of accepted versions at the present level, by the step that brought them.
    groups: VecDeque<Step>,
    /// Guards against drift: since the start, whose name is empty, and beside named baselines.
    guards: BTreeMap<String, DriftGuard>,
    /// Whether the accepted version is a certain improvement, or was approved by a person, and its level is still to be measured
    /// afresh.
    awaits_anchor: bool,
}

impl MetricState {
    pub(crate) fn new() -> Self {
        Self { groups: VecDeque::new(), guards: BTreeMap::new(), awaits_anchor: false }
    }

    /// All reference samples as one group.
    pub(crate) fn reference(&self) -> Moments {
        self.groups.iter().fold(Moments::default(), |all, step| all.join(step.moments))
    }

    /// What the reference says about its noise, values farther than `reach` from its mean being moved to there.
    pub(crate) fn components(&self, reach: f64) -> Components {
        let centre = self.reference().mean;
        let within_reach = |value: &f64| centre + (value - centre).clamp(-reach, reach);
        let groups: Vec<Vec<f64>> =
            self.groups.iter().map(|step| step.values.iter().map(within_reach).collect()).collect();
        let moments: Vec<Moments> = groups.iter().map(|group| Moments::of(group)).collect();
        let reference = moments.iter().fold(Moments::default(), |all, group| all.join(*group));
        let squares: f64 = moments.iter().map(|group| group.squares).sum();
        let steps = moments.len() as f64;
        let degrees = reference.count - steps;
        let variance = if degrees > 0.0 { squares / degrees } else { 0.0 };
        let cubes: f64 = groups
            .iter()
            .zip(&moments)
            .map(|(group, of)| group.iter().map(|value| (value - of.mean).powi(3)).sum::<f64>())
            .sum();
        // Deviations from the mean of n values have lost (n - 1) (n - 2) / n^2 of their third moment.
        let kept: f64 = moments.iter().map(|of| (of.count - 1.0) * (of.count - 2.0) / of.count).sum();
        let skew = if kept > 0.0 && variance > 0.0 { cubes / kept / variance.powf(1.5) } else { 0.0 };
        // The mean size of unequal groups in the analysis of variance (Searle, Casella and McCulloch 1992, section 3.6).
        let of_squares: f64 = moments.iter().map(|of| of.count * of.count).sum();
        let size = (reference.count - of_squares / reference.count) / (steps - 1.0);
        let apart = (reference.squares - squares) / (steps - 1.0);
        let between = (steps >= STEPS_LEAST).then(|| ((apart - variance) / size).max(0.0));
        Components { reference, variance, degrees, between, skew }
    }

    /// Adds samples of the accepted version; where they lie at another level than those before, these are dropped.
    pub(crate) fn learn(&mut self, values: &[f64], samples_max: usize) {
        if values.is_empty() {
            return;
        }
        let step = Moments::of(values);
        if self.is_other_level(step) {
            self.groups.clear();
        }
        self.groups.push_back(Step { moments: step, values: values.to_vec() });
        let mut count: usize = self.groups.iter().map(|step| step.values.len()).sum();
        while self.groups.len() > 1 && count - self.groups[0].values.len() >= samples_max {
            count -= self.groups[0].values.len();
            self.groups.pop_front();
        }
    }

    /// Whether samples lie at another level than the reference: far away, or anywhere else where nothing scatters.
    fn is_other_level(&self, step: Moments) -> bool {
        let reference = self.reference();
        if let Some(distance) = self.distance(step) {
            return distance.abs() > OTHER_LEVEL;
        }
        let is_exact = reference.count >= 2.0 && reference.squares <= 0.0 && step.squares <= 0.0;
        is_exact && step.mean.total_cmp(&reference.mean).is_ne()
    }

    /// How many standard errors samples lie above the reference; `None` without spread.
    pub(crate) fn distance(&self, step: Moments) -> Option<f64> {
        let reference = self.reference();
        let scale = if reference.mean.abs() > 0.0 { reference.mean.abs() } else { 1.0 };
        let error =
            (relative_variance(reference) * (1.0 / step.count + 1.0 / reference.count)).sqrt() * scale;
        (reference.count >= 2.0 && error > 0.0).then(|| (step.mean - reference.mean) / error)
    }

    /// The names of the guards that this metric still lacks.
    pub(crate) fn missing_guards(&self, metric: &RunMetric) -> Vec<String> {
        let wanted = std::iter::once(START).chain(metric.baselines.keys().map(String::as_str));
        wanted.filter(|name| !self.guards.contains_key(*name)).map(str::to_owned).collect()
    }

    /// Makes the next samples of the incumbent the level that harm is counted from.
    pub(crate) fn await_anchor(&mut self) {
        self.awaits_anchor = true;
    }

    pub(crate) fn add_guard(&mut self, name: String, guard: DriftGuard) {
        self.guards.insert(name, guard);
    }

    /// Shows fresh samples of the incumbent to the guard against drift since the start.
    pub(crate) fn watch_incumbent(&mut self, metric: &RunMetric) -> Result<Option<DriftAlarm>> {
        let Some(guard) = self.guards.get_mut(START).filter(|_| !metric.incumbent.is_empty()) else {
            return Ok(None);
        };
        if std::mem::take(&mut self.awaits_anchor) {
            guard.anchor_at(&metric.incumbent)?;
            return Ok(None);
        }
        guard.observe(&metric.incumbent)
    }

    /// Shows the samples of a candidate that is to be accepted to all guards.
    pub(crate) fn watch_candidate(
        &mut self,
        metric: &RunMetric,
    ) -> Result<Vec<(Option<String>, DriftAlarm)>> {
        let mut alarms = Vec::new();
        let is_better = self.is_better(metric);
        for (name, guard) in &mut self.guards {
            let alarm = if name == START {
                match &metric.confirmation {
                    // The level of a certain improvement is the new anchor. The samples that made it certain flatter it.
                    Some(fresh) if is_better && !fresh.candidate.is_empty() => {
                        guard.anchor_at(&fresh.candidate)?;
                        None
                    }
                    _ if is_better => {
                        self.awaits_anchor = true;
                        None
                    }
                    // Until the new anchor is measured there is nothing to compare with.
                    _ if self.awaits_anchor => None,
                    _ => guard.observe(&metric.candidate)?,
                }
            } else {
                match metric.baselines.get(name) {
                    Some(baseline) if can_be_compared(baseline, &metric.candidate) => {
                        guard.observe_beside(baseline, &metric.candidate)?
                    }
                    _ => None,
                }
            };
            alarms.extend(alarm.map(|alarm| ((name != START).then(|| name.clone()), alarm)));
        }
        Ok(alarms)
    }

    /// Whether the candidate is so much better that luck does not explain it.
    fn is_better(&self, metric: &RunMetric) -> bool {
        let sign = metric.spec.direction.harm_sign();
        self.distance(Moments::of(&metric.candidate)).is_some_and(|distance| sign * distance < -OTHER_LEVEL)
    }

    pub(crate) fn has_guards(&self) -> bool {
        !self.guards.is_empty()
    }
}

/// Whether a guard beside a baseline can say something.
fn can_be_compared(baseline: &[f64], candidate: &[f64]) -> bool {
    baseline.len() >= 2 && candidate.len() >= 2 && Moments::of(baseline).mean.abs() > 0.0
}
