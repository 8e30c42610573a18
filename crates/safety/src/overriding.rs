//! The standard gate carries out what a person decided.

use evoseal_rollback::{Initiator, Rollback, RollbackReport, RollbackRequest, Target};
use evoseal_types::CheckpointId;

use crate::audit::AuditEvent;
use crate::gate::{SettlementReport, VersionRef, describe};
use crate::integration::{SafetyIntegration, already_there};
use crate::person::{PersonsDecision, PersonsOrder, PersonsVerdict};
use crate::{Error, Result};

impl SafetyIntegration {
    /// Each step can be repeated, and all of them together: the log has the decision once, since it names its time.
    pub(crate) async fn carry_out_order(&self, order: &PersonsOrder) -> Result<SettlementReport> {
        let mut report =
            SettlementReport { version_accepted: false, rollback: None, actions_taken: Vec::new() };
        let PersonsDecision { version_id, verdict, person, at, reason } = order.decision.clone();
        let event = AuditEvent::Overridden { version_id, outcome: verdict.outcome(), person, reason, at };
        let done = match verdict {
            PersonsVerdict::Approve => self.approve(order, event, &mut report).await,
            PersonsVerdict::Reject => self.reject(order, event, &mut report).await,
            PersonsVerdict::Hold => self.hold(order, event, &mut report).await,
        };
        // Also a rollback that failed has its record. Its own error says more than one of the log.
        let recorded = self.record_rollbacks().await;
        done?;
        recorded?;
        Ok(report)
    }

    /// The workspace goes to the version first: what it cannot be brought to is not accepted.
    async fn approve(
        &self,
        order: &PersonsOrder,
        event: AuditEvent,
        report: &mut SettlementReport,
    ) -> Result<()> {
        let VersionRef { version_id, checkpoint } = &order.version;
        let (Some(rollback), Some(target)) = (&self.rollback, *checkpoint) else {
            return Err(Error::Invalid {
                what: format!("version {version_id}"),
                reason: "there is no checkpoint or no workspace to bring it to".to_owned(),
            });
        };
        let moved = match move_to(rollback.as_ref(), target, &order.decision).await {
            Err(error) if leads_nowhere(&error) => {
                // Waiting for it would keep every later run from starting. The person can ask again.
                report.actions_taken.push(format!(
                    "{version_id} is not accepted, since it could not be restored: {}",
                    describe(&error)
                ));
                return Ok(());
            }
            moved => moved?,
        };
        if moved.fell_back() {
            let (at, asked) = (&moved.version_id, &order.version.version_id);
            report.actions_taken.push(format!("{asked} could not be restored; the workspace is at {at}"));
        } else {
            self.recorded.store.set_accepted(version_id, true).await?;
            rollback.mark_known_good(target).await?;
            self.log_once(event).await?;
            // Not "once": it may have been accepted and rejected before.
            if !self.remembered().await?.accepted.contains_key(&target) {
                let (version_id, checkpoint) = (version_id.clone(), Some(target));
                self.audit.append(AuditEvent::Accepted { version_id, checkpoint }).await?;
            }
            report.version_accepted = true;
            report.actions_taken.push(format!("accepted {version_id}"));
        }
        report.rollback = Some(moved);
        Ok(())
    }

    /// What is rejected is not known to be good any more, before the workspace leaves it: a rollback must not choose it.
    async fn reject(
        &self,
        order: &PersonsOrder,
        event: AuditEvent,
        report: &mut SettlementReport,
    ) -> Result<()> {
        let VersionRef { version_id, checkpoint } = &order.version;
        self.recorded.store.set_accepted(version_id, false).await?;
        if let (Some(rollback), Some(checkpoint)) = (&self.rollback, checkpoint) {
            rollback.withdraw_known_good(*checkpoint).await?;
        }
        self.log_once(event).await?;
        report.actions_taken.push(format!("rejected {version_id}"));
        if let (Some(rollback), Some(target)) = (&self.rollback, order.fall_back_to) {
            match move_to(rollback.as_ref(), target, &order.decision).await {
                Err(error) if leads_nowhere(&error) => {
                    let why = describe(&error);
                    report.actions_taken.push(format!("the workspace could not leave it: {why}"));
                }
                moved => {
                    let moved = moved?;
                    report.actions_taken.push(format!("the workspace is at {}", moved.version_id));
                    report.rollback = Some(moved);
                }
            }
        }
        Ok(())
    }

    /// What is held stays readable whatever is cleaned up.
    async fn hold(
        &self,
        order: &PersonsOrder,
        event: AuditEvent,
        report: &mut SettlementReport,
    ) -> Result<()> {
        let VersionRef { version_id, checkpoint } = &order.version;
        self.log_once(event).await?;
        if let Some(checkpoint) = *checkpoint {
            let held = self.remembered().await?.held.iter().any(|(_, held)| *held == checkpoint);
            if !held {
                self.audit.append(AuditEvent::Held { version_id: version_id.clone(), checkpoint }).await?;
            }
        }
        report.actions_taken.push(format!("holding {version_id}"));
        Ok(())
    }
}

/// Whether a rollback has ended because there is no version that it could go to: asked again it would end in the same way.
fn leads_nowhere(error: &Error) -> bool {
    use evoseal_rollback::Error as Rollback;
    matches!(error, Error::Rollback(Rollback::Exhausted { .. } | Rollback::NoTarget { .. }))
}

/// Brings the workspace to a checkpoint; nothing is done where it is there already.
async fn move_to(
    rollback: &dyn Rollback,
    target: CheckpointId,
    decision: &PersonsDecision,
) -> Result<RollbackReport> {
    // A rollback that was cut off would otherwise be completed later, over whatever stands there by then.
    rollback.recover().await?;
    if let Some(done) = already_there(rollback, target, target).await {
        return Ok(done);
    }
    let request = RollbackRequest {
        target: Target::Checkpoint(target),
        reason: format!("{} {}: {}", decision.verdict, decision.version_id, decision.reason),
        initiator: Initiator::Person(decision.person.clone()),
    };
    Ok(rollback.roll_back(request).await?)
}
