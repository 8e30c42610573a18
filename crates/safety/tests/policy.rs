//! What the standard policy decides, rule by rule.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

mod support;

use evoseal_regression::{DataProblem, Finding, Interval, Verdict};
use evoseal_safety::{
    CheckResult, DecisionPolicy, Evidence, FaultKind, Judgement, MetricCondition, Mode, NamedTest,
    Observations, OnInconclusive, Outcome, PersonsDecision, PersonsVerdict, PolicyThresholds, RetestedTest,
    Rule, SafetyScore, StandardPolicy, Subject,
};
use evoseal_sandbox::ViolationKind;
use evoseal_types::{Direction, Severity, TestReport, TestStatus, Timestamp};
use proptest::prelude::*;
use support::{assessed, case, decide, fault, finding, harmless, objective, samples, violation};

fn with(change: impl FnOnce(&mut Evidence)) -> Evidence {
    let mut evidence = harmless();
    change(&mut evidence);
    evidence
}

/// Each expected outcome with the rules that object.
#[track_caller]
fn expect(evidence: &Evidence, outcome: Outcome, rules: &[Rule]) {
    assert_eq!(decide(evidence), (outcome, rules.to_vec()), "{evidence:#?}");
}

#[test]
fn a_version_that_nobody_objects_to_is_accepted() {
    expect(&harmless(), Outcome::Accept, &[]);
    let decision = StandardPolicy::default().decide(&harmless());
    assert_eq!((decision.decided_by, decision.safety_score.score), (Rule::NoObjection, 1.0));
}

#[test]
fn no_test_results_are_no_passed_tests() {
    let evidence = with(|evidence| evidence.request.observations.test_results.clear());
    expect(&evidence, Outcome::Reject, &[Rule::NoTestResults, Rule::SafetyScore]);
}

#[test]
fn a_test_command_that_ran_no_test_is_not_a_pass() {
    let evidence = with(|evidence| {
        evidence.request.observations.incumbent_test_results.clear();
        evidence.request.observations.test_results = vec![TestReport::from_counts("unit_tests", 0, 0, 0, 3)];
    });
    expect(&evidence, Outcome::Reject, &[Rule::NoTestsRun, Rule::SafetyScore]);
}

#[test]
fn a_test_command_that_was_skipped_is_not_a_pass() {
    let evidence = with(|evidence| {
        let skipped = TestReport { status: TestStatus::Skip, ..TestReport::from_counts("fuzz", 0, 0, 0, 0) };
        evidence.request.observations.test_results.push(skipped);
    });
    expect(&evidence, Outcome::Reject, &[Rule::NoTestsRun]);
}

#[test]
fn a_failed_test_rolls_back_and_is_named() {
    let evidence = with(|evidence| {
        let cases =
            vec![case("a", TestStatus::Pass), case("b", TestStatus::Fail), case("c", TestStatus::Pass)];
        evidence.request.observations.incumbent_test_results.clear();
        evidence.request.observations.test_results = vec![TestReport::from_cases("unit_tests", cases)];
    });
    expect(&evidence, Outcome::RollBack, &[Rule::TestsFailed, Rule::SafetyScore]);
    let decision = StandardPolicy::default().decide(&evidence);
    assert_eq!(decision.reasons[0].message, "unit_tests: 1 of 3 tests failed: b");
}

#[test]
fn an_error_status_rolls_back_even_if_every_test_that_ran_passed() {
    let evidence = with(|evidence| evidence.request.observations.test_results[0].status = TestStatus::Error);
    expect(&evidence, Outcome::RollBack, &[Rule::TestsErrored]);
    let did_not_build = with(|evidence| {
        evidence.request.observations.test_results = vec![TestReport::errored("unit_tests", "did not build")];
    });
    expect(&did_not_build, Outcome::RollBack, &[Rule::TestsErrored, Rule::SafetyScore]);
}

#[test]
fn counts_that_contradict_each_other_are_not_believed() {
    let evidence = with(|evidence| evidence.request.observations.test_results[0].tests_run = 4);
    expect(&evidence, Outcome::Reject, &[Rule::TestReportInvalid, Rule::SafetyScore]);
}

#[test]
fn a_failed_test_by_name_counts_even_if_the_counts_keep_quiet_about_it() {
    let evidence = with(|evidence| {
        evidence.request.observations.test_results[0].cases = vec![case("a", TestStatus::Fail)];
    });
    expect(&evidence, Outcome::Reject, &[Rule::TestReportInvalid]);
}

#[test]
fn counts_near_the_largest_number_do_not_overflow() {
    let evidence = with(|evidence| {
        let many = TestReport::from_counts("unit_tests", u64::MAX, 0, 0, 0);
        evidence.request.observations.test_results = vec![many.clone(), many];
    });
    expect(&evidence, Outcome::Accept, &[]);
}

#[test]
fn a_test_that_passed_before_and_is_gone_or_skipped_is_tampering() {
    let cases = |names: &[&str], status| names.iter().map(|name| case(name, status)).collect::<Vec<_>>();
    let before = TestReport::from_cases("unit_tests", cases(&["a", "b"], TestStatus::Pass));
    let replaced = TestReport::from_cases("unit_tests", cases(&["a", "c", "d"], TestStatus::Pass));
    let mut skipped = cases(&["a", "c"], TestStatus::Pass);
    skipped.push(case("b", TestStatus::Skip));
    for after in [replaced, TestReport::from_cases("unit_tests", skipped)] {
        let evidence = with(|evidence| {
            evidence.request.observations.incumbent_test_results = vec![before.clone()];
            evidence.request.observations.test_results = vec![after];
        });
        expect(&evidence, Outcome::Tampered, &[Rule::TestsMissing]);
    }
}

#[test]
fn fewer_tests_than_before_are_tampering_where_tests_have_no_names() {
    let evidence = with(|evidence| {
        evidence.request.observations.test_results = vec![TestReport::from_counts("unit_tests", 2, 0, 0, 0)];
    });
    expect(&evidence, Outcome::Tampered, &[Rule::TestsMissing]);
}

#[test]
fn two_commands_of_one_type_cannot_shrink_to_one() {
    let report = || TestReport::from_counts("unit_tests", 10, 0, 0, 0);
    let evidence = with(|evidence| {
        evidence.request.observations.incumbent_test_results = vec![report(), report()];
        evidence.request.observations.test_results = vec![report()];
    });
    expect(&evidence, Outcome::Tampered, &[Rule::TestsMissing]);
}

#[test]
fn lost_tests_are_named_in_the_decision_all_of_them_and_renamed_ones_as_lost_and_new() {
    let cases = |names: &[&str]| names.iter().map(|name| case(name, TestStatus::Pass)).collect::<Vec<_>>();
    let evidence = with(|evidence| {
        evidence.request.observations.incumbent_test_results =
            vec![TestReport::from_cases("unit_tests", cases(&["a", "b", "c", "d", "e"]))];
        evidence.request.observations.test_results =
            vec![TestReport::from_cases("unit_tests", cases(&["a", "b2"]))];
    });
    let decision = StandardPolicy::default().decide(&evidence);
    let lost: Vec<&str> = decision.test_changes.lost.iter().map(|test| test.name.as_str()).collect();
    assert_eq!(lost, ["b", "c", "d", "e"]);
    assert_eq!(decision.test_changes.new[0].name, "b2");
    let expected = "tests that passed before no longer run: unit_tests: b, unit_tests: c, unit_tests: d and 1 more; new: b2";
    assert_eq!(decision.summary(), expected);
}

#[test]
fn tests_that_a_failed_run_did_not_come_to_are_no_tampering() {
    let evidence = with(|evidence| {
        let pass = |name| case(name, TestStatus::Pass);
        evidence.request.observations.incumbent_test_results =
            vec![TestReport::from_cases("unit_tests", vec![pass("a"), pass("b")])];
        evidence.request.observations.test_results =
            vec![TestReport::from_cases("unit_tests", vec![case("a", TestStatus::Fail)])];
    });
    expect(&evidence, Outcome::RollBack, &[Rule::TestsFailed, Rule::TestsMissing, Rule::SafetyScore]);
}

#[test]
fn what_was_observed_of_a_tampered_version_does_not_count() {
    let evidence = with(|evidence| {
        evidence.request.observations.violations = vec![violation(ViolationKind::Tampered)];
        evidence.request.objective = Some(objective(Direction::Increase));
        evidence.judgement = assessed(vec![finding(Verdict::Regressed)]);
    });
    expect(&evidence, Outcome::Tampered, &[Rule::Tampered]);
    let decision = StandardPolicy::default().decide(&evidence);
    assert_eq!(decision.improvement_score, None);
    let score = decision.safety_score;
    assert_eq!((score.score, score.penalties.len()), (0.0, 0));
    assert_eq!(score.no_data.as_deref(), Some("the candidate touched what judges it"));
}

#[test]
fn an_edit_out_of_scope_or_too_large_rolls_back() {
    for kind in [ViolationKind::OutOfScope, ViolationKind::TooLarge] {
        let evidence = with(|evidence| evidence.request.observations.violations = vec![violation(kind)]);
        expect(&evidence, Outcome::RollBack, &[Rule::EditNotAllowed]);
    }
}

#[test]
fn an_evaluation_that_crashed_timed_out_did_not_build_or_is_unreadable_rolls_back() {
    for kind in [FaultKind::Failed, FaultKind::TimedOut, FaultKind::Crashed, FaultKind::Unreadable] {
        let evidence =
            with(|evidence| evidence.request.observations.faults = vec![fault(Subject::Candidate, kind)]);
        expect(&evidence, Outcome::RollBack, &[Rule::EvaluationFault]);
    }
}

#[test]
fn an_evaluation_that_could_not_be_run_is_an_error_without_a_score() {
    let evidence = with(|evidence| {
        evidence.request.observations = Observations {
            faults: vec![fault(Subject::Candidate, FaultKind::NotRun)],
            test_results: vec![TestReport::errored("unit_tests", "said so")],
            ..Observations::default()
        };
        evidence.judgement = Judgement::NotAsked;
    });
    expect(&evidence, Outcome::Error, &[Rule::EvaluationFault]);
    let score = StandardPolicy::default().decide(&evidence).safety_score;
    assert_eq!((score.score, score.no_data.as_deref()), (0.0, Some("the evaluation could not be made")));
}

fn said(verdict: PersonsVerdict) -> PersonsDecision {
    let reason = "seen before".to_owned();
    let (version_id, person, at) = (support::version("v1"), "ada".to_owned(), Timestamp::default());
    PersonsDecision { version_id, verdict, person, at, reason }
}

#[test]
fn what_a_person_refused_before_is_refused_again_without_being_looked_at() {
    for (verdict, outcome) in
        [(PersonsVerdict::Reject, Outcome::Reject), (PersonsVerdict::Hold, Outcome::Inconclusive)]
    {
        let evidence = with(|evidence| {
            evidence.request.observations =
                Observations { person: Some(said(verdict)), ..Observations::default() };
            evidence.judgement = Judgement::NotAsked;
        });
        expect(&evidence, outcome, &[Rule::Overridden]);
        assert!(StandardPolicy::default().decide(&evidence).safety_score.no_data.is_some());
    }
}

#[test]
fn an_approval_answers_an_open_question_and_overrules_no_evidence() {
    for on_inconclusive in [OnInconclusive::Hold, OnInconclusive::Ask, OnInconclusive::Reject] {
        let thresholds = PolicyThresholds { on_inconclusive, ..PolicyThresholds::default() };
        let policy = StandardPolicy::new(thresholds).unwrap();
        let decide = |finding: Finding| {
            let evidence = with(|evidence| {
                evidence.request.observations.person = Some(said(PersonsVerdict::Approve));
                evidence.judgement = assessed(vec![finding]);
            });
            let decision = policy.decide(&evidence);
            (decision.outcome, decision.decided_by)
        };
        let open = Finding { interval: None, ..finding(Verdict::Inconclusive) };
        assert_eq!(decide(open), (Outcome::Accept, Rule::Overridden), "{on_inconclusive:?}");
        assert_eq!(decide(finding(Verdict::Regressed)), (Outcome::Reject, Rule::Regression));
        assert_eq!(decide(finding(Verdict::Equivalent)), (Outcome::Accept, Rule::NoObjection));
    }
}

fn failing_check(mode: Mode) -> CheckResult {
    let message = Some("\nline too long\nmore".to_owned());
    CheckResult { name: "lint".to_owned(), mode, passed: false, incumbent_passed: Some(true), message }
}

#[test]
fn a_check_decides_warns_or_is_only_recorded() {
    let decide = |mode| {
        let evidence = with(|evidence| evidence.request.observations.checks = vec![failing_check(mode)]);
        let decision = StandardPolicy::default().decide(&evidence);
        (decision.outcome, decision.reasons[0].clone())
    };
    let (outcome, reason) = decide(Mode::Required);
    assert_eq!((outcome, reason.rule), (Outcome::Reject, Rule::CheckFailed));
    assert_eq!(reason.message, "check lint failed (the accepted version passes it): line too long");
    let (outcome, reason) = decide(Mode::Wanted);
    assert_eq!((outcome, reason.rule, reason.outcome), (Outcome::Accept, Rule::CheckFailed, Outcome::Accept));
    assert!(reason.message.starts_with("wanted check lint failed"), "{}", reason.message);
    let (outcome, reason) = decide(Mode::DryRun);
    assert_eq!((outcome, reason.rule), (Outcome::Accept, Rule::NoObjection));
}

fn conditioned(condition: MetricCondition) -> StandardPolicy {
    let conditions = [(support::spec("latency").name, condition)].into();
    StandardPolicy::default().with_conditions(conditions).unwrap()
}

#[test]
fn a_metric_decides_warns_or_is_only_recorded_and_its_penalty_goes_with_it() {
    let evidence = with(|evidence| evidence.judgement = assessed(vec![finding(Verdict::Regressed)]));
    let decide = |mode| conditioned(MetricCondition { mode, ..MetricCondition::default() }).decide(&evidence);
    let required = decide(Mode::Required);
    assert_eq!((required.outcome, required.safety_score.penalties.len()), (Outcome::Reject, 1));
    let wanted = decide(Mode::Wanted);
    assert_eq!((wanted.outcome, wanted.safety_score.score), (Outcome::Accept, 1.0));
    assert!(wanted.reasons[0].message.starts_with("wanted: latency"), "{:?}", wanted.reasons);
    let dry_run = decide(Mode::DryRun);
    assert_eq!((dry_run.outcome, dry_run.reasons.len()), (Outcome::Accept, 1));
}

#[test]
fn a_limit_of_a_metric_holds_whatever_the_incumbent_is_and_what_was_not_measured_breaks_it() {
    let at = |max: Option<f64>, min: Option<f64>, mode| conditioned(MetricCondition { mode, max, min });
    let decide = |policy: &StandardPolicy, evidence: &Evidence| {
        let decision = policy.decide(evidence);
        (decision.outcome, decision.decided_by)
    };
    let required = Mode::Required;
    // The mean is 10.05.
    assert_eq!(decide(&at(Some(10.05), Some(10.05), required), &harmless()).0, Outcome::Accept);
    for policy in [at(Some(10.04), None, required), at(None, Some(10.06), required)] {
        assert_eq!(decide(&policy, &harmless()), (Outcome::Reject, Rule::MetricLimit));
    }
    assert_eq!(decide(&at(Some(1.0), None, Mode::Wanted), &harmless()).0, Outcome::Accept);
    let unmeasured = with(|evidence| {
        evidence.request.observations.metrics.clear();
        evidence.request.observations.incumbent_metrics.clear();
        evidence.judgement = Judgement::NotAsked;
    });
    assert_eq!(decide(&at(Some(1.0), None, required), &unmeasured), (Outcome::Reject, Rule::MetricLimit));
    for (max, min) in [(f64::NAN, 0.0), (1.0, 2.0), (f64::INFINITY, 0.0)] {
        let condition = MetricCondition { mode: required, max: Some(max), min: Some(min) };
        let conditions = [(support::spec("latency").name, condition)].into();
        let error = StandardPolicy::default().with_conditions(conditions).unwrap_err();
        assert!(error.to_string().contains("metric_conditions.latency"), "{error}");
    }
}

#[test]
fn an_excused_failure_is_named_and_one_that_is_not_still_decides() {
    let retested = |name: &str, incumbent: TestStatus| RetestedTest {
        test: NamedTest { test_type: "unit_tests".to_owned(), name: name.to_owned() },
        known: false,
        candidate: vec![TestStatus::Fail; 2],
        incumbent: vec![TestStatus::Pass, incumbent],
    };
    let evidence = |incumbent_of_b| {
        with(|evidence| {
            let cases = [("a", TestStatus::Fail), ("b", TestStatus::Fail), ("c", TestStatus::Pass)];
            let cases = cases.map(|(name, status)| case(name, status)).to_vec();
            evidence.request.observations.incumbent_test_results.clear();
            evidence.request.observations.test_results = vec![TestReport::from_cases("unit_tests", cases)];
            evidence.request.observations.retests =
                vec![retested("a", TestStatus::Fail), retested("b", incumbent_of_b)];
        })
    };
    let decision = StandardPolicy::default().decide(&evidence(TestStatus::Fail));
    assert_eq!((decision.outcome, decision.safety_score.score), (Outcome::Accept, 1.0));
    assert_eq!(decision.reasons.iter().filter(|reason| reason.rule == Rule::FlakyTests).count(), 2);
    expect(&evidence(TestStatus::Pass), Outcome::RollBack, &[Rule::TestsFailed, Rule::SafetyScore]);
}

#[test]
fn an_error_hides_no_verdict() {
    let evidence = with(|evidence| {
        evidence.request.observations.faults = vec![fault(Subject::Incumbent, FaultKind::Crashed)];
        evidence.request.observations.test_results = vec![TestReport::from_counts("unit_tests", 2, 1, 0, 0)];
        evidence.judgement = Judgement::NotAsked;
    });
    expect(&evidence, Outcome::RollBack, &[Rule::EvaluationFault, Rule::TestsFailed, Rule::SafetyScore]);
}

#[test]
fn what_is_inconclusive_is_rejected_where_that_is_wanted_and_says_which_rule() {
    let evidence = with(|evidence| {
        evidence.judgement = assessed(vec![finding(Verdict::Inconclusive)]);
        if let Judgement::Assessed(assessment) = &mut evidence.judgement {
            assessment.findings[0].interval = None;
        }
    });
    let decide = |on_inconclusive| {
        let thresholds = PolicyThresholds { on_inconclusive, ..PolicyThresholds::default() };
        let decision = StandardPolicy::new(thresholds).unwrap().decide(&evidence);
        (decision.outcome, decision.decided_by)
    };
    assert_eq!(decide(OnInconclusive::Hold), (Outcome::Inconclusive, Rule::Inconclusive));
    assert_eq!(decide(OnInconclusive::Ask), (Outcome::Inconclusive, Rule::Inconclusive));
    assert_eq!(decide(OnInconclusive::Reject), (Outcome::Reject, Rule::Inconclusive));
}

#[test]
fn a_fault_of_the_incumbent_says_nothing_about_the_candidate() {
    let evidence = with(|evidence| {
        evidence.request.observations.faults = vec![fault(Subject::Incumbent, FaultKind::Crashed)];
        evidence.judgement = Judgement::NotAsked;
    });
    expect(&evidence, Outcome::Error, &[Rule::EvaluationFault]);
}

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

#[test]
fn thresholds_that_mean_nothing_are_refused() {
    let bad = [
        PolicyThresholds { minimum_safety_score: f64::NAN, ..PolicyThresholds::default() },
        PolicyThresholds { minimum_safety_score: 1.1, ..PolicyThresholds::default() },
        PolicyThresholds { min_improvement_score: -1.0, ..PolicyThresholds::default() },
        PolicyThresholds {
            rollback_severity: Severity::Low,
            reject_severity: Severity::High,
            ..PolicyThresholds::default()
        },
    ];
    for thresholds in bad {
        assert!(StandardPolicy::new(thresholds).is_err(), "{thresholds:?}");
    }
}

/// Something that speaks against a version.
#[derive(Debug, Clone)]
enum Objection {
    Tampered,
    OutOfScope,
    Fault(FaultKind, Subject),
    NoTests,
    TestFails,
    TestErrs,
    TestsVanish,
    Contradiction,
    DetectorFails,
    Regresses(Severity),
    NotANumber,
    Missing(DataProblem),
}

fn objection() -> impl Strategy<Value = Objection> {
    use FaultKind::{Crashed, Failed, NotRun, TimedOut, Unreadable};
    prop_oneof![
        Just(Objection::Tampered),
        Just(Objection::OutOfScope),
        (
            prop::sample::select(vec![Crashed, Failed, NotRun, TimedOut, Unreadable]),
            prop::sample::select(vec![Subject::Candidate, Subject::Incumbent]),
        )
            .prop_map(|(kind, subject)| Objection::Fault(kind, subject)),
        Just(Objection::NoTests),
        Just(Objection::TestFails),
        Just(Objection::TestErrs),
        Just(Objection::TestsVanish),
        Just(Objection::Contradiction),
        Just(Objection::DetectorFails),
        prop::sample::select(vec![Severity::Low, Severity::Medium, Severity::High, Severity::Critical])
            .prop_map(Objection::Regresses),
        Just(Objection::NotANumber),
        prop::sample::select(vec![
            DataProblem::MissingInCandidate,
            DataProblem::SpecMismatch,
            DataProblem::TooFewSamples,
            DataProblem::NonFiniteInIncumbent,
        ])
        .prop_map(Objection::Missing),
    ]
}

/// Adds an objection to evidence without taking another one away.
fn add(evidence: &mut Evidence, objection: &Objection) {
    let observations = &mut evidence.request.observations;
    let named = |name: &str| Finding { metric: support::spec(name), ..finding(Verdict::Equivalent) };
    match objection {
        Objection::Tampered => observations.violations.push(violation(ViolationKind::Tampered)),
        Objection::OutOfScope => observations.violations.push(violation(ViolationKind::OutOfScope)),
        Objection::Fault(kind, subject) => observations.faults.push(fault(*subject, *kind)),
        Objection::NoTests => {
            let none = TestReport::from_counts("extra_tests", 0, 0, 0, 0);
            observations.test_results.push(none);
        }
        Objection::TestFails => {
            observations.test_results.push(TestReport::from_counts("more_tests", 1, 1, 0, 0));
        }
        Objection::TestErrs => observations.test_results.push(TestReport::errored("build", "broken")),
        Objection::TestsVanish => {
            observations.incumbent_test_results.push(TestReport::from_counts("gone", 1, 0, 0, 0));
        }
        Objection::Contradiction => {
            let mut report = TestReport::from_counts("odd_tests", 1, 0, 0, 0);
            report.tests_run = 7;
            observations.test_results.push(report);
        }
        Objection::DetectorFails => evidence.judgement = Judgement::Failed("broken".to_owned()),
        Objection::Regresses(severity) => {
            let worse = Finding {
                verdict: Verdict::Regressed,
                severity: Some(*severity),
                ..named(&format!("m{}", observations.metrics.len()))
            };
            if let Judgement::Assessed(assessment) = &mut evidence.judgement {
                let mut findings = assessment.findings.clone();
                findings.push(worse);
                evidence.judgement = assessed(findings);
            }
        }
        Objection::NotANumber => observations.metrics.push(samples("odd", &[f64::NAN])),
        Objection::Missing(problem) => {
            if let Judgement::Assessed(assessment) = &mut evidence.judgement {
                let mut findings = assessment.findings.clone();
                let unusable = Finding { problem: Some(*problem), ..finding(Verdict::InsufficientData) };
                findings.push(Finding { metric: support::spec("absent"), ..unusable });
                evidence.judgement = assessed(findings);
            }
        }
    }
}

fn published_score(evidence: &Evidence) -> f64 {
    let reports = &evidence.request.observations.test_results;
    let run: u64 = reports.iter().map(|report| report.tests_run).sum();
    let passed: u64 = reports.iter().map(|report| report.tests_passed).sum();
    let rate = if run == 0 { 0.0 } else { passed as f64 / run as f64 };
    let penalties: f64 = evidence
        .judgement
        .assessment()
        .into_iter()
        .flat_map(evoseal_regression::Assessment::regressions)
        .map(|finding| finding.severity.map_or(0.4, Severity::penalty))
        .sum();
    (rate * (1.0 - penalties).max(0.0)).clamp(0.0, 1.0)
}

proptest! {
    #[test]
    fn evidence_with_any_objection_is_never_accepted(objections in prop::collection::vec(objection(), 1..6)) {
        let evidence = with(|evidence| {
            // A failed detector would swallow later findings, so it comes last.
            let (failing, others): (Vec<_>, Vec<_>) =
                objections.iter().partition(|objection| matches!(objection, Objection::DetectorFails));
            for objection in others.into_iter().chain(failing) {
                add(evidence, objection);
            }
        });
        let decision = StandardPolicy::default().decide(&evidence);
        prop_assert_ne!(decision.outcome, Outcome::Accept, "{:?}", objections);
        prop_assert!(decision.reasons.iter().any(|reason| reason.rule == decision.decided_by));
        prop_assert!(decision.reasons.windows(2).all(|pair| pair[0].rule <= pair[1].rule));
    }

    #[test]
    fn the_same_evidence_gives_the_same_decision_byte_for_byte(
        objections in prop::collection::vec(objection(), 0..6),
    ) {
        let evidence = with(|evidence| objections.iter().for_each(|objection| add(evidence, objection)));
        let json = |evidence: &Evidence| {
            serde_json::to_string(&StandardPolicy::default().decide(evidence)).unwrap()
        };
        let stored = serde_json::to_string(&evidence).unwrap();
        let read_back: Evidence = serde_json::from_str(&stored).unwrap();
        prop_assert_eq!(json(&evidence), json(&evidence));
        prop_assert_eq!(json(&read_back), json(&evidence));
    }

    #[test]
    fn the_score_is_the_published_formula(objections in prop::collection::vec(objection(), 0..8)) {
        let evidence = with(|evidence| objections.iter().for_each(|objection| add(evidence, objection)));
        let SafetyScore { score, no_data, .. } = StandardPolicy::default().decide(&evidence).safety_score;
        prop_assert!((0.0..=1.0).contains(&score));
        if no_data.is_some() {
            prop_assert_eq!(score, 0.0);
            return Ok(());
        }
        // A report that counts more passed tests than it ran is cut to those that ran; none of these does.
        prop_assert!((score - published_score(&evidence)).abs() < 1e-12, "{}", score);
    }

    #[test]
    fn a_further_objection_never_makes_the_outcome_milder(
        objections in prop::collection::vec(objection(), 0..5),
        further in objection(),
    ) {
        // A detector that fails says nothing any more about regressions that it would have found.
        prop_assume!(!matches!(further, Objection::DetectorFails));
        let before = with(|evidence| objections.iter().for_each(|objection| add(evidence, objection)));
        let mut after = before.clone();
        add(&mut after, &further);
        let policy = StandardPolicy::default();
        let (milder, harsher) = (policy.decide(&before), policy.decide(&after));
        // A run that failed may not have come to all tests; that some are missing is then no proof of tampering.
        let harsh_enough = milder.outcome.min(Outcome::RollBack);
        prop_assert!(harsher.outcome >= harsh_enough, "{:?} after {:?}", further, objections);
    }

    #[test]
    fn numbers_survive_being_written_down(value in prop::num::f64::ANY) {
        let metric = samples("latency", &[value]);
        let json = serde_json::to_string(&metric).unwrap();
        let back: evoseal_types::MetricSamples = serde_json::from_str(&json).unwrap();
        let (read, written) = (back.samples[0].value, value);
        prop_assert!(read.to_bits() == written.to_bits() || (read.is_nan() && written.is_nan()), "{}", json);
    }
}
