//! What the tests of this crate share: a pipeline over fakes, which can be put together anew over the same state, as after
//! a restart of the process.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evoseal_pipeline::{
    Cancellation, EvolutionPipeline, EvolutionPipelineBuilder, IterationOutcome, IterationResult, Journal,
    JournalEntry, PipelineParts, Proposer, RunOptions, RunState, missing_from_audit,
};
use evoseal_rollback::Rollback;
use evoseal_safety::{AuditEvent, AuditLog, AuditRecord, SafetyIntegration, SafetySwitches};
use evoseal_sandbox::{Edit, Guard, Violation, ViolationKind};
use evoseal_testkit::{
    CopyRollback, FakeCheckpointStore, Faults, FaultyAuditLog, MemoryMetrics, RecordingObserver,
    ScriptedDetector, ScriptedEvaluator, ScriptedProposer, Step, Tree,
};
use evoseal_types::ManualClock;

/// The workspace and everything that outlives a process.
pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) faults: Faults,
    pub(crate) checkpoints: FakeCheckpointStore,
    pub(crate) metrics: MemoryMetrics,
    pub(crate) rollback: CopyRollback,
    pub(crate) audit: FaultyAuditLog,
    pub(crate) proposer: ScriptedProposer,
    pub(crate) evaluator: ScriptedEvaluator,
    pub(crate) observer: RecordingObserver,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) cancellation: Cancellation,
}

/// A guard that objects to what is called `forbidden`, and to `tests.txt` being other than it was.
#[derive(Debug)]
pub(crate) struct Strict;

impl Guard for Strict {
    fn name(&self) -> &'static str {
        "strict"
    }

    fn check(&self, edit: &Edit<'_>) -> evoseal_sandbox::Result<Vec<Violation>> {
        let violation = |kind, reason: &str| Violation {
            guard: "strict".to_owned(),
            kind,
            path: None,
            reason: reason.to_owned(),
        };
        let mut violations = Vec::new();
        if edit.changes.iter().any(|change| change.path.as_bytes() == b"forbidden") {
            violations.push(violation(ViolationKind::OutOfScope, "forbidden was touched"));
        }
        let tests = fs::read(edit.workspace.join("tests.txt")).unwrap_or_default();
        if tests != b"everything is checked" {
            violations.push(violation(ViolationKind::Tampered, "tests.txt was touched"));
        }
        Ok(violations)
    }
}

impl Scene {
    pub(crate) fn new(script: impl IntoIterator<Item = Step>) -> Self {
        // In memory where there is such a place: the journal's syncs take most of the time of these tests.
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        fs::write(folder.path().join("program.txt"), "time=100").unwrap();
        fs::write(folder.path().join("tests.txt"), "everything is checked").unwrap();
        let faults = Faults::default();
        let checkpoints = FakeCheckpointStore::with_faults(faults.clone());
        Self {
            metrics: MemoryMetrics::with_faults(faults.clone()),
            rollback: CopyRollback::new(folder.path(), Arc::new(checkpoints.clone()), faults.clone()),
            audit: FaultyAuditLog::new(faults.clone()),
            proposer: ScriptedProposer::new(script, faults.clone()),
            evaluator: ScriptedEvaluator::with_faults(faults.clone()),
            observer: RecordingObserver::default(),
            clock: Arc::default(),
            cancellation: Cancellation::default(),
            checkpoints,
            faults,
            folder,
        }
    }

    pub(crate) fn state_directory(&self) -> PathBuf {
        self.folder.path().join(".evoseal")
    }

    /// A gate as a new process would put it together.
    pub(crate) fn gate(&self) -> SafetyIntegration {
        SafetyIntegration::builder(
            Arc::new(self.checkpoints.clone()),
            Arc::new(self.metrics.clone()),
            Arc::new(ScriptedDetector::comparing_means(0.1)),
            Arc::new(self.audit.clone()),
            Arc::<ManualClock>::clone(&self.clock),
        )
        .rollback(Arc::new(self.rollback.clone()))
        .switches(SafetySwitches { auto_cleanup: false, ..SafetySwitches::default() })
        .build()
    }

    pub(crate) fn parts(&self) -> PipelineParts {
        PipelineParts {
            workspace: self.folder.path().to_owned(),
            state_directory: self.state_directory(),
            proposer: Arc::new(self.proposer.clone()),
            evaluator: Arc::new(self.evaluator.clone()),
            gate: Arc::new(self.gate()),
            checkpoints: Arc::new(self.checkpoints.clone()),
            clock: Arc::<ManualClock>::clone(&self.clock),
        }
    }

    pub(crate) fn builder(&self) -> EvolutionPipelineBuilder {
        EvolutionPipeline::builder(self.parts())
            .guard(Arc::new(Strict))
            .observer(Arc::new(self.observer.clone()))
            .cancellation(self.cancellation.clone())
    }

    pub(crate) fn pipeline(&self) -> EvolutionPipeline {
        self.builder().build()
    }

    pub(crate) fn pipeline_with(&self, proposer: Arc<dyn Proposer>) -> EvolutionPipeline {
        EvolutionPipeline::builder(PipelineParts { proposer, ..self.parts() })
            .guard(Arc::new(Strict))
            .observer(Arc::new(self.observer.clone()))
            .cancellation(self.cancellation.clone())
            .build()
    }

    pub(crate) fn journal_path(&self) -> PathBuf {
        EvolutionPipeline::journal_path(&self.state_directory())
    }

    pub(crate) fn journal(&self) -> Vec<JournalEntry> {
        Journal::read(&self.journal_path()).unwrap()
    }

    pub(crate) fn state(&self) -> RunState {
        RunState::replay(&self.journal())
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    pub(crate) fn program(&self) -> String {
        fs::read_to_string(self.folder.path().join("program.txt")).unwrap()
    }

    /// The workspace as it stands.
    pub(crate) fn tree(&self) -> Tree {
        Tree::read(self.folder.path()).unwrap()
    }

    /// Whether the workspace is exactly the accepted version.
    #[track_caller]
    pub(crate) fn assert_at_incumbent(&self, context: &str) {
        let (incumbent, _) = self.state().incumbent.expect("there is an accepted version");
        let accepted = self.checkpoints.tree(incumbent.checkpoint.unwrap()).unwrap();
        assert_eq!(self.tree(), accepted, "{context}: the workspace is not {}", incumbent.version_id);
    }

    /// Whether the audit log has everything that the journal speaks of, and each record of a rollback once.
    pub(crate) async fn assert_audited(&self, context: &str) {
        let records = self.audit.records().await.unwrap();
        assert_eq!(missing_from_audit(&self.journal(), &records), [], "{context}");
        let number = |record: &AuditRecord| match record.what {
            AuditEvent::RolledBack { rollback, .. } => rollback,
            AuditEvent::RollbackFailed { rollback, .. } => Some(rollback),
            _ => None,
        };
        let recorded: Vec<u64> = records.iter().filter_map(number).collect();
        let history: Vec<u64> =
            self.rollback.history().await.unwrap().iter().map(|record| record.sequence).collect();
        assert_eq!(recorded, history, "{context}");
    }

    /// How often the audit log has each kind of event for each version, captures left out: a capture that nobody heard of
    /// is made again.
    pub(crate) async fn consequences(&self) -> BTreeMap<(String, String), u64> {
        let mut counts = BTreeMap::new();
        for record in self.audit.records().await.unwrap() {
            let (kind, version_id) = match record.what {
                AuditEvent::Observed { version_id, .. } => ("observed", version_id),
                AuditEvent::Decided { version_id, .. } => ("decided", version_id),
                AuditEvent::Accepted { version_id, .. } => ("accepted", version_id),
                AuditEvent::RolledBack { from: Some(version_id), .. } => ("rolled back", version_id),
                _ => continue,
            };
            *counts.entry((kind.to_owned(), version_id.to_string())).or_default() += 1;
        }
        counts
    }

    /// Iteration, what became of it, and the accepted version after it, for every finished iteration.
    pub(crate) fn decisions(&self) -> Vec<(u64, IterationOutcome, String)> {
        let result = |finished| {
            let result = IterationResult::from(finished);
            let decided = result.safety_result.as_ref().map(|validation| validation.decision.summary());
            (result.iteration, result.outcome, decided.unwrap_or_default())
        };
        self.state().finished.iter().map(result).collect()
    }
}

pub(crate) fn iterations(iterations: u64) -> RunOptions {
    RunOptions { iterations, ..RunOptions::default() }
}

/// One of each kind of iteration.
pub(crate) fn every_kind() -> Vec<Step> {
    vec![
        Step::Write("time=90"),
        Step::Write("time=200"),
        Step::Write("time=80 fail=1"),
        Step::Fail,
        Step::Nothing,
        Step::Write("time=70 drop"),
        Step::WriteTo("forbidden", "x"),
        Step::Write("time=60 refuse"),
        Step::Write("time=60 crash"),
        Step::Write("time=60 tamper"),
        Step::Write("pass=3"),
        Step::Write("time=50"),
    ]
}
