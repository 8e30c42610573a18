//! The loop: checkpoint, propose, check the edit, evaluate, judge, accept or roll back.
//!
//! # The problem
//!
//! A loop that lets a program change a program runs unattended for hundreds of iterations. Proposers hang and fail,
//! evaluations leave things behind, candidates tamper with what judges them, and processes are killed in the middle of it
//! all. Whatever happens, the workspace must end as the last accepted version, no iteration may be decided twice, and the
//! history must say why.
//!
//! # The concept
//!
//! The loop is thin. All that it knows stands in a *journal*: one durable line before or after each phase of an iteration.
//! What is to be done next is a pure function of the journal ([`RunState::replay`]), so that a start after a crash and a
//! start after a pause are the same thing: an iteration that was killed before its decision returns the workspace to the
//! accepted version and goes on with the candidate, if there is one; one that was killed after it is carried out as decided.
//!
//! Proposers and evaluators are not trusted. What a proposer says is recorded, what it did is captured and compared; what an
//! evaluation leaves in the workspace is undone; guards look before and after.
//!
//! # The parts
//!
//! - [`EvolutionPipeline`] is put together by its builder from [`PipelineParts`] and runs with [`RunOptions`];
//!   [`EvolutionConfig`] has the settings with their published keys.
//! - [`Proposer`] edits the workspace in place. [`Evaluator`] tests and measures a candidate beside the incumbent.
//! - The gate (`evoseal-safety`) captures, judges, accepts and rolls back; guards (`evoseal-sandbox`) look at edits.
//! - [`StopCondition`] ends a run, [`Observer`] watches it, [`Cancellation`] ends it from outside.
//! - [`Journal`] is the file, which `FORMAT.md` describes; [`RunLock`] keeps a second run away from the workspace.
//! - The feature `conformance` exports test suites for the traits.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use evoseal_checkpoint::CheckpointManager;
//! use evoseal_metrics::MemoryMetricStore;
//! use evoseal_pipeline::{
//!     Evaluation, EvaluationRequest, Evaluator, EvolutionPipeline, PipelineParts, Proposal, ProposalContext,
//!     Proposer, Result,
//! };
//! use evoseal_regression::{RegressionDetector, RegressionSettings};
//! use evoseal_rollback::RollbackManager;
//! use evoseal_safety::{MemoryAuditLog, SafetyIntegration};
//! use evoseal_types::{SystemClock, TestReport};
//!
//! /// Appends a line, an empty one every second time.
//! #[derive(Debug)]
//! struct AppendsLines;
//!
//! #[async_trait]
//! impl Proposer for AppendsLines {
//!     async fn propose(&self, context: &ProposalContext) -> Result<Proposal> {
//!         let path = context.workspace.join("poem");
//!         let line = if context.iteration % 2 == 0 { "\n" } else { "a line\n" };
//!         let text = std::fs::read_to_string(&path).unwrap_or_default() + line;
//!         std::fs::write(path, text).expect("the workspace is writable");
//!         Ok(Proposal::Edited { summary: format!("append {line:?}") })
//!     }
//! }
//!
//! /// A poem is good if no line of it is empty.
//! #[derive(Debug)]
//! struct ReadsPoems;
//!
//! #[async_trait]
//! impl Evaluator for ReadsPoems {
//!     async fn evaluate(&self, request: &EvaluationRequest) -> Result<Evaluation> {
//!         let text = std::fs::read_to_string(request.candidate.directory.join("poem")).unwrap_or_default();
//!         let empty = text.lines().filter(|line| line.is_empty()).count() as u64;
//!         let report = TestReport::from_counts("lines", 1, empty, 0, 0);
//!         Ok(Evaluation { test_results: vec![report], ..Evaluation::default() })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let (workspace, state) = (folder.path().to_owned(), folder.path().join(".evoseal"));
//! std::fs::write(workspace.join("poem"), "the first line\n")?;
//!
//! let clock = Arc::new(SystemClock::new());
//! let checkpoints = Arc::new(CheckpointManager::builder().in_memory().open_or_create()?);
//! let rollback = RollbackManager::builder(
//!     checkpoints.clone(), &workspace, state.join("rollback"), clock.clone(),
//! )
//! .build()?;
//! let gate = SafetyIntegration::builder(
//!     checkpoints.clone(),
//!     Arc::new(MemoryMetricStore::new()),
//!     Arc::new(RegressionDetector::new(&RegressionSettings::default())?),
//!     Arc::new(MemoryAuditLog::new(clock.clone())),
//!     clock.clone(),
//! )
//! .rollback(Arc::new(rollback))
//! .build();
//! let pipeline = EvolutionPipeline::builder(PipelineParts {
//!     workspace: workspace.clone(),
//!     state_directory: state,
//!     proposer: Arc::new(AppendsLines),
//!     evaluator: Arc::new(ReadsPoems),
//!     gate: Arc::new(gate),
//!     checkpoints,
//!     clock,
//! })
//! .build();
//!
//! let results = pipeline.run_evolution_cycle_with_safety(3, true, true).await?;
//! let accepted: Vec<bool> = results.iter().map(|result| result.version_accepted).collect();
//! assert_eq!(accepted, [true, false, true]);
//! assert_eq!(std::fs::read_to_string(workspace.join("poem"))?, "the first line\na line\na line\n");
//! # Ok(())
//! # }
//! ```
//!
//! # Persons
//!
//! What the loop does not decide is held, and with [`OnInconclusive::Ask`](evoseal_safety::OnInconclusive) the run waits. An
//! [`Overrider`] carries out what a person decides between runs; [`VersionState`] says what a candidate is after all of that,
//! and `STATES.md` shows what leads from one state to another. [`LoopRules`] holds what follows from what is no verdict.
//!
//! # What it does not do
//!
//! - It evaluates one candidate after the other, never two at once.
//! - It sandboxes nothing itself. A proposer or an evaluator that runs commands does that, and must end what it started.
//! - The journal lies where the state directory is. Whatever can write there can forge it: a line carries a digest, not a
//!   signature. Keep the state directory out of reach of what is evaluated.
//! - Between the start of the very first evaluation and its end nothing is in the journal. If the process is killed there,
//!   what that evaluation left in the workspace is part of the version that the next run starts from.
//! - Work of a person in the workspace *during* a run is treated like what a candidate left behind. What is found there after
//!   a crash, at the start of an iteration or when a run is cancelled is captured before it is undone, ignored files that would
//!   be overwritten or removed included.

mod attempts;
mod audit_trail;
mod baseline;
mod cancel;
mod config;
mod confirm;
mod error;
mod evaluator;
mod event;
mod iterate;
mod journal;
mod journal_file;
mod lock;
mod measure_again;
mod observe;
mod overrides;
mod pipeline;
mod proposer;
mod put_back;
mod quarantine;
mod recover;
mod result;
mod retest;
mod rules;
mod run_state;
mod space;
mod states;
mod stop;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use audit_trail::{MissingRecord, missing_from_audit};
pub use cancel::Cancellation;
pub use config::EvolutionConfig;
pub use error::{Error, Result};
pub use evaluator::{Evaluation, EvaluationRequest, Evaluator, VersionInPlace};
pub use event::{Event, EventKind, Observer, Stage};
pub use journal::{AcceptedBaseline, FinishedIteration, InFlight, JournalEntry, Retest};
pub use journal_file::Journal;
pub use lock::{LockHolder, RunLock};
pub use measure_again::FurtherMeasurements;
pub use overrides::{CompletedOverride, OverridePlan, OverrideReport, OverrideRequest, Overrider};
pub use pipeline::{EvolutionPipeline, EvolutionPipelineBuilder, PipelineParts, RunOptions};
pub use proposer::{Brief, PastOutcome, Proposal, ProposalContext, Proposer};
pub use quarantine::CLEAN_RUNS_TO_TRUST;
pub use result::{IterationOutcome, IterationResult, RunReport};
pub use rules::LoopRules;
pub use run_state::{PendingOverride, RunState};
pub use states::{Cause, VersionState, state_table};
pub use stop::{
    ConsecutiveFailures, DiskLimits, LoopProgress, MaxEvaluations, MaxIterations, NoImprovement,
    StopCondition, StopReason, TimeLimit,
};
