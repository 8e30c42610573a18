//! The steps of a rollback that deal with what stands beside the workspace.

use std::collections::BTreeSet;
use std::sync::Arc;

use evoseal_checkpoint::{Checkpoint, RestoreMode};
use evoseal_types::{Change, ChangeKind, CheckpointId, ErrorClass};

use crate::exchange::Exchange;
use crate::intent::Intent;
use crate::protocol::{Protocol, unwind};
use crate::stake::Held;
use crate::{DigestVerifier, Result, Verifier};

impl Protocol {
    /// Does something with the workspace and what is beside it, on a thread that may block.
    pub(crate) async fn exchange<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Exchange) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (workspace, files) = (self.workspace.path.clone(), self.files.clone());
        let work = move || work(&Exchange::of(&workspace, &files)?);
        unwind(tokio::task::spawn_blocking(work).await)
    }

    /// Builds the target beside the workspace, looks at it, and lets the two change places. The inner error says that it is not
    /// what it should be; the workspace is as it was then.
    pub(crate) async fn swap_in(
        &self,
        intent: &Intent,
        held: &Held,
        checkpoint: &Checkpoint,
    ) -> Result<Result<Vec<Change>, String>> {
        self.clear_beside(intent).await?;
        let id = checkpoint.id;
        let plan = self.store.plan_restore(id, &self.workspace.path, RestoreMode::InPlace).await?;
        if plan.changes.is_empty() {
            // What a restore that was cut off has laid aside goes all the same.
            self.store.restore(id, &self.workspace.path, RestoreMode::InPlace).await?;
            return Ok(Ok(plan.changes));
        }
        self.exchange(Exchange::try_out).await?;
        let entries = self.store.entries(id).await?;
        let paths = |wanted: fn(ChangeKind) -> bool| -> BTreeSet<Vec<u8>> {
            let changes = plan.changes.iter().filter(|change| wanted(change.kind));
            changes.map(|change| change.path.as_bytes().to_vec()).collect()
        };
        let (goes, changed) = (paths(|kind| kind == ChangeKind::Removed), Arc::new(paths(|_| true)));
        self.clear_since(intent, held, &goes).await?;
        let known = Arc::clone(&changed);
        let building = self.exchange(move |exchange| exchange.build(&entries, &known)).await?;
        self.store.restore(id, &building, RestoreMode::InPlace).await?;
        let digest = DigestVerifier::new(Arc::clone(&self.store));
        if let Err(reason) = digest.verify(&building, checkpoint).await? {
            return Ok(Err(reason));
        }
        self.exchange(move |exchange| {
            exchange.finish_building(&changed)?;
            exchange.swap(&goes)
        })
        .await?;
        Ok(Ok(plan.changes))
    }

    /// Takes a version out again that turned out to be unfit: what it took the place of is still there, beside the workspace.
    pub(crate) async fn swap_back(&self, unfit: CheckpointId) -> Result<()> {
        let goes = self.store.entries(unfit).await?;
        let goes: BTreeSet<Vec<u8>> = goes.iter().map(|entry| entry.path.as_bytes().to_vec()).collect();
        self.exchange(move |exchange| if exchange.is_begun() { exchange.swap(&goes) } else { Ok(()) }).await
    }

    /// Brings home what is lent, and removes what stands beside the workspace. Can run any number of times.
    pub(crate) async fn clear_beside(&self, intent: &Intent) -> Result<()> {
        if !self.is_exchange_begun().await? {
            return Ok(());
        }
        self.exchange(Exchange::tidy).await?;
        let mut held = BTreeSet::new();
        let targets = intent.ladder.iter().take(intent.attempts.len() + 1);
        for id in std::iter::once(&intent.way_back()).chain(targets) {
            match self.store.entries(*id).await {
                Ok(entries) => held.extend(entries.into_iter().map(|entry| entry.path.as_bytes().to_vec())),
                // A target that cannot be read was never built. Without the original nobody knows what is the workspace's.
                Err(error) if error.class() == ErrorClass::Corrupt && *id != intent.way_back() => {}
                Err(error) if error.class() == ErrorClass::Corrupt => {
                    return self.exchange(Exchange::set_aside).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.exchange(move |exchange| exchange.dispose(&held)).await
    }

    /// Brings home what is lent, and gives another name to what stands beside the workspace though no rollback is under way: its intent
    /// was damaged, or somebody else has put it there.
    pub(crate) async fn clear_strangers(&self) -> Result<()> {
        if !self.is_exchange_begun().await? {
            return Ok(());
        }
        self.exchange(|exchange| exchange.tidy().and_then(|()| exchange.set_aside())).await
    }

    async fn is_exchange_begun(&self) -> Result<bool> {
        if !self.workspace.path.exists() {
            return Ok(false);
        }
        self.exchange(|exchange| Ok(exchange.is_begun())).await
    }
}
