//! The standard detector inside a run: verdicts out of one error budget, and what to measure before there can be one.

use std::collections::{BTreeMap, BTreeSet};

use evoseal_types::{MetricName, MetricSamples};
use serde::{Deserialize, Serialize};

use crate::analyzer::{Analyzer, Comparison, TInterval};
use crate::run::MISS;
use crate::samples::problem;
use crate::verdict;
use crate::{
    Assessment, DriftFinding, Finding, FreshPairs, GainEstimate, Iteration, IterationDecision,
    IterationReport, Measurements, MetricReport, RegressionDetector, Result, RunJudge, RunMetric, SampleKind,
    Sampling, ScreenOutcome, Stage, Verdict, gain_of_fresh_pairs, independent_values,
};

/// How many fresh pairs are asked for at a time: few enough to stop soon, many enough for a verdict at once where the harm
/// is plain.
const PAIRS_AT_ONCE: usize = 10;

/// What a run brings to a judgement besides the measurements.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunContext {
    /// What was learned from the iterations before; `None` before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<RunMemory>,
    /// Samples of both versions that were measured anew, side by side, after the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh: Option<FreshSamples>,
    /// Whether both versions can be measured again.
    pub can_measure_again: bool,
    /// The metric that has to improve, if one has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<MetricName>,
    /// Whether a person has approved the candidate, whatever speaks against it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
}

/// What a detector has learned in a run. Only the detector that made it knows what it says; for everybody else it is a value that
/// can be stored. Its size does not grow with the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunMemory(RunJudge);

/// Samples of two versions, measured in turns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FreshSamples {
    /// The accepted version's.
    pub incumbent: Vec<MetricSamples>,
    /// The candidate's.
    pub candidate: Vec<MetricSamples>,
}

/// A wish of a detector: measure both versions again, in turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FurtherSamples {
    /// Where the samples belong.
    pub purpose: SamplePurpose,
    /// How many process starts of each version.
    pub pairs: u32,
    /// Why, in a sentence.
    pub reason: String,
}

/// What further samples are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplePurpose {
    /// They are added to the others.
    Screen,
    /// They are kept apart ([`RunContext::fresh`]): they settle what the others made suspicious, or say how much was gained.
    Fresh,
}

/// What a run-wide judgement found, beside the findings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunAssessment {
    /// The report of the run's judge.
    pub report: IterationReport,
    /// What the objective really gained, estimated on samples that did not choose the candidate.
    pub gain: Option<GainEstimate>,
    /// The metrics that show no sign of harm, although so much of it as the settings ask for would have been seen.
    pub cleared: BTreeSet<MetricName>,
}

impl RunAssessment {
    /// Whether there is no sign of harm in a metric, although its interval may not say so.
    pub fn is_cleared(&self, metric: &MetricName) -> bool {
        self.cleared.contains(metric)
    }
}

impl RegressionDetector {
    /// The verdicts of a run in place of those of a single comparison.
    pub(crate) fn judged_in_run(
        &self,
        mut assessment: Assessment,
        measurements: &Measurements,
        run: &RunContext,
    ) -> Result<Assessment> {
        let iteration = self.iteration(measurements, run)?;
        let mut judge = self.judge_of(run)?;
        let report = decided(&mut judge, &iteration, false)?;
        let gain = gain_of_objective(run, &iteration, &assessment)?;
        let each = report.level.map(|level| level / iteration.metrics.len().max(1) as f64);
        let mut cleared = BTreeSet::new();
        for found in &report.metrics {
            if let Some(finding) = against_incumbent(&mut assessment.findings, &found.metric) {
                overrule(finding, found, each);
                let wanted = judge.settings().harm_beyond(finding.threshold.threshold());
                if finding.verdict != Verdict::Regressed && is_cleared(found, wanted) {
                    cleared.insert(found.metric.clone());
                }
            }
        }
        if let Some((metric, gain)) = &gain
            && let Some(finding) = against_incumbent(&mut assessment.findings, metric)
        {
            reestimate(finding, gain, &iteration)?;
        }
        let drifts = report.drift.iter().filter_map(|drift| drift_finding(&assessment.findings, drift));
        let drifts: Vec<Finding> = drifts.collect();
        assessment.findings.extend(drifts);
        let run = RunAssessment { report, gain: gain.map(|(_, gain)| gain), cleared };
        Ok(Assessment { run: Some(Box::new(run)), ..Assessment::new(assessment.findings) })
    }

    /// See [`Detector::further_samples`](crate::Detector::further_samples).
    pub(crate) fn wanted_samples(&self, measurements: &Measurements) -> Result<Option<FurtherSamples>> {
        let Some(run) = measurements.run.as_ref().filter(|run| run.can_measure_again) else {
            return Ok(None);
        };
        let iteration = self.iteration(measurements, run)?;
        if !self.uses_statistics() || iteration.metrics.is_empty() {
            return Ok(None);
        }
        let judge = self.judge_of(run)?;
        let settings = *judge.settings();
        let given = iteration.metrics.iter().map(|metric| metric.candidate.len()).max().unwrap_or(0);
        let have = fresh_pairs(&iteration);
        let wish = |purpose, pairs: usize, reason: &str| {
            let pairs = u32::try_from(pairs).unwrap_or(u32::MAX);
            Ok(Some(FurtherSamples { purpose, pairs, reason: reason.to_owned() }))
        };
        // A metric of which there is one value calls for more as well, and may never get them.
        let room = settings.screen_samples_max.saturating_sub(given);
        if have == 0 && room > 0 && judge.screen(&iteration)?.0 == ScreenOutcome::NeedsMore {
            let more = given.max(settings.screen_samples_min).min(room);
            return wish(SamplePurpose::Screen, more, "too early to say whether anything is worse");
        }
        let report = judge.clone().judge(&iteration)?;
        let left = settings.confirm_pairs_max.saturating_sub(have);
        let is_open = |found: &MetricReport| {
            found.stage == Stage::Confirmation
                && found.verdict == Verdict::Inconclusive
                && found.screen.is_some_and(|screen| screen.outcome == ScreenOutcome::Suspicious)
        };
        if report.decision == IterationDecision::Confirm || report.metrics.iter().any(is_open) {
            let more = have.max(PAIRS_AT_ONCE).min(left);
            return if more == 0 { Ok(None) } else { wish(SamplePurpose::Fresh, more, &report.reason) };
        }
        // What looks better was lucky as well: how much better it is, other samples say.
        let assessment = self.judge_once(measurements)?;
        let looks_better = run.objective.as_ref().is_some_and(|objective| {
            let finding = assessment.against_incumbent(objective);
            finding.is_some_and(|finding| finding.verdict == Verdict::Improved)
        });
        let wanted = given.max(settings.screen_samples_min).min(settings.confirm_pairs_max);
        if report.decision == IterationDecision::Accept && looks_better && have < wanted {
            return wish(
                SamplePurpose::Fresh,
                wanted - have,
                "the gain is estimated on samples that did not choose it",
            );
        }
        Ok(None)
    }

    /// See [`Detector::remember`](crate::Detector::remember).
    pub(crate) fn learned(&self, measurements: &Measurements, accepted: bool) -> Result<Option<RunMemory>> {
        let Some(run) = measurements.run.as_ref().filter(|_| self.uses_statistics()) else { return Ok(None) };
        let mut judge = self.judge_of(run)?;
        let iteration = Iteration { accepted: Some(accepted), ..self.iteration(measurements, run)? };
        decided(&mut judge, &iteration, accepted && run.approved)?;
        Ok(Some(RunMemory(judge)))
    }

    fn judge_of(&self, run: &RunContext) -> Result<RunJudge> {
        match &run.memory {
            Some(RunMemory(judge)) => Ok(judge.clone()),
            None => RunJudge::new(self.run_settings()),
        }
    }

    /// What the judge of a run looks at: the metrics that can be compared.
    fn iteration(&self, measurements: &Measurements, run: &RunContext) -> Result<Iteration> {
        let old = by_name(&measurements.incumbent);
        let fresh = run.fresh.as_ref().map(|fresh| (by_name(&fresh.incumbent), by_name(&fresh.candidate)));
        let mut metrics = Vec::new();
        for new in &measurements.candidate {
            let name = &new.spec.name;
            let incumbent = old.get(name).copied();
            if problem(incumbent, Some(new)).is_some() {
                continue;
            }
            let threshold = self.get_regression_threshold(&new.spec)?;
            if threshold.direction() != new.spec.direction {
                continue;
            }
            let incumbent = incumbent.map_or_else(|| Ok(Vec::new()), values)?;
            let candidate = values(new)?;
            let confirmation = match &fresh {
                Some((old, new)) => pairs(old.get(name).copied(), new.get(name).copied())?,
                None => None,
            };
            let fresh_values = confirmation.iter().flat_map(|pairs| [&pairs.incumbent, &pairs.candidate]);
            let kind = SampleKind::of([&incumbent, &candidate].into_iter().chain(fresh_values).flatten());
            let (spec, baselines) = (new.spec.clone(), BTreeMap::new());
            metrics.push(RunMetric { spec, threshold, kind, incumbent, candidate, confirmation, baselines });
        }
        let on_demand = run.can_measure_again || run.fresh.is_some();
        let sampling = if on_demand { Sampling::OnDemand } else { Sampling::Fixed };
        Ok(Iteration { metrics, sampling, accepted: None })
    }
}

/// The judge's report. What could still be confirmed and will not be is judged by what there is.
fn decided(judge: &mut RunJudge, iteration: &Iteration, approved: bool) -> Result<IterationReport> {
    let report = judge.judge_as(iteration, approved)?;
    if report.decision != IterationDecision::Confirm {
        return Ok(report);
    }
    judge.judge_as(&Iteration { sampling: Sampling::Fixed, ..iteration.clone() }, approved)
}

fn by_name(metrics: &[MetricSamples]) -> BTreeMap<&MetricName, &MetricSamples> {
    metrics.iter().map(|metric| (&metric.spec.name, metric)).collect()
}

/// Independent values; what is no number is judged as what it is.
fn values(samples: &MetricSamples) -> Result<Vec<f64>> {
    if samples.samples.iter().any(|sample| !sample.value.is_finite()) {
        return Ok(samples.values());
    }
    independent_values(samples)
}

/// Fresh values side by side; one without a partner is left out.
fn pairs(old: Option<&MetricSamples>, new: Option<&MetricSamples>) -> Result<Option<FreshPairs>> {
    let (Some(old), Some(new)) = (old, new) else { return Ok(None) };
    let (mut incumbent, mut candidate) = (values(old)?, values(new)?);
    let count = incumbent.len().min(candidate.len());
    incumbent.truncate(count);
    candidate.truncate(count);
    Ok((count > 0).then_some(FreshPairs { incumbent, candidate }))
}

fn fresh_pairs(iteration: &Iteration) -> usize {
    let counts = iteration.metrics.iter().filter_map(|metric| metric.confirmation.as_ref());
    counts.map(|fresh| fresh.candidate.len()).max().unwrap_or(0)
}

fn against_incumbent<'a>(findings: &'a mut [Finding], metric: &MetricName) -> Option<&'a mut Finding> {
    findings.iter_mut().find(|finding| finding.baseline.is_none() && finding.metric.name == *metric)
}

/// Whether a metric shows no sign of the `wanted` harm, which the samples could have shown.
fn is_cleared(found: &MetricReport, wanted: f64) -> bool {
    found.screen.is_some_and(|screen| {
        screen.outcome == ScreenOutcome::Cleared
            && screen.miss <= MISS
            && screen.harm <= wanted * (1.0 + 1e-9)
    })
}

/// Puts the run's verdict on a metric in place of that of a single comparison. `each` is the level of a decision on the
/// iteration's own samples: a single comparison that reaches it needs no other.
fn overrule(finding: &mut Finding, found: &MetricReport, each: Option<f64>) {
    if found.problem.is_some() {
        (finding.verdict, finding.severity, finding.problem) =
            (Verdict::InsufficientData, None, found.problem);
        (finding.interval, finding.p_value) = (None, None);
        finding.reason.clone_from(&found.reason);
        return;
    }
    let is_certain = finding.verdict == Verdict::Regressed
        && found.stage == Stage::OwnSamples
        && finding.p_value.zip(each).is_some_and(|(p_value, level)| p_value <= level);
    if is_certain {
        return;
    }
    let has_last_word = matches!(found.stage, Stage::Confirmation | Stage::OwnSamples | Stage::Exact);
    if has_last_word {
        finding.verdict = found.verdict;
        finding.change = found.change.or(finding.change);
        finding.interval = found.interval.or(finding.interval);
        finding.p_value = found.p_value;
        found.stage.name().clone_into(&mut finding.method);
        finding.reason.clone_from(&found.reason);
    } else if finding.verdict == Verdict::Regressed {
        // One comparison among many: for the run it is no certain harm.
        finding.verdict = Verdict::Inconclusive;
        finding.reason.clone_from(&found.reason);
    } else if finding.verdict == Verdict::Inconclusive {
        finding.reason.clone_from(&found.reason);
    }
    finding.severity = (finding.verdict == Verdict::Regressed)
        .then(|| finding.severity.unwrap_or_else(|| verdict::severity(finding.change, &finding.threshold)));
}

/// The objective's gain on fresh samples, where it looks better on the others.
fn gain_of_objective(
    run: &RunContext,
    iteration: &Iteration,
    assessment: &Assessment,
) -> Result<Option<(MetricName, GainEstimate)>> {
    let Some(objective) = &run.objective else { return Ok(None) };
    let finding = assessment.against_incumbent(objective);
    let claimed =
        finding.filter(|finding| finding.verdict == Verdict::Improved).and_then(|found| found.change);
    let metric = iteration.metrics.iter().find(|metric| metric.spec.name == *objective);
    let fresh =
        metric.and_then(|metric| metric.confirmation.as_ref()).filter(|fresh| fresh.candidate.len() >= 2);
    let (Some(claimed), Some(fresh)) = (claimed, fresh) else { return Ok(None) };
    let all_finite = fresh.incumbent.iter().chain(&fresh.candidate).all(|value| value.is_finite());
    if !all_finite {
        return Ok(None);
    }
    Ok(Some((objective.clone(), gain_of_fresh_pairs(claimed, fresh)?)))
}

/// Says of the objective what its fresh samples say: they did not choose the candidate.
fn reestimate(finding: &mut Finding, gain: &GainEstimate, iteration: &Iteration) -> Result<()> {
    let Some(fresh) = gain.fresh else { return Ok(()) };
    let metric = iteration.metrics.iter().find(|metric| metric.spec.name == finding.metric.name);
    let Some(pairs) = metric.and_then(|metric| metric.confirmation.as_ref()) else { return Ok(()) };
    let is_better = finding.metric.direction.harm_sign() * fresh < 0.0;
    if finding.verdict == Verdict::Improved && !is_better {
        finding.verdict = Verdict::Inconclusive;
    }
    let comparison =
        Comparison { incumbent: &pairs.incumbent, candidate: &pairs.candidate, paired: true, level: 0.95 };
    finding.p_value = TInterval.analyze(&comparison)?.p_value;
    finding.change = Some(fresh);
    finding.interval = gain.interval;
    finding.absolute_change = finding.old_value.map(|old| fresh * old.abs());
    finding.reason = format!("{}: {}", finding.metric.name, gain.reason);
    Ok(())
}

/// A drift as a finding against what it has moved away from.
fn drift_finding(findings: &[Finding], drift: &DriftFinding) -> Option<Finding> {
    let like =
        findings.iter().find(|finding| finding.metric.name == drift.metric && finding.baseline.is_none())?;
    let baseline = drift.baseline.clone().unwrap_or_else(|| "start of the run".to_owned());
    let change = Some(drift.alarm.change);
    Some(Finding {
        baseline: Some(baseline),
        verdict: Verdict::Regressed,
        severity: Some(verdict::severity(change, &like.threshold)),
        problem: None,
        old_value: Some(drift.alarm.anchor),
        new_value: Some(drift.alarm.level),
        absolute_change: None,
        change,
        interval: None,
        p_value: Some((1.0 / drift.alarm.e_value.max(1.0)).min(1.0)),
        power: None,
        method: "drift guard".to_owned(),
        anomalies: Vec::new(),
        reason: format!(
            "{}: {:+.2} % bit by bit since step {}",
            drift.metric,
            drift.alarm.change * 100.0,
            drift.alarm.since
        ),
        ..like.clone()
    })
}

#[cfg(test)]
mod tests {
    use evoseal_types::{Direction, MetricSpec};

    use super::*;
    use crate::{Detector, RegressionSettings};

    fn metric(name: &str, count: u16) -> MetricSamples {
        let values: Vec<f64> = (0..count).map(|i| 100.0 + f64::from(i % 5)).collect();
        MetricSamples::independent(MetricSpec::new(name, "ms", Direction::Increase).unwrap(), &values)
    }

    #[test]
    fn a_metric_that_was_printed_once_is_no_reason_to_measure_for_ever() {
        let detector = RegressionDetector::new(&RegressionSettings::default()).unwrap();
        let most = u16::try_from(RegressionSettings::default().run.screen_samples_max).unwrap();
        for given in [most, most + 1, 3 * most] {
            let side = vec![metric("often", given), metric("once", 1)];
            let run = Some(RunContext { can_measure_again: true, ..RunContext::default() });
            let measurements =
                Measurements { incumbent: side.clone(), candidate: side, run, ..Measurements::default() };
            let wanted = detector.further_samples(&measurements).unwrap();
            assert_eq!(wanted, None, "{given} samples of the other");
        }
    }
}
