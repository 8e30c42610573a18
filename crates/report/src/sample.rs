//! A made-up run, the same on every call: for examples, and for looking at a layout without having run anything.
//!
//! ```
//! let run = evoseal_report::sample::history();
//! assert_eq!(run, evoseal_report::sample::history());
//! assert_eq!(run.counts().accepted, 5);
//! ```

use std::time::Duration;

use evoseal_regression::{DataProblem, Finding, Interval, Verdict};
use evoseal_types::{
    CheckpointId, Digest, Direction, MetricSpec, Objective, Severity, Threshold, Timestamp, VersionId,
};

use crate::history::{IterationRow, MetricSummary, RowOutcome, RunHistory, ScoreTerm, VersionRow};

const START: Timestamp = Timestamp::from_unix_ns(1_772_352_000_000_000_000);
const MINUTE_NS: i64 = 60_000_000_000;

/// Change, outcome, and the relative change of time, memory and accuracy with the half-width of the interval of each.
type Step = (&'static str, RowOutcome, [(f64, f64); 3]);

const STEPS: [Step; 14] = [
    (
        "hoist the bounds check out of the inner loop",
        RowOutcome::Accepted,
        [(-0.029, 0.001), (0.0004, 0.0011), (0.0, 0.0002)],
    ),
    (
        "cache parsed tokens in a hash map",
        RowOutcome::Rejected,
        [(-0.051, 0.002), (0.148, 0.006), (0.0, 0.0002)],
    ),
    (
        "replace the recursive descent by an explicit stack",
        RowOutcome::Accepted,
        [(-0.043, 0.002), (-0.012, 0.002), (0.0001, 0.0003)],
    ),
    ("skip the UTF-8 validation", RowOutcome::RolledBack, [(-0.12, 0.003), (-0.004, 0.003), (-0.031, 0.002)]),
    ("rename local variables", RowOutcome::Inconclusive, [(0.002, 0.024), (0.0002, 0.0014), (0.0, 0.0002)]),
    (
        "use memchr to find the closing quote",
        RowOutcome::Accepted,
        [(-0.078, 0.002), (0.003, 0.002), (0.0, 0.0002)],
    ),
    ("delete the failing test", RowOutcome::Tampered, [(-0.01, 0.002), (0.0, 0.001), (0.0, 0.0002)]),
    (
        "allocate the arena per document",
        RowOutcome::Rejected,
        [(0.061, 0.004), (-0.082, 0.003), (0.0, 0.0002)],
    ),
    ("unroll the number scanner by hand", RowOutcome::Error, [(0.0, 0.0), (0.0, 0.0), (0.0, 0.0)]),
    (
        "reserve the output vector up front",
        RowOutcome::Accepted,
        [(-0.017, 0.002), (0.006, 0.002), (0.0, 0.0002)],
    ),
    ("sort object keys eagerly", RowOutcome::Rejected, [(0.034, 0.003), (0.011, 0.002), (0.0, 0.0002)]),
    (
        "branch-free escape decoding",
        RowOutcome::Inconclusive,
        [(-0.006, 0.021), (0.0, 0.001), (0.0001, 0.0003)],
    ),
    (
        "reorder struct fields to shrink the node to 32 bytes",
        RowOutcome::Accepted,
        [(-0.022, 0.002), (-0.046, 0.002), (0.0, 0.0002)],
    ),
    ("inline everything", RowOutcome::Rejected, [(0.009, 0.002), (0.021, 0.002), (0.0, 0.0002)]),
];

/// A run of fourteen iterations with every outcome, three metrics and a side-by-side measurement at the end.
pub fn history() -> RunHistory {
    run(14)
}

/// A run of as many iterations, the fourteen of [`history`] over and over with smaller and smaller gains.
pub fn run(iterations: u64) -> RunHistory {
    let specs = [
        spec("time", "ms", Direction::Increase),
        spec("memory", "MiB", Direction::Increase),
        spec("accuracy", "%", Direction::Decrease),
    ];
    let baseline_values = [12.9, 418.0, 99.2];
    let mut incumbent = (version("v0"), baseline_values);
    let mut rows = Vec::new();
    for (index, (change, outcome, effects)) in (0..iterations).zip(STEPS.iter().cycle()) {
        let damping = 1.0 / (1.0 + (index / 14) as f64);
        let changes = effects.map(|(change, spread)| (change * damping, spread));
        let mut row = iteration(index + 1, change, *outcome, &incumbent.0);
        if !matches!(outcome, RowOutcome::Error | RowOutcome::Tampered) {
            measure(&mut row, &specs, incumbent.1, changes);
        }
        explain(&mut row);
        if *outcome == RowOutcome::Accepted {
            let values = [0, 1, 2].map(|metric| incumbent.1[metric] * (1.0 + changes[metric].0));
            incumbent = (row.version_id.clone(), values);
        }
        rows.push(row);
    }
    let ended = START.unix_ns() + i64::try_from(iterations).unwrap_or(i64::MAX / MINUTE_NS) * 4 * MINUTE_NS;
    let total = incumbent.1[0] / baseline_values[0] - 1.0;
    let remeasured = finding(&specs[0], baseline_values[0], (total, 0.003), 40);
    let moved = incumbent.0 != version("v0");
    RunHistory {
        title: "json parser: fewer milliseconds per document".to_owned(),
        generated_at: Timestamp::from_unix_ns(ended + MINUTE_NS),
        objective: Some(Objective { metric: specs[0].name.clone(), direction: Direction::Increase }),
        started_at: START,
        ended_at: Some(Timestamp::from_unix_ns(ended)),
        stop_reason: Some("iteration limit reached".to_owned()),
        baseline: VersionRow {
            version_id: version("v0"),
            checkpoint: Some(CheckpointId::new(Digest::of(b"v0"))),
            tests_passed: 212,
            tests_run: 212,
            metrics: specs.iter().zip(baseline_values).map(|(spec, value)| summary(spec, value)).collect(),
        },
        iterations: rows,
        final_tree: Some(Digest::of(incumbent.0.as_str().as_bytes())),
        final_version: incumbent.0,
        remeasured: if moved { vec![remeasured] } else { Vec::new() },
        unprotected: vec!["The machine cannot limit the number of processes of a candidate.".to_owned()],
    }
}

fn spec(name: &str, unit: &str, direction: Direction) -> MetricSpec {
    MetricSpec::new(name, unit, direction).expect("the sample's metric names are valid")
}

fn version(name: &str) -> VersionId {
    VersionId::new(name).expect("the sample's version ids are valid")
}

fn summary(spec: &MetricSpec, mean: f64) -> MetricSummary {
    let interval = Some(Interval { low: mean * 0.999, high: mean * 1.001, level: 0.95 });
    MetricSummary { spec: spec.clone(), mean, interval, count: 20 }
}

fn iteration(number: u64, change: &str, outcome: RowOutcome, incumbent: &VersionId) -> IterationRow {
    let offset = i64::try_from(number - 1).unwrap_or(0) * 4 * MINUTE_NS;
    let version_id = version(&format!("iter-{number:04}"));
    let checkpoint = CheckpointId::new(Digest::of(version_id.as_str().as_bytes()));
    IterationRow {
        iteration: number,
        version_id,
        incumbent: incumbent.clone(),
        change: change.to_owned(),
        outcome,
        decided_by: String::new(),
        notes: Vec::new(),
        reasons: Vec::new(),
        safety_score: None,
        score_terms: Vec::new(),
        improvement_score: None,
        findings: Vec::new(),
        metrics: Vec::new(),
        tests_passed: 212,
        tests_run: 212,
        started_at: Timestamp::from_unix_ns(START.unix_ns() + offset),
        duration: Duration::from_millis(185_400 + number * 137 % 40_000),
        files_changed: 1 + number % 4,
        checkpoint: Some(checkpoint),
    }
}

fn measure(row: &mut IterationRow, specs: &[MetricSpec; 3], old: [f64; 3], changes: [(f64, f64); 3]) {
    for (index, spec) in specs.iter().enumerate() {
        row.findings.push(finding(spec, old[index], changes[index], 20));
        row.metrics.push(summary(spec, old[index] * (1.0 + changes[index].0)));
    }
}

fn finding(spec: &MetricSpec, old: f64, (change, spread): (f64, f64), count: usize) -> Finding {
    let tolerated = match spec.name.as_str() {
        "accuracy" => 0.005,
        "memory" => 0.05,
        _ => 0.02,
    };
    let threshold = Threshold::new(spec.name.as_str(), tolerated, spec.direction)
        .expect("the sample's thresholds are finite and positive");
    let harm = spec.direction.harm_sign() * change;
    let verdict = match harm {
        harm if harm - spread > tolerated => Verdict::Regressed,
        harm if harm + spread < 0.0 => Verdict::Improved,
        harm if harm.abs() + spread < tolerated => Verdict::Equivalent,
        _ => Verdict::Inconclusive,
    };
    let severity = (verdict == Verdict::Regressed).then(|| match harm / tolerated {
        ratio if ratio >= 2.5 => Severity::Critical,
        ratio if ratio >= 2.0 => Severity::High,
        ratio if ratio >= 1.5 => Severity::Medium,
        _ => Severity::Low,
    });
    Finding {
        metric: spec.clone(),
        baseline: None,
        verdict,
        severity,
        problem: None::<DataProblem>,
        old_value: Some(old),
        new_value: Some(old * (1.0 + change)),
        absolute_change: Some(old * change),
        change: Some(change),
        interval: Some(Interval { low: change - spread, high: change + spread, level: 0.95 }),
        p_value: Some(if change.abs() > spread { 0.000_4 } else { 0.41 }),
        power: None,
        threshold,
        sample_counts: (count, count),
        method: "paired bootstrap of the mean ratio".to_owned(),
        anomalies: Vec::new(),
        trend: None,
        reason: format!("{} is {verdict}: the interval was compared with the threshold.", spec.name),
    }
}

/// Reasons, tests and score that fit outcome and findings.
fn explain(row: &mut IterationRow) {
    let harmed: Vec<_> =
        row.findings.iter().filter(|finding| finding.verdict == Verdict::Regressed).collect();
    let mut reasons: Vec<String> = harmed
        .iter()
        .map(|finding| format!("{} got worse beyond its threshold", finding.metric.name))
        .collect();
    let terms = harmed.iter().filter_map(|finding| {
        let severity = finding.severity?;
        Some(ScoreTerm { label: format!("{}, {severity}", finding.metric.name), value: -severity.penalty() })
    });
    let mut terms: Vec<ScoreTerm> = terms.collect();
    let rule = match row.outcome {
        RowOutcome::Accepted => {
            reasons.push("the objective improved and nothing got worse".to_owned());
            "no objection"
        }
        RowOutcome::Inconclusive => {
            reasons.push("the interval of time crosses its threshold after 60 samples".to_owned());
            "inconclusive"
        }
        RowOutcome::Error => {
            (row.tests_passed, row.tests_run) = (0, 0);
            reasons.push("the build failed: error[E0382]: borrow of moved value: `scanner`".to_owned());
            "evaluation fault"
        }
        RowOutcome::Tampered => {
            (row.tests_passed, row.tests_run) = (0, 0);
            reasons.insert(0, "protected path tests/numbers.rs was deleted".to_owned());
            row.notes.push("no safety score: the candidate touched what judges it".to_owned());
            "tampered"
        }
        RowOutcome::RolledBack | RowOutcome::Rejected if reasons.is_empty() => {
            reasons.push("the objective did not measurably improve".to_owned());
            "no improvement"
        }
        RowOutcome::RolledBack | RowOutcome::Rejected => "regression",
    };
    let pass_rate = if row.tests_run > 0 { 1.0 } else { 0.0 };
    let penalties: f64 = terms.iter().map(|term| term.value).sum();
    terms.insert(0, ScoreTerm { label: "test pass rate".to_owned(), value: pass_rate });
    rule.clone_into(&mut row.decided_by);
    row.reasons = reasons;
    if row.outcome != RowOutcome::Tampered {
        row.safety_score = Some(pass_rate * (1.0 + penalties).max(0.0));
        row.score_terms = terms;
    }
    row.improvement_score =
        (!matches!(row.outcome, RowOutcome::Error | RowOutcome::Tampered)).then_some(match row.outcome {
            RowOutcome::Accepted => 99.2,
            RowOutcome::Inconclusive => 55.0,
            _ => 12.5,
        });
}
