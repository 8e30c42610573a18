//! Defects that the proof (`cargo xtask crash`, `evil`, `soak`) found, each as the smallest test that shows it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use evoseal_checkpoint::{CheckpointManager, CheckpointSettings, NewCheckpoint, RestoreMode, Source};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Captures and restores a folder in which there is nothing but a pipe.
fn carry_a_folder_of_pipes(settings: CheckpointSettings) {
    let place = tempfile::tempdir().unwrap();
    let workspace = place.path().join("workspace");
    fs::create_dir_all(workspace.join("special")).unwrap();
    fs::write(workspace.join("file"), "x").unwrap();
    mknodat(CWD, workspace.join("special/fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let manager = CheckpointManager::builder().in_memory().settings(settings).create().unwrap();
    let details = NewCheckpoint::of("v1".parse().unwrap());
    let (made, _) = manager.create_blocking(&Source::Directory(workspace), details).unwrap();
    manager.restore_blocking(made.id, &place.path().join("target"), RestoreMode::Empty).unwrap();
}

#[test]
fn a_folder_of_nothing_but_pipes_is_restored_into_an_empty_folder() {
    carry_a_folder_of_pipes(CheckpointSettings::default());
    carry_a_folder_of_pipes(CheckpointSettings { include_ignored: true, ..CheckpointSettings::default() });
}

#[test]
fn a_folder_of_nothing_but_pipes_is_restored_where_attributes_are_kept() {
    carry_a_folder_of_pipes(CheckpointSettings { keep_xattrs: true, ..CheckpointSettings::default() });
    carry_a_folder_of_pipes(CheckpointSettings { keep_mtimes: true, ..CheckpointSettings::default() });
}
