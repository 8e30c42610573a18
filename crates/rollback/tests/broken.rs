//! Deliberately wrong implementations; the suites reject each of them.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_checkpoint::{Checkpoint, CheckpointStore, NewCheckpoint, RestoreMode, RestoreReport, Source};
use evoseal_rollback::conformance::{self, Case, Place, RollbackFixture, VerifierFixture, VerifierSubject};
use evoseal_rollback::{
    Initiator, KnownGoodLadder, Result, Rollback, RollbackManager, RollbackRecord, RollbackReport,
    RollbackRequest, RollbackSettings, RollbackStatistics, Target, TargetSelector, Verifier,
};
use evoseal_testkit::FakeCheckpointStore;
use evoseal_types::{CheckpointId, EntryPath, ManualClock};

/// The names of the cases that `fixture` fails.
async fn failed_cases<F: Send + Sync + 'static>(fixture: F, cases: Vec<Case<F>>) -> BTreeSet<&'static str> {
    let fixture = Arc::new(fixture);
    let mut failed = BTreeSet::new();
    for (name, run) in cases {
        let fixture = Arc::clone(&fixture);
        if tokio::spawn(async move { run(&fixture).await }).await.is_err() {
            failed.insert(name);
        }
    }
    failed
}

/// What is wrong with a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    ReportsSuccessWithoutRestoring,
    RestoresWithoutIntent,
    TriesATargetTwice,
    LosesUnsavedWork,
    LeavesTheWorkspaceHalfRestored,
    HidesTheFallback,
    NeverFallsBack,
    ForgetsHistory,
    RecordsTwice,
    RecordsSuccessOnly,
    ForgetsKnownGood,
    SortsKnownGood,
    NeverWithdraws,
    RestoresOnPreview,
    RestoresForACache,
    CallsEveryoneAutomatic,
    RecoversForEver,
}

#[derive(Debug)]
struct Broken {
    inner: RollbackManager,
    place: Place,
    wrong: Wrong,
}

impl Broken {
    async fn restore(&self, target: &Target) -> Result<CheckpointId> {
        let (checkpoint, _) = self.inner.preview(target).await?;
        self.place.store.restore(checkpoint.id, &self.place.workspace, RestoreMode::InPlace).await?;
        Ok(checkpoint.id)
    }
}

#[async_trait]
impl Rollback for Broken {
    async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackReport> {
        match self.wrong {
            Wrong::ReportsSuccessWithoutRestoring => {
                let workspace = &self.place.workspace;
                let source = Source::Directory(workspace.clone());
                let details = NewCheckpoint::of("aside".parse().unwrap());
                let aside = self.place.store.create(source, details).await?.durable().await?;
                let report = self.inner.roll_back(request).await?;
                self.place.store.restore(aside.id, workspace, RestoreMode::InPlace).await?;
                Ok(report)
            }
            Wrong::RestoresWithoutIntent | Wrong::LosesUnsavedWork => {
                self.restore(&request.target).await.ok();
                self.inner.roll_back(request).await
            }
            Wrong::TriesATargetTwice => match self.inner.roll_back(request.clone()).await {
                Err(_) => self.inner.roll_back(request).await,
                answer => answer,
            },
            Wrong::LeavesTheWorkspaceHalfRestored => {
                let answer = self.inner.roll_back(request.clone()).await;
                if answer.is_err() {
                    self.restore(&request.target).await.ok();
                    std::fs::write(self.place.workspace.join("half"), "").unwrap();
                }
                answer
            }
            Wrong::HidesTheFallback => {
                let report = self.inner.roll_back(request).await?;
                Ok(RollbackReport { requested: report.restored, ..report })
            }
            Wrong::RecordsTwice => {
                self.inner.roll_back(request.clone()).await?;
                self.inner.roll_back(request).await
            }
            Wrong::CallsEveryoneAutomatic => {
                let request = RollbackRequest { initiator: Initiator::Automatic, ..request };
                self.inner.roll_back(request).await
            }
            _ => self.inner.roll_back(request).await,
        }
    }

    async fn preview(&self, target: &Target) -> Result<(Checkpoint, RestoreReport)> {
        let preview = self.inner.preview(target).await?;
        if self.wrong == Wrong::RestoresOnPreview {
            self.restore(target).await?;
        }
        Ok(preview)
    }

    async fn recover(&self) -> Result<Option<RollbackReport>> {
        if self.wrong == Wrong::RecoversForEver
            && let Some(report) = self.history().await?.into_iter().rev().find_map(|record| record.report)
        {
            return Ok(Some(report));
        }
        self.inner.recover().await
    }

    async fn clear_caches(&self, restored: CheckpointId) -> Result<Vec<EntryPath>> {
        if self.wrong == Wrong::RestoresForACache {
            self.restore(&Target::Checkpoint(restored)).await?;
        }
        self.inner.clear_caches(restored).await
    }

    async fn mark_known_good(&self, id: CheckpointId) -> Result<()> {
        self.inner.mark_known_good(id).await
    }

    async fn withdraw_known_good(&self, id: CheckpointId) -> Result<()> {
        if self.wrong == Wrong::NeverWithdraws {
            return Ok(());
        }
        self.inner.withdraw_known_good(id).await
    }

    async fn known_good(&self) -> Result<Vec<CheckpointId>> {
        let mut ids = self.inner.known_good().await?;
        match self.wrong {
            Wrong::ForgetsKnownGood => ids.clear(),
            Wrong::SortsKnownGood => ids.reverse(),
            _ => {}
        }
        Ok(ids)
    }

    async fn history(&self) -> Result<Vec<RollbackRecord>> {
        let mut records = self.inner.history().await?;
        match self.wrong {
            Wrong::ForgetsHistory => records.clear(),
            Wrong::RecordsSuccessOnly => records.retain(|record| record.report.is_some()),
            _ => {}
        }
        Ok(records)
    }

    async fn statistics(&self) -> Result<RollbackStatistics> {
        self.inner.statistics().await
    }
}

impl RollbackFixture for Wrong {
    fn store(&self, _directory: &Path) -> Arc<dyn CheckpointStore> {
        Arc::new(FakeCheckpointStore::default())
    }

    fn open(&self, place: &Place) -> Box<dyn Rollback> {
        let clock = Arc::new(ManualClock::default());
        let settings = RollbackSettings {
            enable_rollback_failure_recovery: *self != Self::NeverFallsBack,
            ..RollbackSettings::default()
        };
        let builder =
            RollbackManager::builder(Arc::clone(&place.store), &place.workspace, &place.state, clock);
        let inner = builder.settings(settings).build().unwrap();
        Box::new(Broken { inner, place: place.clone(), wrong: *self })
    }
}

#[tokio::test]
async fn every_wrong_rollback_is_rejected_by_the_case_that_is_meant_for_it() {
    let cases = conformance::rollback::cases::<Wrong>;
    assert_eq!(failed_cases(Wrong::Nothing, cases()).await, BTreeSet::new(), "the frame itself is right");
    for (wrong, case) in [
        (Wrong::ReportsSuccessWithoutRestoring, "success_means_that_the_workspace_equals_the_checkpoint"),
        (Wrong::RestoresWithoutIntent, "an_interrupted_rollback_is_completed_by_recovery"),
        (Wrong::TriesATargetTwice, "no_target_is_tried_twice_and_at_most_three_are"),
        (Wrong::LosesUnsavedWork, "work_that_no_checkpoint_holds_is_saved_first"),
        (Wrong::LeavesTheWorkspaceHalfRestored, "after_a_failure_the_workspace_is_as_it_was"),
        (Wrong::HidesTheFallback, "a_damaged_target_falls_back_and_says_so"),
        (Wrong::NeverFallsBack, "a_damaged_target_falls_back_and_says_so"),
        (Wrong::ForgetsHistory, "every_call_is_recorded_once_and_remembered"),
        (Wrong::RecordsTwice, "every_call_is_recorded_once_and_remembered"),
        (Wrong::RecordsSuccessOnly, "every_call_is_recorded_once_and_remembered"),
        (Wrong::ForgetsKnownGood, "known_good_versions_are_remembered_in_order"),
        (Wrong::SortsKnownGood, "known_good_versions_are_remembered_in_order"),
        (Wrong::NeverWithdraws, "known_good_versions_are_remembered_in_order"),
        (Wrong::RestoresOnPreview, "a_preview_changes_nothing"),
        (Wrong::RestoresForACache, "clearing_caches_is_no_rollback"),
        (Wrong::CallsEveryoneAutomatic, "statistics_tell_who_asked"),
        (Wrong::RecoversForEver, "an_interrupted_rollback_is_completed_by_recovery"),
    ] {
        let failed = failed_cases(wrong, cases()).await;
        assert!(failed.contains(case), "{wrong:?} passes {case}; it fails {failed:?}");
    }
}

/// What is wrong with a selector.
#[derive(Debug, Clone, Copy)]
enum WrongLadder {
    NamesOneTwice,
    GivesAnythingOlder,
    IgnoresTheRequest,
    GivesWhatIsGone,
    InventsATarget,
    ChangesItsMind,
}

impl TargetSelector for WrongLadder {
    fn select(
        &self,
        target: &Target,
        checkpoints: &[Checkpoint],
        known_good: &[CheckpointId],
    ) -> Result<Vec<CheckpointId>> {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let right = KnownGoodLadder.select(target, checkpoints, known_good);
        let all = || checkpoints.iter().map(|checkpoint| checkpoint.id);
        match self {
            Self::NamesOneTwice => right.map(|ladder| ladder.iter().chain(&ladder).copied().collect()),
            Self::GivesAnythingOlder => right.map(|ladder| {
                ladder[..1].iter().copied().chain(all().filter(|id| *id != ladder[0])).collect()
            }),
            Self::IgnoresTheRequest => right.map(|mut ladder| {
                ladder.reverse();
                ladder
            }),
            Self::GivesWhatIsGone => right.map(|ladder| {
                let gone = known_good.iter().filter(|id| !all().any(|existing| existing == **id));
                ladder.iter().chain(gone.take(1)).copied().collect()
            }),
            Self::InventsATarget => right.or_else(|_| Ok(all().take(1).collect())),
            Self::ChangesItsMind => right.map(|mut ladder| {
                let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                ladder.truncate(1 + count % 2);
                ladder
            }),
        }
    }
}

#[tokio::test]
async fn every_wrong_selector_is_rejected_by_the_case_that_is_meant_for_it() {
    for (wrong, case) in [
        (WrongLadder::NamesOneTwice, "every_target_exists_and_stands_once"),
        (WrongLadder::GivesAnythingOlder, "every_fallback_is_known_to_be_good"),
        (WrongLadder::IgnoresTheRequest, "the_first_target_is_the_requested_one"),
        (WrongLadder::GivesWhatIsGone, "every_target_exists_and_stands_once"),
        (WrongLadder::InventsATarget, "what_does_not_exist_is_no_target"),
        (WrongLadder::ChangesItsMind, "the_same_question_gets_the_same_answer"),
    ] {
        let failed = failed_cases(wrong, conformance::target_selector::cases()).await;
        assert!(failed.contains(case), "{wrong:?} passes {case}; it fails {failed:?}");
    }
}

/// What is wrong with a verifier.
#[derive(Debug, Clone, Copy)]
enum WrongCheck {
    AlwaysHealthy,
    NeverHealthy,
    GivesNoReason,
    LeavesAFile,
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
    ] {
        let failed = failed_cases(wrong, conformance::verifier::cases()).await;
        assert!(failed.contains(case), "{wrong:?} passes {case}; it fails {failed:?}");
    }
}
