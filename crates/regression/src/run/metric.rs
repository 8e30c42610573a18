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

/// The variance of samples within steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Within {
    pub(crate) variance: f64,
    /// Its degrees of freedom.
    pub(crate) degrees: f64,
}

/// The accepted lineage as one metric sees it. Its size is bounded by the settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetricState {
    /// The newest samples of accepted versions at the present level, by the step that brought them.
    groups: VecDeque<Moments>,
    /// Guards against drift: since the start, whose name is empty, and beside named baselines.
    guards: BTreeMap<String, DriftGuard>,
    /// Whether the accepted version is a certain improvement whose level is still to be measured afresh.
    awaits_anchor: bool,
}

impl MetricState {
    pub(crate) fn new() -> Self {
        Self { groups: VecDeque::new(), guards: BTreeMap::new(), awaits_anchor: false }
    }

    /// All reference samples as one group.
    pub(crate) fn reference(&self) -> Moments {
        self.groups.iter().fold(Moments::default(), |all, group| all.join(*group))
    }

    /// All reference samples as one group, the variance within steps, and the variance between them; `None` for that with
    /// fewer than five steps.
    pub(crate) fn components(&self) -> (Moments, Within, Option<f64>) {
        let reference = self.reference();
        let squares: f64 = self.groups.iter().map(|group| group.squares).sum();
        let steps = self.groups.len() as f64;
        let degrees = reference.count - steps;
        let variance = if degrees > 0.0 { squares / degrees } else { 0.0 };
        let within = Within { variance, degrees };
        if steps < STEPS_LEAST {
            return (reference, within, None);
        }
        // The mean size of unequal groups in the analysis of variance (Searle, Casella and McCulloch 1992, section 3.6).
        let of_squares: f64 = self.groups.iter().map(|group| group.count * group.count).sum();
        let size = (reference.count - of_squares / reference.count) / (steps - 1.0);
        let between = (reference.squares - squares) / (steps - 1.0);
        (reference, within, Some(((between - variance) / size).max(0.0)))
    }

    /// Adds samples of the accepted version; where they lie at another level than those before, these are dropped.
    pub(crate) fn learn(&mut self, values: &[f64], samples_max: usize) {
        if values.is_empty() {
            return;
        }
        let step = Moments::of(values);
        if self.distance(step).is_some_and(|distance| distance.abs() > OTHER_LEVEL) {
            self.groups.clear();
        }
        self.groups.push_back(step);
        let mut count: f64 = self.groups.iter().map(|group| group.count).sum();
        while self.groups.len() > 1 && count - self.groups[0].count >= samples_max as f64 {
            count -= self.groups[0].count;
            self.groups.pop_front();
        }
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
