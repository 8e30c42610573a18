//! Our own implementations keep the contracts, and the suites find those that do not.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_checkpoint::{CheckpointManager, CheckpointStore, NewCheckpoint, Source};
use evoseal_rollback::conformance::{Place, RollbackFixture, VerifierFixture, VerifierSubject};
use evoseal_rollback::{
    DigestVerifier, FunctionVerifier, Rollback, RollbackManager, RollbackMode, RollbackSettings, Verifier,
};
use evoseal_testkit::FakeCheckpointStore;
use evoseal_types::ManualClock;

/// The manager in one of its modes, over a store that the function makes.
#[derive(Debug)]
struct Manager(fn(&Path) -> Arc<dyn CheckpointStore>, RollbackMode);

impl RollbackFixture for Manager {
    fn store(&self, directory: &Path) -> Arc<dyn CheckpointStore> {
        (self.0)(directory)
    }

    fn open(&self, place: &Place) -> Box<dyn Rollback> {
        let clock = Arc::new(ManualClock::default());
        let store = Arc::clone(&place.store);
        let settings = RollbackSettings {
            max_rollback_attempts: place.attempts_max,
            rollback_timeout: place.time_max,
            mode: self.1,
            ..RollbackSettings::default()
        };
        let builder = RollbackManager::builder(store, &place.workspace, &place.state, clock);
        let builder = builder.settings(settings);
        let builder = match &place.verifier {
            Some(verifier) => builder.verifier(Arc::clone(verifier)),
            None => builder,
        };
        Box::new(builder.build().unwrap())
    }
}

fn fake(_directory: &Path) -> Arc<dyn CheckpointStore> {
    Arc::new(FakeCheckpointStore::default())
}

fn real(directory: &Path) -> Arc<dyn CheckpointStore> {
    Arc::new(CheckpointManager::builder().directory(directory).open_or_create().unwrap())
}

mod in_place {
    use super::{Manager, RollbackMode, fake};
    evoseal_rollback::rollback_conformance!(Manager(fake, RollbackMode::InPlace));
}

mod in_place_with_a_real_store {
    use super::{Manager, RollbackMode, real};
    evoseal_rollback::rollback_conformance!(Manager(real, RollbackMode::InPlace));
}

mod exchange {
    use super::{Manager, RollbackMode, fake};
    evoseal_rollback::rollback_conformance!(Manager(fake, RollbackMode::Exchange));
}

mod exchange_with_a_real_store {
    use super::{Manager, RollbackMode, real};
    evoseal_rollback::rollback_conformance!(Manager(real, RollbackMode::Exchange));
}

mod ladder {
    evoseal_rollback::target_selector_conformance!(evoseal_rollback::KnownGoodLadder);
}

/// A verifier of a workspace with one file.
#[derive(Debug)]
struct OneFile(fn(&FakeCheckpointStore) -> Box<dyn Verifier>);

#[async_trait]
impl VerifierFixture for OneFile {
    async fn subject(&self, directory: &Path) -> VerifierSubject {
        std::fs::write(directory.join("code"), "fine").unwrap();
        let store = FakeCheckpointStore::default();
        let details = NewCheckpoint::of("v1".parse().unwrap());
        let handle = store.create(Source::Directory(directory.to_owned()), details).await.unwrap();
        let checkpoint = handle.durable().await.unwrap();
        let workspace = directory.to_owned();
        VerifierSubject { verifier: (self.0)(&store), store: Arc::new(store), workspace, checkpoint }
    }

    async fn spoil(&self, subject: &VerifierSubject) {
        std::fs::write(subject.workspace.join("code"), "broken").unwrap();
    }
}

fn digest(store: &FakeCheckpointStore) -> Box<dyn Verifier> {
    Box::new(DigestVerifier::new(Arc::new(store.clone())))
}

fn function(_store: &FakeCheckpointStore) -> Box<dyn Verifier> {
    Box::new(FunctionVerifier::new("fine", async |workspace: std::path::PathBuf, _| {
        let text = std::fs::read_to_string(workspace.join("code")).unwrap();
        Ok(if text == "fine" { Ok(()) } else { Err(format!("it is {text}")) })
    }))
}

mod digest_verifier {
    use super::{OneFile, digest};
    evoseal_rollback::verifier_conformance!(OneFile(digest));
}

mod function_verifier {
    use super::{OneFile, function};
    evoseal_rollback::verifier_conformance!(OneFile(function));
}
