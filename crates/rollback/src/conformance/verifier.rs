//! The suite for [`Verifier`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_checkpoint::{Checkpoint, CheckpointStore};

use super::{Case, list_cases};
use crate::Verifier;

/// Makes what the suite looks at.
#[async_trait]
pub trait VerifierFixture: fmt::Debug + Send + Sync {
    /// A verifier and a workspace below `directory`, an empty temporary one, that is healthy and equals a checkpoint.
    async fn subject(&self, directory: &Path) -> VerifierSubject;

    /// Makes the workspace unhealthy in the verifier's eyes.
    async fn spoil(&self, subject: &VerifierSubject);
}

/// A verifier and what it is to look at.
#[derive(Debug)]
pub struct VerifierSubject {
    /// The verifier.
    pub verifier: Box<dyn Verifier>,
    /// The store that holds the checkpoint.
    pub store: Arc<dyn CheckpointStore>,
    /// The workspace.
    pub workspace: PathBuf,
    /// The checkpoint that the workspace equals.
    pub checkpoint: Checkpoint,
}

impl VerifierSubject {
    async fn look(&self) -> Result<(), String> {
        let answer = self.verifier.verify(&self.workspace, &self.checkpoint).await;
        answer.expect("the verifier can look")
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// A healthy workspace is called healthy, as often as it is looked at.
pub async fn a_healthy_workspace_is_called_healthy<F: VerifierFixture>(fixture: &F) {
    let directory = directory();
    let subject = fixture.subject(directory.path()).await;
    for _ in 0..3 {
        assert_eq!(subject.look().await, Ok(()));
    }
}

/// An unhealthy workspace is called so, with a reason, and that is not an error.
pub async fn an_unhealthy_workspace_is_called_so_with_a_reason<F: VerifierFixture>(fixture: &F) {
    let directory = directory();
    let subject = fixture.subject(directory.path()).await;
    fixture.spoil(&subject).await;
    for _ in 0..3 {
        let reason = subject.look().await.expect_err("the workspace is unhealthy");
        assert!(!reason.trim().is_empty(), "the reason is empty");
    }
}

/// Looking changes nothing that a checkpoint would capture.
pub async fn looking_changes_nothing<F: VerifierFixture>(fixture: &F) {
    let directory = directory();
    let subject = fixture.subject(directory.path()).await;
    let tree =
        || async { subject.store.tree_digest(&subject.workspace).await.expect("the workspace can be read") };
    assert_eq!(tree().await, subject.checkpoint.tree, "the fixture's workspace is not its checkpoint");
    assert_eq!(subject.look().await, Ok(()));
    assert_eq!(tree().await, subject.checkpoint.tree, "after looking at a healthy workspace");
    fixture.spoil(&subject).await;
    let spoiled = tree().await;
    subject.look().await.expect_err("the workspace is unhealthy");
    assert_eq!(tree().await, spoiled, "after looking at an unhealthy workspace");
}

/// A look that is dropped, as it is when time is up, leaves nothing behind, and the next one is not disturbed by it.
pub async fn a_look_that_is_dropped_leaves_nothing_behind<F: VerifierFixture>(fixture: &F) {
    let directory = directory();
    let subject = fixture.subject(directory.path()).await;
    {
        let mut look = subject.verifier.verify(&subject.workspace, &subject.checkpoint);
        // One poll starts it; whether that is the whole of it does not matter.
        std::future::poll_fn(|ctx| {
            let _ = look.as_mut().poll(ctx);
            std::task::Poll::Ready(())
        })
        .await;
    }
    assert_eq!(subject.look().await, Ok(()), "the look after the one that was dropped");
    let tree = subject.store.tree_digest(&subject.workspace).await.expect("the workspace can be read");
    assert_eq!(tree, subject.checkpoint.tree, "after a look that was dropped");
}

/// Hands the names of all cases to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __verifier_cases {
    ($then:path, $arguments:tt) => {
        $then! { $arguments
            a_healthy_workspace_is_called_healthy
            an_unhealthy_workspace_is_called_so_with_a_reason
            looking_changes_nothing
            a_look_that_is_dropped_leaves_nothing_behind
        }
    };
}

/// One test for each case of the suite for [`Verifier`](crate::Verifier). The argument is an expression that makes a
/// [`VerifierFixture`](crate::conformance::VerifierFixture).
#[macro_export]
macro_rules! verifier_conformance {
    ($fixture:expr) => {
        $crate::__verifier_cases! { $crate::__conformance_tests, [verifier, $fixture] }
    };
}

/// The cases as values.
pub fn cases<F: VerifierFixture + 'static>() -> Vec<Case<F>> {
    crate::__verifier_cases! { list_cases, [] }
}
