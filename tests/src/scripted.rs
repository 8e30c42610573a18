//! A proposer and an evaluator that run a function: loops without commands.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use evoseal_pipeline::{
    Error, Evaluation, EvaluationRequest, Evaluator, Proposal, ProposalContext, Proposer, Result,
};
use evoseal_types::ErrorClass;

type Edit = dyn Fn(&ProposalContext) -> std::io::Result<Proposal> + Send + Sync;
type Look = dyn Fn(&EvaluationRequest) -> Result<Evaluation> + Send + Sync;

/// A proposer that calls a function. An error of the function is a failed proposal.
pub struct FunctionProposer {
    edit: Box<Edit>,
}

impl FunctionProposer {
    /// Proposes with `edit`.
    pub fn new(edit: impl Fn(&ProposalContext) -> std::io::Result<Proposal> + Send + Sync + 'static) -> Self {
        Self { edit: Box::new(edit) }
    }

    /// Writes one file, whose text follows from the iteration.
    pub fn writing(name: &'static str, text: impl Fn(u64) -> String + Send + Sync + 'static) -> Self {
        Self::new(move |context| {
            std::fs::write(context.workspace.join(name), text(context.iteration))?;
            Ok(Proposal::Edited { summary: format!("write {name}") })
        })
    }
}

impl fmt::Debug for FunctionProposer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionProposer").finish_non_exhaustive()
    }
}

#[async_trait]
impl Proposer for FunctionProposer {
    async fn propose(&self, context: &ProposalContext) -> Result<Proposal> {
        (self.edit)(context).map_err(|error| Error::Proposer {
            reason: error.to_string(),
            class: ErrorClass::of_io(&error),
            source: None,
        })
    }
}

/// An evaluator that calls a function and counts the calls.
pub struct FunctionEvaluator {
    look: Box<Look>,
    calls: AtomicU64,
}

impl FunctionEvaluator {
    /// Evaluates with `look`.
    pub fn new(look: impl Fn(&EvaluationRequest) -> Result<Evaluation> + Send + Sync + 'static) -> Self {
        Self { look: Box::new(look), calls: AtomicU64::new(0) }
    }

    /// How often it was asked.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for FunctionEvaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionEvaluator").field("calls", &self.calls).finish_non_exhaustive()
    }
}

#[async_trait]
impl Evaluator for FunctionEvaluator {
    async fn evaluate(&self, request: &EvaluationRequest) -> Result<Evaluation> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        (self.look)(request)
    }
}
