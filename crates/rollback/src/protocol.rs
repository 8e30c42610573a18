//! The steps of a rollback: intent, attempts, end; and how an interrupted one is completed.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use evoseal_checkpoint::{
    Checkpoint, CheckpointStore, CheckpointStoreExt, NewCheckpoint, RestoreMode, Source,
};
use evoseal_types::{Change, CheckpointId, Clock, Digest, EntryPath, ErrorClass, VersionId};

use crate::deadline::Deadline;
use crate::exchange::Exchange;
use crate::files::Files;
use crate::intent::{GivingUp, Intent};
use crate::saving;
use crate::state::{Lock, State};
use crate::workspace::Workspace;
use crate::{
    Attempt, DigestVerifier, Error, Initiator, Result, RollbackMode, RollbackRecord, RollbackReport,
    RollbackRequest, RollbackSettings, Target, TargetSelector, Verifier,
};

/// Everything that a rollback needs; shared with the task that carries one out.
#[derive(Debug)]
pub(crate) struct Protocol {
    pub(crate) store: Arc<dyn CheckpointStore>,
    pub(crate) workspace: Workspace,
    pub(crate) state: Arc<State>,
    pub(crate) files: Files,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: RollbackSettings,
    pub(crate) selector: Arc<dyn TargetSelector>,
    pub(crate) verifier: Option<Arc<dyn Verifier>>,
}

/// How often a waiting rollback asks for the lock. Short beside any restore, long beside the two system calls it takes.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// A checkpoint that equals the workspace.
struct Held {
    checkpoint: CheckpointId,
    tree: Digest,
    is_new: bool,
}

/// The checkpoint that the workspace now equals, and what its restore changed.
type Restored = (Checkpoint, Vec<Change>, Vec<EntryPath>);

impl Protocol {
    /// One rollback from request to record.
    pub(crate) async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackReport> {
        let deadline = Deadline::start(&self.clock, self.settings.rollback_timeout);
        let (_lock, intent) = match self.begin(&request, &deadline).await {
            Ok(begun) => begun,
            Err(error) => return Err(self.refuse(request, None, &deadline, error).await),
        };
        if let Err(error) = self.keep(&intent).await {
            // The file may be there all the same. Its record makes it an intent that has ended.
            let error = self.refuse(request, Some(intent.key()), &deadline, error).await;
            return Err(error);
        }
        self.complete(intent, &request.initiator, &deadline).await
    }

    /// Completes what an earlier process began; `None` if there is nothing.
    pub(crate) async fn recover(&self) -> Result<Option<RollbackReport>> {
        let deadline = Deadline::start(&self.clock, self.settings.rollback_timeout);
        let _lock = self.lock(&deadline).await?;
        self.settle(&deadline).await
    }

    /// Removes from the caches what a version does not hold that the workspace was put back to.
    pub(crate) async fn clear_caches_of(&self, restored: CheckpointId) -> Result<Vec<EntryPath>> {
        let deadline = Deadline::start(&self.clock, self.settings.rollback_timeout);
        let _lock = self.lock(&deadline).await?;
        self.check_workspace()?;
        self.clear_caches(restored).await
    }

    /// The ladder for a target, as far as it would be climbed.
    pub(crate) async fn ladder(&self, target: &Target) -> Result<(Vec<Checkpoint>, Vec<CheckpointId>)> {
        let checkpoints = self.store.list().await?;
        let known_good = self.state(State::known_good).await?;
        if *target == Target::Undo {
            return self.before_last(&checkpoints).await.map(|id| (checkpoints, vec![id]));
        }
        let mut ladder = self.selector.select(target, &checkpoints, &known_good)?;
        if ladder.is_empty() {
            return Err(Error::NoTarget { reason: "the target selector named none".to_owned() });
        }
        // A selector is somebody else's code. The bounds hold whatever it answers.
        let mut seen = std::collections::BTreeSet::new();
        ladder.retain(|id| seen.insert(*id));
        ladder.truncate(self.settings.attempts_max());
        Ok((checkpoints, ladder))
    }

    /// The newest checkpoint that equals what the workspace held before the last rollback that worked and changed it.
    async fn before_last(&self, checkpoints: &[Checkpoint]) -> Result<CheckpointId> {
        let find = |state: &State| {
            let mut last = None;
            state.records(|record| {
                if let (Some(from), Some(report)) = (record.from_tree, record.report)
                    && from != report.tree
                {
                    last = Some((from, report.saved));
                }
            })?;
            Ok(last)
        };
        let none = |reason: &str| Error::NoTarget { reason: reason.to_owned() };
        let (tree, saved) =
            self.state(find).await?.ok_or_else(|| none("no rollback has changed the workspace yet"))?;
        let is_there = |id: &CheckpointId| checkpoints.iter().any(|checkpoint| checkpoint.id == *id);
        let same =
            || checkpoints.iter().rev().find(|checkpoint| checkpoint.tree == tree).map(|found| found.id);
        saved.filter(is_there).or_else(same).ok_or_else(|| {
            none("the checkpoint of what the workspace held before the last rollback has been deleted")
        })
    }

    /// Does file work on a thread that may block.
    pub(crate) async fn state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = Arc::clone(&self.state);
        unwind(tokio::task::spawn_blocking(move || work(&state)).await)
    }

    /// Everything up to the intent. Nothing in the workspace has been changed when it returns.
    async fn begin(&self, request: &RollbackRequest, deadline: &Deadline) -> Result<(Lock, Intent)> {
        let lock = self.lock(deadline).await?;
        self.check_workspace()?;
        self.settle_first(deadline).await?;
        self.clear_strangers().await?;
        let (checkpoints, ladder) = deadline.within(self.ladder(&request.target)).await?;
        self.workspace.make_if_missing(&self.files)?;
        if self.settings.mode == RollbackMode::Exchange {
            self.exchange(Exchange::check).await?;
        }
        let end = self.state(State::history_end).await?;
        let note = format!("the workspace as it was before a rollback: {}", request.reason);
        let held = self
            .hold(
                &checkpoints,
                ("before-rollback", end.sequence + 1),
                note,
                ladder.first().copied(),
                deadline,
            )
            .await?;
        let intent = Intent {
            request: request.clone(),
            started_at: self.clock.now(),
            after_sequence: end.sequence,
            history_bytes: end.len_bytes,
            original: held.checkpoint,
            from_tree: held.tree,
            saved: held.is_new.then_some(held.checkpoint),
            mode: self.settings.mode,
            ladder,
            attempts: Vec::new(),
            giving_up: None,
        };
        Ok((lock, intent))
    }

    async fn lock(&self, deadline: &Deadline) -> Result<Lock> {
        let poll = async {
            loop {
                if let Some(lock) = self.state(State::try_lock).await? {
                    return Ok::<_, Error>(lock);
                }
                tokio::time::sleep(LOCK_POLL).await;
            }
        };
        deadline.within(poll).await
    }

    pub(crate) fn check_workspace(&self) -> Result<()> {
        self.workspace.check()
    }

    /// Finds a checkpoint that holds all that a restore of `target` would overwrite or remove, or makes one.
    async fn hold(
        &self,
        checkpoints: &[Checkpoint],
        name: (&str, u64),
        note: String,
        target: Option<CheckpointId>,
        deadline: &Deadline,
    ) -> Result<Held> {
        let workspace = &self.workspace.path;
        let tree = deadline.within(self.store.tree_digest(workspace)).await?;
        let found = checkpoints.iter().rev().find(|checkpoint| checkpoint.tree == tree);
        let mut held = if let Some(found) = found {
            Held { checkpoint: found.id, tree, is_new: false }
        } else {
            let source = Source::Directory(workspace.clone());
            let saved = self.save(source, name, note.clone(), deadline).await?;
            Held { checkpoint: saved.id, tree: saved.tree, is_new: true }
        };
        let Some(target) = target else { return Ok(held) };
        let unheld = deadline.within(self.unheld(target, &[held.checkpoint])).await?;
        if !unheld.is_empty() {
            let source = saving::source_with(workspace, &unheld);
            let saved = self.save(source, name, note, deadline).await?;
            held = Held { checkpoint: saved.id, is_new: true, ..held };
        }
        Ok(held)
    }

    async fn save(
        &self,
        source: Source,
        (prefix, sequence): (&str, u64),
        note: String,
        deadline: &Deadline,
    ) -> Result<Checkpoint> {
        let version_id = VersionId::new(format!("{prefix}-{sequence}"))
            .expect("a short name of letters, digits and '-' is a version id");
        let details = NewCheckpoint { note, ..NewCheckpoint::of(version_id) };
        let save = async { self.store.create(source, details).await?.durable().await };
        deadline.within(save).await
    }

    /// See [`saving::unheld`].
    async fn unheld(&self, target: CheckpointId, holders: &[CheckpointId]) -> Result<Vec<EntryPath>> {
        saving::unheld(&*self.store, &self.workspace.path, target, holders).await
    }

    /// Completes an earlier rollback before a new one. One that cannot be completed because what it needs is damaged
    /// or gone is recorded as failed: a new request is the way out of that state, and must not be blocked by it.
    async fn settle_first(&self, deadline: &Deadline) -> Result<()> {
        let Err(error) = self.settle(deadline).await else { return Ok(()) };
        match self.state(State::load_intent).await {
            // It has ended, badly, and has its record.
            Ok(None) => Ok(()),
            Ok(Some(intent)) if matches!(error.class(), ErrorClass::Corrupt | ErrorClass::Invalid) => {
                let initiator = Initiator::Recovery;
                let outcome = Err(describe(&error));
                self.end(&intent, &initiator, outcome, deadline).await
            }
            Ok(Some(_)) => Err(error),
            Err(Error::Damaged { .. }) => self.state(State::set_intent_aside).await,
            Err(error) => Err(error),
        }
    }

    /// Completes the rollback whose intent is on record. The lock is held.
    async fn settle(&self, deadline: &Deadline) -> Result<Option<RollbackReport>> {
        let Some(intent) = self.state(State::load_intent).await? else { return Ok(None) };
        let key = intent.clone();
        if self.state(move |state| state.is_recorded(&key)).await? {
            // It was complete but for this.
            self.clear_beside(&intent).await?;
            self.state(State::clear_intent).await?;
            return Ok(None);
        }
        self.check_workspace()?;
        self.workspace.make_if_missing(&self.files)?;
        // What is lent must be at home before anything is captured.
        self.clear_beside(&intent).await?;
        // Somebody may have worked here since. A tree that is merely half restored is saved as well: nothing tells the
        // two apart.
        let checkpoints = deadline.within(self.store.list()).await?;
        let note = "the workspace as an interrupted rollback, and whoever came after it, left it".to_owned();
        let sequence = intent.after_sequence + 1;
        // Where the workspace is being put back, everything is held that was there before.
        let target = intent.next_target().filter(|_| intent.giving_up.is_none());
        self.hold(&checkpoints, ("before-recovery", sequence), note, target, deadline).await?;
        self.complete(intent, &Initiator::Recovery, deadline).await.map(Some)
    }

    /// Climbs the ladder, or puts the workspace back, and ends the rollback. The intent is on record.
    async fn complete(
        &self,
        mut intent: Intent,
        initiator: &Initiator,
        deadline: &Deadline,
    ) -> Result<RollbackReport> {
        let impossible = match self.climb(&mut intent, deadline).await? {
            ControlFlow::Break(restored) => {
                let report = self.report(&intent, restored).await;
                self.end(&intent, initiator, Ok(report.clone()), deadline).await?;
                return Ok(report);
            }
            ControlFlow::Continue(impossible) => impossible,
        };
        self.clear_beside(&intent).await?;
        self.put_back(&intent).await?;
        let error = match (impossible, intent.giving_up) {
            (Some(impossible), _) => impossible,
            (None, Some(GivingUp::TimedOut)) => deadline.error(&intent.attempts),
            (None, Some(GivingUp::Exhausted) | None) => {
                Error::Exhausted { attempts: intent.attempts.clone() }
            }
        };
        self.end(&intent, initiator, Err(describe(&error)), deadline).await?;
        Err(error)
    }

    /// Tries one target after the other. Progress is on record before the next step, so that a recovery neither tries
    /// a failed target again nor climbs on where the workspace was being put back. Without a target that worked it gives
    /// what made it useless to try another, if it was that.
    async fn climb(
        &self,
        intent: &mut Intent,
        deadline: &Deadline,
    ) -> Result<ControlFlow<Restored, Option<Error>>> {
        let mut impossible = None;
        while intent.giving_up.is_none() {
            let Some(target) = intent.next_target() else {
                intent.giving_up = Some(GivingUp::Exhausted);
                self.keep(intent).await?;
                break;
            };
            if deadline.has_passed() {
                intent.giving_up = Some(GivingUp::TimedOut);
                self.keep(intent).await?;
                break;
            }
            let attempted = match self.attempt(intent, target, deadline).await {
                // No other version would fare better.
                Err(error @ Error::CannotExchange { .. }) => {
                    intent.giving_up = Some(GivingUp::Exhausted);
                    let reason = describe(&error);
                    impossible = Some(error);
                    Err(reason)
                }
                attempted => attempted?,
            };
            match attempted {
                Ok(restored) => return Ok(ControlFlow::Break(restored)),
                Err(error) => {
                    intent.attempts.push(Attempt { checkpoint: target, error: Some(error) });
                    self.keep(intent).await?;
                }
            }
        }
        Ok(ControlFlow::Continue(impossible))
    }

    /// Tries one target; the inner error is why it failed, the outer one ends the whole rollback.
    async fn attempt(
        &self,
        intent: &Intent,
        target: CheckpointId,
        deadline: &Deadline,
    ) -> Result<Result<Restored, String>> {
        if !intent.attempts.is_empty() {
            // What the first target would overwrite is saved. An older one that would overwrite more is passed over:
            // whoever wants it all the same can ask for it.
            let mut holders = vec![intent.original];
            holders.extend(intent.attempts.iter().map(|attempt| attempt.checkpoint));
            match deadline.within(self.unheld(target, &holders)).await {
                Ok(unheld) => {
                    if let [first, ..] = unheld.as_slice() {
                        let count = unheld.len();
                        return Ok(Err(format!(
                            "it would overwrite {first}, of {count} that no checkpoint holds"
                        )));
                    }
                }
                Err(error) => return Ok(Err(describe(&error))),
            }
        }
        match self.restore(intent, target, deadline).await {
            // The runtime is going down. The next start finds the intent.
            Err(Error::Checkpoint(evoseal_checkpoint::Error::Interrupted { action })) => {
                Err(Error::Interrupted { action })
            }
            Err(error @ (Error::Interrupted { .. } | Error::CannotExchange { .. })) => Err(error),
            Err(error) => Ok(Err(describe(&error))),
            Ok(outcome) => Ok(outcome),
        }
    }

    /// Restores one target and looks at the result. The restore itself has no time limit: dropped half-way it could go
    /// on in the background, beside whatever is done next.
    async fn restore(
        &self,
        intent: &Intent,
        target: CheckpointId,
        deadline: &Deadline,
    ) -> Result<Result<Restored, String>> {
        let checkpoint = deadline.within(self.store.load(target)).await?;
        let changes = match intent.mode {
            RollbackMode::InPlace => {
                self.store.restore(target, &self.workspace.path, RestoreMode::InPlace).await?.changes
            }
            RollbackMode::Exchange => match self.swap_in(intent, &checkpoint).await? {
                Ok(changes) => changes,
                Err(reason) => return Ok(Err(reason)),
            },
        };
        let looked = self.look_at(&checkpoint, deadline).await;
        let is_good = matches!(looked, Ok(Ok(_)) | Err(Error::Interrupted { .. }));
        if intent.mode == RollbackMode::Exchange && !is_good {
            self.swap_back(target).await?;
        }
        Ok(looked?.map(|caches| (checkpoint, changes, caches)))
    }

    /// Clears the caches of a restored workspace, and says whether it is fit for use.
    async fn look_at(
        &self,
        checkpoint: &Checkpoint,
        deadline: &Deadline,
    ) -> Result<Result<Vec<EntryPath>, String>> {
        let workspace = &self.workspace.path;
        let caches = self.clear_caches(checkpoint.id).await?;
        let digest = DigestVerifier::new(Arc::clone(&self.store));
        if let Err(reason) = digest.verify(workspace, checkpoint).await? {
            return Ok(Err(reason));
        }
        if let Some(verifier) = &self.verifier {
            match deadline.within(verifier.verify(workspace, checkpoint)).await {
                Err(Error::TimedOut { .. }) => {
                    return Ok(Err("the health check did not finish in time".to_owned()));
                }
                Ok(Err(reason)) => return Ok(Err(reason)),
                answer => drop(answer?),
            }
            if let Err(reason) = digest.verify(workspace, checkpoint).await? {
                return Ok(Err(format!("the health check changed the workspace: {reason}")));
            }
        }
        Ok(Ok(caches))
    }

    /// Removes from the caches what the restored version does not hold.
    async fn clear_caches(&self, target: CheckpointId) -> Result<Vec<EntryPath>> {
        let caches = crate::caches::check(&self.settings.caches)?;
        let workspace = self.workspace.path.clone();
        if crate::caches::present(&workspace, &caches).is_empty() {
            return Ok(Vec::new());
        }
        let entries = self.store.entries(target).await?;
        let kept = entries.iter().map(|entry| entry.path.as_bytes().to_vec()).collect();
        unwind(tokio::task::spawn_blocking(move || crate::caches::remove(&workspace, &caches, &kept)).await)
    }

    /// Makes the workspace what it was before the rollback. An error leaves the intent on record.
    async fn put_back(&self, intent: &Intent) -> Result<()> {
        let workspace = &self.workspace.path;
        self.store.restore(intent.original, workspace, RestoreMode::InPlace).await?;
        let found = self.store.tree_digest(workspace).await?;
        if found == intent.from_tree {
            return Ok(());
        }
        let path = workspace.display().to_string();
        Err(evoseal_checkpoint::Error::NotRestored { target: workspace.clone(), path }.into())
    }

    async fn report(&self, intent: &Intent, (checkpoint, changes, caches): Restored) -> RollbackReport {
        // A restore reports what differed when it started, which after a failed attempt or a crash is less than what
        // the rollback changed. The listing is for people: where the original's entries cannot be read, the workspace
        // is restored all the same, and the last restore's list is the best there is.
        let changes = self.store.diff(intent.original, checkpoint.id).await.unwrap_or(changes);
        let mut attempts = intent.attempts.clone();
        attempts.push(Attempt { checkpoint: checkpoint.id, error: None });
        RollbackReport {
            requested: intent.ladder[0],
            restored: checkpoint.id,
            version_id: checkpoint.details.version_id,
            saved: intent.saved,
            changes,
            tree: checkpoint.tree,
            attempts,
            caches,
            mode: intent.mode,
        }
    }

    async fn keep(&self, intent: &Intent) -> Result<()> {
        let intent = intent.clone();
        self.state(move |state| state.store_intent(&intent)).await
    }

    /// Writes the record of a rollback that had an intent, then clears the intent.
    async fn end(
        &self,
        intent: &Intent,
        initiator: &Initiator,
        outcome: Result<RollbackReport, String>,
        deadline: &Deadline,
    ) -> Result<()> {
        let attempts = outcome.as_ref().map_or(&intent.attempts, |report| &report.attempts).clone();
        let record = RollbackRecord {
            sequence: 0,
            timestamp: self.clock.now(),
            request: RollbackRequest { initiator: initiator.clone(), ..intent.request.clone() },
            from_tree: Some(intent.from_tree),
            attempts,
            error: outcome.as_ref().err().cloned(),
            report: outcome.ok(),
            duration: deadline.elapsed(),
        };
        self.append(Some(intent.key()), record).await?;
        // The record has ended the rollback. An intent that stays is recognised by it, and cleared at the next start,
        // with what may still stand beside the workspace.
        if self.clear_beside(intent).await.is_ok() {
            let _ = self.state(State::clear_intent).await;
        }
        Ok(())
    }

    /// Writes the record of a rollback that changed nothing. Gives back the error that it failed with; where even the
    /// record fails, that error is still the one that the caller can act on.
    async fn refuse(
        &self,
        request: RollbackRequest,
        key: Option<Digest>,
        deadline: &Deadline,
        error: Error,
    ) -> Error {
        let record = RollbackRecord {
            sequence: 0,
            timestamp: self.clock.now(),
            request,
            from_tree: None,
            report: None,
            attempts: Vec::new(),
            error: Some(describe(&error)),
            duration: deadline.elapsed(),
        };
        if self.append(key, record).await.is_ok() && key.is_some() {
            let _ = self.state(State::clear_intent).await;
        }
        error
    }

    async fn append(&self, key: Option<Digest>, record: RollbackRecord) -> Result<()> {
        let numbered = move |sequence| RollbackRecord { sequence, ..record };
        self.state(move |state| state.append_record(key, numbered)).await
    }
}

/// The result of a task. Its panic goes on in the caller; a task that was cut off is an error.
pub(crate) fn unwind<T>(joined: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    match joined.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Err(Error::Interrupted { action: "the rollback" }),
    }
}

/// An error and its causes in one line.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
