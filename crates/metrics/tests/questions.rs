//! The published questions.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use evoseal_metrics::{
    Error, MemoryMetricStore, MetricQueries, MetricStore, MetricsSettings, NewRecord, Result,
    comparison_table,
};
use evoseal_regression::{RegressionDetector, RegressionSettings, TrendDirection, Verdict};
use evoseal_types::{Direction, MetricName, MetricSamples, MetricSpec, TestReport, Timestamp, VersionId};

fn id(version: &str) -> VersionId {
    version.parse().unwrap()
}

fn name(metric: &str) -> MetricName {
    metric.parse().unwrap()
}

fn record(version: &str, metrics: &[(&str, &[f64])]) -> NewRecord {
    let samples = |(name, values): &(&str, &[f64])| {
        MetricSamples::independent(MetricSpec::new(*name, "ms", Direction::Increase).unwrap(), values)
    };
    NewRecord {
        version_id: id(version),
        recorded_at: Timestamp::from_unix_ns(0),
        metrics: metrics.iter().map(samples).collect(),
        test_results: Vec::new(),
        tags: BTreeMap::new(),
    }
}

/// Five accepted versions whose latency rises by 10 each, and a rejected one.
async fn lineage() -> MemoryMetricStore {
    let store = MemoryMetricStore::new();
    for i in 0..5 {
        let version = format!("v{i}");
        let latency = 100.0 + f64::from(i) * 10.0;
        let values = [latency - 1.0, latency, latency + 1.0];
        store.append(record(&version, &[("latency", &values), ("size", &[8.0; 3])])).await.unwrap();
        store.set_accepted(&id(&version), true).await.unwrap();
    }
    store.append(record("bad", &[("latency", &[900.0; 3]), ("size", &[4.0; 3])])).await.unwrap();
    store
}

fn detector() -> RegressionDetector {
    RegressionDetector::new(&RegressionSettings::default()).unwrap()
}

#[tokio::test]
async fn history_holds_the_accepted_versions_in_order() {
    let store = lineage().await;
    let history = store.get_metrics_history(&name("latency")).await.unwrap();
    let means: Vec<f64> = history.iter().map(|point| point.mean).collect();
    assert_eq!(means, [100.0, 110.0, 120.0, 130.0, 140.0]);
    store.append(record("v1", &[("latency", &[f64::NAN])])).await.unwrap();
    let history = store.get_metrics_history(&name("latency")).await.unwrap();
    assert!(history.len() == 5 && history[1].mean.is_nan() && history[1].sample_count == 4, "{history:?}");
}

#[tokio::test]
async fn versions_are_found_by_their_id_and_unknown_ones_are_errors() {
    let store = lineage().await;
    let regressions = store.find_regressions(&detector(), &id("v4"), &id("bad")).await.unwrap();
    assert_eq!(
        regressions.iter().map(|finding| finding.metric.name.as_str()).collect::<Vec<_>>(),
        ["latency"]
    );
    assert!(!regressions[0].anomalies.is_empty(), "the history was handed over");
    for (old, new) in [("v4", "nowhere"), ("nowhere", "v4")] {
        let answer = store.compare_metrics(&detector(), &id(old), &id(new)).await;
        assert!(matches!(&answer, Err(Error::NotFound { what }) if what.contains("nowhere")), "{answer:?}");
    }
}

#[tokio::test]
async fn improvements_need_the_same_evidence_as_regressions() {
    let store = lineage().await;
    let improved = store.find_improvements(&detector(), &id("v4"), &id("bad")).await.unwrap();
    assert_eq!(improved.iter().map(|finding| finding.metric.name.as_str()).collect::<Vec<_>>(), ["size"]);
    store.append(record("a", &[("noise", &[10.0, 12.0, 8.0])])).await.unwrap();
    store.append(record("b", &[("noise", &[9.9, 11.9, 7.9])])).await.unwrap();
    assert_eq!(store.find_improvements(&detector(), &id("a"), &id("b")).await.unwrap(), []);
}

#[tokio::test]
async fn a_named_baseline_sees_what_small_steps_add_up_to() {
    let store = lineage().await;
    let baselines = BTreeMap::from([("start".to_owned(), id("v0"))]);
    let measurements = store.measurements(&id("v3"), &id("v4"), &baselines).await.unwrap();
    let assessment = evoseal_regression::Detector::assess(&detector(), &measurements).unwrap();
    let regressed: Vec<_> = assessment.regressions().map(|finding| finding.baseline.as_deref()).collect();
    assert_eq!(regressed, [Some("start")]);
}

#[tokio::test]
async fn sessions_of_one_version_are_put_together_without_mixing_their_starts() {
    let store = MemoryMetricStore::new();
    for values in [[1.0, 2.0], [3.0, 4.0]] {
        store.append(record("v1", &[("m", &values)])).await.unwrap();
    }
    let samples = store.samples_of(&id("v1")).await.unwrap();
    assert_eq!(samples[0].values(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(samples[0].samples.iter().map(|sample| sample.start).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn the_newest_session_and_the_newest_tests_are_found() {
    let store = lineage().await;
    let tested =
        NewRecord { test_results: vec![TestReport::from_counts("t", 1, 0, 0, 0)], ..record("v1", &[]) };
    store.append(tested.clone()).await.unwrap();
    store.append(record("v1", &[("latency", &[7.0])])).await.unwrap();
    assert_eq!(store.get_latest_metrics(&id("v1")).await.unwrap().record.metrics[0].values(), [7.0]);
    assert_eq!(store.latest_test_results(&id("v1")).await.unwrap(), tested.test_results);
    assert!(store.get_latest_metrics(&id("v9")).await.is_err());
}

#[tokio::test]
async fn summary_percentiles_and_trends_are_over_accepted_versions() {
    let store = lineage().await;
    let latency = name("latency");
    let summary = store.get_summary_statistics(&latency, 0.95).await.unwrap();
    assert_eq!((summary.mean, summary.median, summary.sample_size), (120.0, 120.0, 5));
    // The divisor is n - 1.
    assert!((summary.std_dev - 250.0_f64.sqrt()).abs() < 1e-12);
    assert_eq!(store.get_percentiles(&latency, &[0.0, 50.0, 90.0]).await.unwrap(), [100.0, 120.0, 136.0]);
    let trends = store.detect_trends(10, 0.95).await.unwrap();
    assert_eq!(
        (trends[&latency].direction, trends[&latency].predicted_next),
        (TrendDirection::Increasing, 150.0)
    );
    assert_eq!(trends[&name("size")].direction, TrendDirection::Stable);
    let unknown: Result<_> = store.get_percentiles(&name("nothing"), &[50.0]).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn metrics_of_versions_are_scaled_column_by_column() {
    let store = lineage().await;
    let versions = ["v0", "v1", "v4"].map(id);
    let table = store.normalize_metrics(&versions, &["latency", "size"].map(name)).await.unwrap();
    assert_eq!(table.values, ndarray::array![[0.0, 0.5], [0.25, 0.5], [1.0, 0.5]]);
    assert!(store.normalize_metrics(&versions, &[name("nothing")]).await.is_err());
}

#[tokio::test]
async fn the_table_says_nothing_rather_than_zero_for_a_change_from_zero() {
    let store = MemoryMetricStore::new();
    store.append(record("v1", &[("errors", &[0.0; 3]), ("latency", &[10.0; 3])])).await.unwrap();
    store.append(record("v2", &[("errors", &[3.0; 3]), ("latency", &[11.0; 3])])).await.unwrap();
    let assessment = store.compare_metrics(&detector(), &id("v1"), &id("v2")).await.unwrap();
    let rows: Vec<_> = comparison_table(&assessment)
        .into_iter()
        .map(|row| (row.metric.to_string(), row.difference, row.change_pct, row.status))
        .collect();
    let expected = [
        ("errors".to_owned(), Some(3.0), None, Verdict::Regressed),
        ("latency".to_owned(), Some(1.0), Some(10.0), Verdict::Equivalent),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn thresholds_of_both_sections_join_and_the_regression_section_wins() {
    let metrics: MetricsSettings =
        toml::from_str("thresholds.a = { threshold = 0.01 }\nthresholds.b = { regression = -0.02 }").unwrap();
    let regression: RegressionSettings = toml::from_str("metric_thresholds.a = { threshold = 0.5 }").unwrap();
    let joined = metrics.join(regression).metric_thresholds;
    assert_eq!((joined[&name("a")].threshold, joined[&name("b")].regression), (Some(0.5), Some(-0.02)));
}
