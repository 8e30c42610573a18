//! Checking a whole audit log, as a report instead of an error.

use evoseal_types::Digest;
use serde::Serialize;

use crate::audit::AuditRecord;
use crate::audit_chain::{self, AuditDamage, AuditHead};

/// What somebody remembers of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RememberedHead {
    /// The least number of records.
    pub count: Option<u64>,
    /// The digest of the last record at the time.
    pub digest: Option<Digest>,
}

impl From<AuditHead> for RememberedHead {
    fn from(head: AuditHead) -> Self {
        Self { count: Some(head.count), digest: Some(head.digest) }
    }
}

/// What the bytes of an audit log say about themselves, and whether they fit what is remembered of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditVerification {
    /// Where the log ends, or the last record before the first damaged one.
    pub head: AuditHead,
    /// The first record that is damaged or gone.
    pub damage: Option<AuditDamage>,
    /// Bytes behind the last whole line: an append that was cut off and never acknowledged.
    pub tail_bytes: u64,
    /// The records before the first damaged one.
    #[serde(skip)]
    pub records: Vec<AuditRecord>,
}

impl AuditVerification {
    /// Checks the chain of a log, given all its bytes, and that each of `remembered` is still in it.
    ///
    /// Without anything remembered, records that were cut off the end cannot be noticed, nor a log that was forged as a
    /// whole. A remembered head may be older than the log: it is looked for at its own place.
    ///
    /// ```
    /// use evoseal_safety::{AuditHead, AuditVerification};
    ///
    /// let nothing = AuditVerification::of(b"", &[]);
    /// assert_eq!((nothing.head, nothing.damage), (AuditHead::default(), None));
    /// let garbage = AuditVerification::of(b"garbage\n", &[]);
    /// assert_eq!(garbage.damage.map(|damage| damage.record), Some(1));
    /// ```
    pub fn of(bytes: &[u8], remembered: &[RememberedHead]) -> Self {
        let chain = audit_chain::read(bytes, AuditHead::default());
        let head = chain.links.last().map_or_else(AuditHead::default, |(_, head, _)| *head);
        let digests: Vec<Digest> = chain.links.iter().map(|(_, head, _)| head.digest).collect();
        // A record that is damaged says more than that later ones are not what they were.
        let damage = chain.damage.or_else(|| remembered.iter().find_map(|known| missing(*known, &digests)));
        Self {
            head,
            damage,
            tail_bytes: (bytes.len() - chain.whole_len) as u64,
            records: chain.links.into_iter().map(|(record, _, _)| record).collect(),
        }
    }
}

/// What is remembered and not there, given the digests of all records.
fn missing(known: RememberedHead, digests: &[Digest]) -> Option<AuditDamage> {
    let count = digests.len() as u64;
    let damage = |record, problem: String| Some(AuditDamage { record, problem });
    if let Some(least) = known.count.filter(|least| *least > count) {
        return damage(count + 1, format!("the log was cut: it had {least} records and has {count}"));
    }
    let digest = known.digest?;
    if digest == AuditHead::default().digest {
        return None;
    }
    match known.count {
        Some(0) => damage(1, format!("an empty log does not end with {digest}")),
        Some(place) => {
            let index = usize::try_from(place - 1).expect("it is at most the number of records");
            let found = digests[index];
            (found != digest).then(|| AuditDamage {
                record: place,
                problem: format!("the log was rewritten: this record had the digest {digest}"),
            })
        }
        None if digests.contains(&digest) => None,
        None => damage(
            count + 1,
            format!("the log was cut or rewritten: no record has the digest {digest}, which was its last"),
        ),
    }
}
