//! What a rollback is about to do, on record before it does it; `FORMAT.md` describes the file.

use evoseal_types::{CheckpointId, Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Attempt, RollbackMode, RollbackRequest};

/// Everything that recovery needs to complete a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intent {
    /// What was wanted.
    pub(crate) request: RollbackRequest,
    /// When it was begun.
    pub(crate) started_at: Timestamp,
    /// The number of the last record of the history at that time.
    pub(crate) after_sequence: u64,
    /// The length of the history at that time: a record of this rollback stands behind it.
    pub(crate) history_bytes: u64,
    /// A checkpoint of the workspace as it was.
    pub(crate) original: CheckpointId,
    /// The digest of the workspace as it was.
    pub(crate) from_tree: Digest,
    /// The original, if it was made for this rollback.
    pub(crate) saved: Option<CheckpointId>,
    /// How the workspace becomes the target.
    #[serde(default, skip_serializing_if = "RollbackMode::is_in_place")]
    pub(crate) mode: RollbackMode,
    /// A checkpoint that has what the original has, and more of what is ignored: what a later target would touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) later: Option<CheckpointId>,
    /// With how many of the targets, from the first, all is held that is at stake. The others were not tried.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) held: usize,
    /// What is tried, in order; never empty, no element twice.
    pub(crate) ladder: Vec<CheckpointId>,
    /// What failed so far. These are the first elements of the ladder; they are not tried again.
    pub(crate) attempts: Vec<Attempt>,
    /// Set once nothing more is tried: the workspace is being put back.
    pub(crate) giving_up: Option<GivingUp>,
}

/// Why a rollback puts the workspace back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GivingUp {
    Exhausted,
    TimedOut,
}

impl Intent {
    /// Tells this rollback from every other: its record bears this, so that it is never recorded twice. Does not change
    /// while the rollback goes on. Two rollbacks cannot share it, since each adds a record and so raises
    /// `after_sequence` for the next.
    pub(crate) fn key(&self) -> Digest {
        let begun = Self { attempts: Vec::new(), giving_up: None, later: None, held: one(), ..self.clone() };
        Digest::of(&begun.to_json())
    }

    /// The checkpoint that has most of the workspace as it was.
    pub(crate) fn way_back(&self) -> CheckpointId {
        self.later.unwrap_or(self.original)
    }

    /// The target that is to be tried next.
    pub(crate) fn next_target(&self) -> Option<CheckpointId> {
        self.ladder.get(self.attempts.len()).copied()
    }

    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an intent holds no maps")
    }

    /// The bytes of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let json = self.to_json();
        let mut bytes = format!("{MAGIC} {} {}\n", json.len(), Digest::of(&json)).into_bytes();
        bytes.extend_from_slice(&json);
        bytes
    }

    /// Reads the bytes of the file, or says what is wrong with them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("its first line has no end")?;
        let (header, json) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 1..]);
        let Some(rest) = header.strip_prefix(MAGIC) else {
            return Err(format!("it does not start with {MAGIC:?}"));
        };
        if rest != format!(" {} {}", json.len(), Digest::of(json)) {
            return Err("its length or checksum does not fit".to_owned());
        }
        let intent: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if intent.ladder.is_empty() || intent.attempts.len() > intent.ladder.len() {
            return Err("it has no targets".to_owned());
        }
        Ok(intent)
    }
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_one(count: &usize) -> bool {
    *count == one()
}

/// The format's name and version.
const MAGIC: &str = "evoseal-rollback-intent 1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Initiator, Target};

    fn intent() -> Intent {
        let id = CheckpointId::new(Digest::of(b"v1"));
        Intent {
            request: RollbackRequest {
                target: Target::Checkpoint(id),
                reason: "broken".to_owned(),
                initiator: Initiator::Person("ada".to_owned()),
            },
            started_at: Timestamp::from_unix_ns(1),
            after_sequence: 4,
            history_bytes: 100,
            original: CheckpointId::new(Digest::of(b"v2")),
            from_tree: Digest::of(b"tree"),
            saved: None,
            mode: RollbackMode::Exchange,
            later: None,
            held: 1,
            ladder: vec![id],
            attempts: Vec::new(),
            giving_up: None,
        }
    }

    #[test]
    fn an_intent_reads_back_and_every_changed_byte_is_found() {
        let bytes = intent().encode();
        assert_eq!(Intent::decode(&bytes).unwrap(), intent());
        for position in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[position] ^= 1;
            assert!(Intent::decode(&bad).is_err(), "byte {position}");
            assert!(Intent::decode(&bytes[..position]).is_err(), "cut at {position}");
        }
    }

    #[test]
    fn progress_does_not_change_the_key() {
        let id = CheckpointId::new(Digest::of(b"v1"));
        let attempts = vec![Attempt { checkpoint: id, error: Some("damaged".to_owned()) }];
        let later =
            Intent { attempts, giving_up: Some(GivingUp::TimedOut), later: Some(id), held: 2, ..intent() };
        assert_eq!(later.key(), intent().key());
        assert_ne!(Intent { after_sequence: 5, ..intent() }.key(), intent().key());
    }
}
