//! Rollbacks that are wrong in one way each.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use evoseal_checkpoint::{
    Checkpoint, CheckpointStore, CheckpointStoreExt, NewCheckpoint, RestoreMode, RestoreReport, Source,
};
use evoseal_rollback::conformance::{self, Place, RollbackFixture};
use evoseal_rollback::{
    Error, Initiator, KnownGoodLadder, Result, Rollback, RollbackManager, RollbackManagerBuilder,
    RollbackRecord, RollbackReport, RollbackRequest, RollbackSettings, RollbackStatistics, Target,
    TargetSelector, Verifier,
};
use evoseal_testkit::FakeCheckpointStore;
use evoseal_types::{CheckpointId, Direction, EntryPath, ManualClock, Objective};

use super::{failed_cases, fails};

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
    CountsRecoveryAsAutomatic,
    CountsRecoveryTwice,
    BestIsTheWorst,
    BestIsTheOldestOfEquals,
    BestIsAnything,
    BestIsTheNewest,
    BaselineIsTheNewest,
    UndoIsTheParent,
    UndoGoesBackOnce,
    UndoesWhatChangedNothing,
    UndoInventsATarget,
    UndoTakesAnother,
    ClearsIgnored,
    ClearsIgnoredAfterAFailure,
    RecoversWithAnotherWayBack,
    IgnoresHealth,
    IgnoresTheLimit,
    BelievesAMeddler,
    BelievesSilence,
    RecoversWithoutHealth,
    ForgetsWhatItSavedOnFallback,
    PutsBackWhatIsNotIgnored,
    ReportsWhatStayedAsRemoved,
    StopsAtAMess,
    TriesAgainAfterACrash,
}

#[derive(Debug)]
struct Broken {
    inner: RollbackManager,
    /// The same without a health check.
    careless: RollbackManager,
    place: Place,
    wrong: Wrong,
}

impl Broken {
    async fn restore(&self, target: &Target) -> Result<CheckpointId> {
        let (checkpoint, _) = self.inner.preview(target).await?;
        self.place.store.restore(checkpoint.id, &self.place.workspace, RestoreMode::InPlace).await?;
        Ok(checkpoint.id)
    }

    /// A checkpoint of the workspace as it is.
    async fn aside(&self) -> Result<CheckpointId> {
        let source = Source::Directory(self.place.workspace.clone());
        let details = NewCheckpoint::of("aside".parse().unwrap());
        Ok(self.place.store.create(source, details).await?.durable().await?.id)
    }

    /// A request in the place of another.
    async fn instead(&self, request: RollbackRequest, target: Target) -> Result<RollbackReport> {
        self.inner.roll_back(RollbackRequest { target, ..request }).await
    }

    /// Removes everything that the workspace ignores, as `git clean -X` does.
    fn clear_ignored(&self) {
        let workspace = &self.place.workspace;
        for name in fs::read_to_string(workspace.join(".gitignore")).unwrap_or_default().lines() {
            let path = workspace.join(name);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }

    /// What the workspace held before the last rollback, whether that changed anything or not.
    async fn before_last(&self) -> Result<Target> {
        let last = self.inner.history().await?.pop();
        let tree = last.and_then(|record| record.from_tree);
        let checkpoints = self.place.store.list().await?;
        let held = checkpoints.iter().rev().find(|checkpoint| Some(checkpoint.tree) == tree);
        Ok(held.map_or(Target::Undo, |checkpoint| Target::Checkpoint(checkpoint.id)))
    }

    /// What the last rollback went to, if that was an undo.
    async fn last_undo(&self) -> Result<Option<Target>> {
        let last = self.inner.history().await?.pop();
        let undo = last.filter(|record| record.request.target == Target::Undo);
        Ok(undo.and_then(|record| record.report).map(|report| Target::Checkpoint(report.restored)))
    }

    async fn roll_back_to_a_wrong_target(&self, request: RollbackRequest) -> Result<RollbackReport> {
        match (self.wrong, request.target.clone()) {
            (Wrong::BestIsTheWorst, Target::Best(Objective { metric, direction })) => {
                let direction = match direction {
                    Direction::Increase => Direction::Decrease,
                    Direction::Decrease => Direction::Increase,
                };
                self.instead(request, Target::Best(Objective { metric, direction })).await
            }
            (Wrong::BestIsTheNewest, Target::Best(_))
            | (Wrong::BaselineIsTheNewest, Target::Baseline { .. }) => {
                self.instead(request, Target::LastKnownGood).await
            }
            (Wrong::UndoIsTheParent, Target::Undo) => self.instead(request, Target::Parent).await,
            (Wrong::UndoesWhatChangedNothing, Target::Undo) => {
                let target = self.before_last().await?;
                self.instead(request, target).await
            }
            (Wrong::UndoGoesBackOnce, Target::Undo) => {
                let target = self.last_undo().await?.unwrap_or(Target::Undo);
                self.instead(request, target).await
            }
            (Wrong::UndoInventsATarget, Target::Undo) => match self.inner.roll_back(request.clone()).await {
                Err(Error::NoTarget { .. }) => self.instead(request, Target::LastKnownGood).await,
                answer => answer,
            },
            (Wrong::UndoTakesAnother, Target::Undo) => match self.inner.roll_back(request.clone()).await {
                Err(Error::Exhausted { .. }) => self.instead(request, Target::LastKnownGood).await,
                answer => answer,
            },
            _ => self.inner.roll_back(request).await,
        }
    }
}

#[async_trait]
impl Rollback for Broken {
    async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackReport> {
        match self.wrong {
            Wrong::ReportsSuccessWithoutRestoring => {
                let aside = self.aside().await?;
                let report = self.inner.roll_back(request).await?;
                self.place.store.restore(aside, &self.place.workspace, RestoreMode::InPlace).await?;
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
                    fs::write(self.place.workspace.join("half"), "").unwrap();
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
            Wrong::ClearsIgnored => {
                self.clear_ignored();
                self.inner.roll_back(request).await
            }
            Wrong::ClearsIgnoredAfterAFailure => {
                let answer = self.inner.roll_back(request).await;
                if answer.is_err() {
                    self.clear_ignored();
                }
                answer
            }
            Wrong::ForgetsWhatItSavedOnFallback => {
                let report = self.inner.roll_back(request).await?;
                if let Some(saved) = report.saved.filter(|_| report.fell_back()) {
                    self.place.store.delete(&[saved]).await?;
                }
                Ok(report)
            }
            Wrong::ReportsWhatStayedAsRemoved => {
                let report = self.inner.roll_back(request).await?;
                let before = report.saved.unwrap_or(report.restored);
                let changes = self.place.store.diff(before, report.restored).await?;
                Ok(RollbackReport { changes, ..report })
            }
            Wrong::PutsBackWhatIsNotIgnored => {
                let aside = self.aside().await?;
                let answer = self.inner.roll_back(request.clone()).await;
                if answer.is_err() {
                    self.restore(&request.target).await.ok();
                    self.place.store.restore(aside, &self.place.workspace, RestoreMode::InPlace).await?;
                }
                answer
            }
            Wrong::IgnoresHealth => self.careless.roll_back(request).await,
            Wrong::BelievesAMeddler => {
                let report = self.careless.roll_back(request).await?;
                let checkpoint = self.place.store.load(report.restored).await?;
                if let Some(verifier) = &self.place.verifier {
                    verifier.verify(&self.place.workspace, &checkpoint).await?.unwrap();
                }
                Ok(report)
            }
            _ => self.roll_back_to_a_wrong_target(request).await,
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
        match self.wrong {
            Wrong::RecoversForEver => {
                let mut ended = self.history().await?.into_iter().rev();
                match ended.find_map(|record| record.report) {
                    Some(report) => Ok(Some(report)),
                    None => self.inner.recover().await,
                }
            }
            Wrong::RecoversWithAnotherWayBack => {
                let found = self.aside().await?;
                let report = self.inner.recover().await?;
                Ok(report.map(|report| RollbackReport { saved: Some(found), ..report }))
            }
            Wrong::TriesAgainAfterACrash => {
                self.restore(&Target::LastKnownGood).await.ok();
                self.inner.recover().await
            }
            Wrong::RecoversWithoutHealth => self.careless.recover().await,
            _ => self.inner.recover().await,
        }
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
        let mut found = self.inner.statistics().await?;
        match self.wrong {
            Wrong::CountsRecoveryAsAutomatic => {
                found.auto_rollbacks += std::mem::take(&mut found.recovery_rollbacks);
            }
            Wrong::CountsRecoveryTwice => found.auto_rollbacks += found.recovery_rollbacks,
            _ => {}
        }
        Ok(found)
    }
}

/// The ladder over a list of known-good versions that is not the right one.
#[derive(Debug)]
struct WrongList(Wrong);

impl TargetSelector for WrongList {
    fn select(
        &self,
        target: &Target,
        checkpoints: &[Checkpoint],
        known_good: &[CheckpointId],
    ) -> Result<Vec<CheckpointId>> {
        let list: Vec<CheckpointId> = match (self.0, target) {
            (Wrong::BestIsTheOldestOfEquals, Target::Best(_)) => known_good.iter().rev().copied().collect(),
            (Wrong::BestIsAnything, Target::Best(_)) => {
                checkpoints.iter().map(|checkpoint| checkpoint.id).collect()
            }
            _ => known_good.to_vec(),
        };
        KnownGoodLadder.select(target, checkpoints, &list)
    }
}

/// Takes silence for approval.
#[derive(Debug)]
struct Hasty(Arc<dyn Verifier>);

#[async_trait]
impl Verifier for Hasty {
    async fn verify(&self, workspace: &Path, checkpoint: &Checkpoint) -> Result<Result<(), String>> {
        let answer = tokio::time::timeout(Duration::from_millis(50), self.0.verify(workspace, checkpoint));
        answer.await.unwrap_or(Ok(Ok(())))
    }
}

/// Lets nothing pass once a check that failed has left something behind.
#[derive(Debug)]
struct Fastidious {
    inner: Arc<dyn Verifier>,
    store: Arc<dyn CheckpointStore>,
    has_seen_a_mess: AtomicBool,
}

#[async_trait]
impl Verifier for Fastidious {
    async fn verify(&self, workspace: &Path, checkpoint: &Checkpoint) -> Result<Result<(), String>> {
        if self.has_seen_a_mess.load(Ordering::Relaxed) {
            return Ok(Err("it would overwrite what no checkpoint holds".to_owned()));
        }
        let answer = self.inner.verify(workspace, checkpoint).await?;
        let is_as_it_was = self.store.tree_digest(workspace).await? == checkpoint.tree;
        self.has_seen_a_mess.store(answer.is_err() && !is_as_it_was, Ordering::Relaxed);
        Ok(answer)
    }
}

impl RollbackFixture for Wrong {
    fn store(&self, _directory: &Path) -> Arc<dyn CheckpointStore> {
        Arc::new(FakeCheckpointStore::default())
    }

    fn open(&self, place: &Place) -> Box<dyn Rollback> {
        let attempts_max = if *self == Self::IgnoresTheLimit { 3 } else { place.attempts_max };
        let settings = RollbackSettings {
            enable_rollback_failure_recovery: *self != Self::NeverFallsBack,
            max_rollback_attempts: attempts_max,
            rollback_timeout: place.time_max,
            ..RollbackSettings::default()
        };
        let builder = || -> RollbackManagerBuilder {
            let (clock, store) = (Arc::new(ManualClock::default()), Arc::clone(&place.store));
            RollbackManager::builder(store, &place.workspace, &place.state, clock)
                .settings(settings.clone())
                .selector(Arc::new(WrongList(*self)))
        };
        let careless = builder().build().unwrap();
        let inner = match place.verifier.clone() {
            Some(verifier) if *self == Self::BelievesSilence => builder().verifier(Arc::new(Hasty(verifier))),
            Some(inner) if *self == Self::StopsAtAMess => {
                let (store, has_seen_a_mess) = (Arc::clone(&place.store), AtomicBool::new(false));
                builder().verifier(Arc::new(Fastidious { inner, store, has_seen_a_mess }))
            }
            Some(verifier) => builder().verifier(verifier),
            None => builder(),
        };
        Box::new(Broken { inner: inner.build().unwrap(), careless, place: place.clone(), wrong: *self })
    }
}

#[tokio::test]
async fn every_wrong_rollback_is_rejected_by_the_case_that_is_meant_for_it() {
    let cases = conformance::rollback::cases::<Wrong>;
    assert_eq!(failed_cases(Wrong::Nothing, cases()).await, BTreeSet::new(), "the frame itself is right");
    let mut meant = BTreeSet::new();
    for (wrong, case) in [
        (Wrong::ReportsSuccessWithoutRestoring, "success_means_that_the_workspace_equals_the_checkpoint"),
        (Wrong::RestoresWithoutIntent, "an_interrupted_rollback_is_completed_by_recovery"),
        (Wrong::TriesATargetTwice, "no_target_is_tried_twice_and_at_most_three_are"),
        (Wrong::LosesUnsavedWork, "work_that_no_checkpoint_holds_is_saved_first"),
        (Wrong::LeavesTheWorkspaceHalfRestored, "after_a_failure_the_workspace_is_as_it_was"),
        (Wrong::LeavesTheWorkspaceHalfRestored, "where_no_version_is_healthy_the_workspace_is_as_it_was"),
        (Wrong::HidesTheFallback, "a_damaged_target_falls_back_and_says_so"),
        (Wrong::HidesTheFallback, "an_unhealthy_target_falls_back_and_says_so"),
        (Wrong::NeverFallsBack, "a_damaged_target_falls_back_and_says_so"),
        (Wrong::NeverFallsBack, "an_unhealthy_target_falls_back_and_says_so"),
        (Wrong::ForgetsHistory, "every_call_is_recorded_once_and_remembered"),
        (Wrong::RecordsTwice, "every_call_is_recorded_once_and_remembered"),
        (Wrong::RecordsTwice, "statistics_count_each_rollback_once"),
        (Wrong::RecordsSuccessOnly, "every_call_is_recorded_once_and_remembered"),
        (Wrong::ForgetsKnownGood, "known_good_versions_are_remembered_in_order"),
        (Wrong::SortsKnownGood, "known_good_versions_are_remembered_in_order"),
        (Wrong::NeverWithdraws, "known_good_versions_are_remembered_in_order"),
        (Wrong::RestoresOnPreview, "a_preview_changes_nothing"),
        (Wrong::RestoresForACache, "clearing_caches_is_no_rollback"),
        (Wrong::CallsEveryoneAutomatic, "statistics_tell_who_asked"),
        (Wrong::RecoversForEver, "an_interrupted_rollback_is_completed_by_recovery"),
        (Wrong::CountsRecoveryAsAutomatic, "statistics_count_each_rollback_once"),
        (Wrong::CountsRecoveryTwice, "statistics_count_each_rollback_once"),
        (Wrong::BestIsTheWorst, "the_best_version_has_the_best_mean_and_is_the_newest_of_equals"),
        (Wrong::BestIsTheOldestOfEquals, "the_best_version_has_the_best_mean_and_is_the_newest_of_equals"),
        (Wrong::BestIsAnything, "the_best_version_has_the_best_mean_and_is_the_newest_of_equals"),
        (Wrong::BestIsAnything, "what_was_never_measured_has_no_best_version"),
        (Wrong::BestIsTheNewest, "what_was_never_measured_has_no_best_version"),
        (Wrong::BaselineIsTheNewest, "a_baseline_is_the_checkpoint_that_it_stands_for"),
        (Wrong::UndoIsTheParent, "an_undo_goes_back_and_an_undo_of_it_forward_again"),
        (Wrong::UndoGoesBackOnce, "an_undo_goes_back_and_an_undo_of_it_forward_again"),
        (Wrong::UndoesWhatChangedNothing, "an_undo_goes_back_and_an_undo_of_it_forward_again"),
        (Wrong::UndoInventsATarget, "nothing_is_undone_before_something_was_changed"),
        (Wrong::UndoInventsATarget, "what_was_deleted_is_not_undone"),
        (Wrong::UndoTakesAnother, "nothing_takes_the_place_of_what_an_undo_means"),
        (Wrong::ClearsIgnored, "an_ignored_file_that_is_overwritten_is_saved_and_brought_back_by_undo"),
        (Wrong::ClearsIgnored, "an_ignored_file_that_is_removed_is_saved_and_brought_back_by_undo"),
        (Wrong::ClearsIgnored, "ignored_files_that_no_version_holds_stay"),
        (Wrong::ClearsIgnoredAfterAFailure, "ignored_files_that_no_version_holds_stay"),
        (Wrong::ClearsIgnoredAfterAFailure, "after_a_failure_ignored_files_are_as_they_were"),
        (Wrong::RecoversWithAnotherWayBack, "an_interrupted_rollback_costs_no_ignored_file"),
        (Wrong::IgnoresHealth, "an_unhealthy_target_falls_back_and_says_so"),
        (Wrong::IgnoresHealth, "where_no_version_is_healthy_the_workspace_is_as_it_was"),
        (Wrong::IgnoresTheLimit, "as_many_targets_are_tried_as_the_limit_allows"),
        (Wrong::BelievesAMeddler, "a_health_check_that_changes_the_workspace_is_not_believed"),
        (Wrong::BelievesSilence, "a_health_check_that_never_answers_is_no_approval"),
        (Wrong::ForgetsWhatItSavedOnFallback, "a_fallback_costs_no_ignored_file"),
        (Wrong::PutsBackWhatIsNotIgnored, "after_a_failure_nothing_is_left_in_ignored_places"),
        (Wrong::ReportsWhatStayedAsRemoved, "what_was_saved_for_another_version_and_stays_is_not_reported"),
        (Wrong::StopsAtAMess, "what_a_failed_check_leaves_behind_does_not_stop_the_ladder"),
        (Wrong::TriesAgainAfterACrash, "recovery_does_not_try_again_what_had_failed"),
        (Wrong::RecoversWithoutHealth, "recovery_leaves_an_unhealthy_target_too"),
    ] {
        assert!(fails(wrong, cases(), case).await, "{wrong:?} passes {case}");
        meant.insert(case);
    }
    let all: BTreeSet<&str> = cases().into_iter().map(|(name, _)| name).collect();
    assert_eq!(meant, all, "every case has a twin that it rejects");
}
