//! The suites accept our implementations, and each case of the detector's rejects a detector that breaks it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::standard;
use evoseal_regression::conformance::{analyzer, detector};
use evoseal_regression::{
    Analyzer, Assessment, Comparison, DataProblem, Detector, DetectorStatus, Error, Estimate, FurtherSamples,
    Measurements, Result, RunMemory, SamplePurpose, TInterval, Verdict,
};
use evoseal_types::Severity;

mod the_standard_detector {
    evoseal_regression::detector_conformance!(super::standard());
}

mod the_detector_with_ranks {
    use std::sync::Arc;
    evoseal_regression::detector_conformance!(
        super::standard().with_analyzer(Arc::new(evoseal_regression::RankShift)).unwrap()
    );
}

mod the_detector_without_statistics {
    evoseal_regression::detector_conformance!(
        super::common::from_toml("enable_statistical_analysis = false").unwrap()
    );
}

mod the_t_interval {
    evoseal_regression::analyzer_conformance!(evoseal_regression::TInterval);
}

mod the_rank_shift {
    evoseal_regression::analyzer_conformance!(evoseal_regression::RankShift);
}

mod auto {
    evoseal_regression::analyzer_conformance!(evoseal_regression::Auto);
}

mod permutations {
    evoseal_regression::analyzer_conformance!(evoseal_regression::Permutation::default());
}

mod trimmed_means {
    evoseal_regression::analyzer_conformance!(evoseal_regression::TrimmedMeans::new(0.2).unwrap());
}

mod the_bootstrap {
    use evoseal_regression::{Bootstrap, BootstrapStatistic};
    evoseal_regression::analyzer_conformance!(Bootstrap::of(BootstrapStatistic::Median).unwrap());
}

mod threshold_only {
    evoseal_regression::analyzer_conformance!(evoseal_regression::ThresholdOnly);
}

/// The standard detector with its question or answer spoiled.
#[derive(Debug)]
struct Broken {
    question: fn(&mut Measurements),
    answer: fn(Assessment, usize) -> Assessment,
    asked: AtomicUsize,
    /// Whether it wishes for what it cannot have, and remembers what nobody told it.
    is_greedy: bool,
    is_forgetful: bool,
}

impl Detector for Broken {
    fn assess(&self, measurements: &Measurements) -> Result<Assessment> {
        let mut measurements = measurements.clone();
        (self.question)(&mut measurements);
        Ok((self.answer)(standard().assess(&measurements)?, self.asked.fetch_add(1, Ordering::Relaxed)))
    }

    fn further_samples(&self, measurements: &Measurements) -> Result<Option<FurtherSamples>> {
        let wish = || FurtherSamples { purpose: SamplePurpose::Fresh, pairs: 1, reason: String::new() };
        Ok(self.is_greedy.then(wish).or(standard().further_samples(measurements)?))
    }

    fn remember(&self, measurements: &Measurements, accepted: bool) -> Result<Option<RunMemory>> {
        // Every other iteration is forgotten.
        let forgets = self.is_forgetful && self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        let kept = || measurements.run.clone().and_then(|run| run.memory);
        if forgets { Ok(kept()) } else { standard().remember(measurements, accepted) }
    }

    fn status(&self) -> DetectorStatus {
        standard().status()
    }
}

fn rejected_by(broken: &dyn Detector) -> Vec<&'static str> {
    let fails = |case: &detector::Case| catch_unwind(AssertUnwindSafe(|| case(broken))).is_err();
    detector::CASES.iter().filter(|(_, case)| fails(case)).map(|(name, _)| *name).collect()
}

/// Nothing is broken yet.
fn broken() -> Broken {
    Broken {
        question: |_| (),
        answer: |assessment, _| assessment,
        asked: AtomicUsize::new(0),
        is_greedy: false,
        is_forgetful: false,
    }
}

fn broken_question(question: fn(&mut Measurements)) -> Broken {
    Broken { question, ..broken() }
}

fn broken_answer(answer: fn(Assessment, usize) -> Assessment) -> Broken {
    Broken { answer, ..broken() }
}

/// Changes the findings and lets summary and recommendation follow.
fn with_findings(
    assessment: Assessment,
    change: impl FnOnce(&mut Vec<evoseal_regression::Finding>),
) -> Assessment {
    let mut findings = assessment.findings;
    change(&mut findings);
    Assessment::new(findings)
}

#[test]
fn each_case_rejects_a_detector_that_breaks_it() {
    let twins: Vec<(&str, Broken)> = vec![
        (
            "equal_measurements_give_equal_bytes",
            broken_answer(|mut assessment, asked| {
                assessment.findings[0].reason.push_str(&asked.to_string());
                assessment
            }),
        ),
        (
            "every_metric_has_exactly_one_finding_per_partner",
            broken_answer(|assessment, _| {
                with_findings(assessment, |findings| findings.retain(|finding| finding.problem.is_none()))
            }),
        ),
        (
            "findings_are_sorted_incumbent_first",
            broken_answer(|assessment, _| with_findings(assessment, |findings| findings.reverse())),
        ),
        (
            "a_tenfold_harm_is_a_regression_in_either_direction",
            broken_answer(|assessment, _| {
                with_findings(assessment, |findings| {
                    for finding in findings {
                        if finding.change.is_some_and(|change| change.abs() > 1.0) {
                            (finding.verdict, finding.severity) = (Verdict::Equivalent, None);
                        }
                    }
                })
            }),
        ),
        (
            "a_tenfold_gain_is_never_a_regression",
            broken_answer(|assessment, _| {
                with_findings(assessment, |findings| {
                    for finding in findings.iter_mut().filter(|finding| finding.verdict == Verdict::Improved)
                    {
                        (finding.verdict, finding.severity) = (Verdict::Regressed, Some(Severity::Low));
                    }
                })
            }),
        ),
        (
            "the_same_samples_are_no_change",
            broken_answer(|assessment, _| {
                with_findings(assessment, |findings| {
                    for finding in
                        findings.iter_mut().filter(|finding| finding.verdict == Verdict::Equivalent)
                    {
                        finding.verdict = Verdict::Improved;
                    }
                })
            }),
        ),
        (
            "a_regression_has_its_whole_interval_beyond_the_threshold",
            broken_answer(|assessment, _| {
                with_findings(assessment, |findings| {
                    for interval in findings.iter_mut().filter_map(|finding| finding.interval.as_mut()) {
                        interval.low = -interval.high.abs();
                    }
                })
            }),
        ),
        (
            "a_missing_metric_is_named",
            broken_question(|measurements| {
                let kept = measurements.candidate.clone();
                measurements.incumbent.retain(|old| kept.iter().any(|new| new.spec.name == old.spec.name));
            }),
        ),
        (
            "samples_that_are_no_numbers_are_named",
            broken_question(|measurements| {
                for metric in measurements.incumbent.iter_mut().chain(&mut measurements.candidate) {
                    metric.samples.retain(|sample| sample.value.is_finite());
                }
            }),
        ),
        (
            "too_few_samples_are_named",
            broken_answer(|assessment, _| {
                with_findings(assessment, |findings| {
                    for finding in findings {
                        if finding.problem == Some(DataProblem::TooFewSamples) {
                            (finding.verdict, finding.problem) = (Verdict::Equivalent, None);
                        }
                    }
                })
            }),
        ),
        (
            "a_changed_direction_is_named",
            broken_question(|measurements| {
                for (old, new) in measurements.incumbent.iter_mut().zip(&measurements.candidate) {
                    if old.spec.name == new.spec.name {
                        old.spec = new.spec.clone();
                    }
                }
            }),
        ),
        (
            "a_rise_from_zero_is_not_lost",
            broken_answer(|assessment, _| {
                with_findings(assessment, |findings| {
                    for finding in findings.iter_mut().filter(|finding| finding.problem.is_none()) {
                        if finding.change.is_none() {
                            (finding.verdict, finding.severity) = (Verdict::Equivalent, None);
                        }
                    }
                })
            }),
        ),
        (
            "a_metric_listed_twice_is_an_error",
            broken_question(|measurements| {
                measurements.incumbent.dedup_by(|left, right| left.spec.name == right.spec.name);
                measurements.candidate.dedup_by(|left, right| left.spec.name == right.spec.name);
            }),
        ),
        (
            "a_regression_against_a_baseline_is_found",
            broken_answer(|assessment, _| {
                with_findings(assessment, |findings| {
                    for finding in findings.iter_mut().filter(|finding| finding.baseline.is_some()) {
                        (finding.verdict, finding.severity) = (Verdict::Equivalent, None);
                    }
                })
            }),
        ),
        (
            "history_alone_makes_no_regression",
            broken_question(|measurements| {
                for metric in &mut measurements.incumbent {
                    if let Some(past) = measurements.history.get(&metric.spec.name) {
                        for (sample, value) in metric.samples.iter_mut().zip(past) {
                            sample.value = *value;
                        }
                    }
                }
            }),
        ),
        (
            "summary_and_recommendation_follow_from_the_findings",
            broken_answer(|mut assessment, _| {
                assessment.summary.critical_regressions.clear();
                assessment
            }),
        ),
        ("samples_that_cannot_be_had_are_not_asked_for", Broken { is_greedy: true, ..broken() }),
        ("what_a_run_teaches_follows_from_its_iterations_alone", Broken { is_forgetful: true, ..broken() }),
    ];
    assert_eq!(rejected_by(&standard()), Vec::<&str>::new(), "the standard detector breaks nothing");
    let broken: Vec<_> = twins.iter().map(|(case, _)| *case).collect();
    assert_eq!(broken, detector::CASES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (case, twin) in &twins {
        let rejected = rejected_by(twin);
        assert!(rejected.contains(case), "{case} accepts its broken twin; rejected by {rejected:?}");
    }
}

/// The t interval with its answer spoiled.
#[derive(Debug)]
struct BrokenAnalyzer(fn(Estimate, &Comparison<'_>, usize) -> Result<Estimate>, AtomicUsize, &'static str);

impl Analyzer for BrokenAnalyzer {
    fn name(&self) -> &'static str {
        self.2
    }

    fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate> {
        let Ok(estimate) = TInterval.analyze(comparison) else {
            // The mistake of answering something where there is nothing.
            return Err(Error::Invalid { what: "a comparison".into(), reason: "no values".into() });
        };
        (self.0)(estimate, comparison, self.1.fetch_add(1, Ordering::Relaxed))
    }
}

#[test]
fn each_case_rejects_an_analyzer_that_breaks_it() {
    type Spoil = fn(Estimate, &Comparison<'_>, usize) -> Result<Estimate>;
    #[expect(
        clippy::unnecessary_wraps,
        clippy::needless_pass_by_value,
        reason = "it ends the twins, which answer so"
    )]
    fn with(estimate: Estimate, low: f64, high: f64) -> Result<Estimate> {
        let interval = evoseal_regression::Interval { low, high, ..estimate.interval };
        Ok(Estimate { interval, ..estimate })
    }
    let twins: [(&str, &str, Spoil); 10] = [
        ("it_has_a_name", "", |estimate, _, _| Ok(estimate)),
        ("equal_comparisons_give_equal_estimates", "x", |estimate, _, asked| {
            let (low, high) = (estimate.interval.low - asked as f64 * 1e-6, estimate.interval.high);
            with(estimate, low, high)
        }),
        ("the_estimate_lies_within_its_interval", "x", |estimate, _, _| {
            let old_value = estimate.old_value / 2.0;
            Ok(Estimate { old_value, ..estimate })
        }),
        ("the_interval_holds_a_known_change", "x", |estimate, _, _| {
            let (low, high) = (estimate.interval.low - 0.2, estimate.interval.high - 0.2);
            with(estimate, low, high)
        }),
        ("a_change_keeps_its_sign", "x", |estimate, _, _| {
            let (low, high) = (-estimate.interval.high, -estimate.interval.low);
            with(estimate, low, high)
        }),
        ("the_unit_does_not_matter", "x", |estimate, _, _| {
            let (low, high) = (estimate.new_value - 120.0 + estimate.interval.low, estimate.interval.high);
            with(estimate, low.min(high), high)
        }),
        ("a_higher_level_is_never_narrower", "x", |estimate, comparison, _| {
            let (middle, half) = (
                f64::midpoint(estimate.interval.low, estimate.interval.high),
                (estimate.interval.high - estimate.interval.low) / 2.0 * (1.0 - comparison.level),
            );
            with(estimate, middle - half, middle + half)
        }),
        ("values_without_spread_are_compared", "x", |estimate, comparison, _| match estimate.method {
            "exact" => Err(Error::Data { what: "x", needed: "spread", found: format!("{comparison:?}") }),
            _ => Ok(estimate),
        }),
        ("a_zero_old_value_gives_the_absolute_change", "x", |estimate, _, _| {
            if estimate.old_value.abs() > 0.0 { Ok(estimate) } else { with(estimate, 0.0, 0.0) }
        }),
        ("too_few_values_are_a_data_error", "x", |estimate, _, _| Ok(estimate)),
    ];
    assert_eq!(
        twins.map(|(case, ..)| case).to_vec(),
        analyzer::CASES.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    for (case, name, spoil) in twins {
        let (_, check) = analyzer::CASES.iter().find(|(known, _)| *known == case).unwrap();
        let twin = BrokenAnalyzer(spoil, AtomicUsize::new(0), name);
        assert!(catch_unwind(AssertUnwindSafe(|| check(&twin))).is_err(), "{case} accepts its broken twin");
    }
}
