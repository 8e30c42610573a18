//! Caches: what a bad candidate left in one does not survive a rollback.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::case::survive;
use common::{Scene, in_each_mode, to, to_id};
use evoseal_rollback::{Rollback, RollbackManager, RollbackMode, RollbackSettings, Target};
use evoseal_testkit::{Fault, Node, Tree};
use evoseal_types::{CheckpointId, EntryPath};

/// `v1` holds a file in the cache `built`, which is ignored; the candidate `v2` has poisoned the cache.
async fn poisoned(mode: RollbackMode) -> (Scene, Vec<CheckpointId>) {
    let scene = Scene { mode, ..Scene::new() };
    scene.write(".gitignore", "built\n");
    let mut ids = Vec::new();
    for name in ["v1", "v2"] {
        scene.write("code", name);
        ids.push(scene.checkpoint(name, ids.last().copied()).await.id);
    }
    scene.write("built/lib.o", "poison");
    scene.write("built/deep/er/lib.o", "poison");
    scene.write("built-by-hand", "precious");
    (scene, ids)
}

fn manager(scene: &Scene) -> RollbackManager {
    let caches = vec!["built/".to_owned(), "missing".to_owned()];
    let faults = scene.faults.clone();
    let settings = RollbackSettings { caches, ..scene.settings() };
    scene.builder().settings(settings).before_file_operation(move |name| faults.step(name)).build().unwrap()
}

fn built() -> Vec<EntryPath> {
    vec![EntryPath::new("built").unwrap()]
}

async fn a_poisoned_cache_goes_and_the_report_names_it(mode: RollbackMode) {
    let (scene, ids) = poisoned(mode).await;
    let manager = manager(&scene);
    assert_eq!(manager.present_caches().unwrap(), built());
    let report = manager.roll_back(to_id(ids[0])).await.unwrap();
    assert_eq!(report.caches, built());
    assert_eq!(scene.tree(), scene.store.tree(ids[0]).unwrap());
    let history = manager.history().await.unwrap();
    assert_eq!(history[0].report.as_ref().unwrap().caches, built());
    assert!(manager.present_caches().unwrap().is_empty());
    assert!(manager.roll_back(to_id(ids[1])).await.unwrap().caches.is_empty(), "nothing was left in it");
}

async fn nothing_of_a_cache_is_saved_or_brought_back_by_an_undo(mode: RollbackMode) {
    let (scene, ids) = poisoned(mode).await;
    let saved = manager(&scene).roll_back(to_id(ids[0])).await.unwrap().saved.unwrap();
    let holds_cache = |tree: Tree| tree.0.keys().any(|path| path.to_string().starts_with("built/"));
    assert!(!holds_cache(scene.store.tree(saved).unwrap()));
    manager(&scene).roll_back(to(Target::Undo)).await.unwrap();
    assert!(!holds_cache(scene.tree()) && scene.tree().0.len() == 3, "{:?}", scene.tree());
}

async fn what_a_version_holds_in_a_cache_is_restored_and_what_it_lacks_goes(mode: RollbackMode) {
    let scene = Scene { mode, ..Scene::new() };
    scene.write("built/seed", "of v1");
    let v1 = scene.checkpoint("v1", None).await;
    scene.write("code", "v2");
    scene.write("built/seed", "poison");
    scene.write("built/more", "poison");
    manager(&scene).roll_back(to_id(v1.id)).await.unwrap();
    assert_eq!(scene.tree(), scene.store.tree(v1.id).unwrap());
}

async fn a_preview_leaves_caches_alone(mode: RollbackMode) {
    let (scene, ids) = poisoned(mode).await;
    let before = scene.tree();
    manager(&scene).preview(&Target::Checkpoint(ids[0])).await.unwrap();
    assert_eq!(scene.tree(), before);
}

async fn without_the_setting_an_ignored_cache_stays(mode: RollbackMode) {
    let (scene, ids) = poisoned(mode).await;
    let report = scene.manager().roll_back(to_id(ids[0])).await.unwrap();
    let file = std::fs::read_to_string(scene.workspace().join("built/lib.o")).unwrap();
    assert_eq!((report.caches, file.as_str()), (Vec::new(), "poison"));
}

async fn killed_at_any_step_a_completed_rollback_leaves_no_poison(mode: RollbackMode) {
    let mut completed = 0;
    for at in 0.. {
        let (scene, ids) = poisoned(mode).await;
        let rollback = manager(&scene);
        scene.faults.arm(at, Fault::Crash);
        let id = ids[0];
        let killed = survive(tokio::spawn(async move { rollback.roll_back(to_id(id)).await })).await;
        scene.faults.disarm();
        manager(&scene).recover().await.unwrap();
        if !manager(&scene).history().await.unwrap().is_empty() {
            completed += 1;
            assert_eq!(scene.tree(), scene.store.tree(ids[0]).unwrap(), "killed at step {at}");
        }
        if killed.is_some() {
            break;
        }
    }
    assert!(completed > 5, "only {completed} rollbacks were completed");
}

async fn nothing_of_a_cache_is_saved_for_a_version_that_does_not_ignore_it(mode: RollbackMode) {
    let scene = Scene { mode, ..Scene::new() };
    scene.write("code", "v1");
    let v1 = scene.checkpoint("v1", None).await.id;
    scene.write(".gitignore", "built\nnotes\n");
    let v2 = scene.checkpoint("v2", Some(v1)).await.id;
    scene.write("built/lib.o", "poison");
    scene.write("notes", "precious");
    let report = manager(&scene).roll_back(to_id(v1)).await.unwrap();
    assert_eq!(scene.tree(), scene.store.tree(v1).unwrap());
    let mut wanted = scene.store.tree(v2).unwrap();
    let notes = Node::File { bytes: b"precious".to_vec(), executable: false };
    wanted.0.insert(EntryPath::new("notes").unwrap(), notes);
    assert_eq!(scene.store.tree(report.saved.unwrap()).unwrap(), wanted);
}

in_each_mode! {
    nothing_of_a_cache_is_saved_for_a_version_that_does_not_ignore_it
    a_poisoned_cache_goes_and_the_report_names_it
    nothing_of_a_cache_is_saved_or_brought_back_by_an_undo
    what_a_version_holds_in_a_cache_is_restored_and_what_it_lacks_goes
    a_preview_leaves_caches_alone
    without_the_setting_an_ignored_cache_stays
    killed_at_any_step_a_completed_rollback_leaves_no_poison
}
