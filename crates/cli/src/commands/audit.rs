//! `evoseal audit`.

use std::collections::BTreeSet;

use evoseal_pipeline::{JournalEntry, missing_from_audit};
use evoseal_rollback::{Rollback, RollbackRecord};
use evoseal_safety::{
    AuditDamage, AuditEvent, AuditHead, AuditRecord, AuditVerification, EvidenceStore, RememberedHead,
};
use evoseal_types::{Digest, ErrorClass};
use serde::Serialize;

use crate::audit_args::AuditCommand;
use crate::commands::history;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::Project;

pub(crate) async fn run(command: &AuditCommand, project: &Project, output: Output) -> Result<Exit> {
    match command {
        AuditCommand::Verify { head, count } => {
            verify(RememberedHead { count: *count, digest: *head }, project, output).await
        }
        AuditCommand::Head => print_head(project, output).await,
        AuditCommand::List { limit } => list(*limit, project, output).await,
    }
}

/// What was checked, and what was found.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether nothing is damaged or gone.
    ok: bool,
    /// Where the log ends, or the last good record before the first damaged one.
    head: AuditHead,
    /// The first record that is damaged or gone.
    damage: Option<AuditDamage>,
    /// Bytes of an append that was cut off.
    tail_bytes: u64,
    /// How much evidence was read and is whole.
    evidence: usize,
    /// What else is damaged, or has no record although something speaks of it.
    problems: Vec<String>,
    /// What is unusual, and can be so without anybody's doing.
    notes: Vec<String>,
}

async fn verify(remembered: RememberedHead, project: &Project, output: Output) -> Result<Exit> {
    // The journal first: while a run goes on, what it speaks of is in a log that is read later.
    let journal = project.journal();
    let verified = project.audit_log().verify(remembered).await?;
    let mut report = Report {
        ok: true,
        head: verified.head,
        damage: verified.damage.clone(),
        tail_bytes: verified.tail_bytes,
        evidence: 0,
        problems: Vec::new(),
        notes: Vec::new(),
    };
    if verified.tail_bytes > 0 {
        let bytes = verified.tail_bytes;
        report
            .notes
            .push(format!("{bytes} bytes behind the last record: an append that was cut off, to be dropped"));
    }
    check_journal(&verified, journal, &mut report);
    check_evidence(&verified.records, project, &mut report).await?;
    check_rollbacks(&verified.records, project, &mut report).await;
    report.ok = report.damage.is_none() && report.problems.is_empty();
    output.data(&report, || text_of(&report));
    Ok(if report.ok { Exit::Done } else { Exit::Damaged })
}

fn text_of(report: &Report) -> String {
    let mut lines = Vec::new();
    if let Some(AuditDamage { record, problem }) = &report.damage {
        lines.push(format!("damaged at record {record}: {problem}"));
        lines.push(format!("the {} records before it are whole", report.head.count));
    } else {
        lines.push(format!("{} records, each follows the one before", report.head.count));
        lines.push(format!("head {}", report.head.digest));
    }
    lines.push(format!("{} evidence, as it was kept", report.evidence));
    lines.extend(report.problems.iter().map(|problem| format!("problem: {problem}")));
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

/// What the journal speaks of. A damaged log has what its journal speaks of nowhere: that would only be said again.
fn check_journal(verified: &AuditVerification, journal: Result<Vec<JournalEntry>>, report: &mut Report) {
    match journal {
        Ok(_) if verified.damage.is_some() => {}
        Ok(entries) => {
            let missing = missing_from_audit(&entries, &verified.records).into_iter();
            report.problems.extend(missing.map(|missing| {
                format!(
                    "the journal speaks of {} (entry {}), and no record does",
                    missing.what, missing.entry
                )
            }));
        }
        Err(failure) => report.problems.push(failure.message),
    }
}

/// What the records name must be there and whole.
async fn check_evidence(records: &[AuditRecord], project: &Project, report: &mut Report) -> Result<()> {
    let store = project.evidence();
    let named: BTreeSet<Digest> = records.iter().filter_map(|record| evidence_of(&record.what)).collect();
    for digest in &named {
        match store.load(*digest).await {
            Ok(_) => report.evidence += 1,
            Err(error) if error.class() == ErrorClass::Corrupt => report.problems.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    let unnamed = store.list().await?.iter().filter(|digest| !named.contains(digest)).count();
    if unnamed > 0 && report.damage.is_none() {
        report
            .notes
            .push(format!("{unnamed} evidence that no record names: a process was killed before it could"));
    }
    Ok(())
}

fn evidence_of(event: &AuditEvent) -> Option<Digest> {
    match event {
        AuditEvent::Observed { evidence, .. } | AuditEvent::Decided { evidence, .. } => Some(*evidence),
        _ => None,
    }
}

/// The history of rollbacks and the log bear the same numbers. The newest may not be in the log yet.
async fn check_rollbacks(records: &[AuditRecord], project: &Project, report: &mut Report) {
    let history = match rollbacks(project).await {
        Ok(history) => history,
        Err(failure) => return report.problems.push(failure.message),
    };
    let recorded: BTreeSet<u64> = records.iter().filter_map(|record| rollback_of(&record.what)).collect();
    let newest = recorded.last().copied().unwrap_or_default();
    for record in history.iter().filter(|record| !recorded.contains(&record.sequence)) {
        let number = record.sequence;
        if number < newest {
            report
                .problems
                .push(format!("rollback {number} is in the history of rollbacks, and no record is about it"));
        } else if report.damage.is_none() {
            report.notes.push(format!("rollback {number} has no record yet; the next run adds it"));
        }
    }
    let known: BTreeSet<u64> = history.iter().map(|record| record.sequence).collect();
    for number in recorded.difference(&known) {
        report
            .problems
            .push(format!("rollback {number} has a record, and is not in the history of rollbacks"));
    }
}

fn rollback_of(event: &AuditEvent) -> Option<u64> {
    match event {
        AuditEvent::RolledBack { rollback, .. } => *rollback,
        AuditEvent::RollbackFailed { rollback, .. } => Some(*rollback),
        _ => None,
    }
}

/// The history of rollbacks; nothing is made where there is no state yet.
async fn rollbacks(project: &Project) -> Result<Vec<RollbackRecord>> {
    if !project.has_state() {
        return Ok(Vec::new());
    }
    Ok(project.stores().await?.rollback.history().await?)
}

/// The records of a log that is whole.
pub(crate) async fn whole_log(project: &Project) -> Result<AuditVerification> {
    let verified = project.audit_log().verify(RememberedHead::default()).await?;
    match &verified.damage {
        None => Ok(verified),
        Some(AuditDamage { record, problem }) => Err(Failure {
            exit: Exit::Damaged,
            message: format!("the audit log is damaged at record {record}: {problem}"),
            hint: Some("`evoseal audit verify` says what else is".to_owned()),
        }),
    }
}

async fn print_head(project: &Project, output: Output) -> Result<Exit> {
    let head = whole_log(project).await?.head;
    output.data(&head, || head.digest.to_string());
    Ok(Exit::Done)
}

async fn list(limit: Option<usize>, project: &Project, output: Output) -> Result<Exit> {
    let records = whole_log(project).await?.records;
    let skipped = limit.map_or(0, |limit| records.len().saturating_sub(limit));
    output.lines(&records[skipped..], |record| {
        format!("{:>6}  {}  {}", record.sequence, history::time(record.timestamp), summary(&record.what))
    });
    Ok(Exit::Done)
}

/// An event in one line.
fn summary(event: &AuditEvent) -> String {
    use evoseal_rollback::Initiator;
    let by = |initiator: &Initiator| match initiator {
        Initiator::Automatic => String::new(),
        Initiator::Person(person) => format!(" by {person}"),
        Initiator::Recovery => " by recovery".to_owned(),
    };
    let text = match event {
        AuditEvent::Proposed(proposal) => {
            let failed = if proposal.failed { " failed" } else { "" };
            format!("proposed    {}{failed}: {}", proposal.version_id, proposal.change)
        }
        AuditEvent::CheckpointCreated { version_id, checkpoint } => {
            format!("captured    {version_id} as {}", checkpoint.short())
        }
        AuditEvent::Observed { version_id, evidence } => {
            format!("observed    {version_id}: evidence {}", evidence.short())
        }
        AuditEvent::Decided { version_id, decision, .. } => {
            format!("decided     {version_id}: {} ({})", decision.outcome, decision.decided_by)
        }
        AuditEvent::Accepted { version_id, .. } => format!("accepted    {version_id}"),
        AuditEvent::RolledBack { from, to, reason, initiator, .. } => {
            let from = from.as_ref().map_or(String::new(), |from| format!("{from} "));
            format!("rolled back {from}to {}{}: {reason}", to.short(), by(initiator))
        }
        AuditEvent::RollbackFailed { error, initiator, .. } => {
            format!("rolled back nothing{}: {error}", by(initiator))
        }
        AuditEvent::BaselineSet { name, version_id, .. } => format!("baseline    {name} is {version_id}"),
        AuditEvent::Overridden { version_id, outcome, person, reason, .. } => {
            format!("overridden  {version_id}: {outcome} by {person}: {reason}")
        }
        AuditEvent::Held { version_id, .. } => format!("held        {version_id}, for a person to decide"),
        AuditEvent::CleanedUp { checkpoints } => format!("cleaned up  {} checkpoints", checkpoints.len()),
    };
    // What proposers and persons say is data: it stays on its line.
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
