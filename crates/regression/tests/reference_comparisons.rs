//! The statistics of comparisons against SciPy and statsmodels, and against published worked examples.
#![allow(clippy::unwrap_used, reason = "tests")]

use evoseal_regression::statistics::{
    Resampling, Successes, bca_interval, clopper_pearson_interval, fisher_exact, hodges_lehmann_paired,
    lag_one_autocorrelation, mad, newcombe_interval, permutation_test, poisson_rate_ratio, qn_scale,
    sign_flip_test, steady_state, trimmed_mean, variance_components, wilcoxon_signed_rank, wilson_interval,
    yuen_test,
};
use evoseal_regression::{
    Analyzer, Auto, Bootstrap, BootstrapStatistic, Comparison, EventCounts, Interval, PassRate, Permutation,
    TInterval, TrimmedMeans,
};
use serde_json::Value;

fn cases(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("fixtures/comparisons.json")).unwrap();
    all[name].as_array().unwrap().clone()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn share(value: &Value) -> Successes {
    Successes::new(value[0].as_u64().unwrap(), value[1].as_u64().unwrap()).unwrap()
}

#[track_caller]
fn assert_close(ours: f64, expected: &Value, what: &str) {
    assert_near(ours, expected.as_f64().unwrap(), 1e-9, what);
}

#[track_caller]
fn assert_near(ours: f64, expected: f64, tolerance: f64, what: &str) {
    let limit = tolerance * expected.abs().max(1e-3);
    assert!((ours - expected).abs() <= limit, "{what}: {ours} is not {expected}");
}

#[track_caller]
fn assert_interval(ours: Interval, expected: &Value, what: &str) {
    // An end at zero is reached up to rounding.
    assert!((ours.low - expected[0].as_f64().unwrap()).abs() <= 1e-9, "{what}: {ours:?} is not {expected}");
    assert!((ours.high - expected[1].as_f64().unwrap()).abs() <= 1e-9, "{what}: {ours:?} is not {expected}");
}

#[test]
fn signed_ranks_agree_with_scipy_also_with_ties_and_zeros() {
    for case in cases("signed_ranks") {
        let test = wilcoxon_signed_rank(&floats(&case["d"])).unwrap();
        assert_close(test.w_plus, &case["w"], "W");
        assert_close(test.p_value, &case["p"], "p");
        assert!(test.exact);
    }
    let all: Value = serde_json::from_str(include_str!("fixtures/comparisons.json")).unwrap();
    let large = &all["signed_ranks_large"];
    let test = wilcoxon_signed_rank(&floats(&large["d"])).unwrap();
    assert_close(test.p_value, &large["p"], "p");
    assert!(!test.exact);
}

#[test]
fn the_interval_of_walsh_averages_is_the_inverted_signed_rank_test() {
    for case in cases("walsh") {
        let d = floats(&case["d"]);
        let (centre, interval) = hodges_lehmann_paired(&d, case["level"].as_f64().unwrap()).unwrap();
        assert_close(centre, &case["centre"], "centre");
        assert_interval(interval, &case["interval"], "interval");
    }
}

#[test]
fn exact_permutations_agree_with_scipy() {
    for case in cases("permutations") {
        let test = permutation_test(&floats(&case["x"]), &floats(&case["y"]), Resampling::default()).unwrap();
        assert_close(test.statistic, &case["statistic"], "difference");
        assert_close(test.p_value, &case["p"], "p");
        assert!(test.exact);
    }
    for case in cases("sign_flips") {
        let test = sign_flip_test(&floats(&case["d"]), Resampling::default()).unwrap();
        assert_close(test.statistic, &case["statistic"], "mean difference");
        assert_close(test.p_value, &case["p"], "p");
        assert!(test.exact);
    }
}

#[test]
fn random_permutations_come_near_the_exact_ones_and_repeat() {
    // 9 against 9 has 48 620 ways and is exact; 10 against 10 is not.
    let x: Vec<f64> = (0..10).map(|i| f64::from(i * 7 % 10)).collect();
    let y: Vec<f64> = x.iter().map(|value| value + 2.5).collect();
    let [one, two] = [(); 2].map(|()| permutation_test(&x, &y, Resampling::default()).unwrap());
    assert!(!one.exact && one == two);
    // All 184 756 ways, counted by SciPy's permutation_test with n_resamples = inf.
    assert_near(one.p_value, 0.088_495_096_235_034_32, 0.05, "p");
    let other = permutation_test(&x, &y, Resampling { seed: 9, ..Resampling::default() }).unwrap();
    assert!((other.p_value - one.p_value).abs() > 0.0, "another seed draws other ways");
}

#[test]
fn shares_agree_with_scipy_and_statsmodels() {
    for case in cases("shares") {
        let (old, new) = (share(&case["old"]), share(&case["new"]));
        assert_close(fisher_exact(old, new).unwrap(), &case["fisher"], "Fisher");
        assert_interval(wilson_interval(old, 0.95).unwrap(), &case["wilson"], "Wilson");
        assert_interval(clopper_pearson_interval(old, 0.95).unwrap(), &case["exact"], "Clopper-Pearson");
        assert_interval(newcombe_interval(old, new, 0.95).unwrap(), &case["newcombe"], "Newcombe");
    }
}

#[test]
fn rates_of_events_agree_with_scipys_distributions() {
    for case in cases("counts") {
        let side = |value: &Value| (value[0].as_u64().unwrap(), value[1].as_f64().unwrap());
        let ((a, t), (b, u)) = (side(&case["old"]), side(&case["new"]));
        let compared = poisson_rate_ratio(a, t, b, u, 0.95).unwrap();
        assert_close(compared.ratio, &case["ratio"], "ratio");
        assert_close(compared.interval.low, &case["low"], "low");
        assert_close(compared.interval.high, &case["high"], "high");
        assert_close(compared.p_value, &case["p"], "p");
    }
}

#[test]
fn robust_statistics_agree_with_scipy_and_statsmodels() {
    for case in cases("robust") {
        let (x, y) = (floats(&case["x"]), floats(&case["y"]));
        assert_close(trimmed_mean(&x, 0.2).unwrap().mean, &case["trimmed"], "trimmed mean");
        let yuen = yuen_test(&x, &y, 0.2).unwrap();
        assert_close(yuen.statistic, &case["yuen"]["t"], "t");
        assert_close(yuen.degrees_of_freedom, &case["yuen"]["df"], "degrees of freedom");
        assert_close(yuen.p_value, &case["yuen"]["p"], "p");
        assert_close(mad(&x).unwrap(), &case["mad"], "MAD");
        assert_close(qn_scale(&x).unwrap(), &case["qn"], "Qn");
        assert_close(lag_one_autocorrelation(&x).unwrap(), &case["lag_one"], "autocorrelation");
        let comparison = Comparison { incumbent: &x, candidate: &y, paired: false, level: 0.95 };
        let estimate = TrimmedMeans::new(0.2).unwrap().analyze(&comparison).unwrap();
        assert_close(estimate.p_value.unwrap(), &case["yuen"]["p"], "the analyzer's p");
    }
}

#[test]
fn variance_components_agree_with_the_analysis_of_variance() {
    for case in cases("components") {
        let groups: Vec<Vec<f64>> = case["groups"].as_array().unwrap().iter().map(floats).collect();
        let components = variance_components(&groups).unwrap();
        assert_close(components.within, &case["within"], "within");
        assert_close(components.between, &case["between"], "between");
    }
}

/// Wilcoxon (1945) by way of Hollander and Wolfe (1999), table 3.1: depression of nine patients before and after; as R's
/// manual of `wilcox.test` prints it, V = 40 and p = 0.01953 one-sided, which is 0.03906 two-sided.
#[test]
fn the_published_depression_scores_give_the_published_test() {
    let first = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
    #[expect(clippy::approx_constant, reason = "a published score")]
    let second = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29];
    let d: Vec<f64> = first.iter().zip(second).map(|(first, second)| first - second).collect();
    let test = wilcoxon_signed_rank(&d).unwrap();
    assert_near(test.w_plus, 40.0, 1e-12, "V");
    assert_near(test.p_value, 0.039_062_5, 1e-9, "p");
    let (centre, _) = hodges_lehmann_paired(&d, 0.95).unwrap();
    assert_near(centre, 0.46, 1e-9, "the published estimate");
}

/// Efron and Tibshirani (1993), table 14.2: the variance (divisor n) of the spatial test data is 171.5, and its 90 % BCa
/// interval from 2 000 resamples 115.8 to 259.6. Ends scatter by a few units from seed to seed.
#[test]
fn the_published_bootstrap_example_is_reproduced() {
    let a = [
        48.0, 36.0, 20.0, 29.0, 42.0, 42.0, 20.0, 42.0, 22.0, 41.0, 45.0, 14.0, 6.0, 0.0, 33.0, 28.0, 34.0,
        4.0, 32.0, 24.0, 47.0, 41.0, 24.0, 26.0, 30.0, 41.0,
    ];
    let variance = |samples: &[&[f64]]| {
        let n = samples[0].len() as f64;
        let mean = samples[0].iter().sum::<f64>() / n;
        samples[0].iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n
    };
    let (estimate, interval) = bca_interval(&[&a], variance, 0.9, Resampling::default()).unwrap();
    assert_near(estimate, 171.5, 1e-3, "variance");
    assert_near(interval.low, 115.8, 0.03, "low");
    assert_near(interval.high, 259.6, 0.03, "high");
}

/// Fisher (1935), section 21: Darwin's fifteen pairs of maize plants. The sum of differences is 314 eighths of an inch; 863
/// of the 32 768 ways reach it, on either side.
#[test]
fn darwins_maize_gives_fishers_permutation_count() {
    let d = [49.0, -67.0, 8.0, 16.0, 6.0, 23.0, 28.0, 41.0, 14.0, 29.0, 56.0, 24.0, 75.0, 60.0, -48.0];
    let test = sign_flip_test(&d, Resampling::default()).unwrap();
    assert_near(test.statistic, 314.0 / 15.0, 1e-12, "mean difference");
    assert_near(test.p_value, 2.0 * 863.0 / 32_768.0, 1e-12, "p");
}

/// Every method sees a change of a half where there is hardly any noise, and its p-value fits its interval.
#[test]
fn every_method_finds_a_clear_change_and_no_other() {
    let old: Vec<f64> = (0..12).map(|i| 100.0 + f64::from(i * 5 % 12) * 0.3).collect();
    let new: Vec<f64> = old.iter().map(|value| value * 1.5).collect();
    let bootstrap = |statistic| Bootstrap::of(statistic).unwrap();
    let methods: [&dyn Analyzer; 7] = [
        &Auto,
        &TInterval,
        &Permutation::default(),
        &TrimmedMeans::new(0.2).unwrap(),
        &bootstrap(BootstrapStatistic::Mean),
        &bootstrap(BootstrapStatistic::Median),
        &bootstrap(BootstrapStatistic::Percentile(90.0)),
    ];
    for paired in [false, true] {
        for method in methods {
            let comparison = Comparison { incumbent: &old, candidate: &new, paired, level: 0.95 };
            let changed = method.analyze(&comparison).unwrap();
            assert!(changed.interval.low > 0.4 && changed.interval.high < 0.6, "{changed:?}");
            assert!(changed.p_value.is_none_or(|p| p < 0.05), "{changed:?}");
            let same = method.analyze(&Comparison { candidate: &old, ..comparison }).unwrap();
            assert!(same.interval.low <= 0.0 && same.interval.high >= 0.0, "{same:?}");
        }
    }
}

#[test]
fn pass_rates_and_counts_name_values_that_are_none() {
    let comparison = |new: &'static [f64]| Comparison {
        incumbent: &[0.0, 1.0, 1.0],
        candidate: new,
        paired: false,
        level: 0.9,
    };
    assert!(PassRate.analyze(&comparison(&[0.0, 0.5])).is_err());
    assert!(EventCounts.analyze(&comparison(&[2.0, 0.5])).is_err());
    assert!(EventCounts.analyze(&comparison(&[-1.0])).is_err());
    let none = EventCounts.analyze(&Comparison { incumbent: &[0.0; 3], ..comparison(&[0.0, 0.0]) }).unwrap();
    assert!(none.interval.low < 0.0 && none.interval.high > 0.0, "no events prove nothing: {none:?}");
    let many =
        EventCounts.analyze(&Comparison { incumbent: &[0.0; 3], ..comparison(&[9.0, 8.0, 7.0]) }).unwrap();
    assert!(many.interval.low > 0.0 && many.change().is_none(), "{many:?}");
}

/// A pass rate's interval and Fisher's test never disagree about zero.
#[test]
fn the_interval_of_a_pass_rate_leaves_zero_out_only_where_the_exact_test_rejects() {
    let trials =
        |passed: usize, n: usize| (0..n).map(|i| f64::from(u8::from(i < passed))).collect::<Vec<_>>();
    for (n, m) in [(3, 3), (5, 8), (12, 12)] {
        for a in 0..=n {
            for b in 0..=m {
                let (old, new) = (trials(a, n), trials(b, m));
                let comparison = Comparison { incumbent: &old, candidate: &new, paired: false, level: 0.95 };
                let estimate = PassRate.analyze(&comparison).unwrap();
                let excludes = estimate.interval.low > 0.0 || estimate.interval.high < 0.0;
                assert!(
                    !excludes || estimate.p_value.unwrap() <= 0.05,
                    "{a} of {n}, {b} of {m}: {estimate:?}"
                );
                let change = estimate.change().unwrap_or(estimate.new_value - estimate.old_value);
                assert!(
                    estimate.interval.low <= change + 1e-9 && change <= estimate.interval.high + 1e-9,
                    "{estimate:?}"
                );
            }
        }
    }
}

#[test]
fn a_start_without_warm_up_loses_nothing_and_one_that_never_settles_is_named() {
    let steady: Vec<f64> = (0..40).map(|i| 20.0 + f64::from(i * 17 % 40) * 0.1).collect();
    assert_eq!(steady_state(&steady).unwrap().first, 0);
    let falling: Vec<f64> = (0..40).map(|i| 100.0 - f64::from(i)).collect();
    let state = steady_state(&falling).unwrap();
    assert!(!state.reached && state.first == 20, "{state:?}");
}
