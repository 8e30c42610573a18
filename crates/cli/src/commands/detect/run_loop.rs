//! `evoseal detect loop`: the iterations of a run, judged in order with one error budget.

use std::collections::BTreeMap;
use std::path::Path;

use evoseal_regression::{
    DriftFinding, FreshPairs, Iteration, IterationDecision, MetricReport, RegressionDetector,
    RegressionSettings, RunJudge, RunMetric, RunSettings, RunTotals, SampleKind, Sampling,
    independent_values,
};
use evoseal_types::{Direction, MetricSpec, Threshold};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compare::samples;
use crate::detect_args::{BudgetArguments, LoopArguments};
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::Project;
use crate::settings::LoadedSettings;

/// One iteration, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IterationLine {
    id: Option<Value>,
    metrics: BTreeMap<String, MetricLine>,
    accepted: Option<bool>,
}

/// The samples of one metric, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricLine {
    #[serde(default = "no_samples")]
    incumbent: Value,
    candidate: Value,
    confirmation: Option<PairsLine>,
    #[serde(default = "rise")]
    direction: Direction,
    threshold: Option<f64>,
    kind: Option<SampleKind>,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    baselines: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PairsLine {
    incumbent: Value,
    candidate: Value,
}

fn no_samples() -> Value {
    Value::Array(Vec::new())
}

fn rise() -> Direction {
    Direction::Increase
}

/// The answer to one iteration, as one line of JSON.
#[derive(Debug, Serialize)]
struct IterationAnswer {
    id: Value,
    decision: IterationDecision,
    reason: String,
    level: Option<f64>,
    pairs: usize,
    metrics: Vec<MetricReport>,
    drift: Vec<DriftFinding>,
    totals: RunTotals,
}

pub(super) fn run(arguments: &LoopArguments, output: Output) -> Result<Exit> {
    let settings = match &arguments.settings {
        Some(file) => settings_of(file)?,
        None => RegressionSettings { regression_threshold: 0.0, ..RegressionSettings::default() },
    };
    let thresholds = Thresholds {
        overriding: arguments.threshold,
        detector: arguments.settings.is_some().then(|| RegressionDetector::new(&settings)).transpose()?,
    };
    let lines = read(&arguments.batch)?;
    let has_fresh =
        lines.iter().any(|(_, line)| line.metrics.values().any(|metric| metric.confirmation.is_some()));
    let sampling = if has_fresh { Sampling::FreshPairs } else { Sampling::Fixed };
    let mut run = budgeted(settings.run, &arguments.budget);
    // The number of iterations is known: each is a decision where there are no fresh samples, else at most every tenth is.
    run.decisions_expected = run.decisions_expected.max(match sampling {
        Sampling::Fixed => lines.len(),
        _ => lines.len() / 10,
    });
    let mut judge = RunJudge::new(run)?;
    let mut answers = Vec::new();
    for (number, line) in lines {
        let refuse = |failure: Failure| Failure {
            message: format!("{}:{number}: {}", arguments.batch.display(), failure.message),
            ..failure
        };
        let id = line.id.clone().unwrap_or_else(|| number.into());
        let iteration = iteration_of(line, sampling, &thresholds).map_err(refuse)?;
        let report = judge.judge(&iteration).map_err(|error| refuse(error.into()))?;
        answers.push(IterationAnswer {
            id,
            decision: report.decision,
            reason: report.reason,
            level: report.level,
            pairs: report.pairs,
            metrics: report.metrics,
            drift: report.drift,
            totals: report.totals,
        });
    }
    output.lines(&answers, text);
    output.say(summary(judge.totals()));
    Ok(if judge.totals().rollbacks > 0 { Exit::Found } else { Exit::Done })
}

/// The detector's settings in a settings file.
fn settings_of(file: &Path) -> Result<RegressionSettings> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::io("read", file, &error))?;
    // A bare file name has no folder to speak of.
    let file = std::path::absolute(file).map_err(|error| Failure::io("find", file, &error))?;
    Ok(Project::open(LoadedSettings::parse(&file, &text)?)?.detector_settings())
}

/// Settings with what the command line replaces.
pub(super) fn budgeted(settings: RunSettings, arguments: &BudgetArguments) -> RunSettings {
    RunSettings {
        error_budget: arguments.alpha.unwrap_or(settings.error_budget),
        policy: arguments.policy.map_or(settings.policy, Into::into),
        smallest_harm: arguments.smallest_harm.unwrap_or(settings.smallest_harm),
        ..settings
    }
}

/// Where a metric's threshold comes from.
struct Thresholds {
    overriding: Option<f64>,
    detector: Option<RegressionDetector>,
}

impl Thresholds {
    fn of(&self, spec: &MetricSpec, written: Option<f64>) -> Result<Threshold> {
        match (written.or(self.overriding), &self.detector) {
            (Some(fraction), _) => Ok(Threshold::new(spec.name.as_str(), fraction, spec.direction)?),
            (None, Some(detector)) => Ok(detector.get_regression_threshold(spec)?),
            (None, None) => Ok(Threshold::new(spec.name.as_str(), 0.0, spec.direction)?),
        }
    }
}

/// The lines with their numbers. All are read before any is judged.
fn read(path: &Path) -> Result<Vec<(usize, IterationLine)>> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let line = serde_json::from_str(line).map_err(|error| {
            Failure::usage(format!("{}:{number}: {error}", path.display()))
                .hint("`evoseal detect loop --help` shows what a line holds")
        })?;
        lines.push((number, line));
    }
    Ok(lines)
}

fn iteration_of(line: IterationLine, sampling: Sampling, thresholds: &Thresholds) -> Result<Iteration> {
    let metrics = line.metrics.into_iter().map(|(name, metric)| metric_of(&name, metric, thresholds));
    Ok(Iteration { metrics: metrics.collect::<Result<_>>()?, sampling, accepted: line.accepted })
}

fn metric_of(name: &str, line: MetricLine, thresholds: &Thresholds) -> Result<RunMetric> {
    let refuse = |failure: Failure| Failure { message: format!("{name}: {}", failure.message), ..failure };
    let spec = MetricSpec::new(name, line.unit, line.direction)?;
    let values = |value: &Value, side: &str| -> Result<Vec<f64>> {
        let samples = samples(&spec, value, side).map_err(refuse)?;
        // What is no number is judged as what it is; means are taken of numbers alone.
        if samples.samples.iter().any(|sample| !sample.value.is_finite()) {
            return Ok(samples.values());
        }
        Ok(independent_values(&samples)?)
    };
    let (incumbent, candidate) =
        (values(&line.incumbent, "incumbent")?, values(&line.candidate, "candidate")?);
    let confirmation = match &line.confirmation {
        Some(pairs) => Some(FreshPairs {
            incumbent: values(&pairs.incumbent, "confirmation.incumbent")?,
            candidate: values(&pairs.candidate, "confirmation.candidate")?,
        }),
        None => None,
    };
    if let Some(fresh) = confirmation.as_ref().filter(|fresh| fresh.incumbent.len() != fresh.candidate.len())
    {
        return Err(Failure::usage(format!(
            "{name}: the confirmation has {} values of the incumbent and {} of the candidate",
            fresh.incumbent.len(),
            fresh.candidate.len()
        ))
        .hint("measure them in turn, and leave out the one that has no partner"));
    }
    let baselines = line
        .baselines
        .iter()
        .map(|(baseline, value)| Ok((baseline.clone(), values(value, &format!("baseline {baseline}"))?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    if let Some((baseline, _)) = baselines.iter().find(|(_, values)| values.len() < 2) {
        return Err(Failure::usage(format!("{name}: baseline {baseline} has fewer than two values"))
            .hint("measure it as often as the candidate, in process starts of their own, or leave it out"));
    }
    let pairs = confirmation.iter().flat_map(|fresh| [&fresh.incumbent, &fresh.candidate]);
    let all = [&incumbent, &candidate].into_iter().chain(pairs);
    let kind = line.kind.unwrap_or_else(|| SampleKind::of(all.flatten()));
    let threshold = thresholds.of(&spec, line.threshold)?;
    Ok(RunMetric { threshold, spec, kind, incumbent, candidate, confirmation, baselines })
}

fn text(answer: &IterationAnswer) -> String {
    let id = answer.id.as_str().map_or_else(|| answer.id.to_string(), str::to_owned);
    let decision = match answer.decision {
        IterationDecision::Accept => "accept",
        IterationDecision::Rollback => "rollback",
        IterationDecision::Inconclusive => "inconclusive",
        IterationDecision::Confirm => "confirm",
    };
    let gains = answer.metrics.iter().filter_map(|metric| {
        metric.gain.as_ref().map(|gain| format!("\n  {}: {}", metric.metric, gain.reason))
    });
    format!("{id}: {decision} ({}){}", answer.reason, gains.collect::<String>())
}

fn summary(totals: RunTotals) -> String {
    format!(
        "{} iterations: {} accepted, {} rolled back, {} inconclusive\n{}",
        totals.iterations,
        totals.accepted,
        totals.rollbacks,
        totals.inconclusive,
        totals.expected_errors()
    )
}
