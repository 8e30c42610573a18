//! Whether the audit log still has everything that the journal speaks of.

use std::collections::BTreeMap;

use evoseal_safety::{AuditEvent, AuditRecord, Decision, PersonsDecision, PersonsVerdict};
use evoseal_types::{CheckpointId, Timestamp, VersionId};

use crate::JournalEntry;
use crate::result::version_of;

/// Something that the journal speaks of and the audit log does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRecord {
    /// The entry of the journal, counted from 1.
    pub entry: u64,
    /// What has no record.
    pub what: String,
}

/// What the journal says was proposed, captured, decided, accepted or rolled back and has no record in the audit log.
///
/// Each of these is in the log before the journal has it, so that nothing can be missing but what was taken out of the log:
/// also where the log that is left is good by itself. What a log has and the journal does not is no sign of anything: a
/// process may have been killed in between.
///
/// ```
/// use evoseal_pipeline::{JournalEntry, missing_from_audit};
///
/// let entry = JournalEntry::AcceptedCaptured { iteration: 1, checkpoint: "ab".repeat(32).parse()? };
/// let missing = missing_from_audit(&[entry], &[]);
/// assert_eq!((missing.len(), missing[0].entry), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn missing_from_audit(journal: &[JournalEntry], audit: &[AuditRecord]) -> Vec<MissingRecord> {
    let mut known = Known::default();
    for record in audit {
        known.add(&record.what);
    }
    let mut missing = Vec::new();
    let mut began_at = Timestamp::default();
    let (mut candidate, mut ordered) = (None, None);
    for (number, entry) in (1..).zip(journal) {
        if let JournalEntry::IterationStarted { at, .. } = entry {
            (began_at, candidate) = (*at, None);
        }
        if let JournalEntry::CandidateCaptured { version, .. } = entry {
            candidate = Some(version.version_id.clone());
        }
        if let JournalEntry::Overriding { order, .. } = entry {
            ordered = Some(&order.decision);
        }
        let by_person = ordered.take_if(|decision| is_carried_out(entry, decision));
        let overridden = by_person
            .map(|decision| Claim::Overridden { version_id: decision.version_id.clone(), at: decision.at });
        for claim in claims(entry, began_at, candidate.as_ref()).into_iter().chain(overridden) {
            if !known.take(&claim) {
                missing.push(MissingRecord { entry: number, what: claim.to_string() });
            }
        }
    }
    missing
}

/// One thing that an entry of the journal says was done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Proposed { version_id: VersionId, began_at: Timestamp },
    Captured { checkpoint: CheckpointId },
    Decided { version_id: VersionId, decision: String },
    Accepted { version_id: VersionId },
    RolledBack { from: Option<VersionId>, to: CheckpointId },
    Overridden { version_id: VersionId, at: Timestamp },
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Proposed { version_id, began_at } => {
                write!(f, "the proposal of {version_id} in the iteration that began at {began_at}")
            }
            Self::Captured { checkpoint } => write!(f, "the capture of checkpoint {}", checkpoint.short()),
            Self::Decided { version_id, .. } => write!(f, "the decision on {version_id}"),
            Self::Accepted { version_id } => write!(f, "the acceptance of {version_id}"),
            Self::Overridden { version_id, .. } => write!(f, "what a person decided about {version_id}"),
            Self::RolledBack { to, .. } => write!(f, "a rollback to checkpoint {}", to.short()),
        }
    }
}

impl Claim {
    fn decided(version_id: &VersionId, decision: &Decision) -> Self {
        // Numbers that are none equal nothing, and are written down alike.
        let decision = serde_json::to_string(decision).unwrap_or_default();
        Self::Decided { version_id: version_id.clone(), decision }
    }
}

/// What the audit log has, and how often.
#[derive(Debug, Default)]
struct Known(BTreeMap<Claim, u64>);

impl Known {
    fn add(&mut self, event: &AuditEvent) {
        let claim = match event {
            AuditEvent::Proposed(proposal) => {
                Claim::Proposed { version_id: proposal.version_id.clone(), began_at: proposal.began_at }
            }
            AuditEvent::CheckpointCreated { checkpoint, .. } => Claim::Captured { checkpoint: *checkpoint },
            AuditEvent::Decided { version_id, decision, .. } => Claim::decided(version_id, decision),
            AuditEvent::Accepted { version_id, .. } => Claim::Accepted { version_id: version_id.clone() },
            AuditEvent::RolledBack { from, to, .. } => Claim::RolledBack { from: from.clone(), to: *to },
            AuditEvent::Overridden { version_id, at, .. } => {
                Claim::Overridden { version_id: version_id.clone(), at: *at }
            }
            _ => return,
        };
        *self.0.entry(claim).or_default() += 1;
    }

    /// Whether there is a record for a claim. A rollback is one for each record of one; of the others a record that is
    /// found again is the same thing.
    fn take(&mut self, claim: &Claim) -> bool {
        let Claim::RolledBack { to, .. } = claim else { return self.0.contains_key(claim) };
        // Whoever completed a rollback that was cut off does not know which version it left.
        let unnamed = Claim::RolledBack { from: None, to: *to };
        [claim, &unnamed].into_iter().any(|claim| match self.0.get_mut(claim) {
            None | Some(0) => false,
            Some(count) => {
                *count -= 1;
                true
            }
        })
    }
}

/// Whether an entry says that a person's decision was carried out, and not that the version could not be restored.
fn is_carried_out(entry: &JournalEntry, decision: &PersonsDecision) -> bool {
    let JournalEntry::Overridden { report, .. } = entry else { return false };
    report.version_accepted || decision.verdict != PersonsVerdict::Approve
}

/// What an entry says was done. `candidate` is that of the iteration, which decisions and settlements speak of.
fn claims(entry: &JournalEntry, began_at: Timestamp, candidate: Option<&VersionId>) -> Vec<Claim> {
    let captured = |checkpoint| Claim::Captured { checkpoint };
    let judged = |iteration| candidate.cloned().unwrap_or_else(|| version_of(iteration));
    match entry {
        JournalEntry::Proposed { iteration, .. } => {
            vec![Claim::Proposed { version_id: version_of(*iteration), began_at }]
        }
        JournalEntry::CandidateCaptured { version, .. } => {
            version.checkpoint.map(captured).into_iter().collect()
        }
        JournalEntry::AcceptedCaptured { checkpoint, .. } => {
            vec![Claim::Captured { checkpoint: *checkpoint }]
        }
        JournalEntry::BaselineAccepted { version, validation, .. } => {
            let decided = Claim::decided(&version.version_id, &validation.decision);
            let accepted = Claim::Accepted { version_id: version.version_id.clone() };
            [decided, accepted].into_iter().chain(version.checkpoint.map(captured)).collect()
        }
        JournalEntry::Decided { iteration, validation }
        | JournalEntry::ConfirmationDecided { iteration, validation } => {
            vec![Claim::decided(&judged(*iteration), &validation.decision)]
        }
        JournalEntry::Settled { iteration, report } => {
            let version_id = judged(*iteration);
            let from = Some(version_id.clone());
            let rolled_back =
                report.rollback.as_ref().map(|done| Claim::RolledBack { from, to: done.restored });
            let accepted = Claim::Accepted { version_id };
            report.version_accepted.then_some(accepted).into_iter().chain(rolled_back).collect()
        }
        _ => Vec::new(),
    }
}
