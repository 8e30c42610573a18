//! Replacing a part: a stop condition, an evaluator and an observer of one's own, handed to the builder.
//!
//! `evoseal_pipeline::conformance` (feature `conformance`) has a suite for each kind of part; the macro calls at the end
//! are all that it takes to run them.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use evoseal_checkpoint::CheckpointManager;
use evoseal_metrics::MemoryMetricStore;
use evoseal_pipeline::{
    Evaluation, EvaluationRequest, Evaluator, Event, EventKind, EvolutionPipeline, LoopProgress, Observer,
    PipelineParts, Proposal, ProposalContext, Proposer, RunOptions, StopCondition, StopReason,
};
use evoseal_regression::{RegressionDetector, RegressionSettings};
use evoseal_safety::{MemoryAuditLog, SafetyIntegration};
use evoseal_types::{SystemClock, TestCase, TestReport, TestStatus};

/// Ends a run once more than half of its iterations, and at least three, were in vain.
#[derive(Debug)]
pub(crate) struct LosingPatience;

impl StopCondition for LosingPatience {
    fn should_stop(&self, progress: &LoopProgress) -> Option<StopReason> {
        let in_vain = progress.consecutive_failures;
        let enough = in_vain >= 3 && in_vain > progress.iterations_done / 2;
        enough.then(|| StopReason::Other { reason: format!("{in_vain} iterations in a row were in vain") })
    }
}

/// Accepts programs in which every bracket is closed.
#[derive(Debug)]
pub(crate) struct ClosesBrackets;

#[async_trait]
impl Evaluator for ClosesBrackets {
    async fn evaluate(&self, request: &EvaluationRequest) -> evoseal_pipeline::Result<Evaluation> {
        let text = fs::read_to_string(request.candidate.directory.join("program")).unwrap_or_default();
        let closed = text.matches('(').count() == text.matches(')').count();
        let status = if closed && !text.is_empty() { TestStatus::Pass } else { TestStatus::Fail };
        let case = TestCase { name: "brackets are closed".to_owned(), status, message: None };
        let test_results = vec![TestReport::from_cases("syntax", vec![case])];
        Ok(Evaluation { test_results, ..Evaluation::default() })
    }
}

/// Writes down what is accepted.
#[derive(Debug, Default)]
pub(crate) struct Chronicle(Mutex<Vec<String>>);

impl Observer for Chronicle {
    fn on_event(&self, event: &Event) {
        if let EventKind::IterationCompleted { result } = &event.kind
            && result.version_accepted
        {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(result.change.clone());
        }
    }
}

/// Appends a bracket, always an opening one after the first pair.
#[derive(Debug)]
pub(crate) struct AddsBrackets;

#[async_trait]
impl Proposer for AddsBrackets {
    async fn propose(&self, context: &ProposalContext) -> evoseal_pipeline::Result<Proposal> {
        let path = context.workspace.join("program");
        let addition = if context.iteration == 1 { "()" } else { "(" };
        let text = fs::read_to_string(&path).unwrap_or_default() + addition;
        fs::write(path, text).expect("the workspace is writable");
        Ok(Proposal::Edited { summary: format!("add {addition}") })
    }
}

/// The first pair is accepted; three single brackets later the patience is lost.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let workspace: &Path = folder.path();
    fs::write(workspace.join("program"), "f()")?;
    let clock = Arc::new(SystemClock::new());
    let checkpoints = Arc::new(CheckpointManager::builder().in_memory().open_or_create()?);
    let rollback = evoseal_rollback::RollbackManager::builder(
        Arc::<CheckpointManager>::clone(&checkpoints),
        workspace,
        workspace.join(".evoseal/rollback"),
        Arc::<SystemClock>::clone(&clock),
    )
    .build()?;
    let gate = SafetyIntegration::builder(
        Arc::<CheckpointManager>::clone(&checkpoints),
        Arc::new(MemoryMetricStore::new()),
        Arc::new(RegressionDetector::new(&RegressionSettings::default())?),
        Arc::new(MemoryAuditLog::new(Arc::<SystemClock>::clone(&clock))),
        Arc::<SystemClock>::clone(&clock),
    )
    .rollback(Arc::new(rollback))
    .build();
    let chronicle = Arc::new(Chronicle::default());
    let pipeline = EvolutionPipeline::builder(PipelineParts {
        workspace: workspace.to_owned(),
        state_directory: workspace.join(".evoseal"),
        proposer: Arc::new(AddsBrackets),
        evaluator: Arc::new(ClosesBrackets),
        gate: Arc::new(gate),
        checkpoints,
        clock,
    })
    .stop_condition(Arc::new(LosingPatience))
    .observer(Arc::<Chronicle>::clone(&chronicle))
    .build();

    let report = pipeline.run(RunOptions { iterations: 100, ..RunOptions::default() }).await?;

    let reason = "3 iterations in a row were in vain".to_owned();
    assert_eq!(report.stop_reason, StopReason::Other { reason });
    assert_eq!(*chronicle.0.lock().unwrap_or_else(PoisonError::into_inner), ["add ()"]);
    assert_eq!(fs::read_to_string(workspace.join("program"))?, "f()()");
    Ok(())
}

#[cfg(all(test, feature = "conformance"))]
mod conformance {
    use std::fs;
    use std::path::Path;

    use evoseal_pipeline::conformance::evaluator::Version;
    use evoseal_pipeline::conformance::proposer::ProposerInPlace;
    use evoseal_pipeline::{Evaluator, Observer, StopCondition};

    evoseal_pipeline::stop_condition_conformance!(
        || Box::new(super::LosingPatience) as Box<dyn StopCondition>
    );
    evoseal_pipeline::observer_conformance!(|| Box::new(super::Chronicle::default()) as Box<dyn Observer>);
    evoseal_pipeline::evaluator_conformance!(|directory: &Path, version: Version| {
        let text = if version == Version::Good { "f()" } else { "f(" };
        fs::write(directory.join("program"), text).expect("the folder is writable");
        Box::new(super::ClosesBrackets) as Box<dyn Evaluator>
    });
    evoseal_pipeline::proposer_conformance!(|workspace: &Path| {
        fs::write(workspace.join("program"), "f()").expect("the folder is writable");
        ProposerInPlace { proposer: Box::new(super::AddsBrackets), repeatable: true }
    });
}
