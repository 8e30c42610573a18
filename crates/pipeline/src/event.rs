//! What a run tells whoever watches it.

use std::fmt;
use std::sync::Arc;

use evoseal_types::{Timestamp, VersionId};
use serde::{Deserialize, Serialize};

use crate::{IterationResult, StopReason};

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub timestamp: Timestamp,
    /// What.
    pub kind: EventKind,
}

/// What happened. The names are the published ones, in upper snake case when serialised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", tag = "event_type", content = "data")]
pub enum EventKind {
    /// A run began.
    EvolutionStarted {
        /// How many iterations are wanted.
        total_iterations: u64,
        /// Whether checkpoints are made.
        checkpoints_enabled: bool,
        /// Whether refused candidates are rolled back.
        auto_rollback_enabled: bool,
        /// The version that it starts from; `None` if that is to be evaluated first.
        baseline_version: Option<VersionId>,
    },
    /// An interrupted run was found and its workspace put in order.
    RunRecovered {
        /// The iteration that was interrupted.
        iteration: u64,
        /// What was done.
        action: String,
    },
    /// The version to start from was accepted.
    BaselineAccepted {
        /// The version.
        version_id: VersionId,
    },
    /// An iteration began.
    IterationStarted {
        /// The iteration.
        iteration: u64,
    },
    /// A stage began.
    PipelineStageStarted {
        /// The iteration; 0 for the version to start from.
        iteration: u64,
        /// The stage.
        stage: Stage,
    },
    /// A stage ended.
    PipelineStageCompleted {
        /// The iteration; 0 for the version to start from.
        iteration: u64,
        /// The stage.
        stage: Stage,
        /// What came of it, in a line.
        summary: String,
    },
    /// A regression was found.
    RegressionDetected {
        /// The iteration.
        iteration: u64,
        /// The findings, in a line each.
        findings: Vec<String>,
    },
    /// The workspace was returned to an accepted version.
    RollbackCompleted {
        /// The iteration.
        iteration: u64,
        /// The version that the workspace holds now.
        version_id: VersionId,
    },
    /// An iteration ended, whatever came of it.
    IterationCompleted {
        /// Its result.
        result: Box<IterationResult>,
    },
    /// The run ended.
    EvolutionCompleted {
        /// Iterations that were finished.
        iterations_completed: u64,
        /// Versions that were accepted.
        accepted_versions: u64,
        /// Rollbacks of the workspace.
        rollbacks_performed: u64,
        /// The accepted version.
        final_version: Option<VersionId>,
        /// Why it ended.
        reason: StopReason,
    },
    /// Something failed.
    ErrorOccurred {
        /// What.
        error: String,
    },
}

/// The stages of an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The workspace is captured.
    Checkpoint,
    /// The proposer edits.
    Propose,
    /// Guards look at the edit.
    Guard,
    /// The candidate is built, tested and measured.
    Evaluate,
    /// The decision is made.
    Judge,
    /// The decision is carried out.
    Settle,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Checkpoint => "checkpoint",
            Self::Propose => "propose",
            Self::Guard => "guard",
            Self::Evaluate => "evaluate",
            Self::Judge => "judge",
            Self::Settle => "settle",
        })
    }
}

/// Watches a run.
///
/// Contract: called in the order of events, from one task at a time; returns soon (a slow observer slows the run); cannot
/// change the run, and a panic in it is not caught.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Is told of an event.
    fn on_event(&self, event: &Event);
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn on_event(&self, event: &Event) {
        (**self).on_event(event);
    }
}

impl<O: Observer + ?Sized> Observer for Box<O> {
    fn on_event(&self, event: &Event) {
        (**self).on_event(event);
    }
}
