//! Checkpoints without anything else of evoseal: save a directory, break it, see what changed, bring it back.
//!
//! Run with `cargo run -p evoseal-checkpoint --example checkpoint_alone`.

use std::fs;

use evoseal_checkpoint::{
    CheckpointManager, CheckpointStore, CheckpointStoreExt, NewCheckpoint, RestoreMode, Source,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = tempfile::tempdir()?;
    let workspace = place.path().join("workspace");
    fs::create_dir_all(workspace.join("src"))?;
    fs::write(workspace.join("src/lib.rs"), "pub fn answer() -> u32 { 42 }\n")?;

    let store = CheckpointManager::builder().directory(place.path().join("store")).open_or_create()?;

    // `create` returns when the workspace has been read; `durable` when the checkpoint would survive a crash.
    let handle = store.create(Source::Directory(workspace.clone()), NewCheckpoint::of("v1".parse()?)).await?;
    let v1 = handle.durable().await?;
    store.pin(v1.id, Some("known good")).await?;

    // A bad edit, saved as well: only what is new is stored.
    fs::write(workspace.join("src/lib.rs"), "pub fn answer() -> u32 { 41 }\n")?;
    fs::write(workspace.join("notes.txt"), "seemed like a good idea\n")?;
    let details = NewCheckpoint { parent: Some(v1.id), ..NewCheckpoint::of("v2".parse()?) };
    let v2 = store.create(Source::Directory(workspace.clone()), details).await?.durable().await?;

    let changes = store.diff(v1.id, v2.id).await?;
    let changed: Vec<String> =
        changes.iter().map(|change| format!("{} {}", change.kind, change.path)).collect();
    assert_eq!(changed, ["added notes.txt", "modified src/lib.rs"]);

    let report = store.restore(v1.id, &workspace, RestoreMode::InPlace).await?;
    assert_eq!(report.tree, v1.tree);
    assert_eq!(fs::read_to_string(workspace.join("src/lib.rs"))?, "pub fn answer() -> u32 { 42 }\n");
    assert!(!workspace.join("notes.txt").exists());

    assert!(store.verify(&[]).await?.damage.is_empty());
    assert!(store.delete(&[v1.id]).await.is_err(), "it is pinned");
    Ok(())
}
