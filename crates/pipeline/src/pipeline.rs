//! The loop: what it is made of, and how a run goes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use evoseal_checkpoint::CheckpointStore;
use evoseal_safety::{SafetyGate, VersionRef};
use evoseal_sandbox::Guard;
use evoseal_types::{Clock, Objective};
use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind, Observer};
use crate::journal::JournalEntry;
use crate::journal_file::Journal;
use crate::lock::RunLock;
use crate::observe::describe;
use crate::result::{IterationResult, RunReport};
use crate::run_state::RunState;
use crate::stop::{DiskLimits, LoopProgress, MaxIterations, StopCondition, StopReason};
use crate::{Cancellation, Error, Evaluator, LoopRules, Proposer, Result};

/// How a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunOptions {
    /// How many iterations are wanted. Default 1.
    pub iterations: u64,
    /// Whether versions are captured. Without it nothing can be rolled back, edits are not compared with the incumbent,
    /// and measurements are compared with the incumbent's earlier ones instead of side by side. Default: yes.
    pub enable_checkpoints: bool,
    /// Whether the workspace goes back to the incumbent when a candidate is refused. Without it the run ends at the first
    /// refused candidate, which stays in the workspace; the next run refuses to start from it. An edit that was cut off
    /// before there was a decision is undone in any case, where there are checkpoints. Default: yes.
    pub enable_auto_rollback: bool,
    /// What proposers derive their randomness from. Default 0.
    pub seed: u64,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { iterations: 1, enable_checkpoints: true, enable_auto_rollback: true, seed: 0 }
    }
}

/// The parts of a pipeline without which there is no loop.
#[derive(Debug, Clone)]
pub struct PipelineParts {
    /// The directory tree that evolves.
    pub workspace: PathBuf,
    /// Where the journal, the run lock and copies for measuring lie; `.evoseal` in the workspace as a rule.
    pub state_directory: PathBuf,
    /// Proposes changes.
    pub proposer: Arc<dyn Proposer>,
    /// Tests and measures.
    pub evaluator: Arc<dyn Evaluator>,
    /// Captures, judges, accepts and rolls back.
    pub gate: Arc<dyn SafetyGate>,
    /// The store that the gate captures into.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// Gives the time.
    pub clock: Arc<dyn Clock>,
}

/// The thin loop around the parts (the published name): checkpoint, propose, guard, evaluate, judge, accept or roll back.
#[derive(Debug)]
pub struct EvolutionPipeline {
    pub(crate) parts: PipelineParts,
    pub(crate) objective: Option<Objective>,
    pub(crate) guards: Vec<Arc<dyn Guard>>,
    pub(crate) configuration: BTreeMap<String, String>,
    pub(crate) cancellation: Cancellation,
    pub(crate) rules: LoopRules,
    watches_store: bool,
    observers: Vec<Arc<dyn Observer>>,
    stop_conditions: Vec<Arc<dyn StopCondition>>,
    lock: Option<Arc<RunLock>>,
    late_guards: LateGuards,
}

/// Makes guards from a workspace.
type MakeGuards = dyn Fn(&Path) -> evoseal_sandbox::Result<Vec<Arc<dyn Guard>>> + Send + Sync;

/// Guards that look at the workspace as it stands when a run begins.
#[derive(Default)]
struct LateGuards {
    make: Option<Arc<MakeGuards>>,
    /// What it made for the present run.
    made: Mutex<Vec<Arc<dyn Guard>>>,
}

impl fmt::Debug for LateGuards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateGuards").field("made", &self.made).finish_non_exhaustive()
    }
}

/// Puts an [`EvolutionPipeline`] together.
#[derive(Debug)]
pub struct EvolutionPipelineBuilder {
    pipeline: EvolutionPipeline,
}

impl EvolutionPipelineBuilder {
    /// Says what to improve. Without it every version that is no worse is accepted.
    pub fn objective(mut self, objective: Objective) -> Self {
        self.pipeline.objective = Some(objective);
        self
    }

    /// Adds rules about what an edit may touch that take down how the workspace is before it, such as
    /// [`ProtectedPaths`](evoseal_sandbox::ProtectedPaths). They are made when a run begins, once the workspace is in order:
    /// earlier, the candidate of a run that was killed may still stand there, and would be taken for what is to be protected.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use evoseal_pipeline::{EvolutionPipelineBuilder, PipelineParts};
    /// use evoseal_sandbox::{Guard, ProtectedPaths};
    ///
    /// fn protect_tests(builder: EvolutionPipelineBuilder) -> EvolutionPipelineBuilder {
    ///     builder.guards_from(|workspace| {
    ///         let protected = ProtectedPaths::pin(workspace, ["tests/**"])?;
    ///         Ok(vec![Arc::new(protected) as Arc<dyn Guard>])
    ///     })
    /// }
    /// ```
    pub fn guards_from(
        mut self,
        make: impl Fn(&Path) -> evoseal_sandbox::Result<Vec<Arc<dyn Guard>>> + Send + Sync + 'static,
    ) -> Self {
        self.pipeline.late_guards.make = Some(Arc::new(make));
        self
    }

    /// Adds a rule about what an edit may touch. One that takes down how the workspace is before the edit belongs to
    /// [`guards_from`](Self::guards_from).
    pub fn guard(mut self, guard: Arc<dyn Guard>) -> Self {
        self.pipeline.guards.push(guard);
        self
    }

    /// Adds someone who watches.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.pipeline.observers.push(observer);
        self
    }

    /// Adds a condition that ends a run.
    pub fn stop_condition(mut self, condition: Arc<dyn StopCondition>) -> Self {
        self.pipeline.stop_conditions.push(condition);
        self
    }

    /// Sets what follows from decisions and failures that are no verdict on a candidate.
    pub fn rules(mut self, rules: LoopRules) -> Self {
        self.pipeline.rules = rules;
        self
    }

    /// Ends a run before storage runs out. The checkpoint store is only asked for its size where there is a limit for it.
    pub fn disk_limits(mut self, limits: DiskLimits) -> Self {
        self.pipeline.watches_store |= limits.store_bytes_max.is_some();
        self.stop_condition(Arc::new(limits))
    }

    /// Sets the key and value pairs that each checkpoint records as its configuration.
    pub fn configuration(mut self, configuration: BTreeMap<String, String>) -> Self {
        self.pipeline.configuration = configuration;
        self
    }

    /// Sets what ends a run from outside.
    pub fn cancellation(mut self, cancellation: Cancellation) -> Self {
        self.pipeline.cancellation = cancellation;
        self
    }

    /// Hands over the workspace's run lock, for callers that have something to do under it before the run begins. Without it
    /// each run takes the lock for itself.
    pub fn run_lock(mut self, lock: Arc<RunLock>) -> Self {
        self.pipeline.lock = Some(lock);
        self
    }

    /// Finishes.
    pub fn build(self) -> EvolutionPipeline {
        self.pipeline
    }
}

/// A journal and the lock that it is written under. They stay together: a write goes on when the future that asked for it
/// is dropped, and no other run may begin before it has ended.
#[derive(Debug)]
struct LockedJournal {
    journal: Journal,
    _lock: Arc<RunLock>,
}

/// The state of a run while it goes: the journal and what follows from it.
#[derive(Debug)]
pub(crate) struct Run {
    journal: Arc<Mutex<LockedJournal>>,
    pub(crate) state: RunState,
    pub(crate) options: RunOptions,
    /// What this run does not protect.
    pub(crate) unprotected: Vec<String>,
}

impl Run {
    /// Takes the lock and reads the journal.
    pub(crate) async fn open(
        state_directory: PathBuf,
        lock: Option<Arc<RunLock>>,
        options: RunOptions,
    ) -> Result<Self> {
        off_thread("opening the journal", move || {
            std::fs::create_dir_all(&state_directory).map_err(|source| Error::Io {
                action: "create",
                path: state_directory.clone(),
                source,
            })?;
            let lock = match lock {
                Some(lock) => lock,
                None => Arc::new(RunLock::acquire(&state_directory)?),
            };
            let (journal, entries) = Journal::open(&EvolutionPipeline::journal_path(&state_directory))?;
            let state = RunState::replay(&entries);
            let journal = Arc::new(Mutex::new(LockedJournal { journal, _lock: lock }));
            Ok(Self { journal, state, options, unprotected: unprotected_by(&options) })
        })
        .await
    }

    /// Makes an entry durable and follows it. The write happens off the asynchronous threads.
    pub(crate) async fn record(&mut self, entry: JournalEntry) -> Result<()> {
        let journal = Arc::clone(&self.journal);
        let entry = off_thread("writing the journal", move || {
            journal.lock().unwrap_or_else(PoisonError::into_inner).journal.append(&entry)?;
            Ok(entry)
        })
        .await?;
        self.state.apply(&entry);
        Ok(())
    }
}

/// Runs blocking work off the asynchronous threads.
pub(crate) async fn off_thread<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Interrupted { action })?
}

impl EvolutionPipeline {
    /// Starts from the parts without which there is no loop.
    pub fn builder(parts: PipelineParts) -> EvolutionPipelineBuilder {
        EvolutionPipelineBuilder {
            pipeline: Self {
                parts,
                objective: None,
                guards: Vec::new(),
                configuration: BTreeMap::new(),
                cancellation: Cancellation::default(),
                rules: LoopRules::default(),
                watches_store: false,
                observers: Vec::new(),
                stop_conditions: Vec::new(),
                lock: None,
                late_guards: LateGuards::default(),
            },
        }
    }

    /// The journal's file.
    pub fn journal_path(state_directory: &Path) -> PathBuf {
        state_directory.join("journal.jsonl")
    }

    /// The gate, for status pages and manual operations (the published attribute).
    pub fn safety_integration(&self) -> &Arc<dyn SafetyGate> {
        &self.parts.gate
    }

    /// Asks a run to end.
    pub fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    /// Runs iterations and gives their results: the published entry point.
    ///
    /// See [`run`](Self::run), which also says why it ended, and [`RunOptions`] for what the two switches do.
    pub async fn run_evolution_cycle_with_safety(
        &self,
        iterations: u64,
        enable_checkpoints: bool,
        enable_auto_rollback: bool,
    ) -> Result<Vec<IterationResult>> {
        let options =
            RunOptions { iterations, enable_checkpoints, enable_auto_rollback, ..RunOptions::default() };
        self.run(options).await.map(|report| report.results)
    }

    /// Runs until a stop condition, the number of iterations, the proposer or a person ends it.
    ///
    /// A run that was killed is recovered first, and its unfinished iteration is completed as the first of this run. The
    /// workspace is evaluated as it stands if there is no accepted version yet or a person has changed it since.
    ///
    /// # Errors
    ///
    /// [`Error::BaselineFailed`] if the version to start from does not pass; [`Error::Locked`] if another run works on the
    /// workspace; anything that keeps the loop from working. A failed iteration is a result, not an error. After an error
    /// the workspace is at the incumbent if that could be done; the next run puts it in order in any case.
    pub async fn run(&self, options: RunOptions) -> Result<RunReport> {
        let mut run = self.open(options).await?;
        let first = run.state.finished.len();
        let outcome = self.run_opened(&mut run).await;
        let reason = match outcome {
            Ok(reason) => reason,
            Err(error) => {
                self.emit(EventKind::ErrorOccurred { error: describe(&error) });
                self.abandon(&mut run, &error).await;
                return Err(error);
            }
        };
        let ended = JournalEntry::RunEnded { at: self.parts.clock.now(), reason: reason.clone() };
        run.record(ended).await?;
        let results: Vec<IterationResult> =
            run.state.finished[first..].iter().map(IterationResult::from).collect();
        let final_version = run.state.incumbent.as_ref().map(|(version, _)| version.clone());
        self.emit(EventKind::EvolutionCompleted {
            iterations_completed: results.len() as u64,
            accepted_versions: results.iter().filter(|result| result.version_accepted).count() as u64,
            rollbacks_performed: results.iter().filter(|result| result.rollback_performed).count() as u64,
            final_version: final_version.as_ref().map(|version| version.version_id.clone()),
            reason: reason.clone(),
        });
        Ok(RunReport { stop_reason: reason, results, final_version, unprotected: run.unprotected })
    }

    /// Puts the workspace of a killed run in order, without going on with it: a decision that was made is carried out, and
    /// before one the workspace returns to the accepted version. Gives the accepted version, or `None` if there was
    /// nothing to do.
    pub async fn recover(&self) -> Result<Option<VersionRef>> {
        let mut run = self.open(RunOptions::default()).await?;
        if !self.recover_workspace(&mut run).await? {
            return Ok(None);
        }
        // An acceptance that has still to be confirmed is the next run's to go on with.
        let awaits = run.state.in_flight.as_ref().is_some_and(|flight| self.awaits_confirmation(flight));
        if run.state.is_decided() && !awaits {
            self.complete(&mut run).await?;
        }
        Ok(run.state.incumbent.map(|(version, _)| version))
    }

    /// Takes the lock and reads the journal.
    async fn open(&self, options: RunOptions) -> Result<Run> {
        Run::open(self.parts.state_directory.clone(), self.lock.clone(), options).await
    }

    /// The run itself.
    async fn run_opened(&self, run: &mut Run) -> Result<StopReason> {
        self.begin_run(run).await?;
        self.recover_workspace(run).await?;
        let options = run.options;
        let started = self.parts.clock.monotonic();
        run.record(JournalEntry::RunStarted {
            at: self.parts.clock.now(),
            iterations: options.iterations,
            seed: options.seed,
            unprotected: run.unprotected.clone(),
        })
        .await?;
        self.emit(EventKind::EvolutionStarted {
            total_iterations: options.iterations,
            checkpoints_enabled: options.enable_checkpoints,
            auto_rollback_enabled: options.enable_auto_rollback,
            baseline_version: run.state.incumbent.as_ref().map(|(version, _)| version.version_id.clone()),
        });
        let first = run.state.finished.len();
        // A decision that was made is carried out whatever the conditions say, so that the workspace is a known version.
        if run.state.is_decided()
            && let Some(reason) = self.complete(run).await?
        {
            return Ok(reason);
        }
        if !self.ensure_baseline(run).await? {
            return Ok(StopReason::Interrupted);
        }
        self.make_guards().await?;
        loop {
            if let Some(reason) = self.awaits_person(run) {
                return Ok(reason);
            }
            let progress = LoopProgress {
                iterations_done: (run.state.finished.len() - first) as u64,
                consecutive_failures: run.state.failures_in_a_row,
                without_improvement: run.state.without_improvement,
                evaluations: run.state.evaluations,
                elapsed: self.parts.clock.monotonic().saturating_sub(started),
                free_bytes: free_bytes(&self.parts.state_directory),
                store_bytes: self.store_bytes().await,
            };
            if let Some(reason) = self.should_stop(&progress, options.iterations) {
                return Ok(reason);
            }
            if let Some(reason) = self.iterate(run).await? {
                return Ok(reason);
            }
        }
    }

    /// What the checkpoint store takes up, where somebody wants to know and it can tell.
    async fn store_bytes(&self) -> Option<u64> {
        if !self.watches_store {
            return None;
        }
        Some(self.parts.checkpoints.statistics().await.ok()?.total_size_bytes)
    }

    /// Makes the guards that have to see the workspace before the first edit.
    async fn make_guards(&self) -> Result<()> {
        if let Some(make) = self.late_guards.make.clone() {
            let workspace = self.parts.workspace.clone();
            let made = off_thread("looking at the workspace", move || Ok(make(&workspace)?)).await?;
            *self.late_guards.made.lock().unwrap_or_else(PoisonError::into_inner) = made;
        }
        Ok(())
    }

    /// All guards.
    pub(crate) fn all_guards(&self) -> Vec<Arc<dyn Guard>> {
        let made = self.late_guards.made.lock().unwrap_or_else(PoisonError::into_inner);
        self.guards.iter().chain(made.iter()).map(Arc::clone).collect()
    }

    /// The first condition that wants the run to end.
    fn should_stop(&self, progress: &LoopProgress, iterations: u64) -> Option<StopReason> {
        if self.cancellation.is_cancelled() {
            return Some(StopReason::Interrupted);
        }
        MaxIterations(iterations)
            .should_stop(progress)
            .or_else(|| self.stop_conditions.iter().find_map(|condition| condition.should_stop(progress)))
    }

    /// Tells everyone who watches.
    pub(crate) fn emit(&self, kind: EventKind) {
        let event = Event { timestamp: self.parts.clock.now(), kind };
        for observer in &self.observers {
            observer.on_event(&event);
        }
    }
}

/// What is left for us on the file system of a folder, in bytes.
fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// What the switches leave unprotected.
fn unprotected_by(options: &RunOptions) -> Vec<String> {
    let mut unprotected = Vec::new();
    if !options.enable_checkpoints {
        unprotected.extend([
            "checkpoints are off: no version can be brought back, and refused candidates stay in the workspace".to_owned(),
            "checkpoints are off: edits are not compared with the incumbent, so their scope and size are not checked"
                .to_owned(),
            "checkpoints are off: measurements are not made side by side".to_owned(),
        ]);
    }
    if !options.enable_auto_rollback {
        unprotected.push("automatic rollback is off: a refused candidate stays in the workspace".to_owned());
    }
    unprotected
}
