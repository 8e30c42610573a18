//! The contract of [`AuditLog`]. That a record survives a crash, and that damage is noticed, depends on where the log is
//! and is for its own tests.

use std::any::Any;
use std::sync::Arc;

use evoseal_rollback::Initiator;
use evoseal_types::{CheckpointId, Digest, Timestamp, VersionId};

use super::{Verdict, ensure, suite, wrong};
use crate::{AuditEvent, AuditLog, Outcome, ProposalRecord};

/// Makes an empty log, and what keeps it alive.
pub type Fixture<'a> = &'a dyn Fn() -> (Box<dyn AuditLog>, Box<dyn Any>);

suite! { $ audit_log_conformance audit_log Fixture<'_>,
    begins_empty
    keeps_what_was_appended_in_order
    numbers_records_from_one_without_gaps
    chains_each_record_to_the_one_before
    hands_out_what_comes_after_a_record
    keeps_the_chain_with_many_writers
}

fn version(name: &str) -> Result<VersionId, String> {
    VersionId::new(name).map_err(wrong)
}

/// How many events there are.
const EVENTS: u64 = 9;

/// Events of different kinds.
fn events() -> Result<Vec<AuditEvent>, String> {
    let checkpoint = CheckpointId::new(Digest::of(b"checkpoint"));
    let evidence = Digest::of(b"evidence");
    let reason = "line\nbreaks, \"quotes\" and ü".to_owned();
    Ok(vec![
        AuditEvent::Proposed(ProposalRecord {
            version_id: version("v1")?,
            current_version_id: version("v0")?,
            began_at: Timestamp::default(),
            change: reason.clone(),
            failed: false,
        }),
        AuditEvent::CheckpointCreated { version_id: version("v1")?, checkpoint },
        AuditEvent::Observed { version_id: version("v1")?, evidence },
        AuditEvent::Accepted { version_id: version("v1")?, checkpoint: None },
        AuditEvent::RolledBack {
            from: Some(version("v2")?),
            to: checkpoint,
            reason: reason.clone(),
            initiator: Initiator::Person("someone".to_owned()),
            rollback: Some(1),
        },
        AuditEvent::RollbackFailed {
            reason: reason.clone(),
            error: reason.clone(),
            initiator: Initiator::Recovery,
            rollback: 2,
        },
        AuditEvent::BaselineSet { name: "release".to_owned(), version_id: version("v1")?, checkpoint },
        AuditEvent::Overridden {
            version_id: version("v2")?,
            outcome: Outcome::Accept,
            person: "someone".to_owned(),
            reason,
            at: Timestamp::default(),
        },
        AuditEvent::CleanedUp { checkpoints: vec![checkpoint] },
    ])
}

async fn append_all(log: &dyn AuditLog) -> Verdict {
    for event in events()? {
        log.append(event).await.map_err(wrong)?;
    }
    Ok(())
}

/// A fresh log has no records.
pub async fn begins_empty(fixture: Fixture<'_>) -> Verdict {
    let (log, _guard) = fixture();
    let records = log.records().await.map_err(wrong)?;
    ensure(records.is_empty(), || format!("a fresh log holds {records:?}"))
}

/// What is read is what was appended, and what `append` answered.
pub async fn keeps_what_was_appended_in_order(fixture: Fixture<'_>) -> Verdict {
    let (log, _guard) = fixture();
    let mut answered = Vec::new();
    for event in events()? {
        answered.push(log.append(event).await.map_err(wrong)?);
    }
    let records = log.records().await.map_err(wrong)?;
    ensure(records == answered, || format!("appended {answered:?}, read {records:?}"))?;
    let found: Vec<AuditEvent> = records.into_iter().map(|record| record.what).collect();
    ensure(found == events()?, || format!("it keeps {found:?}"))
}

/// 1, 2, 3.
pub async fn numbers_records_from_one_without_gaps(fixture: Fixture<'_>) -> Verdict {
    let (log, _guard) = fixture();
    append_all(&*log).await?;
    let numbers: Vec<u64> =
        log.records().await.map_err(wrong)?.iter().map(|record| record.sequence).collect();
    ensure(numbers == (1..=EVENTS).collect::<Vec<u64>>(), || format!("the numbers are {numbers:?}"))
}

/// Each record names the digest of the JSON of the one before, the first that of no bytes.
pub async fn chains_each_record_to_the_one_before(fixture: Fixture<'_>) -> Verdict {
    let (log, _guard) = fixture();
    append_all(&*log).await?;
    let mut previous = Digest::of(b"");
    for record in log.records().await.map_err(wrong)? {
        ensure(record.previous == previous, || {
            format!("record {} does not name the one before", record.sequence)
        })?;
        (_, previous) = record.encode().map_err(wrong)?;
    }
    Ok(())
}

/// `records_after` is the rest of `records`, whatever it is asked.
pub async fn hands_out_what_comes_after_a_record(fixture: Fixture<'_>) -> Verdict {
    let (log, _guard) = fixture();
    append_all(&*log).await?;
    let all = log.records().await.map_err(wrong)?;
    for after in [0, 1, EVENTS - 1, EVENTS, EVENTS + 1, u64::MAX] {
        let found = log.records_after(after).await.map_err(wrong)?;
        let expected: Vec<_> = all.iter().filter(|record| record.sequence > after).cloned().collect();
        ensure(found == expected, || format!("after {after} it hands out {found:?}"))?;
    }
    Ok(())
}

/// Appending at the same time from several tasks loses nothing and repeats no number.
pub async fn keeps_the_chain_with_many_writers(fixture: Fixture<'_>) -> Verdict {
    let (log, _guard) = fixture();
    let log: Arc<dyn AuditLog> = Arc::from(log);
    let mut writers = Vec::new();
    for writer in 0..4 {
        let log = Arc::clone(&log);
        let event = AuditEvent::Accepted { version_id: version(&format!("v{writer}"))?, checkpoint: None };
        writers.push(tokio::spawn(async move {
            for _ in 0..10 {
                log.append(event.clone()).await.map_err(wrong)?;
                tokio::task::yield_now().await;
            }
            Ok::<(), String>(())
        }));
    }
    for writer in writers {
        writer.await.map_err(wrong)??;
    }
    let records = log.records().await.map_err(wrong)?;
    let numbers: Vec<u64> = records.iter().map(|record| record.sequence).collect();
    ensure(numbers == (1..=40).collect::<Vec<u64>>(), || format!("the numbers are {numbers:?}"))
}
