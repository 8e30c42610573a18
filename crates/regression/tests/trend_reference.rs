//! Trends equal SciPy's and pymannkendall's; `fixtures/make_trend_reference.py` made the values.
#![allow(clippy::unwrap_used, reason = "tests")]

use evoseal_regression::statistics::{linear_prediction, mann_kendall, theil_sen};
use serde_json::Value;

fn assert_close(what: &str, found: f64, wanted: &Value) {
    let wanted = wanted.as_f64().unwrap();
    assert!((found - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{what}: {found} instead of {wanted}");
}

fn all() -> Vec<(String, Vec<f64>, Value)> {
    let reference: Value = serde_json::from_str(include_str!("fixtures/trend_reference.json")).unwrap();
    let series = reference["series"].as_array().unwrap().clone();
    assert!(series.len() >= 8, "all series of the script");
    series
        .into_iter()
        .map(|one| {
            let values =
                one["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
            (one["name"].as_str().unwrap().to_owned(), values, one)
        })
        .collect()
}

#[test]
fn theil_sen_equals_scipy() {
    for (name, values, wanted) in all() {
        let line = theil_sen(&values, 0.95).unwrap();
        let found = [line.slope, line.intercept, line.interval.low, line.interval.high];
        for (part, found) in found.into_iter().enumerate() {
            assert_close(&format!("{name} {part}"), found, &wanted["sen"][part]);
        }
    }
}

#[test]
fn mann_kendall_equals_pymannkendall() {
    for (name, values, wanted) in all() {
        let (test, wanted) = (mann_kendall(&values).unwrap(), &wanted["mann_kendall"]);
        assert_close(&format!("{name} s"), test.s, &wanted["s"]);
        assert_close(&format!("{name} tau"), test.tau, &wanted["tau"]);
        // Where the factor is not positive, the reference has no answer.
        if let Some(correction) = wanted["correction"].as_f64().filter(|factor| *factor > 0.0) {
            assert_close(&format!("{name} correction"), test.correction, &correction.into());
            assert_close(&format!("{name} z"), test.z, &wanted["z"]);
            assert_close(&format!("{name} p"), test.p_value, &wanted["p"]);
        } else {
            assert!((test.correction - 1.0).abs() < f64::EPSILON, "{name}");
        }
    }
}

#[test]
fn prediction_intervals_equal_the_textbook() {
    for (name, values, wanted) in all() {
        for (ahead, bounds) in wanted["prediction"].as_object().unwrap() {
            let next = linear_prediction(&values, ahead.parse().unwrap(), 0.95).unwrap();
            assert_close(&format!("{name} {ahead} low"), next.low, &bounds[0]);
            assert_close(&format!("{name} {ahead} high"), next.high, &bounds[1]);
        }
    }
}
