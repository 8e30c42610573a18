//! Evidence is kept so that the same decision comes out of it again, byte for byte.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;

use evoseal_regression::{Baseline, Detector, Measurements, RegressionDetector, RegressionSettings, Verdict};
use evoseal_safety::{
    Decision, DecisionPolicy, Error, Evidence, EvidenceStore, FaultKind, FileEvidenceStore, Judgement,
    Observations, Outcome, PolicyThresholds, Rejudgement, Rule, StandardPolicy, Subject, ValidationRequest,
};
use evoseal_sandbox::ViolationKind;
use evoseal_types::{Direction, MetricName, MetricSamples, Severity, TestReport, TestStatus};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{assessed, case, fault, finding, harmless, objective, samples, version, violation};

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap()
}

fn detector() -> RegressionDetector {
    RegressionDetector::new(&RegressionSettings::default()).unwrap()
}

/// Values as programs print them, and as they should not.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => 0.5..200.0_f64,
        1 => Just(0.0),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(1e300), Just(-5e-324)],
    ]
}

fn metrics() -> impl Strategy<Value = Vec<MetricSamples>> {
    vec(vec(value(), 0..12), 0..4).prop_map(|columns| {
        let named = columns.iter().zip(["latency", "memory", "size", "accuracy"]);
        named.map(|(values, name)| samples(name, values)).collect()
    })
}

fn report() -> impl Strategy<Value = TestReport> {
    let cases = vec(
        (0_u8..6, prop_oneof![Just(TestStatus::Pass), Just(TestStatus::Fail), Just(TestStatus::Skip)]),
        0..4,
    );
    (prop_oneof![Just("unit"), Just("doc")], 0_u64..5, 0_u64..2, 0_u64..2, 0_u64..2, cases).prop_map(
        |(kind, passed, failed, errors, skipped, cases)| {
            let mut report = TestReport::from_counts(kind, passed, failed, errors, skipped);
            report.cases =
                cases.iter().map(|(name, status)| case(&format!("test {name}"), *status)).collect();
            report
        },
    )
}

prop_compose! {
    fn observations()(
        metrics in metrics(),
        incumbent_metrics in metrics(),
        test_results in vec(report(), 0..3),
        incumbent_test_results in vec(report(), 0..3),
        violations in vec(prop_oneof![Just(ViolationKind::Tampered), Just(ViolationKind::TooLarge)], 0..2),
        faults in vec((any::<bool>(), prop_oneof![Just(FaultKind::Failed), Just(FaultKind::NotRun)]), 0..2),
        paired in any::<bool>(),
    ) -> Observations {
        let subject = |incumbent| if incumbent { Subject::Incumbent } else { Subject::Candidate };
        Observations {
            violations: violations.into_iter().map(violation).collect(),
            faults: faults.into_iter().map(|(incumbent, kind)| fault(subject(incumbent), kind)).collect(),
            test_results,
            incumbent_test_results,
            metrics,
            incumbent_metrics,
            paired,
            ..Observations::default()
        }
    }
}

prop_compose! {
    fn measurements()(
        incumbent in metrics(),
        candidate in metrics(),
        paired in any::<bool>(),
        history in vec(0.5..200.0_f64, 0..30),
        baseline in proptest::option::of(metrics()),
    ) -> Measurements {
        let named = |metrics| Baseline { name: "release".to_owned(), version_id: version("v0"), metrics };
        Measurements {
            incumbent,
            candidate,
            paired,
            history: BTreeMap::from([(MetricName::new("latency").unwrap(), history)]),
            baselines: baseline.map(named).into_iter().collect(),
        }
    }
}

prop_compose! {
    fn evidence()(
        observations in observations(),
        measurements in proptest::option::of(measurements()),
        is_first in any::<bool>(),
        wanted in proptest::option::of(prop_oneof![Just(Direction::Increase), Just(Direction::Decrease)]),
    ) -> Evidence {
        let judgement = match &measurements {
            None => Judgement::NotAsked,
            Some(measurements) => match detector().assess(measurements) {
                Ok(assessment) => Judgement::Assessed(assessment),
                Err(error) => Judgement::Failed(error.to_string()),
            },
        };
        let request = ValidationRequest {
            current_version_id: (!is_first).then(|| version("v1")),
            new_version_id: version("v2"),
            observations,
            objective: wanted.map(objective),
        };
        Evidence { request, measurements, judgement }
    }
}

/// What must not depend on the order in which things were observed.
fn essence(decision: &Decision) -> String {
    let mut reasons: Vec<String> = decision.reasons.iter().map(json).collect();
    reasons.sort_unstable();
    json(&(
        decision.outcome,
        decision.decided_by,
        reasons,
        &decision.safety_score,
        decision.improvement_score,
    ))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_same_decision_comes_out_again_byte_for_byte(evidence in evidence()) {
        let policy = StandardPolicy::default();
        let decision = policy.decide(&evidence);
        prop_assert_eq!(json(&policy.decide(&evidence)), json(&decision));
        let written = json(&evidence);
        let read: Evidence = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(json(&read), written);
        let again = Rejudgement::of(&read, &decision, Some(&detector()), &policy);
        prop_assert!(again.is_same(), "{:?}", again);
        // What is read back from the log is the decision that was written there.
        let logged: Decision = serde_json::from_str(&json(&decision)).unwrap();
        prop_assert!(Rejudgement::of(&read, &logged, None, &policy).is_same());
    }

    #[test]
    fn the_order_of_observations_decides_nothing(evidence in evidence(), turn in 0_usize..4) {
        let mut turned = evidence.clone();
        let observations = &mut turned.request.observations;
        let turn_by = |length: usize| if length == 0 { 0 } else { turn % length };
        for metrics in [&mut observations.metrics, &mut observations.incumbent_metrics] {
            let by = turn_by(metrics.len());
            metrics.rotate_left(by);
        }
        let by = turn_by(observations.violations.len());
        observations.violations.rotate_left(by);
        let by = turn_by(observations.faults.len());
        observations.faults.rotate_left(by);
        let by = turn_by(observations.test_results.len());
        observations.test_results.rotate_left(by);
        let policy = StandardPolicy::default();
        prop_assert_eq!(essence(&policy.decide(&turned)), essence(&policy.decide(&evidence)));
        if let Some(measurements) = &mut turned.measurements {
            measurements.incumbent.reverse();
            measurements.candidate.reverse();
            let judgement = Rejudgement::of(&turned, &policy.decide(&turned), Some(&detector()), &policy);
            prop_assert!(judgement.is_same(), "the order of metrics changes the assessment: {:?}", judgement);
        }
    }

    #[test]
    fn what_is_kept_is_what_is_loaded(evidence in evidence()) {
        let folder = tempfile::tempdir().unwrap();
        let store = FileEvidenceStore::new(folder.path().join("evidence"));
        let loaded = evoseal_safety::conformance::block_on(async {
            let digest = store.keep(&evidence).await.unwrap();
            store.load(digest).await.unwrap()
        });
        prop_assert_eq!(json(&loaded), json(&evidence));
    }
}

#[test]
fn other_thresholds_flip_what_they_speak_of_and_say_by_which_rule() {
    let evidence = Evidence { judgement: assessed(vec![finding(Verdict::Regressed)]), ..harmless() };
    let policy = StandardPolicy::default();
    let decision = policy.decide(&evidence);
    assert_eq!((decision.outcome, decision.decided_by), (Outcome::Reject, Rule::Regression));
    let lenient = PolicyThresholds {
        reject_severity: Severity::Critical,
        minimum_safety_score: 0.5,
        ..PolicyThresholds::default()
    };
    let again = Rejudgement::of(&evidence, &decision, None, &StandardPolicy::new(lenient).unwrap());
    assert!(again.flips() && !again.is_same() && !again.judgement_changed);
    assert_eq!((again.after.outcome, again.after.decided_by), (Outcome::Accept, Rule::NoObjection));
}

#[test]
fn a_detector_with_other_settings_judges_the_kept_measurements_again() {
    let side = |values: &[f64]| vec![samples("latency", values)];
    let measurements = Measurements {
        incumbent: side(&[100.0, 100.1, 99.9, 100.2, 99.8]),
        candidate: side(&[115.0, 115.1, 114.9, 115.2, 114.8]),
        paired: false,
        history: BTreeMap::new(),
        baselines: Vec::new(),
    };
    let mut evidence = harmless();
    evidence.judgement = Judgement::Assessed(detector().assess(&measurements).unwrap());
    evidence.measurements = Some(measurements);
    let policy = StandardPolicy::default();
    let decision = policy.decide(&evidence);
    assert_eq!(decision.decided_by, Rule::Regression);
    let settings = RegressionSettings { regression_threshold: 0.3, ..RegressionSettings::default() };
    let lenient = RegressionDetector::new(&settings).unwrap();
    let again = Rejudgement::of(&evidence, &decision, Some(&lenient), &policy);
    assert!(again.flips() && again.judgement_changed);
    assert_eq!(again.after.outcome, Outcome::Accept);
    // Without measurements there is nothing to ask a detector about.
    evidence.measurements = None;
    assert!(Rejudgement::of(&evidence, &decision, Some(&lenient), &policy).is_same());
}

#[tokio::test]
async fn what_a_killed_writer_left_is_no_evidence_and_does_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileEvidenceStore::new(folder.path().join("evidence"));
    let digest = store.keep(&harmless()).await.unwrap();
    let incoming = store.folder().join("incoming.tmp");
    assert!(!incoming.exists());
    fs::write(&incoming, "a part of something").unwrap();
    assert_eq!(store.list().await.unwrap(), [digest]);
    store.keep(&Evidence { judgement: Judgement::NotAsked, ..harmless() }).await.unwrap();
    assert!(!incoming.exists());
    assert_eq!(store.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn damaged_evidence_is_named_and_kept_anew_when_it_is_at_hand() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileEvidenceStore::new(folder.path());
    let digest = store.keep(&harmless()).await.unwrap();
    let other = store.keep(&Evidence { judgement: Judgement::NotAsked, ..harmless() }).await.unwrap();
    let path = |digest| folder.path().join(format!("{digest}.evidence"));
    let whole = fs::read(path(digest)).unwrap();
    // Another's content under this name, nothing, and a bit that is not as it was.
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for bad in [fs::read(path(other)).unwrap(), Vec::new(), flipped] {
        fs::write(path(digest), bad).unwrap();
        match store.load(digest).await {
            Err(Error::EvidenceDamaged { digest: named, .. }) => assert_eq!(named, digest),
            other => panic!("damage gives {other:?}"),
        }
    }
    store.keep(&harmless()).await.unwrap();
    assert_eq!(fs::read(path(digest)).unwrap(), whole);
}
