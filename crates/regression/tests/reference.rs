//! The statistics against SciPy and against published worked examples.
#![allow(clippy::unwrap_used, reason = "tests")]

use evoseal_regression::statistics::{
    hodges_lehmann, linear_trend, mann_whitney, mean_interval, paired_t_test, percentile, percentile_rank,
    prediction_interval, summarize, welch_test,
};
use evoseal_regression::{Analyzer, Comparison, TInterval};
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("fixtures/reference.json")).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_close(ours: f64, expected: &Value, what: &str) {
    assert_near(ours, expected.as_f64().unwrap(), 1e-9, what);
}

#[track_caller]
fn assert_near(ours: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (ours - expected).abs() <= tolerance * expected.abs().max(1e-3),
        "{what}: {ours} is not {expected}"
    );
}

#[test]
fn two_sample_tests_agree_with_scipy() {
    for case in reference()["two_samples"].as_array().unwrap() {
        let (name, x, y) = (case["name"].as_str().unwrap(), floats(&case["x"]), floats(&case["y"]));
        let welch = welch_test(&x, &y).unwrap();
        assert_close(welch.statistic, &case["welch"]["t"], name);
        assert_close(welch.degrees_of_freedom, &case["welch"]["df"], name);
        assert_close(welch.p_value, &case["welch"]["p"], name);
        let ranks = mann_whitney(&x, &y).unwrap();
        assert_close(ranks.u, &case["mann_whitney"]["u"], name);
        assert_close(ranks.p_value, &case["mann_whitney"]["p"], name);
    }
}

#[test]
fn large_samples_with_ties_agree_with_scipys_normal_approximation() {
    let case = &reference()["large"];
    let test = mann_whitney(&floats(&case["x"]), &floats(&case["y"])).unwrap();
    assert!(!test.exact);
    assert_close(test.u, &case["u"], "U");
    assert_close(test.p_value, &case["p"], "p");
}

#[test]
fn the_paired_test_agrees_with_scipy() {
    let case = &reference()["paired"];
    let test = paired_t_test(&floats(&case["x"]), &floats(&case["y"])).unwrap();
    assert_close(test.statistic, &case["t"], "t");
    assert_close(test.p_value, &case["p"], "p");
}

#[test]
fn trends_agree_with_scipy() {
    for case in reference()["trends"].as_array().unwrap() {
        let trend = linear_trend(&floats(&case["values"]), 0.95).unwrap();
        assert_close(trend.slope, &case["slope"], "slope");
        assert_close(trend.slope_interval.low, &case["low"], "low");
        assert_close(trend.slope_interval.high, &case["high"], "high");
        assert_close(trend.r_squared, &case["r2"], "r squared");
        assert_close(trend.predicted_next, &case["next"], "next");
    }
}

#[test]
fn descriptions_and_intervals_agree_with_scipy() {
    for case in reference()["samples"].as_array().unwrap() {
        let values = floats(&case["values"]);
        let summary = summarize(&values, 0.95).unwrap();
        assert_close(summary.mean, &case["mean"], "mean");
        assert_close(summary.median, &case["median"], "median");
        assert_close(summary.std_dev, &case["std_dev"], "standard deviation");
        let (mean, next) =
            (mean_interval(&values, 0.95).unwrap(), prediction_interval(&values, 0.95).unwrap());
        for (interval, expected) in [(mean, &case["ci"]), (next, &case["prediction"])] {
            assert_close(interval.low, &expected[0], "low");
            assert_close(interval.high, &expected[1], "high");
        }
        for (p, expected) in case["percentiles"].as_object().unwrap() {
            assert_close(percentile(&values, p.parse().unwrap()).unwrap(), expected, p);
        }
        assert_close(percentile_rank(&values, values[0]).unwrap(), &case["rank_of_first"], "rank");
    }
}

/// Student (1908), the hours of sleep gained with two drugs (Cushny and Peebles 1905). As R prints them: Welch
/// t = 1.8608, 17.776 degrees of freedom, p = 0.07939; paired t = 4.0621, p = 0.002833.
#[test]
fn students_sleep_data_give_the_published_tests() {
    let first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
    let second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
    let welch = welch_test(&first, &second).unwrap();
    assert_near(welch.statistic, 1.8608, 1e-4, "t");
    assert_near(welch.degrees_of_freedom, 17.776, 1e-4, "degrees of freedom");
    assert_near(welch.p_value, 0.07939, 1e-4, "p");
    let paired = paired_t_test(&first, &second).unwrap();
    assert_near(paired.statistic, 4.0621, 1e-4, "t");
    assert_near(paired.p_value, 0.002_833, 1e-3, "p");
}

/// Hollander and Wolfe (1999), example 4.1: permeability of human chorioamnion, five against ten values. U = 15 (their
/// W = 30 for the five), two-sided p = 0.2544, and a Hodges-Lehmann estimate of -0.305.
#[test]
fn a_published_example_of_the_rank_methods_is_reproduced() {
    let at_term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
    let early = [1.15, 0.88, 0.90, 0.74, 1.21];
    let test = mann_whitney(&at_term, &early).unwrap();
    assert_near(test.u, 15.0, 1e-12, "U");
    assert_near(test.p_value, 0.2544, 1e-3, "p");
    let (shift, interval) = hodges_lehmann(&at_term, &early, 0.95).unwrap();
    assert_near(shift, -0.305, 1e-9, "shift");
    // As R's wilcox.test(early, at_term, conf.int = TRUE) gives it.
    assert_near(interval.low, -0.76, 1e-9, "low");
    assert_near(interval.high, 0.15, 1e-9, "high");
}

/// The ends of Fieller's interval are the ratios that the tests themselves only just accept: the defining property.
#[test]
fn the_ends_of_the_interval_are_the_ratios_on_the_edge_of_rejection() {
    let (x, y) = ([10.2, 11.9, 9.8, 13.1, 12.2], [10.9, 12.1, 10.6, 14.3, 13.0]);
    let comparison = Comparison { incumbent: &x, candidate: &y, paired: true, level: 0.9 };
    let interval = TInterval.analyze(&comparison).unwrap().interval;
    for ratio in [interval.low + 1.0, interval.high + 1.0] {
        let test = paired_t_test(&x.map(|value| value * ratio), &y).unwrap();
        assert_near(test.p_value, 0.1, 1e-9, "p at the edge");
    }
}

#[test]
fn the_interval_mirrors_for_negative_values() {
    let (x, y) = ([10.2, 11.9, 9.8], [10.9, 12.1, 10.6]);
    let plain = Comparison { incumbent: &x, candidate: &y, paired: false, level: 0.9 };
    let (minus_x, minus_y) = (x.map(|value| -value), y.map(|value| -value));
    let mirrored = Comparison { incumbent: &minus_x, candidate: &minus_y, ..plain };
    let (plain, mirrored) = (TInterval.analyze(&plain).unwrap(), TInterval.analyze(&mirrored).unwrap());
    assert_near(mirrored.interval.low, -plain.interval.high, 1e-12, "low");
    assert_near(mirrored.interval.high, -plain.interval.low, 1e-12, "high");
}

#[test]
fn every_statistic_refuses_values_that_are_no_numbers() {
    for bad in [f64::NAN, f64::INFINITY] {
        let (good, values) = ([1.0, 2.0, 3.0, 4.0], [1.0, bad, 2.0, 3.0]);
        assert!(welch_test(&good, &values).is_err());
        assert!(mann_whitney(&values, &good).is_err());
        assert!(hodges_lehmann(&values, &good, 0.9).is_err());
        assert!(paired_t_test(&values, &good).is_err());
        assert!(linear_trend(&values, 0.9).is_err());
        assert!(summarize(&values, 0.9).is_err());
        assert!(percentile(&values, 50.0).is_err() && percentile(&good, bad).is_err());
        assert!(percentile_rank(&good, bad).is_err());
        assert!(prediction_interval(&good, bad).is_err());
    }
}
