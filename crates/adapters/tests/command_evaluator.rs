//! An evaluator that runs a build, a test and a measure command.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};

use common::{Folders, PlainSandbox, ScriptedSandbox, outcome};
use evoseal_adapters::{CommandEvaluator, CommandEvaluatorSettings, Launcher};
use evoseal_pipeline::{Evaluation, EvaluationRequest, Evaluator, VersionInPlace};
use evoseal_safety::{EvaluationFault, FaultKind, Subject};
use evoseal_sandbox::{Ending, Sandbox};
use evoseal_types::{Direction, ErrorClass, TestReport, TestStatus};

fn folders() -> Folders {
    Folders::new(&["old", "new", "run"])
}

fn request(folders: &Folders, incumbent: bool) -> EvaluationRequest {
    let version =
        |name: &str| VersionInPlace { version_id: name.parse().unwrap(), directory: folders.path(name) };
    EvaluationRequest {
        tolerated: Vec::new(),
        candidate: version("new"),
        incumbent: incumbent.then(|| version("old")),
        iteration: 9,
        run_directory: folders.path("run"),
    }
}

fn evaluator(settings: &str, sandbox: Arc<dyn Sandbox>) -> CommandEvaluator {
    let settings: CommandEvaluatorSettings = toml::from_str(settings).unwrap();
    CommandEvaluator::new(settings, Launcher::new(sandbox)).unwrap()
}

async fn evaluate(folders: &Folders, settings: &str) -> Evaluation {
    let evaluator = evaluator(settings, Arc::new(PlainSandbox::default()));
    evaluator.evaluate(&request(folders, true)).await.unwrap()
}

fn fault(evaluation: &Evaluation) -> (FaultKind, &str, Subject, &str) {
    match evaluation.faults.as_slice() {
        [EvaluationFault { kind, stage, subject, message }] => (*kind, stage, *subject, message),
        faults => panic!("there is one fault: {faults:?}"),
    }
}

fn report(evaluation: &Evaluation) -> &TestReport {
    match evaluation.test_results.as_slice() {
        [report] => report,
        reports => panic!("there is one report: {reports:?}"),
    }
}

/// Settings whose tests pass, with this measure step and metric `t`.
fn measuring(measure: &str) -> String {
    format!(
        "metrics = {{ t = {{ unit = 'ms', direction = 'increase' }} }}\n\
         [test]\ncommand = 'true'\nformat = 'exit_code'\n[measure]\n{measure}\n"
    )
}

/// The report of a test command with this format.
async fn tested(folders: &Folders, format: &str, command: &str) -> Evaluation {
    evaluate(folders, &format!("[test]\ncommand = '''{command}'''\nformat = {format}\n")).await
}

#[tokio::test]
async fn both_versions_are_measured_in_turns_that_alternate() {
    let folders = folders();
    let settings = measuring(
        "command = 'echo $EVOSEAL_ROLE >> ../log; echo METRIC t=$(cat value) ms'\nrounds = 4\nwarmup = 1",
    );
    folders.write("old/value", "2.5");
    folders.write("new/value", "1.5");
    let evaluation = evaluate(&folders, &settings).await;
    assert_eq!(evaluation.faults, []);
    assert!(evaluation.paired);
    let [candidate] = evaluation.metrics.as_slice() else { panic!("one metric") };
    let [incumbent] = evaluation.incumbent_metrics.as_slice() else { panic!("one metric") };
    assert_eq!((candidate.by_start(), incumbent.by_start()), (vec![vec![1.5]; 4], vec![vec![2.5]; 4]));
    assert_eq!((candidate.spec.unit.as_str(), candidate.spec.direction), ("ms", Direction::Increase));
    let (a, b) = ("incumbent", "candidate");
    let turns = [a, b, b, a, a, b, b, a, a, b];
    assert_eq!(folders.read("log").lines().collect::<Vec<_>>(), turns);
}

#[tokio::test]
async fn both_versions_can_be_measured_again_without_being_tested() {
    let folders = folders();
    let settings = measuring(
        "command = 'echo $EVOSEAL_ROLE >> ../log; echo METRIC t=$(cat value) ms'\nrounds = 4\nwarmup = 0",
    );
    folders.write("old/value", "2.5");
    folders.write("new/value", "1.5");
    let evaluator = evaluator(&settings, Arc::new(PlainSandbox::default()));
    let again =
        evaluator.measure_again(&request(&folders, true), 3).await.unwrap().expect("there is an incumbent");
    assert_eq!((again.faults.as_slice(), again.test_results.len()), (&[][..], 0));
    assert!(again.paired && again.can_measure_again);
    assert_eq!(again.metrics[0].by_start(), vec![vec![1.5]; 3]);
    assert_eq!(again.incumbent_metrics[0].by_start(), vec![vec![2.5]; 3]);
    assert_eq!(folders.read("log").lines().count(), 6);
    assert_eq!(evaluator.measure_again(&request(&folders, false), 3).await.unwrap(), None);
}

#[tokio::test]
async fn several_values_of_a_start_are_its_iterations_and_not_paired() {
    let settings = measuring("command = 'echo METRIC t=1; echo METRIC t=2'\nrounds = 2\nwarmup = 0");
    let evaluation = evaluate(&folders(), &settings).await;
    assert_eq!(evaluation.metrics[0].by_start(), [[1.0, 2.0], [1.0, 2.0]]);
    assert_eq!((evaluation.paired, evaluation.faults.len()), (false, 0));
}

#[tokio::test]
async fn the_first_version_is_measured_by_itself() {
    let settings = measuring("command = 'echo METRIC t=1'\nrounds = 3");
    let evaluator = evaluator(&settings, Arc::new(PlainSandbox::default()));
    let evaluation = evaluator.evaluate(&request(&folders(), false)).await.unwrap();
    assert_eq!((evaluation.metrics[0].values(), evaluation.incumbent_metrics.len()), (vec![1.0; 3], 0));
    assert!(!evaluation.paired);
}

#[tokio::test]
async fn commands_are_told_whom_they_run_for() {
    let folders = folders();
    let settings = measuring(
        "command = 'echo $EVOSEAL_ROLE $EVOSEAL_VERSION $EVOSEAL_ITERATION > told; \
         test $EVOSEAL_SUBJECT_DIR -ef . && ls $EVOSEAL_RUN_DIR > seen && touch $EVOSEAL_RUN_DIR/mark; echo METRIC t=1'\n\
         rounds = 1\nwarmup = 0",
    );
    for _ in 0..2 {
        assert_eq!(evaluate(&folders, &settings).await.faults, []);
        assert_eq!(folders.read("new/told"), "candidate new 9\n");
        assert_eq!(folders.read("old/told"), "incumbent old 9\n");
        // Neither the other version nor the evaluation before left anything there.
        assert_eq!((folders.read("new/seen"), folders.read("old/seen")), (String::new(), String::new()));
    }
}

#[tokio::test]
async fn a_command_may_write_to_its_own_version_only() {
    let folders = folders();
    let sandbox = Arc::new(PlainSandbox::default());
    let evaluator = evaluator(
        &measuring("command = 'echo METRIC t=1'\nrounds = 1\nwarmup = 0"),
        Arc::<PlainSandbox>::clone(&sandbox),
    );
    evaluator.evaluate(&request(&folders, true)).await.unwrap();
    let started = sandbox.started.lock().unwrap();
    let writable: Vec<_> = started.iter().map(|command| command.writable.clone()).collect();
    let new = vec![folders.path("new"), folders.path("run/evaluation/candidate")];
    let old = vec![folders.path("old"), folders.path("run/evaluation/incumbent")];
    assert_eq!(writable, [new.clone(), old, new]);
    assert!(started.iter().all(|command| !command.network));
}

#[tokio::test]
async fn times_of_the_sandbox_are_metrics_that_no_program_can_print() {
    let sandbox =
        ScriptedSandbox::new(|_| Ok(outcome(Ending::Exited(0), "METRIC wall_time_sec=0.001\n", "")));
    let settings = "[test]\ncommand = 'true'\nformat = 'exit_code'\n[measure]\ncommand = 'x'\nrounds = 2\n\
                    measure_time = ['wall', 'cpu']\nformat = ";
    let run = |format: &'static str| {
        let evaluator = evaluator(&format!("{settings}'{format}'"), Arc::<ScriptedSandbox>::clone(&sandbox));
        async move { evaluator.evaluate(&request(&folders(), true)).await.unwrap() }
    };
    let evaluation = run("none").await;
    let measured: Vec<_> = evaluation
        .metrics
        .iter()
        .map(|metric| (metric.spec.name.as_str(), metric.spec.unit.as_str(), metric.values()))
        .collect();
    assert_eq!(measured, [("cpu_time_sec", "s", vec![0.5; 2]), ("wall_time_sec", "s", vec![1.0; 2])]);
    assert!(evaluation.paired);
    let evaluation = run("lines").await;
    assert!(fault(&evaluation).3.contains("wall_time_sec is not declared"), "{:?}", evaluation.faults);
}

#[tokio::test]
async fn what_is_printed_must_be_what_is_declared() {
    for (printed, expected) in [
        ("echo nothing", "metric t is declared and was not printed"),
        ("echo METRIC t=1; echo METRIC u=1", "metric u is not declared"),
        ("echo METRIC t=1 s", "metric t has unit \"s\" here and \"ms\" elsewhere"),
        ("echo METRIC t=fast", "\"fast\" of metric t is not a number"),
        ("echo METRIC t", "is not of the form METRIC name=value unit (line 1)"),
    ] {
        let evaluation = evaluate(&folders(), &measuring(&format!("command = '{printed}'"))).await;
        let (kind, stage, subject, message) = fault(&evaluation);
        assert_eq!((kind, stage, subject), (FaultKind::Unreadable, "measure", Subject::Incumbent));
        assert!(message.contains(expected), "{message}");
        assert_eq!((evaluation.metrics.len(), evaluation.paired), (0, false));
    }
}

#[tokio::test]
async fn a_smuggled_value_is_one_too_many() {
    let folders = folders();
    folders.write("old/values", "METRIC t=5\n");
    folders.write("new/values", "METRIC t=5\nMETRIC t=0.001\n");
    let settings = measuring("command = 'cat values'\nvalues_per_start = 1\nwarmup = 0");
    let evaluation = evaluate(&folders, &settings).await;
    let (kind, _, subject, message) = fault(&evaluation);
    assert_eq!((kind, subject), (FaultKind::Unreadable, Subject::Candidate));
    assert_eq!(message, "metric t has 2 values in one start, not 1");
}

#[tokio::test]
async fn values_that_are_no_numbers_are_kept_for_the_judge() {
    let evaluation = evaluate(&folders(), &measuring("command = 'echo METRIC t=NaN'\nrounds = 1")).await;
    assert_eq!(evaluation.faults, []);
    assert!(evaluation.metrics[0].samples[0].value.is_nan());
}

#[tokio::test]
async fn metrics_are_read_from_json_too() {
    let settings =
        measuring("command = '''echo '{\"metrics\": {\"t\": [1, 2]}}' '''\nformat = 'json'\nrounds = 1");
    let evaluation = evaluate(&folders(), &settings).await;
    assert_eq!(evaluation.faults, []);
    assert_eq!(evaluation.metrics[0].values(), [1.0, 2.0]);
}

#[tokio::test]
async fn a_failed_build_ends_the_evaluation() {
    let folders = folders();
    let settings = "[build]\ncommand = 'echo no such crate >&2; exit 101'\n\
                    [test]\ncommand = 'touch ran'\nformat = 'exit_code'\n";
    let evaluation = evaluate(&folders, settings).await;
    let (kind, stage, subject, message) = fault(&evaluation);
    assert_eq!((kind, stage, subject), (FaultKind::Failed, "build", Subject::Candidate));
    assert!(message.contains("exited with code 101: no such crate"), "{message}");
    assert!(evaluation.test_results.is_empty() && !folders.path("new/ran").exists());
}

#[tokio::test]
async fn an_incumbent_that_does_not_build_is_named_as_such_and_nothing_is_measured() {
    let folders = folders();
    folders.write("new/good", "");
    let settings = format!("{}[build]\ncommand = 'test -e good'\n", measuring("command = 'echo METRIC t=1'"));
    let evaluation = evaluate(&folders, &settings).await;
    let (kind, stage, subject, _) = fault(&evaluation);
    assert_eq!((kind, stage, subject), (FaultKind::Failed, "build", Subject::Incumbent));
    assert_eq!((report(&evaluation).status, evaluation.metrics.len()), (TestStatus::Pass, 0));
}

#[tokio::test]
async fn a_failed_test_skips_the_measurement() {
    let folders = folders();
    let settings = "metrics = { t = { direction = 'increase' } }\n[test]\ncommand = 'echo broken; exit 1'\n\
                    format = 'exit_code'\n[measure]\ncommand = 'touch ran; echo METRIC t=1'\n";
    let evaluation = evaluate(&folders, settings).await;
    assert_eq!((report(&evaluation).status, report(&evaluation).tests_failed), (TestStatus::Fail, 1));
    let message = report(&evaluation).cases[0].message.as_deref().unwrap();
    assert!(message.ends_with("exited with code 1: broken"), "{message}");
    assert!(evaluation.metrics.is_empty() && !folders.path("new/ran").exists());
}

#[tokio::test]
async fn every_way_to_end_badly_has_its_kind() {
    for (command, limits, kind, expected) in [
        ("exit 7", "", FaultKind::Failed, "exited with code 7"),
        ("kill -11 $$", "", FaultKind::Crashed, "was ended by signal 11"),
        ("exec sleep 30", "limits = { wall_time_sec = 1 }", FaultKind::TimedOut, "(limit 1 s)"),
        ("seq 1000", "limits = { output_bytes = 100 }", FaultKind::Unreadable, "raise `limits.output_bytes`"),
    ] {
        let evaluation = evaluate(&folders(), &measuring(&format!("command = '{command}'\n{limits}"))).await;
        let found = fault(&evaluation);
        assert_eq!((found.0, found.1), (kind, "measure"), "{command}");
        assert!(found.3.contains(expected), "{command}: {}", found.3);
    }
}

#[tokio::test]
async fn a_measurement_that_breaks_off_keeps_what_was_measured() {
    let folders = folders();
    let settings =
        measuring("command = 'echo x >> count; test $(wc -l < count) -lt 4 && echo METRIC t=1'\nwarmup = 0");
    let evaluation = evaluate(&folders, &settings).await;
    assert_eq!(fault(&evaluation).0, FaultKind::Failed);
    // The fourth round begins with the candidate, which fails there.
    assert_eq!(fault(&evaluation).2, Subject::Candidate);
    assert_eq!(evaluation.metrics[0].values().len(), 3);
    assert_eq!(evaluation.incumbent_metrics[0].values().len(), 3);
    assert!(!evaluation.paired);
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
async fn a_working_directory_is_below_the_version_and_behind_no_link() {
    let folders = folders();
    std::fs::create_dir(folders.path("new/sub")).unwrap();
    symlink(folders.path("old"), folders.path("new/link")).unwrap();
    let settings = |directory: &str| {
        format!("[test]\ncommand = 'touch here'\nformat = 'exit_code'\nworking_directory = '{directory}'\n")
    };
    assert_eq!(evaluate(&folders, &settings("sub")).await.faults, []);
    assert!(folders.path("new/sub/here").exists());
    let evaluation = evaluate(&folders, &settings("link")).await;
    assert_eq!(fault(&evaluation).0, FaultKind::NotRun);
    assert!(!folders.path("old/here").exists());
    assert!(toml::from_str::<CommandEvaluatorSettings>(&settings("../old")).is_err());
}

#[tokio::test]
async fn a_sandbox_that_refuses_or_is_cancelled_is_an_error_of_the_evaluation() {
    let settings = "[test]\ncommand = 'true'\nformat = 'exit_code'\n";
    let refusing = ScriptedSandbox::new(|_| Err(evoseal_sandbox::Error::NotEnforced { missing: Vec::new() }));
    let error = evaluator(settings, refusing).evaluate(&request(&folders(), false)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unsupported);
    let cancelled = ScriptedSandbox::new(|_| Ok(outcome(Ending::Cancelled, "", "")));
    let error = evaluator(settings, cancelled).evaluate(&request(&folders(), false)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient);
}

#[tokio::test]
async fn a_link_in_the_run_folder_does_not_empty_another_folder() {
    let folders = folders();
    std::fs::create_dir_all(folders.path("precious/candidate")).unwrap();
    folders.write("precious/candidate/work", "mine");
    symlink(folders.path("precious"), folders.path("run/evaluation")).unwrap();
    let evaluator =
        evaluator("[test]\ncommand = 'true'\nformat = 'exit_code'\n", Arc::new(PlainSandbox::default()));
    let error = evaluator.evaluate(&request(&folders, false)).await.unwrap_err();
    assert!(error.to_string().contains("symlink"), "{error}");
    assert_eq!(folders.read("precious/candidate/work"), "mine");
}

#[tokio::test]
async fn the_environment_of_a_step_adds_to_the_common_one_and_ours_wins() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let sandbox = ScriptedSandbox::new(move |command| {
        record.lock().unwrap().push(command.environment.clone());
        Ok(outcome(Ending::Exited(0), "", ""))
    });
    let settings: CommandEvaluatorSettings =
        toml::from_str("[test]\ncommand = 'true'\nformat = 'exit_code'\nenvironment = { A = 'step' }\n")
            .unwrap();
    let common = [("A", "common"), ("B", "common"), ("EVOSEAL_ROLE", "fake")];
    let launcher = Launcher::new(sandbox)
        .with_environment(common.map(|(name, value)| (name.into(), value.into())).into());
    let evaluator = CommandEvaluator::new(settings, launcher).unwrap();
    evaluator.evaluate(&request(&folders(), false)).await.unwrap();
    let seen = seen.lock().unwrap();
    let value = |name: &str| seen[0].get(std::ffi::OsStr::new(name)).map(|value| value.to_string_lossy());
    assert_eq!(value("A").as_deref(), Some("step"));
    assert_eq!(value("B").as_deref(), Some("common"));
    assert_eq!(value("EVOSEAL_ROLE").as_deref(), Some("candidate"));
    assert_eq!(value("PATH"), None);
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let test = "[test]\ncommand = 'true'\nformat = 'exit_code'\n";
    let metric = "metrics = { t = { direction = 'increase' } }\n";
    for (settings, expected) in [
        (format!("{metric}{test}"), "no `measure` step"),
        (format!("{test}[measure]\ncommand = 'x'\n"), "nothing to measure"),
        (format!("{metric}{test}[measure]\ncommand = 'x'\nrounds = 0\n"), "measure.rounds"),
        (format!("{metric}{test}[measure]\ncommand = 'x'\nrounds = 10001\n"), "measure.rounds"),
        (format!("{metric}{test}[measure]\ncommand = 'x'\nwarmup = 4000000000\n"), "measure.warmup"),
        (format!("{metric}{test}[measure]\ncommand = 'x'\nvalues_per_start = 0\n"), "values_per_start"),
        (format!("{metric}{test}[measure]\ncommand = 'x'\nformat = 'none'\n"), "measure.format"),
        (format!("{test}[measure]\ncommand = 'x'\nmeasure_time = ['cpu', 'cpu']\n"), "measure_time"),
        (
            format!(
                "metrics = {{ cpu_time_sec = {{ direction = 'increase' }} }}\n{test}[measure]\ncommand = 'x'\n"
            ),
            "sandbox's own clock",
        ),
        (format!("{test}test_type = ' '\n"), "test_type"),
        (format!("{test}environment = {{ EVOSEAL_ROLE = 'incumbent' }}\n"), "EVOSEAL_"),
    ] {
        let parsed = toml::from_str::<CommandEvaluatorSettings>(&settings).unwrap();
        let sandbox = Arc::new(PlainSandbox::default());
        let error = CommandEvaluator::new(parsed, Launcher::new(sandbox)).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Invalid);
        assert!(error.to_string().contains(expected), "{settings}: {error}");
    }
    for settings in ["", "[test]\ncommand = 'true'\n", "[test]\ncommand = 'x'\nformat = 'tap'\n"] {
        assert!(toml::from_str::<CommandEvaluatorSettings>(settings).is_err(), "{settings}");
    }
}

#[test]
fn settings_survive_being_written() {
    let settings = "[build]\ncommand = ['make']\n[test]\ncommand = 'make check'\nformat = { junit = { report = 'r.xml' } }\n\
                    [measure]\ncommand = './bench'\nmeasure_time = ['wall']\n\
                    [metrics.t]\nunit = 'ms'\ndirection = 'increase'\n";
    let settings: CommandEvaluatorSettings = toml::from_str(settings).unwrap();
    let written = toml::to_string(&settings).unwrap();
    assert_eq!(toml::from_str::<CommandEvaluatorSettings>(&written).unwrap(), settings);
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
