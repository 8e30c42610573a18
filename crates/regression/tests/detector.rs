//! How the standard detector judges.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{from_toml, judge, measurements, side, spec, standard, two, with_history};
use evoseal_regression::{
    Assessment, Baseline, BaselineUpdate, Baselines, DataProblem, Detector, Error, Measurements, RankShift,
    RegressionDetector, RegressionSettings, TrendDirection, Verdict,
};
use evoseal_types::Direction::{Decrease, Increase};
use evoseal_types::{MetricName, MetricSamples, Recommendation, Sample, Severity};

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
fn reasons_tell_nan_from_infinity_and_say_where() {
    let reason = |bad: f64| judge(&standard(), &two("latency", Increase, &OLD, &[1.0, 2.0, bad])).reason;
    assert!(reason(f64::NAN).contains("NaN: sample 2 of the candidate"), "{}", reason(f64::NAN));
    assert!(reason(f64::NEG_INFINITY).contains("infinite: sample 2"), "{}", reason(f64::INFINITY));
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
fn baselines_catch_what_many_small_losses_add_up_to() {
    let baseline = Baseline {
        name: "release".into(),
        version_id: "v1".parse().unwrap(),
        metrics: vec![side("latency", Increase, &OLD), side("gone", Increase, &OLD)],
    };
    let mut drifted = two("latency", Increase, &times(1.19), &times(1.2));
    drifted.baselines = vec![baseline];
    let assessment = standard().assess(&drifted).unwrap();
    let seen: Vec<_> = assessment
        .findings
        .iter()
        .map(|finding| (finding.baseline.as_deref(), finding.metric.name.as_str(), finding.verdict))
        .collect();
    let expected = [
        (None, "latency", Verdict::Equivalent),
        (Some("release"), "gone", Verdict::InsufficientData),
        (Some("release"), "latency", Verdict::Regressed),
    ];
    assert_eq!(seen, expected);
    assert_eq!(assessment.summary.affected_metrics, [MetricName::new("latency").unwrap()]);
}

#[test]
fn history_raises_a_regression_by_one_step_and_never_makes_one() {
    let regressed = two("latency", Increase, &[100.0; 3], &[112.0; 3]);
    assert_eq!(judge(&standard(), &regressed).severity, Some(Severity::Low));
    let unusual = with_history(regressed.clone(), "latency", &[99.0, 101.0, 100.0, 99.5, 100.0]);
    let finding = judge(&standard(), &unusual);
    assert_eq!(finding.severity, Some(Severity::Medium), "{}", finding.reason);
    let methods: Vec<_> =
        finding.anomalies.iter().map(|anomaly| (anomaly.method.as_str(), anomaly.index)).collect();
    assert_eq!(methods, [("zscore", 5), ("iqr", 5)]);
    let usual = with_history(regressed, "latency", &[80.0, 125.0, 110.0, 90.0, 100.0]);
    assert_eq!(judge(&standard(), &usual).severity, Some(Severity::Low));

    let harmless = with_history(two("latency", Increase, &[100.0; 3], &[105.0; 3]), "latency", &[100.0; 5]);
    let finding = judge(&standard(), &harmless);
    assert_eq!((finding.verdict, finding.severity), (Verdict::Equivalent, None));
    assert!(!finding.anomalies.is_empty(), "a jump after a constant history stands out");
}

#[test]
fn an_improvement_is_no_anomaly() {
    let faster = with_history(
        two("latency", Increase, &[100.0; 3], &[10.0; 3]),
        "latency",
        &[100.0, 101.0, 99.0, 100.0],
    );
    let finding = judge(&standard(), &faster);
    assert_eq!((finding.verdict, finding.anomalies.len()), (Verdict::Improved, 0));
}

#[test]
fn findings_carry_the_trend_of_the_newest_versions() {
    let history: Vec<f64> = (0..30).map(f64::from).collect();
    let finding =
        judge(&standard(), &with_history(two("t", Increase, &[29.0; 3], &[29.0; 3]), "t", &history));
    let trend = finding.trend.unwrap();
    assert_eq!(
        (trend.direction, trend.predicted_next.to_bits()),
        (TrendDirection::Increasing, 30.0_f64.to_bits())
    );
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

#[test]
fn a_comparison_with_a_baseline_uses_its_stored_measurements() {
    let mut detector = standard();
    let stored = vec![side("latency", Increase, &OLD)];
    assert_eq!(detector.establish_baseline("start", "v0".parse().unwrap(), stored).unwrap(), None);
    let assessment =
        detector.compare_against_baseline("start", &[side("latency", Increase, &times(1.5))]).unwrap();
    assert_eq!(assessment.findings[0].baseline.as_deref(), Some("start"));
    assert!(assessment.is_critical_regression());
    assert_eq!(assessment.recommendation, Recommendation::RollbackRequired);
    let error = detector.compare_against_baseline("stat", &[]).unwrap_err();
    assert_eq!(error, Error::UnknownBaseline { name: "stat".into(), known: vec!["start".into()] });
    assert_eq!(detector.status().baselines, ["start"]);
    let json = serde_json::to_string(detector.baselines()).unwrap();
    assert_eq!(&serde_json::from_str::<Baselines>(&json).unwrap(), detector.baselines());
}

#[test]
fn callbacks_hear_of_every_assessment_with_a_regression() {
    let mut detector = standard();
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    detector.register_alert_callback(
        "count",
        Arc::new(move |assessment: &Assessment| {
            counter.fetch_add(assessment.summary.total_regressions, Ordering::Relaxed);
        }),
    );
    let bad = two("latency", Increase, &OLD, &times(1.5));
    let good = two("latency", Increase, &OLD, &times(0.5));
    let answers = detector.detect_regressions_batch(&[bad, good]);
    let detected: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().unwrap().regression_detected()).collect();
    assert_eq!((detected, heard.load(Ordering::Relaxed)), (vec![true, false], 1));
}

#[test]
fn statistics_of_a_metric_test_each_value_against_those_before_it() {
    let name = MetricName::new("latency").unwrap();
    let values = [10.0, 10.0, 10.0, 10.0, 99.0];
    let statistics = standard().analyze_metric_statistics(&name, &values).unwrap();
    assert!(!statistics.anomalies.is_empty(), "five values are enough to see an outlier");
    assert!(statistics.anomalies.iter().all(|anomaly| anomaly.index == 4), "{statistics:?}");
    assert!(standard().analyze_metric_statistics(&name, &[1.0, 2.0]).is_err());
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

#[test]
fn a_baseline_is_moved_by_hand_only_under_a_known_name() {
    let mut detector = standard();
    let side = |factor| vec![side("latency", Increase, &times(factor))];
    detector.establish_baseline("release", "v1".parse().unwrap(), side(1.0)).unwrap();
    let error = detector.update_baseline("relaese", "v2".parse().unwrap(), side(1.0)).unwrap_err();
    assert_eq!(error, Error::UnknownBaseline { name: "relaese".into(), known: vec!["release".into()] });
    let previous = detector.update_baseline("release", "v2".parse().unwrap(), side(2.0)).unwrap();
    assert_eq!(previous.version_id.as_str(), "v1");
    assert_eq!(detector.get_baseline("release").unwrap().metrics, side(2.0));
    let mut baselines = detector.baselines().clone();
    baselines.remove_baseline("release").unwrap();
    assert!(baselines.remove_baseline("release").is_err() && baselines.names().is_empty());
}

#[test]
fn a_baseline_that_moves_by_itself_follows_gains_and_never_a_drift() {
    let mut detector = standard();
    let both = |latency: f64, memory: f64| {
        vec![side("latency", Increase, &times(latency)), side("memory", Increase, &times(memory))]
    };
    detector.establish_baseline("best", "v0".parse().unwrap(), both(1.0, 1.0)).unwrap();
    let mut offer = |id: &str, metrics: Vec<MetricSamples>| {
        let update = detector.update_baseline_if_improved("best", id.parse().unwrap(), metrics).unwrap();
        matches!(update, BaselineUpdate::Moved { .. })
    };
    // Half a percent worse a step is within the threshold each time, and equivalent.
    assert!(!offer("drift", both(1.005, 1.0)));
    assert!(!offer("same", both(1.0, 1.0)), "nothing improved");
    assert!(!offer("traded", both(0.5, 1.01)), "half the latency for one percent of memory");
    assert!(!offer("half measured", vec![side("latency", Increase, &times(0.5))]));
    assert!(offer("better", both(0.5, 1.0)));
    assert_eq!(detector.get_baseline("best").unwrap().version_id.as_str(), "better");
}

#[test]
fn a_batch_is_answered_like_its_parts_and_alerts_come_in_its_order() {
    let mut detector = standard();
    let batch: Vec<Measurements> =
        (0..40).map(|i| two("latency", Increase, &OLD, &times(1.0 + f64::from(i % 3) * 0.2))).collect();
    let one_by_one: Vec<_> = batch.iter().map(|part| detector.assess(part)).collect();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let alerts = Arc::clone(&seen);
    detector.register_alert_callback(
        "collect",
        Arc::new(move |assessment: &Assessment| alerts.lock().unwrap().push(assessment.clone())),
    );
    assert_eq!(detector.detect_regressions_batch(&batch), one_by_one);
    let expected: Vec<Assessment> =
        one_by_one.into_iter().flatten().filter(Assessment::regression_detected).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}
