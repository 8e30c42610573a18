//! What holds for the decisions of the standard policy whatever the evidence is.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

mod support;

use evoseal_regression::{DataProblem, Finding, Verdict};
use evoseal_safety::{
    DecisionPolicy, Evidence, FaultKind, Judgement, Outcome, SafetyScore, StandardPolicy, Subject,
};
use evoseal_sandbox::ViolationKind;
use evoseal_types::{Severity, TestReport};
use proptest::prelude::*;
use support::{assessed, fault, finding, samples, violation, with};

/// Something that speaks against a version.
#[derive(Debug, Clone)]
enum Objection {
    Tampered,
    OutOfScope,
    Fault(FaultKind, Subject),
    NoTests,
    TestFails,
    TestErrs,
    TestsVanish,
    Contradiction,
    DetectorFails,
    Regresses(Severity),
    NotANumber,
    Missing(DataProblem),
}

fn objection() -> impl Strategy<Value = Objection> {
    use FaultKind::{Crashed, Failed, NotRun, TimedOut, Unreadable};
    prop_oneof![
        Just(Objection::Tampered),
        Just(Objection::OutOfScope),
        (
            prop::sample::select(vec![Crashed, Failed, NotRun, TimedOut, Unreadable]),
            prop::sample::select(vec![Subject::Candidate, Subject::Incumbent]),
        )
            .prop_map(|(kind, subject)| Objection::Fault(kind, subject)),
        Just(Objection::NoTests),
        Just(Objection::TestFails),
        Just(Objection::TestErrs),
        Just(Objection::TestsVanish),
        Just(Objection::Contradiction),
        Just(Objection::DetectorFails),
        prop::sample::select(vec![Severity::Low, Severity::Medium, Severity::High, Severity::Critical])
            .prop_map(Objection::Regresses),
        Just(Objection::NotANumber),
        prop::sample::select(vec![
            DataProblem::MissingInCandidate,
            DataProblem::SpecMismatch,
            DataProblem::TooFewSamples,
            DataProblem::NonFiniteInIncumbent,
        ])
        .prop_map(Objection::Missing),
    ]
}

/// Adds an objection to evidence without taking another one away.
fn add(evidence: &mut Evidence, objection: &Objection) {
    let observations = &mut evidence.request.observations;
    let named = |name: &str| Finding { metric: support::spec(name), ..finding(Verdict::Equivalent) };
    match objection {
        Objection::Tampered => observations.violations.push(violation(ViolationKind::Tampered)),
        Objection::OutOfScope => observations.violations.push(violation(ViolationKind::OutOfScope)),
        Objection::Fault(kind, subject) => observations.faults.push(fault(*subject, *kind)),
        Objection::NoTests => {
            let none = TestReport::from_counts("extra_tests", 0, 0, 0, 0);
            observations.test_results.push(none);
        }
        Objection::TestFails => {
            observations.test_results.push(TestReport::from_counts("more_tests", 1, 1, 0, 0));
        }
        Objection::TestErrs => observations.test_results.push(TestReport::errored("build", "broken")),
        Objection::TestsVanish => {
            observations.incumbent_test_results.push(TestReport::from_counts("gone", 1, 0, 0, 0));
        }
        Objection::Contradiction => {
            let mut report = TestReport::from_counts("odd_tests", 1, 0, 0, 0);
            report.tests_run = 7;
            observations.test_results.push(report);
        }
        Objection::DetectorFails => evidence.judgement = Judgement::Failed("broken".to_owned()),
        Objection::Regresses(severity) => {
            let worse = Finding {
                verdict: Verdict::Regressed,
                severity: Some(*severity),
                ..named(&format!("m{}", observations.metrics.len()))
            };
            if let Judgement::Assessed(assessment) = &mut evidence.judgement {
                let mut findings = assessment.findings.clone();
                findings.push(worse);
                evidence.judgement = assessed(findings);
            }
        }
        Objection::NotANumber => observations.metrics.push(samples("odd", &[f64::NAN])),
        Objection::Missing(problem) => {
            if let Judgement::Assessed(assessment) = &mut evidence.judgement {
                let mut findings = assessment.findings.clone();
                let unusable = Finding { problem: Some(*problem), ..finding(Verdict::InsufficientData) };
                findings.push(Finding { metric: support::spec("absent"), ..unusable });
                evidence.judgement = assessed(findings);
            }
        }
    }
}

fn published_score(evidence: &Evidence) -> f64 {
    let reports = &evidence.request.observations.test_results;
    let run: u64 = reports.iter().map(|report| report.tests_run).sum();
    let passed: u64 = reports.iter().map(|report| report.tests_passed).sum();
    let rate = if run == 0 { 0.0 } else { passed as f64 / run as f64 };
    let penalties: f64 = evidence
        .judgement
        .assessment()
        .into_iter()
        .flat_map(evoseal_regression::Assessment::regressions)
        .map(|finding| finding.severity.map_or(0.4, Severity::penalty))
        .sum();
    (rate * (1.0 - penalties).max(0.0)).clamp(0.0, 1.0)
}

proptest! {
    #[test]
    fn evidence_with_any_objection_is_never_accepted(objections in prop::collection::vec(objection(), 1..6)) {
        let evidence = with(|evidence| {
            // A failed detector would swallow later findings, so it comes last.
            let (failing, others): (Vec<_>, Vec<_>) =
                objections.iter().partition(|objection| matches!(objection, Objection::DetectorFails));
            for objection in others.into_iter().chain(failing) {
                add(evidence, objection);
            }
        });
        let decision = StandardPolicy::default().decide(&evidence);
        prop_assert_ne!(decision.outcome, Outcome::Accept, "{:?}", objections);
        prop_assert!(decision.reasons.iter().any(|reason| reason.rule == decision.decided_by));
        prop_assert!(decision.reasons.windows(2).all(|pair| pair[0].rule <= pair[1].rule));
    }

    #[test]
    fn the_same_evidence_gives_the_same_decision_byte_for_byte(
        objections in prop::collection::vec(objection(), 0..6),
    ) {
        let evidence = with(|evidence| objections.iter().for_each(|objection| add(evidence, objection)));
        let json = |evidence: &Evidence| {
            serde_json::to_string(&StandardPolicy::default().decide(evidence)).unwrap()
        };
        let stored = serde_json::to_string(&evidence).unwrap();
        let read_back: Evidence = serde_json::from_str(&stored).unwrap();
        prop_assert_eq!(json(&evidence), json(&evidence));
        prop_assert_eq!(json(&read_back), json(&evidence));
    }

    #[test]
    fn the_score_is_the_published_formula(objections in prop::collection::vec(objection(), 0..8)) {
        let evidence = with(|evidence| objections.iter().for_each(|objection| add(evidence, objection)));
        let SafetyScore { score, no_data, .. } = StandardPolicy::default().decide(&evidence).safety_score;
        prop_assert!((0.0..=1.0).contains(&score));
        if no_data.is_some() {
            prop_assert_eq!(score, 0.0);
            return Ok(());
        }
        // A report that counts more passed tests than it ran is cut to those that ran; none of these does.
        prop_assert!((score - published_score(&evidence)).abs() < 1e-12, "{}", score);
    }

    #[test]
    fn a_further_objection_never_makes_the_outcome_milder(
        objections in prop::collection::vec(objection(), 0..5),
        further in objection(),
    ) {
        // A detector that fails says nothing any more about regressions that it would have found.
        prop_assume!(!matches!(further, Objection::DetectorFails));
        let before = with(|evidence| objections.iter().for_each(|objection| add(evidence, objection)));
        let mut after = before.clone();
        add(&mut after, &further);
        let policy = StandardPolicy::default();
        let (milder, harsher) = (policy.decide(&before), policy.decide(&after));
        // A run that failed may not have come to all tests; that some are missing is then no proof of tampering.
        let harsh_enough = milder.outcome.min(Outcome::RollBack);
        prop_assert!(harsher.outcome >= harsh_enough, "{:?} after {:?}", further, objections);
    }

    #[test]
    fn numbers_survive_being_written_down(value in prop::num::f64::ANY) {
        let metric = samples("latency", &[value]);
        let json = serde_json::to_string(&metric).unwrap();
        let back: evoseal_types::MetricSamples = serde_json::from_str(&json).unwrap();
        let (read, written) = (back.samples[0].value, value);
        prop_assert!(read.to_bits() == written.to_bits() || (read.is_nan() && written.is_nan()), "{}", json);
    }
}
