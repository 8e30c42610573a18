//! What the tests of this crate share.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part")]

pub(crate) mod scene;

use evoseal_regression::{DataProblem, Finding, Interval, Verdict};
use evoseal_safety::{
    DecisionPolicy, EvaluationFault, Evidence, FaultKind, Judgement, Observations, Outcome, Rule,
    StandardPolicy, Subject, ValidationRequest,
};
use evoseal_sandbox::{Violation, ViolationKind};
use evoseal_types::{
    Direction, MetricName, MetricSamples, MetricSpec, Objective, Severity, TestCase, TestReport, TestStatus,
    Threshold, VersionId,
};

pub(crate) fn version(name: &str) -> VersionId {
    VersionId::new(name).unwrap()
}

pub(crate) fn spec(name: &str) -> MetricSpec {
    MetricSpec::new(name, "ms", Direction::Increase).unwrap()
}

pub(crate) fn samples(name: &str, values: &[f64]) -> MetricSamples {
    MetricSamples::independent(spec(name), values)
}

pub(crate) fn case(name: &str, status: TestStatus) -> TestCase {
    TestCase { name: name.to_owned(), status, message: None }
}

pub(crate) fn violation(kind: ViolationKind) -> Violation {
    Violation { guard: "guard".to_owned(), kind, path: None, reason: format!("{kind:?}") }
}

pub(crate) fn fault(subject: Subject, kind: FaultKind) -> EvaluationFault {
    EvaluationFault { kind, stage: "build".to_owned(), subject, message: "said so".to_owned() }
}

pub(crate) fn objective(direction: Direction) -> Objective {
    Objective { metric: MetricName::new("latency").unwrap(), direction }
}

/// A finding on `latency` against the incumbent.
pub(crate) fn finding(verdict: Verdict) -> Finding {
    let change = match verdict {
        Verdict::Improved => -0.2,
        Verdict::Regressed => 0.3,
        _ => 0.0,
    };
    Finding {
        metric: spec("latency"),
        baseline: None,
        verdict,
        severity: (verdict == Verdict::Regressed).then_some(Severity::High),
        problem: (verdict == Verdict::InsufficientData).then_some(DataProblem::MissingInCandidate),
        old_value: Some(10.0),
        new_value: Some(10.0 + 10.0 * change),
        absolute_change: Some(10.0 * change),
        change: Some(change),
        interval: Some(Interval { low: change - 0.01, high: change + 0.01, level: 0.95 }),
        p_value: Some(0.001),
        power: None,
        threshold: Threshold::new("latency", 0.1, Direction::Increase).unwrap(),
        sample_counts: (10, 10),
        method: "test".to_owned(),
        anomalies: Vec::new(),
        trend: None,
        reason: format!("it is {verdict}"),
    }
}

/// Evidence to which nobody objects: all tests pass, and the one metric is equivalent.
pub(crate) fn harmless() -> Evidence {
    Evidence {
        request: ValidationRequest {
            current_version_id: Some(version("v1")),
            new_version_id: version("v2"),
            observations: Observations {
                test_results: vec![TestReport::from_counts("unit_tests", 3, 0, 0, 0)],
                incumbent_test_results: vec![TestReport::from_counts("unit_tests", 3, 0, 0, 0)],
                metrics: vec![samples("latency", &[10.0, 10.1])],
                incumbent_metrics: vec![samples("latency", &[10.0, 10.1])],
                ..Observations::default()
            },
            objective: None,
        },
        measurements: None,
        judgement: assessed(vec![finding(Verdict::Equivalent)]),
    }
}

pub(crate) fn assessed(findings: Vec<Finding>) -> Judgement {
    Judgement::Assessed(evoseal_testkit::assessment_of(findings))
}

/// The outcome, and the rules that object.
pub(crate) fn decide(evidence: &Evidence) -> (Outcome, Vec<Rule>) {
    let decision = StandardPolicy::default().decide(evidence);
    let objecting = decision.reasons.iter().filter(|reason| reason.outcome != Outcome::Accept);
    (decision.outcome, objecting.map(|reason| reason.rule).collect())
}

/// Evidence that speaks for a version, with a change.
pub(crate) fn with(change: impl FnOnce(&mut Evidence)) -> Evidence {
    let mut evidence = harmless();
    change(&mut evidence);
    evidence
}

/// Each expected outcome with the rules that object.
#[track_caller]
pub(crate) fn expect(evidence: &Evidence, outcome: Outcome, rules: &[Rule]) {
    assert_eq!(decide(evidence), (outcome, rules.to_vec()), "{evidence:#?}");
}
