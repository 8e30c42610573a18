//! The steps of a rollback: intent, attempts, end; and how an interrupted one is completed.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use evoseal_checkpoint::{Checkpoint, CheckpointStore, CheckpointStoreExt, RestoreMode};
use evoseal_types::{Change, ChangeKind, CheckpointId, Clock, Digest, EntryPath, ErrorClass};

use crate::deadline::Deadline;
use crate::exchange::Exchange;
use crate::files::Files;
use crate::intent::{GivingUp, Intent};
use crate::stake::{Held, Same};
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

/// The checkpoint that the workspace now equals, and what its restore changed.
type Restored = (Checkpoint, Vec<Change>, Vec<EntryPath>);

impl Protocol {
    /// One rollback from request to record.
    pub(crate) async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackReport> {
        let deadline = Deadline::start(&self.clock, self.settings.rollback_timeout);
        let (_lock, intent, held) = match self.begin(&request, &deadline).await {
            Ok(begun) => begun,
            Err(error) => return Err(self.refuse(request, None, &deadline, error).await),
        };
        if let Err(error) = self.keep(&intent).await {
            // The file may be there all the same. Its record makes it an intent that has ended.
            let error = self.refuse(request, Some(intent.key()), &deadline, error).await;
            return Err(error);
        }
        self.complete(intent, &held, &request.initiator, &deadline).await
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
    async fn begin(&self, request: &RollbackRequest, deadline: &Deadline) -> Result<(Lock, Intent, Held)> {
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
        let name = ("before-rollback", end.sequence + 1);
        let held = self.hold(&checkpoints, name, note, &ladder[..1], Same::Too, deadline).await?;
        let intent = Intent {
            request: request.clone(),
            started_at: self.clock.now(),
            after_sequence: end.sequence,
            history_bytes: end.len_bytes,
            original: held.checkpoint,
            from_tree: held.tree,
            saved: held.is_new.then_some(held.checkpoint),
            mode: self.settings.mode,
            later: None,
            held: 1,
            ladder,
            attempts: Vec::new(),
            giving_up: None,
        };
        Ok((lock, intent, held))
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
        // The workspace may be put back, and only then is another target than the first tried.
        let first = intent.next_target().filter(|_| intent.attempts.is_empty() && intent.giving_up.is_none());
        let targets: Vec<CheckpointId> = std::iter::once(intent.way_back()).chain(first).collect();
        let name = ("before-recovery", sequence);
        let held = self.hold(&checkpoints, name, note, &targets, Same::Not, deadline).await?;
        self.complete(intent, &held, &Initiator::Recovery, deadline).await.map(Some)
    }

    /// Climbs the ladder, or puts the workspace back, and ends the rollback. The intent is on record.
    async fn complete(
        &self,
        mut intent: Intent,
        held: &Held,
        initiator: &Initiator,
        deadline: &Deadline,
    ) -> Result<RollbackReport> {
        let climbed = self.climb(&mut intent, held, deadline).await;
        if climbed.as_ref().is_err_and(Error::is_no_verdict) {
            // What was built takes up room. What is left of it goes with the next start.
            let _ = self.clear_beside(&intent).await;
        }
        let impossible = match climbed? {
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
        held: &Held,
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
            let attempted = match held.unreadable.get(&target) {
                Some(reason) => Ok(Err(reason.clone())),
                None => self.attempt(intent, held, target, deadline).await,
            };
            let attempted = match attempted {
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
        intent: &mut Intent,
        held: &Held,
        target: CheckpointId,
        deadline: &Deadline,
    ) -> Result<Result<Restored, String>> {
        match self.begin_and_restore(intent, held, target, deadline).await {
            // The runtime is going down. The next start finds the intent.
            Err(Error::Checkpoint(evoseal_checkpoint::Error::Interrupted { action })) => {
                Err(Error::Interrupted { action })
            }
            Err(error @ (Error::Interrupted { .. } | Error::CannotExchange { .. })) => Err(error),
            // Nor would any other version. The next start finds the intent, and perhaps room.
            Err(error) if error.is_no_verdict() => Err(error),
            Err(error) => Ok(Err(describe(&error))),
            Ok(outcome) => Ok(outcome),
        }
    }

    async fn begin_and_restore(
        &self,
        intent: &mut Intent,
        held: &Held,
        target: CheckpointId,
        deadline: &Deadline,
    ) -> Result<Result<Restored, String>> {
        if !intent.attempts.is_empty()
            && let Err(reason) = self.begin_next(intent, target, deadline).await?
        {
            return Ok(Err(reason));
        }
        self.restore(intent, held, target, deadline).await
    }

    /// Restores one target and looks at the result. The restore itself has no time limit: dropped half-way it could go
    /// on in the background, beside whatever is done next.
    async fn restore(
        &self,
        intent: &Intent,
        held: &Held,
        target: CheckpointId,
        deadline: &Deadline,
    ) -> Result<Result<Restored, String>> {
        let checkpoint = deadline.within(self.store.load(target)).await?;
        let changes = match intent.mode {
            RollbackMode::InPlace => {
                self.store.restore(target, &self.workspace.path, RestoreMode::InPlace).await?.changes
            }
            RollbackMode::Exchange => match self.swap_in(intent, held, &checkpoint).await? {
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

    async fn report(&self, intent: &Intent, (checkpoint, changes, caches): Restored) -> RollbackReport {
        // A restore reports what differed when it started, which after a failed attempt or a crash is less than what
        // the rollback changed. The listing is for people: where the original's entries cannot be read, the workspace
        // is restored all the same, and the last restore's list is the best there is.
        let changes = self.store.diff(intent.way_back(), checkpoint.id).await.unwrap_or(changes);
        let changes = self.without_what_stayed(changes).await;
        let mut attempts = intent.attempts.clone();
        attempts.push(Attempt { checkpoint: checkpoint.id, error: None });
        RollbackReport {
            requested: intent.ladder[0],
            restored: checkpoint.id,
            version_id: checkpoint.details.version_id,
            saved: intent.later.or(intent.saved),
            changes,
            tree: checkpoint.tree,
            attempts,
            caches,
            mode: intent.mode,
        }
    }

    /// What is ignored and was held, for one of the targets, was not removed where the restored version ignores it too.
    async fn without_what_stayed(&self, changes: Vec<Change>) -> Vec<Change> {
        let workspace = self.workspace.path.clone();
        let is_gone =
            move |path: &EntryPath| std::fs::symlink_metadata(workspace.join(path.as_path())).is_err();
        let listed = changes.clone();
        let filter = move || {
            let mut changes = listed;
            changes.retain(|change| change.kind != ChangeKind::Removed || is_gone(&change.path));
            changes
        };
        tokio::task::spawn_blocking(filter).await.unwrap_or(changes)
    }

    pub(crate) async fn keep(&self, intent: &Intent) -> Result<()> {
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
pub(crate) fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
