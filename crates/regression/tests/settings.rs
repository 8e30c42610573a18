//! Settings as users write them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{from_toml, judge, spec, two};
use evoseal_regression::{DataProblem, RegressionSettings};
use evoseal_types::Direction::{self, Decrease, Increase};

/// Threshold, critical threshold and direction that apply to a metric.
fn applied(text: &str, name: &str, direction: Direction) -> (f64, f64, Direction) {
    let threshold = from_toml(text).unwrap().get_regression_threshold(&spec(name, direction)).unwrap();
    (threshold.threshold(), threshold.critical(), threshold.direction())
}

#[test]
fn the_published_defaults_stand() {
    let settings = RegressionSettings::default();
    assert_eq!(settings, toml::from_str("").unwrap());
    assert!(settings.enable_statistical_analysis && settings.enable_anomaly_detection);
    let cases = [
        ("duration_sec", Increase, (0.10, 0.25)),
        ("memory_mb", Increase, (0.10, 0.30)),
        ("error_rate", Increase, (0.05, 0.10)),
        ("accuracy", Decrease, (0.05, 0.10)),
        ("correctness", Decrease, (0.01, 0.05)),
        ("my_metric", Decrease, (0.1, 0.25)),
        // Shares a published name and means the opposite.
        ("precision", Increase, (0.1, 0.25)),
    ];
    for (name, direction, (threshold, critical)) in cases {
        assert_eq!(applied("", name, direction), (threshold, critical, direction), "{name}");
    }
}

#[test]
fn both_published_ways_to_write_a_threshold_mean_the_same() {
    let ways = [
        "metric_thresholds.m = { threshold = 0.2, direction = \"decrease\" }",
        "metric_thresholds.m = { regression = -0.2, critical = -0.5 }",
        "metric_thresholds.m = { regression = -0.2, direction = \"decrease\" }",
        "metric_thresholds.m = { regression = -0.2 }",
        "metric_thresholds.m = { threshold = 0.2, critical = 0.5, direction = \"decrease\" }",
        "metric_thresholds.m = { threshold = 0.2, critical = -0.5 }",
        "metric_thresholds.m = { threshold = 0.2 }",
    ];
    for text in ways {
        assert_eq!(applied(text, "m", Decrease), (0.2, 0.5, Decrease), "{text}");
    }
}

#[test]
fn what_a_threshold_leaves_out_comes_from_the_published_one_of_that_name() {
    let text = "metric_thresholds.accuracy = { critical = -0.2 }";
    assert_eq!(applied(text, "accuracy", Decrease), (0.05, 0.2, Decrease));
    let text = "metric_thresholds.accuracy = { direction = \"decrease\" }";
    assert_eq!(applied(text, "accuracy", Decrease), (0.05, 0.1, Decrease));
    let text = "regression_threshold = 0.02\nmetric_thresholds.mine = { direction = \"decrease\" }";
    assert_eq!(applied(text, "mine", Decrease), (0.02, 0.05, Decrease));
}

#[test]
fn thresholds_that_contradict_themselves_are_refused_by_name() {
    let bad = [
        "{ regression = 0.05, direction = \"decrease\" }",
        "{ regression = -0.05, direction = \"increase\" }",
        "{ regression = -0.05, critical = 0.1 }",
        "{ regression = 0.05 }",
        "{ critical = 0.1 }",
        "{ threshold = 0.1, regression = -0.1 }",
        "{ threshold = -0.1 }",
        "{ threshold = nan }",
        "{ regression = -inf }",
        "{ regression = -0.2, critical = -0.1 }",
    ];
    for entry in bad {
        let error = from_toml(&format!("metric_thresholds.accuracy = {entry}")).unwrap_err().to_string();
        assert!(error.contains("accuracy"), "{entry}: {error}");
    }
}

#[test]
fn partial_tables_keep_the_other_defaults() {
    let settings: RegressionSettings = toml::from_str("statistical_analysis = { min_samples = 5 }").unwrap();
    assert_eq!(settings.statistical_analysis.min_samples, 5);
    assert_eq!(settings.statistical_analysis.trend_window, 10);
    let few = two("m", Increase, &[1.0, 2.0, 1.5, 1.2], &[1.0, 2.0, 1.5, 1.2]);
    let detector = evoseal_regression::RegressionDetector::new(&settings).unwrap();
    assert_eq!(judge(&detector, &few).problem, Some(DataProblem::TooFewSamples));
}

#[test]
fn unknown_keys_and_values_out_of_range_are_refused() {
    for text in [
        "regresion_threshold = 0.1",
        "metric_thresholds.m = { treshold = 0.1 }",
        "anomaly_detection.algorithms = [\"isolation\"]",
        "statistical_analysis.seasonal_period = 7",
    ] {
        assert!(toml::from_str::<RegressionSettings>(text).is_err(), "{text}");
    }
    for text in [
        "regression_threshold = -0.1",
        "statistical_analysis.confidence_level = 1.0",
        "statistical_analysis.min_samples = 1",
        "statistical_analysis.trend_window = 2",
        "statistical_analysis.outlier_threshold = 0.0",
    ] {
        assert!(from_toml(text).is_err(), "{text}");
    }
}

#[test]
fn settings_that_contradict_the_metric_compare_nothing_and_say_so() {
    let detector =
        from_toml("metric_thresholds.rate = { threshold = 0.1, direction = \"increase\" }").unwrap();
    let finding = judge(&detector, &two("rate", Decrease, &[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]));
    assert_eq!(finding.problem, Some(DataProblem::SpecMismatch));
    assert!(finding.reason.contains("settings"), "{}", finding.reason);
}
