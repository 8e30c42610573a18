//! What each stage says about the metrics of one iteration.

use super::RunJudge;
use crate::run::confirm::{Suspect, confirm};
use crate::run::metric::MetricState;
use crate::run::own::own_evidence;
use crate::run::report::{is_suspicious, percent, put_in};
use crate::run::screen::{MISS, Screened, Then, screen};
use crate::run::{MetricReport, RunMetric, Sampling, ScreenOutcome, ScreenReport, Stage};
use crate::samples::non_finite;
use crate::statistics::t_quantile;
use crate::{DataProblem, Interval, Result, Verdict, verdict};

/// Below so many values a scatter of zero says nothing.
const EXACT_LEAST: usize = 3;

impl RunJudge {
    /// Stage one for all metrics that can be compared; the problem of each of the others.
    pub(super) fn screen_all(
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
    pub(super) fn first_report(
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
    pub(super) fn decide_on_pairs(
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
    pub(super) fn decide_on_own_samples(
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

/// The 95 percent quantile; from two hundred degrees of freedom on the normal one, which differs by less than a hundredth.
fn normal_or_t(degrees_of_freedom: f64) -> Result<f64> {
    if degrees_of_freedom >= 200.0 { Ok(1.972) } else { t_quantile(0.95, degrees_of_freedom.max(1.0)) }
}
