//! Judging over time: invariants of the sequential test, the error ledger, the drift guard and the judge of a run.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use evoseal_regression::{
    DataProblem, DriftGuard, ErrorLedger, ErrorPolicy, FreshPairs, Iteration, IterationDecision,
    NoiseProfile, PlanSettings, RunJudge, RunMetric, RunSettings, SampleKind, Sampling, ScreenOutcome,
    SequentialRule, SequentialTest, Stage, Verdict, plan,
};
use evoseal_types::Direction::{self, Decrease, Increase};
use evoseal_types::{MetricSpec, Threshold};
use proptest::prelude::*;

mod common;
use common::Noise;

fn rule(direction: Direction, threshold: f64, kind: SampleKind) -> SequentialRule {
    let threshold = Threshold::new("m", threshold, direction).unwrap();
    SequentialRule { threshold, alpha: 0.025, kind, pairs_max: 60 }
}

/// Pushes pairs until the end; the verdict and after how many pairs.
fn run(rule: SequentialRule, pairs: &[(f64, f64)]) -> (Verdict, usize, f64) {
    let mut test = SequentialTest::new(rule).unwrap();
    for (old, new) in pairs {
        if test.is_finished() {
            break;
        }
        test.push(*old, *new).unwrap();
    }
    let report = test.report().unwrap();
    (report.verdict, report.pairs, report.e_value)
}

fn pairs() -> impl Strategy<Value = Vec<(f64, f64)>> {
    (0.85..1.2_f64, prop::collection::vec((9.0..11.0_f64, 9.0..11.0_f64), 4..40))
        .prop_map(|(factor, pairs)| pairs.into_iter().map(|(old, new)| (old, new * factor)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_change_of_unit_changes_no_verdict(pairs in pairs(), unit in prop::sample::select(vec![0.0625, 1024.0])) {
        let scaled: Vec<_> = pairs.iter().map(|(old, new)| (old * unit, new * unit)).collect();
        let one = rule(Increase, 0.03, SampleKind::Mean);
        prop_assert_eq!(run(one, &pairs), run(one, &scaled));
    }

    #[test]
    fn a_metric_and_its_negative_with_the_other_direction_are_judged_alike(pairs in pairs()) {
        let negated: Vec<_> = pairs.iter().map(|(old, new)| (-old, -new)).collect();
        let (rise, fall) = (rule(Increase, 0.03, SampleKind::Mean), rule(Decrease, 0.03, SampleKind::Mean));
        prop_assert_eq!(run(rise, &pairs), run(fall, &negated));
    }

    #[test]
    fn less_harm_is_never_more_evidence_of_harm(pairs in pairs(), less in 0.0..3.0_f64) {
        // All looks count, so that none is left out by an early verdict.
        let endless = SequentialRule { alpha: 1e-300, ..rule(Increase, 0.03, SampleKind::Mean) };
        let better: Vec<_> = pairs.iter().map(|(old, new)| (*old, new - less)).collect();
        prop_assert!(run(endless, &better).2 <= run(endless, &pairs).2 * (1.0 + 1e-9));
    }

    #[test]
    fn verdict_and_interval_never_contradict_each_other(pairs in pairs(), threshold in 0.0..0.1_f64) {
        let mut test = SequentialTest::new(rule(Increase, threshold, SampleKind::Mean)).unwrap();
        for (old, new) in &pairs {
            if !test.is_finished() {
                test.push(*old, *new).unwrap();
            }
        }
        let report = test.report().unwrap();
        if let Some(interval) = report.interval {
            match report.verdict {
                Verdict::Regressed => prop_assert!(interval.low > threshold - 1e-9, "{:?}", report),
                Verdict::Improved => prop_assert!(interval.high < 1e-9, "{:?}", report),
                // The two halves of an equivalence may have been certain at different looks.
                _ => prop_assert!(interval.low <= threshold + 1e-9 && interval.high >= -threshold - 1e-9, "{:?}", report),
            }
        }
    }

    #[test]
    fn pass_rates_never_exhaust_their_capital_and_stay_in_their_bounds(
        outcomes in prop::collection::vec((any::<bool>(), any::<bool>()), 1..60),
        threshold in 0.0..1.0_f64,
    ) {
        let pairs: Vec<_> = outcomes.iter().map(|(old, new)| (f64::from(u8::from(*old)), f64::from(u8::from(*new)))).collect();
        let (_, count, e_value) = run(rule(Decrease, threshold, SampleKind::PassRate), &pairs);
        prop_assert!(e_value.is_finite() && e_value > 0.0 && count <= 60);
    }

    #[test]
    fn the_estimated_false_share_stays_within_the_budget_whatever_happens(
        p_values in prop::collection::vec(prop_oneof![3 => 0.0..1.0_f64, 1 => Just(0.0), 1 => 0.0..1e-3_f64], 0..300),
        horizon in 1_usize..200,
    ) {
        // The invariant from which each procedure's proof follows: the estimate of the false rejections over their number.
        for (policy, lambda, tau) in
            [(ErrorPolicy::Lord, 0.0, 1.0), (ErrorPolicy::Saffron, 0.5, 1.0), (ErrorPolicy::Addis, 0.25, 0.5)]
        {
            let mut ledger = ErrorLedger::new(policy, 0.05, horizon).unwrap();
            let mut estimate = 0.0;
            for p_value in &p_values {
                let level = ledger.next_level();
                if lambda <= 0.0 || (*p_value > lambda && *p_value <= tau) {
                    estimate += level / (tau - lambda);
                }
                ledger.record(*p_value).unwrap();
                prop_assert!(estimate <= 0.05 * ledger.rejections().max(1) as f64 + 1e-12, "{policy:?}");
            }
        }
        let mut ledger = ErrorLedger::new(ErrorPolicy::FamilyWise, 0.05, horizon).unwrap();
        for p_value in &p_values {
            ledger.record(*p_value).unwrap();
        }
        prop_assert!(ledger.spent() < 0.05);
    }

    #[test]
    fn the_drift_guard_knows_neither_units_nor_signs(seed in 0_u64..1000, slope in 0.0..0.01_f64) {
        let mut noise = Noise::seeded(seed);
        let steps: Vec<Vec<f64>> =
            (0..40).map(|step| noise.normals(5, 64.0 * (1.0 + slope * f64::from(step)), 3.0)).collect();
        let alarm_at = |direction, factor: f64| {
            let mut guard = DriftGuard::new(direction, 0.05).unwrap();
            steps.iter().position(|step| {
                let scaled: Vec<f64> = step.iter().map(|value| value * factor).collect();
                guard.observe(&scaled).unwrap().is_some()
            })
        };
        prop_assert_eq!(alarm_at(Increase, 1.0), alarm_at(Increase, 0.125));
        prop_assert_eq!(alarm_at(Increase, 1.0), alarm_at(Decrease, -1.0));
    }

    #[test]
    fn more_noise_or_a_smaller_threshold_never_needs_fewer_samples(cv in 0.005..0.2_f64, threshold in 0.01..0.2_f64) {
        let samples = |cv, threshold| {
            plan(&NoiseProfile::stated(cv).unwrap(), &PlanSettings::for_threshold(threshold)).unwrap().samples
        };
        let base = samples(cv, threshold);
        prop_assert!(samples(cv * 1.3, threshold) >= base && samples(cv, threshold / 1.3) >= base);
    }
}

fn metric(name: &str, incumbent: &[f64], candidate: &[f64]) -> RunMetric {
    RunMetric {
        spec: MetricSpec::new(name, "ms", Increase).unwrap(),
        threshold: Threshold::new(name, 0.0, Increase).unwrap(),
        kind: SampleKind::Mean,
        incumbent: incumbent.to_vec(),
        candidate: candidate.to_vec(),
        confirmation: None,
        baselines: BTreeMap::new(),
    }
}

fn iteration(metrics: Vec<RunMetric>, sampling: Sampling) -> Iteration {
    Iteration { metrics, sampling, accepted: None }
}

fn judge() -> RunJudge {
    RunJudge::new(RunSettings::default()).unwrap()
}

/// A run of iterations with fresh pairs, some harmful, some better.
fn recorded(seed: u64, count: usize) -> Vec<Iteration> {
    let mut noise = Noise::seeded(seed);
    (0..count)
        .map(|number| {
            let level = match number % 9 {
                4 => 115.0,
                7 => 93.0,
                _ => 100.0,
            };
            let mut metric = |name: &str, level: f64| {
                let mut metric = metric(name, &noise.normals(8, 100.0, 4.0), &noise.normals(8, level, 4.0));
                let (incumbent, candidate) = (noise.normals(40, 100.0, 4.0), noise.normals(40, level, 4.0));
                metric.confirmation = Some(FreshPairs { incumbent, candidate });
                metric
            };
            let mut all = vec![metric("a", 100.0), metric("b", level)];
            all[0].baselines.insert("release".to_owned(), noise.normals(8, 100.0, 4.0));
            Iteration {
                metrics: all,
                sampling: Sampling::FreshPairs,
                accepted: Some(number % 9 != 7 && level < 110.0),
            }
        })
        .collect()
}

#[test]
fn a_resumed_run_comes_to_the_same_decisions() {
    let iterations = recorded(3, 60);
    let mut whole = judge();
    let reports: Vec<_> = iterations.iter().map(|iteration| whole.judge(iteration).unwrap()).collect();
    assert!(reports.iter().any(|report| report.decision == IterationDecision::Rollback));
    // From its state, as stored and read back, and from the records alone.
    let mut stored = judge();
    for (iteration, report) in iterations.iter().zip(&reports) {
        let text = serde_json::to_string(&stored).unwrap();
        stored = serde_json::from_str(&text).unwrap();
        assert_eq!(&stored.judge(iteration).unwrap(), report);
    }
    assert_eq!(stored, whole);
}

#[test]
fn the_order_of_the_metrics_does_not_matter() {
    let (mut one, mut other) = (judge(), judge());
    for mut iteration in recorded(5, 30) {
        let report = one.judge(&iteration).unwrap();
        iteration.metrics.reverse();
        assert_eq!(other.judge(&iteration).unwrap(), report);
    }
}

#[test]
fn the_state_does_not_grow_with_the_run() {
    let mut judge = judge();
    let mut sizes = Vec::new();
    for iteration in recorded(7, 400) {
        judge.judge(&iteration).unwrap();
        sizes.push(serde_json::to_string(&judge).unwrap().len());
    }
    assert!(
        sizes[399] < sizes[150] + 2000,
        "{} bytes after 150 iterations, {} after 400",
        sizes[150],
        sizes[399]
    );
}

#[test]
fn an_error_and_a_wish_for_more_samples_leave_no_trace() {
    let mut noise = Noise::seeded(11);
    let mut judge = judge();
    let quiet = iteration(
        vec![metric("m", &noise.normals(20, 100.0, 5.0), &noise.normals(20, 100.0, 5.0))],
        Sampling::FreshPairs,
    );
    assert_eq!(judge.judge(&quiet).unwrap().decision, IterationDecision::Accept);
    let before = judge.clone();
    let worse = metric("m", &noise.normals(10, 100.0, 5.0), &noise.normals(10, 130.0, 5.0));
    let report = judge.judge(&iteration(vec![worse.clone()], Sampling::FreshPairs)).unwrap();
    assert_eq!((report.decision, report.pairs), (IterationDecision::Confirm, 100));
    assert!(judge.judge(&iteration(vec![worse.clone(), worse.clone()], Sampling::FreshPairs)).is_err());
    let uneven = FreshPairs { incumbent: vec![1.0; 3], candidate: vec![1.0; 2] };
    let uneven = RunMetric { confirmation: Some(uneven), ..worse };
    assert!(judge.judge(&iteration(vec![uneven], Sampling::FreshPairs)).is_err());
    assert_eq!(judge, before);
}

#[test]
fn what_cannot_be_compared_is_never_accepted() {
    let good = [10.0, 10.1, 9.9, 10.05, 9.95];
    let cases = [
        (metric("m", &good, &[]), DataProblem::MissingInCandidate),
        (metric("m", &good, &[10.0, f64::NAN]), DataProblem::NonFiniteInCandidate),
        (metric("m", &[f64::INFINITY, 1.0], &good), DataProblem::NonFiniteInIncumbent),
        (metric("m", &[], &good), DataProblem::MissingInIncumbent),
        (metric("m", &[10.0], &good), DataProblem::TooFewSamples),
        (metric("m", &good, &[10.0]), DataProblem::TooFewSamples),
        (metric("m", &good, &[90.0]), DataProblem::TooFewSamples),
    ];
    for (metric, problem) in cases {
        for sampling in [Sampling::FreshPairs, Sampling::Fixed] {
            let report = judge().judge(&iteration(vec![metric.clone()], sampling)).unwrap();
            assert_eq!(report.decision, IterationDecision::Inconclusive, "{problem:?}");
            assert_eq!(
                (report.metrics[0].verdict, report.metrics[0].problem),
                (Verdict::InsufficientData, Some(problem))
            );
        }
    }
}

#[test]
fn one_value_of_a_candidate_asks_for_more() {
    let good = [10.0, 10.1, 9.9, 10.05, 9.95];
    let after = |candidate: &[f64]| {
        judge().screen(&iteration(vec![metric("m", &good, candidate)], Sampling::OnDemand)).unwrap()
    };
    assert_eq!(after(&[10.0]), (ScreenOutcome::NeedsMore, 1));
    assert_eq!(after(&[9.0; 8]).0, ScreenOutcome::Cleared);
}

#[test]
fn values_without_scatter_are_compared_exactly_and_cost_no_budget() {
    let sizes = |candidate: f64| metric("binary_size", &[5000.0; 4], &[candidate; 4]);
    for (candidate, decision, verdict) in [
        (5000.0, IterationDecision::Accept, Verdict::Equivalent),
        (5001.0, IterationDecision::Rollback, Verdict::Regressed),
        (4000.0, IterationDecision::Accept, Verdict::Improved),
    ] {
        let report = judge().judge(&iteration(vec![sizes(candidate)], Sampling::Fixed)).unwrap();
        let found = &report.metrics[0];
        assert_eq!(
            (report.decision, found.verdict, found.stage),
            (decision, verdict, Stage::Exact),
            "{candidate}"
        );
        assert_eq!(report.totals.decisions, 0);
    }
    let tolerated =
        RunMetric { threshold: Threshold::new("binary_size", 0.01, Increase).unwrap(), ..sizes(5001.0) };
    let report = judge().judge(&iteration(vec![tolerated], Sampling::Fixed)).unwrap();
    assert_eq!(report.metrics[0].verdict, Verdict::Equivalent);
}

#[test]
fn without_fresh_samples_gross_harm_is_rolled_back() {
    let mut noise = Noise::seeded(13);
    let mut judge = judge();
    for _ in 0..20 {
        let quiet = metric("m", &noise.normals(10, 100.0, 5.0), &noise.normals(10, 100.0, 5.0));
        assert_ne!(
            judge.judge(&iteration(vec![quiet], Sampling::Fixed)).unwrap().decision,
            IterationDecision::Rollback
        );
    }
    let worse = metric("m", &noise.normals(10, 100.0, 5.0), &noise.normals(10, 130.0, 5.0));
    let gross = judge.judge(&iteration(vec![worse], Sampling::Fixed)).unwrap();
    assert_eq!((gross.decision, gross.metrics[0].stage), (IterationDecision::Rollback, Stage::OwnSamples));
    assert!(gross.metrics[0].p_value.is_some_and(|p| p < 1e-4));
}

#[test]
fn one_wild_value_among_good_ones_is_doubtful_and_no_certain_harm() {
    let mut noise = Noise::seeded(17);
    let mut judge = judge();
    for _ in 0..20 {
        let quiet = metric("m", &noise.normals(10, 100.0, 5.0), &noise.normals(10, 100.0, 5.0));
        judge.judge(&iteration(vec![quiet], Sampling::Fixed)).unwrap();
    }
    let mut candidate = noise.normals(10, 100.0, 5.0);
    candidate[4] = 300.0;
    let report = judge
        .judge(&iteration(vec![metric("m", &noise.normals(10, 100.0, 5.0), &candidate)], Sampling::Fixed))
        .unwrap();
    assert_eq!(report.decision, IterationDecision::Inconclusive, "{report:?}");
    assert!(report.reason.contains("not certain: measure again"), "{}", report.reason);
}

#[test]
fn passes_and_failures_go_through_both_stages() {
    let outcomes = |passes: usize, count: usize| {
        (0..count).map(|i| f64::from(u8::from(i % 10 < passes))).collect::<Vec<_>>()
    };
    let rate = |passes: usize| RunMetric {
        spec: MetricSpec::new("pass_rate", "", Decrease).unwrap(),
        threshold: Threshold::new("pass_rate", 0.05, Decrease).unwrap(),
        kind: SampleKind::PassRate,
        confirmation: Some(FreshPairs { incumbent: outcomes(9, 100), candidate: outcomes(passes, 100) }),
        ..metric("pass_rate", &outcomes(9, 40), &outcomes(passes, 40))
    };
    let mut judge = judge();
    let report = |judge: &mut RunJudge, passes| {
        judge.judge(&iteration(vec![rate(passes)], Sampling::FreshPairs)).unwrap()
    };
    assert_eq!(report(&mut judge, 9).decision, IterationDecision::Accept);
    let broken = report(&mut judge, 3);
    assert_eq!(
        (broken.decision, broken.metrics[0].stage),
        (IterationDecision::Rollback, Stage::Confirmation)
    );
}

#[test]
fn drift_against_a_named_baseline_is_reported_by_name() {
    let mut noise = Noise::seeded(19);
    let mut judge = judge();
    let found = (0..60).find_map(|number| {
        let level = 100.0 * 1.002_f64.powi(number);
        let mut metric = metric("m", &noise.normals(10, level / 1.002, 3.0), &noise.normals(10, level, 3.0));
        metric.confirmation = Some(FreshPairs {
            incumbent: noise.normals(60, level / 1.002, 3.0),
            candidate: noise.normals(60, level, 3.0),
        });
        metric.baselines.insert("release".to_owned(), noise.normals(10, 100.0, 3.0));
        let report = judge.judge(&iteration(vec![metric], Sampling::FreshPairs)).unwrap();
        report
            .drift
            .iter()
            .any(|drift| drift.baseline.as_deref() == Some("release"))
            .then_some((number, report))
    });
    let (number, report) = found.expect("a drift of twelve percent");
    assert_eq!(report.decision, IterationDecision::Rollback);
    assert!(number < 30 && report.reason.contains("baseline release"), "{number}: {}", report.reason);
}

#[test]
fn the_screen_asks_for_samples_until_it_knows() {
    let mut noise = Noise::seeded(23);
    let mut judge = judge();
    judge
        .judge(&iteration(
            vec![metric("m", &noise.normals(60, 100.0, 5.0), &noise.normals(10, 100.0, 5.0))],
            Sampling::OnDemand,
        ))
        .unwrap();
    let mut asked = |level: f64| {
        let values = noise.normals(40, level, 5.0);
        (1..=40).find_map(|n| {
            let (outcome, samples) =
                judge.screen(&iteration(vec![metric("m", &[], &values[..n])], Sampling::OnDemand)).unwrap();
            (outcome != ScreenOutcome::NeedsMore).then_some((outcome, samples, n))
        })
    };
    let (fine, used, at) = asked(97.0).unwrap();
    assert!(fine == ScreenOutcome::Cleared && used == at && used < 20, "{used}");
    assert!(matches!(asked(112.0), Some((ScreenOutcome::Suspicious, used, at)) if used == at && used < 20));
}
