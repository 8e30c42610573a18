//! The standard parts of the library over one directory.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evoseal_checkpoint::CheckpointManager;
use evoseal_metrics::{MetricStore, MetricsTracker};
use evoseal_pipeline::{Evaluator, EvolutionPipeline, EvolutionPipelineBuilder, PipelineParts, Proposer};
use evoseal_regression::{RegressionDetector, RegressionSettings};
use evoseal_rollback::{Rollback, RollbackManager, RollbackMode, RollbackSettings, bring_state_home};
use evoseal_safety::{FileAuditLog, FileEvidenceStore, SafetyIntegration};
use evoseal_types::{Clock, SystemClock};

/// Every standard part, put together as a program that embeds the library does it: the state lies in `.evoseal` of the
/// workspace, and all settings have their defaults.
#[derive(Debug, Clone)]
pub struct Assembly {
    /// The directory that evolves.
    pub workspace: PathBuf,
    /// `.evoseal` in it.
    pub state_directory: PathBuf,
    /// The checkpoint store.
    pub checkpoints: CheckpointManager,
    /// What was measured.
    pub metrics: Arc<dyn MetricStore>,
    /// The detector.
    pub detector: Arc<RegressionDetector>,
    /// The rollback.
    pub rollback: Arc<RollbackManager>,
    /// The gate over all of them.
    pub gate: Arc<SafetyIntegration>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Assembly {
    /// Opens, or makes, the parts of the workspace at `workspace`, which is an absolute path.
    pub async fn open(workspace: &Path) -> Result<Self, Box<dyn Error>> {
        Self::open_with(workspace, &RegressionSettings::default()).await
    }

    /// The same with other settings of the detector.
    pub async fn open_with(
        workspace: &Path,
        regression: &RegressionSettings,
    ) -> Result<Self, Box<dyn Error>> {
        Self::open_in(workspace, regression, RollbackMode::default()).await
    }

    /// The same with other settings of the detector, and with this way of rolling back.
    pub async fn open_in(
        workspace: &Path,
        regression: &RegressionSettings,
        mode: RollbackMode,
    ) -> Result<Self, Box<dyn Error>> {
        bring_state_home(workspace, &workspace.join(".evoseal/rollback"))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let state_directory = workspace.join(".evoseal");
        std::fs::create_dir_all(&state_directory)?;
        let store_directory = state_directory.join("checkpoints");
        let checkpoints = CheckpointManager::builder()
            .directory(&store_directory)
            .clock(Arc::clone(&clock))
            .open_or_create()?;
        let metrics: Arc<dyn MetricStore> = Arc::new(MetricsTracker::open(&state_directory).await?);
        let detector = Arc::new(RegressionDetector::new(regression)?);
        let rollback = RollbackManager::builder(
            Arc::new(checkpoints.clone()),
            workspace,
            state_directory.join("rollback"),
            Arc::clone(&clock),
        )
        .store_directory(&store_directory)
        .settings(RollbackSettings { mode, ..RollbackSettings::default() })
        .build()?;
        let rollback = Arc::new(rollback);
        let audit = FileAuditLog::new(state_directory.join("audit.jsonl"), Arc::clone(&clock));
        let gate = SafetyIntegration::builder(
            Arc::new(checkpoints.clone()),
            Arc::clone(&metrics),
            Arc::clone(&detector) as _,
            Arc::new(audit),
            Arc::clone(&clock),
        )
        .rollback(Arc::clone(&rollback) as _)
        .evidence(Arc::new(FileEvidenceStore::new(state_directory.join("evidence"))))
        .build();
        let workspace = workspace.to_owned();
        Ok(Self {
            workspace,
            state_directory,
            checkpoints,
            metrics,
            detector,
            rollback,
            gate: Arc::new(gate),
            clock,
        })
    }

    /// A loop over these parts.
    pub fn pipeline(
        &self,
        proposer: Arc<dyn Proposer>,
        evaluator: Arc<dyn Evaluator>,
    ) -> EvolutionPipelineBuilder {
        EvolutionPipeline::builder(PipelineParts {
            workspace: self.workspace.clone(),
            state_directory: self.state_directory.clone(),
            proposer,
            evaluator,
            gate: Arc::clone(&self.gate) as _,
            checkpoints: Arc::new(self.checkpoints.clone()),
            clock: Arc::clone(&self.clock),
        })
    }

    /// How many rollbacks there were.
    ///
    /// # Panics
    ///
    /// If the history cannot be read.
    pub async fn rollback_count(&self) -> u64 {
        self.rollback.statistics().await.expect("the history can be read").total_rollbacks
    }
}
