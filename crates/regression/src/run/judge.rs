//! The judge of a run.

use std::collections::BTreeMap;

use evoseal_types::MetricName;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Gamma};

use super::confirm::{CONFIRMATION_MISS, Suspect, confirm};
use super::iteration::CANDIDATE_LEAST;
use super::metric::MetricState;
use super::own::own_evidence;
use super::report::{decision_of, is_suspicious, pairs_used, percent, put_in, reason};
use super::screen::{MISS, Screened, Then, screen};
use super::{
    DriftFinding, GainEstimate, Iteration, IterationDecision, IterationReport, MetricReport, RunMetric,
    RunSettings, RunTotals, Sampling, ScreenOutcome, ScreenReport, Stage, gain_of_fresh_pairs,
};
use crate::samples::non_finite;
use crate::statistics::t_quantile;
use crate::{DataProblem, DriftGuard, Error, ErrorLedger, Interval, Result, Verdict, verdict};

/// The share of the drift budget for metrics and baselines that appear after the first iteration.
const LATE_SHARE: f64 = 0.1;

/// From how many standard errors on a gain is claimed, and worth being estimated again.
const CLAIM: f64 = 2.0;

/// Below so many values a scatter of zero says nothing.
const EXACT_LEAST: usize = 3;

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

    /// Stage one for all metrics that can be compared; the problem of each of the others.
    fn screen_all(
        &self,
        metrics: &[&RunMetric],
        sampling: Sampling,
        then: Then,
    ) -> Vec<Result<ScreenReport, DataProblem>> {
        let prepared: Vec<Result<Screened<'_>, DataProblem>> =
            metrics.iter().map(|metric| self.prepare(metric, sampling)).collect();
        let usable: Vec<Screened<'_>> =
            prepared.iter().filter_map(|screened| screened.as_ref().ok().copied()).collect();
        let mut reports = screen(&usable, then, &self.settings).into_iter();
        let report = |screened: Result<Screened<'_>, DataProblem>| {
            screened.map(|_| reports.next().expect("one report for each usable metric"))
        };
        prepared.into_iter().map(report).collect()
    }

    fn prepare<'a>(&self, metric: &'a RunMetric, sampling: Sampling) -> Result<Screened<'a>, DataProblem> {
        let reference = self.metrics.get(&metric.spec.name).map(MetricState::reference).unwrap_or_default();
        if let Some(problem) = metric.problem(reference.count > 0.0) {
            return Err(problem);
        }
        if reference.count < 2.0 {
            return Err(DataProblem::TooFewSamples);
        }
        let settings = &self.settings;
        let (samples, pairs) = (settings.screen_samples_max, settings.confirm_pairs_max);
        let fresh = metric.confirmation.as_ref().map_or(pairs, |fresh| fresh.candidate.len().min(pairs));
        let most = match sampling {
            Sampling::OnDemand => (samples, pairs),
            Sampling::FreshPairs => (samples.min(metric.candidate.len()), fresh),
            Sampling::Fixed => (samples.min(metric.candidate.len()), usize::MAX),
        };
        Ok(Screened { reference, values: &metric.candidate, threshold: metric.threshold, most })
    }

    /// The report after stage one, or the exact comparison.
    fn first_report(
        &self,
        metric: &RunMetric,
        screen: Result<ScreenReport, DataProblem>,
    ) -> Result<MetricReport> {
        let mut report = MetricReport {
            metric: metric.spec.name.clone(),
            verdict: Verdict::InsufficientData,
            stage: Stage::None,
            change: None,
            interval: None,
            e_value: None,
            p_value: None,
            samples: metric.candidate.len(),
            screen: None,
            problem: None,
            gain: None,
            reason: String::new(),
        };
        let screen = match screen {
            Ok(screen) => screen,
            Err(problem) => {
                let bad = |values: &[f64]| non_finite(values.iter().copied());
                let why = verdict::why_not(
                    problem,
                    "the incumbent",
                    [bad(&metric.incumbent), bad(&metric.candidate)],
                );
                report.reason = format!("{}: {why}", metric.spec.name);
                report.problem = Some(problem);
                return Ok(report);
            }
        };
        let reference = self.metrics[&metric.spec.name].reference();
        report.screen = Some(screen);
        report.samples = screen.samples;
        report.change = Some(screen.change);
        let is_relative = reference.mean.abs() > 0.0;
        let is_constant = metric.candidate.windows(2).all(|pair| pair[0].total_cmp(&pair[1]).is_eq());
        let many = reference.count >= EXACT_LEAST as f64 && metric.candidate.len() >= EXACT_LEAST;
        let is_exact = many && is_constant && reference.squares <= 0.0;
        let level = if is_exact { 1.0 } else { 0.95 };
        let half =
            if is_exact { 0.0 } else { normal_or_t(reference.degrees_of_freedom())? * screen.standard_error };
        let interval = Interval { low: screen.change - half, high: screen.change + half, level };
        let seen = verdict::verdict(interval, &metric.threshold, is_relative);
        report.interval = Some(interval);
        report.stage = if is_exact { Stage::Exact } else { Stage::Screen };
        report.verdict = if seen == Verdict::Regressed && !is_exact { Verdict::Inconclusive } else { seen };
        let harm = percent(screen.harm);
        let change = percent(screen.change);
        report.reason = match (report.stage, screen.outcome) {
            (Stage::Exact, _) => format!("{}: {change} exactly, no value scatters", metric.spec.name),
            (_, ScreenOutcome::Suspicious) => {
                format!("{}: {change} against the accepted versions is suspicious", metric.spec.name)
            }
            _ if screen.miss > MISS => {
                format!(
                    "{}: {change} against the accepted versions, too few samples to see a harm of {harm}",
                    metric.spec.name
                )
            }
            _ => format!(
                "{}: {change} against the accepted versions, no sign of a harm of {harm}",
                metric.spec.name
            ),
        };
        Ok(report)
    }

    /// Makes the decision about the suspects on their fresh pairs, if there are any, and puts it into the reports.
    fn decide_on_pairs(
        &mut self,
        metrics: &[&RunMetric],
        places: &[usize],
        reports: &mut [MetricReport],
    ) -> Result<Option<f64>> {
        if places.is_empty() {
            return Ok(None);
        }
        let level = self.ledger.next_level();
        let suspects: Vec<Suspect<'_>> = places
            .iter()
            .map(|place| Suspect {
                threshold: metrics[*place].threshold,
                kind: metrics[*place].kind,
                fresh: metrics[*place]
                    .confirmation
                    .as_ref()
                    .expect("suspects without fresh pairs were sent back"),
                reference: self.metrics[&metrics[*place].spec.name].reference(),
                harm: reports[*place].screen.expect("suspects were screened").harm,
            })
            .collect();
        let confirmed = confirm(&suspects, level, &self.settings)?;
        let most = confirmed.iter().map(|end| end.report.e_value).fold(0.0, f64::max);
        self.ledger.record((confirmed.len() as f64 / most.max(f64::MIN_POSITIVE)).min(1.0))?;
        for (place, end) in places.iter().zip(confirmed) {
            put_in(&mut reports[*place], end);
            settle_exactly(metrics[*place], &mut reports[*place]);
        }
        Ok(Some(level))
    }

    /// Makes the decision on the iteration's own samples, for all metrics that have some of both sides.
    fn decide_on_own_samples(
        &mut self,
        metrics: &[&RunMetric],
        reports: &mut [MetricReport],
    ) -> Result<Option<f64>> {
        let places: Vec<usize> =
            (0..metrics.len()).filter(|place| reports[*place].stage == Stage::Screen).collect();
        if places.is_empty() {
            return Ok(None);
        }
        let (level, count) = (self.ledger.next_level(), places.len() as f64);
        let mut found = Vec::new();
        for place in places {
            let state = &self.metrics[&metrics[place].spec.name];
            found.extend(own_evidence(state, metrics[place], level / count)?.map(|own| (place, own)));
        }
        let least = found.iter().map(|(_, own)| own.p_value).fold(1.0, f64::min);
        self.ledger.record((count * least).min(1.0))?;
        for (place, own) in found {
            let report = &mut reports[place];
            let is_harm = own.p_value <= level / count;
            // What nobody suspects and is no certain harm keeps the word of stage one.
            if !is_harm && !is_suspicious(report) {
                continue;
            }
            let conclusion =
                if is_harm { "is certain harm" } else { "is suspicious, but not certain: measure again" };
            report.reason = format!(
                "{}: {} on this iteration's {} samples {conclusion}",
                report.metric,
                percent(own.change),
                own.samples
            );
            report.stage = Stage::OwnSamples;
            report.verdict = if is_harm { Verdict::Regressed } else { Verdict::Inconclusive };
            report.change = Some(own.change);
            report.interval = own.interval;
            report.p_value = Some(own.p_value);
            report.samples = own.samples;
        }
        Ok(Some(level))
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

/// Fresh pairs without any scatter say exactly how large the change is, however the samples before them scattered; a test that
/// weighs differences against their scatter has nothing to weigh them by.
fn settle_exactly(metric: &RunMetric, report: &mut MetricReport) {
    let is_constant = |values: &[f64]| values.windows(2).all(|pair| pair[0].total_cmp(&pair[1]).is_eq());
    let fresh = metric.confirmation.as_ref().filter(|fresh| fresh.candidate.len() >= EXACT_LEAST);
    let Some(fresh) = fresh.filter(|fresh| is_constant(&fresh.incumbent) && is_constant(&fresh.candidate))
    else {
        return;
    };
    let (old, new) = (fresh.incumbent[0], fresh.candidate[0]);
    let is_relative = old.abs() > 0.0;
    let change = (new - old) / if is_relative { old.abs() } else { 1.0 };
    let interval = Interval { low: change, high: change, level: 1.0 };
    report.stage = Stage::Exact;
    report.verdict = verdict::verdict(interval, &metric.threshold, is_relative);
    (report.change, report.interval, report.p_value) = (Some(change), Some(interval), None);
    if report.verdict != Verdict::Regressed
        && let Some(screen) = &mut report.screen
    {
        screen.outcome = ScreenOutcome::Cleared;
    }
    report.reason =
        format!("{}: {} exactly on {} fresh pairs", metric.spec.name, percent(change), report.samples);
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

/// The 95 percent quantile; from two hundred degrees of freedom on the normal one, which differs by less than a hundredth.
fn normal_or_t(degrees_of_freedom: f64) -> Result<f64> {
    if degrees_of_freedom >= 200.0 { Ok(1.972) } else { t_quantile(0.95, degrees_of_freedom.max(1.0)) }
}
