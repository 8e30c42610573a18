//! `evoseal detect compare`: many comparisons from a file, each by itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use evoseal_regression::{
    Analyzer, Auto, Bootstrap, BootstrapStatistic, Detector, EventCounts, Measurements, MetricThreshold,
    PassRate, Permutation, RankShift, RegressionDetector, RegressionSettings, TInterval, TrimmedMeans,
    Verdict, in_parallel,
};
use evoseal_types::{Direction, MetricSamples, MetricSpec, Sample};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{Exit, Failure, Result};
use crate::output::Output;

/// The name under which the numbers of a batch line are compared.
const METRIC: &str = "value";

/// What a line has to look like.
const SHAPE: &str = "a line is one JSON object: {\"id\": \"a\", \"baseline\": [1.0, 1.1, 0.9], \"candidate\": [1.2, 1.3, 1.1], \
                     \"direction\": \"increase\", \"threshold\": 0.05, \"paired\": false, \"alpha\": 0.05}; all but the first three \
                     may be left out";

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
    /// The statistical method; the one that fits the values.
    #[serde(default)]
    method: Method,
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

/// The methods by name.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Method {
    #[default]
    Auto,
    TInterval,
    RankShift,
    Permutation,
    Yuen,
    BcaMean,
    BcaMedian,
    BcaP90,
    BcaP99,
    PassRate,
    PoissonRate,
}

impl Method {
    fn analyzer(self) -> Result<Arc<dyn Analyzer>> {
        let bootstrap =
            |statistic| Bootstrap::of(statistic).map(|method| Arc::new(method) as Arc<dyn Analyzer>);
        Ok(match self {
            Self::Auto => Arc::new(Auto),
            Self::TInterval => Arc::new(TInterval),
            Self::RankShift => Arc::new(RankShift),
            Self::Permutation => Arc::new(Permutation::default()),
            Self::Yuen => Arc::new(TrimmedMeans::new(0.2)?),
            Self::BcaMean => bootstrap(BootstrapStatistic::Mean)?,
            Self::BcaMedian => bootstrap(BootstrapStatistic::Median)?,
            Self::BcaP90 => bootstrap(BootstrapStatistic::Percentile(90.0))?,
            Self::BcaP99 => bootstrap(BootstrapStatistic::Percentile(99.0))?,
            Self::PassRate => Arc::new(PassRate),
            Self::PoissonRate => Arc::new(EventCounts),
        })
    }
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

/// What is said about a line that asks nothing that can be answered.
#[derive(Debug, Serialize)]
struct Refusal {
    /// The line's own id, as far as it has one.
    id: Value,
    error: String,
    hint: String,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Line {
    Answer(Answer),
    Refusal(Refusal),
}

/// Answers every line in its order. A line that cannot be read is answered by what is wrong with it, and costs no other line.
pub(super) fn run(path: &Path, output: Output) -> Result<Exit> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
    let numbered: Vec<(usize, &str)> =
        (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).collect();
    let lines = in_parallel(&numbered, |(number, line)| {
        answer(line).map_or_else(|failure| Line::Refusal(refusal(path, *number, line, failure)), Line::Answer)
    });
    output.lines(&lines, |line| match line {
        Line::Answer(answer) => format!("{}: {} ({})", answer.id, answer.verdict, answer.reason),
        Line::Refusal(refusal) => {
            format!("{}: not compared: {}\n  {}", refusal.id, refusal.error, refusal.hint)
        }
    });
    let refused: Vec<&Refusal> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Refusal(refusal) => Some(refusal),
            Line::Answer(_) => None,
        })
        .collect();
    if let Some(first) = refused.first() {
        let others = match refused.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} more such lines)"),
        };
        return Err(Failure::usage(format!("{}{others}", first.error)).hint(first.hint.clone()));
    }
    let is_regressed =
        |line: &Line| matches!(line, Line::Answer(answer) if answer.verdict == Verdict::Regressed);
    Ok(if lines.iter().any(is_regressed) { Exit::Found } else { Exit::Done })
}

fn refusal(path: &Path, number: usize, line: &str, failure: Failure) -> Refusal {
    let id = serde_json::from_str::<Value>(&with_quoted_words(line))
        .ok()
        .and_then(|value| value.get("id").cloned());
    Refusal {
        id: id.unwrap_or(Value::Null),
        error: format!("{}:{number}: {}", path.display(), failure.message),
        hint: failure.hint.unwrap_or_else(|| SHAPE.to_owned()),
    }
}

fn answer(line: &str) -> Result<Answer> {
    let question: Question = serde_json::from_str(&with_quoted_words(line))
        .map_err(|error| Failure::usage(error.to_string()).hint(SHAPE))?;
    let within = question.alpha > 0.0 && question.alpha < 1.0;
    if !within {
        return Err(Failure::usage(format!("alpha is {}", question.alpha))
            .hint("write a probability strictly between 0 and 1; 0.05 is usual"));
    }
    if !(question.threshold >= 0.0 && question.threshold.is_finite()) {
        return Err(Failure::usage(format!("threshold is {}", question.threshold)).hint(
            "write the tolerated change as a fraction of 0 or more; `direction` says which way is harmful",
        ));
    }
    let mut settings = RegressionSettings::default();
    settings.statistical_analysis.confidence_level = 1.0 - question.alpha;
    let spec = MetricSpec::new(METRIC, "", question.direction)?;
    let threshold = MetricThreshold {
        threshold: Some(question.threshold),
        direction: Some(question.direction),
        ..MetricThreshold::default()
    };
    settings.metric_thresholds = BTreeMap::from([(spec.name.clone(), threshold)]);
    let detector = RegressionDetector::new(&settings)?.with_analyzer(question.method.analyzer()?)?;
    let assessment = detector.assess(&Measurements {
        incumbent: vec![samples(&spec, &question.baseline, "baseline")?],
        candidate: vec![samples(&spec, &question.candidate, "candidate")?],
        paired: question.paired,
        history: BTreeMap::new(),
        baselines: Vec::new(),
        run: None,
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

/// The line with quotation marks around `NaN`, `Infinity` and `-Infinity`, which JSON does not have and several libraries
/// write all the same. What stands within quotation marks is left alone.
fn with_quoted_words(line: &str) -> Cow<'_, str> {
    if !line.contains("NaN") && !line.contains("Infinity") {
        return Cow::Borrowed(line);
    }
    let (mut quoted, mut rest, mut within) = (String::with_capacity(line.len() + 16), line, false);
    while let Some(next) = rest.chars().next() {
        let word =
            ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| !within && rest.starts_with(word));
        if let Some(word) = word {
            quoted.extend(["\"", word, "\""]);
            rest = &rest[word.len()..];
            continue;
        }
        let mut length = next.len_utf8();
        match next {
            '"' => within = !within,
            // What is escaped ends no text.
            '\\' if within => length += rest[length..].chars().next().map_or(0, char::len_utf8),
            _ => {}
        }
        quoted.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Cow::Owned(quoted)
}

/// Numbers, or lists of numbers of one process start each.
pub(super) fn samples(spec: &MetricSpec, value: &Value, side: &str) -> Result<MetricSamples> {
    let refuse = |found: &Value| {
        Failure::usage(format!("{side} holds {found}, which is no number"))
            .hint(format!("{side} is a list of numbers, or a list of such lists, one per process start"))
    };
    let number = |value: &Value| match value {
        // JSON has no such numbers; null and text stand for them and are judged as what they are.
        Value::Null => Ok(f64::NAN),
        Value::String(text) => text.parse().map_err(|_| refuse(value)),
        value => value.as_f64().ok_or_else(|| refuse(value)),
    };
    let mut samples = Vec::new();
    for (start, item) in (0_u32..).zip(value.as_array().ok_or_else(|| refuse(value))?) {
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

#[cfg(test)]
mod tests {
    use super::with_quoted_words;

    #[test]
    fn words_for_numbers_are_quoted_outside_of_text_only() {
        let line = r#"{"id": "NaN \" Infinity", "baseline": [NaN, 1, -Infinity], "candidate": [Infinity]}"#;
        let expected =
            r#"{"id": "NaN \" Infinity", "baseline": ["NaN", 1, "-Infinity"], "candidate": ["Infinity"]}"#;
        assert_eq!(with_quoted_words(line), expected);
    }
}
