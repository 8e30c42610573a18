//! What every [`Detector`] must do, whatever its thresholds: harm in these cases is tenfold and without doubt.

use std::collections::BTreeMap;

use evoseal_types::{Direction, MetricName, MetricSamples, MetricSpec};

use crate::{
    Assessment, Baseline, DataProblem, Detector, Finding, Measurements, RegressionSummary, RunContext,
    RunMemory, Verdict,
};

/// Makes one test of each case. The argument is an expression for a fresh detector.
#[macro_export]
macro_rules! detector_conformance {
    (@list [$($then:tt)*]) => {
        $crate::detector_conformance! { @$($then)*;
            equal_measurements_give_equal_bytes
            every_metric_has_exactly_one_finding_per_partner
            findings_are_sorted_incumbent_first
            a_tenfold_harm_is_a_regression_in_either_direction
            a_tenfold_gain_is_never_a_regression
            the_same_samples_are_no_change
            a_regression_has_its_whole_interval_beyond_the_threshold
            a_missing_metric_is_named
            samples_that_are_no_numbers_are_named
            too_few_samples_are_named
            a_changed_direction_is_named
            a_rise_from_zero_is_not_lost
            a_metric_listed_twice_is_an_error
            a_regression_against_a_baseline_is_found
            history_alone_makes_no_regression
            summary_and_recommendation_follow_from_the_findings
            samples_that_cannot_be_had_are_not_asked_for
            what_a_run_teaches_follows_from_its_iterations_alone
        }
    };
    (@tests $fixture:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::detector::$case(&$fixture);
            }
        )*
    };
    (@array; $($case:ident)*) => {
        &[$((stringify!($case), $case)),*]
    };
    ($fixture:expr) => {
        $crate::detector_conformance!(@list [tests $fixture]);
    };
}

/// A case: it panics if the detector breaks the contract.
pub type Case = fn(&dyn Detector);

/// All cases with their names, for a runner of one's own.
pub const CASES: &[(&str, Case)] = detector_conformance!(@list [array]);

const OLD: [f64; 6] = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2];

fn samples(name: &str, direction: Direction, values: &[f64]) -> MetricSamples {
    let spec = MetricSpec::new(name, "", direction).expect("the names here are valid");
    MetricSamples::independent(spec, values)
}

fn scaled(factor: f64) -> Vec<f64> {
    OLD.iter().map(|value| value * factor).collect()
}

fn measurements(incumbent: Vec<MetricSamples>, candidate: Vec<MetricSamples>) -> Measurements {
    Measurements {
        incumbent,
        candidate,
        paired: false,
        history: BTreeMap::new(),
        baselines: Vec::new(),
        run: None,
    }
}

fn one(direction: Direction, old: &[f64], new: &[f64]) -> Measurements {
    measurements(vec![samples("metric", direction, old)], vec![samples("metric", direction, new)])
}

/// Several metrics with every kind of outcome, a baseline, and a history.
fn mixed() -> Measurements {
    let (up, down) = (Direction::Increase, Direction::Decrease);
    let candidate = vec![
        samples("worse", up, &scaled(10.0)),
        samples("better", up, &scaled(0.1)),
        samples("lower", down, &scaled(0.1)),
        samples("same", down, &OLD),
        samples("new", up, &OLD),
    ];
    let incumbent = ["worse", "better", "gone"].map(|name| samples(name, up, &OLD)).to_vec();
    let incumbent = [incumbent, ["lower", "same"].map(|name| samples(name, down, &OLD)).to_vec()].concat();
    let baseline = Baseline {
        name: "start".to_owned(),
        version_id: "v0".parse().expect("a valid id"),
        metrics: vec![samples("worse", up, &OLD), samples("gone", up, &OLD)],
    };
    let name = MetricName::new("worse").expect("a valid name");
    Measurements {
        baselines: vec![baseline],
        history: BTreeMap::from([(name, OLD.to_vec())]),
        ..measurements(incumbent, candidate)
    }
}

#[track_caller]
fn assess(detector: &dyn Detector, measurements: &Measurements) -> Assessment {
    detector.assess(measurements).expect("measurements that do not contradict themselves are assessed")
}

#[track_caller]
fn only(detector: &dyn Detector, measurements: &Measurements) -> Finding {
    let mut findings = assess(detector, measurements).findings;
    assert_eq!(findings.len(), 1, "one metric, one finding: {findings:?}");
    findings.remove(0)
}

fn problem_of(detector: &dyn Detector, measurements: &Measurements, expected: DataProblem) {
    let finding = only(detector, measurements);
    assert_eq!(
        (finding.verdict, finding.problem),
        (Verdict::InsufficientData, Some(expected)),
        "{finding:?}"
    );
    assert_eq!((finding.severity, finding.interval), (None, None), "{finding:?}");
}

/// *Pure.* Asked twice, with another question in between.
pub fn equal_measurements_give_equal_bytes(detector: &dyn Detector) {
    let first = format!("{:?}", assess(detector, &mixed()));
    assess(detector, &one(Direction::Increase, &OLD, &scaled(10.0)));
    assert_eq!(
        first,
        format!("{:?}", assess(detector, &mixed())),
        "the same measurements were judged differently"
    );
}

/// *Complete.* Against the incumbent for the metrics of either side, against a baseline for its own.
pub fn every_metric_has_exactly_one_finding_per_partner(detector: &dyn Detector) {
    let mut seen: Vec<_> = assess(detector, &mixed())
        .findings
        .into_iter()
        .map(|finding| (finding.baseline, finding.metric.name.to_string()))
        .collect();
    seen.sort();
    let against_incumbent =
        ["better", "gone", "lower", "new", "same", "worse"].map(|name| (None, name.to_owned()));
    let against_start = ["gone", "worse"].map(|name| (Some("start".to_owned()), name.to_owned()));
    assert_eq!(seen, [against_incumbent.to_vec(), against_start.to_vec()].concat());
}

/// First against the incumbent, then against the baselines, each group sorted by metric name.
pub fn findings_are_sorted_incumbent_first(detector: &dyn Detector) {
    let findings = assess(detector, &mixed()).findings;
    let keys: Vec<_> = findings.iter().map(|finding| (&finding.baseline, &finding.metric.name)).collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

/// Nine hundred percent are nine hundred percent, not nine.
pub fn a_tenfold_harm_is_a_regression_in_either_direction(detector: &dyn Detector) {
    for (direction, factor) in [(Direction::Increase, 10.0), (Direction::Decrease, 0.1)] {
        let finding = only(detector, &one(direction, &OLD, &scaled(factor)));
        assert_eq!(finding.verdict, Verdict::Regressed, "harm is to {direction}: {finding:?}");
        assert!(finding.severity.is_some() && finding.problem.is_none(), "{finding:?}");
        let change = finding.change.expect("the old value is not zero");
        assert!(
            (change - (factor - 1.0)).abs() < 0.1,
            "the change is a fraction of the old value: {finding:?}"
        );
    }
}

/// Improvements are never harm.
pub fn a_tenfold_gain_is_never_a_regression(detector: &dyn Detector) {
    for (direction, factor) in [(Direction::Decrease, 10.0), (Direction::Increase, 0.1)] {
        let finding = only(detector, &one(direction, &OLD, &scaled(factor)));
        assert_eq!((finding.verdict, finding.severity), (Verdict::Improved, None), "{finding:?}");
    }
}

/// The same numbers are neither better nor worse.
pub fn the_same_samples_are_no_change(detector: &dyn Detector) {
    for direction in [Direction::Increase, Direction::Decrease] {
        let finding = only(detector, &one(direction, &OLD, &OLD));
        let fitting = [Verdict::Equivalent, Verdict::Inconclusive].contains(&finding.verdict);
        assert!(fitting && finding.severity.is_none(), "{finding:?}");
    }
}

/// *Honest*, for every finding of a mixed assessment.
pub fn a_regression_has_its_whole_interval_beyond_the_threshold(detector: &dyn Detector) {
    for finding in assess(detector, &mixed()).findings {
        let regressed = finding.verdict == Verdict::Regressed;
        assert_eq!(finding.severity.is_some(), regressed, "{finding:?}");
        assert_eq!(finding.problem.is_some(), finding.verdict == Verdict::InsufficientData, "{finding:?}");
        if regressed {
            let interval = finding.interval.expect("a regression has an interval");
            let sign = finding.threshold.direction().harm_sign();
            let least = (sign * interval.low).min(sign * interval.high);
            assert!(least > finding.threshold.threshold(), "{finding:?}");
        }
    }
}

/// What only one side has is not left out.
pub fn a_missing_metric_is_named(detector: &dyn Detector) {
    let side = || vec![samples("metric", Direction::Increase, &OLD)];
    problem_of(detector, &measurements(side(), Vec::new()), DataProblem::MissingInCandidate);
    problem_of(detector, &measurements(Vec::new(), side()), DataProblem::MissingInIncumbent);
}

/// NaN and infinity are not averaged away.
pub fn samples_that_are_no_numbers_are_named(detector: &dyn Detector) {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut broken = OLD;
        broken[3] = bad;
        let direction = Direction::Increase;
        problem_of(detector, &one(direction, &OLD, &broken), DataProblem::NonFiniteInCandidate);
        problem_of(detector, &one(direction, &broken, &OLD), DataProblem::NonFiniteInIncumbent);
    }
}

/// No samples are too few for any method.
pub fn too_few_samples_are_named(detector: &dyn Detector) {
    problem_of(detector, &one(Direction::Increase, &OLD, &[]), DataProblem::TooFewSamples);
    problem_of(detector, &one(Direction::Increase, &[], &OLD), DataProblem::TooFewSamples);
}

/// A metric that means the opposite on the other side is not compared.
pub fn a_changed_direction_is_named(detector: &dyn Detector) {
    let (up, down) = (Direction::Increase, Direction::Decrease);
    let turned = measurements(vec![samples("metric", up, &OLD)], vec![samples("metric", down, &OLD)]);
    problem_of(detector, &turned, DataProblem::SpecMismatch);
}

/// A zero old value has no relative change, which is not the same as no change.
pub fn a_rise_from_zero_is_not_lost(detector: &dyn Detector) {
    let finding = only(detector, &one(Direction::Increase, &[0.0; 6], &OLD));
    assert_eq!((finding.verdict, finding.change), (Verdict::Regressed, None), "{finding:?}");
}

/// Measurements that contradict themselves are refused.
pub fn a_metric_listed_twice_is_an_error(detector: &dyn Detector) {
    let metric = || samples("metric", Direction::Increase, &OLD);
    for (incumbent, candidate) in
        [(vec![metric(), metric()], vec![metric()]), (vec![metric()], vec![metric(), metric()])]
    {
        let answer = detector.assess(&measurements(incumbent, candidate));
        assert!(answer.is_err(), "a metric that stands twice was judged: {answer:?}");
    }
}

/// A candidate like its incumbent can still be far worse than the baseline.
pub fn a_regression_against_a_baseline_is_found(detector: &dyn Detector) {
    let mut drifted = one(Direction::Increase, &scaled(10.0), &scaled(10.0));
    drifted.baselines = vec![Baseline {
        name: "start".to_owned(),
        version_id: "v0".parse().expect("a valid id"),
        metrics: vec![samples("metric", Direction::Increase, &OLD)],
    }];
    let assessment = assess(detector, &drifted);
    let regressed: Vec<_> = assessment.regressions().map(|finding| finding.baseline.as_deref()).collect();
    assert_eq!(regressed, [Some("start")], "{assessment:?}");
}

/// A value that stands out from the history without differing from the incumbent is no regression.
pub fn history_alone_makes_no_regression(detector: &dyn Detector) {
    let mut unusual = one(Direction::Increase, &OLD, &OLD);
    unusual
        .history
        .insert(MetricName::new("metric").expect("a valid name"), vec![1.0, 1.1, 0.9, 1.0, 1.05, 0.95]);
    let assessment = assess(detector, &unusual);
    assert!(!assessment.regression_detected(), "{assessment:?}");
}

/// The published rules over the findings.
pub fn summary_and_recommendation_follow_from_the_findings(detector: &dyn Detector) {
    let assessment = assess(detector, &mixed());
    let expected = Assessment::new(assessment.findings.clone());
    assert_eq!(assessment, expected);
    assert_eq!(assessment.summary, RegressionSummary::of(&assessment.findings));
    assert_eq!(
        assessment.summary.total_regressions, 3,
        "two against the incumbent, one against the baseline"
    );
}

/// A run in which both versions can be measured again, or cannot.
fn in_run(
    mut measurements: Measurements,
    can_measure_again: bool,
    memory: Option<RunMemory>,
) -> Measurements {
    measurements.run = Some(RunContext { memory, can_measure_again, ..RunContext::default() });
    measurements
}

/// Harm that nobody can overlook is still no reason to ask for what there is not.
pub fn samples_that_cannot_be_had_are_not_asked_for(detector: &dyn Detector) {
    let plain = one(Direction::Increase, &OLD, &scaled(1.02));
    for measurements in [plain.clone(), in_run(plain, false, None)] {
        let asked = detector.further_samples(&measurements).expect("the measurements are sound");
        assert_eq!(asked, None, "{measurements:?}");
    }
}

/// The same iterations teach the same, also where the memory was written down in between.
pub fn what_a_run_teaches_follows_from_its_iterations_alone(detector: &dyn Detector) {
    let written =
        |memory: &Option<RunMemory>| serde_json::to_string(memory).expect("a memory can be written");
    let teach = |store: bool| {
        let mut memory = None;
        for factor in [1.0, 1.01, 0.99] {
            let measurements = in_run(one(Direction::Increase, &OLD, &scaled(factor)), true, memory);
            memory = detector.remember(&measurements, true).expect("the measurements are sound");
            if store {
                memory = serde_json::from_str(&written(&memory)).expect("a memory can be read back");
            }
        }
        memory
    };
    let (kept, stored) = (teach(false), teach(true));
    assert_eq!(written(&kept), written(&stored));
    let judged = in_run(one(Direction::Increase, &OLD, &scaled(1.0)), true, stored);
    let bytes = |measurements: &Measurements| {
        serde_json::to_string(&assess(detector, measurements)).expect("it can be written")
    };
    assert_eq!(bytes(&judged), bytes(&in_run(judged.clone(), true, kept)));
}
