//! The contract of [`SafetyGate`]. What a gate lets pass is its own; one that never accepts has nothing to show here.

use std::any::Any;
use std::fs;
use std::path::PathBuf;

use evoseal_checkpoint::{NewCheckpoint, Source};
use evoseal_types::{TestReport, Timestamp, VersionId};

use super::{Verdict, ensure, suite, wrong};
use crate::{
    EvolutionStep, Observations, Outcome, PersonsDecision, PersonsOrder, PersonsVerdict, ProposalRecord,
    SafetyGate, SafetyGateExt, Settlement, ValidationRequest, VersionRef,
};

/// A gate, the workspace that it rolls back, and what keeps both alive.
#[derive(Debug)]
pub struct GateInPlace {
    /// The gate, which knows no version yet and cleans up nothing by itself.
    pub gate: Box<dyn SafetyGate>,
    /// An empty directory: the workspace.
    pub workspace: PathBuf,
    /// Whether the gate can return the workspace to an earlier version.
    pub rolls_back: bool,
    /// Cleans up when it is dropped.
    pub guard: Box<dyn Any>,
}

/// Makes a gate.
pub type Fixture<'a> = &'a dyn Fn() -> GateInPlace;

suite! { $ safety_gate_conformance safety_gate Fixture<'_>,
    accepts_tests_that_pass_and_nothing_else
    records_a_proposal_any_number_of_times
    judges_the_same_again_and_leaves_the_workspace_alone
    settles_an_acceptance_any_number_of_times
    settles_a_refusal_any_number_of_times
    reports_every_refusal_as_a_step_that_accepted_nothing
    carries_out_what_a_person_decides_any_number_of_times
    keeps_the_incumbent_and_its_parent_when_it_cleans_up
}

fn request(name: &str, report: TestReport) -> Result<ValidationRequest, String> {
    Ok(ValidationRequest {
        current_version_id: None,
        new_version_id: VersionId::new(name).map_err(wrong)?,
        observations: Observations { test_results: vec![report], ..Observations::default() },
        objective: None,
    })
}

fn passing() -> TestReport {
    TestReport::from_counts("unit_tests", 3, 0, 0, 0)
}

fn failing() -> TestReport {
    TestReport::from_counts("unit_tests", 2, 1, 0, 0)
}

impl GateInPlace {
    fn write(&self, text: &str) -> Verdict {
        fs::write(self.workspace.join("program"), text).map_err(wrong)
    }

    fn text(&self) -> Result<String, String> {
        fs::read_to_string(self.workspace.join("program")).map_err(wrong)
    }

    /// Captures a version whose program is its name.
    async fn capture(&self, name: &str, parent: Option<&VersionRef>) -> Result<VersionRef, String> {
        self.write(name)?;
        let version_id = VersionId::new(name).map_err(wrong)?;
        let parent = parent.and_then(|parent| parent.checkpoint);
        let details = NewCheckpoint { parent, ..NewCheckpoint::of(version_id.clone()) };
        let source = Source::Directory(self.workspace.clone());
        let handle = self.gate.create_safety_checkpoint(source, details).await.map_err(wrong)?;
        let checkpoint = handle.durable().await.map_err(wrong)?;
        Ok(VersionRef { version_id, checkpoint: Some(checkpoint.id) })
    }

    /// Captures, judges and settles a version.
    async fn settle(
        &self,
        name: &str,
        report: TestReport,
        current: Option<&VersionRef>,
    ) -> Result<(VersionRef, Settlement), String> {
        let new = self.capture(name, current).await?;
        let validation = self.gate.validate_version_safety(&request(name, report)?).await.map_err(wrong)?;
        let settlement = Settlement {
            new: new.clone(),
            current: current.cloned(),
            decision: validation.decision,
            auto_rollback: true,
        };
        self.gate.settle(&settlement).await.map_err(wrong)?;
        Ok((new, settlement))
    }
}

/// Passing tests make a safe version; failed, missing and contradictory ones do not, and the fields agree.
pub async fn accepts_tests_that_pass_and_nothing_else(fixture: Fixture<'_>) -> Verdict {
    let place = fixture();
    let mut contradictory = passing();
    contradictory.tests_run = 9;
    let none = TestReport::from_counts("unit_tests", 0, 0, 0, 0);
    let reports = [(passing(), true), (failing(), false), (none, false), (contradictory, false)];
    for (count, (report, safe)) in reports.into_iter().enumerate() {
        let request = request(&format!("v{count}"), report)?;
        // An error is a denial too.
        let Ok(validation) = place.gate.validate_version_safety(&request).await else {
            ensure(!safe, || "passing tests are an error".to_owned())?;
            continue;
        };
        ensure(validation.is_safe == safe, || format!("it says {} of {request:?}", validation.is_safe))?;
        let accepted = validation.decision.outcome == Outcome::Accept;
        ensure(accepted == validation.is_safe, || "its decision and `is_safe` disagree".to_owned())?;
    }
    Ok(())
}

/// A proposal is recorded before anything is done about it, and again where the process was killed in between; another
/// attempt under the same version is another proposal.
pub async fn records_a_proposal_any_number_of_times(fixture: Fixture<'_>) -> Verdict {
    let place = fixture();
    place.write("program")?;
    let version = |name| VersionId::new(name).map_err(wrong);
    let first = ProposalRecord {
        version_id: version("v1")?,
        current_version_id: version("v0")?,
        began_at: Timestamp::default(),
        change: "a larger buffer".to_owned(),
        failed: false,
    };
    let second = ProposalRecord { began_at: Timestamp::from_unix_ns(1), ..first.clone() };
    for proposal in [&first, &first, &second, &second] {
        place.gate.record_proposal(proposal).await.map_err(wrong)?;
    }
    let text = place.text()?;
    ensure(text == "program", || format!("it changed the workspace to {text:?}"))
}

/// The same question has the same answer, and asking touches nothing.
pub async fn judges_the_same_again_and_leaves_the_workspace_alone(fixture: Fixture<'_>) -> Verdict {
    let place = fixture();
    place.write("before")?;
    for report in [passing(), failing()] {
        let request = request("v1", report)?;
        let first = place.gate.validate_version_safety(&request).await.map_err(wrong)?;
        let second = place.gate.validate_version_safety(&request).await.map_err(wrong)?;
        ensure(first == second, || format!("first {first:?}, then {second:?}"))?;
    }
    let text = place.text()?;
    ensure(text == "before", || format!("judging changed the workspace to {text:?}"))
}

/// Repeating an acceptance is an acceptance.
pub async fn settles_an_acceptance_any_number_of_times(fixture: Fixture<'_>) -> Verdict {
    let place = fixture();
    let (_, settlement) = place.settle("v1", passing(), None).await?;
    for _ in 0..2 {
        let report = place.gate.settle(&settlement).await.map_err(wrong)?;
        ensure(report.version_accepted, || "an acceptance that is repeated is none".to_owned())?;
    }
    let text = place.text()?;
    ensure(text == "v1", || format!("after the acceptance the workspace holds {text:?}"))
}

/// Repeating a refusal is a refusal, leaves the accepted version, and counts no second rollback.
pub async fn settles_a_refusal_any_number_of_times(fixture: Fixture<'_>) -> Verdict {
    let place = fixture();
    let (v1, _) = place.settle("v1", passing(), None).await?;
    let (_, settlement) = place.settle("v2", failing(), Some(&v1)).await?;
    let mut counts = Vec::new();
    for _ in 0..2 {
        let report = place.gate.settle(&settlement).await.map_err(wrong)?;
        ensure(!report.version_accepted, || "a refusal that is repeated is an acceptance".to_owned())?;
        let status = place.gate.get_safety_status().await.map_err(wrong)?;
        counts.push(status.rollback_manager.map(|status| status.total_rollbacks));
    }
    let text = place.text()?;
    let expected = if place.rolls_back { "v1" } else { "v2" };
    ensure(text == expected, || format!("after the refusal the workspace holds {text:?}"))?;
    let once = if place.rolls_back { Some(1) } else { None };
    let right = counts.iter().all(|count| once.is_none() || *count == once);
    ensure(right, || format!("one refusal counts as {counts:?} rollbacks"))
}

/// The published step says so when nothing was accepted.
pub async fn reports_every_refusal_as_a_step_that_accepted_nothing(fixture: Fixture<'_>) -> Verdict {
    let place = fixture();
    let (v1, _) = place.settle("v1", passing(), None).await?;
    place.write("v2")?;
    let step = EvolutionStep {
        request: ValidationRequest {
            current_version_id: Some(v1.version_id.clone()),
            ..request("v2", failing())?
        },
        new_version_data: Source::Directory(place.workspace.clone()),
        current_checkpoint: v1.checkpoint,
    };
    let result = place.gate.execute_safe_evolution_step(step).await;
    ensure(!result.version_accepted, || format!("failed tests are accepted: {result:?}"))
}

/// A refused version that a person approves is the incumbent, and one that they reject again is not; each can be repeated.
pub async fn carries_out_what_a_person_decides_any_number_of_times(fixture: Fixture<'_>) -> Verdict {
    let place = fixture();
    if !place.rolls_back {
        return Ok(());
    }
    let (v1, _) = place.settle("v1", passing(), None).await?;
    let (v2, _) = place.settle("v2", failing(), Some(&v1)).await?;
    let order = |verdict, fall_back_to| PersonsOrder {
        decision: PersonsDecision {
            version_id: v2.version_id.clone(),
            verdict,
            person: "ada".to_owned(),
            at: Timestamp::default(),
            reason: "the test is wrong".to_owned(),
        },
        version: v2.clone(),
        fall_back_to,
    };
    let steps = [
        (order(PersonsVerdict::Hold, None), false, "v1"),
        (order(PersonsVerdict::Approve, None), true, "v2"),
        (order(PersonsVerdict::Reject, v1.checkpoint), false, "v1"),
    ];
    for (order, accepted, expected) in steps {
        let verdict = order.decision.verdict;
        for _ in 0..2 {
            let report = place.gate.override_version(&order).await.map_err(wrong)?;
            ensure(report.version_accepted == accepted, || {
                format!("after {verdict} it says that it accepted: {}", report.version_accepted)
            })?;
            let text = place.text()?;
            ensure(text == expected, || format!("after {verdict} the workspace holds {text:?}"))?;
        }
    }
    Ok(())
}

/// Keeping one checkpoint keeps what a rollback needs as well.
pub async fn keeps_the_incumbent_and_its_parent_when_it_cleans_up(fixture: Fixture<'_>) -> Verdict {
    let place = fixture();
    let parent = place.capture("parent", None).await?;
    let (incumbent, _) = place.settle("v1", passing(), Some(&parent)).await?;
    for count in 0..3 {
        place.capture(&format!("candidate{count}"), Some(&incumbent)).await?;
    }
    let before = place.gate.get_safety_status().await.map_err(wrong)?.checkpoint_manager.total_checkpoints;
    let report = place.gate.cleanup_old_safety_data(1).await.map_err(wrong)?;
    let left = place.gate.get_safety_status().await.map_err(wrong)?.checkpoint_manager.total_checkpoints;
    ensure(before - left == report.checkpoints_deleted, || {
        format!("it says that it deleted {} of {before}, and {left} are left", report.checkpoints_deleted)
    })?;
    ensure(left >= 3, || format!("incumbent, parent and newest are three, and {left} are left"))?;
    // What was kept can be gone back to.
    let (_, settlement) = place.settle("v2", failing(), Some(&incumbent)).await?;
    place.gate.settle(&settlement).await.map_err(wrong)?;
    let text = place.text()?;
    ensure(!place.rolls_back || text == "v1", || format!("after going back the workspace holds {text:?}"))
}
