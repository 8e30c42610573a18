//! A safety-aware evolution cycle in a few lines: a proposer, an evaluator, and the standard parts.
//!
//! The workspace holds one file, `sleep_ms`: how long the "program" takes. The proposer tries a list of values, the
//! evaluator reads the file and reports it as the metric `latency`. Real loops run commands instead.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_checkpoint::CheckpointManager;
use evoseal_metrics::MetricsTracker;
use evoseal_pipeline::{
    Evaluation, EvaluationRequest, Evaluator, EvolutionConfig, EvolutionPipeline, PipelineParts, Proposal,
    ProposalContext, Proposer,
};
use evoseal_regression::RegressionDetector;
use evoseal_rollback::RollbackManager;
use evoseal_safety::{FileAuditLog, SafetyIntegration};
use evoseal_types::{Direction, MetricName, MetricSamples, MetricSpec, Objective, SystemClock, TestReport};

#[derive(Debug)]
struct TriesValues(Vec<f64>);

#[async_trait]
impl Proposer for TriesValues {
    async fn propose(&self, context: &ProposalContext) -> evoseal_pipeline::Result<Proposal> {
        let tried = usize::try_from(context.iteration - 1).unwrap_or(usize::MAX);
        let Some(value) = self.0.get(tried) else {
            return Ok(Proposal::Exhausted { reason: "every value was tried".to_owned() });
        };
        fs::write(context.workspace.join("sleep_ms"), value.to_string()).expect("the workspace is writable");
        Ok(Proposal::Edited { summary: format!("sleep {value} ms") })
    }
}

#[derive(Debug)]
struct ReadsTheFile;

impl ReadsTheFile {
    /// Five "measurements" that scatter a little around the value in the file.
    fn measure(directory: &Path) -> Vec<MetricSamples> {
        let text = fs::read_to_string(directory.join("sleep_ms")).unwrap_or_default();
        let value: f64 = text.trim().parse().unwrap_or(f64::NAN);
        let spec = MetricSpec::new("latency", "ms", Direction::Increase).expect("a valid name");
        let scattered = [0.99, 1.01, 1.0, 1.02, 0.98].map(|factor| value * factor);
        vec![MetricSamples::independent(spec, &scattered)]
    }
}

#[async_trait]
impl Evaluator for ReadsTheFile {
    async fn evaluate(&self, request: &EvaluationRequest) -> evoseal_pipeline::Result<Evaluation> {
        let metrics = Self::measure(&request.candidate.directory);
        let sane = metrics[0].values().iter().all(|value| *value >= 1.0);
        Ok(Evaluation {
            test_results: vec![TestReport::from_counts(
                "unit_tests",
                u64::from(sane),
                u64::from(!sane),
                0,
                0,
            )],
            metrics,
            incumbent_metrics: request
                .incumbent
                .iter()
                .flat_map(|old| Self::measure(&old.directory))
                .collect(),
            paired: request.incumbent.is_some(),
            ..Evaluation::default()
        })
    }
}

/// The standard parts around a workspace.
async fn pipeline(workspace: &Path, config: &EvolutionConfig) -> Result<EvolutionPipeline, Box<dyn Error>> {
    let state = workspace.join(".evoseal");
    fs::create_dir_all(&state)?;
    let clock = Arc::new(SystemClock::new());
    let checkpoints =
        Arc::new(CheckpointManager::builder().directory(state.join("checkpoints")).open_or_create()?);
    let rollback = RollbackManager::builder(
        Arc::<CheckpointManager>::clone(&checkpoints),
        workspace,
        state.join("rollback"),
        Arc::<SystemClock>::clone(&clock),
    )
    .settings(config.safety.rollback.clone())
    .build()?;
    let gate = SafetyIntegration::builder(
        Arc::<CheckpointManager>::clone(&checkpoints),
        Arc::new(MetricsTracker::open(state.join("metrics.db")).await?),
        Arc::new(RegressionDetector::new(&config.detector())?),
        Arc::new(FileAuditLog::new(state.join("audit.jsonl"), Arc::<SystemClock>::clone(&clock))),
        Arc::<SystemClock>::clone(&clock),
    )
    .rollback(Arc::new(rollback))
    .policy(Arc::new(config.policy()?))
    .switches(config.safety_switches())
    .build();
    let parts = PipelineParts {
        workspace: workspace.to_owned(),
        state_directory: state,
        proposer: Arc::new(TriesValues(vec![80.0, 120.0, 0.0, 60.0])),
        evaluator: Arc::new(ReadsTheFile),
        gate: Arc::new(gate),
        checkpoints,
        clock,
    };
    let objective = Objective { metric: MetricName::new("latency")?, direction: Direction::Increase };
    let mut builder = EvolutionPipeline::builder(parts).objective(objective);
    for condition in config.stop_conditions() {
        builder = builder.stop_condition(condition);
    }
    Ok(builder.build())
}

/// Four iterations: better, worse, broken, better still.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let workspace = tempfile::tempdir()?;
    fs::write(workspace.path().join("sleep_ms"), "100")?;
    let pipeline = pipeline(workspace.path(), &EvolutionConfig::default()).await?;

    let results = pipeline.run_evolution_cycle_with_safety(4, true, true).await?;

    let successful = results.iter().filter(|result| result.success).count();
    let accepted = results.iter().filter(|result| result.version_accepted).count();
    let rolled_back = results.iter().filter(|result| result.rollback_performed).count();
    assert_eq!((successful, accepted, rolled_back), (4, 2, 2), "{results:#?}");
    assert_eq!(fs::read_to_string(workspace.path().join("sleep_ms"))?, "60");
    Ok(())
}
