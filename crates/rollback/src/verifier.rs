//! Health checks.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_checkpoint::{Checkpoint, CheckpointStore, RestoreMode};

use crate::{Result, Verifier};

/// Healthy is a workspace whose tree digest is the checkpoint's, or in which a restore of it would change nothing. The manager makes this check by itself, before and
/// after any other.
#[derive(Debug, Clone)]
pub struct DigestVerifier {
    store: Arc<dyn CheckpointStore>,
}

impl DigestVerifier {
    /// A check that reads digests through `store`.
    pub fn new(store: Arc<dyn CheckpointStore>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Verifier for DigestVerifier {
    async fn verify(&self, workspace: &Path, checkpoint: &Checkpoint) -> Result<Result<(), String>> {
        let found = self.store.tree_digest(workspace).await?;
        if found == checkpoint.tree {
            return Ok(Ok(()));
        }
        // A checkpoint that holds ignored files has a digest that no workspace shows under its rules.
        let plan = self.store.plan_restore(checkpoint.id, workspace, RestoreMode::InPlace).await?;
        if plan.changes.is_empty() {
            return Ok(Ok(()));
        }
        Ok(Err(format!("the workspace has digest {} and not {}", found.short(), checkpoint.tree.short())))
    }
}

/// A health check made of an asynchronous function, such as one that runs the tests in a sandbox.
///
/// ```
/// use evoseal_rollback::FunctionVerifier;
///
/// let has_manifest = FunctionVerifier::new("has a manifest", async |workspace, _checkpoint| {
///     let found = workspace.join("Cargo.toml").is_file();
///     Ok(if found { Ok(()) } else { Err("there is no Cargo.toml".to_owned()) })
/// });
/// assert_eq!(format!("{has_manifest:?}"), "FunctionVerifier(\"has a manifest\")");
/// ```
#[derive(Clone)]
pub struct FunctionVerifier<F> {
    name: &'static str,
    look: F,
}

impl<F, Look> FunctionVerifier<F>
where
    F: Fn(PathBuf, Checkpoint) -> Look + Send + Sync,
    Look: Future<Output = Result<Result<(), String>>> + Send,
{
    /// `look` gets the workspace and the checkpoint that it should equal; the contract is that of [`Verifier`].
    pub fn new(name: &'static str, look: F) -> Self {
        Self { name, look }
    }
}

impl<F> fmt::Debug for FunctionVerifier<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FunctionVerifier").field(&self.name).finish()
    }
}

#[async_trait]
impl<F, Look> Verifier for FunctionVerifier<F>
where
    F: Fn(PathBuf, Checkpoint) -> Look + Send + Sync,
    Look: Future<Output = Result<Result<(), String>>> + Send,
{
    async fn verify(&self, workspace: &Path, checkpoint: &Checkpoint) -> Result<Result<(), String>> {
        (self.look)(workspace.to_owned(), checkpoint.clone()).await
    }
}
