//! What a person keeps in the workspace beside the versions, over a run that is killed: with the real store and the real
//! rollback, since fakes ignore nothing and have no caches.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use evoseal_checkpoint::{Checkpoint, CheckpointManager, CheckpointStore};
use evoseal_pipeline::{
    Evaluation, EvaluationRequest, Evaluator, EvolutionPipeline, JournalEntry, PipelineParts, Proposal,
    ProposalContext, Proposer, Result, RunReport,
};
use evoseal_rollback::{Rollback, RollbackManager, RollbackSettings};
use evoseal_safety::SafetyIntegration;
use evoseal_testkit::{ScriptedDetector, ScriptedEvaluator};
use evoseal_types::{EntryPath, ManualClock};
use support::{Scene, iterations};

/// Writes the same files in every iteration.
#[derive(Debug, Clone)]
struct Edits(Vec<(&'static str, &'static str)>);

#[async_trait]
impl Proposer for Edits {
    async fn propose(&self, context: &ProposalContext) -> Result<Proposal> {
        for (path, text) in &self.0 {
            let path = context.workspace.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Ok(Proposal::Edited { summary: "edit".to_owned() })
    }
}

/// Evaluates as scripted, unless it is to get stuck on a candidate.
#[derive(Debug)]
struct Sticking {
    inner: ScriptedEvaluator,
    stuck: Arc<AtomicBool>,
}

#[async_trait]
impl Evaluator for Sticking {
    async fn evaluate(&self, request: &EvaluationRequest) -> Result<Evaluation> {
        let evaluation = self.inner.evaluate(request).await;
        if request.iteration > 0 && self.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        evaluation
    }
}

/// A workspace with a real store; a pipeline over it can be made any number of times.
struct Place {
    scene: Scene,
    store: Arc<CheckpointManager>,
    edits: Edits,
    stuck: Arc<AtomicBool>,
}

impl Place {
    /// A workspace with these files beside the program, accepted as it stands; what each candidate then writes.
    async fn new(
        files: &[(&'static str, &'static str)],
        edits: impl IntoIterator<Item = (&'static str, &'static str)>,
    ) -> Self {
        let scene = Scene::new([]);
        let store = Arc::new(CheckpointManager::builder().in_memory().open_or_create().unwrap());
        let edits = Edits(edits.into_iter().collect());
        let place = Self { scene, store, edits, stuck: Arc::default() };
        for (path, text) in files {
            place.write(path, text);
        }
        place.run(0).await;
        place
    }

    fn rollback(&self) -> RollbackManager {
        let settings = RollbackSettings { caches: vec!["target".to_owned()], ..RollbackSettings::default() };
        let state = self.scene.state_directory().join("rollback");
        let clock = Arc::<ManualClock>::clone(&self.scene.clock);
        let store = Arc::clone(&self.store) as Arc<dyn CheckpointStore>;
        let builder = RollbackManager::builder(store, self.scene.folder.path(), state, clock);
        builder.settings(settings).build().unwrap()
    }

    fn pipeline(&self) -> EvolutionPipeline {
        let gate = SafetyIntegration::builder(
            Arc::clone(&self.store) as _,
            Arc::new(self.scene.metrics.clone()),
            Arc::new(ScriptedDetector::comparing_means(0.1)),
            Arc::new(self.scene.audit.clone()),
            Arc::<ManualClock>::clone(&self.scene.clock),
        )
        .rollback(Arc::new(self.rollback()))
        .build();
        let parts = PipelineParts {
            proposer: Arc::new(self.edits.clone()),
            evaluator: Arc::new(Sticking {
                inner: self.scene.evaluator.clone(),
                stuck: Arc::clone(&self.stuck),
            }),
            gate: Arc::new(gate),
            checkpoints: Arc::clone(&self.store) as _,
            ..self.scene.parts()
        };
        EvolutionPipeline::builder(parts).cancellation(self.scene.cancellation.clone()).build()
    }

    async fn run(&self, count: u64) -> RunReport {
        self.pipeline().run(iterations(count)).await.unwrap()
    }

    /// Runs an iteration and dies while its candidate is evaluated.
    async fn die_while_evaluating(&self) {
        self.stuck.store(true, Ordering::SeqCst);
        let (pipeline, before) = (self.pipeline(), self.scene.evaluator.calls().len());
        tokio::select! {
            report = pipeline.run(iterations(1)) => panic!("it ended: {report:?}"),
            () = async {
                while self.scene.evaluator.calls().len() == before {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
        self.stuck.store(false, Ordering::SeqCst);
    }

    /// Forgets everything that the journal has after the first decision on a candidate.
    fn cut_after_the_decision(&self) {
        let decided = |entry: &JournalEntry| matches!(entry, JournalEntry::Decided { .. });
        let kept = self.scene.journal().iter().position(decided).unwrap();
        let text = fs::read_to_string(self.scene.journal_path()).unwrap();
        let lines: String = text.split_inclusive('\n').take(kept + 1).collect();
        fs::write(self.scene.journal_path(), lines).unwrap();
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.scene.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What a file holds; `None` if it is gone.
    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.scene.folder.path().join(path)).ok()
    }

    /// The versions that were captured so that a person's work is not lost, oldest first.
    async fn saved(&self) -> Vec<Checkpoint> {
        let listed = self.store.list().await.unwrap();
        let is_one = |known: &Checkpoint| known.details.version_id.as_str().starts_with("before-recovery");
        listed.into_iter().filter(is_one).collect()
    }

    /// Whether one of those holds this file with this text.
    async fn is_saved(&self, path: &str, text: &str) -> bool {
        let path = EntryPath::new(path).unwrap();
        for known in self.saved().await {
            if self.store.read_file(known.id, &path).await.is_ok_and(|found| found == text.as_bytes()) {
                return true;
            }
        }
        false
    }
}

#[tokio::test]
async fn ignored_files_that_recovery_would_overwrite_or_remove_are_saved_first() {
    let edits = [(".gitignore", "local.conf\nnotes/\n"), ("program.txt", "time=90")];
    let place = Place::new(&[("local.conf", "as captured")], edits).await;
    place.die_while_evaluating().await;
    // The candidate ignores both, so that its checkpoint has neither.
    place.write("local.conf", "mine");
    place.write("notes/deep/a", "mine too");
    let recovered = place.pipeline().recover().await.unwrap().unwrap();
    assert_eq!(recovered.version_id.as_str(), "v0");
    assert_eq!(
        (place.read("local.conf").as_deref(), place.read("notes/deep/a")),
        (Some("as captured"), None)
    );
    assert!(place.is_saved("local.conf", "mine").await);
    assert!(place.is_saved("notes/deep/a", "mine too").await);
    let saved = place.saved().await.len();
    place.pipeline().recover().await.unwrap();
    assert_eq!(place.saved().await.len(), saved, "what is held is not saved again");
}

#[tokio::test]
async fn ignored_files_that_the_candidate_of_a_killed_run_would_overwrite_are_saved_first() {
    let edits = [(".gitignore", "other\n"), ("program.txt", "time=90")];
    let place = Place::new(&[(".gitignore", ".env\n"), (".env", "SECRET=1")], edits).await;
    place.die_while_evaluating().await;
    place.pipeline().recover().await.unwrap();
    assert_eq!(place.read(".env").as_deref(), Some("SECRET=1"));
    // The accepted version ignores it, and the candidate holds it as it was.
    place.write(".env", "SECRET=2");
    let report = place.run(1).await;
    assert!(report.results[0].version_accepted, "{report:?}");
    assert_eq!(place.read(".env").as_deref(), Some("SECRET=1"));
    assert!(place.is_saved(".env", "SECRET=2").await);
}

#[tokio::test]
async fn a_persons_work_between_an_acceptance_and_its_end_is_saved_first() {
    let edits = [(".gitignore", "notes/\n"), ("program.txt", "time=90")];
    let place = Place::new(&[], edits).await;
    assert!(place.run(1).await.results[0].version_accepted);
    place.cut_after_the_decision();
    place.write("mine.txt", "an afternoon's work");
    place.write("notes/a", "ignored, and left alone");
    place.pipeline().recover().await.unwrap();
    assert_eq!(place.read("program.txt").as_deref(), Some("time=90"), "the decision is carried out");
    assert_eq!(place.read("mine.txt"), None);
    assert!(place.is_saved("mine.txt", "an afternoon's work").await);
    assert_eq!(place.read("notes/a").as_deref(), Some("ignored, and left alone"));
}

#[tokio::test]
async fn what_an_evaluation_leaves_behind_is_nobodys_work_and_not_saved() {
    let edits = [("program.txt", "time=90 drop")];
    let place = Place::new(&[], edits).await;
    assert!(place.run(1).await.results[0].version_accepted);
    assert_eq!(place.read("dropping.txt"), None);
    assert_eq!(place.saved().await, []);
}

#[tokio::test]
async fn a_cache_that_a_candidate_may_have_poisoned_does_not_survive_its_end() {
    let edits = [("program.txt", "time=90"), ("target/poison", "harmful")];
    let files = [(".gitignore", "target/\n.env\n"), (".env", "SECRET=1")];
    // A process that dies, and a run that is interrupted.
    let killed = Place::new(&files, edits).await;
    killed.die_while_evaluating().await;
    assert_eq!(killed.read("target/poison").as_deref(), Some("harmful"));
    killed.pipeline().recover().await.unwrap();
    assert_eq!((killed.read("target/poison"), killed.read(".env").as_deref()), (None, Some("SECRET=1")));
    // The tree may be in order already, and the cache not yet.
    killed.write("target/poison", "harmful");
    killed.pipeline().recover().await.unwrap();
    assert_eq!(killed.read("target/poison"), None);

    let interrupted = Place::new(&files, edits).await;
    interrupted.stuck.store(true, Ordering::SeqCst);
    let pipeline = interrupted.pipeline();
    let report = tokio::join!(pipeline.run(iterations(1)), async {
        while interrupted.scene.evaluator.calls().len() < 2 {
            tokio::task::yield_now().await;
        }
        interrupted.scene.cancellation.cancel();
    });
    report.0.unwrap();
    assert_eq!(interrupted.read("target/poison"), None);
    assert_eq!(interrupted.rollback().statistics().await.unwrap().total_rollbacks, 0, "it is no rollback");
}

#[tokio::test]
async fn an_accepted_version_keeps_its_caches_and_a_refused_one_loses_them() {
    let warm =
        Place::new(&[(".gitignore", "target/\n")], [("program.txt", "time=90"), ("target/object", "built")])
            .await;
    assert!(warm.run(1).await.results[0].version_accepted);
    // The second candidate is the same, and is refused: nothing was changed.
    assert_eq!(warm.read("target/object").as_deref(), Some("built"));
    let refused =
        Place::new(&[(".gitignore", "target/\n")], [("program.txt", "time=900"), ("target/object", "built")])
            .await;
    assert!(!refused.run(1).await.results[0].version_accepted);
    assert_eq!(refused.read("target/object"), None);
}
