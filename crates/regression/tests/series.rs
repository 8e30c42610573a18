//! Series without a run around them.
#![allow(clippy::unwrap_used, reason = "tests")]

use evoseal_regression::{ChangePointMethod, SeriesSettings, analyze_series};
use evoseal_types::Direction::{Decrease, Increase};

fn changes(values: &[f64]) -> Vec<usize> {
    let report = analyze_series(values, None, &SeriesSettings::default()).unwrap();
    report.change_points.iter().map(|change| change.index).collect()
}

#[test]
fn the_index_is_that_of_the_first_value_of_the_new_level() {
    let steps = [1.0, 1.1, 0.9, 1.0, 5.0, 5.1, 4.9, 5.0, 5.0, 2.0, 2.1, 1.9];
    assert_eq!(changes(&steps), [4, 9]);
    assert_eq!(changes(&[0.0, 0.0, 0.0, 10.0, 10.0, 10.0]), [3], "without any noise");
    assert_eq!(changes(&[7.0; 20]), Vec::<usize>::new());
    assert_eq!(changes(&[1.0, 9.0]), Vec::<usize>::new());
}

#[test]
fn harm_follows_the_direction() {
    let step = [1.0, 1.1, 0.9, 1.0, 5.0, 5.1, 4.9, 5.0];
    for (direction, expected) in [(Some(Increase), Some(true)), (Some(Decrease), Some(false)), (None, None)] {
        let report = analyze_series(&step, direction, &SeriesSettings::default()).unwrap();
        assert_eq!(report.change_points[0].is_harmful, expected);
    }
}

#[test]
fn one_odd_value_is_an_anomaly_and_no_change() {
    let mut values: Vec<f64> = (0..30).map(|i| 10.0 + f64::from(i % 3) * 0.1).collect();
    values[12] = 10.9;
    let report = analyze_series(&values, Some(Increase), &SeriesSettings::default()).unwrap();
    let anomalies: Vec<_> = report.anomalies.iter().map(|anomaly| anomaly.index).collect();
    assert_eq!((report.change_points.len(), anomalies), (0, vec![12]));
    let other_side = analyze_series(&values, Some(Decrease), &SeriesSettings::default()).unwrap();
    assert_eq!(other_side.anomalies, []);
}

#[test]
fn unusable_series_and_settings_are_refused() {
    let standard = SeriesSettings::default();
    for bad in [vec![], vec![1.0], vec![1.0, f64::NAN], vec![1.0; 2_000_001]] {
        assert!(analyze_series(&bad, None, &standard).is_err());
    }
    for settings in [
        SeriesSettings { method: ChangePointMethod::Pelt { penalty: Some(0.0) }, ..standard.clone() },
        SeriesSettings {
            method: ChangePointMethod::Energy { level: 0.01, permutations: 98, seed: 0 },
            ..standard.clone()
        },
        SeriesSettings { outlier_threshold: f64::NAN, ..standard.clone() },
        SeriesSettings { confidence_level: 1.0, ..standard },
    ] {
        assert!(analyze_series(&[1.0, 2.0, 3.0], None, &settings).is_err(), "{settings:?}");
    }
}

#[test]
fn extreme_numbers_are_survived() {
    for values in [[f64::MAX, f64::MIN, f64::MAX, 0.0], [5e-324, 0.0, 5e-324, 0.0]] {
        let report = analyze_series(&values, None, &SeriesSettings::default()).unwrap();
        assert!(serde_json::to_string(&report).is_ok());
    }
}
