//! What holds for any measurements whatever.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use common::{from_toml, side, standard, two};
use evoseal_regression::{
    Detector, Finding, Measurements, RankShift, RegressionDetector, SeriesSettings, Verdict, analyze_series,
};
use evoseal_types::Direction::{Decrease, Increase};
use evoseal_types::{Direction, MetricName, MetricSamples};
use proptest::prelude::*;

/// Everyday values, ties, and everything that a float can be.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => 50.0..150.0_f64,
        3 => (0..4_u8).prop_map(f64::from),
        1 => any::<f64>(),
        1 => Just(f64::MAX),
        1 => Just(f64::NAN),
    ]
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        prop::collection::vec(value(), 0..8),
        prop::collection::vec(50.0..150.0_f64, 3..8),
        prop::collection::vec(any::<f64>().prop_filter("finite", |value| value.is_finite()), 3..6),
    ]
}

fn metrics() -> impl Strategy<Value = Vec<MetricSamples>> {
    prop::collection::btree_map(0..3_u8, (values(), any::<bool>()), 0..3).prop_map(|metrics| {
        let metric = |(i, (values, rises)): (u8, (Vec<f64>, bool))| {
            side(&format!("m{i}"), if rises { Increase } else { Decrease }, &values)
        };
        metrics.into_iter().map(metric).collect()
    })
}

fn detectors() -> [RegressionDetector; 3] {
    let rank = standard().with_analyzer(Arc::new(RankShift)).unwrap();
    [standard(), rank, from_toml("enable_statistical_analysis = false").unwrap()]
}

/// What a finding must be, whatever it is about.
fn check(finding: &Finding) {
    assert_eq!(finding.severity.is_some(), finding.verdict == Verdict::Regressed, "{finding:?}");
    assert_eq!(finding.problem.is_some(), finding.verdict == Verdict::InsufficientData, "{finding:?}");
    assert_eq!(finding.interval.is_none(), finding.verdict == Verdict::InsufficientData, "{finding:?}");
    let Some(interval) = finding.interval else { return };
    assert!(
        interval.low <= interval.high && interval.low.is_finite() && interval.high.is_finite(),
        "{finding:?}"
    );
    let sign = finding.threshold.direction().harm_sign();
    let (low, high) = (sign * interval.low, sign * interval.high);
    match finding.verdict {
        Verdict::Regressed => assert!(low.min(high) > 0.0, "{finding:?}"),
        Verdict::Improved => assert!(low.max(high) < 0.0, "{finding:?}"),
        _ => {}
    }
    let numbers =
        [finding.old_value, finding.new_value, finding.absolute_change, finding.change, finding.p_value];
    assert!(numbers.iter().flatten().all(|number| number.is_finite()), "{finding:?}");
    assert!(finding.anomalies.iter().all(|anomaly| anomaly.score.is_finite()), "{finding:?}");
    let trend = finding.trend.iter().flat_map(|trend| [trend.slope, trend.r_squared, trend.predicted_next]);
    assert!(trend.into_iter().all(f64::is_finite), "{finding:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_measurements_give_one_sound_finding_per_metric(
        incumbent in metrics(), candidate in metrics(), paired in any::<bool>(), history in values(),
    ) {
        let names: std::collections::BTreeSet<MetricName> =
            incumbent.iter().chain(&candidate).map(|metric| metric.spec.name.clone()).collect();
        let history = names.iter().map(|name| (name.clone(), history.clone())).collect();
        let measurements = Measurements { incumbent, candidate, paired, history, baselines: Vec::new(), run: None };
        for detector in detectors() {
            let findings = detector.assess(&measurements).unwrap().findings;
            findings.iter().for_each(check);
            let found: Vec<_> = findings.into_iter().map(|finding| finding.metric.name).collect();
            assert_eq!(found, names.iter().cloned().collect::<Vec<_>>());
        }
    }

    #[test]
    fn negative_values_with_the_opposite_direction_are_judged_alike(old in values(), new in values()) {
        let turned = |values: &[f64]| values.iter().map(|value| -value).collect::<Vec<_>>();
        let judge = |detector: &RegressionDetector, direction: Direction, old: &[f64], new: &[f64]| {
            let finding = detector.assess(&two("m", direction, old, new)).unwrap().findings.remove(0);
            (finding.verdict, finding.severity, finding.problem)
        };
        for detector in [standard(), from_toml("enable_statistical_analysis = false").unwrap()] {
            let plain = judge(&detector, Increase, &old, &new);
            assert_eq!(plain, judge(&detector, Decrease, &turned(&old), &turned(&new)));
        }
    }

    #[test]
    fn any_series_is_searched_or_refused(values in values()) {
        let settings = SeriesSettings::default();
        let usable = values.len() >= 2 && values.iter().all(|value| value.is_finite());
        match analyze_series(&values, None, &settings) {
            Ok(report) => {
                assert!(usable);
                let starts: Vec<_> = report.change_points.iter().map(|change| change.index).collect();
                let edges = [vec![0], starts, vec![values.len()]].concat();
                let long_enough = |pair: &[usize]| pair[1] - pair[0] >= 3;
                assert!(edges.len() == 2 || edges.windows(2).all(long_enough), "{edges:?}");
            }
            Err(_) => assert!(!usable),
        }
    }
}
