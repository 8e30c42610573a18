//! All safety components together, over a real directory: the standard checkpoint store, metric store, detector, rollback
//! and gate, as a program that embeds them puts them together.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

use std::fs;
use std::path::Path;

use evoseal_checkpoint::{CheckpointStore, CheckpointStoreExt, NewCheckpoint, Source};
use evoseal_metrics::RecordFilter;
use evoseal_regression::Verdict;
use evoseal_rollback::{Initiator, Rollback, RollbackRequest, Target};
use evoseal_safety::{EvolutionStep, Observations, SafetyGate, SafetyGateExt, StepResult, ValidationRequest};
use evoseal_tests::Assembly;
use evoseal_types::{CheckpointId, Direction, MetricSamples, MetricSpec, TestReport, VersionId};

fn id(name: &str) -> VersionId {
    VersionId::new(name).unwrap()
}

/// Five samples around `mean` with a scatter of one percent.
fn latency(mean: f64) -> Vec<MetricSamples> {
    let spec = MetricSpec::new("latency", "ms", Direction::Increase).unwrap();
    let values = [1.0, 1.01, 0.99, 1.005, 0.995].map(|factor| factor * mean);
    vec![MetricSamples::independent(spec, &values)]
}

fn passing() -> Vec<TestReport> {
    vec![TestReport::from_counts("unit_tests", 12, 0, 0, 0)]
}

/// A workspace, and the accepted version as the steps go on.
struct Bench {
    folder: tempfile::TempDir,
    parts: Assembly,
    accepted: Option<(VersionId, CheckpointId, f64)>,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let parts = Assembly::open(&folder.path().canonicalize().unwrap()).await.unwrap();
        Self { folder, parts, accepted: None }
    }

    fn workspace(&self) -> &Path {
        &self.parts.workspace
    }

    fn program(&self) -> String {
        fs::read_to_string(self.workspace().join("program")).unwrap()
    }

    /// Writes a version and takes the published step with it: `mean` is its latency, `tests` what its tests said.
    async fn step(&mut self, name: &str, mean: f64, tests: Vec<TestReport>) -> StepResult {
        fs::write(self.workspace().join("program"), name).unwrap();
        let current = self.accepted.clone();
        let step = EvolutionStep {
            request: ValidationRequest {
                current_version_id: current.as_ref().map(|(version, _, _)| version.clone()),
                new_version_id: id(name),
                observations: Observations {
                    test_results: tests,
                    metrics: latency(mean),
                    incumbent_metrics: current
                        .as_ref()
                        .map(|(_, _, mean)| latency(*mean))
                        .unwrap_or_default(),
                    ..Observations::default()
                },
                objective: None,
            },
            new_version_data: Source::Directory(self.workspace().to_owned()),
            current_checkpoint: current.map(|(_, checkpoint, _)| checkpoint),
        };
        let result = self.parts.gate.execute_safe_evolution_step(step).await;
        if result.version_accepted {
            self.accepted = Some((id(name), result.checkpoint.unwrap(), mean));
        }
        result
    }
}

#[tokio::test]
async fn a_good_version_stays_and_a_slow_one_goes_back() {
    let mut bench = Bench::new().await;
    let first = bench.step("v1", 10.0, passing()).await;
    assert!(first.success && first.version_accepted && first.checkpoint_created, "{first:?}");
    assert!(!first.rollback_performed);

    let slow = bench.step("v2", 15.0, passing()).await;
    assert!(slow.success && !slow.version_accepted && slow.rollback_performed, "{slow:?}");
    assert_eq!(bench.program(), "v1");
    let validation = slow.safety_validation.unwrap();
    assert!(validation.test_passed && validation.regression_detected && validation.rollback_recommended);
    // One critical regression: 1 × (1 − 0.4).
    assert!((validation.safety_score - 0.6).abs() < 1e-9, "{}", validation.safety_score);

    let failing = bench.step("v3", 9.0, vec![TestReport::from_counts("unit_tests", 11, 1, 0, 0)]).await;
    assert!(!failing.version_accepted && failing.rollback_performed, "{failing:?}");
    assert_eq!(bench.program(), "v1");

    let better = bench.step("v4", 9.0, passing()).await;
    assert!(better.version_accepted, "{better:?}");
    assert_eq!(bench.program(), "v4");
}

#[tokio::test]
async fn every_part_tells_the_same_story() {
    let mut bench = Bench::new().await;
    bench.step("v1", 10.0, passing()).await;
    bench.step("v2", 20.0, passing()).await;
    bench.step("v3", 9.5, passing()).await;

    let status = bench.parts.gate.get_safety_status().await.unwrap();
    assert_eq!(status.checkpoint_manager.total_checkpoints, 3);
    let rollbacks = status.rollback_manager.unwrap();
    assert_eq!(
        (rollbacks.total_rollbacks, rollbacks.auto_rollbacks, rollbacks.success_rate),
        (1, 1, Some(1.0))
    );

    let history = bench.parts.rollback.history().await.unwrap();
    assert_eq!(history.len(), 1, "one rollback is one record");
    assert_eq!(history[0].request.initiator, Initiator::Automatic);
    let first = bench.parts.checkpoints.find_version(&id("v1")).await.unwrap().id;
    assert_eq!(history[0].report.as_ref().unwrap().restored, first);

    let third = bench.parts.checkpoints.find_version(&id("v3")).await.unwrap().id;
    assert_eq!(bench.parts.rollback.known_good().await.unwrap(), [first, third]);

    let accepted = RecordFilter { accepted_only: true, ..RecordFilter::default() };
    let versions: Vec<String> = bench
        .parts
        .metrics
        .records(&accepted)
        .await
        .unwrap()
        .iter()
        .map(|record| record.record.version_id.to_string())
        .collect();
    assert!(versions.iter().all(|version| version == "v1" || version == "v3"), "{versions:?}");
    assert!(versions.contains(&"v3".to_owned()), "{versions:?}");
}

#[tokio::test]
async fn what_was_decided_survives_a_restart() {
    let mut bench = Bench::new().await;
    bench.step("v1", 10.0, passing()).await;
    bench.step("v2", 20.0, passing()).await;
    bench.parts.gate.set_baseline("start", &id("v1")).await.unwrap();
    let before = bench.parts.gate.get_safety_status().await.unwrap();
    let workspace = bench.workspace().to_owned();
    let Bench { folder, parts, .. } = bench;
    drop(parts);

    let parts = Assembly::open(&workspace).await.unwrap();
    assert_eq!(parts.gate.get_safety_status().await.unwrap(), before);
    assert_eq!(before.baselines, [("start".to_owned(), id("v1"))]);
    let records = parts.metrics.records(&RecordFilter::default()).await.unwrap();
    let of_slow = records.iter().find(|record| record.record.version_id == id("v2")).unwrap();
    assert_eq!(of_slow.record.metrics, latency(20.0));
    fs::write(workspace.join("program"), "broken").unwrap();
    let report = parts
        .rollback
        .roll_back(RollbackRequest {
            target: Target::LastKnownGood,
            reason: "by hand".to_owned(),
            initiator: Initiator::Person("tester".to_owned()),
        })
        .await
        .unwrap();
    assert_eq!(fs::read_to_string(workspace.join("program")).unwrap(), "v1");
    assert!(report.saved.is_some(), "what no checkpoint held is saved first");
    drop(folder);
}

#[tokio::test]
async fn a_hundred_small_losses_do_not_add_up() {
    let mut bench = Bench::new().await;
    assert!(bench.step("v0", 10.0, passing()).await.version_accepted);
    bench.parts.gate.set_baseline("start", &id("v0")).await.unwrap();
    let mut mean = 10.0;
    let mut refused = None;
    for number in 1..=100 {
        mean *= 1.03;
        let result = bench.step(&format!("v{number}"), mean, passing()).await;
        if !result.version_accepted {
            refused = Some((number, result.safety_validation.unwrap()));
            break;
        }
    }
    let (number, validation) = refused.expect("the baseline must stop the drift");
    // 1.03³ is 9 % and 1.03⁴ 12.6 %; the threshold is 10 %, and the samples scatter by 1 %, so that 9 % may be beyond it.
    assert!((3..=4).contains(&number), "{number}");
    assert!(validation.issues.iter().any(|issue| issue.contains("start")), "{:?}", validation.issues);
    let assessment = validation.regression_details.unwrap();
    let against = |baseline: Option<&str>| {
        let mut findings = assessment.findings.iter();
        findings.find(|finding| finding.baseline.as_deref() == baseline).unwrap().verdict
    };
    assert_eq!(against(None), Verdict::Equivalent, "three percent alone are harmless");
    assert_ne!(against(Some("start")), Verdict::Equivalent);
}

#[tokio::test]
async fn clean_up_keeps_what_a_rollback_may_need() {
    let mut bench = Bench::new().await;
    for number in 0..6 {
        assert!(bench.step(&format!("good{number}"), 10.0, passing()).await.version_accepted);
        assert!(!bench.step(&format!("bad{number}"), 30.0, passing()).await.version_accepted);
    }
    let known_good = bench.parts.rollback.known_good().await.unwrap();
    let report = bench.parts.gate.cleanup_old_safety_data(1).await.unwrap();
    assert!(report.checkpoints_deleted > 0, "{report:?}");
    let left = bench.parts.checkpoints.list().await.unwrap();
    let newest = *known_good.last().unwrap();
    assert!(left.iter().any(|checkpoint| checkpoint.id == newest), "the accepted version must stay");
    assert!(bench.parts.checkpoints.verify(&[]).await.unwrap().damage.is_empty());

    fs::write(bench.workspace().join("program"), "broken").unwrap();
    let request = RollbackRequest {
        target: Target::LastKnownGood,
        reason: "after clean-up".to_owned(),
        initiator: Initiator::Automatic,
    };
    assert_eq!(bench.parts.rollback.roll_back(request).await.unwrap().restored, newest);
    assert_eq!(bench.program(), "good5");
}

#[tokio::test]
async fn a_damaged_target_is_named_and_an_older_good_version_is_restored() {
    let mut bench = Bench::new().await;
    assert!(bench.step("v1", 10.0, passing()).await.version_accepted);
    // Small packs lie inside the log until a collection makes objects of them.
    bench.parts.checkpoints.collect_garbage().await.unwrap();
    let before = store_files(bench.workspace());
    assert!(bench.step("v2", 10.0, passing()).await.version_accepted);
    bench.parts.checkpoints.collect_garbage().await.unwrap();
    let (_, second, _) = bench.accepted.clone().unwrap();
    let first = bench.parts.checkpoints.find_version(&id("v1")).await.unwrap().id;
    // Only what came with the second version is damaged, and not the catalogue, which names both.
    let packs: Vec<_> = store_files(bench.workspace())
        .into_iter()
        .filter(|path| !before.contains(path) && path.to_string_lossy().contains("pack"))
        .collect();
    assert!(!packs.is_empty(), "{:?}", store_files(bench.workspace()));
    for pack in &packs {
        let bytes = fs::read(pack).unwrap();
        fs::set_permissions(pack, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        fs::write(pack, bytes.iter().map(|byte| !byte).collect::<Vec<u8>>()).unwrap();
    }
    let workspace = bench.workspace().to_owned();
    let parts = Assembly::open(&workspace).await.unwrap();
    let report = parts.checkpoints.verify(&[]).await.unwrap();
    assert!(report.damage.iter().any(|damage| damage.checkpoints.contains(&second)), "{report:?}");
    assert!(report.damage.iter().all(|damage| !damage.checkpoints.contains(&first)), "{report:?}");

    fs::write(workspace.join("program"), "broken").unwrap();
    let request = RollbackRequest {
        target: Target::LastKnownGood,
        reason: "fall back".to_owned(),
        initiator: Initiator::Automatic,
    };
    let report = parts.rollback.roll_back(request).await.unwrap();
    assert!(report.fell_back(), "{report:?}");
    assert_eq!((report.requested, report.restored), (second, first));
    assert_eq!(fs::read_to_string(workspace.join("program")).unwrap(), "v1");
}

fn store_files(workspace: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![workspace.join(".evoseal/checkpoints")];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

#[tokio::test]
async fn a_checkpoint_carries_everything_that_is_known_about_the_version() {
    let bench = Bench::new().await;
    fs::write(bench.workspace().join("program"), "v1").unwrap();
    let details = NewCheckpoint {
        test_results: passing(),
        metrics: latency(10.0),
        configuration: [("seed".to_owned(), "7".to_owned())].into(),
        system_state: [("architecture".to_owned(), "x86_64".to_owned())].into(),
        note: "by hand".to_owned(),
        ..NewCheckpoint::of(id("v1"))
    };
    let source = Source::Directory(bench.workspace().to_owned());
    let handle = bench.parts.gate.create_safety_checkpoint(source, details.clone()).await.unwrap();
    let stored = handle.durable().await.unwrap();
    assert_eq!(bench.parts.checkpoints.load(stored.id).await.unwrap().details, details);
}
