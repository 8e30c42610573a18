//! Evidence from what evaluators, guards and errors say: bounded, and such that it can be written down.

use std::collections::BTreeMap;

use evoseal_safety::{EvaluationFault, FaultKind, Observations, Subject};
use evoseal_sandbox::{Violation, ViolationKind};
use evoseal_types::{MetricName, MetricSamples};

use crate::result::IterationResult;
use crate::{Evaluation, PastOutcome};

/// How much of a text that others wrote is recorded, in characters.
const MESSAGE_CHARS_MAX: usize = 2000;

/// Puts an evaluation and what guards said together. Where the incumbent was not measured beside the candidate, its
/// `earlier` measurements are compared.
pub(crate) fn observe(
    evaluation: Evaluation,
    violations: Vec<Violation>,
    earlier: &Observations,
) -> Observations {
    let side_by_side = !evaluation.incumbent_metrics.is_empty();
    let mut faults = evaluation.faults;
    let mut test_results = evaluation.test_results;
    let mut checks = evaluation.checks;
    for message in checks.iter_mut().filter_map(|check| check.message.as_mut()) {
        *message = cut(message);
    }
    for fault in &mut faults {
        fault.message = cut(&fault.message);
    }
    for report in test_results.iter_mut().filter(|report| !report.duration_sec.is_finite()) {
        // JSON has no such number; what cannot be written down cannot be judged again.
        let message = format!("{} claims to have taken {} s", report.test_type, report.duration_sec);
        report.duration_sec = 0.0;
        let (kind, stage) = (FaultKind::Unreadable, "test".to_owned());
        faults.push(EvaluationFault { kind, stage, subject: Subject::Candidate, message });
    }
    Observations {
        violations,
        faults,
        test_results,
        incumbent_test_results: earlier.test_results.clone(),
        metrics: evaluation.metrics,
        incumbent_metrics: if side_by_side { evaluation.incumbent_metrics } else { earlier.metrics.clone() },
        paired: side_by_side && evaluation.paired,
        checks,
        retests: Vec::new(),
        quarantined: Vec::new(),
        person: None,
    }
}

/// The objection of a guard that could not look: who cannot look cannot allow.
pub(crate) fn could_not_look(guard: &str, why: &str) -> Violation {
    Violation {
        guard: guard.to_owned(),
        kind: ViolationKind::OutOfScope,
        path: None,
        reason: format!("the guard {guard} could not look at the edit: {why}"),
    }
}

/// A step that could not be run at all.
pub(crate) fn not_run(stage: &str, message: String) -> EvaluationFault {
    EvaluationFault { kind: FaultKind::NotRun, stage: stage.to_owned(), subject: Subject::Candidate, message }
}

/// An error and all its causes, cut to a bounded length.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let text = std::iter::once(error.to_string())
        .chain(causes.map(ToString::to_string))
        .collect::<Vec<_>>()
        .join(": ");
    cut(&text)
}

/// A text of others, cut to a bounded length.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// The mean of each metric's samples.
pub(crate) fn means(metrics: &[MetricSamples]) -> BTreeMap<MetricName, f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let named = metrics.iter().map(|metric| (metric.spec.name.clone(), mean(&metric.values())));
    named.filter(|(_, mean)| mean.is_finite()).collect()
}

/// An iteration as a proposer sees it.
pub(crate) fn past_outcome(result: &IterationResult) -> PastOutcome {
    // What a person said about it since is what it is now.
    let outcome = match result.overrides.last() {
        Some(_) => serde_json::to_value(result.state).ok(),
        None => serde_json::to_value(result.outcome).ok(),
    };
    let said = result.overrides.iter().map(ToString::to_string);
    PastOutcome {
        iteration: result.iteration,
        change: result.change.clone(),
        outcome: outcome.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default(),
        reasons: said.chain(result.reasons()).collect(),
        metrics: means(&result.observations.metrics),
    }
}

/// An evaluation in a line.
pub(crate) fn summary_of(observations: &Observations) -> String {
    let reports = &observations.test_results;
    let run = reports.iter().map(|report| report.tests_run).fold(0, u64::saturating_add);
    let passed = reports.iter().map(|report| report.tests_passed).fold(0, u64::saturating_add);
    let samples: usize = observations.metrics.iter().map(|metric| metric.samples.len()).sum();
    let faults = observations.faults.len();
    format!("{passed} of {run} tests passed, {samples} samples, {faults} faults")
}
