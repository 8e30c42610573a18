//! What a person decides about a version, and what follows from it.

use std::fmt;

use evoseal_types::{CheckpointId, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

use crate::{Outcome, VersionRef};

/// What a person decides about a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonsVerdict {
    /// It becomes the incumbent.
    Approve,
    /// It is not to be the incumbent.
    Reject,
    /// It is kept, and not accepted.
    Hold,
}

impl PersonsVerdict {
    /// The outcome that the verdict stands for.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Approve => Outcome::Accept,
            Self::Reject => Outcome::Reject,
            Self::Hold => Outcome::Inconclusive,
        }
    }
}

impl fmt::Display for PersonsVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Hold => "hold",
        })
    }
}

/// A person's decision: what, who, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonsDecision {
    /// The version that it was made about. It holds for every version with the same tree.
    pub version_id: VersionId,
    /// What was decided.
    pub verdict: PersonsVerdict,
    /// Who.
    pub person: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// `ada rejected v7 (2026-03-01T12:00:00Z): too clever`.
impl fmt::Display for PersonsDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let did = match self.verdict {
            PersonsVerdict::Approve => "approved",
            PersonsVerdict::Reject => "rejected",
            PersonsVerdict::Hold => "held",
        };
        // Seconds are enough for people.
        let at = self.at.to_string();
        let at = at.split_once('.').map_or(at.clone(), |(seconds, _)| format!("{seconds}Z"));
        write!(f, "{} {did} {} ({at}): {}", self.person, self.version_id, self.reason)
    }
}

/// A person's decision that is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonsOrder {
    /// The decision.
    pub decision: PersonsDecision,
    /// The version that it is about. With [`PersonsVerdict::Approve`] the workspace goes to its checkpoint; with
    /// [`PersonsVerdict::Reject`] its checkpoint is no longer known to be good.
    pub version: VersionRef,
    /// Where the workspace goes when the incumbent is rejected; `None` where it stays.
    pub fall_back_to: Option<CheckpointId>,
}
