//! What the standard policy decides about measurements.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

mod support;

use evoseal_regression::{DataProblem, Finding, Interval, Verdict};
use evoseal_safety::{DecisionPolicy, Judgement, Outcome, PolicyThresholds, Rule, StandardPolicy};
use evoseal_types::{Direction, Severity};
use support::{assessed, expect, finding, objective, samples, with};

#[test]
fn a_detector_that_fails_is_not_an_absence_of_regressions() {
    let evidence = with(|evidence| evidence.judgement = Judgement::Failed("broken".to_owned()));
    expect(&evidence, Outcome::Reject, &[Rule::DetectorFailed]);
}

#[test]
fn measurements_that_nobody_judged_reject() {
    let evidence = with(|evidence| evidence.judgement = Judgement::NotAsked);
    expect(&evidence, Outcome::Reject, &[Rule::DetectorFailed]);
}

#[test]
fn a_metric_that_the_detector_says_nothing_about_rejects() {
    let evidence = with(|evidence| {
        evidence.request.observations.incumbent_metrics.push(samples("memory", &[1.0]));
        evidence.request.observations.metrics.push(samples("memory", &[9.0]));
    });
    expect(&evidence, Outcome::Reject, &[Rule::DetectorFailed]);
}

#[test]
fn a_missing_metric_rejects() {
    let evidence = with(|evidence| {
        evidence.request.observations.metrics.clear();
        evidence.judgement = assessed(vec![finding(Verdict::InsufficientData)]);
    });
    expect(&evidence, Outcome::Reject, &[Rule::MetricUnusable]);
}

#[test]
fn a_metric_that_is_not_a_finite_number_rejects() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let evidence = with(|evidence| {
            evidence.request.observations.metrics = vec![samples("latency", &[10.0, value])];
        });
        expect(&evidence, Outcome::Reject, &[Rule::MetricUnusable]);
    }
}

#[test]
fn a_metric_without_samples_rejects_even_where_there_is_no_incumbent() {
    let evidence = with(|evidence| {
        evidence.request.current_version_id = None;
        evidence.request.observations.incumbent_metrics.clear();
        evidence.request.observations.metrics = vec![samples("latency", &[])];
        evidence.judgement = Judgement::NotAsked;
    });
    expect(&evidence, Outcome::Reject, &[Rule::MetricUnusable]);
}

#[test]
fn data_problems_of_the_incumbent_are_inconclusive_and_all_others_reject() {
    let problems = [
        (DataProblem::MissingInCandidate, Outcome::Reject),
        (DataProblem::NonFiniteInCandidate, Outcome::Reject),
        (DataProblem::SpecMismatch, Outcome::Reject),
        (DataProblem::MissingInIncumbent, Outcome::Inconclusive),
        (DataProblem::NonFiniteInIncumbent, Outcome::Inconclusive),
        (DataProblem::TooFewSamples, Outcome::Inconclusive),
    ];
    for (problem, outcome) in problems {
        let unusable = Finding { problem: Some(problem), ..finding(Verdict::InsufficientData) };
        let evidence = with(|evidence| evidence.judgement = assessed(vec![unusable]));
        expect(&evidence, outcome, &[Rule::MetricUnusable]);
    }
}

#[test]
fn regressions_decide_by_severity() {
    let severities = [
        (Severity::Low, Outcome::Reject, vec![Rule::Regression]),
        (Severity::Medium, Outcome::Reject, vec![Rule::Regression]),
        (Severity::High, Outcome::Reject, vec![Rule::Regression]),
        (Severity::Critical, Outcome::RollBack, vec![Rule::Regression, Rule::SafetyScore]),
    ];
    for (severity, outcome, rules) in severities {
        let worse = Finding { severity: Some(severity), ..finding(Verdict::Regressed) };
        let evidence = with(|evidence| evidence.judgement = assessed(vec![worse]));
        expect(&evidence, outcome, &rules);
    }
}

#[test]
fn a_regression_without_a_severity_counts_as_critical() {
    let worse = Finding { severity: None, ..finding(Verdict::Regressed) };
    let evidence = with(|evidence| evidence.judgement = assessed(vec![worse]));
    expect(&evidence, Outcome::RollBack, &[Rule::Regression, Rule::SafetyScore]);
}

#[test]
fn a_regression_against_a_baseline_counts_like_one_against_the_incumbent() {
    let drifted = Finding { baseline: Some("release".to_owned()), ..finding(Verdict::Regressed) };
    let evidence =
        with(|evidence| evidence.judgement = assessed(vec![finding(Verdict::Equivalent), drifted]));
    expect(&evidence, Outcome::Reject, &[Rule::Regression]);
}

#[test]
fn a_score_below_the_minimum_rejects_what_no_single_rule_rejects() {
    let tolerant = PolicyThresholds { reject_severity: Severity::Critical, ..PolicyThresholds::default() };
    let policy = StandardPolicy::new(tolerant).unwrap();
    let evidence = with(|evidence| {
        let high = |_| Finding { severity: Some(Severity::High), ..finding(Verdict::Regressed) };
        evidence.judgement = assessed((0..2).map(high).collect());
    });
    let decision = policy.decide(&evidence);
    assert_eq!((decision.outcome, decision.decided_by), (Outcome::Reject, Rule::SafetyScore));
    assert!((decision.safety_score.score - 0.6).abs() < 1e-12, "{:?}", decision.safety_score);
}

#[test]
fn an_interval_that_reaches_harm_is_inconclusive_and_a_harmless_one_is_no_objection() {
    let wide = |low, high| Finding {
        interval: Some(Interval { low, high, level: 0.95 }),
        ..finding(Verdict::Inconclusive)
    };
    let cases = [
        (wide(-0.5, 0.2), Outcome::Inconclusive),
        (wide(-0.5, 0.1), Outcome::Accept),
        (wide(-0.5, 0.09), Outcome::Accept),
        (wide(f64::NAN, 0.09), Outcome::Inconclusive),
        (wide(-0.5, f64::NAN), Outcome::Inconclusive),
        (wide(-0.5, f64::INFINITY), Outcome::Inconclusive),
        (Finding { change: None, ..wide(-0.5, 0.09) }, Outcome::Inconclusive),
        (Finding { interval: None, ..wide(0.0, 0.0) }, Outcome::Inconclusive),
    ];
    for (finding, outcome) in cases {
        let evidence = with(|evidence| evidence.judgement = assessed(vec![finding]));
        let rules: &[Rule] = if outcome == Outcome::Accept { &[] } else { &[Rule::Inconclusive] };
        expect(&evidence, outcome, rules);
    }
}

#[test]
fn an_objective_that_did_not_improve_rejects() {
    let evidence = with(|evidence| evidence.request.objective = Some(objective(Direction::Increase)));
    expect(&evidence, Outcome::Reject, &[Rule::NoImprovement]);
}

#[test]
fn an_improvement_that_is_not_sure_enough_rejects() {
    let unsure = |p_value| {
        with(|evidence| {
            evidence.request.objective = Some(objective(Direction::Increase));
            evidence.judgement = assessed(vec![Finding { p_value, ..finding(Verdict::Improved) }]);
        })
    };
    expect(&unsure(Some(0.01)), Outcome::Accept, &[]);
    expect(&unsure(None), Outcome::Accept, &[]);
    for p_value in [0.7, f64::NAN, -3.0, 2.0] {
        expect(&unsure(Some(p_value)), Outcome::Reject, &[Rule::NoImprovement]);
    }
}

#[test]
fn an_objective_that_was_not_measured_rejects() {
    let evidence = with(|evidence| {
        evidence.request.objective = Some(objective(Direction::Increase));
        evidence.request.observations.metrics.clear();
        evidence.request.observations.incumbent_metrics.clear();
        evidence.judgement = Judgement::NotAsked;
    });
    expect(&evidence, Outcome::Reject, &[Rule::MetricUnusable]);
}

#[test]
fn an_objective_against_the_metrics_own_direction_is_refused_from_the_first_version_on() {
    let evidence = with(|evidence| {
        evidence.request.objective = Some(objective(Direction::Decrease));
        evidence.judgement = assessed(vec![finding(Verdict::Improved)]);
    });
    expect(&evidence, Outcome::Reject, &[Rule::MetricUnusable]);
    let first = with(|evidence| {
        evidence.request.current_version_id = None;
        evidence.request.objective = Some(objective(Direction::Decrease));
        evidence.request.observations.incumbent_metrics.clear();
        evidence.judgement = Judgement::NotAsked;
    });
    expect(&first, Outcome::Reject, &[Rule::MetricUnusable]);
}
