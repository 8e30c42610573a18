//! `evoseal rejudge`.

use comfy_table::{Table, TableStyle};
use evoseal_regression::Detector;
use evoseal_safety::{AuditEvent, Decision, EvidenceStore, Rejudgement};
use evoseal_types::{Digest, ErrorClass, VersionId};
use serde::Serialize;

use crate::audit_args::RejudgeArguments;
use crate::commands::audit::whole_log;
use crate::failure::{Exit, Result};
use crate::output::Output;
use crate::overlay;
use crate::project::Project;

/// A decision and what it is now.
#[derive(Debug, Serialize)]
struct Row {
    /// The record of the decision in the audit log.
    record: u64,
    version_id: VersionId,
    evidence: Digest,
    /// Whether the outcome is another.
    flips: bool,
    /// Whether the decision came out the same, byte for byte.
    same: bool,
    #[serde(flatten)]
    rejudgement: Rejudgement,
}

/// A decision that cannot be made again.
#[derive(Debug, Serialize)]
struct Unreadable {
    record: u64,
    version_id: VersionId,
    evidence: Digest,
    problem: String,
}

#[derive(Debug, Serialize)]
struct Report {
    decisions: usize,
    flips: usize,
    changed: usize,
    /// Whether the detector was asked again.
    detector_asked: bool,
    /// Whether the settings are those of the file, under which nothing may differ.
    must_be_same: bool,
    rows: Vec<Row>,
    unreadable: Vec<Unreadable>,
}

pub(crate) async fn run(arguments: &RejudgeArguments, project: &Project, output: Output) -> Result<Exit> {
    let mut changed = project.clone();
    changed.loaded = overlay::with_deciding(&project.loaded, &arguments.set)?;
    let policy = changed.policy()?;
    let detector = changed.detector()?;
    let asks = arguments.set.is_empty() || changed.detector_settings() != project.detector_settings();
    let asked = asks.then_some(&detector as &dyn Detector);

    let store = project.evidence();
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    for record in whole_log(project).await?.records {
        let AuditEvent::Decided { version_id, evidence: digest, decision, .. } = record.what else {
            continue;
        };
        match store.load(digest).await {
            Ok(evidence) => {
                let rejudgement = Rejudgement::of(&evidence, &decision, asked, &policy);
                rows.push(Row {
                    record: record.sequence,
                    version_id,
                    evidence: digest,
                    flips: rejudgement.flips(),
                    same: rejudgement.is_same(),
                    rejudgement,
                });
            }
            Err(error) if error.class() == ErrorClass::Corrupt => {
                let problem = error.to_string();
                unreadable.push(Unreadable {
                    record: record.sequence,
                    version_id,
                    evidence: digest,
                    problem,
                });
            }
            Err(error) => return Err(error.into()),
        }
    }
    let report = Report {
        decisions: rows.len() + unreadable.len(),
        flips: rows.iter().filter(|row| row.flips).count(),
        changed: rows.iter().filter(|row| !row.same).count(),
        detector_asked: asks,
        must_be_same: arguments.set.is_empty(),
        rows,
        unreadable,
    };
    output.data(&report, || text_of(&report));
    Ok(if !report.unreadable.is_empty() {
        Exit::Damaged
    } else if report.flips > 0 || (report.must_be_same && report.changed > 0) {
        Exit::Found
    } else {
        Exit::Done
    })
}

fn text_of(report: &Report) -> String {
    let mut parts = Vec::new();
    // Under other settings much is worded otherwise; what matters is what flips. Under the same ones nothing may differ.
    let differing: Vec<&Row> =
        report.rows.iter().filter(|row| row.flips || (report.must_be_same && !row.same)).collect();
    if !differing.is_empty() {
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        table.set_header(["version", "then", "by", "now", "by", "why"]);
        for row in differing {
            let Rejudgement { before, after, .. } = &row.rejudgement;
            table.add_row([
                row.version_id.to_string(),
                before.outcome.to_string(),
                before.decided_by.to_string(),
                after.outcome.to_string(),
                after.decided_by.to_string(),
                why(before, after),
            ]);
        }
        parts.push(table.trim_fmt());
    }
    for lost in &report.unreadable {
        parts.push(format!("{}: {}", lost.version_id, lost.problem));
    }
    let same = report.rows.len() - report.changed;
    let reworded = report.changed - report.flips;
    let mut counts = vec![format!("{} decisions: {same} the same", report.decisions)];
    if report.flips > 0 {
        counts.push(format!("{} would flip", report.flips));
    }
    if reworded > 0 {
        counts.push(format!("{reworded} with the same outcome and another judgement or wording"));
    }
    if !report.unreadable.is_empty() {
        counts.push(format!("{} without readable evidence", report.unreadable.len()));
    }
    parts.push(counts.join(", "));
    parts.join("\n")
}

/// The first reason of the new decision that the old one did not have, by the rule that decides if there is one.
fn why(before: &Decision, after: &Decision) -> String {
    let fresh = || after.reasons.iter().filter(|reason| !before.reasons.contains(reason));
    let deciding = fresh().find(|reason| reason.rule == after.decided_by).or_else(|| fresh().next());
    let gone = || before.reasons.iter().find(|reason| !after.reasons.contains(reason));
    match (deciding, gone()) {
        (Some(reason), _) if after.outcome > before.outcome => reason.message.clone(),
        (_, Some(reason)) => format!("no longer: {}", reason.message),
        (Some(reason), None) => reason.message.clone(),
        (None, None) => "the judgement or the score is another".to_owned(),
    }
}
