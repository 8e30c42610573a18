//! What the standard detector calls a regression.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{judge, measurements, side, spec, standard, two, with_history};
use evoseal_regression::{DataProblem, Detector, Error, RegressionDetector, RegressionSettings, Verdict};
use evoseal_types::Direction::{Decrease, Increase};
use evoseal_types::{MetricSamples, Severity};

const OLD: [f64; 5] = [100.0, 101.0, 99.0, 100.5, 99.5];

fn times(factor: f64) -> [f64; 5] {
    OLD.map(|value| value * factor)
}

#[test]
fn a_change_beyond_one_hundred_percent_is_not_taken_for_a_percentage() {
    for factor in [2.0, 2.5, 11.0, 1000.0] {
        let finding = judge(&standard(), &two("latency", Increase, &OLD, &times(factor)));
        assert_eq!(
            (finding.verdict, finding.severity),
            (Verdict::Regressed, Some(Severity::Critical)),
            "{factor}"
        );
        assert!((finding.change.unwrap() - (factor - 1.0)).abs() < 1e-9, "{finding:?}");
    }
}

#[test]
fn only_the_harmful_direction_is_a_regression() {
    let cases = [
        (Increase, 1.5, Verdict::Regressed),
        (Increase, 0.5, Verdict::Improved),
        (Decrease, 1.5, Verdict::Improved),
        (Decrease, 0.5, Verdict::Regressed),
        (Increase, 1.0, Verdict::Equivalent),
        (Decrease, 1.0, Verdict::Equivalent),
    ];
    for (direction, factor, expected) in cases {
        let finding = judge(&standard(), &two("unknown_metric", direction, &OLD, &times(factor)));
        assert_eq!(finding.verdict, expected, "{direction} {factor}: {}", finding.reason);
    }
}

#[test]
fn a_change_that_noise_could_explain_is_inconclusive() {
    let finding =
        judge(&standard(), &two("latency", Increase, &[100.0, 130.0, 80.0], &[120.0, 150.0, 100.0]));
    assert_eq!(finding.verdict, Verdict::Inconclusive);
    assert!(finding.change.unwrap() > 0.1 && finding.reason.contains("more samples"), "{}", finding.reason);
}

#[test]
fn a_rate_in_percent_is_judged_by_its_relative_change() {
    // The published settings multiplied percentage points by the old value, so that only a fall to zero counted.
    let finding = judge(&standard(), &two("success_rate", Decrease, &[100.0; 3], &[80.0; 3]));
    assert_eq!((finding.verdict, finding.severity), (Verdict::Regressed, Some(Severity::Critical)));
    assert!(
        finding.reason.contains("changed by -20.00 %") && finding.reason.contains("fall of 5.00 %"),
        "{finding:?}"
    );
}

#[test]
fn a_single_value_on_one_side_is_too_few_and_not_quietly_insignificant() {
    let finding = judge(&standard(), &two("latency", Increase, &OLD, &[500.0]));
    assert_eq!(finding.problem, Some(DataProblem::TooFewSamples));
}

#[test]
fn a_tiny_but_certain_harm_within_the_threshold_is_equivalent() {
    let finding = judge(&standard(), &two("latency", Increase, &OLD, &times(1.02)));
    assert_eq!(finding.verdict, Verdict::Equivalent, "{}", finding.reason);
}

#[test]
fn severity_follows_the_published_ratios() {
    let cases =
        [(1.12, Severity::Low), (1.16, Severity::Medium), (1.21, Severity::High), (1.26, Severity::Critical)];
    for (factor, expected) in cases {
        let finding = judge(&standard(), &two("latency", Increase, &[100.0; 3], &[100.0 * factor; 3]));
        assert_eq!(finding.severity, Some(expected), "{factor}: {}", finding.reason);
    }
}

#[test]
fn values_without_any_spread_are_compared_exactly() {
    let detector = standard();
    let finding = judge(&detector, &two("bytes", Increase, &[1000.0; 4], &[1100.0; 4]));
    assert_eq!((finding.verdict, finding.p_value), (Verdict::Equivalent, None), "exactly the threshold");
    let interval = finding.interval.unwrap();
    assert_eq!((interval.low.to_bits(), interval.high.to_bits()), (0.1_f64.to_bits(), 0.1_f64.to_bits()));
    assert!(finding.method == "exact" && finding.reason.contains("compared exactly"), "{}", finding.reason);
    assert_eq!(
        judge(&detector, &two("bytes", Increase, &[1000.0; 4], &[1101.0; 4])).verdict,
        Verdict::Regressed
    );
    assert_eq!(
        judge(&detector, &two("bytes", Increase, &[1000.0; 4], &[999.0; 4])).verdict,
        Verdict::Improved
    );
}

#[test]
fn a_rise_from_zero_is_never_no_change() {
    let finding = judge(&standard(), &two("failures", Increase, &[0.0; 3], &[2.0; 3]));
    assert_eq!((finding.verdict, finding.severity), (Verdict::Regressed, Some(Severity::Critical)));
    assert_eq!((finding.change, finding.absolute_change), (None, Some(2.0)));
    assert_eq!(finding.interval.unwrap().low.to_bits(), 2.0_f64.to_bits());
    let noisy = judge(&standard(), &two("failures", Increase, &[0.0; 3], &[0.0, 0.0, 1.0]));
    assert_eq!(noisy.verdict, Verdict::Inconclusive, "{}", noisy.reason);
    let same = judge(&standard(), &two("failures", Increase, &[0.0; 3], &[0.0; 3]));
    assert_eq!(same.verdict, Verdict::Equivalent);
}

#[test]
fn a_noisy_old_value_near_zero_does_not_hide_a_large_harm() {
    let finding =
        judge(&standard(), &two("errors", Increase, &[0.0, 0.0, 1.0, 0.0, 0.0], &[98.0, 100.0, 101.0]));
    assert_eq!(finding.verdict, Verdict::Regressed, "{}", finding.reason);
    let hopeless = judge(&standard(), &two("offset", Increase, &[-1.0, 0.5, 1.0], &[-2.0, 1.0, 1.5]));
    assert_eq!(hopeless.verdict, Verdict::Inconclusive, "{}", hopeless.reason);
}

#[test]
fn what_cannot_be_compared_is_named_and_never_no_regression() {
    let metric = |values: &[f64]| vec![side("latency", Increase, values)];
    let other_unit = vec![MetricSamples::independent(spec("latency", Decrease), &OLD)];
    let cases = [
        (metric(&OLD), vec![], DataProblem::MissingInCandidate),
        (vec![], metric(&OLD), DataProblem::MissingInIncumbent),
        (metric(&OLD), metric(&[1.0, f64::NAN, 1.0]), DataProblem::NonFiniteInCandidate),
        (metric(&[1.0, f64::INFINITY, 1.0]), metric(&OLD), DataProblem::NonFiniteInIncumbent),
        (metric(&OLD), metric(&[1.0, 2.0]), DataProblem::TooFewSamples),
        (metric(&[]), metric(&OLD), DataProblem::TooFewSamples),
        (metric(&OLD), other_unit, DataProblem::SpecMismatch),
    ];
    for (incumbent, candidate, problem) in cases {
        let finding = judge(&standard(), &measurements(incumbent, candidate));
        assert_eq!((finding.verdict, finding.problem), (Verdict::InsufficientData, Some(problem)));
        assert!(finding.interval.is_none() && finding.severity.is_none() && !finding.reason.is_empty());
    }
}

#[test]
fn a_metric_listed_twice_is_an_error_that_names_it() {
    let twice = vec![side("latency", Increase, &OLD), side("latency", Increase, &OLD)];
    let error = standard().assess(&measurements(twice, vec![])).unwrap_err();
    assert_eq!(error, Error::DuplicateMetric { metric: "latency".into(), side: "incumbent".into() });
}

#[test]
fn reasons_tell_nan_from_infinity_and_say_where() {
    let reason = |bad: f64| judge(&standard(), &two("latency", Increase, &OLD, &[1.0, 2.0, bad])).reason;
    assert!(reason(f64::NAN).contains("NaN: sample 2 of the candidate"), "{}", reason(f64::NAN));
    assert!(reason(f64::NEG_INFINITY).contains("infinite: sample 2"), "{}", reason(f64::INFINITY));
}

#[test]
fn extreme_numbers_give_a_finding_that_json_can_hold() {
    let extremes: [&[f64]; 5] = [
        &[f64::MAX, f64::MAX, 1.0],
        &[f64::MIN_POSITIVE, 0.0, 0.0],
        &[5e-324, 1e-323, 5e-324],
        &[f64::MIN, f64::MAX, 0.0],
        &[1e-300, 1e300, 1.0],
    ];
    for old in extremes {
        for new in extremes {
            let finding =
                judge(&standard(), &with_history(two("x", Increase, old, new), "x", &[1.0, 1.0, 2.0, 1e300]));
            let json = serde_json::to_string(&finding).unwrap();
            let back = serde_json::from_str(&json);
            assert!(
                back.is_ok_and(|back: evoseal_regression::Finding| back.verdict == finding.verdict),
                "{json}"
            );
        }
    }
}

#[test]
fn equal_measurements_give_equal_bytes() {
    let measurements = with_history(two("latency", Increase, &OLD, &times(1.13)), "latency", &OLD);
    let json = |detector: &RegressionDetector| {
        serde_json::to_string(&detector.assess(&measurements).unwrap()).unwrap()
    };
    let detector = RegressionDetector::new(&RegressionSettings::default()).unwrap();
    assert_eq!(json(&detector), json(&detector.clone()));
}
