//! Random trees, random edits: a rollback gives exactly the checkpoint, and what it overwrote is saved.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Scene, to_id};
use evoseal_rollback::Rollback;
use proptest::collection::vec;
use proptest::prelude::*;

/// One change of a workspace. Names are few, so that files, folders and links get into each other's way.
#[derive(Debug, Clone)]
enum Edit {
    Write(String, Vec<u8>),
    Executable(String),
    Folder(String),
    Link(String, String),
    Remove(String),
}

fn edit() -> impl Strategy<Value = Edit> {
    let path = || vec("[abc]", 1..4).prop_map(|names| names.join("/"));
    prop_oneof![
        4 => (path(), vec(any::<u8>(), 0..20)).prop_map(|(path, bytes)| Edit::Write(path, bytes)),
        1 => path().prop_map(Edit::Executable),
        1 => path().prop_map(Edit::Folder),
        1 => (path(), "[abc/.]{1,5}").prop_map(|(path, target)| Edit::Link(path, target)),
        2 => path().prop_map(Edit::Remove),
    ]
}

/// Makes a change as far as what stands there allows it. Links are never followed out of the way.
fn apply(workspace: &Path, edit: &Edit) {
    let (Edit::Write(path, _)
    | Edit::Executable(path)
    | Edit::Folder(path)
    | Edit::Link(path, _)
    | Edit::Remove(path)) = edit;
    let path = workspace.join(path);
    let above: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| *folder != workspace).collect();
    if above.iter().any(|folder| folder.is_symlink()) || fs::create_dir_all(path.parent().unwrap()).is_err() {
        return;
    }
    let _ = match edit {
        Edit::Write(_, _) | Edit::Executable(_) if path.is_symlink() => Ok(()),
        Edit::Write(_, bytes) => fs::write(&path, bytes),
        Edit::Executable(_) => fs::set_permissions(&path, fs::Permissions::from_mode(0o755)),
        Edit::Folder(_) => fs::create_dir(&path),
        Edit::Link(_, target) => std::os::unix::fs::symlink(target, &path),
        Edit::Remove(_) if path.is_symlink() || path.is_file() => fs::remove_file(&path),
        Edit::Remove(_) => fs::remove_dir_all(&path),
    };
}

fn apply_all(scene: &Scene, edits: &[Edit]) {
    for edit in edits {
        apply(&scene.workspace(), edit);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_rollback_gives_exactly_the_checkpoint_and_saves_the_rest(
        start in vec(edit(), 0..30),
        edits in vec(edit(), 0..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::new();
            apply_all(&scene, &start);
            let (wanted, checkpoint) = (scene.tree(), scene.checkpoint("v1", None).await);
            apply_all(&scene, &edits);
            let edited = scene.tree();

            let report = scene.manager().roll_back(to_id(checkpoint.id)).await.unwrap();
            assert_eq!(scene.tree(), wanted);
            assert_eq!(report.saved.is_some(), edited != wanted);
            assert_eq!(report.changes.is_empty(), edited == wanted);
            if let Some(saved) = report.saved {
                assert_eq!(scene.store.tree(saved).unwrap(), edited);
                scene.manager().roll_back(to_id(saved)).await.unwrap();
                assert_eq!(scene.tree(), edited);
            }
        });
    }
}
