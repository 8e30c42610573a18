//! What must end, and be counted once.

use std::fs;
use std::sync::{Arc, Mutex};

use evoseal_checkpoint::{CheckpointStore, RestoreMode};
use evoseal_pipeline::{Evaluation, Proposal, RunOptions};
use evoseal_tests::scripted::{FunctionEvaluator, FunctionProposer};
use evoseal_tests::{Assembly, Project};
use evoseal_types::{Digest, TestReport};

/// How often the agent and the tests of candidates were started.
fn starts(project: &Project) -> [usize; 2] {
    ["proposed.marker", "tested.marker"]
        .map(|name| fs::read_to_string(project.path(name)).unwrap_or_default().lines().count())
}

/// A project that notes each start of its agent, and each test of a candidate.
fn counting(agent: &str) -> Project {
    let project = Project::new(&format!("echo x >> proposed.marker; {agent}"));
    let tests = project.read("tests/run.sh");
    let note = "[ \"$EVOSEAL_ROLE\" = candidate ] && [ $EVOSEAL_ITERATION != 0 ] && echo x >> \"$EVOSEAL_SUBJECT_DIR/tested.marker\"";
    project.write("tests/run.sh", &format!("{note}\n{tests}"));
    project
}

#[test]
fn a_stage_that_fails_every_time_is_tried_once_in_each_iteration_and_ends_the_run_at_the_limit() {
    let project = counting("exit 7");
    let report = project.evoseal(&["run", "-n", "30", "--json"]).run().expect(1).json();
    assert_eq!(report["stop_reason"]["consecutive_failures"]["count"], 5, "{report}");
    assert_eq!(starts(&project), [5, 0]);

    let project = counting("echo $EVOSEAL_ITERATION > new.txt");
    // It works for the version to start from only.
    let tests = project.read("tests/run.sh");
    project.write("tests/run.sh", &format!("{tests}\n[ ! -f new.txt ] || kill -SEGV $$\n"));
    let report = project.evoseal(&["run", "-n", "30", "--json"]).run().expect(1).json();
    assert_eq!(report["stop_reason"]["consecutive_failures"]["count"], 5, "{report}");
    let [proposed, tested] = starts(&project);
    assert_eq!(proposed, 5);
    assert!((5..=20).contains(&tested), "a bounded number of starts in each iteration: {tested}");
}

#[test]
fn fifteen_rollbacks_in_a_row_end_at_the_limit_and_each_is_counted_once() {
    let project = counting("echo 500 > cost.txt");
    let report = project.evoseal(&["run", "-n", "15", "--json"]).run().expect(1).json();
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 5, "{report}");
    assert!(results.iter().all(|result| result["rollback_performed"] == true), "{report}");
    let counts = |project: &Project| {
        let status = project.evoseal(&["status", "--json"]).run().expect(0).json();
        let count = |name: &str| status["rollback"][name].as_u64().unwrap();
        ["total_rollbacks", "auto_rollbacks", "manual_rollbacks", "recovery_rollbacks"].map(count)
    };
    assert_eq!(counts(&project), [5, 5, 0, 0]);
    project.write("cost.txt", "7\n");
    project.evoseal(&["rollback"]).run().expect(0);
    assert_eq!(counts(&project), [6, 5, 1, 0]);
    // Starting again counts nothing once more.
    project.evoseal(&["run", "-n", "0"]).run().expect(0);
    assert_eq!(counts(&project), [6, 5, 1, 0]);
}

#[tokio::test]
async fn the_version_in_the_workspace_is_captured_whole_before_anything_is_proposed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    fs::create_dir(root.join("deep")).unwrap();
    fs::write(root.join("deep/metadata.json"), "mine").unwrap();
    fs::write(root.join("program"), "version 0").unwrap();
    let parts = Assembly::open(&root).await.unwrap();
    let seen: Arc<Mutex<Vec<(Digest, String)>>> = Arc::default();
    let (store, noted) = (parts.checkpoints.clone(), Arc::clone(&seen));
    let proposer = FunctionProposer::new(move |context| {
        let digest = store.tree_digest_blocking(&context.workspace).map_err(std::io::Error::other)?;
        let program = fs::read_to_string(context.workspace.join("program"))?;
        let captured = store.list_blocking().map_err(std::io::Error::other)?;
        assert!(captured.iter().any(|checkpoint| checkpoint.tree == digest), "{program} is not captured");
        noted.lock().unwrap().push((digest, program));
        fs::write(context.workspace.join("program"), format!("version {}", context.iteration))?;
        Ok(Proposal::Edited { summary: "edited".to_owned() })
    });
    let evaluator = FunctionEvaluator::new(|_| {
        let test_results = vec![TestReport::from_counts("unit_tests", 1, 0, 0, 0)];
        Ok(Evaluation { test_results, ..Evaluation::default() })
    });
    let pipeline = parts.pipeline(Arc::new(proposer), Arc::new(evaluator)).build();
    let report = pipeline.run(RunOptions { iterations: 3, ..RunOptions::default() }).await.unwrap();
    assert!(report.results.iter().all(|result| result.version_accepted), "{report:?}");
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 3);
    // Not only what changed: each of them comes back as a whole.
    for (number, (digest, program)) in seen.iter().enumerate() {
        let listed = parts.checkpoints.list().await.unwrap();
        let checkpoint = listed.iter().find(|checkpoint| checkpoint.tree == *digest).unwrap();
        let target = folder.path().join(format!(".evoseal/restored-{number}"));
        parts.checkpoints.restore(checkpoint.id, &target, RestoreMode::Empty).await.unwrap();
        assert_eq!(fs::read_to_string(target.join("program")).unwrap(), *program);
        assert_eq!(fs::read_to_string(target.join("deep/metadata.json")).unwrap(), "mine");
    }
}
