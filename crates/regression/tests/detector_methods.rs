//! How the standard detector treats the structure of samples, and by which method it compares them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use common::{from_toml, judge, measurements, side, spec, standard, two, with_history};
use evoseal_regression::{DataProblem, Detector, Measurements, RankShift, Verdict};
use evoseal_types::Direction::{Decrease, Increase};
use evoseal_types::{MetricSamples, Sample};

const OLD: [f64; 5] = [100.0, 101.0, 99.0, 100.5, 99.5];

fn times(factor: f64) -> [f64; 5] {
    OLD.map(|value| value * factor)
}

#[test]
fn iterations_of_one_process_start_count_once() {
    // Four starts of ten iterations: within a start hardly any noise, between starts plenty.
    let starts = |means: [f64; 4]| {
        let samples = (0_u32..).zip(means).flat_map(|(start, mean)| {
            (0..10).map(move |iteration| Sample::new(start, iteration, mean + f64::from(iteration) * 0.001))
        });
        vec![MetricSamples::new(spec("latency", Increase), samples.collect())]
    };
    let two = measurements(starts([100.0, 110.0, 90.0, 100.0]), starts([125.0, 110.0, 115.0, 110.0]));
    let finding = judge(&standard(), &two);
    assert_eq!(
        (finding.verdict, finding.sample_counts),
        (Verdict::Inconclusive, (4, 4)),
        "{}",
        finding.reason
    );
}

#[test]
fn one_process_start_alone_is_too_few_whatever_its_iterations() {
    // Between starts real benchmarks differ by more than iterations of one start do.
    let one = |factor: f64| {
        let iterations = (0_u32..30).map(|i| Sample::new(0, i, 100.0 * factor + f64::from(i * 7 % 11)));
        vec![MetricSamples::new(spec("latency", Increase), iterations.collect())]
    };
    let finding = judge(&standard(), &measurements(one(1.0), one(1.5)));
    assert_eq!(
        (finding.verdict, finding.problem),
        (Verdict::InsufficientData, Some(DataProblem::TooFewSamples))
    );
    assert!(
        finding.reason.contains("measure more starts") && finding.reason.contains("30 iterations are worth"),
        "{}",
        finding.reason
    );
}

#[test]
fn warm_up_is_left_out_and_said() {
    let starts = |factor: f64| {
        let samples = (0_u32..6).flat_map(move |start| {
            (0_u32..20).map(move |i| {
                let warm_up = if i < 3 { 500.0 - 100.0 * f64::from(i) } else { 0.0 };
                let scatter = f64::from(i * 7 % 5) * 0.1 + f64::from(start * 3 % 5) * 0.2;
                Sample::new(start, i, factor * (100.0 + scatter) + warm_up)
            })
        });
        vec![MetricSamples::new(spec("latency", Increase), samples.collect())]
    };
    let finding = judge(&standard(), &measurements(starts(1.0), starts(1.2)));
    // The warm-up weighs on both means alike and would hide half of the change.
    assert_eq!(finding.verdict, Verdict::Regressed, "{}", finding.reason);
    assert!((finding.change.unwrap() - 0.2).abs() < 0.005, "{finding:?}");
    assert!(
        finding.reason.contains("18 of them left out as warm-up")
            && finding.reason.contains("% of their variance lying between starts"),
        "{}",
        finding.reason
    );
}

#[test]
fn a_list_that_wanders_is_not_taken_for_independent_values() {
    // Both wander slowly; independent values that scatter so would be far apart.
    let wander = |shift: f64| (0..30).map(|i| 100.0 + shift + (f64::from(i) / 6.0).sin()).collect::<Vec<_>>();
    let finding = judge(
        &from_toml("regression_threshold = 0.0").unwrap(),
        &two("m", Increase, &wander(0.0), &wander(0.6)),
    );
    assert_eq!(
        (finding.verdict, finding.method.as_str()),
        (Verdict::Inconclusive, "welch_t_autocorrelated"),
        "{}",
        finding.reason
    );
    assert!(finding.reason.contains("measuring in turn"), "{}", finding.reason);
}

#[test]
fn one_slow_run_in_ten_is_not_voted_down_by_the_other_nine() {
    let old: Vec<f64> = (0..10).map(|i| 100.0 + f64::from(i * 7 % 10) * 0.1).collect();
    let mut new = old.clone();
    new[4] = 1000.0;
    let finding = judge(&standard(), &two("latency", Increase, &old, &new));
    // Ranks would call this equivalent.
    assert_eq!(finding.verdict, Verdict::Inconclusive, "{}", finding.reason);
}

#[test]
fn heavy_tails_are_judged_by_ranks() {
    let old = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2, 99.8, 100.7, 130.0, 99.1];
    let new = old.map(|value| value * 1.2);
    let finding = judge(&standard(), &two("latency", Increase, &old, &new));
    assert_eq!(
        (finding.verdict, finding.method.as_str()),
        (Verdict::Regressed, "rank_ratio"),
        "{}",
        finding.reason
    );
}

#[test]
fn outcomes_of_trials_are_judged_as_a_pass_rate() {
    let trials = |passed: usize| (0..60).map(|i| f64::from(u8::from(i < passed))).collect::<Vec<_>>();
    let finding = judge(&standard(), &two("pass_rate", Decrease, &trials(58), &trials(31)));
    assert_eq!(
        (finding.verdict, finding.method.as_str()),
        (Verdict::Regressed, "pass_rate"),
        "{}",
        finding.reason
    );
    let few = judge(&standard(), &two("pass_rate", Decrease, &[1.0, 1.0, 1.0], &[0.0, 0.0, 1.0]));
    assert_eq!(few.verdict, Verdict::Inconclusive, "{}", few.reason);
}

#[test]
fn a_finding_says_how_likely_its_threshold_was_to_be_seen() {
    let noisy = [100.0, 130.0, 80.0, 110.0, 95.0];
    let blind = judge(&standard(), &two("latency", Increase, &noisy, &noisy));
    let sharp = judge(&standard(), &two("latency", Increase, &OLD, &OLD));
    assert!(blind.power.unwrap() < 0.25 && sharp.power.unwrap() > 0.99, "{blind:?} {sharp:?}");
    assert!(blind.reason.contains("is seen with"), "{}", blind.reason);
    let exact = judge(&standard(), &two("bytes", Increase, &[5.0; 3], &[5.0; 3]));
    assert_eq!(exact.power, None);
    assert!(exact.reason.contains("zero variance"), "{}", exact.reason);
}

#[test]
fn what_is_decided_leaves_its_share_of_the_error_to_the_others() {
    let noise = [100.0, 108.0, 94.0, 103.0, 97.0];
    let mut sides = measurements(vec![], vec![]);
    for (name, factor) in [("a", 3.0), ("b", 3.0), ("c", 3.0), ("d", 1.0)] {
        sides.incumbent.push(side(name, Increase, &noise));
        sides.candidate.push(side(name, Increase, &noise.map(|value| value * factor)));
    }
    let findings = standard().assess(&sides).unwrap().findings;
    let seen: Vec<_> = findings
        .iter()
        .map(|finding| (finding.verdict, (finding.interval.unwrap().level * 1e6).round()))
        .collect();
    // Holm: three are decided at 0.05 / 4 each, and the last then has all of 0.05.
    let decided = (Verdict::Regressed, 987_500.0);
    assert_eq!(
        seen,
        [decided, decided, decided, (Verdict::Equivalent, 950_000.0)],
        "Bonferroni leaves it open"
    );
}

#[test]
fn pairs_measured_in_turn_see_through_the_machines_drift() {
    let drift = [100.0, 140.0, 180.0, 120.0, 160.0, 90.0];
    let slower = [1.2, 1.21, 1.19, 1.2, 1.205, 1.195];
    let new: Vec<f64> = drift.iter().zip(slower).map(|(old, factor)| old * factor).collect();
    let unpaired = two("latency", Increase, &drift, &new);
    assert_eq!(judge(&standard(), &unpaired).verdict, Verdict::Inconclusive);
    let paired = Measurements { paired: true, ..unpaired };
    let finding = judge(&standard(), &paired);
    assert_eq!(
        (finding.verdict, finding.method.as_str()),
        (Verdict::Regressed, "paired_t"),
        "{}",
        finding.reason
    );
    let mut torn = paired;
    torn.candidate[0].samples.pop();
    let finding = judge(&standard(), &torn);
    assert!(
        finding.method == "welch_t" && finding.reason.contains("matched one to one"),
        "{}",
        finding.reason
    );
}

#[test]
fn more_metrics_mean_wider_intervals_so_that_the_level_holds_for_all_of_them() {
    let many =
        |factor: f64| (0..10).map(|i| side(&format!("m{i}"), Increase, &times(factor))).collect::<Vec<_>>();
    let findings = standard().assess(&measurements(many(1.0), many(1.2))).unwrap().findings;
    for finding in &findings {
        assert!((finding.interval.unwrap().level - 0.995).abs() < 1e-12, "{finding:?}");
    }
    // Comparisons that need no statistics cost nothing.
    let mut two = two("latency", Increase, &OLD, &times(1.2));
    two.incumbent.push(side("bytes", Increase, &[5.0; 3]));
    two.candidate.push(side("bytes", Increase, &[5.0; 3]));
    let findings = standard().assess(&two).unwrap().findings;
    assert!((findings[1].interval.unwrap().level - 0.95).abs() < 1e-12, "{findings:?}");
}

#[test]
fn switches_switch_something() {
    let noisy = two("latency", Increase, &[100.0, 130.0, 80.0], &[120.0, 150.0, 100.0]);
    let basic = from_toml("enable_statistical_analysis = false").unwrap();
    let finding = judge(&basic, &noisy);
    assert_eq!((finding.verdict, finding.method.as_str()), (Verdict::Regressed, "threshold_only"));
    assert_eq!(judge(&basic, &two("latency", Increase, &[100.0], &[150.0])).verdict, Verdict::Regressed);

    let jump = with_history(two("latency", Increase, &[100.0; 3], &[112.0; 3]), "latency", &[100.0; 5]);
    let silent =
        from_toml("enable_anomaly_detection = false\nstatistical_analysis.enable_trend_analysis = false")
            .unwrap();
    let finding = judge(&silent, &jump);
    assert_eq!((finding.anomalies.len(), finding.trend), (0, None));

    let spike = with_history(
        two("latency", Increase, &[100.0; 3], &[120.0; 3]),
        "latency",
        &[100.0, 90.0, 110.0, 100.0],
    );
    let methods = |text: &str| {
        let finding = judge(&from_toml(text).unwrap(), &spike);
        finding.anomalies.into_iter().map(|anomaly| anomaly.method).collect::<Vec<_>>()
    };
    assert_eq!(methods(""), ["zscore", "iqr"]);
    assert_eq!(methods("anomaly_detection.sensitivity = \"high\""), ["zscore", "iqr", "pattern_spike"]);
    assert_eq!(methods("anomaly_detection.algorithms = [\"iqr\"]"), ["iqr"]);
    let by_mad = from_toml("anomaly_detection.algorithms = [\"mad\"]").unwrap();
    assert_eq!(
        judge(&by_mad, &spike).anomalies,
        [],
        "four median absolute deviations are 2.7 standard deviations"
    );
    let farther = with_history(
        two("latency", Increase, &[100.0; 3], &[127.0; 3]),
        "latency",
        &[100.0, 90.0, 110.0, 100.0],
    );
    assert_eq!(judge(&by_mad, &farther).anomalies[0].method, "modified_zscore");
    assert_eq!(methods("statistical_analysis.outlier_threshold = 3.0"), ["iqr"]);
    let text = "anomaly_detection = { sensitivity = \"high\", pattern_recognition = false, algorithms = [] }";
    assert_eq!(methods(text), Vec::<String>::new());
}

#[test]
fn another_method_can_be_given_and_is_refused_where_it_would_never_run() {
    let rank = standard().with_analyzer(Arc::new(RankShift)).unwrap();
    let finding = judge(&rank, &two("latency", Increase, &OLD, &times(1.5)));
    assert_eq!((finding.verdict, finding.method.as_str()), (Verdict::Regressed, "rank_ratio"));
    let few = judge(&rank, &two("latency", Increase, &OLD[..3], &times(9.0)[..3]));
    assert_eq!(few.problem, Some(DataProblem::TooFewSamples), "three against three cannot reach 95 percent");
    let basic = from_toml("enable_statistical_analysis = false").unwrap();
    assert!(basic.with_analyzer(Arc::new(RankShift)).is_err());
}
