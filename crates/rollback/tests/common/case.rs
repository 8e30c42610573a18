//! A rollback that can be killed, or made to fail, at each of its steps.

use evoseal_checkpoint::CheckpointStore;
use evoseal_rollback::{Error, Rollback, RollbackManager, RollbackMode, RollbackRecord, RollbackReport};
use evoseal_testkit::{Crash, Fault, Tree};
use evoseal_types::CheckpointId;

use super::{Scene, to_id};

/// A workspace at `v3` with an edit by hand; `v1` to `v3` are known to be good, and the damaged ones of them damaged.
pub(crate) struct Case {
    pub(crate) scene: Scene,
    pub(crate) ids: Vec<CheckpointId>,
    pub(crate) before: Tree,
}

impl Case {
    pub(crate) async fn new(mode: RollbackMode, damaged: &[usize]) -> Self {
        let (scene, ids) = Scene::with_versions(&["v1", "v2", "v3"]).await;
        let scene = Scene { mode, ..scene };
        let manager = scene.manager();
        for id in &ids {
            manager.mark_known_good(*id).await.unwrap();
        }
        for index in damaged {
            scene.store.damage(ids[*index]);
        }
        scene.write("code", "by hand");
        scene.write("new/file", "appeared");
        let before = scene.tree();
        Self { scene, ids, before }
    }

    /// A manager whose file operations are steps too.
    pub(crate) fn manager(&self) -> RollbackManager {
        let faults = self.scene.faults.clone();
        let builder = self.scene.builder().before_file_operation(move |name| faults.step(name));
        builder.build().unwrap()
    }

    /// Rolls back to `v2` with step `at` failing; `None` if that killed it.
    pub(crate) async fn attempt(&self, at: usize, fault: Fault) -> Option<Result<RollbackReport, Error>> {
        let (manager, id) = (self.manager(), self.ids[1]);
        self.scene.faults.arm(at, fault);
        survive(tokio::spawn(async move { manager.roll_back(to_id(id)).await })).await
    }

    /// Recovers with step `at` failing; `None` if that killed it.
    pub(crate) async fn recover(
        &self,
        at: usize,
        fault: Fault,
    ) -> Option<Result<Option<RollbackReport>, Error>> {
        let manager = self.manager();
        self.scene.faults.arm(at, fault);
        survive(tokio::spawn(async move { manager.recover().await })).await
    }

    pub(crate) fn has_intent(&self) -> bool {
        self.scene.state().join("intent").exists()
    }

    pub(crate) fn tree_of(&self, index: usize) -> Tree {
        self.scene.store.tree(self.ids[index]).unwrap()
    }

    pub(crate) async fn history(&self) -> Vec<RollbackRecord> {
        self.scene.faults.disarm();
        self.scene.manager().history().await.unwrap()
    }

    /// The edit by hand is in the workspace or in a checkpoint, whatever happened.
    pub(crate) async fn assert_nothing_is_lost(&self, at: usize) {
        let checkpoints = self.scene.store.list().await.unwrap();
        let is_held = checkpoints.iter().any(|checkpoint| checkpoint.tree == self.before.digest());
        assert!(is_held || self.scene.tree() == self.before, "step {at}");
    }
}

pub(crate) async fn survive<T>(task: tokio::task::JoinHandle<T>) -> Option<T> {
    match task.await {
        Ok(value) => Some(value),
        Err(error) => {
            let panic = error.into_panic();
            assert!(panic.is::<Crash>(), "it died of something else");
            None
        }
    }
}

/// Steps of a run that nothing disturbs.
pub(crate) async fn steps(mode: RollbackMode, damaged: &[usize]) -> Vec<String> {
    let case = Case::new(mode, damaged).await;
    let _ = case.attempt(usize::MAX, Fault::Once).await.unwrap();
    case.scene.faults.steps()
}
