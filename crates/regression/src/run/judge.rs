//! The judge of a run.

mod stages;

use std::collections::BTreeMap;

use evoseal_types::MetricName;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Gamma};

use super::confirm::CONFIRMATION_MISS;
use super::iteration::CANDIDATE_LEAST;
use super::metric::MetricState;
use super::report::{decision_of, is_suspicious, pairs_used, reason};
use super::screen::Then;
use super::{
    DriftFinding, GainEstimate, Iteration, IterationDecision, IterationReport, MetricReport, RunMetric,
    RunSettings, RunTotals, Sampling, ScreenOutcome, ScreenReport, Stage, gain_of_fresh_pairs,
};
use crate::{DriftGuard, Error, ErrorLedger, Result, Verdict};

/// The share of the drift budget for metrics and baselines that appear after the first iteration.
const LATE_SHARE: f64 = 0.1;

/// From how many standard errors on a gain is claimed, and worth being estimated again.
const CLAIM: f64 = 2.0;

/// Judges the iterations of one run, in order.
///
/// Its state is a pure function of the settings and of the iterations judged so far, so that a resumed run that judges its
/// records again comes to the same decisions. Its size does not grow with the run, except by one number per rollback for the policies that
/// earn level back.
///
/// ```
/// use evoseal_regression::{
///     FreshPairs, Iteration, IterationDecision, RunJudge, RunMetric, RunSettings, SampleKind, Sampling,
/// };
/// use evoseal_types::{Direction, MetricSpec, Threshold};
/// let latency = |candidate: f64| RunMetric {
///     spec: MetricSpec::new("latency", "ms", Direction::Increase).expect("a name"),
///     threshold: Threshold::new("latency", 0.0, Direction::Increase).expect("a threshold"),
///     kind: SampleKind::Mean,
///     incumbent: [0.1, -0.2, 0.3, -0.1, 0.0, 0.2, -0.3, 0.1].map(|noise| 10.0 + noise).to_vec(),
///     candidate: [-0.1, 0.2, 0.0, -0.3, 0.3, 0.1, 0.0, -0.2].map(|noise| candidate + noise).to_vec(),
///     confirmation: None,
///     baselines: Default::default(),
/// };
/// let iteration = |metric| Iteration { metrics: vec![metric], sampling: Sampling::FreshPairs, accepted: None };
/// let mut judge = RunJudge::new(RunSettings::default())?;
/// assert_eq!(judge.judge(&iteration(latency(10.0)))?.decision, IterationDecision::Accept);
/// // A suspicious candidate is measured again before anything is decided.
/// let mut slower = latency(11.0);
/// assert_eq!(judge.judge(&iteration(slower.clone()))?.decision, IterationDecision::Confirm);
/// let around = |level: f64, shift: usize| {
///     let noise = [0.0, 0.2, -0.1, 0.1, -0.2, 0.3, 0.0, -0.1, 0.2, -0.3, 0.1, 0.0];
///     (0..12).map(|i| level + noise[(i + shift) % 12]).collect::<Vec<f64>>()
/// };
/// slower.confirmation = Some(FreshPairs { incumbent: around(10.0, 0), candidate: around(11.0, 5) });
/// let report = judge.judge(&iteration(slower))?;
/// assert_eq!(report.decision, IterationDecision::Rollback);
/// assert!(report.totals.false_rollbacks_max <= 0.05);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunJudge {
    settings: RunSettings,
    ledger: ErrorLedger,
    metrics: BTreeMap<MetricName, MetricState>,
    late_guards: u32,
    totals: RunTotals,
    misses: f64,
    harms: f64,
}

impl RunJudge {
    /// A judge that has seen nothing yet.
    pub fn new(settings: RunSettings) -> Result<Self> {
        settings.check()?;
        Ok(Self {
            ledger: settings.ledger()?,
            settings,
            metrics: BTreeMap::new(),
            late_guards: 0,
            totals: RunTotals::default(),
            misses: 0.0,
            harms: 0.0,
        })
    }

    /// The settings.
    pub const fn settings(&self) -> &RunSettings {
        &self.settings
    }

    /// The account of the decisions.
    pub const fn ledger(&self) -> &ErrorLedger {
        &self.ledger
    }

    /// The run so far.
    pub const fn totals(&self) -> RunTotals {
        self.totals
    }

    /// Stage one with the samples so far, for whoever takes them one by one: what is to be done next, and the number of
    /// samples after which that was clear. Changes nothing.
    pub fn screen(&self, iteration: &Iteration) -> Result<(ScreenOutcome, usize)> {
        if iteration.metrics.iter().any(|metric| (1..CANDIDATE_LEAST).contains(&metric.candidate.len())) {
            return Ok((ScreenOutcome::NeedsMore, 1));
        }
        let mut next = self.clone();
        next.learn_incumbents(iteration)?;
        let metrics: Vec<&RunMetric> = iteration.metrics.iter().collect();
        let reports: Vec<ScreenReport> =
            next.screen_all(&metrics, Sampling::OnDemand, Then::More).into_iter().flatten().collect();
        let suspicious = reports.iter().filter(|report| report.outcome == ScreenOutcome::Suspicious);
        if let Some(first) = suspicious.map(|report| report.samples).min() {
            return Ok((ScreenOutcome::Suspicious, first));
        }
        let outcome = reports.iter().map(|report| report.outcome).max().unwrap_or(ScreenOutcome::Cleared);
        Ok((outcome, reports.iter().map(|report| report.samples).max().unwrap_or(0)))
    }

    /// Judges the next iteration. Nothing is recorded where the answer is [`IterationDecision::Confirm`] or an error.
    ///
    /// A metric that stands twice is refused, as are fresh pairs of which one side is longer.
    pub fn judge(&mut self, iteration: &Iteration) -> Result<IterationReport> {
        self.judge_as(iteration, false)
    }

    /// The same for a candidate that a person may have approved whatever speaks against it. Its certain harm is known and
    /// wanted: the guards against drift count from its level on, or they would hold it against every candidate that follows.
    pub(crate) fn judge_as(&mut self, iteration: &Iteration, approved: bool) -> Result<IterationReport> {
        let mut next = self.clone();
        let report = next.advance(iteration, approved)?;
        if report.decision != IterationDecision::Confirm {
            *self = next;
        }
        Ok(report)
    }

    fn advance(&mut self, iteration: &Iteration, approved: bool) -> Result<IterationReport> {
        check(iteration)?;
        self.add_guards(iteration)?;
        let mut drift = self.learn_incumbents(iteration)?;
        let then = if iteration.sampling == Sampling::Fixed { Then::Nothing } else { Then::Pairs };
        let mut metrics: Vec<&RunMetric> = iteration.metrics.iter().collect();
        metrics.sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
        let mut reports: Vec<MetricReport> = metrics
            .iter()
            .zip(self.screen_all(&metrics, iteration.sampling, then))
            .map(|(metric, screen)| self.first_report(metric, screen))
            .collect::<Result<_>>()?;
        let suspects: Vec<usize> =
            (0..metrics.len()).filter(|place| is_suspicious(&reports[*place])).collect();
        let level = if iteration.sampling == Sampling::Fixed {
            self.decide_on_own_samples(&metrics, &mut reports)?
        } else if suspects.iter().any(|place| metrics[*place].confirmation.is_none()) {
            return Ok(self.wants_confirmation(reports));
        } else {
            self.decide_on_pairs(&metrics, &suspects, &mut reports)?
        };
        let mut decision = decision_of(&reports);
        if approved {
            let is_harmed = |report: &&MetricReport| report.verdict == Verdict::Regressed;
            self.anchor_anew(reports.iter().filter(is_harmed).map(|report| &report.metric));
        }
        if decision == IterationDecision::Accept || iteration.accepted == Some(true) {
            drift.extend(self.watch_candidates(&metrics)?);
        }
        if !drift.is_empty() {
            decision = IterationDecision::Rollback;
        }
        if approved {
            self.anchor_anew(drift.iter().map(|found| &found.metric));
        }
        if iteration.accepted.unwrap_or(decision == IterationDecision::Accept) {
            self.learn_accepted(&metrics, &mut reports)?;
        }
        self.count(decision, iteration.accepted, &reports)?;
        Ok(IterationReport {
            reason: reason(decision, &reports, &drift),
            decision,
            level,
            pairs: pairs_used(&reports),
            metrics: reports,
            drift,
            totals: self.totals,
        })
    }

    /// Gives each new metric and baseline a guard with its share of the drift budget.
    fn add_guards(&mut self, iteration: &Iteration) -> Result<()> {
        let budget = self.settings.drift_budget();
        if budget <= 0.0 {
            return Ok(());
        }
        let is_first = self.metrics.values().all(|state| !state.has_guards());
        let mut wanted = Vec::new();
        for metric in &iteration.metrics {
            wanted.push((metric, self.state(metric).missing_guards(metric)));
        }
        let count = wanted.iter().map(|(_, names)| names.len()).sum::<usize>().max(1) as f64;
        for (metric, names) in wanted {
            for name in names {
                let alpha = if is_first {
                    budget * (1.0 - LATE_SHARE) / count
                } else {
                    self.late_guards += 1;
                    let i = f64::from(self.late_guards);
                    budget * LATE_SHARE / (i * (i + 1.0))
                };
                let guard = DriftGuard::new(metric.spec.direction, alpha)?
                    .tolerating(metric.threshold.threshold())?;
                self.state(metric).add_guard(name, guard);
            }
        }
        Ok(())
    }

    fn state(&mut self, metric: &RunMetric) -> &mut MetricState {
        self.metrics.entry(metric.spec.name.clone()).or_insert_with(MetricState::new)
    }

    fn learn_incumbents(&mut self, iteration: &Iteration) -> Result<Vec<DriftFinding>> {
        let samples_max = self.settings.reference_samples_max;
        let mut found = Vec::new();
        for metric in &iteration.metrics {
            if metric.incumbent.iter().any(|value| !value.is_finite()) {
                continue;
            }
            let state = self.state(metric);
            let alarm = state.watch_incumbent(metric)?;
            state.learn(&metric.incumbent, samples_max);
            found.extend(alarm.map(|alarm| DriftFinding {
                metric: metric.spec.name.clone(),
                baseline: None,
                alarm,
            }));
        }
        Ok(found)
    }

    /// Lets the guards since the start of these metrics count from the level that the incumbent is found at next.
    fn anchor_anew<'a>(&mut self, metrics: impl Iterator<Item = &'a MetricName>) {
        for name in metrics {
            if let Some(state) = self.metrics.get_mut(name) {
                state.await_anchor();
            }
        }
    }

    fn watch_candidates(&mut self, metrics: &[&RunMetric]) -> Result<Vec<DriftFinding>> {
        let mut found = Vec::new();
        for metric in metrics.iter().filter(|metric| is_finite(&metric.candidate)) {
            let alarms = self.state(metric).watch_candidate(metric)?;
            found.extend(alarms.into_iter().map(|(baseline, alarm)| DriftFinding {
                metric: metric.spec.name.clone(),
                baseline,
                alarm,
            }));
        }
        Ok(found)
    }

    fn wants_confirmation(&self, metrics: Vec<MetricReport>) -> IterationReport {
        IterationReport {
            decision: IterationDecision::Confirm,
            reason: format!(
                "suspicious: measure incumbent and candidate anew, side by side, at most {} times each",
                self.settings.confirm_pairs_max
            ),
            level: None,
            pairs: self.settings.confirm_pairs_max,
            metrics,
            drift: Vec::new(),
            totals: self.totals,
        }
    }

    /// Adds the samples of an accepted candidate to the reference, and estimates its gains.
    fn learn_accepted(&mut self, metrics: &[&RunMetric], reports: &mut [MetricReport]) -> Result<()> {
        let samples_max = self.settings.reference_samples_max;
        for (metric, report) in metrics.iter().zip(reports) {
            if !is_finite(&metric.candidate) || metric.candidate.is_empty() {
                continue;
            }
            let sign = metric.spec.direction.harm_sign();
            if let Some(screen) =
                report.screen.filter(|screen| sign * screen.change < -CLAIM * screen.standard_error)
            {
                report.gain = Some(match &metric.confirmation {
                    Some(fresh) if fresh.incumbent.len() >= 2 => gain_of_fresh_pairs(screen.change, fresh)?,
                    _ => GainEstimate::unconfirmed(screen.change),
                });
            }
            let state = self.state(metric);
            state.learn(&metric.candidate, samples_max);
            if let Some(fresh) = &metric.confirmation {
                state.learn(&fresh.candidate, samples_max);
            }
        }
        Ok(())
    }

    /// Counts what was decided, where that is known, else what is advised. What is refused for other reasons than these is
    /// none of the three.
    fn count(
        &mut self,
        advice: IterationDecision,
        accepted: Option<bool>,
        reports: &[MetricReport],
    ) -> Result<()> {
        self.totals.iterations += 1;
        let decision = if accepted == Some(true) { IterationDecision::Accept } else { advice };
        match decision {
            IterationDecision::Accept if accepted == Some(false) => {}
            IterationDecision::Accept => {
                self.totals.accepted += 1;
                let miss = |report: &MetricReport| match report.stage {
                    Stage::Confirmation => CONFIRMATION_MISS,
                    _ => report.screen.map_or(0.0, |screen| screen.miss),
                };
                self.misses += reports.iter().map(miss).fold(0.0, f64::max);
                let harms = reports.iter().filter_map(|report| report.screen).map(|screen| screen.harm);
                self.harms += harms.fold(0.0, f64::max);
                self.totals.visible_harm = self.harms / self.totals.accepted as f64;
            }
            IterationDecision::Rollback => self.totals.rollbacks += 1,
            _ => self.totals.inconclusive += 1,
        }
        let has_guards = self.metrics.values().any(MetricState::has_guards);
        self.totals.decisions = self.ledger.decisions();
        self.totals.false_rollbacks_max =
            self.ledger.spent() + if has_guards { self.settings.drift_budget() } else { 0.0 };
        self.totals.false_acceptances_max = self.false_acceptances()?;
        Ok(())
    }

    fn false_acceptances(&self) -> Result<f64> {
        let accepted = self.totals.accepted as f64;
        if accepted <= 0.0 {
            return Ok(0.0);
        }
        let miss = self.misses / accepted;
        let limit = Gamma::new(self.totals.rollbacks as f64 + 1.0, 1.0)
            .map_err(|error| crate::statistics::invalid("a number of rollbacks", error.to_string()))?
            .inverse_cdf(0.95);
        Ok(if miss < 1.0 { (limit * miss / (1.0 - miss)).min(accepted) } else { accepted })
    }
}

fn check(iteration: &Iteration) -> Result<()> {
    let mut names = std::collections::BTreeSet::new();
    for metric in &iteration.metrics {
        let name = &metric.spec.name;
        if !names.insert(name) {
            return Err(Error::DuplicateMetric { metric: name.to_string(), side: "iteration".to_owned() });
        }
        if metric.baselines.contains_key("") {
            return Err(crate::statistics::invalid(&format!("a baseline of {name}"), "it has no name"));
        }
        if let Some(fresh) =
            metric.confirmation.as_ref().filter(|fresh| fresh.incumbent.len() != fresh.candidate.len())
        {
            let reason = format!(
                "{} values of the incumbent, {} of the candidate",
                fresh.incumbent.len(),
                fresh.candidate.len()
            );
            return Err(crate::statistics::invalid(&format!("confirmation of {name}"), reason));
        }
    }
    Ok(())
}

fn is_finite(values: &[f64]) -> bool {
    values.iter().all(|value| value.is_finite())
}
