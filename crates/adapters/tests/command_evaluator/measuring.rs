//! The measure step: whose turn it is, and what of its output is taken for a value.

use std::sync::Arc;

use evoseal_pipeline::Evaluator;
use evoseal_safety::{FaultKind, Subject};
use evoseal_sandbox::Ending;
use evoseal_types::Direction;

use crate::common::{PlainSandbox, ScriptedSandbox, outcome};
use crate::{evaluate, evaluator, fault, folders, measuring, request};

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
