//! An evaluator that runs a build, a test and a measure command.
#![allow(clippy::unwrap_used, reason = "tests")]

mod command_evaluator {
    mod measuring;
    mod testing;
}
mod common;

use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};

use common::{Folders, PlainSandbox, ScriptedSandbox, outcome};
use evoseal_adapters::{CommandEvaluator, CommandEvaluatorSettings, Launcher};
use evoseal_pipeline::{Evaluation, EvaluationRequest, Evaluator, VersionInPlace};
use evoseal_safety::{EvaluationFault, FaultKind, Subject};
use evoseal_sandbox::{Ending, Sandbox};
use evoseal_types::{ErrorClass, TestReport, TestStatus};

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
