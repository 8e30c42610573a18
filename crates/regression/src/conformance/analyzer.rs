//! What every [`Analyzer`] must do.

use crate::{Analyzer, Comparison, Error, Estimate};

/// Makes one test of each case. The argument is an expression for a fresh analyzer.
#[macro_export]
macro_rules! analyzer_conformance {
    (@list [$($then:tt)*]) => {
        $crate::analyzer_conformance! { @$($then)*;
            it_has_a_name
            equal_comparisons_give_equal_estimates
            the_estimate_lies_within_its_interval
            the_interval_holds_a_known_change
            a_change_keeps_its_sign
            the_unit_does_not_matter
            a_higher_level_is_never_narrower
            values_without_spread_are_compared
            a_zero_old_value_gives_the_absolute_change
            too_few_values_are_a_data_error
        }
    };
    (@tests $fixture:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::analyzer::$case(&$fixture);
            }
        )*
    };
    (@array; $($case:ident)*) => {
        &[$((stringify!($case), $case)),*]
    };
    ($fixture:expr) => {
        $crate::analyzer_conformance!(@list [tests $fixture]);
    };
}

/// A case: it panics if the analyzer breaks the contract.
pub type Case = fn(&dyn Analyzer);

/// All cases with their names, for a runner of one's own.
pub const CASES: &[(&str, Case)] = analyzer_conformance!(@list [array]);

const OLD: [f64; 8] = [100.0, 102.0, 98.0, 101.0, 99.0, 100.5, 99.5, 100.1];

fn analyze(analyzer: &dyn Analyzer, old: &[f64], new: &[f64], level: f64) -> Estimate {
    let comparison = Comparison { incumbent: old, candidate: new, paired: false, level };
    let estimate = analyzer.analyze(&comparison).expect("eight values on each side are enough");
    let Estimate { old_value, new_value, interval, p_value, .. } = &estimate;
    assert!([*old_value, *new_value, interval.low, interval.high].iter().all(|number| number.is_finite()));
    assert!(
        interval.low <= interval.high && p_value.is_none_or(|p| (0.0..=1.0).contains(&p)),
        "{estimate:?}"
    );
    estimate
}

fn times(factor: f64) -> [f64; 8] {
    OLD.map(|value| value * factor)
}

/// Findings carry the method's name.
pub fn it_has_a_name(analyzer: &dyn Analyzer) {
    assert!(!analyzer.name().is_empty());
    assert!(!analyze(analyzer, &OLD, &times(1.1), 0.9).method.is_empty());
}

/// *Pure.*
pub fn equal_comparisons_give_equal_estimates(analyzer: &dyn Analyzer) {
    let first = analyze(analyzer, &OLD, &times(1.1), 0.9);
    analyze(analyzer, &times(3.0), &OLD, 0.8);
    assert_eq!(first, analyze(analyzer, &OLD, &times(1.1), 0.9));
}

/// The change is not outside what is said about it.
pub fn the_estimate_lies_within_its_interval(analyzer: &dyn Analyzer) {
    for factor in [0.5, 0.99, 1.0, 1.3, 10.0] {
        let estimate = analyze(analyzer, &OLD, &times(factor), 0.9);
        let (change, slack) = (estimate.change().expect("the old value is not zero"), 1e-9);
        let interval = estimate.interval;
        assert!(interval.low - slack <= change && change <= interval.high + slack, "{estimate:?}");
    }
}

/// Values times a factor have changed by that factor minus one, beyond any doubt at eight values with one percent noise.
pub fn the_interval_holds_a_known_change(analyzer: &dyn Analyzer) {
    for factor in [0.5, 0.9, 1.0, 1.3, 10.0] {
        let estimate = analyze(analyzer, &OLD, &times(factor), 0.9);
        let (interval, change) = (estimate.interval, factor - 1.0);
        assert!(interval.low <= change + 1e-9 && change - 1e-9 <= interval.high, "{factor}: {estimate:?}");
        assert!(interval.high - interval.low < 0.1 * factor, "{factor}: {estimate:?}");
    }
}

/// A rise is positive and a fall negative, whatever the sign of the values.
pub fn a_change_keeps_its_sign(analyzer: &dyn Analyzer) {
    let (old, rise) = (OLD.map(|value| -value), OLD.map(|value| -value / 2.0));
    let (low, high) = (analyze(analyzer, &OLD, &times(0.5), 0.9), analyze(analyzer, &old, &rise, 0.9));
    assert!(low.interval.high < 0.0 && low.new_value < low.old_value, "a fall: {low:?}");
    assert!(high.interval.low > 0.0 && high.new_value > high.old_value, "a rise below zero: {high:?}");
}

/// Milliseconds or seconds, the relative change is the same.
pub fn the_unit_does_not_matter(analyzer: &dyn Analyzer) {
    let plain = analyze(analyzer, &OLD, &times(1.2), 0.9).interval;
    let new = times(1.2).map(|value| value / 1024.0);
    let scaled = analyze(analyzer, &OLD.map(|value| value / 1024.0), &new, 0.9).interval;
    assert!((plain.low - scaled.low).abs() < 1e-9 && (plain.high - scaled.high).abs() < 1e-9);
}

/// More certainty costs width.
pub fn a_higher_level_is_never_narrower(analyzer: &dyn Analyzer) {
    let [low, high] = [0.5, 0.95].map(|level| analyze(analyzer, &OLD, &times(1.1), level).interval);
    assert!(high.low <= low.low && low.high <= high.high, "{low:?} {high:?}");
}

/// Counts often do not scatter at all; that is no reason to fail, and no noise either.
pub fn values_without_spread_are_compared(analyzer: &dyn Analyzer) {
    let estimate = analyze(analyzer, &[4.0; 8], &[5.0; 8], 0.9);
    assert!(
        (estimate.interval.low - 0.25).abs() + (estimate.interval.high - 0.25).abs() < 1e-12,
        "{estimate:?}"
    );
}

/// There is no relative change from zero.
pub fn a_zero_old_value_gives_the_absolute_change(analyzer: &dyn Analyzer) {
    let estimate = analyze(analyzer, &[0.0; 8], &OLD, 0.9);
    assert!(estimate.change().is_none() && estimate.old_value.abs() <= 0.0, "{estimate:?}");
    assert!(estimate.interval.low > 90.0 && estimate.interval.high < 110.0, "{estimate:?}");
}

/// Nothing cannot be compared, and a detector has to be able to tell that from a bug.
pub fn too_few_values_are_a_data_error(analyzer: &dyn Analyzer) {
    let comparison = Comparison { incumbent: &OLD, candidate: &[], paired: false, level: 0.9 };
    let answer = analyzer.analyze(&comparison);
    assert!(matches!(answer, Err(Error::Data { .. })), "{answer:?}");
}
