//! What the standard policy decides, rule by rule: tests, edits, persons, checks and what could not be made.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

mod support;

use evoseal_regression::{Finding, Verdict};
use evoseal_safety::{
    CheckResult, DecisionPolicy, Evidence, FaultKind, Judgement, MetricCondition, Mode, NamedTest,
    Observations, OnInconclusive, Outcome, PersonsDecision, PersonsVerdict, PolicyThresholds, RetestedTest,
    Rule, StandardPolicy, Subject,
};
use evoseal_sandbox::ViolationKind;
use evoseal_types::{Direction, Severity, TestReport, TestStatus, Timestamp};
use support::{assessed, case, expect, fault, finding, harmless, objective, violation, with};

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
