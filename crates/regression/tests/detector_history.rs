//! What the standard detector does with history, baselines, alerts and batches.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{judge, side, standard, two, with_history};
use evoseal_regression::{
    Assessment, Baseline, BaselineUpdate, Baselines, Detector, Error, Measurements, TrendDirection, Verdict,
};
use evoseal_types::Direction::Increase;
use evoseal_types::{MetricName, MetricSamples, Recommendation, Severity};

const OLD: [f64; 5] = [100.0, 101.0, 99.0, 100.5, 99.5];

fn times(factor: f64) -> [f64; 5] {
    OLD.map(|value| value * factor)
}

#[test]
fn baselines_catch_what_many_small_losses_add_up_to() {
    let baseline = Baseline {
        name: "release".into(),
        version_id: "v1".parse().unwrap(),
        metrics: vec![side("latency", Increase, &OLD), side("gone", Increase, &OLD)],
    };
    let mut drifted = two("latency", Increase, &times(1.19), &times(1.2));
    drifted.baselines = vec![baseline];
    let assessment = standard().assess(&drifted).unwrap();
    let seen: Vec<_> = assessment
        .findings
        .iter()
        .map(|finding| (finding.baseline.as_deref(), finding.metric.name.as_str(), finding.verdict))
        .collect();
    let expected = [
        (None, "latency", Verdict::Equivalent),
        (Some("release"), "gone", Verdict::InsufficientData),
        (Some("release"), "latency", Verdict::Regressed),
    ];
    assert_eq!(seen, expected);
    assert_eq!(assessment.summary.affected_metrics, [MetricName::new("latency").unwrap()]);
}

#[test]
fn history_raises_a_regression_by_one_step_and_never_makes_one() {
    let regressed = two("latency", Increase, &[100.0; 3], &[112.0; 3]);
    assert_eq!(judge(&standard(), &regressed).severity, Some(Severity::Low));
    let unusual = with_history(regressed.clone(), "latency", &[99.0, 101.0, 100.0, 99.5, 100.0]);
    let finding = judge(&standard(), &unusual);
    assert_eq!(finding.severity, Some(Severity::Medium), "{}", finding.reason);
    let methods: Vec<_> =
        finding.anomalies.iter().map(|anomaly| (anomaly.method.as_str(), anomaly.index)).collect();
    assert_eq!(methods, [("zscore", 5), ("iqr", 5)]);
    let usual = with_history(regressed, "latency", &[80.0, 125.0, 110.0, 90.0, 100.0]);
    assert_eq!(judge(&standard(), &usual).severity, Some(Severity::Low));

    let harmless = with_history(two("latency", Increase, &[100.0; 3], &[105.0; 3]), "latency", &[100.0; 5]);
    let finding = judge(&standard(), &harmless);
    assert_eq!((finding.verdict, finding.severity), (Verdict::Equivalent, None));
    assert!(!finding.anomalies.is_empty(), "a jump after a constant history stands out");
}

#[test]
fn an_improvement_is_no_anomaly() {
    let faster = with_history(
        two("latency", Increase, &[100.0; 3], &[10.0; 3]),
        "latency",
        &[100.0, 101.0, 99.0, 100.0],
    );
    let finding = judge(&standard(), &faster);
    assert_eq!((finding.verdict, finding.anomalies.len()), (Verdict::Improved, 0));
}

#[test]
fn findings_carry_the_trend_of_the_newest_versions() {
    let history: Vec<f64> = (0..30).map(f64::from).collect();
    let finding =
        judge(&standard(), &with_history(two("t", Increase, &[29.0; 3], &[29.0; 3]), "t", &history));
    let trend = finding.trend.unwrap();
    assert_eq!(
        (trend.direction, trend.predicted_next.to_bits()),
        (TrendDirection::Increasing, 30.0_f64.to_bits())
    );
}

#[test]
fn a_comparison_with_a_baseline_uses_its_stored_measurements() {
    let mut detector = standard();
    let stored = vec![side("latency", Increase, &OLD)];
    assert_eq!(detector.establish_baseline("start", "v0".parse().unwrap(), stored).unwrap(), None);
    let assessment =
        detector.compare_against_baseline("start", &[side("latency", Increase, &times(1.5))]).unwrap();
    assert_eq!(assessment.findings[0].baseline.as_deref(), Some("start"));
    assert!(assessment.is_critical_regression());
    assert_eq!(assessment.recommendation, Recommendation::RollbackRequired);
    let error = detector.compare_against_baseline("stat", &[]).unwrap_err();
    assert_eq!(error, Error::UnknownBaseline { name: "stat".into(), known: vec!["start".into()] });
    assert_eq!(detector.status().baselines, ["start"]);
    let json = serde_json::to_string(detector.baselines()).unwrap();
    assert_eq!(&serde_json::from_str::<Baselines>(&json).unwrap(), detector.baselines());
}

#[test]
fn callbacks_hear_of_every_assessment_with_a_regression() {
    let mut detector = standard();
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    detector.register_alert_callback(
        "count",
        Arc::new(move |assessment: &Assessment| {
            counter.fetch_add(assessment.summary.total_regressions, Ordering::Relaxed);
        }),
    );
    let bad = two("latency", Increase, &OLD, &times(1.5));
    let good = two("latency", Increase, &OLD, &times(0.5));
    let answers = detector.detect_regressions_batch(&[bad, good]);
    let detected: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().unwrap().regression_detected()).collect();
    assert_eq!((detected, heard.load(Ordering::Relaxed)), (vec![true, false], 1));
}

#[test]
fn statistics_of_a_metric_test_each_value_against_those_before_it() {
    let name = MetricName::new("latency").unwrap();
    let values = [10.0, 10.0, 10.0, 10.0, 99.0];
    let statistics = standard().analyze_metric_statistics(&name, &values).unwrap();
    assert!(!statistics.anomalies.is_empty(), "five values are enough to see an outlier");
    assert!(statistics.anomalies.iter().all(|anomaly| anomaly.index == 4), "{statistics:?}");
    assert!(standard().analyze_metric_statistics(&name, &[1.0, 2.0]).is_err());
}

#[test]
fn a_baseline_is_moved_by_hand_only_under_a_known_name() {
    let mut detector = standard();
    let side = |factor| vec![side("latency", Increase, &times(factor))];
    detector.establish_baseline("release", "v1".parse().unwrap(), side(1.0)).unwrap();
    let error = detector.update_baseline("relaese", "v2".parse().unwrap(), side(1.0)).unwrap_err();
    assert_eq!(error, Error::UnknownBaseline { name: "relaese".into(), known: vec!["release".into()] });
    let previous = detector.update_baseline("release", "v2".parse().unwrap(), side(2.0)).unwrap();
    assert_eq!(previous.version_id.as_str(), "v1");
    assert_eq!(detector.get_baseline("release").unwrap().metrics, side(2.0));
    let mut baselines = detector.baselines().clone();
    baselines.remove_baseline("release").unwrap();
    assert!(baselines.remove_baseline("release").is_err() && baselines.names().is_empty());
}

#[test]
fn a_baseline_that_moves_by_itself_follows_gains_and_never_a_drift() {
    let mut detector = standard();
    let both = |latency: f64, memory: f64| {
        vec![side("latency", Increase, &times(latency)), side("memory", Increase, &times(memory))]
    };
    detector.establish_baseline("best", "v0".parse().unwrap(), both(1.0, 1.0)).unwrap();
    let mut offer = |id: &str, metrics: Vec<MetricSamples>| {
        let update = detector.update_baseline_if_improved("best", id.parse().unwrap(), metrics).unwrap();
        matches!(update, BaselineUpdate::Moved { .. })
    };
    // Half a percent worse a step is within the threshold each time, and equivalent.
    assert!(!offer("drift", both(1.005, 1.0)));
    assert!(!offer("same", both(1.0, 1.0)), "nothing improved");
    assert!(!offer("traded", both(0.5, 1.01)), "half the latency for one percent of memory");
    assert!(!offer("half measured", vec![side("latency", Increase, &times(0.5))]));
    assert!(offer("better", both(0.5, 1.0)));
    assert_eq!(detector.get_baseline("best").unwrap().version_id.as_str(), "better");
}

#[test]
fn a_batch_is_answered_like_its_parts_and_alerts_come_in_its_order() {
    let mut detector = standard();
    let batch: Vec<Measurements> =
        (0..40).map(|i| two("latency", Increase, &OLD, &times(1.0 + f64::from(i % 3) * 0.2))).collect();
    let one_by_one: Vec<_> = batch.iter().map(|part| detector.assess(part)).collect();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let alerts = Arc::clone(&seen);
    detector.register_alert_callback(
        "collect",
        Arc::new(move |assessment: &Assessment| alerts.lock().unwrap().push(assessment.clone())),
    );
    assert_eq!(detector.detect_regressions_batch(&batch), one_by_one);
    let expected: Vec<Assessment> =
        one_by_one.into_iter().flatten().filter(Assessment::regression_detected).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}
