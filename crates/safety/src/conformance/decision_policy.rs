//! The contract of [`DecisionPolicy`]. A policy may be as strict as it likes; none of the cases asks it to accept.

use evoseal_regression::{Assessment, DataProblem, Finding, RegressionSummary, Verdict as MetricVerdict};
use evoseal_sandbox::{Violation, ViolationKind};
use evoseal_types::{
    Direction, MetricSamples, MetricSpec, Recommendation, Severity, TestCase, TestReport, TestStatus,
    Threshold, VersionId,
};

use super::{Verdict, ensure, suite, wrong};
use crate::{
    DecisionPolicy, EvaluationFault, Evidence, FaultKind, Judgement, Observations, Outcome, Subject,
    ValidationRequest,
};

/// Makes a policy.
pub type Fixture<'a> = &'a dyn Fn() -> Box<dyn DecisionPolicy>;

suite! { $ decision_policy_conformance decision_policy Fixture<'_>,
    accepts_nothing_without_a_test_that_ran
    accepts_no_test_that_did_not_pass
    accepts_no_report_that_contradicts_itself
    accepts_no_tampering_and_no_forbidden_edit
    accepts_no_evaluation_with_a_fault
    accepts_no_failed_and_no_missing_judgement
    accepts_no_metric_that_cannot_be_used
    accepts_no_critical_regression
    decides_the_same_again
    lists_every_objection_and_names_the_one_that_decided
}

fn spec() -> Result<MetricSpec, String> {
    MetricSpec::new("latency", "ms", Direction::Increase).map_err(wrong)
}

fn finding(verdict: MetricVerdict) -> Result<Finding, String> {
    Ok(Finding {
        metric: spec()?,
        baseline: None,
        verdict,
        severity: (verdict == MetricVerdict::Regressed).then_some(Severity::Critical),
        problem: (verdict == MetricVerdict::InsufficientData).then_some(DataProblem::NonFiniteInCandidate),
        old_value: Some(10.0),
        new_value: Some(10.0),
        absolute_change: Some(0.0),
        change: Some(0.0),
        interval: None,
        p_value: Some(1.0),
        power: None,
        threshold: Threshold::new("latency", 0.1, Direction::Increase).map_err(wrong)?,
        sample_counts: (3, 3),
        method: "conformance".to_owned(),
        anomalies: Vec::new(),
        trend: None,
        reason: format!("it is {verdict}"),
    })
}

fn assessed(verdict: MetricVerdict) -> Result<Judgement, String> {
    let finding = finding(verdict)?;
    let regressed: Vec<_> = finding.severity.map(|_| finding.metric.name.clone()).into_iter().collect();
    Ok(Judgement::Assessed(Assessment {
        recommendation: Recommendation::of(finding.severity),
        summary: RegressionSummary {
            total_regressions: regressed.len(),
            severity_counts: finding.severity.map(|severity| (severity, 1)).into_iter().collect(),
            critical_regressions: regressed.clone(),
            affected_metrics: regressed,
        },
        findings: vec![finding],
    }))
}

/// Evidence to which there is nothing to object, changed in one way.
fn evidence(change: impl FnOnce(&mut Evidence)) -> Result<Evidence, String> {
    let metrics = vec![MetricSamples::independent(spec()?, &[10.0, 10.1, 10.2])];
    let reports = vec![TestReport::from_counts("unit_tests", 3, 0, 0, 0)];
    let mut evidence = Evidence {
        request: ValidationRequest {
            current_version_id: Some(VersionId::new("v1").map_err(wrong)?),
            new_version_id: VersionId::new("v2").map_err(wrong)?,
            observations: Observations {
                test_results: reports.clone(),
                incumbent_test_results: reports,
                metrics: metrics.clone(),
                incumbent_metrics: metrics,
                ..Observations::default()
            },
            objective: None,
        },
        measurements: None,
        judgement: assessed(MetricVerdict::Equivalent)?,
    };
    change(&mut evidence);
    Ok(evidence)
}

/// Whether the policy refuses, and says why.
fn refuses(fixture: Fixture<'_>, evidence: &Evidence, what: &str) -> Verdict {
    let decision = fixture().decide(evidence);
    ensure(decision.outcome != Outcome::Accept, || format!("it accepts {what}"))?;
    let explained = decision.reasons.iter().any(|reason| reason.outcome == decision.outcome);
    ensure(explained, || format!("it refuses {what} without a reason for it"))
}

/// No report, a report of no tests, and a command that was skipped.
pub async fn accepts_nothing_without_a_test_that_ran(fixture: Fixture<'_>) -> Verdict {
    let skipped =
        TestReport { status: TestStatus::Skip, ..TestReport::from_counts("unit_tests", 0, 0, 0, 3) };
    let reports = [vec![], vec![TestReport::from_counts("unit_tests", 0, 0, 0, 0)], vec![skipped]];
    for reports in reports {
        let evidence = evidence(|evidence| {
            evidence.request.observations.incumbent_test_results.clear();
            evidence.request.observations.test_results = reports;
        })?;
        refuses(fixture, &evidence, "a version of which no test ran")?;
    }
    Ok(())
}

/// One failed test, one error, and a command that ended in an error although its tests passed.
pub async fn accepts_no_test_that_did_not_pass(fixture: Fixture<'_>) -> Verdict {
    let errored =
        TestReport { status: TestStatus::Error, ..TestReport::from_counts("unit_tests", 3, 0, 0, 0) };
    let reports = [
        TestReport::from_counts("unit_tests", 1000, 1, 0, 0),
        TestReport::from_counts("unit_tests", 1000, 0, 1, 0),
        TestReport::errored("unit_tests", "did not build"),
        errored,
    ];
    for report in reports {
        let evidence = evidence(|evidence| evidence.request.observations.test_results.push(report))?;
        refuses(fixture, &evidence, "a version with a test that did not pass")?;
    }
    Ok(())
}

/// Counts that do not add up, and counts that hide a failure by name.
pub async fn accepts_no_report_that_contradicts_itself(fixture: Fixture<'_>) -> Verdict {
    let mut wrong_sum = TestReport::from_counts("unit_tests", 3, 0, 0, 0);
    wrong_sum.tests_run = 4;
    let mut hidden = TestReport::from_counts("unit_tests", 3, 0, 0, 0);
    hidden.cases = vec![TestCase { name: "a".to_owned(), status: TestStatus::Fail, message: None }];
    for report in [wrong_sum, hidden] {
        let evidence = evidence(|evidence| evidence.request.observations.test_results = vec![report])?;
        refuses(fixture, &evidence, "a report that contradicts itself")?;
    }
    Ok(())
}

/// Every kind of violation.
pub async fn accepts_no_tampering_and_no_forbidden_edit(fixture: Fixture<'_>) -> Verdict {
    for kind in [ViolationKind::Tampered, ViolationKind::OutOfScope, ViolationKind::TooLarge] {
        let violation =
            Violation { guard: "g".to_owned(), kind, path: None, reason: "it was touched".to_owned() };
        let evidence = evidence(|evidence| evidence.request.observations.violations = vec![violation])?;
        refuses(fixture, &evidence, "an edit that a guard objects to")?;
    }
    Ok(())
}

/// Every kind of fault, of either version.
pub async fn accepts_no_evaluation_with_a_fault(fixture: Fixture<'_>) -> Verdict {
    use FaultKind::{Crashed, Failed, NotRun, TimedOut, Unreadable};
    for kind in [Failed, TimedOut, Crashed, Unreadable, NotRun] {
        for subject in [Subject::Candidate, Subject::Incumbent] {
            let fault = EvaluationFault { kind, stage: "build".to_owned(), subject, message: String::new() };
            let evidence = evidence(|evidence| evidence.request.observations.faults = vec![fault])?;
            refuses(fixture, &evidence, "an evaluation with a fault")?;
        }
    }
    Ok(())
}

/// A detector that failed, that was not asked although there was something to ask, and that left a metric out.
pub async fn accepts_no_failed_and_no_missing_judgement(fixture: Fixture<'_>) -> Verdict {
    let mut empty = assessed(MetricVerdict::Equivalent)?;
    if let Judgement::Assessed(assessment) = &mut empty {
        assessment.findings.clear();
    }
    for judgement in [Judgement::Failed("broken".to_owned()), Judgement::NotAsked, empty] {
        let evidence = evidence(|evidence| evidence.judgement = judgement)?;
        refuses(fixture, &evidence, "measurements that nobody judged")?;
    }
    Ok(())
}

/// A value that is no number, and a finding that says so.
pub async fn accepts_no_metric_that_cannot_be_used(fixture: Fixture<'_>) -> Verdict {
    let unusable = assessed(MetricVerdict::InsufficientData)?;
    let not_a_number = MetricSamples::independent(spec()?, &[f64::NAN]);
    let said = evidence(|evidence| evidence.judgement = unusable)?;
    let seen = evidence(|evidence| evidence.request.observations.metrics = vec![not_a_number])?;
    refuses(fixture, &said, "a metric of which the detector says that it is unusable")?;
    refuses(fixture, &seen, "a measurement that is no number")
}

/// The worst there is.
pub async fn accepts_no_critical_regression(fixture: Fixture<'_>) -> Verdict {
    let regressed = assessed(MetricVerdict::Regressed)?;
    refuses(fixture, &evidence(|evidence| evidence.judgement = regressed)?, "a critical regression")
}

/// Equal evidence, equal bytes; by the same policy and by a fresh one.
pub async fn decides_the_same_again(fixture: Fixture<'_>) -> Verdict {
    let regressed = assessed(MetricVerdict::Regressed)?;
    for evidence in [evidence(|_| {})?, evidence(|evidence| evidence.judgement = regressed)?] {
        let policy = fixture();
        let json =
            |policy: &dyn DecisionPolicy| serde_json::to_string(&policy.decide(&evidence)).map_err(wrong);
        let first = json(&*policy)?;
        for again in [json(&*policy)?, json(&*fixture())?] {
            ensure(again == first, || format!("equal evidence gives {first} and {again}"))?;
        }
    }
    Ok(())
}

/// Two things that are wrong are two reasons, and the rule that decided is that of a reason.
pub async fn lists_every_objection_and_names_the_one_that_decided(fixture: Fixture<'_>) -> Verdict {
    let evidence = evidence(|evidence| {
        let observations = &mut evidence.request.observations;
        observations.test_results.push(TestReport::from_counts("more_tests", 1, 1, 0, 0));
        observations.violations.push(Violation {
            guard: "g".to_owned(),
            kind: ViolationKind::Tampered,
            path: None,
            reason: "it was touched".to_owned(),
        });
    })?;
    let decision = fixture().decide(&evidence);
    let objections = decision.reasons.iter().filter(|reason| reason.outcome != Outcome::Accept).count();
    ensure(objections >= 2, || format!("two things are wrong, and it lists {:?}", decision.reasons))?;
    let decided = decision
        .reasons
        .iter()
        .any(|reason| reason.rule == decision.decided_by && reason.outcome == decision.outcome);
    ensure(decided, || format!("{} decided, which no reason says", decision.decided_by))
}
