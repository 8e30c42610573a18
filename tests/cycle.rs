//! Whole evolution cycles, through the library and through the program.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

use std::fs;
use std::sync::{Arc, Mutex};

use evoseal_checkpoint::CheckpointStore;
use evoseal_pipeline::{
    ConsecutiveFailures, Evaluation, Event, EventKind, IterationOutcome, IterationResult, Observer,
    RunOptions, StopReason,
};
use evoseal_tests::scripted::{FunctionEvaluator, FunctionProposer};
use evoseal_tests::{Assembly, Project};
use evoseal_types::{Direction, MetricSamples, MetricSpec, TestReport};

/// An evaluator that reads what to say from the version: the first word of `program.txt` is its latency, and the second,
/// where there is one, says what its tests do.
fn reading_the_program() -> FunctionEvaluator {
    let latency = MetricSpec::new("latency", "ms", Direction::Increase).unwrap();
    let samples = move |text: &str| {
        let mean: f64 = text.split(' ').next().unwrap().parse().unwrap();
        let values = [1.0, 1.01, 0.99, 1.005, 0.995].map(|factor| factor * mean);
        vec![MetricSamples::independent(latency.clone(), &values)]
    };
    FunctionEvaluator::new(move |request| {
        let read = |folder: &std::path::Path| fs::read_to_string(folder.join("program.txt")).unwrap();
        let text = read(&request.candidate.directory);
        let reports = match text.split(' ').nth(1) {
            None => vec![TestReport::from_counts("unit_tests", 5, 0, 0, 0)],
            Some("fails") => vec![TestReport::from_counts("unit_tests", 4, 1, 0, 0)],
            Some("untested") => Vec::new(),
            Some(other) => panic!("{other:?} is not in the script"),
        };
        let incumbent = request.incumbent.as_ref().map(|incumbent| samples(&read(&incumbent.directory)));
        Ok(Evaluation {
            test_results: reports,
            metrics: samples(&text),
            paired: incumbent.is_some(),
            incumbent_metrics: incumbent.unwrap_or_default(),
            ..Evaluation::default()
        })
    })
}

/// A proposer that writes one text after the other into `program.txt`; an empty one changes nothing.
fn writing(texts: &'static [&'static str]) -> FunctionProposer {
    FunctionProposer::new(move |context| {
        let text = texts[usize::try_from(context.iteration).unwrap() - 1];
        if !text.is_empty() {
            fs::write(context.workspace.join("program.txt"), text)?;
        }
        Ok(evoseal_pipeline::Proposal::Edited { summary: text.to_owned() })
    })
}

#[derive(Debug, Default)]
struct Names(Mutex<Vec<String>>);

impl Observer for Names {
    fn on_event(&self, event: &Event) {
        let json = serde_json::to_value(&event.kind).unwrap();
        let name = json["event_type"].as_str().unwrap().to_owned();
        let stage = match &event.kind {
            EventKind::PipelineStageStarted { stage, .. } => format!("{name} {stage}"),
            _ => name,
        };
        self.0.lock().unwrap().push(stage);
    }
}

struct Ground {
    folder: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("program.txt"), "10").unwrap();
        Self { folder }
    }

    async fn parts(&self) -> Assembly {
        Assembly::open(&self.folder.path().canonicalize().unwrap()).await.unwrap()
    }

    fn program(&self) -> String {
        fs::read_to_string(self.folder.path().join("program.txt")).unwrap()
    }
}

fn outcomes(results: &[IterationResult]) -> Vec<IterationOutcome> {
    results.iter().map(|result| result.outcome).collect()
}

#[tokio::test]
async fn only_what_is_measurably_no_worse_stays() {
    use IterationOutcome::{Accepted, Error, Rejected, RolledBack};
    let ground = Ground::new();
    let parts = ground.parts().await;
    let script = writing(&["9", "9 fails", "20", "8.9 untested", "", "8"]);
    let names = Arc::new(Names::default());
    let pipeline = parts
        .pipeline(Arc::new(script), Arc::new(reading_the_program()))
        .observer(Arc::clone(&names) as _)
        .build();
    let results = pipeline.run_evolution_cycle_with_safety(6, true, true).await.unwrap();

    assert_eq!(outcomes(&results), [Accepted, RolledBack, RolledBack, Rejected, Error, Accepted]);
    assert_eq!(ground.program(), "8");
    for result in &results {
        assert_eq!(result.version_accepted, result.outcome == Accepted);
        assert!(!result.reasons().is_empty(), "{result:?}");
        assert_eq!(result.rollback_performed, result.outcome != Accepted, "{result:?}");
    }
    assert_eq!(results[2].incumbent.as_str(), "v1");
    assert!(results[2].safety_result.as_ref().unwrap().regression_detected);
    assert_eq!(results[4].error.as_deref(), Some("propose: the proposal changed nothing"));

    let names = names.0.lock().unwrap();
    assert_eq!(names.first().unwrap(), "EVOLUTION_STARTED");
    assert_eq!(names.last().unwrap(), "EVOLUTION_COMPLETED");
    let count = |name: &str| names.iter().filter(|found| *found == name).count();
    assert_eq!(count("ITERATION_STARTED"), 6);
    assert_eq!(count("ITERATION_COMPLETED"), 6);
    assert_eq!(count("ROLLBACK_COMPLETED"), 4);
    assert_eq!(count("REGRESSION_DETECTED"), 1);
    let of_first: Vec<&str> = names
        .iter()
        .skip_while(|name| *name != "ITERATION_STARTED")
        .skip(1)
        .take_while(|name| *name != "ITERATION_COMPLETED")
        .filter_map(|name| name.strip_prefix("PIPELINE_STAGE_STARTED "))
        .collect();
    assert_eq!(of_first, ["propose", "guard", "evaluate", "guard", "judge", "settle"]);
}

#[tokio::test]
async fn a_later_run_goes_on_where_the_last_one_ended() {
    let ground = Ground::new();
    let script: &'static [&'static str] = &["9", "8", "30", "7"];
    let parts = ground.parts().await;
    let pipeline = parts.pipeline(Arc::new(writing(script)), Arc::new(reading_the_program())).build();
    pipeline.run(RunOptions { iterations: 2, ..RunOptions::default() }).await.unwrap();
    drop((pipeline, parts));

    let parts = ground.parts().await;
    let evaluator = Arc::new(reading_the_program());
    let pipeline = parts.pipeline(Arc::new(writing(script)), Arc::clone(&evaluator) as _).build();
    let report = pipeline.run(RunOptions { iterations: 2, ..RunOptions::default() }).await.unwrap();
    assert_eq!(report.results.iter().map(|result| result.iteration).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(report.final_version.unwrap().version_id.as_str(), "v4");
    assert_eq!(evaluator.calls(), 2, "the version to start from is known and is not evaluated again");
    assert_eq!(ground.program(), "7");
}

#[tokio::test]
async fn rollbacks_rejections_and_errors_all_count_as_failures_in_a_row() {
    let ground = Ground::new();
    let parts = ground.parts().await;
    let script = writing(&["9", "9 fails", "", "30", "8.9 untested", "8", "7"]);
    let pipeline = parts
        .pipeline(Arc::new(script), Arc::new(reading_the_program()))
        .stop_condition(Arc::new(ConsecutiveFailures(4)))
        .build();
    let report = pipeline.run(RunOptions { iterations: 100, ..RunOptions::default() }).await.unwrap();
    assert_eq!(report.stop_reason, StopReason::ConsecutiveFailures { count: 4 });
    assert_eq!(report.results.len(), 5);
    assert_eq!(ground.program(), "9");
}

#[tokio::test]
async fn without_rollback_the_refused_candidate_stays_and_the_run_ends() {
    let ground = Ground::new();
    let parts = ground.parts().await;
    let pipeline = parts.pipeline(Arc::new(writing(&["30", "9"])), Arc::new(reading_the_program())).build();
    let options = RunOptions { iterations: 2, enable_auto_rollback: false, ..RunOptions::default() };
    let report = pipeline.run(options).await.unwrap();
    assert!(matches!(report.stop_reason, StopReason::NotRolledBack { .. }), "{:?}", report.stop_reason);
    assert_eq!((report.results.len(), ground.program().as_str()), (1, "30"));
    assert!(
        report.unprotected.iter().any(|line| line.contains("rollback is off")),
        "{:?}",
        report.unprotected
    );
    assert_eq!(parts.rollback_count().await, 0);
}

#[tokio::test]
async fn without_checkpoints_none_is_made_and_that_is_said() {
    let ground = Ground::new();
    let parts = ground.parts().await;
    let pipeline = parts.pipeline(Arc::new(writing(&["9"])), Arc::new(reading_the_program())).build();
    let options = RunOptions { enable_checkpoints: false, ..RunOptions::default() };
    let report = pipeline.run(options).await.unwrap();
    assert!(report.results[0].version_accepted, "{report:?}");
    assert_eq!(parts.checkpoints.list().await.unwrap(), []);
    assert!(report.unprotected.iter().any(|line| line.contains("checkpoints are off")), "{report:?}");
}

#[tokio::test]
async fn the_same_script_gives_the_same_decisions() {
    let mut decisions = Vec::new();
    for _ in 0..2 {
        let ground = Ground::new();
        let parts = ground.parts().await;
        let script = writing(&["9.8", "9 fails", "12", "9.7"]);
        let pipeline = parts.pipeline(Arc::new(script), Arc::new(reading_the_program())).build();
        let results = pipeline.run_evolution_cycle_with_safety(4, true, true).await.unwrap();
        decisions.push(
            results.into_iter().map(|result| (result.outcome, result.safety_result)).collect::<Vec<_>>(),
        );
    }
    assert_eq!(decisions[0], decisions[1]);
}

#[test]
fn the_program_evolves_a_project_of_shell_scripts() {
    let project = Project::new(
        "case $EVOSEAL_ITERATION in
            1) echo 80 > cost.txt; echo 'SUMMARY: cheaper' ;;
            2) echo 'echo 41' > program.sh; echo 'SUMMARY: wrong' ;;
            3) echo 200 > cost.txt; echo 'SUMMARY: dearer' ;;
            4) echo 60 > cost.txt; echo 'SUMMARY: cheapest' ;;
        esac",
    );
    let report = project.evoseal(&["run", "-n", "4", "--json"]).run().expect(1).json();
    let outcomes: Vec<&str> = report["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["accepted", "rolled_back", "rolled_back", "accepted"]);
    assert_eq!(
        (project.read("cost.txt"), project.read("program.sh")),
        ("60\n".to_owned(), "echo 42\n".to_owned())
    );

    let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
    assert_eq!(status["incumbent"]["version_id"], "v4");
    assert_eq!(status["workspace_holds_incumbent"], true);
    assert_eq!(status["rollback"]["auto_rollbacks"], 2);

    let log = project.evoseal(&["log"]).run().expect(0).stdout;
    for text in ["cheaper", "wrong", "dearer", "cheapest", "accepted"] {
        assert!(log.contains(text), "{log}");
    }
    let shown = project.evoseal(&["show", "v2"]).run().expect(0).stdout;
    assert!(shown.contains("answers"), "the failed test is named: {shown}");
    let diff = project.evoseal(&["diff", "v0", "v4"]).run().expect(0).stdout;
    assert!(diff.contains("-100") && diff.contains("+60"), "{diff}");

    project.evoseal(&["report", "-o", "page.html"]).run().expect(0);
    let page = project.read("page.html");
    assert!(page.contains("cheapest") && !page.contains("http://"), "one self-contained page");
    fs::remove_file(project.path("page.html")).unwrap();

    project.evoseal(&["rollback", "v1", "--reason", "too cheap"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "80\n");
    project.evoseal(&["checkpoint", "verify"]).run().expect(0);
}

#[test]
fn a_run_in_which_everything_is_accepted_ends_with_code_zero() {
    let project = Project::new("echo $((100 - EVOSEAL_ITERATION)) > cost.txt");
    project.evoseal(&["run", "-n", "3"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "97\n");
    project.evoseal(&["run", "-n", "1", "--dry-run"]).run().expect(0);
    assert_eq!(project.read("cost.txt"), "97\n", "a plan changes nothing");
}
