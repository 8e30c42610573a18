//! Everything about one iteration.

use evoseal_regression::Finding;

use super::{TableOptions, finish, outcome_mark, pairs, verdict_mark, wrap};
use crate::history::{IterationRow, MetricSummary};
use crate::number;
use crate::text::{DETAIL_CHARS_MAX, one_line, plural};

/// Everything that is known of one iteration: outcome, every reason, tests, the safety score term by term, and every
/// finding with interval, threshold, p-value, method and sentence.
///
/// ```
/// # let history = evoseal_report::sample::history();
/// use evoseal_report::{TableOptions, iteration_detail};
/// let text = iteration_detail(&history.iterations[1], TableOptions::default());
/// assert!(text.contains("threshold"));
/// ```
pub fn iteration_detail(row: &IterationRow, options: TableOptions) -> String {
    let mut text = pairs(options.width(), &facts(row));
    text.push_str("\n\nReasons\n");
    let reasons: Vec<(String, String)> =
        row.reasons.iter().map(|reason| ("  ·".to_owned(), one_line(reason, DETAIL_CHARS_MAX))).collect();
    text.push_str(&if reasons.is_empty() { "  none".to_owned() } else { pairs(options.width(), &reasons) });
    for finding in &row.findings {
        let partner = finding
            .baseline
            .as_ref()
            .map_or_else(|| "incumbent".to_owned(), |name| format!("baseline {name}"));
        let severity = finding.severity.map_or_else(String::new, |severity| format!(" ({severity})"));
        let heading = format!(
            "{} against {}: {}{severity}",
            finding.metric.name,
            one_line(&partner, 80),
            verdict_mark(finding.verdict)
        );
        text = format!("{text}\n\n{}\n", wrap(&heading, options.width()));
        let facts: Vec<(String, String)> =
            finding_facts(finding).into_iter().map(|(label, value)| (format!("  {label}"), value)).collect();
        text.push_str(&pairs(options.width(), &facts));
    }
    finish(&text, options.color)
}

fn facts(row: &IterationRow) -> Vec<(String, String)> {
    let mut facts = vec![
        ("iteration".to_owned(), row.iteration.to_string()),
        ("change".to_owned(), one_line(&row.change, DETAIL_CHARS_MAX)),
        (
            "outcome".to_owned(),
            format!("{} by {}", outcome_mark(row.outcome), one_line(&row.decided_by, 120)),
        ),
    ];
    facts.extend(row_facts(row));
    facts
}

/// Label and value of what is known of an iteration besides change, outcome, reasons and findings.
pub(crate) fn row_facts(row: &IterationRow) -> Vec<(String, String)> {
    let mut facts = vec![
        (
            "version".to_owned(),
            format!(
                "{} (compared with {})",
                one_line(row.version_id.as_str(), 200),
                one_line(row.incumbent.as_str(), 200)
            ),
        ),
        ("tests".to_owned(), tests(row.tests_passed, row.tests_run)),
        ("files changed".to_owned(), row.files_changed.to_string()),
        (
            "started".to_owned(),
            format!("{}, took {}", number::time(row.started_at), number::duration(row.duration)),
        ),
    ];
    if let Some(checkpoint) = row.checkpoint {
        facts.push(("checkpoint".to_owned(), checkpoint.short()));
    }
    if let Some(score) = row.safety_score {
        let terms: Vec<String> = row
            .score_terms
            .iter()
            .map(|term| format!("{} {}", one_line(&term.label, 80), number::plain(term.value)))
            .collect();
        let terms = if terms.is_empty() { String::new() } else { format!(" = {}", terms.join(" · ")) };
        facts.push(("safety score".to_owned(), format!("{}{terms}", number::plain(score))));
    }
    if let Some(score) = row.improvement_score {
        facts.push(("improvement score".to_owned(), format!("{} of 100", number::plain(score))));
    }
    facts.extend(row.metrics.iter().map(measured));
    facts.extend(row.notes.iter().map(|note| ("note".to_owned(), one_line(note, DETAIL_CHARS_MAX))));
    facts
}

/// What was measured of a metric: its mean with interval and number of samples.
fn measured(summary: &MetricSummary) -> (String, String) {
    let interval = summary.interval.map_or_else(String::new, |interval| {
        format!(" [{}, {}]", number::number(interval.low), number::number(interval.high))
    });
    let mean = number::value(summary.mean, &summary.spec.unit);
    (
        format!("measured {}", summary.spec.name),
        format!("{mean}{interval}, {}", plural(summary.count, "sample")),
    )
}

/// `12 of 12 passed`, or that none ran.
pub(crate) fn tests(passed: u64, run: u64) -> String {
    if run == 0 { "none ran".to_owned() } else { format!("{passed} of {run} passed") }
}

/// Label and value of everything in a finding but metric, partner, verdict and severity.
pub(crate) fn finding_facts(finding: &Finding) -> Vec<(String, String)> {
    let unit = &finding.metric.unit;
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| number::value(value, unit));
    let mut facts = vec![(
        "values".to_owned(),
        format!(
            "{} → {} ({} and {} samples)",
            shown(finding.old_value),
            shown(finding.new_value),
            finding.sample_counts.0,
            finding.sample_counts.1
        ),
    )];
    if let Some(effect) = number::effect(finding) {
        let level = finding
            .interval
            .map_or_else(String::new, |interval| format!(", {} interval", number::tolerance(interval.level)));
        facts.push(("change".to_owned(), effect + &level));
    }
    facts.push((
        "threshold".to_owned(),
        format!(
            "{} {}, critical from {}",
            number::tolerance(finding.threshold.threshold()),
            finding.threshold.direction(),
            number::tolerance(finding.threshold.critical())
        ),
    ));
    let p = finding.p_value.map_or_else(String::new, |p| format!(", {}", number::p_value(p)));
    facts.push(("method".to_owned(), one_line(&finding.method, 120) + &p));
    if let Some(problem) = finding.problem {
        facts.push(("problem".to_owned(), number::problem(problem).to_owned()));
    }
    for anomaly in &finding.anomalies {
        let text =
            format!("{}, {}, score {}", anomaly.method, anomaly.severity, number::plain(anomaly.score));
        facts.push(("anomaly".to_owned(), one_line(&text, 200)));
    }
    if let Some(trend) = &finding.trend {
        facts.push((
            "trend".to_owned(),
            format!(
                "{} per accepted version, explains {} of the variance",
                number::signed_value(trend.slope, unit),
                number::tolerance(trend.r_squared)
            ),
        ));
    }
    facts.push(("finding".to_owned(), one_line(&finding.reason, DETAIL_CHARS_MAX)));
    facts
}
