//! -

mod cancel;
mod error;
mod evaluator;
mod event;
mod iterate;
mod journal;
mod journal_file;
mod lock;
mod pipeline;
mod proposer;
mod recover;
mod result;
mod stop;

pub use cancel::Cancellation;
pub use error::{Error, Result};
pub use evaluator::{Evaluation, EvaluationRequest, Evaluator, VersionInPlace};
pub use event::{Event, EventKind, Observer, Stage};
pub use journal::{AcceptedBaseline, FinishedIteration, InFlight, JournalEntry, RunState};
pub use journal_file::Journal;
pub use lock::RunLock;
pub use pipeline::{EvolutionPipeline, EvolutionPipelineBuilder, PipelineParts, RunOptions};
pub use proposer::{Brief, PastOutcome, Proposal, ProposalContext, Proposer};
pub use result::{IterationOutcome, IterationResult, RunReport};
pub use stop::{ConsecutiveFailures, LoopProgress, MaxIterations, StopCondition, StopReason, TimeLimit};
