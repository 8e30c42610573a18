//! Whoever proposes changes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_types::{MetricName, Objective, VersionId};
use serde::{Deserialize, Serialize};

use crate::Result;

/// What a proposer is told.
#[derive(Debug, Clone)]
pub struct ProposalContext {
    /// The workspace, equal to the incumbent. The proposer edits it in place.
    pub workspace: PathBuf,
    /// A folder of the run, outside the workspace, where the proposer may leave files.
    pub run_directory: PathBuf,
    /// The iteration, counted from 1.
    pub iteration: u64,
    /// The run's seed. A proposer that draws by chance derives its randomness from this and the iteration alone, so that
    /// the same seed proposes the same candidates.
    pub seed: u64,
    /// What the run is about and what has happened so far.
    pub brief: Brief,
}

/// What the run is about and what has happened so far; serialised as JSON for proposers that are programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    /// What to improve, if the run says so.
    pub objective: Option<Objective>,
    /// The accepted version.
    pub incumbent: VersionId,
    /// Its metrics: mean per metric.
    pub incumbent_metrics: BTreeMap<MetricName, f64>,
    /// The latest iterations, oldest first, at most 20.
    pub outcomes: Vec<PastOutcome>,
}

/// What became of an earlier proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastOutcome {
    /// The iteration.
    pub iteration: u64,
    /// What was proposed, in the proposer's own words.
    pub change: String,
    /// `accepted`, `rejected`, `rolled_back`, `inconclusive` or `error`.
    pub outcome: String,
    /// Why.
    pub reasons: Vec<String>,
    /// The candidate's metrics: mean per metric.
    pub metrics: BTreeMap<MetricName, f64>,
}

/// What a proposer did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proposal {
    /// It edited the workspace.
    Edited {
        /// What it changed, in a line.
        summary: String,
    },
    /// It has nothing more to propose; the run ends.
    Exhausted {
        /// Why, in a line.
        reason: String,
    },
}

/// Proposes changes by editing the workspace.
///
/// # Contract
///
/// - When `propose` is called the workspace equals the incumbent. It may be left in any state, also after an error: the
///   pipeline looks at the result and restores the incumbent where needed.
/// - *Cancel safety.* The returned future may be dropped at any time; nothing that it started may go on editing.
/// - *Errors* are failed iterations, not the end of the run; they count as failures for the stop conditions.
/// - A proposer is not trusted: what it says is recorded, what it did is checked.
#[async_trait]
pub trait Proposer: fmt::Debug + Send + Sync {
    /// Edits the workspace.
    async fn propose(&self, context: &ProposalContext) -> Result<Proposal>;
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_proposer {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<P: Proposer + ?Sized> Proposer for $pointer<P> {
            async fn propose(&self, context: &ProposalContext) -> Result<Proposal> {
                (**self).propose(context).await
            }
        }
    };
}

forward_proposer!(Arc);
forward_proposer!(Box);
