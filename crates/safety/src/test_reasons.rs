//! What tests and other checks say, as reasons of a decision.

use evoseal_types::{TestReport, TestStatus};

use crate::decision::{Outcome, Reason, Rule};
use crate::evidence::{EvaluationFault, Evidence, Observations, Subject};
use crate::flaky::{Flakiness, is_failure};
use crate::inventory::{NamedTest, TestChanges};
use crate::policy::object;

/// How many tests a sentence names; a decision lists all that were lost beside it.
const TESTS_NAMED_MAX: usize = 3;

/// What the tests say, and which of them were lost.
pub(crate) fn test_reasons(evidence: &Evidence, reasons: &mut Vec<Reason>) -> TestChanges {
    let observations = &evidence.request.observations;
    let reports = &observations.test_results;
    // What could not be run, or was not because a guard objected before, is no verdict of the tests.
    let not_run: Vec<&EvaluationFault> = observations
        .faults
        .iter()
        .filter(|fault| fault.is_environmental() && fault.subject == Subject::Candidate)
        .collect();
    if reports.is_empty() {
        if not_run.is_empty() && observations.violations.is_empty() {
            object(reasons, Rule::NoTestResults, Outcome::Reject, "there are no test results".to_owned());
        }
        return TestChanges::default();
    }
    for report in reports {
        let name = &report.test_type;
        if let Err(error) = report.check() {
            object(reasons, Rule::TestReportInvalid, Outcome::Reject, error.to_string());
        }
        if let Some(problem) = cases_against_counts(report) {
            object(reasons, Rule::TestReportInvalid, Outcome::Reject, format!("{name}: {problem}"));
        }
        if observations.passes(report) && report.status != TestStatus::Pass {
            continue;
        }
        if report.tests_failed > 0 || report.status == TestStatus::Fail {
            let message = failed_tests(report, observations);
            object(reasons, Rule::TestsFailed, Outcome::RollBack, message);
        }
        if stands_for_a_fault(report, &not_run) {
            continue;
        }
        if report.tests_errors > 0 || report.status == TestStatus::Error {
            let why = report.message.as_deref().unwrap_or("an error without a message");
            object(
                reasons,
                Rule::TestsErrored,
                Outcome::RollBack,
                format!("{name} ended in an error: {why}"),
            );
        } else if report.tests_run == 0 || report.status == TestStatus::Skip {
            object(reasons, Rule::NoTestsRun, Outcome::Reject, format!("{name} ran no test"));
        }
    }
    flaky_reasons(observations, reasons);
    let changes = TestChanges::between(&observations.incumbent_test_results, reports);
    if !changes.is_empty() {
        // Many runners stop at the first failure: a run that failed may not have come to the others.
        let complete = reports.iter().all(|report| report.status == TestStatus::Pass);
        let outcome = if complete { Outcome::Tampered } else { Outcome::RollBack };
        let message = format!("tests that passed before no longer run: {}", changes.summary(TESTS_NAMED_MAX));
        object(reasons, Rule::TestsMissing, outcome, message);
    }
    changes
}

/// What the checks say that failed.
pub(crate) fn check_reasons(observations: &Observations, reasons: &mut Vec<Reason>) {
    for check in observations.checks.iter().filter(|check| !check.passed) {
        if let Some(outcome) = check.mode.weigh(Outcome::Reject) {
            object(reasons, Rule::CheckFailed, outcome, check.sentence());
        }
    }
}

/// Which tests failed, those that are not excused first, and where they flip.
fn failed_tests(report: &TestReport, observations: &Observations) -> String {
    let excused = |name: &&str| observations.is_excused(&report.test_type, name);
    let failed: Vec<&str> = names_with(report, TestStatus::Fail).filter(|name| !excused(name)).collect();
    let word = |name: &&str| {
        let retested = observations
            .retests
            .iter()
            .find(|retested| retested.test.test_type == report.test_type && retested.test.name == **name);
        match retested.map(|retested| (retested.flakiness(), retested.known)) {
            Some((Flakiness::OnCandidate, _)) => format!("{name} (flaky on the candidate)"),
            Some((_, true)) => format!("{name} (known to be flaky, but failed every time)"),
            _ => (*name).to_owned(),
        }
    };
    let named: Vec<String> = failed.iter().take(TESTS_NAMED_MAX).map(word).collect();
    let named = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
    format!("{}: {} of {} tests failed{named}", report.test_type, report.tests_failed, report.tests_run)
}

/// Names the tests whose failure was excused: never silently.
fn flaky_reasons(observations: &Observations, reasons: &mut Vec<Reason>) {
    for retested in observations.retests.iter().filter(|retested| retested.is_excused()) {
        let failures = retested.incumbent.iter().filter(|status| is_failure(**status)).count();
        let runs = retested.incumbent.len();
        let why = if failures > 0 {
            format!("failed on the accepted version in {failures} of {runs} runs")
        } else {
            "is known to be flaky on an accepted version and passed when it was run again".to_owned()
        };
        let NamedTest { test_type, name } = &retested.test;
        let message =
            format!("{test_type}: {name} {why}, so that its failure says nothing about the candidate");
        object(reasons, Rule::FlakyTests, Outcome::Accept, message);
    }
}

/// Whether a report only repeats that the tests could not be run.
fn stands_for_a_fault(report: &TestReport, not_run: &[&EvaluationFault]) -> bool {
    let message = report.message.as_deref().unwrap_or_default();
    report.tests_run == 0
        && report.status == TestStatus::Error
        && not_run.iter().any(|fault| !fault.message.is_empty() && message.starts_with(&fault.message))
}

/// Named tests that did not pass and that the counts keep quiet about.
fn cases_against_counts(report: &TestReport) -> Option<String> {
    let named = |status| names_with(report, status).count() as u64;
    let (failed, errors) = (named(TestStatus::Fail), named(TestStatus::Error));
    (failed > report.tests_failed || errors > report.tests_errors).then(|| {
        format!(
            "it names {failed} failed tests and {errors} with errors, and counts {} and {}",
            report.tests_failed, report.tests_errors
        )
    })
}

/// The names of a report's tests with a status.
fn names_with(report: &TestReport, status: TestStatus) -> impl Iterator<Item = &str> {
    report.cases.iter().filter(move |case| case.status == status).map(|case| case.name.as_str())
}
