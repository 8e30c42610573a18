//! Health checks that are wrong in one way each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_checkpoint::{Checkpoint, CheckpointStore, NewCheckpoint, Source};
use evoseal_rollback::conformance::{self, VerifierFixture, VerifierSubject};
use evoseal_rollback::{Result, Verifier};
use evoseal_testkit::FakeCheckpointStore;

use super::fails;

/// What is wrong with a verifier.
#[derive(Debug, Clone, Copy)]
enum WrongCheck {
    AlwaysHealthy,
    NeverHealthy,
    GivesNoReason,
    LeavesAFile,
    CleansUpOnlyAtItsEnd,
}

#[async_trait]
impl Verifier for WrongCheck {
    async fn verify(&self, workspace: &Path, _: &Checkpoint) -> Result<Result<(), String>> {
        let path: PathBuf = workspace.join("code");
        let is_fine = std::fs::read_to_string(path).unwrap() == "fine";
        Ok(match self {
            Self::NeverHealthy => Err("no".to_owned()),
            Self::GivesNoReason if !is_fine => Err(String::new()),
            Self::LeavesAFile => {
                std::fs::write(workspace.join("looked"), "").unwrap();
                if is_fine { Ok(()) } else { Err("it is broken".to_owned()) }
            }
            Self::CleansUpOnlyAtItsEnd => {
                let notes = workspace.join("notes");
                if notes.exists() {
                    return Ok(Err("somebody else is looking".to_owned()));
                }
                std::fs::write(&notes, "").unwrap();
                tokio::task::yield_now().await;
                std::fs::remove_file(&notes).unwrap();
                if is_fine { Ok(()) } else { Err("it is broken".to_owned()) }
            }
            Self::AlwaysHealthy | Self::GivesNoReason => Ok(()),
        })
    }
}

#[async_trait]
impl VerifierFixture for WrongCheck {
    async fn subject(&self, directory: &Path) -> VerifierSubject {
        std::fs::write(directory.join("code"), "fine").unwrap();
        let store = Arc::new(FakeCheckpointStore::default());
        let details = NewCheckpoint::of("v1".parse().unwrap());
        let handle = store.create(Source::Directory(directory.to_owned()), details).await.unwrap();
        let checkpoint = handle.durable().await.unwrap();
        VerifierSubject { verifier: Box::new(*self), store, workspace: directory.to_owned(), checkpoint }
    }

    async fn spoil(&self, subject: &VerifierSubject) {
        std::fs::write(subject.workspace.join("code"), "broken").unwrap();
    }
}

#[tokio::test]
async fn every_wrong_verifier_is_rejected_by_the_case_that_is_meant_for_it() {
    for (wrong, case) in [
        (WrongCheck::AlwaysHealthy, "an_unhealthy_workspace_is_called_so_with_a_reason"),
        (WrongCheck::NeverHealthy, "a_healthy_workspace_is_called_healthy"),
        (WrongCheck::GivesNoReason, "an_unhealthy_workspace_is_called_so_with_a_reason"),
        (WrongCheck::LeavesAFile, "looking_changes_nothing"),
        (WrongCheck::CleansUpOnlyAtItsEnd, "a_look_that_is_dropped_leaves_nothing_behind"),
    ] {
        let cases = conformance::verifier::cases();
        assert!(fails(wrong, cases, case).await, "{wrong:?} passes {case}");
    }
}
