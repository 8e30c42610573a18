//! A version that is whole and yet not fit for use.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use evoseal_checkpoint::Checkpoint;
use evoseal_types::CheckpointId;

use super::RollbackFixture;
use super::bench::{Bench, Doctor, request, version};
use crate::{Error, Initiator, Result, Target, Verifier};

/// A bench whose health check condemns the versions of these places.
async fn with_doctor<'a>(fixture: &'a dyn RollbackFixture, sick: &[usize]) -> (Bench<'a>, Arc<Doctor>) {
    let mut bench = Bench::new(fixture).await;
    let doctor = Arc::new(Doctor::default());
    for index in sick {
        doctor.condemn(bench.ids[*index]);
    }
    bench.place.verifier = Some(Arc::<Doctor>::clone(&doctor));
    (bench, doctor)
}

/// An unhealthy target is left for the next older known-good one, and report and history say so.
pub async fn an_unhealthy_target_falls_back_and_says_so<F: RollbackFixture>(fixture: &F) {
    let (bench, doctor) = with_doctor(fixture, &[2]).await;
    let report = bench.roll_back(Target::LastKnownGood).await.expect("an older version is healthy");
    assert_eq!((report.requested, report.restored), (bench.ids[2], bench.ids[1]));
    assert!(report.fell_back(), "the report hides that another version was restored");
    assert_eq!(bench.tree().await, bench.tree_of(bench.ids[1]).await, "the workspace");
    let reasons: Vec<_> =
        report.attempts.iter().map(|tried| (tried.checkpoint, tried.error.as_deref())).collect();
    let [(first, Some(reason)), (second, None)] = reasons[..] else { panic!("the attempts: {reasons:?}") };
    assert_eq!((first, second), (bench.ids[2], bench.ids[1]), "the attempts");
    assert!(reason.contains("the doctor condemned it"), "the reason is {reason:?}");
    assert_eq!(doctor.looked_at(), [bench.ids[2], bench.ids[1]], "what was looked at");
    let history = bench.open().history().await.expect("the history can be read");
    assert_eq!(history.last().and_then(|record| record.report.as_ref()), Some(&report), "the history");
}

/// Where no version is healthy the workspace is as it was, and the error and the record list what was tried.
pub async fn where_no_version_is_healthy_the_workspace_is_as_it_was<F: RollbackFixture>(fixture: &F) {
    let (bench, _) = with_doctor(fixture, &[0, 1, 2]).await;
    let before = bench.tree().await;
    let error = bench.roll_back(Target::LastKnownGood).await.expect_err("no version is healthy");
    let Error::Exhausted { attempts } = error else { panic!("the error is {error}") };
    let tried: Vec<CheckpointId> = attempts.iter().map(|attempt| attempt.checkpoint).collect();
    assert_eq!(tried, [bench.ids[2], bench.ids[1], bench.ids[0]], "the attempts");
    assert!(attempts.iter().all(|attempt| attempt.error.is_some()), "one is said to have worked");
    assert_eq!((bench.read("code").as_deref(), bench.tree().await), (Some("edited"), before));
    let history = bench.open().history().await.expect("the history can be read");
    let record = history.last().expect("every call is recorded");
    assert_eq!((&record.attempts, record.report.is_none()), (&attempts, true), "the record");
}

/// As many targets are tried as the limit allows, and no more.
pub async fn as_many_targets_are_tried_as_the_limit_allows<F: RollbackFixture>(fixture: &F) {
    for attempts_max in [1, 2, 4] {
        let (mut bench, doctor) = with_doctor(fixture, &[0, 1, 2]).await;
        for name in ["v4", "v5"] {
            bench.write(name);
            let id = bench.accept(name).await;
            doctor.condemn(id);
        }
        bench.write("edited");
        bench.place.attempts_max = attempts_max;
        bench.roll_back(Target::LastKnownGood).await.expect_err("no version is healthy");
        let newest = bench.ids.iter().rev().copied();
        let expected: Vec<CheckpointId> = newest.take(attempts_max as usize).collect();
        assert_eq!(bench.restored(), expected, "what was tried of at most {attempts_max}");
        assert_eq!(bench.read("code").as_deref(), Some("edited"), "the workspace");
    }
}

/// A health check that changes the workspace makes no success of it.
pub async fn a_health_check_that_changes_the_workspace_is_not_believed<F: RollbackFixture>(fixture: &F) {
    /// Says that all is well, and breaks it.
    #[derive(Debug)]
    struct Meddler;

    #[async_trait]
    impl Verifier for Meddler {
        async fn verify(&self, workspace: &Path, _: &Checkpoint) -> Result<Result<(), String>> {
            std::fs::write(workspace.join("code"), "meddled").expect("the workspace can be written");
            Ok(Ok(()))
        }
    }

    let mut bench = Bench::new(fixture).await;
    bench.place.verifier = Some(Arc::new(Meddler));
    bench.roll_back(Target::LastKnownGood).await.expect_err("the workspace equals no checkpoint");
    assert_eq!(bench.read("code").as_deref(), Some("edited"), "the workspace");
}

/// A health check that does not answer in time is no approval, and is not waited for.
pub async fn a_health_check_that_never_answers_is_no_approval<F: RollbackFixture>(fixture: &F) {
    /// Looks for ever.
    #[derive(Debug)]
    struct Lost;

    #[async_trait]
    impl Verifier for Lost {
        async fn verify(&self, _: &Path, _: &Checkpoint) -> Result<Result<(), String>> {
            std::future::pending().await
        }
    }

    let mut bench = Bench::new(fixture).await;
    bench.place.verifier = Some(Arc::new(Lost));
    bench.place.time_max = Duration::from_millis(300);
    let rollback = bench.open();
    let call = rollback.roll_back(request(Target::LastKnownGood));
    // Only so that this ends: how long it takes is not looked at.
    let answer = tokio::time::timeout(Duration::from_mins(1), call).await;
    let error = answer.expect("it waits for ever").expect_err("nobody said that the version is healthy");
    assert!(matches!(error, Error::Exhausted { .. } | Error::TimedOut { .. }), "the error is {error}");
    assert_eq!(bench.read("code").as_deref(), Some("edited"), "the workspace");
}

/// Recovery asks the health check too.
pub async fn recovery_leaves_an_unhealthy_target_too<F: RollbackFixture>(fixture: &F) {
    let (bench, _) = with_doctor(fixture, &[2]).await;
    bench.die_in_restore(bench.ids[2], request(Target::LastKnownGood)).await;
    let report = bench.open().recover().await.expect("an older version is healthy");
    let report = report.expect("recovery finds the interrupted rollback");
    assert_eq!((report.requested, report.restored), (bench.ids[2], bench.ids[1]));
    assert_eq!(bench.tree().await, bench.tree_of(bench.ids[1]).await, "the workspace");
}

/// The statistics tell apart what the loop asked for, what a person did and what a start had to finish; each rollback is
/// counted once, by who ended it, and recovering again adds nothing.
pub async fn statistics_count_each_rollback_once<F: RollbackFixture>(fixture: &F) {
    let (bench, _) = with_doctor(fixture, &[]).await;
    let person = || Initiator::Person("ada".to_owned());
    let by_person = |target| crate::RollbackRequest { initiator: person(), ..request(target) };
    bench.roll_back(Target::LastKnownGood).await.expect("the target is whole");
    bench.open().roll_back(by_person(Target::Parent)).await.expect("the target is whole");
    bench.open().roll_back(by_person(Target::Version(version("v9")))).await.expect_err("there is no v9");
    let counts = async |when: &str, expected: [u64; 6]| {
        let found = bench.open().statistics().await.expect("the history can be read");
        let counts = [
            found.total_rollbacks,
            found.successful_rollbacks,
            found.failed_rollbacks,
            found.auto_rollbacks,
            found.manual_rollbacks,
            found.recovery_rollbacks,
        ];
        assert_eq!(counts, expected, "all, successful, failed, automatic, manual, recovery {when}");
        let history = bench.open().history().await.expect("the history can be read");
        assert_eq!(history.len() as u64, expected[0], "records {when}");
    };
    counts("before a crash", [3, 2, 1, 1, 2, 0]).await;
    bench.die_in_restore(bench.ids[0], by_person(Target::Checkpoint(bench.ids[0]))).await;
    for when in ["after a recovery", "after one more"] {
        bench.open().recover().await.expect("it can be completed");
        counts(when, [4, 3, 1, 1, 2, 1]).await;
    }
    // A new rollback completes what it finds, and both are counted.
    bench.die_in_restore(bench.ids[2], by_person(Target::LastKnownGood)).await;
    bench.roll_back(Target::Parent).await.expect("the target is whole");
    assert_eq!(bench.open().recover().await.expect("it can run again"), None, "nothing is left to recover");
    counts("after a rollback that completed another", [6, 5, 1, 2, 2, 2]).await;
}

/// What had failed before a crash is not tried again after it.
pub async fn recovery_does_not_try_again_what_had_failed<F: RollbackFixture>(fixture: &F) {
    let (bench, _) = with_doctor(fixture, &[2]).await;
    bench.die_in_restore(bench.ids[1], request(Target::LastKnownGood)).await;
    let report = bench.open().recover().await.expect("an older version is healthy");
    let report = report.expect("recovery finds the interrupted rollback");
    assert_eq!((report.requested, report.restored), (bench.ids[2], bench.ids[1]));
    assert_eq!(report.attempts.len(), 2, "the attempts before the crash and after it");
    let count = bench.restored().iter().filter(|id| **id == bench.ids[2]).count();
    assert_eq!(count, 1, "restores of what had failed; all of them: {:?}", bench.restored());
}

/// What an unhealthy version's check has left behind does not keep the next one from being restored.
pub async fn what_a_failed_check_leaves_behind_does_not_stop_the_ladder<F: RollbackFixture>(fixture: &F) {
    /// Fails where the code is that of `v3`, and leaves a log of it.
    #[derive(Debug)]
    struct Messy;

    #[async_trait]
    impl Verifier for Messy {
        async fn verify(&self, workspace: &Path, _: &Checkpoint) -> Result<Result<(), String>> {
            let code = std::fs::read_to_string(workspace.join("code")).expect("the workspace can be read");
            if code != "v3" {
                return Ok(Ok(()));
            }
            std::fs::write(workspace.join("log"), "it failed").expect("the workspace can be written");
            Ok(Err("v3 does not work".to_owned()))
        }
    }

    let mut bench = Bench::new(fixture).await;
    bench.place.verifier = Some(Arc::new(Messy));
    let report = bench.roll_back(Target::LastKnownGood).await.expect("an older version is healthy");
    assert_eq!((report.requested, report.restored), (bench.ids[2], bench.ids[1]));
    assert_eq!(bench.tree().await, bench.tree_of(bench.ids[1]).await, "the workspace");
}
