//! The standard implementation of [`Rollback`].

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_checkpoint::{Checkpoint, CheckpointStore, RestoreMode, RestoreReport};
use evoseal_types::{CheckpointId, Clock, EntryPath};

use crate::exchange::{Exchange, bring_state_home};
use crate::files::Files;
use crate::protocol::{Protocol, unwind};
use crate::state::State;
use crate::statistics::Counter;
use crate::workspace::Workspace;
use crate::{
    KnownGoodLadder, Result, Rollback, RollbackMode, RollbackRecord, RollbackReport, RollbackRequest,
    RollbackSettings, RollbackStatistics, Target, TargetSelector, Verifier,
};

/// Rolls one workspace back through a [`CheckpointStore`], with its intent, history and known-good versions in a
/// directory of its own.
///
/// Any number of managers, in any number of processes, can stand for the same workspace: a lock lets one roll back at a
/// time, the others wait for it within their own time limit.
///
/// - *Cancel safety.* A rollback or recovery that has begun goes on in a task of its own when its future is dropped.
///   If the runtime goes down first, [`recover`](Rollback::recover) completes it.
/// - *Runtime.* Needs a Tokio runtime with time enabled.
/// - *Leftovers.* A call to `roll_back` first completes whatever an earlier process left unfinished. If that is
///   impossible because a checkpoint it needs is damaged or gone, the old rollback is recorded as failed, and the new
///   one goes on from the workspace as it stands, which it saves first.
/// - *Recovery.* `recover` saves what it finds before it changes anything, as `before-recovery-<sequence>`, unless a
///   checkpoint holds it: a person may have worked in the workspace since the crash.
/// - *Exchange.* In this mode whoever keeps the store inside the workspace calls [`bring_state_home`] before opening it.
///
/// The example at the top of this crate shows one at work.
#[derive(Debug)]
pub struct RollbackManager {
    pub(crate) protocol: Arc<Protocol>,
}

/// Puts a [`RollbackManager`] together; made by [`RollbackManager::builder`].
#[derive(Debug)]
pub struct RollbackManagerBuilder {
    store: Arc<dyn CheckpointStore>,
    workspace: Workspace,
    state_directory: PathBuf,
    clock: Arc<dyn Clock>,
    settings: RollbackSettings,
    selector: Arc<dyn TargetSelector>,
    verifier: Option<Arc<dyn Verifier>>,
    files: Files,
}

impl RollbackManager {
    /// A manager for the directory `workspace`, which need not exist any more. `state_directory` is made if need be;
    /// it lies outside of the workspace or below its `.evoseal`, usually at `.evoseal/rollback`. Both are absolute.
    pub fn builder(
        store: Arc<dyn CheckpointStore>,
        workspace: impl Into<PathBuf>,
        state_directory: impl Into<PathBuf>,
        clock: Arc<dyn Clock>,
    ) -> RollbackManagerBuilder {
        RollbackManagerBuilder {
            store,
            workspace: Workspace { path: workspace.into(), kept_apart: Vec::new(), homes: Vec::new() },
            state_directory: state_directory.into(),
            clock,
            settings: RollbackSettings::default(),
            selector: Arc::new(KnownGoodLadder),
            verifier: None,
            files: Files::default(),
        }
    }

    /// Refuses a workspace that cannot be rolled back in the mode of the settings, as far as that can be told without
    /// writing: a run had better know it before it begins.
    ///
    /// # Errors
    ///
    /// [`Error::CannotExchange`](crate::Error::CannotExchange) says what stands in the way.
    pub async fn check_mode(&self) -> Result<()> {
        match self.protocol.settings.mode {
            RollbackMode::Exchange if self.protocol.workspace.path.exists() => {
                self.protocol.exchange(Exchange::check).await
            }
            // One that is gone is made first.
            RollbackMode::Exchange | RollbackMode::InPlace => Ok(()),
        }
    }

    /// The caches of the settings that are there: what is in them and in no version would go with a rollback.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) for a cache that is no path inside the workspace.
    pub fn present_caches(&self) -> Result<Vec<EntryPath>> {
        let caches = crate::caches::check(&self.protocol.settings.caches)?;
        Ok(crate::caches::present(&self.protocol.workspace.path, &caches))
    }
}

impl RollbackManagerBuilder {
    /// Limits other than the defaults.
    pub fn settings(mut self, settings: RollbackSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Another choice of targets than [`KnownGoodLadder`].
    pub fn selector(mut self, selector: Arc<dyn TargetSelector>) -> Self {
        self.selector = selector;
        self
    }

    /// A health check after each restore. Without one a workspace is healthy if its digest is the checkpoint's, which
    /// is checked in any case.
    pub fn verifier(mut self, verifier: Arc<dyn Verifier>) -> Self {
        self.verifier = Some(verifier);
        self
    }

    /// Where the checkpoint store keeps its files. The workspace must not lie in it, and it must not lie in the
    /// workspace except below `.evoseal`.
    pub fn store_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.workspace.kept_apart.push(directory.into());
        self
    }

    /// A home directory, which is no workspace. Those in `/home`, `/Users` and `/root` are known without this.
    pub fn home_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.workspace.homes.push(directory.into());
        self
    }

    /// Calls `probe` with a name before each operation that changes one of the manager's own files; an error stands for
    /// the failure of that operation. For crash and fault tests.
    #[cfg(feature = "conformance")]
    pub fn before_file_operation(
        mut self,
        probe: impl Fn(&'static str) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.files.probe = Some(Arc::new(probe));
        self
    }

    /// Checks the settings and the workspace, and makes the state directory. Blocks for a moment.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) for settings under which nothing could ever be tried, and
    /// [`Error::UnsafeWorkspace`](crate::Error::UnsafeWorkspace) for a workspace in which a rollback could destroy what
    /// is not part of it.
    pub fn build(mut self) -> Result<RollbackManager> {
        self.settings.check()?;
        self.workspace.kept_apart.push(self.state_directory.clone());
        self.workspace.check()?;
        bring_state_home(&self.workspace.path, &self.state_directory)?;
        let state = State::open(&self.state_directory, self.files.clone())?;
        self.workspace.kept_apart.push(state.folder().to_owned());
        let protocol = Protocol {
            store: self.store,
            workspace: self.workspace,
            state: Arc::new(state),
            files: self.files,
            clock: self.clock,
            settings: self.settings,
            selector: self.selector,
            verifier: self.verifier,
        };
        Ok(RollbackManager { protocol: Arc::new(protocol) })
    }
}

#[async_trait]
impl Rollback for RollbackManager {
    async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackReport> {
        let protocol = Arc::clone(&self.protocol);
        unwind(tokio::spawn(async move { protocol.roll_back(request).await }).await)
    }

    async fn preview(&self, target: &Target) -> Result<(Checkpoint, RestoreReport)> {
        let protocol = &self.protocol;
        protocol.check_workspace()?;
        self.check_mode().await?;
        let (_, ladder) = protocol.ladder(target).await?;
        let checkpoint = protocol.store.load(ladder[0]).await?;
        let workspace = &protocol.workspace.path;
        let plan = protocol.store.plan_restore(checkpoint.id, workspace, RestoreMode::InPlace).await?;
        Ok((checkpoint, plan))
    }

    async fn recover(&self) -> Result<Option<RollbackReport>> {
        let protocol = Arc::clone(&self.protocol);
        unwind(tokio::spawn(async move { protocol.recover().await }).await)
    }

    async fn clear_caches(&self, restored: CheckpointId) -> Result<Vec<EntryPath>> {
        let protocol = Arc::clone(&self.protocol);
        unwind(tokio::spawn(async move { protocol.clear_caches_of(restored).await }).await)
    }

    async fn mark_known_good(&self, id: CheckpointId) -> Result<()> {
        // Only what the store shows is durable, and only that can be relied on.
        self.protocol.store.load(id).await?;
        let marked_at = self.protocol.clock.now();
        self.protocol.state(move |state| state.mark_known_good(id, marked_at)).await
    }

    async fn withdraw_known_good(&self, id: CheckpointId) -> Result<()> {
        let at = self.protocol.clock.now();
        self.protocol.state(move |state| state.withdraw_known_good(id, at)).await
    }

    async fn known_good(&self) -> Result<Vec<CheckpointId>> {
        self.protocol.state(State::known_good).await
    }

    async fn history(&self) -> Result<Vec<RollbackRecord>> {
        let read = |state: &State| {
            let mut records = Vec::new();
            state.records(|record| records.push(record)).map(|()| records)
        };
        self.protocol.state(read).await
    }

    async fn statistics(&self) -> Result<RollbackStatistics> {
        let read = |state: &State| {
            let mut counter = Counter::default();
            state.records(|record| counter.add(record)).map(|()| counter.finish())
        };
        self.protocol.state(read).await
    }
}
