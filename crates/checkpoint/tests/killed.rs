//! A process that is killed anywhere leaves a store and a workspace with which the next one works, without help.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use evoseal_checkpoint::{CheckpointManager, CheckpointSettings, NewCheckpoint, RestoreMode, Source};

const PLACE: &str = "EVOSEAL_TEST_PLACE";
const ROUNDS: u64 = 40;

fn open(place: &Path) -> CheckpointManager {
    let settings = CheckpointSettings { max_checkpoints: 6, ..CheckpointSettings::default() };
    CheckpointManager::builder().directory(place.join("store")).settings(settings).open_or_create().unwrap()
}

/// Saves, changes, goes back and cleans up until it is killed.
#[test]
#[ignore = "the process that the other test starts and kills"]
fn victim() {
    let place = PathBuf::from(env::var_os(PLACE).expect("started by the other test"));
    let workspace = place.join("workspace");
    let manager = open(&place);
    for round in 0_u32.. {
        for file in 0..8 {
            let folder = workspace.join(format!("d{}", (file + round) % 5));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("f{file}")), round.to_le_bytes().repeat(500)).unwrap();
        }
        let details = NewCheckpoint::of(format!("v{round}").parse().unwrap());
        manager.create_blocking(&Source::Directory(workspace.clone()), details).unwrap();
        let listed = manager.list_blocking().unwrap();
        let back = &listed[round as usize % listed.len()];
        manager.restore_blocking(back.id, &workspace, RestoreMode::InPlace).unwrap();
    }
}

fn leftovers(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with(".evoseal") {
            found.push(path);
        } else if path.is_dir() {
            found.extend(leftovers(&path));
        }
    }
    found
}

#[test]
fn killed_at_any_moment_nothing_is_lost_and_nothing_has_to_be_cleaned_up_by_hand() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let workspace = place.join("workspace");
    fs::create_dir(&workspace).unwrap();
    open(place);
    let mut versions_before = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut victim = Command::new(env::current_exe().unwrap())
            .args(["victim", "--exact", "--ignored", "--test-threads=1"])
            .env(PLACE, place)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(15 + round * 7 % 50));
        assert!(victim.try_wait().unwrap().is_none(), "round {round}: it ended by itself");
        victim.kill().unwrap();
        victim.wait().unwrap();

        let manager = open(place);
        let listed = manager.list_blocking().unwrap();
        assert_eq!(manager.verify_blocking(&[]).unwrap().damage, [], "round {round}");
        let newest = listed.iter().map(|checkpoint| checkpoint.id).collect::<BTreeSet<_>>();
        assert!(!newest.is_empty() || versions_before.is_empty(), "round {round}: checkpoints were lost");
        versions_before = newest;
        manager.collect_garbage_blocking().expect("no lock outlives its process");
        for checkpoint in &listed {
            manager.restore_blocking(checkpoint.id, &workspace, RestoreMode::InPlace).unwrap();
            assert_eq!(manager.tree_digest_blocking(&workspace).unwrap(), checkpoint.tree);
        }
        if !listed.is_empty() {
            assert_eq!(leftovers(&workspace), Vec::<PathBuf>::new(), "round {round}");
        }
        let temporary: Vec<_> =
            fs::read_dir(place.join("store/tmp")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(temporary, ["lock"], "round {round}");
    }
    assert!(!versions_before.is_empty(), "no victim lived long enough to save anything");
}
