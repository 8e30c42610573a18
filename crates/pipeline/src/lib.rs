//! -

mod error;
mod evaluator;
mod proposer;

pub use error::{Error, Result};
pub use evaluator::{Evaluation, EvaluationRequest, Evaluator, VersionInPlace};
pub use proposer::{Brief, PastOutcome, Proposal, ProposalContext, Proposer};
