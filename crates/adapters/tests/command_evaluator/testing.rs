//! The test step and the checks: what becomes a report, what is run again, and what is a fault.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use evoseal_adapters::{CommandEvaluator, CommandEvaluatorSettings, Launcher};
use evoseal_pipeline::{Evaluation, EvaluationRequest, Evaluator};
use evoseal_safety::{FaultKind, Subject};
use evoseal_types::TestStatus;

use crate::common::{Folders, PlainSandbox};
use crate::{evaluate, evaluator, fault, folders, measuring, report, request};

/// The report of a test command with this format.
async fn tested(folders: &Folders, format: &str, command: &str) -> Evaluation {
    evaluate(folders, &format!("[test]\ncommand = '''{command}'''\nformat = {format}\n")).await
}

#[tokio::test]
async fn a_test_command_that_hangs_or_crashes_is_an_error_and_a_fault() {
    let settings = "[test]\ncommand = ['sleep', '30']\nlimits = { wall_time_sec = 1 }\nformat = 'libtest'\n";
    for (settings, kind) in [
        (settings, FaultKind::TimedOut),
        ("[test]\ncommand = 'kill -9 $$'\nformat = 'exit_code'\n", FaultKind::Crashed),
        ("[test]\ncommand = ['no-such-runner']\nformat = 'exit_code'\n", FaultKind::NotRun),
    ] {
        let evaluation = evaluate(&folders(), settings).await;
        assert_eq!((fault(&evaluation).0, fault(&evaluation).1), (kind, "test"));
        assert_eq!((report(&evaluation).status, report(&evaluation).tests_run), (TestStatus::Error, 0));
    }
}

const LIBTEST_OK: &str = "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; \
                          0 filtered out; finished in 0.00s\n";

#[tokio::test]
async fn cargo_test_output_becomes_a_report_with_what_it_used() {
    let folders = folders();
    folders.write("new/output", LIBTEST_OK);
    let evaluation = tested(&folders, "'libtest'", "cat output").await;
    let report = report(&evaluation);
    assert_eq!((report.status, report.tests_run, report.cases[0].name.as_str()), (TestStatus::Pass, 1, "a"));
    assert_eq!((report.duration_sec, report.resources.memory_mb), (1.0, Some(3.0)));
    assert_eq!(report.resources.cpu_percent, Some(50.0));
}

#[tokio::test]
async fn a_test_command_that_fails_without_a_failed_test_is_an_error() {
    let folders = folders();
    folders.write("new/output", LIBTEST_OK);
    let evaluation = tested(&folders, "'libtest'", "cat output; echo link failed >&2; exit 101").await;
    let found = report(&evaluation);
    assert_eq!((found.status, found.tests_passed, found.tests_run), (TestStatus::Error, 1, 1));
    let message = found.message.as_deref().unwrap();
    assert!(message.starts_with("no test failed, but") && message.ends_with("link failed"), "{message}");
    let evaluation = tested(&folders, "'libtest'", "echo error: could not compile >&2; exit 101").await;
    let found = report(&evaluation);
    assert_eq!((found.status, found.tests_run), (TestStatus::Error, 0));
    assert!(found.message.as_deref().unwrap().contains("could not compile"));
}

#[tokio::test]
async fn leaving_before_the_tests_with_code_0_does_not_pass() {
    // The harness announced its tests, then the code under test ended the process.
    let evaluation = tested(&folders(), "'libtest'", "echo running 3 tests; exit 0").await;
    assert_eq!(
        (fault(&evaluation).0, report(&evaluation).status),
        (FaultKind::Unreadable, TestStatus::Error)
    );
    // It ended the process before the harness began: no tests ran, and the report says so.
    let evaluation = tested(&folders(), "'libtest'", "exit 0").await;
    assert_eq!((report(&evaluation).tests_run, evaluation.faults.len()), (0, 0));
    for format in ["'json'", "{ junit = { report = 'r.xml' } }"] {
        let evaluation = tested(&folders(), format, "exit 0").await;
        assert_eq!(
            (fault(&evaluation).0, report(&evaluation).status),
            (FaultKind::Unreadable, TestStatus::Error)
        );
    }
}

const JUNIT: &str = "{ junit = { report = 'out/report.xml' } }";

#[tokio::test]
async fn a_junit_report_is_read_and_an_older_one_is_not() {
    let folders = folders();
    std::fs::create_dir(folders.path("new/out")).unwrap();
    let write = "echo \"<testsuite tests=\\\"1\\\"><testcase name=\\\"a\\\"/></testsuite>\" > out/report.xml";
    let evaluation = tested(&folders, JUNIT, write).await;
    assert_eq!(evaluation.faults, []);
    assert_eq!((report(&evaluation).status, report(&evaluation).tests_run), (TestStatus::Pass, 1));
    // The report of the run before still lies there, and the command writes none.
    let evaluation = tested(&folders, JUNIT, "true").await;
    assert!(fault(&evaluation).3.contains("out/report.xml was not written"), "{:?}", evaluation.faults);
}

#[tokio::test]
async fn a_junit_report_that_is_a_link_is_refused() {
    let folders = folders();
    folders.write("run/good.xml", "<testsuite><testcase name='a'/></testsuite>");
    std::fs::create_dir(folders.path("new/out")).unwrap();
    let link = format!("ln -s '{}' out/report.xml", folders.path("run/good.xml").display());
    let evaluation = tested(&folders, JUNIT, &link).await;
    let (kind, _, _, message) = fault(&evaluation);
    assert_eq!(kind, FaultKind::Unreadable);
    assert!(message.contains("leads through a symlink"), "{message}");
    // A link in the way is found before the command starts, and nothing behind it is removed.
    std::fs::remove_dir_all(folders.path("new/out")).unwrap();
    folders.write("run/report.xml", "precious");
    symlink(folders.path("run"), folders.path("new/out")).unwrap();
    assert_eq!(fault(&tested(&folders, JUNIT, "true").await).0, FaultKind::NotRun);
    assert_eq!(folders.read("run/report.xml"), "precious");
}

#[tokio::test]
async fn json_results_become_a_report_of_the_configured_type() {
    let folders = folders();
    folders
        .write("new/results", r#"{"tests": {"cases": [{"name": "a", "status": "fail", "message": "no"}]}}"#);
    let settings = "[test]\ncommand = ['cat', 'results']\nformat = 'json'\ntest_type = 'round_trip'\n";
    let evaluation = evaluate(&folders, settings).await;
    let found = report(&evaluation);
    assert_eq!((found.test_type.as_str(), found.status), ("round_trip", TestStatus::Fail));
    assert_eq!(found.cases[0].message.as_deref(), Some("no"));
}

#[tokio::test]
async fn failed_tests_are_run_again_on_both_versions_as_often_as_the_settings_say() {
    let folders = folders();
    folders.write("new/state", "broken");
    folders.write("old/state", "whole");
    let settings = "build = { command = 'touch built' }\n[test]\nformat = 'exit_code'\n\
                    command = 'test -e built && grep -q whole state'\nretries = 1\n";
    let evaluator = evaluator(settings, Arc::new(PlainSandbox::default()));
    let request = request(&folders, true);
    let status = async |subject, attempt| {
        let reports = evaluator.retest(&request, subject, attempt).await.unwrap()?;
        Some(reports[0].status)
    };
    // The incumbent was not built before: nothing was measured.
    assert_eq!(status(Subject::Incumbent, 1).await, Some(TestStatus::Pass));
    assert_eq!(status(Subject::Candidate, 1).await, Some(TestStatus::Fail));
    assert_eq!(status(Subject::Candidate, 2).await, None, "it was tried often enough");
    let alone = EvaluationRequest { incumbent: None, ..request.clone() };
    assert_eq!(evaluator.retest(&alone, Subject::Incumbent, 1).await.unwrap(), None);
}

#[tokio::test]
async fn a_tolerated_failure_does_not_keep_the_candidate_from_being_measured_and_is_reported() {
    let folders = folders();
    let settings = measuring("command = 'echo METRIC t=1 ms'\nrounds = 2").replace("'true'", "'false'");
    let evaluator = evaluator(&settings, Arc::new(PlainSandbox::default()));
    let test = evoseal_safety::NamedTest { test_type: "tests".to_owned(), name: "false".to_owned() };
    let strict = request(&folders, true);
    let tolerant = EvaluationRequest { tolerated: vec![test], ..strict.clone() };
    for (request, samples) in [(&strict, 0), (&tolerant, 2)] {
        let evaluation = evaluator.evaluate(request).await.unwrap();
        assert_eq!(report(&evaluation).status, TestStatus::Fail);
        assert_eq!(evaluation.metrics.iter().map(|metric| metric.samples.len()).sum::<usize>(), samples);
    }
}

#[test]
fn more_retries_than_anyone_waits_for_are_refused() {
    let settings = "[test]\ncommand = 'true'\nformat = 'exit_code'\nretries = 21\n";
    let settings: CommandEvaluatorSettings = toml::from_str(settings).unwrap();
    let error =
        CommandEvaluator::new(settings, Launcher::new(Arc::new(PlainSandbox::default()))).unwrap_err();
    assert!(error.to_string().contains("`test.retries`"), "{error}");
}

#[tokio::test]
async fn a_check_that_fails_is_run_on_the_incumbent_too_and_stops_the_measurement_only_if_it_decides() {
    let folders = folders();
    folders.write("old/tidy", "");
    for (mode, samples) in [("required", 0), ("wanted", 2), ("dry_run", 2)] {
        let measured = measuring("command = 'echo METRIC t=1 ms'\nrounds = 2");
        let checks = format!(
            "[[checks]]\nname = 'always'\ncommand = 'true'\n\
             [[checks]]\nname = 'tidy'\nmode = '{mode}'\ncommand = 'test -e tidy || {{ echo untidy; false; }}'\n"
        );
        let evaluation = evaluate(&folders, &format!("{measured}{checks}")).await;
        let results: Vec<(&str, bool, Option<bool>)> = evaluation
            .checks
            .iter()
            .map(|check| (check.name.as_str(), check.passed, check.incumbent_passed))
            .collect();
        assert_eq!(results, [("always", true, None), ("tidy", false, Some(true))], "{mode}");
        assert!(evaluation.checks[1].message.as_ref().unwrap().contains("untidy"));
        assert_eq!(evaluation.metrics.iter().map(|metric| metric.samples.len()).sum::<usize>(), samples);
        assert_eq!(evaluation.faults, []);
    }
}

#[tokio::test]
async fn a_check_that_decides_and_cannot_be_run_is_a_fault_and_no_verdict() {
    let folders = folders();
    let check = |mode: &str| {
        format!(
            "[test]\ncommand = 'true'\nformat = 'exit_code'\n\
             [[checks]]\nname = 'lint'\nmode = '{mode}'\ncommand = ['no-such-linter']\n"
        )
    };
    let evaluation = evaluate(&folders, &check("required")).await;
    let (kind, stage, subject, _) = fault(&evaluation);
    assert_eq!((kind, stage, subject), (FaultKind::NotRun, "check", Subject::Candidate));
    assert_eq!(evaluation.checks, []);
    let evaluation = evaluate(&folders, &check("wanted")).await;
    assert_eq!((evaluation.faults.len(), evaluation.checks[0].passed), (0, false));
}

#[test]
fn checks_without_a_name_or_with_the_same_are_refused() {
    for checks in [
        "[[checks]]\nname = ' '\ncommand = 'true'\n",
        "[[checks]]\nname = 'a'\ncommand = 'true'\n[[checks]]\nname = 'a'\ncommand = 'false'\n",
    ] {
        let settings = format!("[test]\ncommand = 'true'\nformat = 'exit_code'\n{checks}");
        let settings: CommandEvaluatorSettings = toml::from_str(&settings).unwrap();
        let launcher = Launcher::new(Arc::new(PlainSandbox::default()));
        let error = CommandEvaluator::new(settings, launcher).unwrap_err();
        assert!(error.to_string().contains("`checks`"), "{error}");
    }
}
