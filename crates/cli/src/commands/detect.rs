//! `evoseal detect`: judgement without a run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use evoseal_regression::{
    Detector, Measurements, MetricThreshold, RegressionDetector, RegressionSettings, Verdict,
};
use evoseal_types::{Direction, MetricSamples, MetricSpec, Sample};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::args::DetectCommand;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;

/// The name under which the numbers of a batch line are compared.
const METRIC: &str = "value";

pub(crate) fn run(command: &DetectCommand, output: Output) -> Result<Exit> {
    match command {
        DetectCommand::Series(arguments) => super::series::run(arguments, output),
        DetectCommand::Compare { batch } => {
            let answers = compare(batch)?;
            output.lines(&answers, |answer| format!("{}: {} ({})", answer.id, answer.verdict, answer.reason));
            let found = answers.iter().any(|answer| answer.verdict == Verdict::Regressed);
            Ok(if found { Exit::Found } else { Exit::Done })
        }
    }
}

/// One comparison of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    id: Value,
    baseline: Value,
    candidate: Value,
    #[serde(default = "rise")]
    direction: Direction,
    #[serde(default = "tenth")]
    threshold: f64,
    #[serde(default)]
    paired: bool,
    #[serde(default = "five_percent")]
    alpha: f64,
}

fn rise() -> Direction {
    Direction::Increase
}

fn tenth() -> f64 {
    0.1
}

fn five_percent() -> f64 {
    0.05
}

/// The answer to one comparison, as one line of JSON.
#[derive(Debug, Serialize)]
struct Answer {
    id: Value,
    verdict: Verdict,
    /// The relative change; the absolute one where the baseline is zero.
    effect: Option<f64>,
    interval: Option<[f64; 2]>,
    /// The p-value.
    evidence: Option<f64>,
    method: String,
    reason: String,
}

fn compare(path: &PathBuf) -> Result<Vec<Answer>> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
    let mut answers = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let refuse = |what: String| Failure::usage(format!("{}:{number}: {what}", path.display()));
        let question: Question = serde_json::from_str(line).map_err(|error| refuse(error.to_string()))?;
        answers.push(answer(question).map_err(|failure| refuse(failure.message))?);
    }
    Ok(answers)
}

fn answer(question: Question) -> Result<Answer> {
    let mut settings = RegressionSettings::default();
    settings.statistical_analysis.confidence_level = 1.0 - question.alpha;
    let spec = MetricSpec::new(METRIC, "", question.direction)?;
    let threshold = MetricThreshold {
        threshold: Some(question.threshold),
        direction: Some(question.direction),
        ..MetricThreshold::default()
    };
    settings.metric_thresholds = BTreeMap::from([(spec.name.clone(), threshold)]);
    let detector = RegressionDetector::new(&settings)?;
    let assessment = detector.assess(&Measurements {
        incumbent: vec![samples(&spec, &question.baseline, "baseline")?],
        candidate: vec![samples(&spec, &question.candidate, "candidate")?],
        paired: question.paired,
        history: BTreeMap::new(),
        baselines: Vec::new(),
    })?;
    let finding = assessment.against_incumbent(&spec.name).ok_or_else(|| Failure {
        exit: Exit::Internal,
        message: "the detector gave no finding".to_owned(),
        hint: None,
    })?;
    Ok(Answer {
        id: question.id,
        verdict: finding.verdict,
        effect: finding.change.or(finding.absolute_change),
        interval: finding.interval.map(|interval| [interval.low, interval.high]),
        evidence: finding.p_value,
        method: finding.method.clone(),
        reason: finding.reason.clone(),
    })
}

/// Numbers, or lists of numbers of one process start each.
fn samples(spec: &MetricSpec, value: &Value, side: &str) -> Result<MetricSamples> {
    let refuse = || Failure::usage(format!("{side} must be a list of numbers or a list of such lists"));
    let number = |value: &Value| match value {
        // JSON has no such numbers; null and text stand for them and are judged as what they are.
        Value::Null => Ok(f64::NAN),
        Value::String(text) => text.parse().map_err(|_| refuse()),
        value => value.as_f64().ok_or_else(refuse),
    };
    let mut samples = Vec::new();
    for (start, item) in (0_u32..).zip(value.as_array().ok_or_else(refuse)?) {
        match item {
            Value::Array(iterations) => {
                for (iteration, item) in (0_u32..).zip(iterations) {
                    samples.push(Sample::new(start, iteration, number(item)?));
                }
            }
            item => samples.push(Sample::new(start, 0, number(item)?)),
        }
    }
    Ok(MetricSamples::new(spec.clone(), samples))
}
